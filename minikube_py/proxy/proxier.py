"""Follows Services and EndpointSlices and keeps the node's rules in step.

A change marks its Service dirty; a sync recomputes the dirty ones only, joins them with the rules that stand, and commits the difference.
Syncs are coalesced: the first change is committed at once, a burst at most every `min_interval` seconds. Before the first Service is
known, the guard is already in place.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import NamedTuple

from minikube_py.aio import Backoff, Health
from minikube_py.control import Informers
from minikube_py.netfilter import Family, Netfilter, NetfilterError
from minikube_py.proxy import conntrack
from minikube_py.proxy.model import ServicePort, service_ports
from minikube_py.proxy.rules import Frame, ServiceRules, service_rules, standing, table
from minikube_py.types.network import SERVICE_NAME_LABEL, EndpointSlice, Service

log = logging.getLogger(__name__)

OWNER = "kube-proxy"


class ProxyOptions(NamedTuple):
    """The node's name and ranges; intervals in seconds."""

    node_name: str
    service_cidr: str
    cluster_cidr: str
    min_interval: float = 0.1
    check_interval: float = 60.0


class Proxier:
    """The service proxy of one node and address family."""

    def __init__(self, informers: Informers, netfilter: Netfilter, options: ProxyOptions) -> None:
        self._netfilter, self._options = netfilter, options
        self._ipv6 = netfilter.family is Family.IPV6
        self._frame = Frame(options.service_cidr, options.cluster_cidr, self._ipv6)
        self._services = informers.of(Service)
        self._slices = informers.of(EndpointSlice)
        self._slices.add_index(SERVICE_NAME_LABEL, _service_keys)
        self._ports: dict[str, tuple[ServicePort, ...]] = {}
        self._rules: dict[str, tuple[ServiceRules, ...]] = {}
        self._dirty: set[str] = set()
        self._changed = asyncio.Event()

    async def guard(self, adopt: bool = True) -> None:
        """Reject what goes to the service range, before anything else of the node starts. Raises NetfilterError.

        The rules of an earlier process stand (`adopt`) until it is known what they should be: the pods that they serve go on as well."""
        await asyncio.to_thread(_sysctls, self._ipv6)
        left = standing(await self._netfilter.read()) if adopt else None
        await self._netfilter.apply(OWNER, left or table((), self._frame))

    async def run(self, health: Health) -> None:
        """Follow the API until cancelled. Nothing but the guard is written before the informers have filled."""
        await self._services.synced.wait()
        await self._slices.synced.wait()
        live = True

        def on_service(old: Service | None, new: Service | None) -> None:
            if live:
                self._mark({obj.key for obj in (old, new) if obj is not None})

        def on_slice(old: EndpointSlice | None, new: EndpointSlice | None) -> None:
            if live:
                self._mark({key for obj in (old, new) if obj is not None for key in _service_keys(obj)})

        self._services.listen(on_service)
        self._slices.listen(on_slice)
        self._mark(set(self._ports))
        self._changed.set()
        backoff = Backoff(first=0.5, limit=30.0)
        try:
            while True:
                await self._wait()
                try:
                    await self._sync()
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

    def _mark(self, keys: set[str]) -> None:
        if keys:
            self._dirty |= keys
            self._changed.set()

    async def _wait(self) -> None:
        while not self._changed.is_set():
            try:
                await asyncio.wait_for(self._changed.wait(), self._options.check_interval)
            except TimeoutError:
                await self._netfilter.check()
        self._changed.clear()

    async def _sync(self) -> None:
        dirty, self._dirty = self._dirty, set()
        old_ports: list[ServicePort] = []
        new_ports: list[ServicePort] = []
        ports, rules = dict(self._ports), dict(self._rules)
        for key in dirty:
            service = self._services.get(key)
            old = ports.pop(key, ())
            rules.pop(key, None)
            new = () if service is None else service_ports(service, self._slices.by_index(SERVICE_NAME_LABEL, key), self._node, self._ipv6)
            if new:
                ports[key] = new
                rules[key] = tuple(service_rules(port, self._frame) for port in new)
            if new != old:
                old_ports.extend(old)
                new_ports.extend(new)
        try:
            await self._netfilter.apply(OWNER, table((rule for each in rules.values() for rule in each), self._frame))
        except NetfilterError:
            self._dirty |= dirty
            raise
        self._ports, self._rules = ports, rules
        await conntrack.forget(conntrack.stale(old_ports, new_ports))

    @property
    def _node(self) -> str:
        return self._options.node_name


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
