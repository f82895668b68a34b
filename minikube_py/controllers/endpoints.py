"""Endpoints: the older form of what stands behind a service, one object a service, addresses grouped by the ports that they share.

plan(): service, pods, the object that is there → the object that should be, or nothing to do. Upstream's limits hold: one address family,
at most 1,000 addresses (ready ones first).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minikube_py.control import Watch
from minikube_py.controllers import endpoints_common as common
from minikube_py.controllers.base import Context, Controller, Pace, namespace_is_ending
from minikube_py.meta.errors import AlreadyExists, Conflict, NotFound, StatusError
from minikube_py.meta.selectors import having
from minikube_py.types.meta import ObjectReference
from minikube_py.types.network import HEADLESS_LABEL, EndpointAddress, EndpointPort, Endpoints, EndpointSubset, Service
from minikube_py.types.pod import Pod, is_ready

CAPACITY = 1000
_OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
_MANAGED_BY = "endpoints.kubernetes.io/managed-by"
_MANAGER = "endpoint-controller"
_LEADER = "control-plane.alpha.kubernetes.io/leader"


def subsets(service: Service, pods: Sequence[Pod]) -> tuple[EndpointSubset, ...]:
    """The addresses of the pods, grouped by the set of ports at which they are reached."""
    ipv6 = common.families(service)[0] == "IPv6"
    ready: dict[EndpointAddress, set[EndpointPort]] = {}
    waiting: dict[EndpointAddress, set[EndpointPort]] = {}
    publish = service.spec.publishNotReadyAddresses
    for pod in pods:
        if not common.belongs(pod, include_ending=publish):
            continue
        ips = common.addresses(pod, ipv6)
        if not ips:
            continue
        meta = pod.metadata
        address = EndpointAddress(
            ip=ips[0],
            hostname=common.hostname(pod, service),
            nodeName=pod.spec.nodeName,
            targetRef=ObjectReference(kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid),
        )
        group = ready if publish or is_ready(pod) else waiting
        if not service.spec.ports:
            if common.is_headless(service):
                group.setdefault(address, set())
            continue
        for port in service.spec.ports:
            number = common.find_port(pod, port)
            if number is not None:
                entry = EndpointPort(name=port.name, port=number, protocol=port.protocol, appProtocol=port.appProtocol)
                group.setdefault(address, set()).add(entry)
    by_ports: dict[frozenset[EndpointPort], tuple[list[EndpointAddress], list[EndpointAddress]]] = {}
    for group, place in ((ready, 0), (waiting, 1)):
        for address, ports in group.items():
            by_ports.setdefault(frozenset(ports), ([], []))[place].append(address)
    found = [
        EndpointSubset(
            addresses=tuple(sorted(addresses, key=_address_order)),
            notReadyAddresses=tuple(sorted(not_ready, key=_address_order)),
            ports=tuple(sorted(ports, key=lambda p: (p.name, p.port or 0, p.protocol))),
        )
        for ports, (addresses, not_ready) in by_ports.items()
    ]
    return tuple(sorted(found, key=lambda s: [(p.name, p.port or 0, p.protocol) for p in s.ports]))


def _address_order(address: EndpointAddress) -> tuple[str, str]:
    return (address.ip, address.targetRef.uid if address.targetRef is not None else "")


def truncate(found: tuple[EndpointSubset, ...], capacity: int = CAPACITY) -> tuple[tuple[EndpointSubset, ...], bool]:
    """At most `capacity` addresses, ready ones first; and whether any had to go."""
    left = capacity
    if sum(len(s.addresses) + len(s.notReadyAddresses) for s in found) <= capacity:
        return found, False
    kept_ready = []
    for subset in found:
        kept_ready.append(subset.addresses[:left])
        left -= len(kept_ready[-1])
    result = []
    for subset, ready in zip(found, kept_ready, strict=True):
        waiting = subset.notReadyAddresses[:left]
        left -= len(waiting)
        if ready or waiting:
            result.append(EndpointSubset(addresses=ready, notReadyAddresses=waiting, ports=subset.ports))
    return tuple(result), True


def plan(service: Service, pods: Sequence[Pod], current: Endpoints | None, last_trigger: str = "") -> dict[str, Any] | None:
    """The Endpoints object as it should be, or None where it is so."""
    found, truncated = truncate(subsets(service, pods))
    labels = dict(service.metadata.labels)
    if common.is_headless(service):
        labels[HEADLESS_LABEL] = ""
    labels[_MANAGED_BY] = _MANAGER
    if current is not None:
        over = _OVER_CAPACITY in current.metadata.annotations
        if current.subsets == found and dict(current.metadata.labels) == labels and over == truncated:
            return None
    annotations = dict(current.metadata.annotations) if current is not None else {}
    for name in (common.TRIGGER_ANNOTATION, _OVER_CAPACITY):
        annotations.pop(name, None)
    trigger = common.trigger_time(service, pods, last_trigger)
    if trigger:
        annotations[common.TRIGGER_ANNOTATION] = trigger
    if truncated:
        annotations[_OVER_CAPACITY] = "truncated"
    meta: dict[str, Any] = {"name": service.metadata.name, "labels": labels, "annotations": annotations}
    if current is not None:
        meta["resourceVersion"] = current.metadata.resourceVersion
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": [_subset_json(s) for s in found]}


def _subset_json(subset: EndpointSubset) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if subset.addresses:
        body["addresses"] = [_address_json(a) for a in subset.addresses]
    if subset.notReadyAddresses:
        body["notReadyAddresses"] = [_address_json(a) for a in subset.notReadyAddresses]
    if subset.ports:
        body["ports"] = [
            {
                **({"name": p.name} if p.name else {}),
                "port": p.port,
                "protocol": p.protocol,
                **({"appProtocol": p.appProtocol} if p.appProtocol else {}),
            }
            for p in subset.ports
        ]
    return body


def _address_json(address: EndpointAddress) -> dict[str, Any]:
    body: dict[str, Any] = {"ip": address.ip}
    if address.hostname:
        body["hostname"] = address.hostname
    if address.nodeName:
        body["nodeName"] = address.nodeName
    target = address.targetRef
    if target is not None:
        body["targetRef"] = {"kind": target.kind, "namespace": target.namespace, "name": target.name, "uid": target.uid}
    return body


class EndpointsController(Controller):
    """Keeps the Endpoints of every service with a selector, and removes those whose service has gone."""

    name = "endpoints"
    identity = "endpoint-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = context.informers.of(Service)
        self._pods = context.informers.of(Pod)
        self._endpoints = context.informers.of(Endpoints)
        self._pace = Pace(self.clock)
        self._known: set[str] = set()

    def watches(self) -> Sequence[Watch]:
        return (
            Watch(self._services),
            Watch(self._pods, lambda pod: common.services_of(self._services, pod)),
            Watch(self._endpoints),
        )

    async def reconcile(self, key: str) -> float | None:
        if wait := self._pace.wait(key):
            return wait
        service = self._services.get(key)
        current = self._endpoints.get(key)
        if service is None:
            gone = key in self._known
            self._known.discard(key)
            if current is not None and _is_leftover(current, service_was_there=gone):
                try:
                    await self.client.delete(Endpoints, current.metadata.name, current.metadata.namespace, uid=current.metadata.uid)
                except NotFound:
                    return None
            return None
        self._known.add(key)
        if service.spec.type == "ExternalName" or not service.spec.selector:
            return None
        started = self.clock.monotonic()
        namespace = service.metadata.namespace
        chosen = having(service.spec.selector)
        pods = [pod for pod in self._pods.list(namespace) if chosen(pod.metadata.labels)]
        last = current.metadata.annotations.get(common.TRIGGER_ANNOTATION, "") if current is not None else ""
        wanted = plan(service, pods, current, last)
        self._pace.took(key, self.clock.monotonic() - started)
        if wanted is None:
            return None
        try:
            if current is None:
                await self.client.create(Endpoints, wanted, namespace)
            else:
                await self.client.update(Endpoints, wanted, service.metadata.name, namespace)
        except AlreadyExists as error:
            raise Conflict(error.message) from error
        except NotFound:
            return None
        except Conflict:
            raise
        except StatusError as error:
            if namespace_is_ending(error):
                return None
            verb = ("Create", "create") if current is None else ("Update", "update")
            self.events.record(
                service,
                "Warning",
                f"FailedTo{verb[0]}Endpoint",
                f"Failed to {verb[1]} endpoint {namespace}/{service.metadata.name}: {error.message}",
            )
            raise
        return None


def _is_leftover(current: Endpoints, *, service_was_there: bool) -> bool:
    """Whether the object has outlived its service. One made by hand before its service is left alone, so are leader election records."""
    if _LEADER in current.metadata.annotations:
        return False
    return service_was_there or current.metadata.labels.get(_MANAGED_BY) == _MANAGER
