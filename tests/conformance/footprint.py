"""What the cluster's own processes take while the tests run: memory of both nodes' trees without containerd, and the server's loop."""

from __future__ import annotations

import contextlib
import statistics
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from scripts.bench import tree
from scripts.bench.lag import lags, percentile
from tests.support.agents import Nodes

_EVERY = 10.0


@dataclass
class Footprint:
    """Readings of one run: bytes, and the counts of the loop's lags by their upper bounds in seconds."""

    memory: list[int] = field(default_factory=list)
    lags_before: Mapping[float, float] = field(default_factory=dict)
    lags_after: Mapping[float, float] = field(default_factory=dict)

    def lines(self) -> Sequence[str]:
        """The readings in words; none of a cluster that others have brought up."""
        found = []
        if self.memory:
            sizes = {
                "before": self.memory[0],
                "median": statistics.median(self.memory),
                "at most": max(self.memory),
                "after": self.memory[-1],
            }
            words = ", ".join(f"{size / tree.MIB:.0f} MiB {word}" for word, size in sizes.items())
            found.append(f"memory of all nodes without containerd (PSS): {words}")
        if self.lags_after != self.lags_before:
            late = [f"{percentile(self.lags_before, self.lags_after, share) * 1000:.0f} ms (p{share:.1%})" for share in (0.99, 0.999)]
            found.append(f"the server's event loop was late by at most {' and '.join(late)}".replace("%", ""))
        return found


@contextlib.contextmanager
def watched(nodes: Nodes | None) -> Iterator[Footprint]:
    """Take readings now and then, from another thread, as long as the context lasts."""
    footprint, ended = Footprint(), threading.Event()
    if nodes is None:
        yield footprint
        return

    def watch() -> None:
        while True:
            footprint.memory.append(_memory(nodes))
            if ended.wait(_EVERY):
                return

    footprint.lags_before = lags(nodes.server)
    thread = threading.Thread(target=watch, name="footprint")
    thread.start()
    try:
        yield footprint
    finally:
        ended.set()
        thread.join()
        footprint.memory.append(_memory(nodes))
        with contextlib.suppress(OSError):
            footprint.lags_after = lags(nodes.server)


def _memory(nodes: Nodes) -> int:
    processes = [node.process.pid for node in nodes.members if node.process is not None]
    return sum(sum(tree.memory(pid).values()) for pid in processes)
