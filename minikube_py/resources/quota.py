"""Resource quotas: what an object uses of a namespace's quotas, and which quotas are about it. Values only.

Upstream: pkg/quota/v1/evaluator/core. Objects of every kind are counted (`count/<plural>.<group>`, and a handful by their own names); pods,
services, volume claims and claims on devices are also measured by what they ask for. Admission and the quota controller both go by this
module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from minikube_py.meta import quantity
from minikube_py.meta.quantity import Quantity
from minikube_py.resources import podresources
from minikube_py.resources.podresources import added
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.devices import ResourceClaim
from minikube_py.types.meta import Object, parse_timestamp
from minikube_py.types.network import Service
from minikube_py.types.pod import Container, Pod, PodAffinityTerm, Quantities, is_terminal
from minikube_py.types.policy import ResourceQuota, ScopedResourceSelectorRequirement
from minikube_py.types.storage import BETA_CLASS

Usage = Mapping[str, Quantity]

UNCOUNTED = frozenset(
    {
        ("", "bindings"),
        ("", "componentstatuses"),
        ("", "events"),
        ("events.k8s.io", "events"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
    }
)
"""(group, plural) of what no quota is about."""

COUNTED = ("configmaps", "resourcequotas", "replicationcontrollers", "secrets")
"""Core kinds that quotas may also count by their plain names."""

_ONE = quantity.of_value(1)
_NONE = quantity.of_value(0)
_PODS = frozenset(
    {
        "pods",
        *(f"{prefix}{name}" for prefix in ("", "requests.", "limits.") for name in ("cpu", "memory", "ephemeral-storage")),
    }
)
_REQUIRED = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
"""Where a quota is about these, every container has to say how much of them it wants."""
_SERVICES = frozenset({"services", "services.nodeports", "services.loadbalancers"})
_CLAIMS = ("persistentvolumeclaims", "requests.storage")
_BY_CLASS = ".storageclass.storage.k8s.io/"
_DEVICES = ".deviceclass.resource.k8s.io/devices"
_ALL_DEVICES = 32
"""What a claim on all devices of a class counts for: the most that it could get."""


def count_name(group: str, plural: str) -> str:
    """The name by which a quota counts the objects of a kind."""
    return f"count/{plural}.{group}" if group else f"count/{plural}"


def counted(name: str) -> tuple[str, str] | None:
    """(group, plural) of the kind whose objects a name counts; None for what is measured otherwise."""
    if name in COUNTED:
        return "", name
    if not name.startswith("count/"):
        return None
    plural, _, group = name.removeprefix("count/").partition(".")
    return group, plural


def names_of(group: str, plural: str, names: Iterable[str]) -> frozenset[str]:
    """Those of a quota's names that objects of a kind use."""
    own = {count_name(group, plural)}
    if not group and plural in COUNTED:
        own.add(plural)
    found = {name for name in names if name in own}
    if (group, plural) == ("resource.k8s.io", "resourceclaims"):
        found |= {n for n in names if n.endswith(_DEVICES)}
    if group:
        return frozenset(found)
    if plural == "pods":
        found |= {n for n in names if n in _PODS or n.startswith(("hugepages-", "requests.hugepages-")) or _is_extended(n)}
    elif plural == "services":
        found |= {n for n in names if n in _SERVICES}
    elif plural == "persistentvolumeclaims":
        found |= {n for n in names if n in _CLAIMS or n.endswith(tuple(_BY_CLASS + claim for claim in _CLAIMS))}
    return frozenset(found)


def _is_extended(name: str) -> bool:
    if not name.startswith("requests.") or "/" not in name:
        return False
    return "kubernetes.io/" not in name or name.startswith("requests.deviceclass.resource.kubernetes.io/")


# What an object uses


