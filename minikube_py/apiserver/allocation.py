"""Cluster addresses and node ports of Services: each is an object of its own, made by compare-and-swap before the Service is written.

An address is an IPAddress object (networking.k8s.io/v1), as upstream has it. A node port has no kind upstream (a bitmap in one etcd value
holds them all); here it is one key of the log, /registry/minikube-py/nodeports/<port>, whose value names its Service. Either exists at
most once, whatever crashes and however many servers write, and nothing about them lives in memory alone: who wants a value creates its
object, and who loses the race tries the next. A write that fails gives back what it took; a crash in between leaves an object without a
Service, which allocation_repair.py finds.

The API server calls `allocate` before strategy and validation of a Service's create or update, the undos if the write then fails, and
`release` after an update or a deletion that went through (apiserver/api.py, Allocator).
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from minikube_py.apiserver import address_pool, service_fields
from minikube_py.apiserver.address_pool import Network, RandomBelow
from minikube_py.apiserver.api import Undo
from minikube_py.client import Client
from minikube_py.meta.errors import AlreadyExists, Cause, Conflict, InternalError, NotFound, StatusError, invalid
from minikube_py.store.api import Record, RevisionMismatch, Store, Write
from minikube_py.types.network import IPAddress, ParentReference, ServiceCIDR

if TYPE_CHECKING:
    from minikube_py.apiserver.cache import Cache

Obj = dict[str, Any]

FAMILY_LABEL = "ipaddress.kubernetes.io/ip-family"
MANAGED_BY_LABEL = "ipaddress.kubernetes.io/managed-by"
MANAGED_BY = "ipallocator.k8s.io"
NODE_PORT_PREFIX = "/registry/minikube-py/nodeports/"
ACTOR = "system:apiserver"

_FULL = "range is full"
_Take = Callable[[int], Awaitable[None]]
_TakeAny = Callable[[], Awaitable[int]]


class Taken(Exception):
    """The wanted value cannot be had, and why, in upstream's words."""


class AddressAllocator:
    """IPAddress objects. `cidrs` are the configured service ranges, the cluster's own family first; ServiceCIDR objects add to them."""

    def __init__(self, client: Client, cache: Cache, cidrs: Sequence[str], random_below: RandomBelow) -> None:
        self._client, self._cache, self._random = client, cache, random_below
        self._configured = tuple(ipaddress.ip_network(cidr) for cidr in cidrs)
        self.families = tuple(dict.fromkeys(_family(network) for network in self._configured))

    def networks(self) -> tuple[Network, ...]:
        """The ranges in force."""
        further: list[Network] = []
        for entry in self._cache.of(ServiceCIDR.resource).entries():
            view = entry.view(ServiceCIDR)
            ready = any(c.type == "Ready" and c.status == "True" for c in view.status.conditions)
            if ready and view.metadata.deletionTimestamp is None:
                further += (ipaddress.ip_network(cidr, strict=False) for cidr in view.spec.cidrs)
        return tuple(dict.fromkeys((*self._configured, *further)))

    async def take(self, address: str, service: tuple[str, str], dry_run: bool) -> bool:
        """Take a certain address for a service (namespace, name). False where it already was its own (left by a crash). Raises Taken."""
        if not any(address_pool.contains(network, address) for network in self.networks()):
            raise Taken("the provided network does not match the current range")
        held = self._cache.of(IPAddress.resource).get("", address)
        if held is not None:
            if parent_of(held.view(IPAddress).spec.parentRef) == service:
                return False
            raise Taken("provided IP is already allocated")
        if not dry_run and not await self._create(address, service):
            raise Taken("provided IP is already allocated")
        return True

    async def take_any(self, family: str, service: tuple[str, str], dry_run: bool) -> str:
        """Take any free address of a family. Raises Taken."""
        for address in self._free(family):
            if dry_run or await self._create(address, service):
                return address
        raise Taken(_FULL)

    async def give_back(self, address: str, service: tuple[str, str]) -> None:
        """Let go of a service's address; one that is no longer its own is left alone."""
        held = self._cache.of(IPAddress.resource).get("", address)
        if held is None or parent_of(held.view(IPAddress).spec.parentRef) != service:
            return
        try:
            await self._client.delete(IPAddress, address, uid=held.uid)
        except (NotFound, Conflict):
            return

    def _free(self, family: str) -> Iterator[str]:
        held = self._cache.of(IPAddress.resource)
        for network in self.networks():
            if _family(network) == family:
                for address in address_pool.addresses(network, self._random):
                    if held.get("", address) is None:
                        yield address

    async def _create(self, address: str, service: tuple[str, str]) -> bool:
        try:
            await self._client.create(IPAddress, ip_address_object(address, service))
        except AlreadyExists:
            return False
        return True


