"""What controllers that make pods share: which pods count, when one is available, which go first, and the status writers' conditions.

The order of deletion is upstream's ActivePodsWithRanks. Pure but for nothing: values in, values out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from minikube_py.types.meta import Condition, Object, owner_reference, parse_timestamp, timestamp
from minikube_py.types.pod import Pod, is_ready, is_terminal

HASH_LABEL = "controller-revision-hash"
"""On pods: the controller revision that they were made of. On a daemon set's revisions: their hash."""

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def is_active(pod: Pod) -> bool:
    """Neither ended nor ending."""
    return not is_terminal(pod) and pod.metadata.deletionTimestamp is None


def ready_since(pod: Pod) -> float | None:
    """When the pod became ready, or None where it is not."""
    for condition in pod.status.conditions:
        if condition.type == "Ready":
            if condition.status != "True":
                return None
            return parse_timestamp(condition.lastTransitionTime) if condition.lastTransitionTime else 0.0
    return None


def is_available(pod: Pod, min_ready_seconds: int, now: float) -> bool:
    """Ready for at least `min_ready_seconds`."""
    if min_ready_seconds == 0:
        return is_ready(pod)
    since = ready_since(pod)
    return since is not None and since > 0 and since + min_ready_seconds <= now


def next_available(pods: Iterable[Pod], min_ready_seconds: int, now: float) -> float | None:
    """Seconds until the next ready pod becomes available; None where none is on its way."""
    waits = [since + min_ready_seconds - now for pod in pods if (since := ready_since(pod)) is not None and since + min_ready_seconds > now]
    return min(waits) if waits else None


def deletion_order(pods: Sequence[Pod], related: Iterable[Pod], now: float) -> list[Pod]:
    """The pods, those that should go first in front: unscheduled, pending, not ready, cheap to delete, on crowded nodes, ready for a
    short time, often restarted, young. `related` are the pods that count for how crowded a node is."""
    crowd: dict[str, int] = {}
    for pod in related:
        if is_active(pod):
            crowd[pod.spec.nodeName] = crowd.get(pod.spec.nodeName, 0) + 1

    def rank(pod: Pod) -> tuple[Any, ...]:
        ready = is_ready(pod)
        since = ready_since(pod)
        created = parse_timestamp(pod.metadata.creationTimestamp) if pod.metadata.creationTimestamp else 0.0
        return (
            1 if pod.spec.nodeName else 0,
            _PHASES.get(pod.status.phase, 2),
            1 if ready else 0,
            deletion_cost(pod),
            -crowd.get(pod.spec.nodeName, 0),
            -(since if ready and since is not None else 0.0),
            -max((status.restartCount for status in pod.status.containerStatuses), default=0),
            -created,
        )

    return sorted(pods, key=rank)


def deletion_cost(pod: Pod) -> int:
    """The pod's own wish, by annotation; 0 where there is none or it is no number."""
    text = pod.metadata.annotations.get("controller.kubernetes.io/pod-deletion-cost", "")
    try:
        return int(text)
    except ValueError:
        return 0


def pod_body(owner: Object, template: msgspec.Raw) -> bytes:
    """A pod as the owner's template says, to be posted as often as wanted: the server gives each its name."""
    parsed: dict[str, Any] = msgspec.json.decode(template)
    meta: Mapping[str, Any] = parsed.get("metadata") or {}
    prefix = f"{owner.metadata.name}-"
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": prefix,
            "labels": meta.get("labels") or {},
            "annotations": meta.get("annotations") or {},
            "finalizers": meta.get("finalizers") or [],
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": parsed.get("spec") or {},
    }
    return orjson.dumps(body)


def with_condition(
    conditions: Sequence[Condition], type_: str, status: str, reason: str, message: str, now: float, *, touch: bool = False
) -> tuple[Condition, ...]:
    """The conditions with one set: its lastTransitionTime moves only with its status. `touch` also moves lastUpdateTime (deployments)."""
    stamp = timestamp(now)
    others = []
    transition = stamp
    for condition in conditions:
        if condition.type == type_:
            if condition.status == status and condition.reason == reason and condition.message == message and not touch:
                return tuple(conditions)
            if condition.status == status:
                transition = condition.lastTransitionTime or stamp
        else:
            others.append(condition)
    new = Condition(type=type_, status=status, reason=reason, message=message, lastTransitionTime=transition)
    return (*others, new)


def without_condition(conditions: Sequence[Condition], type_: str) -> tuple[Condition, ...]:
    """The conditions but for one type."""
    return tuple(condition for condition in conditions if condition.type != type_)


def condition_of(conditions: Sequence[Condition], type_: str) -> Condition | None:
    """The condition of a type, if there is one."""
    return next((condition for condition in conditions if condition.type == type_), None)


def condition_json(condition: Condition) -> dict[str, Any]:
    """A condition as the API takes it, empty fields left out."""
    fields: dict[str, Any] = {"type": condition.type, "status": condition.status}
    for name in ("lastProbeTime", "lastHeartbeatTime", "lastUpdateTime", "lastTransitionTime", "reason", "message", "observedGeneration"):
        value = getattr(condition, name)
        if value:
            fields[name] = value
    return fields
