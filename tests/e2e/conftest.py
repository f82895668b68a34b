"""One cluster for the whole session, a namespace for every test. What a user types and sees is what these tests type and check."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import threading
from collections.abc import Iterator

import pytest

from minikube_py.aio import LagProbe
from tests.support.cluster import Cluster, cluster
from tests.support.command import Kubectl
from tests.support.kubectl import CURRENT, OLDER

BLOCKED = 0.25
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _unblocked_loop() -> None:
    """These tests have no loop of their own: the server's is measured, by the server."""


@pytest.fixture(scope="session")
def shared() -> Iterator[Cluster]:
    """The cluster that tests share. At its end its event loop must never have been blocked, and nothing in it have failed."""
    with _idle_loop() as idle, cluster() as made:
        yield made
        failures = [line for line in made.log().splitlines() if " ERROR " in line or line.startswith("Traceback")]
        assert not failures, made.log()[-100_000:]
        # a machine that stood still for a moment held an idle loop up as well
        blocked = made.metric("minikube_py_event_loop_blocked_seconds_max") - idle.blocked
        assert blocked < BLOCKED, f"the server's event loop was blocked for {blocked * 1000:.0f} ms"


@contextlib.contextmanager
def _idle_loop() -> Iterator[LagProbe]:
    """A loop that does nothing but measure itself, in a thread of its own."""
    probe, loop = LagProbe(), asyncio.new_event_loop()

    def measure() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    task = loop.create_task(probe.run(), name="idle loop")
    thread = threading.Thread(target=measure, name="idle loop")
    thread.start()
    try:
        yield probe
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


@pytest.fixture
def kubectl(shared: Cluster, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """kubectl 1.36 in a namespace of the test's own."""
    with _own_namespace(shared, CURRENT, request) as made:
        yield made


@pytest.fixture(params=[CURRENT, OLDER])
def each_kubectl(shared: Cluster, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """The same with kubectl 1.36, and with an older one."""
    with _own_namespace(shared, request.param, request) as made:
        yield made


@contextlib.contextmanager
def _own_namespace(shared: Cluster, suite: str, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")
    name = f"t{next(_numbers)}-{words[:40]}".strip("-")
    shared.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield shared.kubectl(suite).inside(name)
    shared.request("DELETE", f"/api/v1/namespaces/{name}")
