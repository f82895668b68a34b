"""Resizing pods in place (KEP-1287, KEP-5419): what was allocated to a pod, and what is to be done until its containers have it. Pure.

Three amounts are told apart: what the pod's spec asks for (desired), what the node has granted (allocated), and what the runtime was last
told (actuated). A worker always works with the pod as allocated; the spec becomes the allocation when the node has room for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from minikube_py.kubelet.resources import (
    Amounts,
    PodLimits,
    amounts,
    cpu_limit,
    memory_bytes,
    milli_cpu,
    pod_level,
    pod_limits,
    pod_requests,
    qos_class,
)
from minikube_py.kubelet.state import ContainerRecord, PodState
from minikube_py.meta import quantity
from minikube_py.types.pod import Container, Pod, Quantities, ResourceRequirements

RETRY_SECONDS = 180.0
"""After which a deferred resize is looked at again, whatever happens meanwhile."""


class Allocation(msgspec.Struct, frozen=True):
    """What the node has granted a pod: by container name, and to the pod as a whole where it asks as a whole."""

    containers: Mapping[str, ResourceRequirements]
    pod: ResourceRequirements | None = None


def allocation_of(pod: Pod) -> Allocation:
    """The allocation that is what the pod asks for."""
    return Allocation({c.name: c.resources for c in (*pod.spec.containers, *pod.spec.initContainers)}, pod.spec.resources)


def allocated(pod: Pod, allocation: Allocation) -> Pod:
    """The pod as it was granted; the very same one where that is what it asks for."""
    if not _differs(pod, allocation):
        return pod

    def granted(containers: Sequence[Container]) -> tuple[Container, ...]:
        known = allocation.containers
        return tuple(msgspec.structs.replace(c, resources=known.get(c.name, c.resources)) for c in containers)

    spec = msgspec.structs.replace(
        pod.spec,
        containers=granted(pod.spec.containers),
        initContainers=granted(pod.spec.initContainers),
        resources=allocation.pod,
    )
    return msgspec.structs.replace(pod, spec=spec)


def _differs(pod: Pod, allocation: Allocation) -> bool:
    everybody = (*pod.spec.containers, *pod.spec.initContainers)
    return not _same(pod.spec.resources, allocation.pod) or any(
        not _same(c.resources, allocation.containers.get(c.name, c.resources)) for c in everybody
    )


def _same(a: ResourceRequirements | None, b: ResourceRequirements | None) -> bool:
    if a is b:
        return True
    one, other = a or ResourceRequirements(), b or ResourceRequirements()
    return _equal(one.requests, other.requests) and _equal(one.limits, other.limits)


def _equal(a: Quantities, b: Quantities) -> bool:
    return a is b or (a.keys() == b.keys() and all(quantity.parse(v) == quantity.parse(b[k]) for k, v in a.items()))


class Update(NamedTuple):
    """A container that runs and is to be given other amounts."""

    container: Container
    record: ContainerRecord
    before: Amounts
    after: Amounts


class Resize(NamedTuple):
    """What is to be done for a pod's running containers, and whether its own cgroup is to change. `restarts` cannot do it in place."""

    updates: tuple[Update, ...] = ()
    restarts: tuple[Update, ...] = ()
    whole: bool = False

    @property
    def due(self) -> bool:
        """Whether anything is left to do."""
        return bool(self.updates or self.restarts or self.whole)


Actuated = Callable[[ContainerRecord], Amounts | None]
"""What a running container was last given; None where that is not known."""


def compute(pod: Pod, state: PodState, actuated: Actuated, actuated_pod: ResourceRequirements | None) -> Resize:
    """What separates the running containers of a pod from its allocation; `pod` is the pod as allocated."""
    whole = pod_level(pod)
    updates: list[Update] = []
    restarts: list[Update] = []
    for container in (*pod.spec.initContainers, *pod.spec.containers):
        record = state.of(container.name)
        if record is None or not record.running or (before := actuated(record)) is None:
            continue
        after = amounts(whole, container.resources)
        if after != before:
            update = Update(container, record, before, after)
            (restarts if _restarts(update) else updates).append(update)
    return Resize(tuple(updates), tuple(restarts), whole is not None and not _same_cpu_and_memory(whole, actuated_pod))


def _restarts(update: Update) -> bool:
    before, after = update.before, update.after
    cpu = (before.cpu_request, before.cpu_limit) != (after.cpu_request, after.cpu_limit)
    memory = (before.memory_request, before.memory_limit) != (after.memory_request, after.memory_limit)
    changed = {"cpu": cpu, "memory": memory}
    return any(changed.get(p.resourceName) and p.restartPolicy == "RestartContainer" for p in update.container.resizePolicy)


def _same_cpu_and_memory(a: ResourceRequirements, b: ResourceRequirements | None) -> bool:
    other = b or ResourceRequirements()
    return all(
        milli_cpu(one) == milli_cpu(two) and memory_bytes(one) == memory_bytes(two)
        for one, two in ((a.requests, other.requests), (a.limits, other.limits))
    )


# The order of steps


def memory_order(updates: Sequence[Update]) -> list[Update]:
    """Those of other memory amounts, what shrinks before what grows, so that the sum never exceeds the pod's limit on the way."""
    return _ordered(updates, lambda given: (given.memory_limit, given.memory_request))


