"""Keeps what is allocated in step with the Services that exist: missing allocations are made again, leaked ones taken back.

`plan` is the policy: Services, addresses and ports in, what to do out. The loop looks when one of them has changed, and again when a leak
has become old enough: an allocation precedes its Service by a moment, so one without a Service is a leak only after a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from minikube_py.aio import Clock, Health, SystemClock, wait_at_most
from minikube_py.apiserver import service_fields
from minikube_py.apiserver.allocation import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    NODE_PORT_PREFIX,
    ServiceAllocator,
    ip_address_object,
    parent_of,
    port_number,
    port_owner,
)
from minikube_py.client import Client
from minikube_py.client.transport import TransportError
from minikube_py.meta.errors import AlreadyExists, Conflict, NotFound, StatusError
from minikube_py.store.api import Record, Store, StoreError
from minikube_py.types.network import IPAddress, Service

if TYPE_CHECKING:
    from minikube_py.apiserver.cache import Cache

log = logging.getLogger(__name__)

Owner = tuple[str, str]

GRACE = 60.0
"""Seconds for which an allocation may be without its Service."""
_SETTLE, _RETRY = 5.0, 30.0


class Held(NamedTuple):
    """One allocation as it is: whose it says it is (None: something else than a Service), its revision, whether it is ours to remove."""

    owner: Owner | None
    revision: int
    ours: bool = True


class Plan(NamedTuple):
    """What to do: allocations to make, by address or port; those that nobody holds, with their revision; those that two Services want."""

    make: Mapping[str, Owner]
    orphans: Mapping[str, int]
    conflicts: Sequence[tuple[str, Owner, Owner]]


def plan(wanted: Iterable[tuple[str, Owner]], held: Mapping[str, Held]) -> Plan:
    """Compare what Services hold with what is allocated; both by address (or port, as text)."""
    make: dict[str, Owner] = {}
    conflicts: list[tuple[str, Owner, Owner]] = []
    owners: dict[str, Owner] = {}
    for value, owner in wanted:
        if value in owners:
            if owners[value] != owner:
                conflicts.append((value, owners[value], owner))
            continue
        owners[value] = owner
        if value not in held:
            make[value] = owner
    orphans = {value: entry.revision for value, entry in held.items() if entry.ours and owners.get(value) != entry.owner}
    return Plan(make, orphans, conflicts)


class AllocationRepair:
    """The component that repairs."""

    def __init__(self, allocator: ServiceAllocator, client: Client, cache: Cache, store: Store, clock: Clock | None = None) -> None:
        self._allocator, self._client, self._cache, self._clock = allocator, client, cache, clock or SystemClock()
        self._changed = asyncio.Event()
        self._orphans: dict[str, tuple[int, float]] = {}
        services, addresses = cache.of(Service.resource).resource.prefix, cache.of(IPAddress.resource).resource.prefix
        self._prefixes = (services, addresses, NODE_PORT_PREFIX)
        store.on_commit(self._committed)

    def _committed(self, records: Sequence[Record]) -> None:
        if not self._changed.is_set() and any(record.key.startswith(self._prefixes) for record in records):
            self._changed.set()

    async def run(self, health: Health) -> None:
        """Repair until cancelled."""
        while True:
            self._changed.clear()
            try:
                again = await self.repair()
                health.well()
            except (StatusError, TransportError, StoreError) as error:
                log.warning("repair of service addresses failed", extra={"error": str(error)})
                health.degraded(str(error))
                again = _RETRY
            if await wait_at_most(self._changed, again):
                await asyncio.sleep(_SETTLE)

    async def repair(self) -> float | None:
        """One pass; the seconds after which the next one is due even if nothing changes."""
        services = [entry.view(Service) for entry in self._cache.of(Service.resource).entries()]
        specs = [((s.metadata.namespace, s.metadata.name), _spec(s)) for s in services]
        addresses = plan(
            ((address, owner) for owner, spec in specs for address in service_fields.addresses(spec)),
            {entry.name: _held_address(entry.view(IPAddress), entry.revision) for entry in self._cache.of(IPAddress.resource).entries()},
        )
        records = {str(port_number(record)): record for record in await self._allocator.ports.held()}
        ports = plan(
            ((str(port), owner) for owner, spec in specs for port in service_fields.node_ports(spec)),
            {port: Held(port_owner(record), record.revision) for port, record in records.items()},
        )
        for what, conflicts in (("address", addresses.conflicts), ("node port", ports.conflicts)):
            for value, first, second in conflicts:
                log.error("allocated twice", extra={"what": what, "value": value, "services": ["/".join(first), "/".join(second)]})
        for address, owner in addresses.make.items():
            await self._make_address(address, owner)
        for port, owner in ports.make.items():
            if int(port) in self._allocator.ports.span:
                await self._allocator.ports.make(int(port), owner)
                log.warning("made a missing allocation again", extra={"what": "node port", "value": port, "service": "/".join(owner)})
        leaked, again = self._overdue({**addresses.orphans, **{f":{port}": revision for port, revision in ports.orphans.items()}})
        for value in leaked:
            if value.startswith(":"):
                gone = await self._allocator.ports.remove(records[value[1:]])
            else:
                gone = await self._remove_address(value)
            if gone:
                log.warning("took a leaked allocation back", extra={"what": "service address or node port", "value": value})
        return again

    def _overdue(self, orphans: Mapping[str, int]) -> tuple[list[str], float | None]:
        """The orphans that have been so for long enough, and when the next of the others will have been."""
        now = self._clock.monotonic()
        seen, self._orphans = self._orphans, {}
        leaked: list[str] = []
        again: float | None = None
        for value, revision in orphans.items():
            before = seen.get(value)
            since = before[1] if before is not None and before[0] == revision else now
            if now - since >= GRACE:
                leaked.append(value)
                continue
            self._orphans[value] = (revision, since)
            left = since + GRACE - now
            again = left if again is None else min(again, left)
        return leaked, again

    async def _make_address(self, address: str, owner: Owner) -> None:
        try:
            await self._client.create(IPAddress, ip_address_object(address, owner))
        except AlreadyExists:
            return
        log.warning("made a missing allocation again", extra={"what": "address", "value": address, "service": "/".join(owner)})

    async def _remove_address(self, address: str) -> bool:
        entry = self._cache.of(IPAddress.resource).get("", address)
        if entry is None:
            return False
        try:
            await self._client.delete(IPAddress, address, uid=entry.uid, resource_version=str(entry.revision))
        except (NotFound, Conflict):
            return False
        return True


def _held_address(view: IPAddress, revision: int) -> Held:
    ours = view.metadata.labels.get(MANAGED_BY_LABEL) == MANAGED_BY and view.metadata.deletionTimestamp is None
    return Held(parent_of(view.spec.parentRef), revision, ours)


def _spec(service: Service) -> dict[str, object]:
    """The fields that say what a service holds, as service_fields.py reads them."""
    spec = service.spec
    return {
        "type": spec.type,
        "clusterIP": spec.clusterIP,
        "clusterIPs": list(spec.clusterIPs),
        "ports": [{"nodePort": port.nodePort} for port in spec.ports],
        "externalTrafficPolicy": spec.externalTrafficPolicy,
        "healthCheckNodePort": spec.healthCheckNodePort,
    }
