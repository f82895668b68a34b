"""Follows the Nodes and keeps the way to their pods in step: the overlay as a component.

Nothing is written before the nodes were read once: a restart never takes away routes that are still right.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

from minikube_py.aio import Health
from minikube_py.control import Informer
from minikube_py.network import vxlan
from minikube_py.network.overlay import Plan, peer, plan
from minikube_py.types.core import Node

log = logging.getLogger(__name__)


class OverlayOptions(NamedTuple):
    """The node's name, how packets travel, and the tunnel's MTU; seconds between two looks at what the kernel holds."""

    node_name: str
    mode: str
    mtu: int
    check_interval: float = 60.0


class Overlay:
    """The overlay of one node."""

    def __init__(self, nodes: Informer[Node], options: OverlayOptions) -> None:
        self._nodes, self._options = nodes, options
        self._changed = asyncio.Event()

    async def run(self, health: Health) -> None:
        """Follow the nodes until cancelled."""
        await self._nodes.synced.wait()
        self._nodes.listen(self._note)
        applied: Plan | None = None
        while True:
            self._changed.clear()
            wanted = plan(self._options.mode, self._options.node_name, [p for p in map(peer, self._nodes.list()) if p is not None])
            problems = await asyncio.to_thread(vxlan.apply, wanted, self._options.mtu)
            if wanted != (applied or Plan()):
                log.info("the way to other nodes' pods", extra={"overlay": self._options.mode, "routes": len(wanted.routes)})
                _complain(problems)
                applied = wanted
            if problems:
                health.degraded("; ".join(f"{p.what}: {p.error.strerror}" for p in problems))
            else:
                health.well()
            try:
                # what there is may be taken away by somebody; where there is nothing, nobody need look
                async with asyncio.timeout(self._options.check_interval if wanted.routes else None):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _note(self, old: Node | None, new: Node | None) -> None:
        if (peer(old) if old is not None else None) != (peer(new) if new is not None else None):
            self._changed.set()


def _complain(problems: Sequence[vxlan.Problem]) -> None:
    for problem in problems:
        log.error("pods of another node cannot be reached", extra={"what": problem.what, "error": str(problem.error)})
