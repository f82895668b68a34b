"""A machine with systemd and cgroup v2, and the server on it as a unit: one for all tests, which leave it running.

These tests are run by name only (`scripts/test tests/guest`): the machine is a virtual one, and takes minutes where it is emulated.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.support.command import Kubectl
from tests.support.guest import STRETCH, Guest, fresh_guest
from tests.support.guestimage import CannotBuild

RESERVED_MEMORY = 1 << 30
RESERVED_PIDS = 1000
CONFIG = f"""\
shutdown-grace-period: {round(60 + 60 * STRETCH)}s
shutdown-grace-period-critical-pods: {round(30 * STRETCH)}s
pod-max-pids: 300
kube-reserved: [cpu=100m, memory={RESERVED_MEMORY}, pid={RESERVED_PIDS}]
eviction-pressure-transition-period: 10s
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only who asks for them gets them."""
    mine = [item for item in items if "tests/guest/" in item.path.as_posix()]
    if not any("tests/guest" in argument for argument in config.args):
        items[:] = [item for item in items if item not in mine]
        config.hook.pytest_deselected(items=mine)
    for item in mine:
        item.add_marker(pytest.mark.timeout(240 * STRETCH))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """A failure shows what the unit has said last."""
    outcome = yield
    report = outcome.get_result()
    guest = getattr(item, "funcargs", {}).get("guest")
    if report.failed and isinstance(guest, Guest) and guest.process is not None:
        said = guest.run("journalctl --no-pager -n 60 -o cat -u minikube-py -u minikube-py-agent -u control", check=False, timeout=60)
        report.sections.append(("the units' journal", said.stdout))


@pytest.fixture(autouse=True)
def _unblocked_loop() -> None:
    """There is no loop here: the server has a machine of its own."""


@pytest.fixture(scope="session")
def guest() -> Iterator[Guest]:
    try:
        with fresh_guest() as machine:
            machine.boot()
            machine.serve(CONFIG)
            yield machine
    except CannotBuild as error:
        pytest.fail(str(error))


@pytest.fixture
def kubectl(guest: Guest) -> Iterator[Kubectl]:
    """kubectl with a Ready node; the pods that a test has left are removed."""
    kubectl = guest.kubectl()
    kubectl.until("True", '.items[0].status.conditions[?(@.type=="Ready")].status', "nodes", timeout=30 * STRETCH)
    yield kubectl
    kubectl.result("delete", "pods,deployments", "--all", "--grace-period=1", "--wait=false")