def usage(group: str, plural: str, obj: Object | None, now: float) -> dict[str, Quantity]:
    """All that one object uses. What is measured comes as such views; of others nothing is looked at."""
    used: dict[str, Quantity] = {count_name(group, plural): _ONE}
    if not group and plural in COUNTED:
        used[plural] = _ONE
    match obj:
        case Pod() if holds(obj, now):
            used.update(_compute(podresources.effective_requests(obj), podresources.effective_limits(obj)))
        case Service():
            used.update(_service(obj))
        case PersistentVolumeClaim():
            used.update(_claim(obj))
        case ResourceClaim():
            used.update(_devices(obj))
    return used


def holds(pod: Pod, now: float) -> bool:
    """Whether a pod still holds what it asked for: not once it has ended, or should be gone by now."""
    meta = pod.metadata
    if is_terminal(pod):
        return False
    if meta.deletionTimestamp is None or meta.deletionGracePeriodSeconds is None:
        return True
    return now <= parse_timestamp(meta.deletionTimestamp) + meta.deletionGracePeriodSeconds


def _compute(requests: Usage, limits: Usage) -> dict[str, Quantity]:
    used = {"pods": _ONE}
    for name in ("cpu", "memory", "ephemeral-storage"):
        if name in requests:
            used[name] = used[f"requests.{name}"] = requests[name]
        if name in limits:
            used[f"limits.{name}"] = limits[name]
    for name, amount in requests.items():
        if name.startswith("hugepages-"):
            used[name] = used[f"requests.{name}"] = amount
        elif "/" in name:
            used[f"requests.{name}"] = amount
    return used


def _service(service: Service) -> dict[str, Quantity]:
    spec = service.spec
    ports = balancers = 0
    if spec.type == "NodePort":
        ports = len(spec.ports)
    elif spec.type == "LoadBalancer":
        balancers = 1
        # ports are allocated later: the intent counts
        ports = len(spec.ports) if spec.allocateLoadBalancerNodePorts else sum(1 for port in spec.ports if port.nodePort)
    return {
        "services": _ONE,
        "services.nodeports": quantity.of_value(ports),
        "services.loadbalancers": quantity.of_value(balancers),
    }


def _claim(claim: PersistentVolumeClaim) -> dict[str, Quantity]:
    storage_class = claim.metadata.annotations.get(BETA_CLASS) or claim.spec.storageClassName or ""
    used = {"persistentvolumeclaims": _ONE}
    wanted = claim.spec.resources.requests.get("storage")
    if wanted is not None:
        size = _whole(quantity.parse(wanted))
        allocated = claim.status.allocatedResources.get("storage")
        used["requests.storage"] = max(size, _whole(quantity.parse(allocated))) if allocated is not None else size
    if storage_class:
        used.update({f"{storage_class}{_BY_CLASS}{name}": amount for name, amount in list(used.items())})
    return used


def _devices(claim: ResourceClaim) -> dict[str, Quantity]:
    """Devices by class; of alternatives the most that one of them asks for."""
    totals: dict[str, int] = {}
    for request in claim.spec.devices.requests:
        most: dict[str, int] = {}
        for wanted in request.firstAvailable or ((request.exactly,) if request.exactly is not None else ()):
            name = wanted.deviceClassName + _DEVICES
            number = {"ExactCount": wanted.count, "All": _ALL_DEVICES}.get(wanted.allocationMode, 0)
            most[name] = max(most.get(name, 0), number)
        for name, number in most.items():
            totals[name] = totals.get(name, 0) + number
    return {name: quantity.of_value(number) for name, number in totals.items()}


def _whole(amount: Quantity) -> Quantity:
    return amount if amount.nano % quantity.NANO == 0 else quantity.of_value(amount.value(), amount.format)


# Which quotas are about an object


def requirements(quota: ResourceQuota) -> tuple[ScopedResourceSelectorRequirement, ...]:
    """The scopes of a quota: it is about the objects that are in all of them."""
    scopes = tuple(ScopedResourceSelectorRequirement(scopeName=scope, operator="Exists") for scope in quota.spec.scopes)
    return scopes + (quota.spec.scopeSelector.matchExpressions if quota.spec.scopeSelector is not None else ())


