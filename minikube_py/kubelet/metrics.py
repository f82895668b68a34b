"""What the node agent counts of its own work, for Prometheus: /metrics, and /metrics/probes, with upstream's names and labels.

Counting costs a dictionary update where something happens; how much there is of something now is counted when it is asked for. Numbers
start from nothing with the process, as those of every Prometheus counter may.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from minikube_py.kubelet.state import ContainerRecord, PodState, RunState
from minikube_py.types.pod import Pod

_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Family(NamedTuple):
    """One metric: its type, what it says, and the names of its labels."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()
    stability: str = "ALPHA"


_PROBED = ("container", "namespace", "pod", "pod_uid", "probe_type", "result")
FAMILIES = {
    "kubelet_active_pods": Family(
        "gauge",
        "The number of pods the kubelet considers active and which are being considered when admitting new pods. "
        "static is true if the pod is not from the apiserver.",
        ("static",),
    ),
    "kubelet_admission_rejections_total": Family("counter", "Cumulative number pod admission rejections by the Kubelet.", ("reason",)),
    "kubelet_cgroup_version": Family("gauge", "cgroup version on the hosts."),
    "kubelet_desired_pods": Family(
        "gauge",
        "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.",
        ("static",),
    ),
    "kubelet_evictions": Family("counter", "Cumulative number of pod evictions by eviction signal", ("eviction_signal",)),
    "kubelet_mirror_pods": Family("gauge", "The number of mirror pods the kubelet will try to create (one per admitted static pod)"),
    "kubelet_node_name": Family("gauge", "The node's name. The count is always 1.", ("node",)),
    "kubelet_run_podsandbox_duration_seconds": Family(
        "histogram", "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.", ("runtime_handler",)
    ),
    "kubelet_run_podsandbox_errors_total": Family(
        "counter", "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.", ("runtime_handler",)
    ),
    "kubelet_running_containers": Family("gauge", "Number of containers currently running", ("container_state",)),
    "kubelet_running_pods": Family("gauge", "Number of pods that have a running pod sandbox"),
    "kubelet_started_containers_errors_total": Family(
        "counter", "Cumulative number of errors when starting containers", ("code", "container_type")
    ),
    "kubelet_started_containers_total": Family("counter", "Cumulative number of containers started", ("container_type",)),
    "kubelet_started_pods_errors_total": Family("counter", "Cumulative number of errors when starting pods"),
    "kubelet_started_pods_total": Family("counter", "Cumulative number of pods started"),
    "kubelet_started_user_namespaced_pods_errors_total": Family(
        "counter",
        "Cumulative number of errors when starting pods with user namespaces. This metric will only be collected on Linux.",
    ),
    "kubelet_started_user_namespaced_pods_total": Family(
        "counter", "Cumulative number of pods with user namespaces started. This metric will only be collected on Linux."
    ),
    "kubelet_terminated_containers_total": Family(
        "counter", "Cumulative number of container terminations.", ("container_type", "exit_code", "reason")
    ),
    **{
        f"kubelet_volume_stats_{name}": Family("gauge", text, ("namespace", "persistentvolumeclaim"))
        for name, text in (
            ("available_bytes", "Number of available bytes in the volume"),
            ("capacity_bytes", "Capacity in bytes of the volume"),
            ("inodes", "Maximum number of inodes in the volume"),
            ("inodes_free", "Number of free inodes in the volume"),
            ("inodes_used", "Number of used inodes in the volume"),
            ("used_bytes", "Number of used bytes in the volume"),
        )
    },
    "prober_probe_duration_seconds": Family(
        "histogram", "Duration in seconds for a probe response.", ("container", "namespace", "pod", "probe_type")
    ),
    "prober_probe_total": Family(
        "counter", "Cumulative number of a liveness, readiness or startup probe for a container by result.", _PROBED, "BETA"
    ),
}

_REJECTIONS = frozenset(
    {
        "AppArmor", "PodOSSelectorNodeLabelDoesNotMatch", "PodOSNotSupported", "InvalidNodeInfo", "InitContainerRestartPolicyForbidden",
        "SupplementalGroupsPolicyNotSupported", "UnexpectedAdmissionError", "UnknownReason", "UnexpectedPredicateFailureType", "OutOfcpu",
        "OutOfmemory", "OutOfephemeral-storage", "OutOfpods", "PodLevelResourcesNotSupported", "PodFeatureUnsupported",
        "Evicted", "SysctlForbidden", "TopologyAffinityError", "NodeShutdown", "VolumeAttachmentLimitExceeded",
    }
)  # fmt: skip
"""The reasons that are counted by name; upstream sums up what else there is, since anybody may name a resource."""


