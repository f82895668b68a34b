"""What a pod asks for and is limited to, in all: the sums over its containers that quotas and limit ranges go by.

Upstream: component-helpers' PodRequests and PodLimits. Containers run together, init containers one after another beside the sidecars
that were started before them; what a pod sets for itself counts in place of its containers' sum; overhead comes on top. Quotas go by what
is in effect while a pod is resized, limit ranges by what its spec says alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from minikube_py.meta import quantity
from minikube_py.meta.quantity import Quantity
from minikube_py.types import effective
from minikube_py.types.pod import Container, Pod, Quantities, ResourceRequirements

Amounts = Mapping[str, Quantity]
_OF_PODS = ("cpu", "memory")
"""What can be set for a pod as a whole; huge pages beside it."""


def parsed(quantities: Quantities) -> dict[str, Quantity]:
    """The amounts of a list of quantities."""
    return {name: quantity.parse(value) for name, value in quantities.items()}


def added(a: Amounts, b: Amounts) -> dict[str, Quantity]:
    """The sum, name by name."""
    total = dict(a)
    for name, amount in b.items():
        total[name] = total[name] + amount if name in total else amount
    return total


def _greatest(a: Amounts, b: Amounts) -> dict[str, Quantity]:
    return {name: max(amounts) for name in {**a, **b} if (amounts := [each[name] for each in (a, b) if name in each])}


def _sum(pod: Pod, of: Callable[[Container], Quantities]) -> dict[str, Quantity]:
    total: dict[str, Quantity] = {}
    for container in pod.spec.containers:
        total = added(total, parsed(of(container)))
    sidecars: dict[str, Quantity] = {}
    peak: dict[str, Quantity] = {}
    for container in pod.spec.initContainers:
        amounts = parsed(of(container))
        if container.restartPolicy == "Always":
            total, sidecars = added(total, amounts), added(sidecars, amounts)
            peak = _greatest(peak, sidecars)
        else:
            peak = _greatest(peak, added(sidecars, amounts))
    return _greatest(total, peak)


def _of_pod(quantities: Quantities) -> dict[str, Quantity]:
    return {name: amount for name, amount in parsed(quantities).items() if name in _OF_PODS or name.startswith("hugepages-")}


def requests(pod: Pod) -> dict[str, Quantity]:
    """What the spec asks for, without overhead."""
    return _whole(_sum(pod, lambda container: container.resources.requests), pod.spec.resources, lambda r: r.requests)


def limits(pod: Pod) -> dict[str, Quantity]:
    """What the spec limits the pod to, without overhead."""
    return _whole(_sum(pod, lambda container: container.resources.limits), pod.spec.resources, lambda r: r.limits)


def effective_requests(pod: Pod) -> dict[str, Quantity]:
    """What the pod counts for, with overhead."""
    total = _sum(pod, lambda container: effective.container_resources(pod, container).requests)
    return added(_whole(total, effective.pod_resources(pod), lambda r: r.requests), parsed(pod.spec.overhead))


def effective_limits(pod: Pod) -> dict[str, Quantity]:
    """What the pod may use, as it counts; overhead only raises limits that there are."""
    total = _sum(pod, lambda container: effective.container_resources(pod, container).limits)
    total = _whole(total, effective.pod_resources(pod), lambda r: r.limits)
    return total | {n: total[n] + amount for n, amount in parsed(pod.spec.overhead).items() if total.get(n)}


def _whole(
    total: dict[str, Quantity], of_pod: ResourceRequirements | None, of: Callable[[ResourceRequirements], Quantities]
) -> dict[str, Quantity]:
    return total if of_pod is None else total | _of_pod(of(of_pod))
