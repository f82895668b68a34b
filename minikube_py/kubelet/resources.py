"""Requests and limits as the kernel wants them: QoS class, shares, quotas, oom scores, the limits of a whole pod.

Pure. Amounts: CPU in thousandths of a core, memory in bytes. The formulas are the kubelet's: shares = milli * 1024 / 1000 (at least 2),
quota = milli * period / 1000 (at least 1000 µs); cpu.weight of cgroup v2 comes from the shares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from minikube_py.meta import quantity
from minikube_py.types.pod import Container, Pod, Quantities, ResourceRequirements

CPU_PERIOD = 100_000
MIN_SHARES = 2
MAX_SHARES = 262_144
MIN_QUOTA = 1000

GUARANTEED = "Guaranteed"
BURSTABLE = "Burstable"
BEST_EFFORT = "BestEffort"

_CRITICAL_PRIORITY = 2_000_000_000


def milli_cpu(amounts: Quantities) -> int:
    """The cpu entry in thousandths of a core; 0 where there is none."""
    value = amounts.get("cpu")
    return quantity.parse(value).milli() if value is not None else 0


def memory_bytes(amounts: Quantities) -> int:
    """The memory entry in bytes; 0 where there is none."""
    value = amounts.get("memory")
    return quantity.parse(value).value() if value is not None else 0


def requests_of(container: Container) -> Mapping[str, str | int | float]:
    """A container's requests, where a limit stands in for a request that is missing."""
    return {**container.resources.limits, **container.resources.requests}


def is_sidecar(container: Container) -> bool:
    """Whether an init container is one that keeps running beside the others. Only meaningful for init containers."""
    return container.restartPolicy == "Always"


def qos_class(pod: Pod) -> str:
    """The pod's quality of service; the status's word where it is set, since it never changes."""
    if pod.status.qosClass:
        return pod.status.qosClass
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    guaranteed = True
    whole = pod_level(pod)
    given = (whole,) if whole is not None else tuple(c.resources for c in (*pod.spec.containers, *pod.spec.initContainers))
    for amounts in given:
        limited = 0
        for name in ("cpu", "memory"):
            request, limit = amounts.requests.get(name), amounts.limits.get(name)
            if request is not None and (amount := quantity.parse(request).nano) > 0:
                requests[name] = requests.get(name, 0) + amount
            if limit is not None and (amount := quantity.parse(limit).nano) > 0:
                limits[name] = limits.get(name, 0) + amount
                limited += 1
        guaranteed = guaranteed and limited == 2
    if not requests and not limits:
        return BEST_EFFORT
    return GUARANTEED if guaranteed and requests == limits else BURSTABLE


def pod_level(pod: Pod) -> ResourceRequirements | None:
    """What the pod as a whole asks for and is limited to (KEP-2837), where it says so."""
    whole = pod.spec.resources
    return whole if whole is not None and (whole.requests or whole.limits) else None


class Amounts(NamedTuple):
    """What a container asks for and is limited to: CPU in thousandths of a core, memory in bytes; 0 is none."""

    cpu_request: int = 0
    cpu_limit: int = 0
    memory_request: int = 0
    memory_limit: int = 0


def amounts(whole: ResourceRequirements | None, own: ResourceRequirements) -> Amounts:
    """A container's amounts; a limit of the whole pod holds for a container that has none of its own."""
    cpu_limit, memory_limit = milli_cpu(own.limits), memory_bytes(own.limits)
    if whole is not None:
        cpu_limit = cpu_limit or milli_cpu(whole.limits)
        memory_limit = memory_limit or memory_bytes(whole.limits)
    return Amounts(milli_cpu(own.requests), cpu_limit, memory_bytes(own.requests), memory_limit)


