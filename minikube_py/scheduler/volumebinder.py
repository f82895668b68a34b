"""Binds the claims that wait for their first consumer, before their pod is bound: reserves volumes, asks for new ones, and waits for both.

The claim itself is bound by whoever owns that (a controller, a provisioner): the scheduler only names the claim in the volume, or the node
in the claim. What is picked counts as taken from the moment of the decision, so that no other pod picks it too.
"""

from __future__ import annotations

import asyncio

from minikube_py.aio import Clock, wait_at_most
from minikube_py.client import Client, Patch
from minikube_py.scheduler import volumes
from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.objects import Objects
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.volumes import Volumes
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.storage import PersistentVolume

BIND_TIMEOUT = 600.0
"""Seconds to wait for claims to be bound (upstream's bindTimeoutSeconds)."""
_LOOK = 5.0
"""Seconds after which claims are looked at without anything being heard of."""


class VolumeBindingError(Exception):
    """The volumes of a pod could not be bound on the node that was chosen."""


class VolumeBinder:
    """Picks at the decision (`reserve`), writes and waits before the binding (`bind`)."""

    def __init__(self, client: Client, objects: Objects, clock: Clock) -> None:
        self._client, self._objects, self._clock = client, objects, clock
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """A claim has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    def reserve(self, pod: PodInfo, node: NodeInfo) -> Volumes | None:
        """What the pod's unbound claims get on the node; None where all are bound."""
        delayed = volumes.claims_of(pod, self._objects).delayed if pod.claims else ()
        found = volumes.find(delayed, node, self._objects) if delayed else None
        if found is None:
            return None
        for claim, volume in found.matched:
            self._objects.take(claim.key, node.name, volume.metadata.name)
        for claim in found.provisioned:
            self._objects.take(claim.key, node.name)
        return found

    def release(self, reserved: Volumes | None) -> None:
        """The API says the same by now, or the pod goes elsewhere."""
        for claim in _claims(reserved) if reserved is not None else ():
            self._objects.give_back(claim.key)

    async def bind(self, pod: PodInfo, node: str, reserved: Volumes) -> None:
        """Write, and wait until all claims are bound. Raises VolumeBindingError, StatusError, TransportError."""
        for claim, volume in reserved.matched:
            reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": claim.metadata.uid}
            reference |= {"namespace": claim.metadata.namespace, "name": claim.metadata.name}
            patch = {
                "metadata": {
                    "resourceVersion": volume.metadata.resourceVersion,
                    "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"},
                },
                "spec": {"claimRef": reference},
            }
            await self._client.patch(PersistentVolume, volume.metadata.name, patch, kind=Patch.MERGE)
        for claim in reserved.provisioned:
            if claim.metadata.annotations.get(volumes.SELECTED_NODE) != node:
                meta = claim.metadata
                annotate = {"metadata": {"uid": meta.uid, "annotations": {volumes.SELECTED_NODE: node}}}
                await self._client.patch(PersistentVolumeClaim, meta.name, annotate, meta.namespace, kind=Patch.MERGE)
        keys = [claim.key for claim in _claims(reserved)]
        await self._wait(node, keys, frozenset(c.key for c in reserved.provisioned))

    async def _wait(self, node: str, keys: list[str], provisioned: frozenset[str]) -> None:
        deadline = self._clock.monotonic() + BIND_TIMEOUT
        while True:
            claims = [self._objects.claims.get(key) for key in keys]
            if all(claim is not None and volumes.is_bound(claim) for claim in claims):
                return
            for key, claim in zip(keys, claims, strict=True):
                if claim is None:
                    raise VolumeBindingError(f"binding volumes: pod does not exist any more: claim {key} is gone")
                # a provisioner that gives up takes the node out of the claim
                selected = claim.metadata.annotations.get(volumes.SELECTED_NODE)
                if key in provisioned and selected not in (None, node):
                    raise VolumeBindingError(
                        f'binding volumes: selectedNode annotation value "{selected}" not set to scheduled node "{node}"'
                    )
            if self._clock.monotonic() > deadline:
                raise VolumeBindingError("binding volumes: context deadline exceeded")
            await wait_at_most(self._changed, _LOOK)


def _claims(reserved: Volumes) -> tuple[PersistentVolumeClaim, ...]:
    return (*(claim for claim, _ in reserved.matched), *reserved.provisioned)