def cpu_order(updates: Sequence[Update]) -> list[Update]:
    """Those of other CPU amounts, what shrinks before what grows."""
    return _ordered(updates, lambda given: (given.cpu_limit, given.cpu_request))


def _ordered(updates: Sequence[Update], part: Callable[[Amounts], tuple[int, int]]) -> list[Update]:
    changed = [u for u in updates if part(u.before) != part(u.after)]
    return sorted(changed, key=lambda u: part(u.after) > part(u.before))


def too_small(resize: Resize, limits: PodLimits, before: PodLimits, usage: Mapping[str, int], pod_usage: int | None) -> str:
    """Why memory limits cannot go down now, by what containers (id → bytes) and the pod use; empty where they can."""
    problems = []
    if limits.memory is not None and (before.memory is None or limits.memory < before.memory):
        if pod_usage is None:
            problems.append("missing pod memory usage")
        elif pod_usage >= limits.memory:
            problems.append(f"attempting to set pod memory limit ({limits.memory}) below current usage ({pod_usage})")
    for update in resize.updates:
        wanted = update.after.memory_limit
        if not wanted or (update.before.memory_limit and wanted >= update.before.memory_limit):
            continue
        used = usage.get(update.record.id)
        if used is None:
            problems.append(f'missing container "{update.container.name}" memory usage')
        elif used >= wanted:
            problems.append(f'attempting to set container "{update.container.name}" memory limit ({wanted}) below current usage ({used})')
    if not problems:
        return ""
    return "cannot decrease memory limits: " + (problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


# Which of several deferred resizes comes first


def priority(pod: Pod, granted: Pod, since: str) -> tuple[bool, int, bool, str]:
    """A sort key: what asks for no more, then the pod's priority, its quality of service, and how long it has been waiting."""
    new, old = pod_requests(pod), pod_requests(granted)
    grows = new.cpu > old.cpu or new.memory > old.memory
    return grows, -(pod.spec.priority or 0), qos_class(pod) != "Guaranteed", since


# What is said


def summary(pod: Pod, generation: int, error: str = "") -> str:
    """The resources in an event's message, as JSON."""
    out: dict[str, object] = {}
    for field, listed in (("initContainers", pod.spec.initContainers), ("containers", pod.spec.containers)):
        if listed:
            out[field] = [{"name": c.name, "resources": _shown(c.resources)} for c in listed]
    if pod.spec.resources is not None:
        out["resources"] = _shown(pod.spec.resources)
    out["generation"] = generation
    if error:
        out["error"] = error
    return msgspec.json.encode(out).decode()


def _shown(given: ResourceRequirements) -> dict[str, object]:
    out: dict[str, object] = {}
    if given.limits:
        out["limits"] = dict(given.limits)
    if given.requests:
        out["requests"] = dict(given.requests)
    return out


def of_the_whole(pod: Pod, actuated: ResourceRequirements | None = None) -> dict[str, object]:
    """`status.allocatedResources`, what the pod as a whole was granted, and `status.resources`, what it has: as `actuated` says, or else
    what it was granted."""
    asked, _ = _whole(pod)
    has = pod if actuated is None else msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, resources=actuated))
    requests, limits = _whole(has)
    out: dict[str, object] = {}
    if requests or limits:
        out["resources"] = {**({"limits": limits} if limits else {}), **({"requests": requests} if requests else {})}
    if asked:
        out["allocatedResources"] = asked
    return out


def _whole(pod: Pod) -> tuple[dict[str, object], dict[str, object]]:
    """The requests and limits of a pod as a whole."""
    limits = pod_limits(pod)
    requests = pod_requests(pod)
    whole = pod_level(pod) or ResourceRequirements()
    asked: dict[str, object] = {}
    if requests.cpu:
        asked["cpu"] = whole.requests.get("cpu") or str(quantity.of_milli(requests.cpu))
    if requests.memory:
        asked["memory"] = whole.requests.get("memory") or str(quantity.of_value(requests.memory, quantity.Format.BINARY_SI))
    bounds: dict[str, object] = {}
    if limits.quota is not None:
        bounds["cpu"] = whole.limits.get("cpu") or str(quantity.of_milli(cpu_limit(pod)))
    if limits.memory is not None:
        bounds["memory"] = whole.limits.get("memory") or str(quantity.of_value(limits.memory, quantity.Format.BINARY_SI))
    return asked, bounds


def actual(given: ResourceRequirements, actuated: Amounts | None, whole: ResourceRequirements | None) -> dict[str, object]:
    """`status.containerStatuses[].resources`: the allocated resources, with the amounts that the container really has where they differ."""
    wanted = amounts(whole, given)
    limits, requests = dict(given.limits), dict(given.requests)
    if actuated is not None and actuated != wanted:
        for table, name, is_, should in (
            (limits, "cpu", actuated.cpu_limit, wanted.cpu_limit),
            (requests, "cpu", actuated.cpu_request, wanted.cpu_request),
            (limits, "memory", actuated.memory_limit, wanted.memory_limit),
            (requests, "memory", actuated.memory_request, wanted.memory_request),
        ):
            if is_ == should:
                continue
            if not is_:
                table.pop(name, None)
            elif name == "cpu":
                table[name] = str(quantity.of_milli(is_))
            else:
                table[name] = str(quantity.of_value(is_, quantity.Format.BINARY_SI))
    return _shown(ResourceRequirements(limits=limits, requests=requests))
