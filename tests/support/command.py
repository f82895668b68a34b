"""kubectl as a user runs it: a program, a kubeconfig and a namespace, with its output, its error text and its exit code."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Completed = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Kubectl:
    """One kubectl. Calling it gives standard output, and a failure is the test's failure and shows kubectl's error text."""

    program: Path
    kubeconfig: Path
    namespace: str = "default"
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 60.0

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        done = self.result(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: status {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout

    def result(self, *arguments: str, stdin: str | None = None) -> Completed:
        """The whole result, whatever the exit code."""
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=self.timeout,
            env=self.variables(),
            check=False,
        )

    def fails(self, *arguments: str, stdin: str | None = None) -> str:
        """The error text of a call that must fail."""
        done = self.result(*arguments, stdin=stdin)
        assert done.returncode != 0, f"kubectl {' '.join(arguments)} worked: {done.stdout}"
        return done.stderr

    def get(self, *arguments: str) -> Any:
        """kubectl get -o json, parsed."""
        return json.loads(self("get", *arguments, "-o", "json"))

    def field(self, path: str, *arguments: str) -> str:
        """One field by kubectl's JSONPath, without the braces."""
        return self("get", *arguments, "-o", f"jsonpath={{{path}}}")

    def apply(self, *objects: Mapping[str, Any]) -> str:
        """kubectl apply of objects."""
        return self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def wait(self, condition: str, *arguments: str, timeout: int = 30) -> str:
        """kubectl wait --for=…"""
        return self("wait", f"--for={condition}", f"--timeout={timeout}s", *arguments)

    def until(self, expected: str, path: str, *arguments: str, timeout: float = 30.0) -> str:
        """Ask until a field has a value; `expected` "" stands for any value at all."""
        deadline = time.monotonic() + timeout
        while True:
            done = self.result("get", *arguments, "-o", f"jsonpath={{{path}}}")
            if done.returncode == 0 and (done.stdout == expected if expected else done.stdout):
                return done.stdout
            shown = done.stdout or done.stderr
            assert time.monotonic() < deadline, f"{path} of {' '.join(arguments)} is {shown!r}, not {expected!r}"
            time.sleep(0.05)

    def inside(self, namespace: str) -> Kubectl:
        """The same in another namespace."""
        return dataclasses.replace(self, namespace=namespace)

    def with_environment(self, **variables: str) -> Kubectl:
        """The same with further environment variables."""
        return dataclasses.replace(self, environment={**self.environment, **variables})

    def command(self, *arguments: str) -> list[str]:
        """The whole command line."""
        return [str(self.program), "--namespace", self.namespace, *arguments]

    @contextlib.contextmanager
    def running(self, *arguments: str) -> Iterator[Running]:
        """kubectl beside the test; ended with the block."""
        running = Running(self.command(*arguments), self.variables())
        try:
            yield running
        finally:
            running.close()

    def on_terminal(self, typed: Sequence[tuple[str, str]], *arguments: str, rows: int = 24, columns: int = 80) -> tuple[int, str]:
        """Run with a terminal. `typed`: pairs of a text to wait for and what is typed then. (exit code, all that was shown)."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process = subprocess.Popen(
            self.command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=self.variables(), start_new_session=True
        )
        os.close(theirs)
        shown, left, deadline = b"", list(typed), time.monotonic() + self.timeout
        try:
            while time.monotonic() < deadline:
                ready, _, _ = select.select([ours], [], [], 0.1)
                if ready:
                    try:
                        shown += os.read(ours, 65536)
                    except OSError:  # the other side is closed
                        break
                if left and left[0][0].encode() in shown:
                    os.write(ours, left.pop(0)[1].encode())
            return process.wait(5), shown.decode(errors="replace")
        finally:
            process.kill()
            process.wait(10)
            os.close(ours)

    def variables(self) -> dict[str, str]:
        """The environment that it runs in."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.kubeconfig.parent), **self.environment}


class Running:
    """A kubectl that runs: what it prints is collected by a thread, so that a test can wait for a text without blocking it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        self._output = b""
        self._collector = threading.Thread(target=self._collect, name="kubectl output", daemon=True)
        self._collector.start()

    def _collect(self) -> None:
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), 65536):
            self._output += data

    @property
    def output(self) -> str:
        """What it has printed, errors included."""
        return self._output.decode(errors="replace")

    def shows(self, text: str, timeout: float = 20.0) -> str:
        """Wait until it has printed a text."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.output!r}"
            time.sleep(0.01)
        return self.output

    def ends(self, timeout: float = 20.0) -> int:
        """Wait until it ends; its exit code."""
        code = self.process.wait(timeout)
        self._collector.join(timeout)
        return code

    def close(self) -> None:
        """End it, if it still runs."""
        self.process.kill()
        self.process.wait(10)
        self._collector.join(10)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
