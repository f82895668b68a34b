"""What a deployment says of itself: counts, Available, Progressing with its deadline, ReplicaFailure.

Pure: a deployment, its sets and the time in; a status out. Reasons and messages are upstream's: clients read them
(kubectl rollout status).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from minikube_py.controllers import rollout
from minikube_py.controllers.pods import condition_json, condition_of, without_condition
from minikube_py.types.meta import Condition, parse_timestamp, timestamp
from minikube_py.types.workload import Deployment, DeploymentStatus, ReplicaSet

NO_DEADLINE = 2**31 - 1
TIMED_OUT = "ProgressDeadlineExceeded"
COMPLETE = "NewReplicaSetAvailable"
_PAUSED, _RESUMED = "DeploymentPaused", "DeploymentResumed"
_COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


def calculate(
    deployment: Deployment,
    sets: Sequence[ReplicaSet],
    new: ReplicaSet | None,
    conditions: tuple[Condition, ...],
    now: float,
    *,
    judged: bool,
) -> DeploymentStatus:
    """The status. `judged`: whether the rollout's progress is judged too (not while it is paused or only scaled)."""
    available = rollout.total_available(sets)
    ending = [s.status.terminatingReplicas for s in sets]
    if available >= deployment.spec.replicas - rollout.max_unavailable(deployment):
        conditions = _set(conditions, "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now)
    else:
        message = "Deployment does not have minimum availability."
        conditions = _set(conditions, "Available", "False", "MinimumReplicasUnavailable", message, now)
    status = DeploymentStatus(
        observedGeneration=deployment.metadata.generation,
        replicas=sum(s.status.replicas for s in sets),
        updatedReplicas=new.status.replicas if new is not None else 0,
        readyReplicas=sum(s.status.readyReplicas for s in sets),
        availableReplicas=available,
        unavailableReplicas=max(0, rollout.total(sets) - available),
        terminatingReplicas=None if None in ending else sum(count or 0 for count in ending),
        collisionCount=deployment.status.collisionCount,
    )
    if judged:
        conditions = _judge(deployment, status, sets, new, conditions, now)
    return msgspec.structs.replace(status, conditions=conditions)


def _judge(
    deployment: Deployment,
    status: DeploymentStatus,
    sets: Sequence[ReplicaSet],
    new: ReplicaSet | None,
    conditions: tuple[Condition, ...],
    now: float,
) -> tuple[Condition, ...]:
    if not has_deadline(deployment):
        conditions = without_condition(conditions, "Progressing")
    else:
        current = condition_of(conditions, "Progressing")
        done = status.replicas == status.updatedReplicas and current is not None and current.reason == COMPLETE
        if not done:
            what = f'ReplicaSet "{new.metadata.name}"' if new is not None else f'Deployment "{deployment.metadata.name}"'
            if is_complete(deployment, status):
                conditions = _set(conditions, "Progressing", "True", COMPLETE, f"{what} has successfully progressed.", now)
            elif is_progressing(deployment.status, status):
                conditions = _set(conditions, "Progressing", "True", "ReplicaSetUpdated", f"{what} is progressing.", now, renew=True)
            elif has_timed_out(deployment, conditions, now):
                conditions = _set(conditions, "Progressing", "False", TIMED_OUT, f"{what} has timed out progressing.", now)
    failure = _failure(sets, new)
    if failure is not None:
        return _set(conditions, "ReplicaFailure", failure.status, failure.reason, failure.message, now)
    return without_condition(conditions, "ReplicaFailure")


def _failure(sets: Sequence[ReplicaSet], new: ReplicaSet | None) -> Condition | None:
    for replica_set in [*([new] if new is not None else []), *sets]:
        found = condition_of(replica_set.status.conditions, "ReplicaFailure")
        if found is not None and found.status == "True":
            return found
    return None


def has_deadline(deployment: Deployment) -> bool:
    """Whether the rollout's progress is timed."""
    return deployment.spec.progressDeadlineSeconds != NO_DEADLINE


def is_complete(deployment: Deployment, status: DeploymentStatus) -> bool:
    """Every wanted pod is of the new template and available, and none of an old one is left."""
    wanted = deployment.spec.replicas
    return (
        status.updatedReplicas == wanted
        and status.replicas == wanted
        and status.availableReplicas == wanted
        and status.observedGeneration >= deployment.metadata.generation
    )


def is_progressing(old: DeploymentStatus, new: DeploymentStatus) -> bool:
    """Whether the new status is nearer to the end than the old one."""
    return (
        new.updatedReplicas > old.updatedReplicas
        or new.replicas - new.updatedReplicas < old.replicas - old.updatedReplicas
        or new.readyReplicas > old.readyReplicas
        or new.availableReplicas > old.availableReplicas
    )


def has_timed_out(deployment: Deployment, conditions: tuple[Condition, ...], now: float) -> bool:
    """Whether no progress was made for the deadline. A rollout that is complete never times out."""
    current = condition_of(conditions, "Progressing")
    if current is None or current.reason == COMPLETE:
        return False
    if current.reason == TIMED_OUT:
        return True
    since = parse_timestamp(current.lastUpdateTime) if current.lastUpdateTime else now
    return since + deployment.spec.progressDeadlineSeconds < now


def deadline_wait(deployment: Deployment, status: DeploymentStatus, now: float) -> float | None:
    """Seconds until the deadline has to be judged, or None where it need not be."""
    current = condition_of(status.conditions, "Progressing")
    if not has_deadline(deployment) or current is None or deployment.spec.paused:
        return None
    if current.reason == TIMED_OUT or is_complete(deployment, status) or current.lastUpdateTime is None:
        return None
    return max(1.0, parse_timestamp(current.lastUpdateTime) + deployment.spec.progressDeadlineSeconds - now + 1.0)


def pause_conditions(deployment: Deployment, now: float) -> tuple[Condition, ...] | None:
    """The conditions with a pause or its end noted, or None where nothing has to be noted: a pause stops the deadline."""
    if not has_deadline(deployment):
        return None
    conditions = deployment.status.conditions
    current = condition_of(conditions, "Progressing")
    if current is not None and current.reason == TIMED_OUT:
        return None
    noted = current is not None and current.reason == _PAUSED
    if deployment.spec.paused and not noted:
        return _set(conditions, "Progressing", "Unknown", _PAUSED, "Deployment is paused", now)
    if not deployment.spec.paused and noted:
        return _set(conditions, "Progressing", "Unknown", _RESUMED, "Deployment is resumed", now)
    return None


def found_new(deployment: Deployment, conditions: tuple[Condition, ...], new: ReplicaSet, now: float) -> tuple[Condition, ...]:
    """The conditions where the new set was there already and nothing has been said yet."""
    if not has_deadline(deployment) or condition_of(conditions, "Progressing") is not None:
        return conditions
    return _set(conditions, "Progressing", "True", "FoundNewReplicaSet", f'Found new replica set "{new.metadata.name}"', now)


def created_new(deployment: Deployment, conditions: tuple[Condition, ...], new: ReplicaSet, now: float) -> tuple[Condition, ...]:
    """The conditions after the new set was made."""
    if not has_deadline(deployment):
        return conditions
    return _set(conditions, "Progressing", "True", "NewReplicaSetCreated", f'Created new replica set "{new.metadata.name}"', now)


def create_failed(deployment: Deployment, message: str, now: float) -> tuple[Condition, ...]:
    """The conditions after the new set could not be made."""
    conditions = deployment.status.conditions
    return _set(conditions, "Progressing", "False", "ReplicaSetCreateError", message, now) if has_deadline(deployment) else conditions


def _set(
    conditions: tuple[Condition, ...], type_: str, status: str, reason: str, message: str, now: float, *, renew: bool = False
) -> tuple[Condition, ...]:
    """One condition set. Same status and reason: unchanged, unless `renew` moves its lastUpdateTime."""
    current = condition_of(conditions, type_)
    stamp = timestamp(now)
    if current is not None and current.status == status and current.reason == reason and not renew:
        return conditions
    transition = current.lastTransitionTime if current is not None and current.status == status else stamp
    new = Condition(type=type_, status=status, reason=reason, message=message, lastTransitionTime=transition or stamp, lastUpdateTime=stamp)
    return (*without_condition(conditions, type_), new)


def status_json(status: DeploymentStatus) -> dict[str, Any]:
    """A status as a merge patch takes it: a count of zero is left out of the object, as upstream does."""
    body: dict[str, Any] = {name: getattr(status, name) or None for name in _COUNTS}
    body["observedGeneration"] = status.observedGeneration
    body["terminatingReplicas"] = status.terminatingReplicas
    body["collisionCount"] = status.collisionCount or None
    body["conditions"] = conditions_json(status.conditions)
    return body


def conditions_json(conditions: tuple[Condition, ...]) -> list[dict[str, Any]] | None:
    """Conditions as a merge patch takes them."""
    return [condition_json(condition) for condition in conditions] or None
