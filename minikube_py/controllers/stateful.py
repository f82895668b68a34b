"""Stateful sets' decisions: which ordinal is to be made, which pod has to go, when to wait, what pods and claims look like, the status.

Pure: values in, values out. The rules are upstream's (pkg/controller/statefulset): OrderedReady takes one step at a time and waits for
every predecessor, Parallel does not; pods are updated from the highest ordinal down to the partition, one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson

from minikube_py.controllers.pods import HASH_LABEL, is_available
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.meta import owner_reference
from minikube_py.types.pod import Pod, is_ready, is_terminal
from minikube_py.types.workload import StatefulSet, StatefulSetStatus

NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"


class Plan(NamedTuple):
    """What to do, in this order."""

    create: tuple[int, ...] = ()
    """Ordinals."""
    claims: tuple[Pod, ...] = ()
    """Pods that are pending: their claims may be missing."""
    rename: tuple[Pod, ...] = ()
    """Pods whose identity labels have been changed."""
    delete: tuple[Pod, ...] = ()


class Arranged(NamedTuple):
    """The set's pods by place: None where one is missing; and those without a place, the highest ordinal first."""

    replicas: tuple[Pod | None, ...]
    condemned: tuple[Pod, ...]


# Who is who


def ordinal_of(pod: Pod) -> int:
    """The number at the end of a pod's name, or -1."""
    _, dash, number = pod.metadata.name.rpartition("-")
    return int(number) if dash and number.isascii() and number.isdigit() else -1


def is_member(stateful: StatefulSet, pod: Pod) -> bool:
    """Whether the pod's name is one that the set gives."""
    return pod.metadata.name.rpartition("-")[0] == stateful.metadata.name and ordinal_of(pod) >= 0


def arrange(stateful: StatefulSet, pods: Sequence[Pod]) -> Arranged:
    """Put the pods in their places."""
    start, count = stateful.spec.ordinals.start, stateful.spec.replicas
    replicas: list[Pod | None] = [None] * count
    condemned: list[Pod] = []
    for pod in pods:
        ordinal = ordinal_of(pod)
        if start <= ordinal < start + count:
            replicas[ordinal - start] = pod
        elif ordinal >= 0:
            condemned.append(pod)
    return Arranged(tuple(replicas), tuple(sorted(condemned, key=ordinal_of, reverse=True)))


def revision_of(pod: Pod) -> str:
    """The name of the revision that a pod was made of."""
    return pod.metadata.labels.get(HASH_LABEL, "")


def takes_current(stateful: StatefulSet, ordinal: int) -> bool:
    """Whether a pod of that ordinal is made of the current revision and not of the one that is being rolled out."""
    update = stateful.spec.updateStrategy
    if update.type != "RollingUpdate":
        return False
    below = update.rollingUpdate.partition if update.rollingUpdate is not None else stateful.status.currentReplicas
    return ordinal < stateful.spec.ordinals.start + below


# What to do


def plan(stateful: StatefulSet, update_revision: str, pods: Sequence[Pod], now: float) -> Plan:
    """The next step (OrderedReady) or all that can be done (Parallel)."""
    if stateful.metadata.deletionTimestamp is not None:
        return Plan()
    ordered = stateful.spec.podManagementPolicy != "Parallel"
    minimum = stateful.spec.minReadySeconds
    replicas, condemned = arrange(stateful, pods)
    create: list[int] = []
    claims: list[Pod] = []
    rename: list[Pod] = []
    delete: list[Pod] = []

    def so_far() -> Plan:
        return Plan(tuple(create), tuple(claims), tuple(rename), tuple(delete))

    for place, pod in enumerate(replicas):
        if pod is None:
            create.append(stateful.spec.ordinals.start + place)
        elif is_terminal(pod):
            if pod.metadata.deletionTimestamp is None:
                delete.append(pod)
        else:
            if pod.status.phase == "Pending":
                claims.append(pod)
            if not ordered or not is_away(pod, minimum, now):
                if pod.metadata.labels.get(NAME_LABEL) != pod.metadata.name:
                    rename.append(pod)
                continue
        if ordered:
            return so_far()
    first_away = next((p for p in (*replicas, *reversed(condemned)) if p is None or is_away(p, minimum, now)), None)
    for pod in condemned:
        if pod.metadata.deletionTimestamp is not None:
            if ordered:
                return so_far()
            continue
        if ordered and is_away(pod, minimum, now) and pod is not first_away:
            return so_far()
        delete.append(pod)
        if ordered:
            return so_far()
    update = stateful.spec.updateStrategy
    if update.type != "OnDelete":
        partition = update.rollingUpdate.partition if update.rollingUpdate is not None else 0
        delete += _next(partition, update_revision, replicas, minimum, now)
    return so_far()


