"""A pod as the scheduler reckons with it: what it asks for, computed once a pod and shared by all decisions about it.

The sums are upstream's: containers together, or the largest step of the init containers (sidecars run on), plus the overhead; of what is in
effect while a pod is resized.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from minikube_py.meta import quantity
from minikube_py.scheduler.groups import Use, kind_of, wishes_of
from minikube_py.types import effective
from minikube_py.types.meta import controller_of
from minikube_py.types.pod import Container, Pod, Quantities

CPU, MEMORY, STORAGE = "cpu", "memory", "ephemeral-storage"
DEFAULT_CPU, DEFAULT_MEMORY = 100, 200 * 1024 * 1024
"""What a container without a request counts for in scores: a tenth of a core, 200 MiB."""

_amounts: dict[tuple[str, Any], int] = {}


def amount(resource: str, value: str | int | float) -> int:
    """A quantity as the scheduler counts it: cpu in thousandths, all else in whole units."""
    known = _amounts.get((resource, value))
    if known is None:
        parsed = quantity.parse(value)
        known = parsed.milli() if resource == CPU else parsed.value()
        if len(_amounts) > 10_000:
            _amounts.clear()
        _amounts[resource, value] = known
    return known


def amounts(quantities: Quantities) -> dict[str, int]:
    """All quantities of a mapping."""
    return {resource: amount(resource, value) for resource, value in quantities.items()}


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for resource, value in more.items():
        total[resource] = total.get(resource, 0) + value


def _maximum(total: dict[str, int], other: Mapping[str, int]) -> None:
    for resource, value in other.items():
        if value > total.get(resource, 0):
            total[resource] = value


def _sum(pod: Pod, reckon: Callable[[Quantities], dict[str, int]]) -> dict[str, int]:
    def requests(container: Container) -> dict[str, int]:
        return reckon(effective.container_resources(pod, container).requests)

    total: dict[str, int] = {}
    for container in pod.spec.containers:
        _add(total, requests(container))
    sidecars: dict[str, int] = {}
    largest: dict[str, int] = {}
    for container in pod.spec.initContainers:
        wants = requests(container)
        if container.restartPolicy == "Always":
            _add(total, wants)
            _add(sidecars, wants)
            step: dict[str, int] = dict(sidecars)
        else:
            step = dict(sidecars)
            _add(step, wants)
        _maximum(largest, step)
    _maximum(total, largest)
    return total


def _counted(requests: Quantities) -> dict[str, int]:
    return {
        CPU: amount(CPU, requests[CPU]) if CPU in requests else DEFAULT_CPU,
        MEMORY: amount(MEMORY, requests[MEMORY]) if MEMORY in requests else DEFAULT_MEMORY,
    }


def pod_requests(pod: Pod, reckon: Callable[[Quantities], dict[str, int]] = amounts) -> dict[str, int]:
    """What a pod asks a node for, `reckon` says how a container counts; pod level requests replace the containers' for cpu and memory."""
    total = _sum(pod, reckon)
    level = effective.pod_resources(pod)
    if level is not None:
        total.update({k: v for k, v in amounts(level.requests).items() if k in (CPU, MEMORY) or k.startswith("hugepages-")})
    _add(total, amounts(pod.spec.overhead))
    return total


class HostPort(msgspec.Struct, frozen=True, gc=False):
    """A port that a pod takes on its node."""

    ip: str
    protocol: str
    port: int


def host_ports(pod: Pod) -> tuple[HostPort, ...]:
    """The node's ports that a pod takes."""
    sidecars = tuple(c for c in pod.spec.initContainers if c.restartPolicy == "Always")
    return tuple(
        HostPort(port.hostIP or "0.0.0.0", port.protocol, port.hostPort)
        for container in (*pod.spec.containers, *sidecars)
        for port in container.ports
        if port.hostPort
    )


def claims_of(pod: Pod) -> tuple[str, ...]:
    """The claims that the pod's volumes use, by their names in the pod's namespace."""
    return tuple(
        source.claimName if (source := volume.persistentVolumeClaim) is not None else f"{pod.metadata.name}-{volume.name}"
        for volume in pod.spec.volumes
        if volume.persistentVolumeClaim is not None or volume.ephemeral is not None
    )


def image_name(name: str) -> str:
    """An image's name with its tag, as nodes report it."""
    return f"{name}:latest" if name.rfind(":") <= name.rfind("/") else name


def _images(pod: Pod) -> tuple[str, ...]:
    spec = pod.spec
    mounted = (volume.image.reference for volume in spec.volumes if volume.image is not None)
    return tuple(image_name(name) for name in (*(c.image for c in (*spec.initContainers, *spec.containers)), *mounted))


class PodInfo:
    """A pod with what decisions need of it.

    `signature` is equal for pods that every plugin which looks at one node alone treats alike; what others need is in `kind`, `wishes`
    and `claims`. `uses` are the terms of its wishes as other pods feel them; `claims` are namespace/name.
    """

    __slots__ = (
        "claims",
        "counted_cpu",
        "counted_memory",
        "cpu",
        "extended",
        "has_requests",
        "images",
        "key",
        "kind",
        "memory",
        "owner",
        "pod",
        "ports",
        "priority",
        "signature",
        "storage",
        "uid",
        "uses",
        "wishes",
    )

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.key = pod.key
        self.uid = pod.metadata.uid
        self.priority = pod.spec.priority or 0
        requests = pod_requests(pod)
        self.cpu = requests.pop(CPU, 0)
        self.memory = requests.pop(MEMORY, 0)
        self.storage = requests.pop(STORAGE, 0)
        self.extended: tuple[tuple[str, int], ...] = tuple(sorted((k, v) for k, v in requests.items() if v))
        counted = pod_requests(pod, _counted)
        self.counted_cpu = counted.get(CPU, 0)
        self.counted_memory = counted.get(MEMORY, 0)
        self.has_requests = bool(self.cpu or self.memory)
        self.ports = host_ports(pod)
        self.images = _images(pod)
        self.kind = kind_of(pod)
        self.wishes = wishes_of(pod)
        owner = controller_of(pod.metadata)
        self.owner = (owner.kind, owner.name) if owner is not None else ("", "")
        self.uses: tuple[Use, ...] = tuple(self.wishes.uses())
        spec = pod.spec
        namespace = pod.metadata.namespace
        self.claims = tuple(f"{namespace}/{name}" for name in claims_of(pod)) if spec.volumes else ()
        self.signature = (
            self.priority,
            self.cpu,
            self.memory,
            self.storage,
            self.extended,
            self.counted_cpu,
            self.counted_memory,
            self.ports,
            self.images,
            tuple(sorted(spec.nodeSelector.items())),
            spec.tolerations,
            spec.affinity.nodeAffinity if spec.affinity is not None else None,
        )

    def relabelled(self, pod: Pod) -> PodInfo:
        """The same pod with other labels, or on its way out: all else is as it was."""
        made = object.__new__(PodInfo)
        for name in PodInfo.__slots__:
            setattr(made, name, getattr(self, name))
        made.pod, made.kind = pod, kind_of(pod)
        return made
