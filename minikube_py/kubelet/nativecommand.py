"""The runtime's side of exec by containerd's native tasks: a process whose standard streams are FIFOs that are ours to read, write and end.

Why not CRI's: containerd's own server ends a command's input with the first of its outputs, so that a shell that sends its output to a
file loses the rest of its input, and tells no status before somebody has taken the input. What flows through: a channel's bytes go to the
FIFO of standard input and come from those of the outputs; the exit code is asked of the task service.

One task a command lives from its start to its deletion, on nobody's behalf but its own: a client that goes leaves the process running, as
in Kubernetes; its input ends, its output is read no more, and when it ends it is deleted. The FIFOs' directory is the memory of that: an
agent that starts finds there what an earlier one has left. A restart of containerd goes unnoticed, if it is back soon.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from minikube_py.aio import Backoff, Tasks
from minikube_py.cri import errors
from minikube_py.cri.client import CriClient
from minikube_py.cri.fifo import Input, Outputs
from minikube_py.cri.tasks import Processes, ProcessId, Stdio, process_spec
from minikube_py.kubelet import commandstatus
from minikube_py.kubelet.remotecommand import RESIZE, STATUS, STDERR, STDIN, STDOUT, Streams

log = logging.getLogger(__name__)

T = TypeVar("T")

_AWAY: Final = 30.0
"""Seconds in which a runtime may be restarted, and a command's exit code is still waited for."""
_FINAL: Final = (
    errors.NotFound,
    errors.FailedPrecondition,
    errors.InvalidArgument,
    errors.Unimplemented,
)
"""What the runtime says itself, so that asking again will not help."""
_SIZES: Final = 1 << 16
_OPENING: Final = 2.0
"""A shim opens a process's input a moment after it has said that the process runs."""


class Commands:
    """The node's commands for clients. Their FIFOs are below `directory`, a directory each: <container>.<process>."""

    def __init__(self, cri: CriClient, directory: Path) -> None:
        self._processes, self._directory, self._tasks = Processes(cri), directory, Tasks()

    async def prepare(self, container_id: str, command: Sequence[str], streams: Streams) -> NativeCommand | None:
        """A command, to be started when its output is read; None where the runtime has no native tasks. Raises CriError."""
        try:
            template = await self._processes.template(container_id)
        except (errors.Unimplemented, errors.NotFound):
            return None
        id = ProcessId(container_id, secrets.token_hex(32))
        return NativeCommand(self._processes, self._tasks, self._directory, id, process_spec(template, command, streams.tty), streams)

    async def adopt(self) -> None:
        """See to its end what an earlier agent left."""
        for path in await asyncio.to_thread(_below, self._directory):
            self._tasks.spawn(self._bury(path), "left command")

    async def _bury(self, directory: Path) -> None:
        container, _, process = directory.name.partition(".")
        id = ProcessId(container, process)
        with contextlib.suppress(errors.CriError):
            if (directory / "stdin").exists() and (directory / "stderr").exists():
                await _persist(lambda: self._processes.close_stdin(id))
        with contextlib.suppress(errors.CriError):
            await self._processes.delete(id)  # works at once where it was never started, and then it never ends
        with contextlib.suppress(errors.CriError):
            await _persist(lambda: self._processes.wait(id))
        await _remove(self._processes, id, directory)

    async def close(self) -> None:
        """Let go of all commands: clients hear of it. What runs goes on, and is the next agent's to see to."""
        await self._tasks.close()


