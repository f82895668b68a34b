"""The persistent volumes behind a pod's claims: which claim each volume means, and whether its volume may be used here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from minikube_py.client import Client
from minikube_py.kubelet.volumes import use
from minikube_py.meta.errors import NotFound
from minikube_py.types import nodeaffinity
from minikube_py.types.core import Node, PersistentVolumeClaim
from minikube_py.types.meta import controller_of
from minikube_py.types.pod import Pod
from minikube_py.types.storage import PersistentVolume

_PROTECTION = "kubernetes.io/pvc-protection"


class ClaimError(Exception):
    """A claim gives no volume yet; the message is upstream's, for the FailedMount event."""

    def __init__(self, volume: str, message: str) -> None:
        which = f"unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[{volume}]"
        super().__init__(f"Unable to attach or mount volumes: {which}: {message}")


def claims_of(pod: Pod) -> Iterator[tuple[str, str, bool]]:
    """(volume, claim, whether the claim is the pod's own) of every volume in use that is a claim."""
    for volume in use.used(pod):
        if volume.persistentVolumeClaim is not None:
            yield volume.name, volume.persistentVolumeClaim.claimName, False
        elif volume.ephemeral is not None:
            yield volume.name, f"{pod.metadata.name}-{volume.name}", True


class Claims:
    """The persistent volumes in use, by pod: once a pod has got its volumes, its containers start again without asking the API."""

    def __init__(self, client: Client, node_name: str) -> None:
        self._client, self._node_name = client, node_name
        self._found: dict[str, Mapping[str, PersistentVolume]] = {}

    async def get(self, pod: Pod) -> Mapping[str, PersistentVolume]:
        """The persistent volume of each volume of the pod that is a claim. Raises ClaimError, StatusError, TransportError."""
        found = self._found.get(pod.metadata.uid)
        if found is None or not all(volume in found for volume, _, _ in claims_of(pod)):  # an ephemeral container may want one more
            found = await _resolve(self._client, pod, self._node_name)
            if found:
                self._found[pod.metadata.uid] = found
        return found

    def release(self, uid: str) -> None:
        """The pod is gone."""
        self._found.pop(uid, None)


async def _resolve(client: Client, pod: Pod, node_name: str) -> Mapping[str, PersistentVolume]:
    found: dict[str, PersistentVolume] = {}
    node: Node | None = None
    mounted, mapped = use.mounted(pod), use.mapped(pod)
    for volume, name, own in claims_of(pod):
        try:
            claim = await client.get(PersistentVolumeClaim, name, pod.metadata.namespace)
        except NotFound as error:
            raise ClaimError(volume, _processing(pod, name, f"failed to fetch PVC from API server: {error}")) from error
        if problem := _unusable(pod, claim, own):
            raise ClaimError(volume, problem)
        try:
            persistent = await client.get(PersistentVolume, claim.spec.volumeName)
        except NotFound as error:
            text = f"failed to fetch PV {claim.spec.volumeName} from API server: {error}"
            raise ClaimError(volume, _processing(pod, name, text)) from error
        if problem := _foreign(persistent, claim):
            raise ClaimError(volume, _processing(pod, name, problem))
        if problem := _other_mode(volume, persistent.spec.volumeMode, volume in mounted, volume in mapped):
            raise ClaimError(volume, problem)
        if persistent.spec.nodeAffinity is not None and persistent.spec.nodeAffinity.required is not None:
            node = node or await client.get(Node, node_name)
            if not any(
                nodeaffinity.term_matches(term, node.metadata.labels, node.metadata.name)
                for term in persistent.spec.nodeAffinity.required.nodeSelectorTerms
            ):
                raise ClaimError(volume, f'volume "{persistent.metadata.name}": no matching NodeSelectorTerms')
        found[volume] = persistent
    return found


def _processing(pod: Pod, claim: str, problem: str) -> str:
    return f"error processing PVC {pod.metadata.namespace}/{claim}: {problem}"


def _unusable(pod: Pod, claim: PersistentVolumeClaim, own: bool) -> str:
    meta, problem = claim.metadata, ""
    if meta.deletionTimestamp is not None and _PROTECTION not in meta.finalizers:
        problem = "PVC is being deleted"
    elif claim.status.phase != "Bound":
        problem = "PVC is not bound"
    elif not claim.spec.volumeName:
        problem = "PVC has empty pvc.Spec.VolumeName"
    if problem:
        return _processing(pod, meta.name, problem)
    owner = controller_of(meta)
    if own and (owner is None or owner.uid != pod.metadata.uid):
        return f"PVC {meta.namespace}/{meta.name} was not created for pod {pod.metadata.namespace}/{pod.metadata.name} (pod is not owner)"
    return ""


def _other_mode(volume: str, mode: str, is_mounted: bool, is_mapped: bool) -> str:
    """What is wrong where a device is used as files, or files as a device."""
    wrong = "volumeMounts" if is_mounted and mode != "Filesystem" else "volumeDevices" if is_mapped and mode != "Block" else ""
    return f"volume {volume} has volumeMode {mode}, but is specified in {wrong}" if wrong else ""


def _foreign(persistent: PersistentVolume, claim: PersistentVolumeClaim) -> str:
    name, reference = persistent.metadata.name, persistent.spec.claimRef
    if reference is None:
        return f"found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
    if reference.uid != claim.metadata.uid:
        uids = f"pv.Spec.ClaimRef.UID {reference.uid} does not point to claim.UID {claim.metadata.uid}"
        return f"found PV object {name} but its {uids}"
    return ""
