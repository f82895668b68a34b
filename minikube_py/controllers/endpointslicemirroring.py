"""EndpointSlices for Endpoints that a user made by hand: what stands in an Endpoints object of a service without a selector is mirrored.

plan(): the endpoints and the slices that mirror them → which to write, which to delete. The subsets are brought into their shortest form
first; each then is a slice for each family of addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, Fresh, namespace_is_ending
from minikube_py.controllers.endpoints_common import TRIGGER_ANNOTATION
from minikube_py.meta.errors import NotFound, StatusError
from minikube_py.types.meta import Labels, owner_reference
from minikube_py.types.network import (
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointAddress,
    EndpointConditions,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    Service,
)

MANAGER = "endpointslicemirroring-controller.k8s.io"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_NOT_COPIED = frozenset({"kubectl.kubernetes.io/last-applied-configuration", TRIGGER_ANNOTATION})
LIMIT = 1000
"""Addresses that are mirrored of those with one set of ports."""

Ports = tuple[EndpointPort, ...]


class Mirror(NamedTuple):
    """A slice as it should be, and the one that becomes it (None: a new one)."""

    address_type: str
    ports: Ports
    endpoints: tuple[Endpoint, ...]
    current: EndpointSlice | None = None


class Plan(NamedTuple):
    """Slices to write and to delete; addresses that are none, and that are too many."""

    write: tuple[Mirror, ...] = ()
    delete: tuple[EndpointSlice, ...] = ()
    invalid: int = 0
    too_many: int = 0


def is_mirrored(endpoints: Endpoints, service: Service | None) -> bool:
    """Whether these endpoints were made by hand for a service, and nobody asked for them to be left alone."""
    meta = endpoints.metadata
    if meta.labels.get(SKIP_LABEL) == "true" or _LEADER in meta.annotations or meta.deletionTimestamp is not None:
        return False
    return service is not None and not service.spec.selector


def plan(endpoints: Endpoints, slices: Sequence[EndpointSlice], limit: int = LIMIT) -> Plan:
    """Bring the slices to what the endpoints say."""
    groups: dict[tuple[str, Ports], list[Endpoint]] = {}
    invalid = too_many = 0
    for ports, addresses in repacked(endpoints):
        taken = 0
        for address, ready in addresses:
            family = _family(address.ip)
            if not family:
                invalid += 1
            elif taken == limit:
                too_many += 1
            else:
                taken += 1
                groups.setdefault((family, ports), []).append(_endpoint(address, ready))
    spare = list(slices)
    write: list[Mirror] = []
    for (family, ports), found in groups.items():
        mirror = Mirror(family, ports, tuple(found))
        current = next((s for s in spare if (s.addressType, s.ports) == (family, ports)), None)
        if current is not None:
            spare.remove(current)
            if current.endpoints == mirror.endpoints and _is_dressed(endpoints, current):
                continue
        write.append(mirror._replace(current=current))
    # a slice that goes beside one that comes is turned into it; its family can never change
    for place, mirror in enumerate(write):
        reused = next((s for s in spare if s.addressType == mirror.address_type), None) if mirror.current is None else None
        if reused is not None:
            spare.remove(reused)
            write[place] = mirror._replace(current=reused)
    return Plan(tuple(write), tuple(spare), invalid, too_many)


def repacked(endpoints: Endpoints) -> list[tuple[Ports, list[tuple[EndpointAddress, bool]]]]:
    """The subsets in their shortest form: ports with the same addresses together. An address that is once not ready is not ready."""
    by_port: dict[EndpointPort | None, dict[EndpointAddress, bool]] = {}
    for subset in endpoints.subsets:
        for port in subset.ports or (None,):
            states = by_port.setdefault(port, {})
            for address in subset.addresses:
                states.setdefault(address, True)
            for address in subset.notReadyAddresses:
                states[address] = False
    by_addresses: dict[frozenset[tuple[EndpointAddress, bool]], list[EndpointPort | None]] = {}
    for port, states in by_port.items():
        by_addresses.setdefault(frozenset(states.items()), []).append(port)
    return [
        (tuple(sorted((p for p in ports if p is not None), key=_port_order)), sorted(addresses, key=lambda pair: (pair[0].ip, pair[1])))
        for addresses, ports in by_addresses.items()
        if addresses
    ]


def _port_order(port: EndpointPort) -> tuple[str, int, str]:
    return port.name, port.port or 0, port.protocol


def _family(address: str) -> str:
    try:
        return "IPv6" if ip_address(address).version == 6 else "IPv4"
    except ValueError:
        return ""


def _endpoint(address: EndpointAddress, ready: bool) -> Endpoint:
    return Endpoint(
        addresses=(address.ip,),
        conditions=EndpointConditions(ready=ready),
        hostname=address.hostname,
        nodeName=address.nodeName,
        targetRef=address.targetRef,
    )


def _is_dressed(endpoints: Endpoints, current: EndpointSlice) -> bool:
    meta = current.metadata
    owned = any(ref.uid == endpoints.metadata.uid for ref in meta.ownerReferences)
    return owned and dict(meta.labels) == labels_of(endpoints) and dict(meta.annotations) == annotations_of(endpoints)


def labels_of(endpoints: Endpoints) -> dict[str, str]:
    """The slices' labels: the endpoints' own, and those that tie them to the service."""
    own: Labels = endpoints.metadata.labels
    return {**own, SERVICE_NAME_LABEL: endpoints.metadata.name, MANAGED_BY_LABEL: MANAGER}


def annotations_of(endpoints: Endpoints) -> dict[str, str]:
    """The slices' annotations."""
    return {k: v for k, v in endpoints.metadata.annotations.items() if k not in _NOT_COPIED}