def cpu_shares(milli: int) -> int:
    """cpu.shares of cgroup v1 for an amount of CPU."""
    return min(max(milli * 1024 // 1000, MIN_SHARES), MAX_SHARES) if milli else MIN_SHARES


def cpu_quota(milli: int, period: int = CPU_PERIOD) -> int:
    """cfs_quota_us for a limit; 0 for no limit."""
    return max(milli * period // 1000, MIN_QUOTA) if milli else 0


def cpu_weight(shares: int) -> int:
    """cpu.weight of cgroup v2 for cpu.shares."""
    return 1 + ((min(max(shares, MIN_SHARES), MAX_SHARES) - 2) * 9999) // 262142


def shares_of_weight(weight: int) -> int:
    """The smallest cpu.shares that cpu.weight of cgroup v2 may have been made of."""
    return MIN_SHARES + -(-(weight - 1) * 262142 // 9999)


def oom_score_adj(pod: Pod, container: Container, memory_capacity: int) -> int:
    """How early the kernel kills the container when memory is short: the less it asked for, the earlier."""
    if (pod.spec.priority or 0) >= _CRITICAL_PRIORITY:
        return -997
    qos = qos_class(pod)
    if qos == GUARANTEED:
        return -997
    if qos == BEST_EFFORT:
        return 1000
    request = memory_bytes(requests_of(container)) + _unclaimed(pod)
    adjust = 1000 - (1000 * request) // max(memory_capacity, 1)
    if container in pod.spec.initContainers and is_sidecar(container):
        adjust = min(adjust, min((oom_score_adj(pod, c, memory_capacity) for c in pod.spec.containers), default=adjust))
    if adjust < 1000 - 997:
        return 1000 - 997
    return adjust - 1 if adjust == 1000 else adjust


def _unclaimed(pod: Pod) -> int:
    """Each long-lived container's share of the memory that the pod as a whole asks for and no container does."""
    whole = pod_level(pod)
    if whole is None or "memory" not in whole.requests:
        return 0
    left = memory_bytes(whole.requests) - _total(pod, lambda c: memory_bytes(requests_of(c)))
    long_lived = len(pod.spec.containers) + sum(1 for c in pod.spec.initContainers if is_sidecar(c))
    return max(left, 0) // max(long_lived, 1)


class Requests(NamedTuple):
    """CPU in thousandths of a core and memory in bytes; 0 is none."""

    cpu: int
    memory: int


def pod_requests(pod: Pod) -> Requests:
    """What the pod as a whole asks for: as it says, or its containers and sidecars together, or its most demanding init step; plus
    overhead."""
    cpu, memory = _total(pod, lambda c: milli_cpu(requests_of(c))), _total(pod, lambda c: memory_bytes(requests_of(c)))
    if (whole := pod_level(pod)) is not None:
        cpu = milli_cpu(whole.requests) if "cpu" in whole.requests else cpu
        memory = memory_bytes(whole.requests) if "memory" in whole.requests else memory
    return Requests(cpu + milli_cpu(pod.spec.overhead), memory + memory_bytes(pod.spec.overhead))


def requested(pod: Pod, name: str) -> int:
    """What the pod as a whole asks for of any resource, in units: cpu in thousandths."""
    if name == "cpu":
        return pod_requests(pod).cpu
    if name == "memory":
        return pod_requests(pod).memory
    amount: Callable[[Container], int] = lambda c: _value(requests_of(c), name)  # noqa: E731 - one key, three uses
    return _total(pod, amount) + _value(pod.spec.overhead, name)


def _value(given: Quantities, name: str) -> int:
    return quantity.parse(given[name]).value() if name in given else 0


class PodLimits(NamedTuple):
    """What the pod's own cgroup is set to. Quota and memory are None where some container is unlimited."""

    shares: int
    quota: int | None
    memory: int | None
    hugepages: Mapping[int, int] = {}
    """Bytes by the pages' size in bytes; 0 of any other size."""


def pod_limits(pod: Pod) -> PodLimits:
    """The settings of the pod's cgroup, by its QoS class."""
    qos = qos_class(pod)
    hugepages = _hugepages(pod)
    if qos == BEST_EFFORT:
        return PodLimits(MIN_SHARES, None, None, hugepages)
    everybody = (*pod.spec.containers, *pod.spec.initContainers)
    whole = pod_level(pod)
    limits: Quantities = whole.limits if whole is not None else {}
    quota = memory = None
    if "cpu" in limits or qos == GUARANTEED or all(c.resources.limits.get("cpu") is not None for c in everybody):
        quota = cpu_quota(cpu_limit(pod)) or None
    if "memory" in limits:
        memory = memory_bytes(limits) + memory_bytes(pod.spec.overhead) or None
    elif qos == GUARANTEED or all(c.resources.limits.get("memory") is not None for c in everybody):
        memory = _total(pod, lambda c: memory_bytes(c.resources.limits)) + memory_bytes(pod.spec.overhead) or None
    return PodLimits(cpu_shares(pod_requests(pod).cpu), quota, memory, hugepages)


def _hugepages(pod: Pod) -> Mapping[int, int]:
    whole = pod_level(pod)
    found = {name: requested(pod, name) for c in (*pod.spec.containers, *pod.spec.initContainers) for name in requests_of(c)}
    found |= {name: _value(whole.requests, name) for name in whole.requests} if whole is not None else {}
    return {size: found[name] for name in found if (size := hugepage_size(name))}


def container_hugepages(pod: Pod, container: Container) -> Mapping[int, int]:
    """A container's limits of huge pages in bytes, by the pages' size; those of the pod as a whole where it has none of its own."""
    whole = pod_level(pod)
    limits = {**(whole.limits if whole is not None else {}), **container.resources.limits}
    return {size: _value(limits, name) for name in limits if (size := hugepage_size(name))}


def hugepage_size(resource: str) -> int:
    """The size in bytes of the pages that a resource counts; 0 for one that is no huge pages."""
    prefix, _, size = resource.partition("-")
    return quantity.parse(size).value() if prefix == "hugepages" and size else 0


def hugepage_text(size: int) -> str:
    """A page's size as the kernel's files are named by it: 2MB."""
    for unit, name in ((1 << 30, "GB"), (1 << 20, "MB")):
        if size >= unit:
            return f"{size // unit}{name}"
    return f"{size >> 10}KB"


def cpu_limit(pod: Pod) -> int:
    """The CPU that the pod as a whole may use, where every container of it is limited."""
    whole = pod_level(pod)
    if whole is not None and "cpu" in whole.limits:
        return milli_cpu(whole.limits) + milli_cpu(pod.spec.overhead)
    return _total(pod, lambda c: milli_cpu(c.resources.limits)) + milli_cpu(pod.spec.overhead)


def _total(pod: Pod, amount: Callable[[Container], int]) -> int:
    sidecars = 0
    peak = 0
    for container in pod.spec.initContainers:
        own = amount(container)
        if is_sidecar(container):
            sidecars += own
            peak = max(peak, sidecars)
        else:
            peak = max(peak, sidecars + own)
    return max(sum(amount(c) for c in pod.spec.containers) + sidecars, peak)


def burstable_requests(pods: Iterable[Pod]) -> int:
    """The CPU that all Burstable pods together ask for: the weight of their common cgroup."""
    return sum(pod_requests(pod).cpu for pod in pods if qos_class(pod) == BURSTABLE)
