"""What a claim and a volume need next: the binder's decisions. Pure. Upstream: pkg/controller/volume/persistentvolume.

A binding is two pointers, volume → claim first, then claim → volume, each with a word for how far it has come: the volume's claimRef bears
the claim's uid once it is bound, the claim the annotation bind-completed. So every state that an interrupted binding can leave is told
apart from a user's own pre-binding, and is finished or undone. The volume of a claim whose class waits for its first consumer is chosen by
the scheduler, not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from minikube_py.meta import quantity
from minikube_py.meta.selectors import matches
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.pod import Pod
from minikube_py.types.storage import BETA_CLASS, PersistentVolume, StorageClass, default_class

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
WAIT_FOR_FIRST_CONSUMER = "WaitForFirstConsumer"


class Said(NamedTuple):
    """An event about a claim or a volume."""

    type: str
    reason: str
    message: str


class Do(Enum):
    """What is to be done with a claim."""

    BIND = "bind"
    PROVISION = "provision"
    SET_CLASS = "set class"
    PEND = "pend"
    LOSE = "lose"


class ClaimPlan(NamedTuple):
    """The next step of a claim; `volume` is the one to bind it to, `name` the class or the provisioner."""

    do: Do
    volume: PersistentVolume | None = None
    name: str = ""
    say: Said | None = None


class VolumePlan(NamedTuple):
    """The next step of a volume: the phase to be in, and whether it is to be unbound, or given back as its policy says.

    `claim` is a claim to look at, since finishing the binding is up to it."""

    phase: str = ""
    unbind: bool = False
    reclaim: bool = False
    claim: str = ""
    say: tuple[Said, ...] = ()


def class_of(obj: PersistentVolumeClaim | PersistentVolume) -> str:
    """The storage class that a claim asks for or a volume is of; "" is none."""
    beta = obj.metadata.annotations.get(BETA_CLASS)
    return beta if beta is not None else obj.spec.storageClassName or ""


def claim_uses(pod: Pod) -> Iterable[str]:
    """The names of the claims that a pod's volumes are."""
    for volume in pod.spec.volumes:
        if volume.persistentVolumeClaim is not None:
            yield volume.persistentVolumeClaim.claimName
        elif volume.ephemeral is not None:
            yield f"{pod.metadata.name}-{volume.name}"


def plan_claim(
    claim: PersistentVolumeClaim, volumes: Mapping[str, PersistentVolume], classes: Mapping[str, StorageClass], waiting: Sequence[str] = ()
) -> ClaimPlan:
    """The next step of a claim. `waiting` are the names of the pods that use it and have no node yet."""
    if BIND_COMPLETED in claim.metadata.annotations:
        return _plan_bound(claim, volumes)
    if claim.spec.volumeName:
        return _plan_chosen(claim, volumes.get(claim.spec.volumeName))
    storage_class = classes.get(class_of(claim))
    delayed = storage_class is not None and storage_class.volumeBindingMode == WAIT_FOR_FIRST_CONSUMER
    if (volume := find_volume(claim, volumes.values(), delayed=delayed)) is not None:
        return ClaimPlan(Do.BIND, volume)
    names_class = claim.spec.storageClassName is not None or BETA_CLASS in claim.metadata.annotations
    if not names_class and (default := default_class(classes.values())) is not None:
        return ClaimPlan(Do.SET_CLASS, name=default.metadata.name)
    if delayed and SELECTED_NODE not in claim.metadata.annotations:
        return ClaimPlan(Do.PEND, say=_waits_for_consumer(waiting))
    if class_of(claim):
        if storage_class is None:
            message = f'storageclass.storage.k8s.io "{class_of(claim)}" not found'
            return ClaimPlan(Do.PEND, say=Said("Warning", "ProvisioningFailed", message))
        if storage_class.provisioner == "kubernetes.io/no-provisioner":
            message = "no volume plugin matched name: kubernetes.io/no-provisioner"
            return ClaimPlan(Do.PEND, say=Said("Warning", "ProvisioningFailed", message))
        return ClaimPlan(Do.PROVISION, name=storage_class.provisioner, say=_provisioning(storage_class.provisioner))
    message = "no persistent volumes available for this claim and no storage class is set"
    return ClaimPlan(Do.PEND, say=Said("Normal", "FailedBinding", message))


