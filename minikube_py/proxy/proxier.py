"""Follows Services and EndpointSlices and keeps the node's rules in step.

A change marks its Service dirty; a sync recomputes the dirty ones only and commits the difference to the rules that stand. Syncs are
coalesced: the first change is committed at once, a burst at most every `min_interval` seconds. Before the first Service is known, the guard
is already in place. A large sync lets the loop run in between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import NamedTuple

from minikube_py.aio import Backoff, Clock, Health, SystemClock
from minikube_py.control import Informers
from minikube_py.netfilter import Family, Netfilter, NetfilterError
from minikube_py.proxy import conntrack
from minikube_py.proxy.checks import HealthListeners
from minikube_py.proxy.frame import Tables, standing, table
from minikube_py.proxy.health import PORT, ProxyHealth
from minikube_py.proxy.model import Backend, Place, ServicePort, health_check, place, service_ports
from minikube_py.proxy.rules import HEALTH_CHECKS, Frame, ServiceRules, health_check_line, service_rules
from minikube_py.types.core import Node
from minikube_py.types.network import SERVICE_NAME_LABEL, EndpointSlice, Service

log = logging.getLogger(__name__)

OWNER = "kube-proxy"
_TURN_SECONDS = 0.005


class ProxyOptions(NamedTuple):
    """The node's name, address and ranges; intervals in seconds."""

    node_name: str
    service_cidr: str
    cluster_cidr: str
    min_interval: float = 0.1
    check_interval: float = 60.0
    node_ip: str = ""
    health_port: int = PORT


class Proxier:
    """The service proxy of one node and address family."""

    def __init__(self, informers: Informers, netfilter: Netfilter, options: ProxyOptions, clock: Clock | None = None) -> None:
        self._netfilter, self._options = netfilter, options
        self._ipv6 = netfilter.family is Family.IPV6
        self._frame = Frame(options.service_cidr, options.cluster_cidr, self._ipv6, options.node_ip)
        self._nodes = informers.of(Node)
        self._services = informers.of(Service)
        self._slices = informers.of(EndpointSlice)
        self._slices.add_index(SERVICE_NAME_LABEL, _service_keys)
        self._place = Place(options.node_name)
        self._tables = Tables(self._frame)
        self._ports: dict[str, tuple[ServicePort, ...]] = {}
        self._stale: dict[conntrack.Target, frozenset[Backend]] = {}
        self._dirty: set[str] = set()
        self._changed = asyncio.Event()
        self._health = ProxyHealth(clock or SystemClock(), self._ipv6)
        self._listeners = HealthListeners(self._health, lambda: self._nodes.get(options.node_name), self._ipv6, options.health_port)

    async def guard(self, adopt: bool = True) -> None:
        """Reject what goes to the service range, before anything else of the node starts. Raises NetfilterError.

        The rules of an earlier process stand (`adopt`) until it is known what they should be: the pods that they serve go on as well."""
        await asyncio.to_thread(_sysctls, self._ipv6)
        left = standing(await self._netfilter.read()) if adopt else None
        await self._netfilter.apply(OWNER, left or table((), self._frame))

    def readdress(self, node_ip: str) -> None:
        """The node has another address now."""
        self._frame = self._frame._replace(node_ip=node_ip)
        self.mark(set(self._ports))

    async def run(self, health: Health) -> None:
        """Follow the API until cancelled. Nothing but the guard is written before the informers have filled."""
        for informer in (self._services, self._slices, self._nodes):
            await informer.synced.wait()
        live = True

        def on_service(old: Service | None, new: Service | None) -> None:
            if live:
                self.mark({obj.key for obj in (old, new) if obj is not None})

        def on_slice(old: EndpointSlice | None, new: EndpointSlice | None) -> None:
            if live:
                self.mark({key for obj in (old, new) if obj is not None for key in _service_keys(obj)})

        def on_node(old: Node | None, new: Node | None) -> None:
            here = place(self._options.node_name, self._nodes.get(self._options.node_name))
            if live and here != self._place:
                self._place = here
                self.mark(set(self._ports))

        self._nodes.listen(on_node)
        self._services.listen(on_service)
        self._slices.listen(on_slice)
        self.mark(set(self._ports))
        self._changed.set()
        backoff = Backoff(first=0.5, limit=30.0)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listeners.run(), name="proxy health checks")
                while True:
                    await self._wait()
                    try:
                        await self.sync()
                    except NetfilterError as error:
                        health.degraded(str(error))
                        log.error("rules not written, trying again", extra={"error": str(error)})
                        await asyncio.sleep(backoff.next())
                        self._changed.set()
                        continue
                    backoff.reset()
                    health.well()
                    await asyncio.sleep(self._options.min_interval)
        finally:
            live = False

    def mark(self, keys: set[str]) -> None:
        """Have the next sync look at these Services again."""
        if keys:
            self._dirty |= keys
            self._health.queued()
            self._changed.set()

    async def _wait(self) -> None:
        while not self._changed.is_set():
            try:
                async with asyncio.timeout(self._options.check_interval):
                    await self._changed.wait()
            except TimeoutError:
                await self._netfilter.check()
        self._changed.clear()

    async def sync(self) -> None:
        """Bring what was marked into the kernel. Raises NetfilterError; then everything is tried again by the next call."""
        dirty, self._dirty = self._dirty, set()
        turn = time.monotonic()
        for key in dirty:
            self._recompute(key)
            if time.monotonic() - turn > _TURN_SECONDS:
                await asyncio.sleep(0)
                turn = time.monotonic()
        await self._netfilter.apply(OWNER, self._tables.rules())
        if not self._dirty:
            self._health.updated()
        about, self._stale = self._stale, {}
        if about:
            count = await asyncio.to_thread(conntrack.forget, about, self._ipv6)
            if count:
                log.info("made the kernel forget UDP flows to endpoints that have gone", extra={"flows": count})

    def _recompute(self, key: str) -> None:
        service = self._services.get(key)
        slices = self._slices.by_index(SERVICE_NAME_LABEL, key)
        ports = () if service is None else service_ports(service, slices, self._place, self._ipv6)
        check = None if service is None else health_check(service, slices, self._place, self._ipv6)
        old = self._ports.get(key, ())
        rules = [service_rules(port, self._frame) for port in ports]
        if check is not None:
            rules.append(ServiceRules({}, {HEALTH_CHECKS: (health_check_line(key, check.port),)}))
        self._tables.put(key, rules)
        self._listeners.put(key, check)
        self._stale |= conntrack.changed(conntrack.targets(old), conntrack.targets(ports))
        if ports:
            self._ports[key] = ports
        else:
            self._ports.pop(key, None)


def _service_keys(endpoint_slice: EndpointSlice) -> tuple[str, ...]:
    name = endpoint_slice.metadata.labels.get(SERVICE_NAME_LABEL)
    return (f"{endpoint_slice.metadata.namespace}/{name}",) if name else ()


def _sysctls(ipv6: bool) -> None:
    """Node ports on 127.0.0.1 need route_localnet (KUBE-FIREWALL keeps strangers from using it); pods need forwarding."""
    wanted = {"net/ipv6/conf/all/forwarding": "1"} if ipv6 else {"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/route_localnet": "1"}
    for name, value in wanted.items():
        path = Path("/proc/sys") / name
        if path.read_text().strip() != value:
            path.write_text(value)