class _Timing:
    """How often something took how long."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts, self.total = [0] * (len(_BOUNDS) + 1), 0.0


class Metrics:
    """The node's counters."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[tuple[str, ...], int]] = {name: {} for name, f in FAMILIES.items() if f.kind == "counter"}
        self._timings: dict[str, dict[tuple[str, ...], _Timing]] = {name: {} for name, f in FAMILIES.items() if f.kind == "histogram"}
        for name, counts in self._counts.items():
            if not FAMILIES[name].labels:
                counts[()] = 0

    def count(self, name: str, *labels: str) -> None:
        """Once more; the labels' values are in the order of the family's."""
        counts = self._counts[name]
        counts[labels] = counts.get(labels, 0) + 1

    def took(self, name: str, seconds: float, *labels: str) -> None:
        """Once more, and this long."""
        timing = self._timings[name].setdefault(labels, _Timing())
        timing.counts[bisect_left(_BOUNDS, seconds)] += 1
        timing.total += seconds

    def rejected(self, reason: str) -> None:
        """A pod was not admitted."""
        other = "OutOfExtendedResources" if reason.startswith("OutOf") else "Other"
        self.count("kubelet_admission_rejections_total", reason if reason in _REJECTIONS else other)

    def probed(self, pod: Pod, container: str, kind: str, ok: bool, seconds: float) -> None:
        """A probe has answered."""
        meta, title = pod.metadata, kind.capitalize()
        result = "successful" if ok else "failed"
        self.count("prober_probe_total", container, meta.namespace, meta.name, meta.uid, title, result)
        if ok:
            self.took("prober_probe_duration_seconds", seconds, container, meta.namespace, meta.name, title)

    def forget_probes(self, pod: Pod, container: str, kind: str) -> None:
        """A probe has ended: its numbers end with it, or pods of the past would be told of for ever."""
        meta, title = pod.metadata, kind.capitalize()
        for result in ("successful", "failed"):
            self._counts["prober_probe_total"].pop((container, meta.namespace, meta.name, meta.uid, title, result), None)
        self._timings["prober_probe_duration_seconds"].pop((container, meta.namespace, meta.name, title), None)

    def text(self, prefix: str, gauges: Iterable[tuple[str, tuple[str, ...], int]] = ()) -> str:
        """All metrics whose name begins so, in Prometheus's text format; `gauges` are names, labels' values and values."""
        now: dict[str, dict[tuple[str, ...], int]] = {}
        for name, labels, value in gauges:
            now.setdefault(name, {})[labels] = value
        out = []
        for name, family in FAMILIES.items():
            if not name.startswith(prefix):
                continue
            if family.kind == "histogram":
                lines = [line for labels, timing in self._timings[name].items() for line in _histogram(name, labels, timing)]
            else:
                values = self._counts.get(name) or now.get(name) or {}
                lines = [_line(name, zip(family.labels, labels, strict=True), value) for labels, value in values.items()]
            if lines:
                out.append(f"# HELP {name} [{family.stability}] {family.help}\n# TYPE {name} {family.kind}\n")
                out += lines
        return "".join(out)


def _histogram(name: str, labels: tuple[str, ...], timing: _Timing) -> Iterator[str]:
    named, seen = tuple(zip(FAMILIES[name].labels, labels, strict=True)), 0
    for bound, number in zip((*map(str, _BOUNDS[:7]), "1", "2.5", "5", "10", "+Inf"), timing.counts, strict=True):
        seen += number
        yield _line(f"{name}_bucket", (*named, ("le", bound)), seen)
    yield _line(f"{name}_sum", named, timing.total)
    yield _line(f"{name}_count", named, seen)


def _line(name: str, labels: Iterable[tuple[str, str]], value: float) -> str:
    listed = ",".join(f'{key}="{_escape(text)}"' for key, text in labels)
    return f"{name}{{{listed}}} {value:.15g}\n" if listed else f"{name} {value:.15g}\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def container_type(pod: Pod, name: str) -> str:
    """How metrics call the kind of a container."""
    if any(c.name == name for c in pod.spec.initContainers):
        return "init_container"
    return "ephemeral_container" if any(c.name == name for c in pod.spec.ephemeralContainers) else "container"


def told_as_ended(pod: Pod) -> frozenset[str]:
    """The ids of the containers that the pod's status says have ended: an agent before this one has counted them."""
    statuses = (*pod.status.containerStatuses, *pod.status.initContainerStatuses, *pod.status.ephemeralContainerStatuses)
    ended = (state.terminated for status in statuses for state in (status.state, status.lastState))
    return frozenset(t.containerID.rpartition("/")[2] for t in ended if t is not None and t.containerID)


def ended_since(state: PodState, counted: Collection[str]) -> Sequence[ContainerRecord]:
    """The containers that have ended and were not counted yet."""
    return [c for c in state.containers if c.state is RunState.EXITED and c.id not in counted]


def gauges(
    node: str, cgroup_v2: bool, desired: Sequence[bool], active: Sequence[bool], states: Iterable[PodState]
) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """How much there is now; of the pods that are desired and active, whether each is static."""
    yield "kubelet_node_name", (node,), 1
    yield "kubelet_cgroup_version", (), 2 if cgroup_v2 else 1
    for name, pods in (("kubelet_desired_pods", desired), ("kubelet_active_pods", active)):
        yield name, ("",), pods.count(False)
        yield name, ("true",), pods.count(True)
    yield "kubelet_mirror_pods", (), active.count(True)
    known = tuple(states)
    for state, number in Counter(c.state for one in known for c in one.containers).items():
        yield "kubelet_running_containers", (state.value.lower(),), number
    yield "kubelet_running_pods", (), sum(any(s.ready for s in one.sandboxes) for one in known)
