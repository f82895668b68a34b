"""Network namespaces for tests that need no whole node: made for one test, entered by this thread, gone afterwards."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def run(*command: str, stdin: str | None = None) -> str:
    """A command's output; raises CalledProcessError with its error text shown."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def enter(namespace: str) -> tuple[str, ...]:
    """What a command is prefixed with to run in a node's network. `ip netns exec` would remount /sys, and the cgroups with it."""
    return ("nsenter", f"--net=/run/netns/{namespace}")


@contextmanager
def namespace(name: str) -> Iterator[str]:
    """A network namespace with its loopback up."""
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        run("ip", "netns", "del", name)


@contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread, and the processes that it starts, in the namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(Path("/run/netns") / name, os.O_RDONLY)
    try:
        _setns(there)
        yield
    finally:
        _setns(home)
        os.close(there)
        os.close(home)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns failed")


def veth(left: str, right: str, left_address: str, right_address: str, name: str = "eth0") -> None:
    """A cable between two namespaces; addresses in CIDR form."""
    run("ip", "-n", left, "link", "add", f"to-{right}"[:15], "type", "veth", "peer", "name", name, "netns", right)
    run("ip", "-n", left, "addr", "add", left_address, "dev", f"to-{right}"[:15])
    run("ip", "-n", left, "link", "set", f"to-{right}"[:15], "up")
    run("ip", "-n", right, "addr", "add", right_address, "dev", name)
    run("ip", "-n", right, "link", "set", name, "up")