def slice_body(endpoints: Endpoints, wanted: Mirror) -> dict[str, Any]:
    """A whole slice, to be created or to replace its current one."""
    meta: dict[str, Any] = {
        "generateName": f"{endpoints.metadata.name}-",
        "labels": labels_of(endpoints),
        "annotations": annotations_of(endpoints),
        "ownerReferences": [owner_reference(endpoints)],
    }
    if wanted.current is not None:
        meta.update(name=wanted.current.metadata.name, resourceVersion=wanted.current.metadata.resourceVersion)
    ports = [{"name": p.name, "protocol": p.protocol, **_given(p, ("port", "appProtocol"))} for p in wanted.ports]
    body = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta, "addressType": wanted.address_type}
    return body | {"endpoints": [_endpoint_json(e) for e in wanted.endpoints], "ports": ports}


def _given(view: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(view, name))}


def _endpoint_json(endpoint: Endpoint) -> dict[str, Any]:
    body: dict[str, Any] = {"addresses": list(endpoint.addresses), "conditions": {"ready": endpoint.conditions.ready}}
    body |= _given(endpoint, ("hostname", "nodeName"))
    if endpoint.targetRef is not None:
        names = ("apiVersion", "kind", "namespace", "name", "uid", "resourceVersion", "fieldPath")
        body["targetRef"] = _given(endpoint.targetRef, names)
    return body


class EndpointSliceMirroringController(Controller):
    """Mirrors every Endpoints object that a user made."""

    name = "endpointslicemirroring"
    identity = "endpointslicemirroring-controller"
    component = "endpoint-slice-mirroring-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._endpoints = context.informers.of(Endpoints)
        self._services = context.informers.of(Service)
        self._slices: Fresh[EndpointSlice] = Fresh(context.informers.of(EndpointSlice), {"mirrored": _mirrored})

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._endpoints), Watch(self._services), Watch(self._slices.informer, _mirrored))

    async def reconcile(self, key: str) -> float | None:
        endpoints = self._endpoints.get(key)
        slices = self._slices.by_index("mirrored", key)
        if endpoints is None or not is_mirrored(endpoints, self._services.get(key)):
            await self._delete(slices)
            return None
        todo = plan(endpoints, slices)
        if todo.invalid:
            message = f"Skipped {todo.invalid} invalid IP addresses when mirroring to EndpointSlices"
            self.events.record(endpoints, "Warning", "InvalidIPAddressesForMirroring", message)
        if todo.too_many:
            message = f"A max of {LIMIT} addresses can be mirrored to EndpointSlices per Endpoints subset. {todo.too_many} were skipped"
            self.events.record(endpoints, "Warning", "TooManyAddressesToMirror", message)
        try:
            for wanted in todo.write:
                await self._write(endpoints, wanted)
        except StatusError as error:
            if namespace_is_ending(error):
                return None
            message = f"Error updating Endpoint Slices for Endpoints {key}: {error.message}"
            self.events.record(endpoints, "Warning", "FailedToUpdateEndpointSlices", message)
            raise
        await self._delete(todo.delete)
        return None

    async def _write(self, endpoints: Endpoints, wanted: Mirror) -> None:
        body, namespace = slice_body(endpoints, wanted), endpoints.metadata.namespace
        if wanted.current is not None:
            self._slices.wrote(await self.client.update(EndpointSlice, body, wanted.current.metadata.name, namespace))
        else:
            self._slices.wrote(await self.client.create(EndpointSlice, body, namespace))

    async def _delete(self, slices: Iterable[EndpointSlice]) -> None:
        for current in slices:
            meta = current.metadata
            try:
                await self.client.delete(EndpointSlice, meta.name, meta.namespace, uid=meta.uid)
            except NotFound:
                continue
            self._slices.deleted(current)


def _mirrored(current: EndpointSlice) -> tuple[str, ...]:
    labels = current.metadata.labels
    name = labels.get(SERVICE_NAME_LABEL)
    return (f"{current.metadata.namespace}/{name}",) if name and labels.get(MANAGED_BY_LABEL) == MANAGER else ()


__all__ = ["EndpointSliceMirroringController", "Mirror", "Plan", "plan"]
