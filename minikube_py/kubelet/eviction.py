"""Who has to go when the node runs short of memory, disk or process ids. Pure: observations in, a decision out.

The rules are the kubelet's (pkg/kubelet/eviction): a hard threshold counts at once, a soft one after its grace period; a crossed threshold
counts until its minimum reclaim is won back; a condition stays for its transition period after it was last observed. Of the pods, those go
first that use more than they asked for, then those of lower priority, then those that use the most above what they asked for; critical pods
never go. A pod that uses more local storage than it may goes without any pressure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from minikube_py.kubelet import resources
from minikube_py.kubelet.usage import PodUsage
from minikube_py.meta import quantity, thresholds
from minikube_py.meta.quantity import Format
from minikube_py.meta.thresholds import Threshold
from minikube_py.types.pod import Container, Pod, Quantities, Toleration, Volume

REASON = "Evicted"
IMMEDIATE_GRACE = 1
"""Seconds that a pod has to end when the node cannot wait."""

MEMORY_PRESSURE, DISK_PRESSURE, PID_PRESSURE = "MemoryPressure", "DiskPressure", "PIDPressure"

_CONDITION = {
    thresholds.MEMORY: MEMORY_PRESSURE,
    thresholds.ALLOCATABLE_MEMORY: MEMORY_PRESSURE,
    thresholds.NODEFS: DISK_PRESSURE,
    thresholds.NODEFS_INODES: DISK_PRESSURE,
    thresholds.IMAGEFS: DISK_PRESSURE,
    thresholds.IMAGEFS_INODES: DISK_PRESSURE,
    thresholds.PIDS: PID_PRESSURE,
}
_RESOURCE = {
    thresholds.MEMORY: "memory",
    thresholds.ALLOCATABLE_MEMORY: "memory",
    thresholds.NODEFS: "ephemeral-storage",
    thresholds.NODEFS_INODES: "inodes",
    thresholds.IMAGEFS: "ephemeral-storage",
    thresholds.IMAGEFS_INODES: "inodes",
    thresholds.PIDS: "pids",
}
_MEMORY_SIGNALS = (thresholds.MEMORY, thresholds.ALLOCATABLE_MEMORY)
_CRITICAL_PRIORITY = 2_000_000_000
_MEMORY_TAINT = "node.kubernetes.io/memory-pressure"


class Observation(NamedTuple):
    """How much of a signal is left, and how much there is altogether."""

    available: int
    capacity: int


Observations = Mapping[str, Observation]


class Memory(NamedTuple):
    """What one look has to know of those before it; times are seconds on one clock."""

    first_met: Mapping[Threshold, float] = {}
    acted_on: frozenset[Threshold] = frozenset()
    observed: Mapping[str, float] = {}
    """When a condition was last observed."""


class Decision(NamedTuple):
    """What follows from a look at the node."""

    memory: Memory
    conditions: tuple[str, ...] = ()
    """The pressure that the node is under, or was lately."""
    starved: tuple[Threshold, ...] = ()
    """Against which something is to be done now, the most urgent first."""

    @property
    def resource(self) -> str:
        """What is to be won back."""
        return _RESOURCE[self.starved[0].signal]


def decide(configured: Sequence[Threshold], seen: Observations, memory: Memory, period: float, now: float) -> Decision:
    """The decision; `period` is the conditions' transition period in seconds."""
    crossed = met(configured, seen)
    crossed += tuple(t for t in met(sorted(memory.acted_on), seen, reclaim=True) if t not in crossed)
    first_met = {threshold: memory.first_met.get(threshold, now) for threshold in crossed}
    observed = {**memory.observed, **{_CONDITION[t.signal]: now for t in crossed}}
    conditions = tuple(c for c in (MEMORY_PRESSURE, DISK_PRESSURE, PID_PRESSURE) if c in observed and now - observed[c] <= period)
    due = [threshold for threshold, since in first_met.items() if now - since >= threshold.grace]
    due.sort(key=lambda threshold: threshold.signal not in _MEMORY_SIGNALS)
    return Decision(Memory(first_met, frozenset(due), observed), conditions, tuple(due))