def _next(partition: int, update_revision: str, replicas: Sequence[Pod | None], minimum: int, now: float) -> list[Pod]:
    """One at a time, from the highest number down: the next one waits until those above it are available."""
    for pod in reversed(replicas[partition:]):
        if pod is not None and _is_outdated(pod, update_revision):
            return [pod]
        if pod is None or is_away(pod, minimum, now):
            return []
    return []


def _is_outdated(pod: Pod, update_revision: str) -> bool:
    """Whether a pod has still to be taken away for the update; one that has ended goes anyway."""
    return revision_of(pod) != update_revision and pod.metadata.deletionTimestamp is None and not is_terminal(pod)


def is_away(pod: Pod, min_ready_seconds: int, now: float) -> bool:
    """Not running, not available yet, or ending."""
    if pod.metadata.deletionTimestamp is not None or pod.status.phase != "Running" or not is_ready(pod):
        return True
    return not is_available(pod, min_ready_seconds, now)


# What it says


def status(stateful: StatefulSet, pods: Sequence[Pod], current: str, update: str, collisions: int, now: float) -> StatefulSetStatus:
    """The counts. An update that has reached every pod makes its revision the current one."""
    ready = [pod for pod in pods if pod.status.phase == "Running" and is_ready(pod)]
    staying = [revision_of(pod) for pod in pods if pod.metadata.deletionTimestamp is None]
    new = StatefulSetStatus(
        observedGeneration=stateful.metadata.generation,
        replicas=len(pods),
        readyReplicas=len(ready),
        availableReplicas=sum(1 for pod in ready if is_available(pod, stateful.spec.minReadySeconds, now)),
        currentReplicas=staying.count(current),
        updatedReplicas=staying.count(update),
        currentRevision=current,
        updateRevision=update,
        collisionCount=collisions,
    )
    wanted = stateful.spec.replicas
    rolling = stateful.spec.updateStrategy.type == "RollingUpdate"
    if rolling and new.updatedReplicas == new.readyReplicas == new.replicas == wanted:
        return msgspec.structs.replace(new, currentReplicas=new.updatedReplicas, currentRevision=update)
    return new


def status_json(new: StatefulSetStatus) -> dict[str, Any]:
    """The status as the API takes it; None for what is left out of the object, as upstream does with counts of zero."""
    body: dict[str, Any] = {name: getattr(new, name) or None for name in ("readyReplicas", "currentReplicas", "updatedReplicas")}
    body["currentRevision"], body["updateRevision"] = new.currentRevision or None, new.updateRevision or None
    names = ("observedGeneration", "replicas", "availableReplicas", "collisionCount")
    return body | {name: getattr(new, name) for name in names}


# What it makes


def pod_body(stateful: StatefulSet, template: msgspec.Raw, ordinal: int, revision: str) -> bytes:
    """The pod of an ordinal: its name, its host name and its claims are the same each time."""
    parsed: dict[str, Any] = msgspec.json.decode(template)
    meta: Mapping[str, Any] = parsed.get("metadata") or {}
    spec: dict[str, Any] = parsed.get("spec") or {}
    name = f"{stateful.metadata.name}-{ordinal}"
    spec["hostname"], spec["subdomain"] = name, stateful.spec.serviceName
    ours = {
        claim["metadata"]["name"]: {
            "name": claim["metadata"]["name"],
            "persistentVolumeClaim": {"claimName": claim_name(stateful, claim, ordinal)},
        }
        for claim in claim_templates(stateful)
    }
    others = [volume for volume in spec.get("volumes") or () if volume["name"] not in ours]
    if ours or others:
        spec["volumes"] = [*ours.values(), *others]
    labels = {**(meta.get("labels") or {}), **identity(name), HASH_LABEL: revision}
    return orjson.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": labels,
                "annotations": meta.get("annotations") or {},
                "finalizers": meta.get("finalizers") or [],
                "ownerReferences": [owner_reference(stateful)],
            },
            "spec": spec,
        }
    )


def identity(name: str) -> dict[str, str]:
    """The labels by which a pod is found by its name and number."""
    return {NAME_LABEL: name, INDEX_LABEL: name.rpartition("-")[2]}


def claim_templates(stateful: StatefulSet) -> list[dict[str, Any]]:
    """The templates of the claims, read."""
    return [msgspec.json.decode(raw) for raw in stateful.spec.volumeClaimTemplates]


