"""The arithmetic and the identities of a rollout: fenceposts, proportions, template equality and hash, revision annotations.

Pure: shared by the deployment controller's plan and its tests. The rules are upstream's deployment utilities.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from minikube_py.meta import quantity
from minikube_py.types.meta import parse_timestamp
from minikube_py.types.pod import IntOrString
from minikube_py.types.workload import Deployment, ReplicaSet, RollingUpdateDeployment

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        "deprecated.deployment.rollback.to",
    }
)
_SAFE = "bcdfghjklmnpqrstvwxz2456789"
_MAPS = frozenset({"labels", "annotations", "nodeSelector", "limits", "requests", "overhead", "matchLabels"})
_QUANTITY_MAPS = frozenset({"limits", "requests", "overhead"})


# Templates


def canonical_template(template: msgspec.Raw) -> dict[str, Any]:
    """A template in the one form that equal templates share: no hash label, no empty lists and maps, quantities canonical."""
    parsed = msgspec.json.decode(template)
    labels = (parsed.get("metadata") or {}).get("labels")
    if labels:
        labels.pop(HASH_LABEL, None)
    result = _canonical(parsed, "")
    assert isinstance(result, dict)
    return result


def _canonical(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        if name in _QUANTITY_MAPS:
            return {key: _quantity(item) for key, item in value.items()}
        found = {}
        for key, item in value.items():
            if item is None or item == [] or (item == {} and key in _MAPS):
                continue
            form = _canonical(item, key)
            if form == {} and (key in _MAPS or key == "metadata"):
                continue
            found[key] = form
        return found
    if isinstance(value, list):
        return [_canonical(item, "") for item in value]
    return value


def _quantity(value: Any) -> Any:
    try:
        return quantity.canonical(value)
    except ValueError:
        return value


def template_hash(template: msgspec.Raw, collisions: int) -> str:
    """The pod-template-hash: the same for equal templates whatever their field order, in every process; another one a collision."""
    text = orjson.dumps(canonical_template(template), option=orjson.OPT_SORT_KEYS)
    digest = hashlib.blake2s(text + (str(collisions).encode() if collisions else b""), digest_size=4).digest()
    return "".join(_SAFE[ord(char) % len(_SAFE)] for char in str(int.from_bytes(digest, "big")))


# Sets of a deployment


def created(replica_set: ReplicaSet) -> tuple[float, str]:
    """Sorts sets by age, the oldest first."""
    stamp = replica_set.metadata.creationTimestamp
    return (parse_timestamp(stamp) if stamp else 0.0, replica_set.metadata.name)


def find_new(deployment: Deployment, sets: Iterable[ReplicaSet]) -> ReplicaSet | None:
    """The oldest set that has the deployment's template."""
    wanted = canonical_template(deployment.spec.template)
    return next((s for s in sorted(sets, key=created) if canonical_template(s.spec.template) == wanted), None)


def revision_of(annotations: Mapping[str, str]) -> int:
    """The revision annotation; 0 where there is none or it is no number."""
    try:
        return int(annotations.get(REVISION, "0"))
    except ValueError:
        return 0


def set_annotations(deployment: Deployment, existing: ReplicaSet | None, revision: int) -> dict[str, str]:
    """What the new set's annotations should be: the deployment's, its revision, and (for one to be made) the sizes that
    proportional scaling reads."""
    annotations = dict(existing.metadata.annotations) if existing is not None else {}
    annotations.update({k: v for k, v in deployment.metadata.annotations.items() if k not in _NOT_COPIED})
    old = revision_of(annotations)
    if old < revision:
        if REVISION in annotations and existing is not None:
            history = [r for r in annotations.get(REVISION_HISTORY, "").split(",") if r]
            annotations[REVISION_HISTORY] = ",".join([*history, str(old)])
        annotations[REVISION] = str(revision)
    if existing is None:
        annotations.update(size_annotations(deployment))
    return annotations


def size_annotations(deployment: Deployment) -> dict[str, str]:
    """The sizes that proportional scaling reads off a set."""
    replicas = deployment.spec.replicas
    return {DESIRED_REPLICAS: str(replicas), MAX_REPLICAS: str(replicas + max_surge(deployment))}


# Fenceposts


def _scaled(value: IntOrString, total: int, up: bool) -> int:
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        return int(value)
    share = int(value[:-1]) * total / 100
    return math.ceil(share) if up else math.floor(share)


def fenceposts(deployment: Deployment) -> tuple[int, int]:
    """(surge, unavailable) in pods; both zero would never move, so unavailable is then 1."""
    rolling = deployment.spec.strategy.rollingUpdate or RollingUpdateDeployment()
    replicas = deployment.spec.replicas
    surge = _scaled(rolling.maxSurge, replicas, up=True)
    unavailable = _scaled(rolling.maxUnavailable, replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, unavailable


def is_rolling(deployment: Deployment) -> bool:
    """Whether the strategy is RollingUpdate."""
    return deployment.spec.strategy.type == "RollingUpdate"


def max_surge(deployment: Deployment) -> int:
    """Pods above spec.replicas that a rollout may make."""
    return fenceposts(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Deployment) -> int:
    """Pods below spec.replicas that a rollout may leave."""
    if not is_rolling(deployment) or deployment.spec.replicas == 0:
        return 0
    return min(fenceposts(deployment)[1], deployment.spec.replicas)


def total(sets: Iterable[ReplicaSet]) -> int:
    """Wanted pods of all sets."""
    return sum(s.spec.replicas for s in sets)


def total_available(sets: Iterable[ReplicaSet]) -> int:
    """Available pods of all sets."""
    return sum(s.status.availableReplicas for s in sets)


def new_set_size(deployment: Deployment, sets: Sequence[ReplicaSet], current: int) -> int:
    """How large the new set may be now, `current` being its size."""
    wanted = deployment.spec.replicas
    if not is_rolling(deployment):
        return wanted
    room = wanted + max_surge(deployment) - total(sets)
    if room <= 0:
        return current
    return current + min(room, wanted - current)


def proportion(replica_set: ReplicaSet, deployment: Deployment, to_add: int, added: int) -> int:
    """The share of a size change that falls to one set, by its size; `added` has been given to others already."""
    if replica_set.spec.replicas == 0 or to_add == 0 or to_add == added:
        return 0
    share = _set_fraction(replica_set, deployment)
    allowed = to_add - added
    return min(share, allowed) if to_add > 0 else max(share, allowed)


def _set_fraction(replica_set: ReplicaSet, deployment: Deployment) -> int:
    size = replica_set.spec.replicas
    if deployment.spec.replicas == 0:
        return -size
    largest = deployment.spec.replicas + max_surge(deployment)
    before = _number(replica_set.metadata.annotations.get(MAX_REPLICAS)) or _number(replica_set.metadata.annotations.get(DESIRED_REPLICAS))
    # a set without the annotation says nothing of the size before: take the deployment's own last status
    before = before or deployment.status.replicas or size
    return math.floor(size * largest / before + 0.5) - size


def _number(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0


def desired_of(replica_set: ReplicaSet) -> int | None:
    """The deployment's size as the set last heard of it."""
    text = replica_set.metadata.annotations.get(DESIRED_REPLICAS)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
