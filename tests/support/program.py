"""A server or an agent as a process of its own, as users run it: started, ended by any signal, its log read."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from minikube_py.cri.process import Daemon, command_line

ROOT = Path(__file__).parents[2]


@dataclass
class Program:
    """`minikube-py` with a command: `role` names it, `directory` holds its data, its log and the number of its process."""

    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    process: subprocess.Popen[bytes] | None = field(default=None, kw_only=True)
    role: ClassVar[str]

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.directory / "data"

    def command(self) -> list[str]:
        """Its command line."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it; returns at once. It is not in this one's session: what interrupts the tests does not end it before they are over."""
        with (self.directory / f"{self.role}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=self._environment(), start_new_session=True
            )
        (self.directory / "pid").write_text(f"{self.process.pid}\n")

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 20) -> int:
        """End it, not its pods; its exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(number)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process = process
            waits = self.waits()
            self.process = None
            process.kill()
            process.wait(10)
            raise AssertionError(f"the {self.role} did not end within {timeout} s: {waits}") from None

    def refuses(self, timeout: float = 20) -> str:
        """Start it, and it must end by itself with status 1; what it has printed."""
        done = subprocess.run(
            self.command(), capture_output=True, text=True, timeout=timeout, cwd=ROOT, env=self._environment(), check=False
        )
        assert done.returncode == 1, f"status {done.returncode}: {done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr + done.stdout

    def log(self) -> str:
        """What it has logged."""
        return (self.directory / f"{self.role}.log").read_text(errors="replace")

    def waits(self) -> str:
        """What it has logged last, and where its tasks are."""
        before, told = self.log()[-3000:], len(self.log())
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(2)
        return before + self.log()[told:]

    def logs(self, text: str, since: int = 0, timeout: float = 20) -> None:
        """Wait until it has logged a text, after the first `since` characters."""
        deadline = time.monotonic() + timeout
        while text not in self.log()[since:]:
            self.must_run()
            assert time.monotonic() < deadline, f"{text!r} was not logged: {self.log()[-3000:]}"
            time.sleep(0.05)

    def must_run(self) -> None:
        """Fail if it has ended by itself."""
        assert self.process is None or self.process.poll() is None, self.log()[-4000:]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment}


def find(directory: Path) -> Daemon | None:
    """The process of a program's directory, whoever started it, if it still is the one."""
    try:
        daemon = Daemon(int((directory / "pid").read_text()))
    except (OSError, ValueError):
        return None
    if any(part.startswith(f"{directory}/") for part in command_line(daemon.pid)):
        return daemon
    daemon.close()
    return None
