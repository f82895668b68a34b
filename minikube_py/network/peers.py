"""Follows the Nodes and keeps the way to their pods in step: the overlay as a component.

Nothing is written before the nodes were read once: a restart never takes away routes that are still right. The tunnel's MTU follows that
of the link below it, and whether the tunnel carries anything is tried for each node that is new.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Final, NamedTuple

from minikube_py.aio import Health, wait_at_most
from minikube_py.control import Informer
from minikube_py.netlink import MachineChanges
from minikube_py.network import links, vxlan
from minikube_py.network.overlay import Plan, TunnelEnd, peer, plan, pod_mtu
from minikube_py.types.core import Node

log = logging.getLogger(__name__)

_KUBELET_PORT: Final = 10250
_PROBE_SECONDS: Final = 2.0


class OverlayOptions(NamedTuple):
    """The node's name, and how packets travel; seconds between two looks at what the kernel holds."""

    node_name: str
    mode: str
    check_interval: float = 60.0


class Overlay:
    """The overlay of one node."""

    def __init__(self, nodes: Informer[Node], options: OverlayOptions, changes: MachineChanges | None = None) -> None:
        self._nodes, self._options, self._changes = nodes, options, changes
        self._changed, self._other_nodes = asyncio.Event(), asyncio.Event()
        self._probed: set[TunnelEnd] = set()
        self._offload = True
        self._silent: list[str] = []

    async def run(self, health: Health) -> None:
        """Follow the nodes until cancelled."""
        await self._nodes.synced.wait()
        self._nodes.listen(self._note)
        if self._changes is not None:
            self._changes.listen(self._changed.set)
        applied: Plan | None = None
        while True:
            self._changed.clear()
            self._other_nodes.clear()
            wanted = plan(self._options.mode, self._options.node_name, [p for p in map(peer, self._nodes.list()) if p is not None])
            problems = await asyncio.to_thread(self._apply, wanted)
            if wanted != (applied or Plan()):
                log.info("the way to other nodes' pods", extra={"overlay": self._options.mode, "routes": len(wanted.routes)})
                _complain(problems)
                applied = wanted
            silent = await self._unless_nodes_change(self._probe(wanted))
            if silent is None:
                continue
            if problems or silent:
                health.degraded("; ".join([*(f"{p.what}: {p.error.strerror}" for p in problems), *silent]))
            else:
                health.well()
            # what there is may be taken away by somebody; where there is nothing, nobody need look
            await wait_at_most(self._changed, self._options.check_interval if wanted.routes else None)

    async def _unless_nodes_change(self, probe: Coroutine[Any, Any, list[str]]) -> list[str] | None:
        """What the probe found; None where the nodes have changed before it ended: they do not wait for it.

        What the machine tells of does not count: the probe itself changes the tunnel's interface."""
        probing = asyncio.create_task(probe, name="tunnel probe")
        changed = asyncio.create_task(self._other_nodes.wait(), name="overlay changed")
        try:
            await asyncio.wait((probing, changed), return_when=asyncio.FIRST_COMPLETED)
            return probing.result() if probing.done() else None
        finally:
            for task in (probing, changed):
                task.cancel()
            await asyncio.gather(probing, changed, return_exceptions=True)

    def _apply(self, wanted: Plan) -> list[vxlan.Problem]:
        mtu = pod_mtu(self._options.mode, links.mtu_by_address(wanted.local), wanted.local) if wanted.local else 0
        problems = vxlan.apply(wanted, mtu)
        if wanted.ends:
            # an interface that was made again has it on, one whose probe was broken off may have it off
            links.set_checksum_offload(vxlan.INTERFACE, self._offload)
        return problems

    async def _probe(self, wanted: Plan) -> list[str]:
        """Look whether something comes back through the tunnel from each end that is new, once it is known to be there at all.

        Some network cards and kernels spoil the checksums of what is in a tunnel, so that small things pass and connections do not: where
        nothing comes back with the checksums left to them, and something does without, they are left to nobody any more."""
        self._probed &= wanted.ends
        silent = []
        for end in sorted(wanted.ends - self._probed):
            if not await reaches(end.node):
                continue
            if await reaches(end.address):
                self._probed.add(end)
                continue
            if self._offload:
                await asyncio.to_thread(links.set_checksum_offload, vxlan.INTERFACE, False)
                if await reaches(end.address):
                    self._offload = False
                    self._probed.add(end)
                    log.warning("checksum offload spoils what the tunnel carries, it is off now", extra={"interface": vxlan.INTERFACE})
                    continue
                await asyncio.to_thread(links.set_checksum_offload, vxlan.INTERFACE, True)
            silent.append(f"nothing comes back through the tunnel to {end.node}: is {vxlan.PORT}/udp open there and here?")
        if silent and silent != self._silent:
            log.warning("a node is reached, its pods are not", extra={"problems": silent})
        self._silent = silent
        return silent

    def _note(self, old: Node | None, new: Node | None) -> None:
        if (peer(old) if old is not None else None) != (peer(new) if new is not None else None):
            self._changed.set()
            self._other_nodes.set()


async def reaches(address: str, port: int = _KUBELET_PORT) -> bool:
    """Whether a machine answers a connection at all, be it with a refusal."""
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return True
    except (TimeoutError, OSError):
        return False
    writer.close()
    return True


def _complain(problems: Sequence[vxlan.Problem]) -> None:
    for problem in problems:
        log.error("pods of another node cannot be reached", extra={"what": problem.what, "error": str(problem.error)})