class PortAllocator:
    """Node port keys. `span` is the range that ports are handed out from."""

    def __init__(self, store: Store, span: range, random_below: RandomBelow) -> None:
        self._store, self.span, self._random = store, span, random_below

    async def take(self, port: int, service: tuple[str, str], dry_run: bool) -> bool:
        """Take a certain port for a service. False where it already was this service's. Raises Taken."""
        if port not in self.span:
            ports = f"{self.span.start}-{self.span.stop - 1}"
            raise Taken(f"provided port is not in the valid range. The range of valid ports is {ports}")
        if dry_run:
            held = await self._store.get(port_key(port))
        else:
            if await self.make(port, service):
                return True
            held = await self._store.get(port_key(port))
            if held is None:
                raise Taken("provided port is already allocated")
        if held is None:
            return True
        if port_owner(held) == service:
            return False
        raise Taken("provided port is already allocated")

    async def take_any(self, service: tuple[str, str], dry_run: bool, without: Sequence[int] = ()) -> int:
        """Take any free port but those of `without`. Raises Taken."""
        tries = 0
        held: set[int] | None = None
        for port in address_pool.ports(self.span, self._random):
            if port in without or (held is not None and port in held):
                continue
            if dry_run:
                if await self._store.get(port_key(port)) is None:
                    return port
            elif await self.make(port, service):
                return port
            tries += 1
            if tries == 8 and held is None:
                # the range is crowded: one read says more than thousands of tries
                held = {port_number(record) for record in await self.held()}
        raise Taken(_FULL)

    async def give_back(self, port: int, service: tuple[str, str]) -> None:
        """Let go of a service's port; one that is no longer its own is left alone."""
        held = await self._store.get(port_key(port))
        if held is not None and port_owner(held) == service:
            await self.remove(held)

    async def held(self) -> Sequence[Record]:
        """Every port that is taken."""
        return (await self._store.range(NODE_PORT_PREFIX)).records

    async def remove(self, record: Record) -> bool:
        """Delete a port's key as it was read; whether it was still that."""
        try:
            await self._store.commit(Write(record.key, record.revision, None, ACTOR))
        except RevisionMismatch:
            return False
        return True

    async def make(self, port: int, service: tuple[str, str]) -> bool:
        """Make a port's key; whether it did not exist."""
        value = orjson.dumps({"port": port, "service": {"namespace": service[0], "name": service[1]}})
        try:
            await self._store.commit(Write(port_key(port), 0, value, ACTOR))
        except RevisionMismatch:
            return False
        return True