def claim_name(stateful: StatefulSet, claim: Mapping[str, Any], ordinal: int) -> str:
    """The name of an ordinal's claim."""
    return f"{claim['metadata']['name']}-{stateful.metadata.name}-{ordinal}"


def claim_names(stateful: StatefulSet, ordinal: int) -> list[str]:
    """The names of all claims of an ordinal."""
    return [claim_name(stateful, claim, ordinal) for claim in claim_templates(stateful)]


def claim_bodies(stateful: StatefulSet, ordinal: int) -> list[dict[str, Any]]:
    """The claims of an ordinal, to be created where they are missing. The set's labels are on them, so that they can be found."""
    bodies = []
    for claim in claim_templates(stateful):
        meta = claim["metadata"]
        made: dict[str, Any] = {
            "name": claim_name(stateful, claim, ordinal),
            "labels": {**(meta.get("labels") or {}), **stateful.spec.selector.matchLabels},
            "annotations": meta.get("annotations") or {},
        }
        if stateful.spec.persistentVolumeClaimRetentionPolicy.whenDeleted == "Delete":
            made["ownerReferences"] = [owner_reference(stateful)]
        bodies.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": made, "spec": claim["spec"]})
    return bodies


class ClaimOwners(NamedTuple):
    """How the owner references of a claim are to change: those to `scrubbed` (version, kind, name) go, `added` are new."""

    scrubbed: frozenset[tuple[str, str, str]]
    added: tuple[dict[str, Any], ...]

    def applied(self, refs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """The references after that; others' stay as they are."""
        kept = [ref for ref in refs if (ref.get("apiVersion"), ref.get("kind"), ref.get("name")) not in self.scrubbed]
        return [*kept, *self.added]


def claim_owners(stateful: StatefulSet, claim: PersistentVolumeClaim, pod: Pod) -> ClaimOwners | None:
    """What the retention policy changes in the owner references of a claim, or None where they are right.

    The set owns what goes with it; the pod owns what goes when the set shrinks, from the time when it is about to; each as the
    controller. A claim that belongs to an earlier set or pod of the name is left alone, one that another controller has gets none of ours.
    """
    policy = stateful.spec.persistentVolumeClaimRetentionPolicy
    ordinal = ordinal_of(pod)
    start = stateful.spec.ordinals.start
    scaled_away = policy.whenScaled == "Delete" and not start <= ordinal < start + stateful.spec.replicas
    by_set = policy.whenDeleted == "Delete" and not scaled_away
    ours = {_identity(owner_reference(owner)): owner.metadata.uid for owner in (stateful, pod)}
    refs = claim.metadata.ownerReferences
    named = [(ref, ours.get((ref.apiVersion, ref.kind, ref.name))) for ref in refs]
    if any(uid is not None and uid != ref.uid for ref, uid in named):
        return None
    uids = {ref.uid for ref in refs}
    owned = (stateful.metadata.uid in uids, pod.metadata.uid in uids)
    if has_other_controller(stateful, claim, pod):
        return ClaimOwners(frozenset(ours), ()) if any(owned) else None
    if owned == (by_set, scaled_away) and all(ref.controller for ref in refs if ref.uid in ours.values()):
        return None
    owners = [owner for owner, wanted in ((stateful, by_set), (pod, scaled_away)) if wanted]
    return ClaimOwners(frozenset(ours), tuple(owner_reference(owner) for owner in owners))


def has_other_controller(stateful: StatefulSet, claim: PersistentVolumeClaim, pod: Pod) -> bool:
    """Whether a claim that the retention policy would give to the set or the pod has another controller, an earlier one of the name too."""
    policy = stateful.spec.persistentVolumeClaimRetentionPolicy
    if "Delete" not in (policy.whenDeleted, policy.whenScaled):
        return False
    ours = {_identity(owner_reference(owner)): owner.metadata.uid for owner in (stateful, pod)}
    for ref in claim.metadata.ownerReferences:
        uid = ours.get((ref.apiVersion, ref.kind, ref.name))
        if ref.controller if uid is None else uid != ref.uid:
            return True
    return False


def _identity(reference: Mapping[str, Any]) -> tuple[str, str, str]:
    return reference["apiVersion"], reference["kind"], reference["name"]


def is_stale(claim: PersistentVolumeClaim, name: str) -> bool:
    """Whether a claim is going: it is being deleted, or belongs to an earlier pod of that name. A new pod has to wait for its end."""
    if claim.metadata.deletionTimestamp is not None:
        return True
    return any(ref.kind == "Pod" and ref.name == name for ref in claim.metadata.ownerReferences)