def in_scope(requirement: ScopedResourceSelectorRequirement, obj: Object | None) -> bool:
    """Whether an object is in a scope. Only pods and claims ever are."""
    scope = requirement.scopeName
    if isinstance(obj, PersistentVolumeClaim):
        return scope == "VolumeAttributesClass" and _selected(requirement, obj.spec.volumeAttributesClassName or "")
    if not isinstance(obj, Pod):
        return False
    match scope:
        case "Terminating":
            return is_bounded(obj)
        case "NotTerminating":
            return not is_bounded(obj)
        case "BestEffort":
            return obj.status.qosClass == "BestEffort"
        case "NotBestEffort":
            return obj.status.qosClass != "BestEffort"
        case "PriorityClass":
            return _selected(requirement, obj.spec.priorityClassName)
        case "CrossNamespacePodAffinity":
            return any(term.namespaces or term.namespaceSelector is not None for term in _terms(obj))
    return False


def is_bounded(pod: Pod) -> bool:
    """Whether a pod's time is limited: what the scope Terminating is about."""
    return pod.spec.activeDeadlineSeconds is not None and pod.spec.activeDeadlineSeconds >= 0


def _selected(requirement: ScopedResourceSelectorRequirement, name: str) -> bool:
    match requirement.operator:
        case "Exists":
            return bool(name)
        case "DoesNotExist":
            return not name
        case "In":
            return bool(name) and name in requirement.values
        case "NotIn":
            return name not in requirement.values
    return False


def _terms(pod: Pod) -> Iterable[PodAffinityTerm]:
    affinity = pod.spec.affinity
    for side in (affinity.podAffinity, affinity.podAntiAffinity) if affinity is not None else ():
        if side is not None:
            yield from side.requiredDuringSchedulingIgnoredDuringExecution
            yield from (preferred.podAffinityTerm for preferred in side.preferredDuringSchedulingIgnoredDuringExecution)


def missing(pod: Pod, names: Iterable[str]) -> str:
    """What the pod's containers have to say for quotas that are about these names, and do not; "" for nothing."""
    if pod.spec.resources is not None and (pod.spec.resources.requests or pod.spec.resources.limits):
        return ""
    wanted = _REQUIRED & set(names)
    silent: dict[str, list[str]] = {}
    for container in (*pod.spec.containers, *pod.spec.initContainers):
        for name in wanted - _said(container).keys():
            silent.setdefault(name, []).append(container.name)
    if not silent:
        return ""
    return "must specify " + "; ".join(f"{name} for: {','.join(sorted(set(silent[name])))}" for name in sorted(silent))


def _said(container: Container) -> dict[str, Quantity]:
    return _compute(podresources.parsed(container.resources.requests), podresources.parsed(container.resources.limits))


# Sums


def total(
    names: Iterable[str], group: str, plural: str, objects: Sequence[Object], quota: ResourceQuota, now: float
) -> dict[str, Quantity]:
    """What the objects of one kind use together of those of a quota's names that the kind is about."""
    about = names_of(group, plural, names)
    used = dict.fromkeys(about, _NONE)
    scopes = requirements(quota)
    for obj in objects:
        if all(in_scope(scope, obj) for scope in scopes):
            used = added(used, {n: amount for n, amount in usage(group, plural, obj, now).items() if n in about})
    return used


def difference(a: Usage, b: Usage) -> dict[str, Quantity]:
    """a - b, never below zero."""
    return {name: max(a.get(name, _NONE) - b.get(name, _NONE), _NONE) for name in {**a, **b}}


def printed(amounts: Usage) -> str:
    """Amounts as messages tell them: `cpu=1,pods=2`."""
    return ",".join(f"{name}={amounts[name]}" for name in sorted(amounts))


def parsed(quantities: Quantities) -> dict[str, Quantity]:
    """The amounts of a quota's list."""
    return podresources.parsed(quantities)
