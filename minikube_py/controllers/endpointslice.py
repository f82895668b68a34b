"""EndpointSlices: the pods that a service selects, as slices of at most so many endpoints each.

plan(): service, pods, nodes, the slices that are there → slices to create, update, delete. A change touches as few slices as it can:
endpoints stay where they are, are changed in place, leave gaps, and new ones fill the slices that changed anyway, then the gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from minikube_py.control import Watch
from minikube_py.controllers import endpoints_common as common
from minikube_py.controllers.base import Context, Controller, Fresh, Pace, namespace_is_ending
from minikube_py.meta.errors import NotFound, StatusError
from minikube_py.meta.selectors import having
from minikube_py.types.core import Node
from minikube_py.types.meta import ObjectReference, controller_of, owner_reference
from minikube_py.types.network import (
    HEADLESS_LABEL,
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    ForNode,
    ForZone,
    Service,
)
from minikube_py.types.pod import Pod, is_ready

MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
_RESERVED = frozenset({SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL})
_NEAR = frozenset({"PreferClose", "PreferSameZone", "PreferSameNode"})
_ZONE = "topology.kubernetes.io/zone"

Ports = tuple[EndpointPort, ...]


class Wanted(NamedTuple):
    """A slice to be written: `current` is what it replaces."""

    address_type: str
    ports: Ports
    endpoints: tuple[Endpoint, ...]
    current: EndpointSlice | None = None


class Plan(NamedTuple):
    """What to write and what to delete. `missing_nodes`: pods were left out because their node is not known (yet)."""

    write: tuple[Wanted, ...] = ()
    delete: tuple[EndpointSlice, ...] = ()
    missing_nodes: bool = False


def plan(
    service: Service, pods: Sequence[Pod], node_of: Callable[[str], Node | None], slices: Sequence[EndpointSlice], limit: int = 100
) -> Plan:
    """The slices of a service that selects these pods."""
    types = common.families(service)
    write: list[Wanted] = []
    delete = [s for s in slices if s.addressType not in types]
    missing = False
    for address_type in types:
        part = _plan_type(service, pods, node_of, [s for s in slices if s.addressType == address_type], address_type, limit)
        write += part.write
        delete += part.delete
        missing = missing or part.missing_nodes
    return Plan(tuple(write), tuple(delete), missing)


def _plan_type(
    service: Service,
    pods: Sequence[Pod],
    node_of: Callable[[str], Node | None],
    slices: Sequence[EndpointSlice],
    address_type: str,
    limit: int,
) -> Plan:
    groups: dict[Ports, dict[str, Endpoint]] = {}
    missing = False
    for pod in pods:
        if not common.belongs(pod, include_ending=True):
            continue
        ports = ports_of(service, pod)
        wanted = groups.setdefault(ports, {})
        node = node_of(pod.spec.nodeName)
        if node is None and not service.spec.publishNotReadyAddresses:
            missing = True
            continue
        endpoint = endpoint_of(service, pod, node, address_type)
        if endpoint.addresses:
            wanted[_identity(endpoint)] = endpoint
    existing: dict[Ports, list[EndpointSlice]] = {}
    delete: list[EndpointSlice] = []
    for current in slices:
        owner = controller_of(current.metadata)
        if owner is not None and owner.uid == service.metadata.uid and current.metadata.deletionTimestamp is None:
            existing.setdefault(_sorted(current.ports), []).append(current)
        else:
            delete.append(current)
    write: list[Wanted] = []
    kept = 0
    for ports, endpoints in groups.items():
        updates, drops, kept_here = _fill(service, existing.pop(ports, []), endpoints, ports, address_type, limit)
        write += updates
        delete += drops
        kept += kept_here
    for stale in existing.values():
        delete += stale
    if not kept and not any(w.endpoints for w in write):
        # a service always has a slice: an empty one says that nothing is there, none at all would say nothing
        write, delete = _placeholder(service, write, delete, address_type)
    return _reuse(service, write, delete, missing)


def _fill(
    service: Service, slices: Sequence[EndpointSlice], endpoints: Mapping[str, Endpoint], ports: Ports, address_type: str, limit: int
) -> tuple[list[Wanted], list[EndpointSlice], int]:
    """One group of ports: (slices to write, slices to delete, slices left as they are)."""
    rest = dict(endpoints)
    unchanged: list[tuple[EndpointSlice, list[Endpoint]]] = []
    changed: list[tuple[EndpointSlice, list[Endpoint]]] = []
    delete: list[EndpointSlice] = []
    for current in slices:
        keep = [fresh for old in current.endpoints if (fresh := rest.pop(_identity(old), None)) is not None]
        same = len(keep) == len(current.endpoints) and all(_same(a, b) for a, b in zip(keep, current.endpoints, strict=True))
        if same and labels_of(service).items() == current.metadata.labels.items():
            unchanged.append((current, keep))
        elif keep or (same and not current.endpoints):
            changed.append((current, keep))
        else:
            delete.append(current)
    new = list(rest.values())
    changed.sort(key=lambda item: -len(item[1]))
    for _, keep in changed:
        room = limit - len(keep)
        keep += new[:room]
        del new[:room]
    if new:
        # the fullest slice that takes all the rest, so that no further slice is needed
        fitting = [item for item in unchanged if len(item[1]) + len(new) <= limit]
        if fitting:
            best = max(fitting, key=lambda item: len(item[1]))
            unchanged.remove(best)
            best[1].extend(new)
            changed.append(best)
            new = []
    write = [Wanted(address_type, ports, tuple(keep), current) for current, keep in changed]
    write += [Wanted(address_type, ports, tuple(new[at : at + limit])) for at in range(0, len(new), limit)]
    return write, delete, len(unchanged)


def _placeholder(
    service: Service, write: list[Wanted], delete: list[EndpointSlice], address_type: str
) -> tuple[list[Wanted], list[EndpointSlice]]:
    """Only an empty slice is to be there."""
    stale = [*delete, *(w.current for w in write if w.current is not None)]
    for current in stale:
        if not current.ports and not current.endpoints and labels_of(service) == dict(current.metadata.labels) and _owned(current, service):
            return [], [s for s in stale if s is not current]
    return [Wanted(address_type, (), ())], stale


def _reuse(service: Service, write: list[Wanted], delete: list[EndpointSlice], missing: bool) -> Plan:
    """Turn a delete beside a create into an update."""
    spare = [s for s in delete if _owned(s, service) and s.metadata.deletionTimestamp is None]
    result = []
    for wanted in write:
        if wanted.current is None and spare:
            wanted = wanted._replace(current=spare.pop(0))
        result.append(wanted)
    used = {w.current.metadata.uid for w in result if w.current is not None}
    return Plan(tuple(result), tuple(s for s in delete if s.metadata.uid not in used), missing)


def _owned(current: EndpointSlice, service: Service) -> bool:
    return any(ref.uid == service.metadata.uid for ref in current.metadata.ownerReferences)


def _identity(endpoint: Endpoint) -> str:
    target = endpoint.targetRef
    return f"{target.uid}/{target.name}" if target is not None else ",".join(endpoint.addresses)


def _same(a: Endpoint, b: Endpoint) -> bool:
    if (a.addresses, a.conditions, a.hostname) != (b.addresses, b.conditions, b.hostname):
        return False
    return (a.nodeName, a.zone, a.hints) == (b.nodeName, b.zone, b.hints)


def _sorted(ports: Iterable[EndpointPort]) -> Ports:
    return tuple(sorted(ports, key=lambda p: (p.name, p.port or 0, p.protocol)))


def ports_of(service: Service, pod: Pod) -> Ports:
    """The ports of the service as this pod has them; a named port that the pod lacks is left out."""
    found = []
    for port in service.spec.ports:
        number = common.find_port(pod, port)
        if number is not None:
            found.append(EndpointPort(name=port.name, port=number, protocol=port.protocol, appProtocol=port.appProtocol))
    return _sorted(found)


def endpoint_of(service: Service, pod: Pod, node: Node | None, address_type: str) -> Endpoint:
    """A pod as an endpoint: an ending pod still serves, if it is ready, but is not ready for new connections."""
    serving = is_ready(pod)
    ending = pod.metadata.deletionTimestamp is not None
    meta = pod.metadata
    ready = service.spec.publishNotReadyAddresses or (serving and not ending)
    zone = node.metadata.labels.get(_ZONE, "") if node is not None else ""
    return Endpoint(
        addresses=common.addresses(pod, address_type == "IPv6"),
        conditions=EndpointConditions(ready=ready, serving=serving, terminating=ending),
        hostname=common.hostname(pod, service),
        nodeName=pod.spec.nodeName,
        zone=zone,
        hints=_hints(service.spec.trafficDistribution, pod.spec.nodeName, zone) if ready else None,
        targetRef=ObjectReference(kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid),
    )


def _hints(distribution: str, node: str, zone: str) -> EndpointHints | None:
    """For whom an endpoint is, by the Service's trafficDistribution (KEP-3015): those of its zone, or first of all its node."""
    if distribution not in _NEAR:
        return None
    zones = (ForZone(name=zone),) if zone else ()
    nodes = (ForNode(name=node),) if node and distribution == "PreferSameNode" else ()
    return EndpointHints(forZones=zones, forNodes=nodes) if zones or nodes else None


