"""Limit ranges: what containers get that say nothing, and what pods and claims may ask for. Values only.

Upstream: plugin/pkg/admission/limitranger. A limit range holds limits for containers, whole pods and claims; every one of a namespace
applies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from minikube_py.meta import quantity
from minikube_py.meta.quantity import Quantity
from minikube_py.resources import podresources
from minikube_py.resources.api import Obj
from minikube_py.resources.podresources import Amounts
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.meta import Object
from minikube_py.types.pod import Pod
from minikube_py.types.policy import LimitRange, LimitRangeItem

ANNOTATION = "kubernetes.io/limit-ranger"
_MOST_PRECISE = (2**63 - 1) // 1000
"""Amounts up to this are compared by the thousandth."""


def fill_in(range_: LimitRange, pod: Obj) -> None:
    """Give the containers of a pod the limits and requests that they do not name, and say so in an annotation."""
    limits: dict[str, str] = {}
    requests: dict[str, str] = {}
    for item in range_.spec.limits:
        if item.type == "Container":
            limits |= {name: quantity.canonical(value) for name, value in item.default.items()}
            requests |= {name: quantity.canonical(value) for name, value in item.defaultRequest.items()}
    said: list[str] = []
    spec = pod.get("spec") or {}
    for field, words in (("containers", "container"), ("initContainers", "init container")):
        for container in spec.get(field) or ():
            said += _merge(container, requests, "requests", f"request for {words} {container.get('name', '')}")
            said += _merge(container, limits, "limits", f"limit for {words} {container.get('name', '')}")
    if said:
        pod["metadata"].setdefault("annotations", {})[ANNOTATION] = "LimitRanger plugin set: " + "; ".join(said)


def _merge(container: Obj, amounts: Mapping[str, str], field: str, words: str) -> list[str]:
    given = (container.get("resources") or {}).get(field) or {}
    new = {name: value for name, value in amounts.items() if name not in given}
    if not new:
        return []
    resources = container["resources"] = dict(container.get("resources") or {})
    resources[field] = {**given, **new}
    return [f"{', '.join(sorted(new))} {words}"]


def faults(range_: LimitRange, obj: Object) -> list[str]:
    """What an object asks for that it may not."""
    if isinstance(obj, PersistentVolumeClaim):
        return [fault for item in range_.spec.limits if item.type == "PersistentVolumeClaim" for fault in _of_claim(item, obj)]
    if not isinstance(obj, Pod):
        return []
    found: list[str] = []
    for item in range_.spec.limits:
        if item.type == "Container":
            for container in (*obj.spec.containers, *obj.spec.initContainers):
                asked, limited = podresources.parsed(container.resources.requests), podresources.parsed(container.resources.limits)
                found += _of_compute(item, asked, limited)
        elif item.type == "Pod":
            found += _of_compute(item, podresources.requests(obj), podresources.limits(obj))
    return found


def _of_claim(item: LimitRangeItem, claim: PersistentVolumeClaim) -> Iterable[str]:
    asked = podresources.parsed(claim.spec.resources.requests)
    for name, least in sorted(podresources.parsed(item.min).items()):
        yield from _least(item.type, name, least, asked.get(name), None)
    for name, most in sorted(podresources.parsed(item.max).items()):
        start, wanted = f"maximum {name} usage per {item.type} is {most}", asked.get(name)
        if wanted is None:
            yield f"{start}.  No request is specified"
        elif _more(wanted, most):
            yield f"{start}, but request is {wanted}"


def _of_compute(item: LimitRangeItem, asked: Amounts, limited: Amounts) -> Iterable[str]:
    for name, least in sorted(podresources.parsed(item.min).items()):
        yield from _least(item.type, name, least, asked.get(name), limited.get(name))
    for name, most in sorted(podresources.parsed(item.max).items()):
        yield from _most(item.type, name, most, asked.get(name), limited.get(name))
    for name, ratio in sorted(podresources.parsed(item.maxLimitRequestRatio).items()):
        yield from _ratio(item.type, name, ratio, asked.get(name), limited.get(name))


def _least(kind: str, name: str, least: Quantity, asked: Quantity | None, limited: Quantity | None) -> Iterable[str]:
    start = f"minimum {name} usage per {kind} is {least}"
    if asked is None:
        yield f"{start}.  No request is specified"
    elif _more(least, asked):
        yield f"{start}, but request is {asked}"
    elif limited is not None and _more(least, limited):
        yield f"{start}, but limit is {limited}"


def _most(kind: str, name: str, most: Quantity, asked: Quantity | None, limited: Quantity | None) -> Iterable[str]:
    start = f"maximum {name} usage per {kind} is {most}"
    if limited is None:
        yield f"{start}.  No limit is specified"
    elif _more(limited, most):
        yield f"{start}, but limit is {limited}"
    elif asked is not None and _more(asked, most):
        yield f"{start}, but request is {asked}"


def _ratio(kind: str, name: str, most: Quantity, asked: Quantity | None, limited: Quantity | None) -> Iterable[str]:
    start = f"{name} max limit to request ratio per {kind} is {most}"
    if not asked:
        yield f"{start}, but no request is specified or request is 0"
    elif not limited:
        yield f"{start}, but no limit is specified or limit is 0"
    else:
        ratio = limited.nano / asked.nano
        if ratio * quantity.NANO > most.nano:
            yield f"{start}, but provided ratio is {ratio:f}"


def _more(a: Quantity, b: Quantity) -> bool:
    """Whether a is more than b, as exactly as upstream compares."""
    if a.value() <= _MOST_PRECISE and b.value() <= _MOST_PRECISE:
        return a.milli() > b.milli()
    return a.value() > b.value()
