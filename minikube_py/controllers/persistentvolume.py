"""The volume binder: claims find their volumes, volumes that are given up are released, and whoever provisions them is told.

One key a claim ("claim/<namespace>/<name>") and one a volume ("volume/<name>"), and one worker: two claims never reach for the same volume.
What to do is decided by `persistentvolume_plan`; a binding that was cut short anywhere is finished by the next look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, Fresh, change
from minikube_py.controllers.persistentvolume_plan import (
    BETA_PROVISIONER,
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    PROVISIONED_BY,
    PROVISIONER,
    Do,
    Said,
    claim_uses,
    plan_claim,
    plan_volume,
    refers_to,
)
from minikube_py.meta.errors import NotFound
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.pod import Pod
from minikube_py.types.storage import PersistentVolume, StorageClass

_CLAIM, _VOLUME = "claim/", "volume/"
_UNDELETABLE = "no deletable volume plugin matched"
_UNRECYCLABLE = "No recycler plugin found for the volume!"


class PersistentVolumeController(Controller):
    """Binds claims and volumes."""

    name = "persistentvolume"
    identity = "persistent-volume-binder"
    component = "persistentvolume-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._volumes: Fresh[PersistentVolume] = Fresh(context.informers.of(PersistentVolume), {"claimRef": _claimed})
        self._claims: Fresh[PersistentVolumeClaim] = Fresh(context.informers.of(PersistentVolumeClaim))
        self._classes = context.informers.of(StorageClass)
        self._pods = context.informers.of(Pod)
        self._pods.add_index("claims", lambda pod: [f"{pod.metadata.namespace}/{name}" for name in claim_uses(pod)])

    def watches(self) -> Sequence[Watch]:
        return (
            Watch(self._claims.informer, self._keys_of_claim),
            Watch(self._volumes.informer, self._keys_of_volume),
            Watch(self._classes, lambda _: self._pending()),
        )

    def _keys_of_claim(self, claim: PersistentVolumeClaim) -> Iterable[str]:
        yield _CLAIM + claim.key
        if claim.spec.volumeName:
            yield _VOLUME + claim.spec.volumeName
        for volume in self._volumes.by_index("claimRef", claim.key):
            yield _VOLUME + volume.metadata.name

    def _keys_of_volume(self, volume: PersistentVolume) -> Iterable[str]:
        yield _VOLUME + volume.metadata.name
        for key in _claimed(volume):
            yield _CLAIM + key
        if volume.spec.claimRef is None:
            yield from self._pending()

    def _pending(self) -> Iterable[str]:
        return [_CLAIM + claim.key for claim in self._claims.informer.list() if BIND_COMPLETED not in claim.metadata.annotations]

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(_CLAIM):
            await self._reconcile_claim(key.removeprefix(_CLAIM))
        else:
            await self._reconcile_volume(key.removeprefix(_VOLUME))
        return None

    # Claims

    async def _reconcile_claim(self, key: str) -> None:
        claim = self._claims.get(key)
        if claim is None:
            return
        volumes = {volume.metadata.name: volume for volume in self._volumes.list()}
        classes = {storage_class.metadata.name: storage_class for storage_class in self._classes.list()}
        plan = plan_claim(claim, volumes, classes, self._waiting(key))
        lost = claim.status.phase == "Lost"
        try:
            match plan.do:
                case Do.BIND:
                    assert plan.volume is not None
                    await self._bind(plan.volume, claim)
                case Do.SET_CLASS:
                    self._claims.wrote(await change(self.client, claim, lambda live: live["spec"].update(storageClassName=plan.name)))
                case Do.PROVISION:
                    claim = self._claims.wrote(await change(self.client, claim, _annotate(PROVISIONER, BETA_PROVISIONER, value=plan.name)))
                    await self._set_claim_status(claim, "Pending")
                case Do.PEND:
                    await self._set_claim_status(claim, "Pending")
                case Do.LOSE:
                    await self._set_claim_status(claim, "Lost")
        except NotFound:
            return
        if plan.say is not None and not (plan.do is Do.LOSE and lost):
            self._say(claim, plan.say)

    def _waiting(self, key: str) -> list[str]:
        return sorted(pod.metadata.name for pod in self._pods.by_index("claims", key) if not pod.spec.nodeName)

    async def _bind(self, volume: PersistentVolume, claim: PersistentVolumeClaim) -> None:
        """The four writes of a binding, of which those that were made before are left out."""
        meta, ours = claim.metadata, not refers_to(volume, claim)
        reference = {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resourceVersion,
        }

        def point_volume(live: dict[str, Any]) -> None:
            if (live["spec"].get("claimRef") or {}).get("uid") != meta.uid:
                live["spec"]["claimRef"] = reference
            if ours:
                _annotate(BOUND_BY_CONTROLLER)(live)

        def point_claim(live: dict[str, Any]) -> None:
            if live["spec"].get("volumeName") != volume.metadata.name:
                live["spec"]["volumeName"] = volume.metadata.name
                _annotate(BOUND_BY_CONTROLLER)(live)
            _annotate(BIND_COMPLETED)(live)

        if volume.spec.claimRef is None or volume.spec.claimRef.uid != meta.uid or ours:
            volume = self._volumes.wrote(await change(self.client, volume, point_volume))
        await self._set_phase(volume, "Bound")
        if claim.spec.volumeName != volume.metadata.name or BIND_COMPLETED not in meta.annotations:
            claim = self._claims.wrote(await change(self.client, claim, point_claim))
        await self._set_claim_status(claim, "Bound", volume)

    async def _set_claim_status(self, claim: PersistentVolumeClaim, phase: str, volume: PersistentVolume | None = None) -> None:
        """The phase, and with a volume what it gives; the capacity only at the moment of binding: from then on it is the resizer's."""
        before = claim.status
        modes = volume.spec.accessModes if volume is not None else ()
        capacity = dict(volume.spec.capacity) if volume is not None else {}
        if volume is not None and before.phase == phase:
            capacity = dict(before.capacity)
        if (before.phase, before.accessModes, dict(before.capacity)) == (phase, modes, capacity):
            return
        bound_now = volume is not None and before.phase != phase

        def edit(live: dict[str, Any]) -> None:
            status = live.setdefault("status", {})
            status["phase"] = phase
            for name, value in (("accessModes", list(modes)), ("capacity", capacity)):
                if value:
                    status[name] = value
                else:
                    status.pop(name, None)
            if bound_now and volume is not None and volume.spec.volumeAttributesClassName:
                status["currentVolumeAttributesClassName"] = volume.spec.volumeAttributesClassName

        self._claims.wrote(await change(self.client, claim, edit, "status"))

    # Volumes

    async def _reconcile_volume(self, name: str) -> None:
        volume = self._volumes.get(name)
        if volume is None:
            return
        claim = await self._claim_of(volume)
        plan = plan_volume(volume, claim)
        for said in plan.say:
            self._say(volume, said)
        try:
            if plan.unbind:
                volume = self._volumes.wrote(await change(self.client, volume, _unbind))
            if plan.phase:
                volume = await self._set_phase(volume, plan.phase)
            if plan.reclaim:
                await self._reclaim(volume)
        except NotFound:
            return
        if plan.claim:
            await self._reconcile_claim(plan.claim)

    async def _claim_of(self, volume: PersistentVolume) -> PersistentVolumeClaim | None:
        """The claim that a volume names. Whether it is gone is asked of the server itself: a stale informer must not cost data."""
        reference = volume.spec.claimRef
        if reference is None:
            return None
        claim = self._claims.get(f"{reference.namespace}/{reference.name}")
        if reference.uid and (claim is None or claim.metadata.uid != reference.uid) and volume.status.phase not in ("Released", "Failed"):
            try:
                return await self.client.get(PersistentVolumeClaim, reference.name, reference.namespace)
            except NotFound:
                return None
        return claim

    async def _reclaim(self, volume: PersistentVolume) -> None:
        """What the reclaim policy says, where it is this controller's to do: volumes that were provisioned are their provisioner's."""
        policy = volume.spec.persistentVolumeReclaimPolicy
        if policy == "Retain" or (policy == "Delete" and PROVISIONED_BY in volume.metadata.annotations) or volume.status.phase == "Failed":
            return
        said = Said("Warning", "VolumeFailedRecycle", _UNRECYCLABLE)
        if policy == "Delete":
            problem = f'error getting deleter volume plugin for volume "{volume.metadata.name}": {_UNDELETABLE}'
            said = Said("Warning", "VolumeFailedDelete", problem)
        await self._set_phase(volume, "Failed", said.message)
        self._say(volume, said)

    async def _set_phase(self, volume: PersistentVolume, phase: str, message: str = "") -> PersistentVolume:
        if volume.status.phase == phase:
            return volume

        def edit(live: dict[str, Any]) -> None:
            status = live.setdefault("status", {})
            status["phase"] = phase
            if message:
                status["message"] = message
            else:
                status.pop("message", None)

        return self._volumes.wrote(await change(self.client, volume, edit, "status"))

    def _say(self, about: PersistentVolume | PersistentVolumeClaim, said: Said) -> None:
        self.events.record(about, said.type, said.reason, said.message)


def _claimed(volume: PersistentVolume) -> Iterable[str]:
    reference = volume.spec.claimRef
    return (f"{reference.namespace}/{reference.name}",) if reference is not None else ()


def _annotate(*names: str, value: str = "yes") -> Callable[[dict[str, Any]], None]:
    def edit(live: dict[str, Any]) -> None:
        annotations = live["metadata"].setdefault("annotations", {})
        for name in names:
            annotations[name] = value

    return edit


def _unbind(live: dict[str, Any]) -> None:
    """Undo a binding: what the binder made goes, what a user reserved stays reserved."""
    annotations = live["metadata"].get("annotations") or {}
    if annotations.pop(BOUND_BY_CONTROLLER, None) is not None:
        live["spec"].pop("claimRef", None)
    else:
        live["spec"]["claimRef"].pop("uid", None)