def labels_of(service: Service) -> dict[str, str]:
    """The labels that the service's slices bear: its own, and the reserved ones."""
    labels = {k: v for k, v in service.metadata.labels.items() if k not in _RESERVED}
    if common.is_headless(service):
        labels[HEADLESS_LABEL] = ""
    labels[SERVICE_NAME_LABEL] = service.metadata.name
    labels[MANAGED_BY_LABEL] = MANAGER
    return labels


def endpoint_json(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as the API takes it."""
    conditions = endpoint.conditions
    target = endpoint.targetRef
    body: dict[str, Any] = {
        "addresses": list(endpoint.addresses),
        "conditions": {"ready": conditions.ready, "serving": conditions.serving, "terminating": conditions.terminating},
    }
    for name in ("hostname", "nodeName", "zone"):
        if getattr(endpoint, name):
            body[name] = getattr(endpoint, name)
    if endpoint.hints is not None:
        hints = {"forZones": [z.name for z in endpoint.hints.forZones], "forNodes": [n.name for n in endpoint.hints.forNodes]}
        body["hints"] = {kind: [{"name": name} for name in names] for kind, names in hints.items() if names}
    if target is not None:
        body["targetRef"] = {"kind": target.kind, "namespace": target.namespace, "name": target.name, "uid": target.uid}
    return body


def slice_body(service: Service, wanted: Wanted, trigger: str) -> dict[str, Any]:
    """A whole slice, to be created or to replace its current one."""
    meta: dict[str, Any] = {"labels": labels_of(service), "ownerReferences": [owner_reference(service)]}
    current = wanted.current
    annotations = dict(current.metadata.annotations) if current is not None else {}
    annotations.pop(common.TRIGGER_ANNOTATION, None)
    if trigger:
        annotations[common.TRIGGER_ANNOTATION] = trigger
    if annotations:
        meta["annotations"] = annotations
    if current is None:
        meta["generateName"] = f"{service.metadata.name}-"
    else:
        meta.update(name=current.metadata.name, resourceVersion=current.metadata.resourceVersion)
        if current.metadata.generateName:
            meta["generateName"] = current.metadata.generateName
    ports = [
        {"name": p.name, "port": p.port, "protocol": p.protocol, **({"appProtocol": p.appProtocol} if p.appProtocol else {})}
        for p in wanted.ports
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta,
        "addressType": wanted.address_type,
        "endpoints": [endpoint_json(e) for e in wanted.endpoints],
        "ports": ports,
    }


class EndpointSliceController(Controller):
    """Keeps the slices of every service with a selector."""

    name = "endpointslice"
    identity = "endpointslice-controller"
    component = "endpoint-slice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = context.informers.of(Service)
        self._pods = context.informers.of(Pod)
        self._nodes = context.informers.of(Node)
        self._slices: Fresh[EndpointSlice] = Fresh(context.informers.of(EndpointSlice), {"service": _service_key})
        self._pace = Pace(self.clock)
        self._triggers: dict[str, str] = {}

    def watches(self) -> Sequence[Watch]:
        return (
            Watch(self._services),
            Watch(self._pods, lambda pod: common.services_of(self._services, pod)),
            Watch(self._slices.informer, _service_key),
        )

    async def reconcile(self, key: str) -> float | None:
        if wait := self._pace.wait(key):
            return wait
        service = self._services.get(key)
        if service is None:
            self._triggers.pop(key, None)
            return None
        if service.spec.type == "ExternalName" or not service.spec.selector:
            return None
        started = self.clock.monotonic()
        namespace = service.metadata.namespace
        chosen = having(service.spec.selector)
        pods = [pod for pod in self._pods.list(namespace) if chosen(pod.metadata.labels)]
        todo = plan(service, pods, self._nodes.get, self._slices.by_index("service", key), self.options.max_endpoints_per_slice)
        self._pace.took(key, self.clock.monotonic() - started)
        if todo.write or todo.delete:
            last = self._triggers.get(key, "")
            trigger = common.trigger_time(service, pods, last)
            self._triggers[key] = trigger or last
            try:
                await self._apply(service, todo, trigger)
            except StatusError as error:
                if namespace_is_ending(error):
                    return None
                self.events.record(
                    service,
                    "Warning",
                    "FailedToUpdateEndpointSlices",
                    f"Error updating Endpoint Slices for Service {service.metadata.namespace}/{service.metadata.name}: {error.message}",
                )
                raise
        return 1.0 if todo.missing_nodes else None

    async def _apply(self, service: Service, todo: Plan, trigger: str) -> None:
        namespace = service.metadata.namespace
        for wanted in todo.write:
            body = slice_body(service, wanted, trigger)
            if wanted.current is not None:
                self._slices.wrote(await self.client.update(EndpointSlice, body, wanted.current.metadata.name, namespace))
            elif service.metadata.deletionTimestamp is None:
                self._slices.wrote(await self.client.create(EndpointSlice, body, namespace))
        for current in todo.delete:
            try:
                await self.client.delete(EndpointSlice, current.metadata.name, namespace, uid=current.metadata.uid)
            except NotFound:
                continue
            self._slices.deleted(current)


def _service_key(current: EndpointSlice) -> tuple[str, ...]:
    labels = current.metadata.labels
    name = labels.get(SERVICE_NAME_LABEL)
    if not name or labels.get(MANAGED_BY_LABEL) != MANAGER:
        return ()
    return (f"{current.metadata.namespace}/{name}",)


__all__ = ["EndpointSliceController", "Plan", "Wanted", "plan", "slice_body"]
