"""Ephemeral volumes: a claim for each, made from the pod's template and owned by the pod, so that it goes with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, controller_uid
from minikube_py.meta.errors import AlreadyExists, StatusError
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.meta import owner_reference
from minikube_py.types.pod import Pod


class ForeignClaim(Exception):
    """A claim has the name that a pod's ephemeral volume needs, and is not the pod's."""


def plan(pod: Pod, claims: Iterable[PersistentVolumeClaim]) -> list[str]:
    """The names of the volumes that need a claim. Raises ForeignClaim."""
    if pod.metadata.deletionTimestamp is not None:
        return []
    present = {claim.metadata.name: claim for claim in claims}
    missing = []
    for volume in pod.spec.volumes:
        if volume.ephemeral is None:
            continue
        name = f"{pod.metadata.name}-{volume.name}"
        claim = present.get(name)
        if claim is None:
            missing.append(volume.name)
        elif controller_uid(claim.metadata) != pod.metadata.uid:
            namespace = pod.metadata.namespace
            which = f"PVC {namespace}/{name} was not created for pod {namespace}/{pod.metadata.name} (pod is not owner)"
            raise ForeignClaim(f"ephemeral volume {volume.name}: {which}")
    return missing


class EphemeralVolumeController(Controller):
    """Makes the claims of ephemeral volumes."""

    name = "ephemeral-volume"
    identity = "ephemeral-volume-controller"
    component = "ephemeral_volume"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = context.informers.of(Pod)
        self._claims = context.informers.of(PersistentVolumeClaim)

    def watches(self) -> Sequence[Watch]:
        return (
            Watch(self._pods, lambda pod: (pod.key,) if any(v.ephemeral is not None for v in pod.spec.volumes) else ()),
            Watch(self._claims, _owner),
        )

    async def reconcile(self, key: str) -> float | None:
        pod = self._pods.get(key)
        if pod is None:
            return None
        try:
            missing = plan(pod, self._claims.list(pod.metadata.namespace))
        except ForeignClaim as error:
            self.events.record(pod, "Warning", "FailedBinding", str(error))
            return 15.0
        if missing:
            live = orjson.loads(await self.client.request("GET", Pod.resource.path(pod.metadata.namespace, pod.metadata.name)))
            if live["metadata"]["uid"] == pod.metadata.uid:
                for volume in live["spec"]["volumes"]:
                    if volume["name"] in missing:
                        await self._create(pod, volume)
        return None

    async def _create(self, pod: Pod, volume: dict[str, Any]) -> None:
        template = volume["ephemeral"]["volumeClaimTemplate"]
        given = template.get("metadata") or {}
        metadata = {
            "name": f"{pod.metadata.name}-{volume['name']}",
            "labels": given.get("labels") or {},
            "annotations": given.get("annotations") or {},
            "ownerReferences": [owner_reference(pod)],
        }
        body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]}
        try:
            await self.client.create(PersistentVolumeClaim, body, pod.metadata.namespace)
        except AlreadyExists:
            return
        except StatusError as error:
            message = f"ephemeral volume {volume['name']}: create PVC {metadata['name']}: {error}"
            self.events.record(pod, "Warning", "FailedBinding", message)
            raise


def _owner(claim: PersistentVolumeClaim) -> Iterable[str]:
    for reference in claim.metadata.ownerReferences:
        if reference.kind == "Pod" and reference.controller:
            yield f"{claim.metadata.namespace}/{reference.name}"