class NativeCommand:
    """One process of containerd's, as `remotecommand.Command`."""

    def __init__(self, processes: Processes, tasks: Tasks, below: Path, id: ProcessId, spec: dict[str, Any], streams: Streams) -> None:
        self._processes, self._tasks, self._id, self._spec, self._streams = processes, tasks, id, spec, streams
        self._directory = made = below / f"{id.container}.{id.process}"
        self._stdio = Stdio(made / "stdin" if streams.stdin else None, made / "stdout", None if streams.tty else made / "stderr")
        self._outputs: Outputs | None = None
        self._input: Input | None = None
        self._status = b""
        self._begun, self._over, self._closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    # What the client's side calls.

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Start the command, and give out what it says, and behind that how it ended."""
        self._tasks.spawn(self._live(), f"command {self._id.process[:12]}")
        await self._begun.wait()
        if self._outputs is not None:
            asked = {STDOUT: self._streams.stdout, STDERR: self._streams.stderr}
            async for channel, data in self._outputs.read():
                if asked[channel]:
                    yield channel, data
        await self._over.wait()
        yield STATUS, self._status

    async def send(self, channel: int, data: bytes) -> None:
        """Pass on input, or a terminal's size."""
        await self._begun.wait()
        if channel == RESIZE:
            await self._resize(data)
        elif self._input is not None:
            try:
                await self._input.write(data)
            except BrokenPipeError:
                self._end_input()  # nobody takes it any more

    async def end(self, channel: int) -> None:
        """The input has ended. A terminal is not told: it would be hung up."""
        if channel != STDIN:
            return
        await self._begun.wait()
        if self._end_input() and not self._streams.tty and not self._over.is_set():
            with contextlib.suppress(errors.CriError):  # it may have ended just now
                await _persist(lambda: self._processes.close_stdin(self._id))

    def close(self) -> None:
        """The client's end of it."""
        self._closed.set()
        if self._begun.is_set():
            self._let_go()

    def _let_go(self) -> None:
        if self._outputs is not None:
            self._outputs.close()
        if self._over.is_set():
            self._end_input()
        elif self._input is not None:
            self._tasks.spawn(self.end(STDIN), "end of a command's input")

    def _end_input(self) -> bool:
        """Close our end of the input; whether it was open."""
        end, self._input = self._input, None
        if end is not None:
            end.close()
        return end is not None

    async def _resize(self, data: bytes) -> None:
        try:
            size = orjson.loads(data)
            width, height = int(size["Width"]), int(size["Height"])
        except (ValueError, TypeError, KeyError):
            return
        if 0 < width < _SIZES and 0 < height < _SIZES and not self._over.is_set():
            with contextlib.suppress(errors.CriError):  # it may have ended just now
                await self._processes.resize(self._id, width, height)

    # Its life.

    async def _live(self) -> None:
        try:
            await self._run()
        except asyncio.CancelledError:
            self._status = commandstatus.internal_error("the kubelet has stopped, the command may still be running")
            if self._outputs is not None:
                self._outputs.close()
            raise
        finally:
            self._begun.set()
            self._over.set()
        await self._closed.wait()
        self._end_input()
        await _remove(self._processes, self._id, self._directory)

    async def _run(self) -> None:
        try:
            outputs = await asyncio.to_thread(_make, self._directory, self._stdio)
        except OSError as error:
            self._status = commandstatus.not_executed(f'failed to create exec "{self._id.process}": {error}')
            return
        if not await self._start():
            outputs.close()
            return
        if self._stdio.stdin is not None:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_OPENING):
                    self._input = await Input.open(self._stdio.stdin)
        self._outputs = outputs
        self._begun.set()
        if self._closed.is_set():
            self._let_go()
        try:
            code = await _persist(lambda: self._processes.wait(self._id))
        except errors.CriError as error:
            self._status = commandstatus.not_executed(f'failed while waiting for exec "{self._id.process}": {error}')
            outputs.close()
        else:
            self._status = commandstatus.exited(self._spec["args"], code)

    async def _start(self) -> bool:
        doing = "create"
        try:
            await self._processes.create(self._id, self._spec, self._stdio)
            doing = "start"
            await self._processes.start(self._id)
        except errors.CriError as error:
            self._status = commandstatus.not_executed(f'failed to {doing} exec "{self._id.process}": {error}')
            return False
        return True


def _make(directory: Path, stdio: Stdio) -> Outputs:
    """Make the FIFOs, and open those of the outputs: whoever starts to write waits for a reader. Raises OSError."""
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700)
    for path in stdio:
        if path is not None:
            os.mkfifo(path, 0o600)
    outputs = {STDOUT: stdio.stdout}
    return Outputs(outputs if stdio.stderr is None else outputs | {STDERR: stdio.stderr})


def _below(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.exists() else []


async def _remove(processes: Processes, id: ProcessId, directory: Path) -> None:
    try:
        await _persist(lambda: processes.delete(id))
    except errors.CriError as error:
        log.warning("a command's process was not deleted", extra={"container": id.container, "error": str(error)})
        return
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


async def _persist(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call of the runtime, again where it is being restarted. Raises CriError."""
    loop, backoff = asyncio.get_running_loop(), Backoff(first=0.05, limit=1.0)
    lost = 0.0
    while True:
        asked = loop.time()
        try:
            return await call()
        except _FINAL:
            raise
        except errors.CriError:
            now = loop.time()
            if not lost or now > asked + _AWAY:
                lost = now
            if now > lost + _AWAY:
                raise
        await asyncio.sleep(backoff.next())
