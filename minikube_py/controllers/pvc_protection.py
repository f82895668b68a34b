"""Claims and volumes that are in use outlive their deletion: a finalizer holds them until the last user has gone.

A claim is in use while a pod with a node names it; an ephemeral volume's own claim not any more once its pod's containers have ended. A
volume is in use while it is bound. Before a claim's finalizer goes, the pods are asked of the server itself: a stale informer must not cost
data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from minikube_py.client import Client
from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, change, controller_uid
from minikube_py.controllers.persistentvolume_plan import claim_uses
from minikube_py.meta.errors import NotFound
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.meta import ObjectMeta
from minikube_py.types.pod import Pod, is_terminal
from minikube_py.types.storage import PersistentVolume

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"


def plan(meta: ObjectMeta, finalizer: str, used: bool) -> str:
    """What to do with the finalizer of an object: "add", "remove" or nothing."""
    has = finalizer in meta.finalizers
    if meta.deletionTimestamp is not None:
        return "remove" if has and not used else ""
    return "" if has else "add"


def uses(pod: Pod, claim: PersistentVolumeClaim) -> bool:
    """Whether a pod keeps a claim from being deleted. One without a node does not: it will not start on a claim that is being deleted."""
    if not pod.spec.nodeName or pod.metadata.namespace != claim.metadata.namespace:
        return False
    name, own = claim.metadata.name, controller_uid(claim.metadata) == pod.metadata.uid
    for volume in pod.spec.volumes:
        if volume.persistentVolumeClaim is not None and volume.persistentVolumeClaim.claimName == name:
            return True
        if volume.ephemeral is not None and f"{pod.metadata.name}-{volume.name}" == name and own and not _shut_down(pod):
            return True
    return False


def _shut_down(pod: Pod) -> bool:
    """Whether the kubelet is done with the pod, or it was force-deleted: only finalizers keep it, and could wait for the claim."""
    return pod.metadata.deletionTimestamp is not None and pod.metadata.deletionGracePeriodSeconds == 0


async def _write(client: Client, object_: PersistentVolumeClaim | PersistentVolume, finalizer: str, what: str) -> None:
    """Do what the plan says; an object that has gone meanwhile needs nothing any more."""

    def edit(live: dict[str, Any]) -> None:
        held = [f for f in live["metadata"].get("finalizers") or () if f != finalizer]
        live["metadata"]["finalizers"] = [*held, finalizer] if what == "add" else held

    if what:
        with suppress(NotFound):
            await change(client, object_, edit)


class ClaimProtectionController(Controller):
    """Holds claims that pods use."""

    name = "pvc-protection"
    identity = "pvc-protection-controller"
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._claims = context.informers.of(PersistentVolumeClaim)
        self._pods = context.informers.of(Pod)
        self._pods.add_index("claims", lambda pod: [f"{pod.metadata.namespace}/{name}" for name in claim_uses(pod)])

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._claims), Watch(self._pods, self._released))

    def _released(self, pod: Pod) -> Iterable[str]:
        """The claims of a pod that may be done with them."""
        if pod.spec.volumes and (pod.metadata.deletionTimestamp is not None or is_terminal(pod) or self._pods.get(pod.key) is None):
            for name in claim_uses(pod):
                yield f"{pod.metadata.namespace}/{name}"

    async def reconcile(self, key: str) -> float | None:
        claim = self._claims.get(key)
        if claim is None:
            return None
        meta = claim.metadata
        used = any(uses(pod, claim) for pod in self._pods.by_index("claims", key))
        what = plan(meta, CLAIM_FINALIZER, used)
        if what == "remove" and any(uses(pod, claim) for pod in (await self.client.list(Pod, meta.namespace)).items):
            return None
        await _write(self.client, claim, CLAIM_FINALIZER, what)
        return None


class VolumeProtectionController(Controller):
    """Holds volumes that claims are bound to."""

    name = "pv-protection"
    identity = "pv-protection-controller"
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._volumes = context.informers.of(PersistentVolume)

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._volumes),)

    async def reconcile(self, key: str) -> float | None:
        volume = self._volumes.get(key)
        if volume is None:
            return None
        what = plan(volume.metadata, VOLUME_FINALIZER, used=volume.status.phase == "Bound")
        await _write(self.client, volume, VOLUME_FINALIZER, what)
        return None
