"""Load that knows what it was promised: writers that remember every acknowledgement, and probes that count every answer.

A write that was answered with success must be there, with that value, whatever happened since. One that was refused must have left
nothing. Only of one whose answer never came both are right: the next write goes to another name.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support.netns import entered
from tests.support.server import Server

_JSON = {"Content-Type": "application/json"}


@dataclass
class Key:
    """What a configmap may hold: one value where the last write was answered, two where it was not. None: it is not there."""

    allowed: set[str | None] = field(default_factory=lambda: {None})
    version: str = ""
    turns: int = 0
    """Counts a write when it begins and when it is over: odd while one is on its way."""


class Writers:
    """Threads that create, change and delete configmaps of one namespace, each at a bounded rate and under names of its own."""

    def __init__(self, server: Server, *, threads: int = 4, rate: float = 15, size: int = 200, namespace: str = "default") -> None:
        self._server, self._pause, self._size = server, 1 / rate, size
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._keys: dict[str, Key] = {}
        self._done = threading.Event()
        self._number = next(_numbers)
        self._threads = [threading.Thread(target=self._run, args=(number,), name=f"writer {number}") for number in range(threads)]
        self.acknowledged = 0
        self.unanswered = 0
        self.refused: list[tuple[int, str]] = []
        """Status and message of what was refused."""
        self.longest = 0.0
        """Seconds that the slowest answer took."""

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(60)

    def go_on(self, count: int, timeout: float = 30) -> None:
        """Until so many more writes were acknowledged."""
        wanted, deadline = self.acknowledged + count, time.monotonic() + timeout
        while self.acknowledged < wanted:
            assert time.monotonic() < deadline, f"{self.acknowledged - wanted + count} of {count} writes in {timeout} s"
            time.sleep(0.02)

    def verify(self) -> int:
        """Nothing that was acknowledged is lost, and nothing that was refused is there; how many were looked at. While they write on,
        only what was settled before counts."""
        settled = {name: (set(key.allowed), key.turns) for name, key in list(self._keys.items()) if key.turns % 2 == 0}
        found = {
            item["metadata"]["name"]: item["data"]["text"]
            for item in self._server.get(self._path)["items"]
            if "text" in item.get("data", {})
        }
        for name, (allowed, turns) in settled.items():
            if self._keys[name].turns == turns:
                assert found.get(name) in allowed, f"{name} holds {found.get(name)!r}, acknowledged was {allowed}"
        return len(settled)

    def _run(self, thread: int) -> None:
        rng = random.Random(thread)
        mine: list[str] = []
        connection: http.client.HTTPSConnection | None = None
        for number in itertools.count():
            if self._done.wait(self._pause):
                break
            name = rng.choice(mine) if mine and rng.random() < 0.5 else f"w{self._number}-{thread}-{number}"
            key = self._keys.setdefault(name, Key())
            value = None if key.version and rng.random() < 0.3 else f"{number} " + "x" * self._size
            key.turns += 1
            try:
                connection = connection or self._server.connection()
                answered = self._write(connection, name, key, value)
            except (OSError, http.client.HTTPException):
                # between the two lies whatever the server did last
                key.allowed = {*key.allowed, value}
                self.unanswered += 1
                answered = False
                if connection is not None:
                    connection.close()
                connection = None
            key.turns += 1
            if name in mine and (not answered or value is None):
                mine.remove(name)
            elif answered and value is not None and name not in mine:
                mine.append(name)
        if connection is not None:
            connection.close()

    def _write(self, connection: http.client.HTTPSConnection, name: str, key: Key, value: str | None) -> bool:
        body = json.dumps({"metadata": {"name": name, "resourceVersion": key.version or None}, "data": {"text": value}})
        method = "DELETE" if value is None else "PUT" if key.version else "POST"
        began = time.monotonic()
        connection.request(method, self._path if method == "POST" else f"{self._path}/{name}", None if value is None else body, _JSON)
        answer = connection.getresponse()
        document = json.loads(answer.read())
        self.longest = max(self.longest, time.monotonic() - began)
        if answer.status not in (200, 201):
            self.refused.append((answer.status, document.get("message", "")))
            return bool(key.version)
        key.allowed, key.version = {value}, "" if value is None else document["metadata"]["resourceVersion"]
        self.acknowledged += 1
        return True


_numbers = itertools.count()


@dataclass
class Probe:
    """What somebody got who asked over and over."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)
    longest: float = 0.0

    def sound(self, least: int = 10) -> None:
        """It was answered every time."""
        assert not self.failures and self.answers >= least, f"{self.answers} answers, {len(self.failures)} failures: {self.failures[:5]}"


@contextlib.contextmanager
def probing(namespace: str, address: str, *, path: str = "/", interval: float = 0.1, timeout: float = 3) -> Iterator[Probe]:
    """Ask a web server ten times a second from a node's network, on a connection of its own each time."""

    def ask() -> None:
        connection = http.client.HTTPConnection(address, timeout=timeout)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status

    with repeating(ask, interval, namespace=namespace) as probe:
        yield probe


@contextlib.contextmanager
def repeating(ask: Callable[[], object], interval: float, *, namespace: str = "") -> Iterator[Probe]:
    """Call something over and over in a thread of its own; every exception is a failure."""
    probe, done = Probe(), threading.Event()

    def run() -> None:
        with entered(namespace) if namespace else contextlib.nullcontext():
            began = time.monotonic()
            while not done.wait(interval):
                at = time.monotonic()
                try:
                    ask()
                    probe.answers += 1
                except (OSError, http.client.HTTPException, AssertionError) as error:
                    probe.failures.append(f"after {at - began:.1f} s: {error!r}")
                probe.longest = max(probe.longest, time.monotonic() - at)

    thread = threading.Thread(target=run, name=f"probe of {namespace}")
    thread.start()
    try:
        yield probe
    finally:
        done.set()
        thread.join(30)
