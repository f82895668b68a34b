"""The Node object and its status, as values. Pure: what was looked up comes in, JSON values come out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from minikube_py.kubelet import machine
from minikube_py.kubelet.machine import Facts
from minikube_py.kubelet.options import KubeletOptions
from minikube_py.types.core import Node
from minikube_py.types.meta import timestamp

_IMAGES_SHOWN = 50
_NAMES_SHOWN = 5


class Image(NamedTuple):
    """An image that the node has."""

    id: str
    names: Sequence[str]
    size: int


class Runtime(NamedTuple):
    """How the container runtime is: `problem` is empty when it and its network are ready."""

    version: str = ""
    problem: str = "container runtime is down"
    images: Sequence[Image] = ()
    features: Mapping[str, bool] = {}
    handlers: Sequence[Mapping[str, Any]] = ()


def labels(options: KubeletOptions, facts: Facts) -> dict[str, str]:
    """The labels of the node: those that a kubelet always gives, and the configured ones."""
    return {
        "beta.kubernetes.io/arch": facts.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": facts.architecture,
        "kubernetes.io/hostname": options.node_name,
        "kubernetes.io/os": "linux",
        **options.node_labels,
    }


def node(options: KubeletOptions, facts: Facts) -> dict[str, Any]:
    """The object to register, without its status."""
    taints = [{"key": t.key, "effect": t.effect, **({"value": t.value} if t.value else {})} for t in options.register_with_taints]
    spec: dict[str, Any] = {"taints": taints} if taints else {}
    if options.provider_id:
        spec["providerID"] = options.provider_id
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": options.node_name,
            "labels": labels(options, facts),
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true", **options.node_annotations},
        },
        "spec": spec,
    }


def foreign(live: Node | None) -> dict[str, str | int | float | None]:
    """Extended resources that others have put into the node's capacity: they can be allocated whole. What has gone from it is None."""
    if live is None:
        return {}
    offered = {name: amount for name, amount in live.status.capacity.items() if "/" in name}
    return {**{name: None for name in live.status.allocatable if "/" in name}, **offered}


def status(
    options: KubeletOptions,
    facts: Facts,
    runtime: Runtime,
    pressure: Collection[str],
    problem: str,
    before: Node | None,
    now: float,
    live: Node | None = None,
) -> dict[str, Any]:
    """The whole status, to be merged into the node's. `pressure`: the types of the conditions that hold; `problem`: what else keeps the
    node from being ready; `before`: the node as it was last written; `live`: as it is."""
    return {
        "addresses": [
            *({"type": "InternalIP", "address": ip} for ip in options.node_ips),
            {"type": "Hostname", "address": options.node_name},
        ],
        "capacity": machine.capacity(facts, options),
        "allocatable": {**machine.allocatable(facts, options), **foreign(live)},
        "daemonEndpoints": {"kubeletEndpoint": {"Port": options.port}},
        "nodeInfo": {
            "machineID": facts.machine_id,
            "systemUUID": facts.system_uuid,
            "bootID": facts.boot_id,
            "kernelVersion": facts.kernel,
            "osImage": facts.os_image,
            "containerRuntimeVersion": runtime.version,
            "kubeletVersion": options.version,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": facts.architecture,
            "swap": {"capacity": facts.swap},
        },
        "images": shown_images(runtime.images),
        "conditions": conditions(runtime, pressure, problem, before, now),
        **({"runtimeHandlers": [dict(h) for h in runtime.handlers]} if runtime.handlers else {}),
        **({"features": dict(runtime.features)} if runtime.features else {}),
    }


def shown_images(images: Iterable[Image]) -> list[dict[str, Any]]:
    """The largest images. The runtime lists them in no order: those of one size need one, or the status would seem to change."""
    largest = sorted(images, key=lambda image: (image.size, image.id), reverse=True)[:_IMAGES_SHOWN]
    return [{"names": list(image.names[:_NAMES_SHOWN]), "sizeBytes": image.size} for image in largest]


_PRESSURES = (
    ("MemoryPressure", "InsufficientMemory", "SufficientMemory", "insufficient memory available", "sufficient memory available"),
    ("DiskPressure", "DiskPressure", "NoDiskPressure", "disk pressure", "no disk pressure"),
    ("PIDPressure", "InsufficientPID", "SufficientPID", "insufficient PID available", "sufficient PID available"),
)


def pressure_reasons(pressure: Collection[str]) -> tuple[str, ...]:
    """What events about the node call each of the three, whether it is under that pressure or not."""
    return tuple(f"NodeHas{bad if type_ in pressure else good}" for type_, bad, good, _, _ in _PRESSURES)


def conditions(runtime: Runtime, pressure: Collection[str], problem: str, before: Node | None, now: float) -> list[dict[str, Any]]:
    """The node's conditions; each keeps its lastTransitionTime while its status stays."""
    out = [
        {
            "type": type_,
            "status": "True" if type_ in pressure else "False",
            "reason": f"KubeletHas{bad if type_ in pressure else good}",
            "message": f"kubelet has {worse if type_ in pressure else better}",
        }
        for type_, bad, good, worse, better in _PRESSURES
    ]
    problem = ", ".join(filter(None, (runtime.problem, problem)))
    ready = not problem
    out.append(
        {
            "type": "Ready",
            "status": "True" if ready else "False",
            "reason": "KubeletReady" if ready else "KubeletNotReady",
            "message": "kubelet is posting ready status" if ready else problem,
        }
    )
    known = {c.type: c for c in before.status.conditions} if before is not None else {}
    for condition in out:
        old = known.get(condition["type"])
        since = old.lastTransitionTime if old is not None and old.status == condition["status"] else None
        condition["lastHeartbeatTime"] = timestamp(now)
        condition["lastTransitionTime"] = since or timestamp(now)
    return out


def changed(old: dict[str, Any] | None, new: dict[str, Any]) -> bool:
    """Whether anything but heartbeats is different."""
    return old is None or _without_heartbeats(old) != _without_heartbeats(new)


def _without_heartbeats(status: dict[str, Any]) -> dict[str, Any]:
    kept = [{k: v for k, v in c.items() if k != "lastHeartbeatTime"} for c in status["conditions"]]
    return {**status, "conditions": kept}
