"""EndpointSlices for Endpoints that a user made by hand: what stands in an Endpoints object of a service without a selector is mirrored.

plan(): the endpoints and the slices that mirror them → which to write, which to delete. A slice has one family of addresses and one set of
ports, as everywhere.
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
"""Addresses of a subset that are mirrored."""

Ports = tuple[EndpointPort, ...]


class Wanted(NamedTuple):
    """A slice as it should be, and the one that becomes it (None: a new one)."""

    address_type: str
    ports: Ports
    endpoints: tuple[Endpoint, ...]
    current: EndpointSlice | None = None


class Plan(NamedTuple):
    """Slices to write and to delete."""

    write: tuple[Wanted, ...]
    delete: tuple[EndpointSlice, ...]


def is_mirrored(endpoints: Endpoints, service: Service | None) -> bool:
    """Whether these endpoints were made by hand for a service, and nobody asked for them to be left alone."""
    meta = endpoints.metadata
    if meta.labels.get(SKIP_LABEL) == "true" or _LEADER in meta.annotations or meta.deletionTimestamp is not None:
        return False
    return service is not None and not service.spec.selector


def plan(endpoints: Endpoints, slices: Sequence[EndpointSlice], limit: int) -> Plan:
    """Bring the slices to what the endpoints say; `limit` endpoints a slice."""
    groups: dict[tuple[str, Ports], list[Endpoint]] = {}
    for subset in endpoints.subsets:
        ports = tuple(sorted(subset.ports, key=lambda p: (p.name, p.port or 0, p.protocol)))
        addresses = [(a, True) for a in subset.addresses] + [(a, False) for a in subset.notReadyAddresses]
        for address, ready in addresses[:LIMIT]:
            family = "IPv6" if ip_address(address.ip).version == 6 else "IPv4"
            groups.setdefault((family, ports), []).append(_endpoint(address, ready))
    spare = list(slices)
    write: list[Wanted] = []
    for (family, ports), found in groups.items():
        for at in range(0, len(found), limit):
            wanted = Wanted(family, ports, tuple(found[at : at + limit]))
            same = [s for s in spare if (s.addressType, s.ports) == (family, ports)]
            current = next((s for s in same if s.endpoints == wanted.endpoints), same[0] if same else None)
            if current is not None:
                spare.remove(current)
                if current.endpoints == wanted.endpoints and _is_dressed(endpoints, current):
                    continue
            write.append(wanted._replace(current=current))
    return Plan(tuple(write), tuple(spare))


def _endpoint(address: EndpointAddress, ready: bool) -> Endpoint:
    return Endpoint(
        addresses=(address.ip,),
        conditions=EndpointConditions(ready=ready),
        hostname=address.hostname,
        nodeName=address.nodeName,
        targetRef=address.targetRef,
    )


def _is_dressed(endpoints: Endpoints, current: EndpointSlice) -> bool:
    return dict(current.metadata.labels) == labels_of(endpoints) and dict(current.metadata.annotations) == annotations_of(endpoints)


def labels_of(endpoints: Endpoints) -> dict[str, str]:
    """The slices' labels: the endpoints' own, and those that tie them to the service."""
    own: Labels = endpoints.metadata.labels
    return {**own, SERVICE_NAME_LABEL: endpoints.metadata.name, MANAGED_BY_LABEL: MANAGER}


def annotations_of(endpoints: Endpoints) -> dict[str, str]:
    """The slices' annotations."""
    return {k: v for k, v in endpoints.metadata.annotations.items() if k not in _NOT_COPIED}


def slice_body(endpoints: Endpoints, wanted: Wanted) -> dict[str, Any]:
    """A whole slice, to be created or to replace its current one."""
    meta: dict[str, Any] = {
        "generateName": f"{endpoints.metadata.name}-",
        "labels": labels_of(endpoints),
        "annotations": annotations_of(endpoints),
        "ownerReferences": [owner_reference(endpoints)],
    }
    if wanted.current is not None:
        meta.update(name=wanted.current.metadata.name, resourceVersion=wanted.current.metadata.resourceVersion)
    ports = [
        {"name": p.name, "protocol": p.protocol, **({"port": p.port} if p.port else {}), **_given(p, ("appProtocol",))}
        for p in wanted.ports
    ]
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
        if any(len(s.addresses) + len(s.notReadyAddresses) > LIMIT for s in endpoints.subsets):
            message = f"Skipped mirroring of addresses beyond {LIMIT} of a subset"
            self.events.record(endpoints, "Warning", "TooManyAddressesToMirror", message)
        todo = plan(endpoints, slices, self.options.max_endpoints_per_slice * 10)
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

    async def _write(self, endpoints: Endpoints, wanted: Wanted) -> None:
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


__all__ = ["EndpointSliceMirroringController", "Plan", "Wanted", "plan"]
