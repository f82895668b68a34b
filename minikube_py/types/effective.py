"""What a pod counts for while it is resized in place (KEP-1287): nothing is given away before the node has let go of it.

A container is reckoned with the greatest of what its spec asks for, what its node has promised (`allocatedResources`) and what it runs
with (`resources` of its status); an infeasible resize leaves the spec out. Upstream: UseStatusResources of component-helpers.
"""

from __future__ import annotations

from minikube_py.meta import quantity
from minikube_py.types.pod import Container, Pod, Quantities, ResourceRequirements


def container_resources(pod: Pod, container: Container) -> ResourceRequirements:
    """What one of the pod's containers counts for. An init container that ends is never resized."""
    status, spec = pod.status, container.resources
    if not status.containerStatuses and not status.initContainerStatuses:
        return spec
    found = next((s for s in (*status.containerStatuses, *status.initContainerStatuses) if s.name == container.name), None)
    if found is None or found.resources is None or (container.restartPolicy != "Always" and container in pod.spec.initContainers):
        return spec
    return _effective(pod, spec, found.resources, found.allocatedResources)


def pod_resources(pod: Pod) -> ResourceRequirements | None:
    """What the pod sets for itself as a whole, where it does."""
    spec, status = pod.spec.resources, pod.status
    if spec is None or status.resources is None:
        return spec
    found = _effective(pod, spec, status.resources, status.allocatedResources)
    return ResourceRequirements(_only(found.limits, spec.limits), _only(found.requests, spec.requests))


def granted(pod: Pod) -> object:
    """All that the node's answers to a resize say; equal as long as the pod counts for the same."""
    status = pod.status
    containers = tuple((s.name, s.resources, s.allocatedResources) for s in (*status.containerStatuses, *status.initContainerStatuses))
    return containers, status.resources, status.allocatedResources, _is_infeasible(pod)


def _effective(pod: Pod, spec: ResourceRequirements, actuated: ResourceRequirements, allocated: Quantities) -> ResourceRequirements:
    if spec == actuated and spec.requests == allocated:
        return spec
    asked = ResourceRequirements() if _is_infeasible(pod) else spec
    return ResourceRequirements(_greatest(asked.limits, actuated.limits), _greatest(asked.requests, actuated.requests, allocated))


def _is_infeasible(pod: Pod) -> bool:
    return any(c.type == "PodResizePending" and c.reason == "Infeasible" for c in pod.status.conditions)


def _greatest(*lists: Quantities) -> Quantities:
    out: dict[str, str | int | float] = {}
    for each in lists:
        for name, value in each.items():
            if name not in out or quantity.parse(out[name]) < quantity.parse(value):
                out[name] = value
    return out


def _only(found: Quantities, names: Quantities) -> Quantities:
    return {name: value for name, value in found.items() if name in names}
