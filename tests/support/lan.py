"""A bridge of the tests' own with an address for this machine, and network namespaces on it. Nothing on it is forwarded to the outside.

Each Lan has a number that no other on this machine has at the time, so that test sessions can run beside one another; names, addresses
and cgroups follow from it. It belongs to an owner, a path that exists as long as it is wanted: a test session's is its process, a cluster's
is its directory. A Lan whose owner is gone was left behind by somebody who was killed: the next one finds it and removes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tests.support.netns import run

_PREFIX = "mkpy"
_RULE_PRIORITY = 90


class Lan:
    """Use as a context manager, or `create` and `remove` it. The bridge is `name`, this machine is `gateway` on it."""

    def __init__(self, owner: Path | None = None) -> None:
        self.owner = owner or Path(f"/proc/{os.getpid()}")
        self._hosts = 0

    def __enter__(self) -> Lan:
        self.create()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        remove(self.name)

    def create(self) -> None:
        """Take a number, and make the bridge."""
        for name, owner in _lans():
            if not owner.exists():
                remove(name)
        for number in range(1, 200):
            self.number, self.name = number, f"{_PREFIX}{number}"
            with contextlib.suppress(AssertionError):
                run("ip", "link", "add", self.name, "type", "bridge")
                break
        else:
            raise AssertionError("no free number for a test network")
        run("ip", "link", "set", self.name, "alias", f"owner {self.owner}")
        # whose bridge is gone is nobody's any more
        for namespace in Path("/run/netns").glob(f"{self.name}-*"):
            run("ip", "netns", "del", namespace.name)
        self.gateway = f"10.213.{self.number}.1"
        run("ip", "addr", "add", f"{self.gateway}/24", "dev", self.name)
        run("ip", "link", "set", self.name, "up")
        # What comes from the nodes and is not for this machine ends here.
        run("ip", "rule", "add", "iif", self.name, "priority", str(_RULE_PRIORITY), "unreachable")

    def attach(self, host: str) -> tuple[str, str]:
        """A new network namespace on the bridge; its name and address."""
        self._hosts += 1
        namespace, address = f"{self.name}-{host}", f"10.213.{self.number}.{self._hosts + 1}"
        outside = f"{self.name}h{self._hosts}"
        run("ip", "netns", "add", namespace)
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        run("ip", "link", "set", outside, "master", self.name, "up")
        run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")
        run("ip", "-n", namespace, "route", "add", "default", "via", self.gateway)
        return namespace, address

    def route(self, cidr: str, via: str) -> None:
        """Let this machine reach a range behind one of the hosts."""
        run("ip", "route", "replace", cidr, "via", via, "dev", self.name)


def owned(owner: Path) -> list[str]:
    """The names of the Lans that belong to an owner."""
    return [name for name, found in _lans() if found == owner]


def remove(name: str) -> None:
    """Take a Lan away, whatever there is of it."""
    for namespace in Path("/run/netns").glob(f"{name}-*"):
        subprocess.run(["ip", "netns", "del", namespace.name], check=False, capture_output=True)
    subprocess.run(["ip", "rule", "del", "iif", name, "priority", str(_RULE_PRIORITY)], check=False, capture_output=True)
    for link in (*Path("/sys/class/net").glob(f"{name}h*"), Path(name)):  # cables first: with its namespace one goes only some time later
        subprocess.run(["ip", "link", "del", link.name], check=False, capture_output=True)


def _lans() -> Iterator[tuple[str, Path]]:
    """The name and the owner of every Lan of this machine."""
    for link in json.loads(run("ip", "-j", "link", "show", "type", "bridge") or "[]"):
        owner = link.get("ifalias", "").removeprefix("owner ")
        if link["ifname"].startswith(_PREFIX) and owner:
            yield link["ifname"], Path(f"/proc/{owner}" if owner.isdigit() else owner)