def met(configured: Iterable[Threshold], seen: Observations, *, reclaim: bool = False) -> tuple[Threshold, ...]:
    """The thresholds below which the node is; with `reclaim`, those that were crossed and are not yet won back."""
    out = []
    for threshold in configured:
        observation = seen.get(threshold.signal)
        if observation is None:
            continue
        wanted = threshold.amount.of(observation.capacity) + (threshold.reclaim.of(observation.capacity) if reclaim else 0)
        if observation.available < wanted:
            out.append(threshold)
    return tuple(out)


def reclaims_images(signal: str, image_fs: bool) -> bool:
    """Whether dead containers and unused images can help; `image_fs`: images have a file system of their own."""
    if signal in (thresholds.IMAGEFS, thresholds.IMAGEFS_INODES):
        return True
    return signal in (thresholds.NODEFS, thresholds.NODEFS_INODES) and not image_fs


# Who


def is_critical(pod: Pod) -> bool:
    """Whether a pod is never evicted: a static one, or one of system priority."""
    annotations = pod.metadata.annotations
    static = "kubernetes.io/config.mirror" in annotations or annotations.get("kubernetes.io/config.source", "api") != "api"
    return static or (pod.spec.priority or 0) >= _CRITICAL_PRIORITY


def rank(signal: str, pods: Iterable[Pod], usage: Mapping[str, PodUsage], image_fs: bool) -> list[Pod]:
    """The pods, the first to go first. A pod of which nothing is known goes before the others."""
    if signal == thresholds.PIDS:
        return sorted(pods, key=lambda p: (p.spec.priority or 0, -(usage[p.metadata.uid].processes if p.metadata.uid in usage else 0)))
    used = _used(signal, image_fs)
    resource = _RESOURCE[signal]

    def order(pod: Pod) -> tuple[bool, bool, int, int]:
        found = usage.get(pod.metadata.uid)
        if found is None:
            return (False, False, 0, 0)
        amount = used(pod, found)
        # inodes cannot be asked for; how much is above the request counts by storage, as upstream has it
        asked = request(pod, resource)
        above = amount - request(pod, "memory" if resource == "memory" else "ephemeral-storage")
        return (True, amount <= asked, pod.spec.priority or 0, -above)

    return sorted(pods, key=order)


def request(pod: Pod, resource: str) -> int:
    """What the pod as a whole asks for of a resource: its containers and sidecars, or its most demanding init step, with overhead."""
    sidecars = peak = 0
    for container in pod.spec.initContainers:
        own = _amount(container.resources.requests, resource)
        if container.restartPolicy == "Always":
            sidecars += own
            peak = max(peak, sidecars)
        else:
            peak = max(peak, sidecars + own)
    together = sum(_amount(c.resources.requests, resource) for c in pod.spec.containers) + sidecars
    return max(together, peak) + _amount(pod.spec.overhead, resource)


def _used(signal: str, image_fs: bool) -> Callable[[Pod, PodUsage], int]:
    if signal in _MEMORY_SIGNALS:
        return lambda pod, usage: usage.memory
    inodes = signal in (thresholds.NODEFS_INODES, thresholds.IMAGEFS_INODES)
    on_images = signal in (thresholds.IMAGEFS, thresholds.IMAGEFS_INODES)
    roots = on_images or not image_fs
    rest = not on_images or not image_fs

    def used(pod: Pod, usage: PodUsage) -> int:
        total = 0
        for container in usage.containers:
            total += (container.rootfs[inodes] if roots else 0) + (container.logs[inodes] if rest else 0)
        if rest:
            local = {v.name for v in pod.spec.volumes if _is_local(v)}
            total += sum(amounts[inodes] for name, amounts in usage.volumes.items() if name in local)
        return total

    return used


def _is_local(volume: Volume) -> bool:
    if volume.emptyDir is not None:
        return volume.emptyDir.medium == ""
    return volume.configMap is not None


# Words