class ServiceAllocator:
    """The Allocator of Services."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        store: Store,
        *,
        service_cidrs: Sequence[str],
        node_ports: range = range(30000, 32768),
        random_below: RandomBelow = secrets.randbelow,
    ) -> None:
        self.addresses = AddressAllocator(client, cache, service_cidrs, random_below)
        self.ports = PortAllocator(store, node_ports, random_below)

    async def allocate(self, new: Obj, old: Obj | None, dry_run: bool) -> list[Undo]:
        """See apiserver/api.py: Allocator."""
        undos: list[Undo] = []
        try:
            await self._allocate(new, old, dry_run, undos)
        except StatusError:
            for undo in undos:
                await undo()
            raise
        return undos

    async def _allocate(self, new: Obj, old: Obj | None, dry_run: bool, undos: list[Undo]) -> None:
        spec, before = new.setdefault("spec", {}), None if old is None else old.get("spec") or {}
        service = service_of(new)
        if before is not None:
            service_fields.carry_over(spec, before)
        service_fields.normalize(spec, before)
        service_fields.set_families(spec, before, service[1], self.addresses.families)
        await self._allocate_addresses(spec, before, service, dry_run, undos)
        await self._allocate_ports(spec, before, service, dry_run, undos)

    async def release(self, old: Obj, new: Obj | None = None) -> None:
        """See apiserver/api.py: Allocator."""
        service, spec = service_of(old), old.get("spec") or {}
        kept = (new.get("spec") or {}) if new is not None else {"type": service_fields.EXTERNAL_NAME}
        for address in service_fields.addresses(spec):
            if address not in service_fields.addresses(kept):
                await self.addresses.give_back(address, service)
        for port in service_fields.node_ports(spec):
            if port not in service_fields.node_ports(kept):
                await self.ports.give_back(port, service)

    async def _allocate_addresses(self, spec: Obj, old: Obj | None, service: tuple[str, str], dry_run: bool, undos: list[Undo]) -> None:
        if not service_fields.needs_cluster_ip(spec) or service_fields.is_headless(spec) or service_fields.keeps_preferred(spec, old):
            return
        if old is not None and service_fields.needs_cluster_ip(old) and service_fields.is_headless(old):
            return
        held = service_fields.addresses(old) if old is not None else []
        ips: list[str] = list(spec.get("clusterIPs") or [])
        ips += [""] * (len(spec["ipFamilies"]) - len(ips))
        for index, family in enumerate(spec["ipFamilies"]):
            if ips[index] in held or (index < len(held) and ips[index]):
                # the address was this service's before, or is being changed, which validation refuses
                continue
            try:
                if not ips[index]:
                    ips[index] = await self.addresses.take_any(family, service, dry_run)
                elif not await self.addresses.take(ips[index], service, dry_run):
                    continue
            except Taken as error:
                if str(error) == _FULL:
                    message = f'Internal error occurred: failed to allocate a serviceIP for Service "{service[1]}": {error}'
                    raise InternalError(message) from error
                detail = f"failed to allocate IP {ips[index]}: {error}"
                raise invalid("Service", service[1], [Cause.invalid("spec.clusterIPs", ips, detail)]) from error
            if not dry_run:
                undos.append(_undo_address(self.addresses, ips[index], service))
        spec["clusterIPs"], spec["clusterIP"] = ips, ips[0]

    async def _allocate_ports(self, spec: Obj, old: Obj | None, service: tuple[str, str], dry_run: bool, undos: list[Undo]) -> None:
        held = service_fields.node_ports(old) if old is not None else []
        taken: list[int] = []

        async def take(port: int) -> None:
            if port in held or port in taken:
                return
            fresh = await self.ports.take(port, service, dry_run)
            taken.append(port)
            if fresh and not dry_run:
                undos.append(_undo_port(self.ports, port, service))

        async def take_any() -> int:
            port = await self.ports.take_any(service, dry_run, taken)
            taken.append(port)
            if not dry_run:
                undos.append(_undo_port(self.ports, port, service))
            return port

        if service_fields.may_have_node_ports(spec):
            await self._allocate_node_ports(spec, old is None, take, take_any, service[1], taken)
        if service_fields.needs_health_check(spec) and (old is None or not service_fields.needs_health_check(old)):
            wanted = spec.get("healthCheckNodePort") or 0
            try:
                if wanted:
                    if wanted in taken:
                        raise Taken("provided port is already allocated")
                    await take(wanted)
                else:
                    spec["healthCheckNodePort"] = await take_any()
            except Taken as error:
                what = (
                    f"failed to allocate requested HealthCheck NodePort {wanted}"
                    if wanted
                    else "failed to allocate a HealthCheck NodePort 0"
                )
                raise InternalError(f"Internal error occurred: {what}: {error}") from error

    async def _allocate_node_ports(self, spec: Obj, create: bool, take: _Take, take_any: _TakeAny, name: str, taken: list[int]) -> None:
        """On a create, ports with the same number (TCP and UDP, say) share a node port."""
        automatic = service_fields.needs_node_ports(spec)
        ports = spec.get("ports") or []
        shared: dict[int, int] = {}
        for index, port in enumerate(ports):
            wanted = port.get("nodePort") or 0
            if not wanted and not automatic:
                continue
            number = port.get("port", 0)
            if not wanted and create:
                wanted = shared.get(number) or next((p["nodePort"] for p in ports if p.get("port") == number and p.get("nodePort")), 0)
            try:
                if not wanted:
                    wanted = await take_any()
                elif create and wanted in taken and shared.get(number) != wanted:
                    raise Taken("provided port is already allocated")
                else:
                    await take(wanted)
            except Taken as error:
                if str(error) == _FULL:
                    raise InternalError(f"Internal error occurred: failed to allocate a nodePort: {error}") from error
                raise invalid("Service", name, [Cause.invalid(f"spec.ports[{index}].nodePort", wanted, str(error))]) from error
            port["nodePort"] = wanted
            shared.setdefault(number, wanted)


def _undo_address(allocator: AddressAllocator, address: str, service: tuple[str, str]) -> Undo:
    return lambda: allocator.give_back(address, service)


def _undo_port(allocator: PortAllocator, port: int, service: tuple[str, str]) -> Undo:
    return lambda: allocator.give_back(port, service)


def ip_address_object(address: str, service: tuple[str, str]) -> Obj:
    """The IPAddress of a service's address."""
    ref = IPAddress.resource
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {"name": address, "labels": {FAMILY_LABEL: service_fields.family_of(address), MANAGED_BY_LABEL: MANAGED_BY}},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": service[0], "name": service[1]}},
    }


def service_of(obj: Obj) -> tuple[str, str]:
    """(namespace, name) of a Service."""
    meta = obj["metadata"]
    return meta.get("namespace") or "", meta.get("name") or ""


def parent_of(reference: ParentReference) -> tuple[str, str] | None:
    """(namespace, name) of the Service that an IPAddress belongs to."""
    return (reference.namespace, reference.name) if reference.resource == "services" and not reference.group else None


def port_key(port: int) -> str:
    """The key of a node port in the log."""
    return f"{NODE_PORT_PREFIX}{port}"


def port_number(record: Record) -> int:
    """The port of a key."""
    return int(record.key[len(NODE_PORT_PREFIX) :])


def port_owner(record: Record) -> tuple[str, str]:
    """(namespace, name) of the Service that holds a port."""
    service = orjson.loads(record.value)["service"]
    return service["namespace"], service["name"]


def _family(network: Network) -> str:
    return service_fields.IPV6 if network.version == 6 else service_fields.IPV4
