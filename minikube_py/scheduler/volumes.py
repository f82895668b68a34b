"""Claims and volumes: which of a pod's claims are bound, and which volumes would serve the others on a node.

Claims of a class that waits for its first consumer are bound by the scheduler: it picks a volume that the node can reach and reserves it,
or asks for one to be provisioned for the node. What was picked counts as such at once (`taken`, `picked`), until the API says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from minikube_py.meta import selectors
from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.objects import Objects
from minikube_py.scheduler.podinfo import PodInfo, amount
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.nodeaffinity import term_matches
from minikube_py.types.storage import BETA_CLASS, PersistentVolume, StorageClass

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
_NO_PROVISIONER = "kubernetes.io/no-provisioner"


class Claims(NamedTuple):
    """A pod's claims by how they stand."""

    bound: tuple[PersistentVolumeClaim, ...] = ()
    immediate: tuple[PersistentVolumeClaim, ...] = ()
    delayed: tuple[PersistentVolumeClaim, ...] = ()


class Volumes(NamedTuple):
    """How a pod's unbound claims are served on a node: by volumes that are there, or by new ones."""

    matched: tuple[tuple[PersistentVolumeClaim, PersistentVolume], ...] = ()
    provisioned: tuple[PersistentVolumeClaim, ...] = ()


def is_bound(claim: PersistentVolumeClaim) -> bool:
    """Whether a claim has its volume for good."""
    return bool(claim.spec.volumeName) and BIND_COMPLETED in claim.metadata.annotations


def class_of(claim: PersistentVolumeClaim) -> str:
    """The name of a claim's storage class; "" for none."""
    return claim.metadata.annotations.get(BETA_CLASS) or claim.spec.storageClassName or ""


def claims_of(pod: PodInfo, objects: Objects) -> Claims:
    """The pod's claims that exist."""
    bound, immediate, delayed = [], [], []
    for key in pod.claims:
        claim = objects.claims.get(key)
        if claim is None:
            continue
        storage = objects.classes.get(class_of(claim))
        if is_bound(claim):
            bound.append(claim)
        elif storage is not None and storage.volumeBindingMode == "WaitForFirstConsumer" and not claim.spec.volumeName:
            delayed.append(claim)
        else:
            immediate.append(claim)
    return Claims(tuple(bound), tuple(immediate), tuple(delayed))


def reaches(volume: PersistentVolume, node: NodeInfo) -> bool:
    """Whether a volume can be used on a node."""
    affinity = volume.spec.nodeAffinity
    if affinity is None or affinity.required is None:
        return True
    return any(term_matches(term, node.labels, node.name) for term in affinity.required.nodeSelectorTerms)


def find(claims: tuple[PersistentVolumeClaim, ...], node: NodeInfo, objects: Objects) -> Volumes | None:
    """How the claims could be served on a node; None where they could not. Small claims choose first, each the smallest that will do."""
    matched: list[tuple[PersistentVolumeClaim, PersistentVolume]] = []
    provisioned: list[PersistentVolumeClaim] = []
    for claim in sorted(claims, key=_size):
        if objects.picked.get(claim.key, node.name) != node.name:
            return None
        selected = claim.metadata.annotations.get(SELECTED_NODE)
        if selected is not None:
            if selected != node.name:
                return None
            provisioned.append(claim)
            continue
        chosen = {volume.metadata.name for _, volume in matched}
        fitting = [
            v for v in objects.volumes.values() if v.metadata.name not in chosen and _serves(v, claim, objects.taken) and reaches(v, node)
        ]
        if fitting:
            matched.append((claim, min(fitting, key=lambda v: (_reserved(v, claim) is not True, _capacity(v), v.metadata.name))))
        elif _can_provision(objects.classes.get(class_of(claim)), node):
            provisioned.append(claim)
        else:
            return None
    return Volumes(tuple(matched), tuple(provisioned))


def _size(claim: PersistentVolumeClaim) -> int:
    return amount("storage", claim.spec.resources.requests.get("storage", 0))


def _capacity(volume: PersistentVolume) -> int:
    return amount("storage", volume.spec.capacity.get("storage", 0))


def _reserved(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool | None:
    """Whether a volume is reserved for this claim (True), for another one (False), or for none."""
    ref = volume.spec.claimRef
    if ref is None:
        return None
    return f"{ref.namespace}/{ref.name}" == claim.key and ref.uid in ("", claim.metadata.uid)


def _serves(volume: PersistentVolume, claim: PersistentVolumeClaim, taken: Mapping[str, str]) -> bool:
    reserved = _reserved(volume, claim)
    if reserved is False or taken.get(volume.metadata.name, claim.key) != claim.key or volume.metadata.deletionTimestamp is not None:
        return False
    if volume.spec.volumeMode != claim.spec.volumeMode or _capacity(volume) < _size(claim):
        return False
    if reserved:
        return True
    return (
        volume.status.phase == "Available"
        and volume.spec.storageClassName == class_of(claim)
        and set(claim.spec.accessModes) <= set(volume.spec.accessModes)
        and (claim.spec.selector is None or selectors.matches(claim.spec.selector, volume.metadata.labels))
    )


def _can_provision(storage: StorageClass | None, node: NodeInfo) -> bool:
    if storage is None or storage.provisioner in ("", _NO_PROVISIONER):
        return False
    terms = storage.allowedTopologies
    return not terms or any(all(node.labels.get(e.key) in e.values for e in term.matchLabelExpressions) for term in terms)