def pressure_message(decision: Decision, seen: Observations, pod: Pod, usage: PodUsage | None) -> str:
    """What an evicted pod's status says."""
    resource = decision.resource
    out = f"The node was low on resource: {resource}. "
    for threshold in decision.starved:
        if _RESOURCE[threshold.signal] == resource and (found := seen.get(threshold.signal)) is not None:
            needed = _text(threshold.amount.of(found.capacity), resource)
            out += f"Threshold quantity: {needed}, available: {_text(found.available, resource)}. "
            break
    containers = {c.name: c for c in (*pod.spec.containers, *pod.spec.initContainers)}
    for found_usage in usage.containers if usage is not None else ():
        container = containers.get(found_usage.name)
        if container is None or resource not in ("memory", "ephemeral-storage"):
            continue
        used = found_usage.memory if resource == "memory" else found_usage.rootfs[0] + found_usage.logs[0]
        asked = container.resources.requests.get(resource)
        if used > _amount(container.resources.requests, resource):
            asked_text = quantity.canonical(asked) if asked is not None else "0"
            used_text = _text(used, resource)
            out += f"Container {container.name} was using {used_text}, request is {asked_text}, has larger consumption of {resource}. "
    return out


class Excess(NamedTuple):
    """A pod uses more local storage than it may: the limit's name among the signals, and what its status says."""

    signal: str
    message: str


def local_excess(pod: Pod, usage: PodUsage, image_fs: bool) -> Excess | None:
    """The first limit of local storage that a pod does not keep within."""
    for volume in pod.spec.volumes:
        if volume.emptyDir is None or volume.emptyDir.sizeLimit is None or volume.name not in usage.volumes:
            continue
        limit = quantity.parse(volume.emptyDir.sizeLimit).value()
        if 0 < limit < usage.volumes[volume.name][0]:
            most = quantity.canonical(volume.emptyDir.sizeLimit)
            return Excess("emptydirfs.limit", f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{most}". ')
    whole = storage_limit(pod)
    if whole is not None and usage.storage > whole.value():
        return Excess("ephemeralpodfs.limit", f"Pod ephemeral local storage usage exceeds the total limit of containers {whole}. ")
    limits = {c.name: c.resources.limits["ephemeral-storage"] for c in pod.spec.containers if "ephemeral-storage" in c.resources.limits}
    for container in usage.containers:
        own = limits.get(container.name)
        used = container.logs[0] + (0 if image_fs else container.rootfs[0])
        if own is not None and 0 < quantity.parse(own).value() < used:
            said = f'Container {container.name} exceeded its local ephemeral storage limit "{quantity.canonical(own)}". '
            return Excess("ephemeralcontainerfs.limit", said)
    return None


def has_local_limits(pod: Pod) -> bool:
    """Whether a pod's local storage is limited at all, so that it has to be measured."""
    return storage_limit(pod) is not None or any(v.emptyDir is not None and v.emptyDir.sizeLimit is not None for v in pod.spec.volumes)


def storage_limit(pod: Pod) -> quantity.Quantity | None:
    """How much local storage the pod as a whole may use; None where no container has a limit."""

    def of(container: Container) -> quantity.Quantity | None:
        text = container.resources.limits.get("ephemeral-storage")
        return None if text is None else quantity.parse(text)

    found = [amount for c in pod.spec.containers if (amount := of(c)) is not None]
    inits = [amount for c in pod.spec.initContainers if (amount := of(c)) is not None]
    if not found and not inits:
        return None
    total = found[0] if found else quantity.of_value(0)
    for amount in found[1:]:
        total = total + amount
    return max((total, *inits))


def refusal(conditions: Sequence[str], pod: Pod) -> str:
    """Why a pod is not let onto a node that is under pressure; "" where it is."""
    if not conditions or is_critical(pod):
        return ""
    if tuple(conditions) == (MEMORY_PRESSURE,) and (resources.qos_class(pod) != resources.BEST_EFFORT or _tolerates_memory_pressure(pod)):
        return ""
    return f"The node had condition: [{' '.join(conditions)}]. "


def _tolerates_memory_pressure(pod: Pod) -> bool:
    def tolerates(toleration: Toleration) -> bool:
        if toleration.effect not in ("", "NoSchedule"):
            return False
        if toleration.operator == "Exists":
            return toleration.key in ("", _MEMORY_TAINT)
        return toleration.key == _MEMORY_TAINT and not toleration.value

    return any(tolerates(toleration) for toleration in pod.spec.tolerations)


def _amount(amounts: Quantities, resource: str) -> int:
    text = amounts.get(resource)
    return quantity.parse(text).value() if text is not None else 0


def _text(amount: int, resource: str) -> str:
    return str(quantity.of_value(amount, Format.BINARY_SI if resource in ("memory", "ephemeral-storage") else Format.DECIMAL_SI))
