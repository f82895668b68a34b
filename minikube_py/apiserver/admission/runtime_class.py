"""RuntimeClass: a pod that names a runtime class gets what the class asks for: its overhead, and where such pods can run.

What always holds: a pod's overhead is its class's; nobody else sets it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minikube_py.apiserver.admission.base import Plugin, is_about, refusal
from minikube_py.apiserver.api import AdmissionRequest, Operation
from minikube_py.apiserver.cache import Cache
from minikube_py.meta import quantity
from minikube_py.types.meta import ResourceRef

RUNTIME_CLASSES = ResourceRef("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False)

Toleration = Mapping[str, Any]


class RuntimeClass(Plugin):
    name = "RuntimeClass"
    resources = frozenset({("", "pods")})

    def __init__(self, cache: Cache) -> None:
        self._classes = cache.of(RUNTIME_CLASSES)

    async def admit(self, request: AdmissionRequest) -> None:
        if not _concerns(request):
            return
        chosen = self._class_of(request)
        spec = request.object.setdefault("spec", {}) if request.object is not None else {}
        if overhead := _overhead(chosen):
            if spec.get("overhead") and not _equal(overhead, spec["overhead"]):
                raise _mismatch(request)
            spec["overhead"] = dict(overhead)
        if scheduling := (chosen or {}).get("scheduling"):
            selector = spec.get("nodeSelector") or {}
            for key, value in (scheduling.get("nodeSelector") or {}).items():
                if selector.get(key, value) != value:
                    raise refusal(
                        request,
                        f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {selector[key]}",
                    )
                selector[key] = value
            if selector:
                spec["nodeSelector"] = selector
            if tolerations := merge_tolerations(spec.get("tolerations") or (), scheduling.get("tolerations") or ()):
                spec["tolerations"] = tolerations

    async def validate(self, request: AdmissionRequest) -> None:
        if not _concerns(request) or request.object is None:
            return
        overhead = _overhead(self._class_of(request))
        given = (request.object.get("spec") or {}).get("overhead")
        if overhead is None and given is not None:
            raise refusal(request, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
        if overhead is not None and not _equal(overhead, given or {}):
            raise _mismatch(request)

    def _class_of(self, request: AdmissionRequest) -> Mapping[str, Any] | None:
        name = ((request.object or {}).get("spec") or {}).get("runtimeClassName")
        if name is None:
            return None
        entry = self._classes.get("", name)
        if entry is None:
            raise refusal(request, f'pod rejected: RuntimeClass "{name}" not found')
        return entry.decode()


def merge_tolerations(first: Sequence[Toleration], second: Sequence[Toleration]) -> list[Toleration]:
    """Both lists without what another toleration covers; of equals the first stays."""
    everything = [*first, *second]
    merged: list[Toleration] = []
    for number, toleration in enumerate(everything):
        if any(_covers(other, toleration) for other in merged):
            continue
        if any(other != toleration and _covers(other, toleration) for other in everything[number + 1 :]):
            continue
        merged.append(toleration)
    return merged


def _covers(wide: Toleration, narrow: Toleration) -> bool:
    """Whether `wide` tolerates everything that `narrow` does."""
    if wide == narrow:
        return True
    operator = wide.get("operator") or "Equal"
    if narrow.get("key", "") != wide.get("key", "") and (wide.get("key") or operator != "Exists"):
        return False
    effect = wide.get("effect", "")
    if effect and narrow.get("effect", "") != effect:
        return False
    most = wide.get("tolerationSeconds")
    if effect == "NoExecute" and most is not None:
        seconds = narrow.get("tolerationSeconds")
        if seconds is None or seconds > most:
            return False
    if operator == "Equal":
        return narrow.get("operator") == "Equal" and bool(narrow.get("value", "") == wide.get("value", ""))
    return bool(operator == "Exists")


def _concerns(request: AdmissionRequest) -> bool:
    return request.operation is Operation.CREATE and not request.subresource and is_about(request, "", "pods")


def _overhead(chosen: Mapping[str, Any] | None) -> Mapping[str, str] | None:
    overhead = (chosen or {}).get("overhead")
    return None if overhead is None else overhead.get("podFixed") or {}


def _equal(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    return a.keys() == b.keys() and all(quantity.parse(a[name]) == quantity.parse(b[name]) for name in a)


def _mismatch(request: AdmissionRequest) -> Exception:
    return refusal(request, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