def _waits_for_consumer(waiting: Sequence[str]) -> Said:
    if not waiting:
        return Said("Normal", "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
    which = f"pod{'s' if len(waiting) > 1 else ''} {','.join(waiting)}"
    return Said("Normal", "WaitForPodScheduled", f"waiting for {which} to be scheduled")


def _provisioning(provisioner: str) -> Said:
    return Said(
        "Normal",
        "ExternalProvisioning",
        f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. "
        "If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
    )


def _plan_bound(claim: PersistentVolumeClaim, volumes: Mapping[str, PersistentVolume]) -> ClaimPlan:
    lost = "Data on the volume is lost!"
    if not claim.spec.volumeName:
        return ClaimPlan(Do.LOSE, say=Said("Warning", "ClaimLost", f"Bound claim has lost reference to PersistentVolume. {lost}"))
    volume = volumes.get(claim.spec.volumeName)
    if volume is None:
        return ClaimPlan(Do.LOSE, say=Said("Warning", "ClaimLost", f"Bound claim has lost its PersistentVolume. {lost}"))
    if volume.spec.claimRef is None or volume.spec.claimRef.uid == claim.metadata.uid:
        return ClaimPlan(Do.BIND, volume)
    message = "Two claims are bound to the same volume, this one is bound incorrectly"
    return ClaimPlan(Do.LOSE, say=Said("Warning", "ClaimMisbound", message))


def _plan_chosen(claim: PersistentVolumeClaim, volume: PersistentVolume | None) -> ClaimPlan:
    """A claim that names its volume."""
    if volume is None:
        return ClaimPlan(Do.PEND)
    if volume.spec.claimRef is None:
        if problem := unfit(volume, claim):
            message = f'Cannot bind to requested volume "{volume.metadata.name}": {problem}'
            return ClaimPlan(Do.PEND, say=Said("Warning", "VolumeMismatch", message))
        return ClaimPlan(Do.BIND, volume)
    if refers_to(volume, claim):
        return ClaimPlan(Do.BIND, volume)
    message = f'volume "{volume.metadata.name}" already bound to a different claim.'
    return ClaimPlan(Do.PEND, say=Said("Warning", "FailedBinding", message))


def refers_to(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    """Whether the volume is reserved for this claim, or bound to it."""
    reference = volume.spec.claimRef
    if reference is None or (reference.namespace, reference.name) != (claim.metadata.namespace, claim.metadata.name):
        return False
    return not reference.uid or reference.uid == claim.metadata.uid


def unfit(volume: PersistentVolume, claim: PersistentVolumeClaim) -> str:
    """Why a volume does not satisfy a claim; "" when it does."""
    if volume.metadata.deletionTimestamp is not None:
        return f'the volume is marked for deletion "{volume.metadata.name}"'
    if _size(volume) < _asked(claim):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if (volume.spec.volumeAttributesClassName or "") != (claim.spec.volumeAttributesClassName or ""):
        return "volumeAttributesClassName does not match"
    if volume.spec.volumeMode != claim.spec.volumeMode:
        return "incompatible volumeMode"
    if not set(claim.spec.accessModes) <= set(volume.spec.accessModes):
        return "incompatible accessMode"
    return ""


def find_volume(claim: PersistentVolumeClaim, volumes: Iterable[PersistentVolume], *, delayed: bool) -> PersistentVolume | None:
    """The volume to bind a claim to: one reserved for it, else of those with the fewest access modes that suffice the smallest.

    For a claim whose binding is `delayed` only a reserved one counts."""
    best: tuple[tuple[int, int, str], PersistentVolume] | None = None
    asked = _asked(claim)
    for volume in volumes:
        spec = volume.spec
        if (spec.claimRef is not None and not refers_to(volume, claim)) or volume.metadata.deletionTimestamp is not None:
            continue
        if _size(volume) < asked or spec.volumeMode != claim.spec.volumeMode or not set(claim.spec.accessModes) <= set(spec.accessModes):
            continue
        if (spec.volumeAttributesClassName or "") != (claim.spec.volumeAttributesClassName or ""):
            continue
        if spec.claimRef is not None:
            return volume
        if delayed or volume.status.phase != "Available" or class_of(volume) != class_of(claim):
            continue
        if claim.spec.selector is not None and not matches(claim.spec.selector, volume.metadata.labels):
            continue
        rank = (len(set(spec.accessModes)), _size(volume), volume.metadata.name)
        if best is None or rank < best[0]:
            best = rank, volume
    return best[1] if best is not None else None


def plan_volume(volume: PersistentVolume, claim: PersistentVolumeClaim | None) -> VolumePlan:
    """The next step of a volume; `claim` is the one that its claimRef names, whatever its uid, as the API has it now."""
    reference, name = volume.spec.claimRef, volume.metadata.name
    if reference is None or not reference.uid:
        key = f"{reference.namespace}/{reference.name}" if reference is not None else ""
        return VolumePlan("Available", claim=key)
    if claim is None or claim.metadata.uid != reference.uid:
        phase = volume.status.phase if volume.status.phase in ("Released", "Failed") else "Released"
        return VolumePlan(phase, reclaim=True)
    if not claim.spec.volumeName:
        if claim.spec.volumeMode == volume.spec.volumeMode:
            return VolumePlan(claim=claim.key)
        to_claim = f'Cannot bind PersistentVolume "{name}" to requested PersistentVolumeClaim due to incompatible volumeMode.'
        return VolumePlan(say=(Said("Warning", "VolumeMismatch", to_claim),))
    if claim.spec.volumeName == name:
        return VolumePlan("Bound")
    if PROVISIONED_BY in volume.metadata.annotations and volume.spec.persistentVolumeReclaimPolicy == "Delete":
        phase = volume.status.phase if volume.status.phase in ("Released", "Failed") else "Released"
        return VolumePlan(phase, reclaim=True)  # made for a claim that was bound to another one meanwhile
    return VolumePlan("Available", unbind=True)


def _size(volume: PersistentVolume) -> int:
    return quantity.parse(volume.spec.capacity.get("storage", "0")).value()


def _asked(claim: PersistentVolumeClaim) -> int:
    return quantity.parse(claim.spec.resources.requests.get("storage", "0")).value()
