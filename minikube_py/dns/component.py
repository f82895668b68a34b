"""Joins zone, sockets and informers into the node's DNS, at the cluster's DNS address on the node's own loopback interface.

The address is the ClusterIP of the Service kube-system/kube-dns, which no proxy translates (service-proxy-name): packets for it end on the
node that they start from. Nothing is answered before the informers have filled: an empty zone would deny names that exist.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from minikube_py.aio import Health
from minikube_py.control import Informers
from minikube_py.dns.forward import Forwarder, machine_resolvers
from minikube_py.dns.server import DnsServer
from minikube_py.dns.zone import Zone
from minikube_py.types.network import SERVICE_NAME_LABEL, EndpointSlice, Service

log = logging.getLogger(__name__)

_LABEL = "lo:kube-dns"


class DnsOptions(NamedTuple):
    """The address to answer on, and the cluster's domain."""

    ip: str
    domain: str
    port: int = 53
    manage_address: bool = True
    """Whether the address is put on the loopback interface at start and taken away at the end."""


class ClusterDns:
    """The DNS of one node."""

    def __init__(self, informers: Informers, options: DnsOptions) -> None:
        self._options = options
        self._services, self._slices = informers.of(Service), informers.of(EndpointSlice)
        self._slices.add_index(SERVICE_NAME_LABEL, _service_keys)

    async def run(self, health: Health) -> None:
        """Answer until cancelled."""
        await self._services.synced.wait()
        await self._slices.synced.wait()
        zone = Zone(self._options.domain)
        resolvers = await asyncio.to_thread(machine_resolvers, self._options.ip)
        server = DnsServer(zone, Forwarder(resolvers))
        live = True

        def update(key: str) -> None:
            if live:
                zone.set_service(key, self._services.get(key), self._slices.by_index(SERVICE_NAME_LABEL, key))
                server.zone_changed()

        def on_service(old: Service | None, new: Service | None) -> None:
            for key in {obj.key for obj in (old, new) if obj is not None}:
                update(key)

        def on_slice(old: EndpointSlice | None, new: EndpointSlice | None) -> None:
            for key in {key for obj in (old, new) if obj is not None for key in _service_keys(obj)}:
                update(key)

        self._services.listen(on_service)
        self._slices.listen(on_slice)
        if self._options.manage_address:
            await _address("replace", self._options.ip)
        try:
            await server.start(self._options.ip, self._options.port)
            health.well()
            await asyncio.Event().wait()
        finally:
            live = False
            await server.close()

    async def remove_address(self) -> None:
        """Take the address off the node: nothing answers on it any more."""
        if self._options.manage_address:
            await _address("del", self._options.ip)


def _service_keys(endpoint_slice: EndpointSlice) -> tuple[str, ...]:
    name = endpoint_slice.metadata.labels.get(SERVICE_NAME_LABEL)
    return (f"{endpoint_slice.metadata.namespace}/{name}",) if name else ()


async def remove_addresses() -> None:
    """Take away every address that a DNS of this node has put on the loopback interface, whatever it was told."""
    process = await asyncio.create_subprocess_exec("ip", "addr", "flush", "dev", "lo", "label", _LABEL, stderr=asyncio.subprocess.DEVNULL)
    await process.wait()


async def _address(action: str, ip: str) -> None:
    # by its label it is found again when the node is taken away; the kernel knows labels for IPv4 only
    address = (f"{ip}/128",) if ":" in ip else (f"{ip}/32", "label", _LABEL)
    process = await asyncio.create_subprocess_exec(
        "ip", "addr", action, *address, "dev", "lo", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    if process.returncode != 0 and action != "del":
        raise OSError(f"ip addr {action} {ip} dev lo: {err.decode(errors='replace').strip()}")
