"""A process that outlives ours: started in a session of its own, found again by its pid file, watched without polling.

asyncio's subprocesses end with their loop; containerd must not. So it is started in a thread and watched through a pidfd, which also
works for one that an earlier run of this program started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from minikube_py import ownprocess


def command_line(pid: int) -> tuple[str, ...]:
    """The arguments of a process; empty when there is none (a zombie has none either)."""
    try:
        return tuple(part.decode(errors="replace") for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if part)
    except OSError:
        return ()


class Daemon:
    """A running process, by its pidfd. Its number cannot come to mean another process while this exists; `close` when done."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._child = child
        self._descriptor = os.pidfd_open(pid)

    @classmethod
    async def start(cls, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> Daemon:
        """Start a process that is nobody's child session, with its output appended to `log`."""

        def spawn() -> subprocess.Popen[bytes]:
            with log.open("ab") as output, ownprocess.left_to_children():
                return subprocess.Popen(
                    arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True, cwd="/"
                )

        child = await asyncio.to_thread(spawn)
        return cls(child.pid, child)

    @classmethod
    def find(cls, pid_file: Path, argument: str) -> Daemon | None:
        """The process of a pid file, if it is still the one: `argument` stands in its command line."""
        try:
            daemon = cls(int(pid_file.read_text()))
        except (OSError, ValueError):
            return None
        if argument in command_line(daemon.pid):
            return daemon
        daemon.close()
        return None

    @classmethod
    def search(cls, argument: str) -> Daemon | None:
        """A process that has `argument` in its command line, whoever started it and whatever any file says."""
        for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
            if argument in command_line(pid):
                with contextlib.suppress(ProcessLookupError):
                    return cls(pid)
        return None

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        if self._child is not None:
            return self._child.poll() is None
        try:
            signal.pidfd_send_signal(self._descriptor, 0)
        except ProcessLookupError:
            return False
        return bool(command_line(self.pid))

    async def wait(self) -> None:
        """Until it has ended."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._descriptor)
        if self._child is not None:
            self._child.poll()

    async def terminate(self, grace: float) -> None:
        """Ask it to end, and kill it after `grace` seconds."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await self.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self.wait()

    def close(self) -> None:
        """Let go of it; it runs on."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._child is not None:
            self._child.returncode = self._child.returncode or 0  # so that Popen does not warn of a child that is meant to live on

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)
