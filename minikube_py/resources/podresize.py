"""Resizing a running pod through pods/resize: what of a request counts, and what it may change. Pure.

Upstream: dropNonResizeUpdates and ValidatePodResize (KEP-1287, KEP-5419). What always holds: only amounts of CPU and memory, and resize
policies, change; nothing that was asked for or limited is taken away; the pod's quality of service stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minikube_py.meta import quantity
from minikube_py.meta.errors import Cause
from minikube_py.resources.api import Obj
from minikube_py.resources.quantities import qos_class
from minikube_py.resources.rules import Faults

_RESIZABLE = ("cpu", "memory")
_LISTED = ("containers", "initContainers")
MIRROR = "kubernetes.io/config.mirror"


def resized_spec(old: Obj, asked: Obj) -> Obj:
    """The stored spec with what a resize may change. Containers in another number, order or name stay as asked for: `faults` says so."""
    if any(len(asked.get(listed) or ()) != len(old.get(listed) or ()) for listed in _LISTED):
        return dict(asked)
    spec = dict(old)
    for listed in _LISTED:
        if old.get(listed):
            spec[listed] = _resized(old[listed], asked[listed])
    if "resources" in asked:
        spec["resources"] = asked["resources"]
    else:
        spec.pop("resources", None)
    return spec


def _resized(old: Sequence[Obj], asked: Sequence[Obj]) -> Sequence[Obj]:
    if [c.get("name") for c in old] != [c.get("name") for c in asked]:
        return asked
    merged = []
    for container, given in zip(old, asked, strict=True):
        container = dict(container)
        for field in ("resources", "resizePolicy"):
            if field in given:
                container[field] = given[field]
            else:
                container.pop(field, None)
        merged.append(container)
    return merged


def faults(obj: Obj, old: Obj) -> Faults:
    """What a resize may not do, beside being a sound pod."""
    spec, before = obj["spec"], old["spec"]
    if MIRROR in (old["metadata"].get("annotations") or {}):
        yield Cause.forbidden("", "static pods cannot be resized")
        return
    if (before.get("os") or {}).get("name") == "windows":
        yield Cause.forbidden("", "windows pods cannot be resized")
        return
    quality = (old.get("status") or {}).get("qosClass") or qos_class(before)
    if qos_class(spec) != quality:
        yield Cause.invalid("spec", quality, "Pod QOS Class may not change as a result of resizing")
    if not _node_resizes(old.get("status") or {}):
        yield Cause.forbidden("spec", "Pod running on node without support for resize")
    yield from _pod_level(spec.get("resources"), before.get("resources"))
    disordered = list(_order(spec, before))
    yield from disordered
    if disordered:
        return
    for listed in ("initContainers", "containers"):
        for i, (new, kept) in enumerate(zip(spec.get(listed) or (), before.get(listed) or (), strict=True)):
            path = f"spec.{listed}[{i}]"
            yield from _removed(f"{path}.resources", "resource", new.get("resources"), kept.get("resources"))
            if _others(new.get("resources")) != _others(kept.get("resources")):
                if listed == "containers":
                    yield Cause.forbidden("spec", "only cpu and memory resources are mutable")
                else:
                    yield Cause.forbidden(path, "only cpu and memory resources for init or sidecar containers are mutable")
            if listed == "initContainers" and new != kept and new.get("restartPolicy") != "Always":
                for policy in new.get("resizePolicy") or ():
                    if policy.get("restartPolicy") == "RestartContainer":
                        words = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
                        yield Cause.forbidden(path, words)
            if new.get("resizePolicy") != kept.get("resizePolicy"):
                yield Cause.forbidden("spec", "only cpu and memory resources are mutable")


def _node_resizes(status: Obj) -> bool:
    """Whether the node is known to resize: one that does tells what its running containers have."""
    running = [c for c in status.get("containerStatuses") or () if (c.get("state") or {}).get("running") is not None]
    return not running or running[0].get("resources") is not None


def _order(spec: Obj, before: Obj) -> Faults:
    for listed in _LISTED:
        new, old = spec.get(listed) or (), before.get(listed) or ()
        if len(new) != len(old):
            yield Cause.forbidden(f"spec.{listed}", f"{listed} may not be added or removed on resize")
            continue
        for i, (one, other) in enumerate(zip(new, old, strict=True)):
            if one.get("name") != other.get("name"):
                yield Cause.forbidden(f"spec.{listed}[{i}].name", f"{listed} may not be renamed or reordered on resize")


def _pod_level(new: Obj | None, old: Obj | None) -> Faults:
    if not _given(new) and not _given(old):
        return
    if old is not None and new is None:
        yield Cause.forbidden("spec.resources", "pod-level resources cannot be removed")
        return
    if old is not None:
        yield from _removed("spec.resources", "pod-level resource", new, old)
    if _others(new) != _others(old):
        yield Cause.forbidden("spec", "only cpu and memory resources are mutable at pod-level")


def _given(resources: Obj | None) -> bool:
    return bool(resources and (resources.get("requests") or resources.get("limits")))


def _removed(path: str, what: str, new: Obj | None, old: Obj | None) -> Faults:
    for part in ("requests", "limits"):
        given, had = (new or {}).get(part) or {}, (old or {}).get(part) or {}
        if any(name not in given for name in had):
            yield Cause.forbidden(f"{path}.{part}", f"{what} {part} cannot be removed")


def _others(resources: Obj | None) -> Any:
    """What of resources cannot be resized."""
    kept: dict[str, Any] = {}
    for field, value in (resources or {}).items():
        if field in ("requests", "limits"):
            value = {n: quantity.parse(v).nano for n, v in (value or {}).items() if n not in _RESIZABLE}
        if value:
            kept[field] = value
    return kept
