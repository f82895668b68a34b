"""What the node controllers share: conditions, the taints that follow from them, and when a taint evicts a pod. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

from minikube_py.types.core import Node, Taint
from minikube_py.types.meta import Condition
from minikube_py.types.pod import Toleration
from minikube_py.types.taints import is_tolerated_by

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_BY_CONDITION = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
}
_OURS_NO_SCHEDULE = frozenset({*_BY_CONDITION.values(), UNSCHEDULABLE})
_OURS_NO_EXECUTE = frozenset({NOT_READY, UNREACHABLE})


def condition(node: Node, type_: str) -> Condition | None:
    """A node's condition."""
    return next((c for c in node.status.conditions if c.type == type_), None)


class Evicting(Enum):
    """Whether the node's pods may be driven out where it is not ready."""

    YES = "Yes"
    NOT_YET = "NotYet"
    """What has begun goes on, nothing begins."""
    NO = "No"
    """What has begun ends."""


def is_driven_out(node: Node) -> bool:
    """Whether the node has a NoExecute taint for not being ready."""
    return any(taint.effect == "NoExecute" and taint.key in _OURS_NO_EXECUTE for taint in node.spec.taints)


def wanted_taints(node: Node, conditions: Iterable[Condition], now: str, evicting: Evicting = Evicting.YES) -> tuple[Taint, ...]:
    """The node's taints as its conditions and its cordon want them; taints of others stay, `now` dates new ones."""
    keys = {(c.type, c.status) for c in conditions}
    no_schedule = {taint for state, taint in _BY_CONDITION.items() if state in keys}
    if node.spec.unschedulable:
        no_schedule.add(UNSCHEDULABLE)
    no_execute = {taint for state, taint in _BY_CONDITION.items() if state in keys and state[0] == "Ready"}
    if evicting is Evicting.NO or (evicting is Evicting.NOT_YET and not is_driven_out(node)):
        no_execute = set()
    kept = []
    for taint in node.spec.taints:
        if taint.effect == "NoSchedule" and taint.key in _OURS_NO_SCHEDULE:
            if taint.key not in no_schedule:
                continue
            no_schedule.discard(taint.key)
        elif taint.effect == "NoExecute" and taint.key in _OURS_NO_EXECUTE:
            if taint.key not in no_execute:
                continue
            no_execute.discard(taint.key)
        kept.append(taint)
    kept += [Taint(key=key, effect="NoSchedule", timeAdded=now) for key in sorted(no_schedule)]
    kept += [Taint(key=key, effect="NoExecute", timeAdded=now) for key in sorted(no_execute)]
    return tuple(kept)


def taint_json(taint: Taint) -> dict[str, Any]:
    """A taint as the API takes it."""
    body = {"key": taint.key, "effect": taint.effect}
    if taint.value:
        body["value"] = taint.value
    if taint.timeAdded:
        body["timeAdded"] = taint.timeAdded
    return body


def eviction_delay(tolerations: Sequence[Toleration], taint: Taint) -> float | None:
    """Seconds for which a NoExecute taint is tolerated: 0 not at all, None for ever."""
    matching = [t for t in tolerations if is_tolerated_by(taint, t)]
    if not matching:
        return 0.0
    limits = [t.tolerationSeconds for t in matching if t.tolerationSeconds is not None]
    return float(max(0, min(limits))) if limits else None
