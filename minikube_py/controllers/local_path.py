"""The default storage of a small cluster: a directory on the node where the pod runs, made when it is first wanted.

Claims of the class wait for their first consumer, so that the scheduler has chosen the node. The node's kubelet makes the directory and
removes it with all that is in it once the volume was released and its policy is Delete: it is asked through the API server's node proxy,
and touches nothing outside of its own storage directory. A node that cannot be reached keeps its volumes until it can; those of a node that
was taken out of the cluster are forgotten.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from minikube_py.aio import Health
from minikube_py.client.transport import TransportError
from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, change
from minikube_py.controllers.persistentvolume_plan import PROVISIONED_BY, PROVISIONER, SELECTED_NODE, class_of
from minikube_py.meta.errors import AlreadyExists, NotFound, StatusError
from minikube_py.types.core import Node, PersistentVolumeClaim
from minikube_py.types.storage import DEFAULT_CLASS, PersistentVolume, StorageClass

CLASS = "local-path"
NAME = "minikube-py.io/local-path"
HOSTNAME = "kubernetes.io/hostname"
_RETRY = 15.0
_CLAIM, _VOLUME = "claim/", "volume/"


class Unfit(Exception):
    """A claim that this storage cannot fulfil; the message goes into its event."""


def storage_class() -> dict[str, Any]:
    """The class that every cluster has, and that claims get which name none."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {DEFAULT_CLASS: "true"}},
        "provisioner": NAME,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def wants_volume(claim: PersistentVolumeClaim) -> bool:
    """Whether a volume is to be made for a claim."""
    return claim.metadata.annotations.get(PROVISIONER) == NAME and not claim.spec.volumeName and claim.metadata.deletionTimestamp is None


def wants_removal(volume: PersistentVolume) -> bool:
    """Whether a volume of ours is to go, with its data."""
    if volume.metadata.annotations.get(PROVISIONED_BY) != NAME or volume.spec.persistentVolumeReclaimPolicy != "Delete":
        return False
    return volume.status.phase in ("Released", "Failed") and volume.metadata.deletionTimestamp is None


def check(claim: PersistentVolumeClaim) -> str:
    """The node on which the claim's volume is to be. Raises Unfit."""
    for mode in claim.spec.accessModes:
        if mode not in ("ReadWriteOnce", "ReadWriteOncePod"):
            raise Unfit(f"access mode {mode} is not supported: a directory of one node is ReadWriteOnce or ReadWriteOncePod")
    if claim.spec.volumeMode != "Filesystem":
        raise Unfit(f"volume mode {claim.spec.volumeMode} is not supported")
    if claim.spec.selector is not None:
        raise Unfit("claim.Spec.Selector is not supported")
    node = claim.metadata.annotations.get(SELECTED_NODE, "")
    if not node:
        raise Unfit(f"no node was chosen: the class must have volumeBindingMode WaitForFirstConsumer, as {CLASS} has")
    return node


def volume_name(claim: PersistentVolumeClaim) -> str:
    """The volume made for a claim: the same for the same claim, so that it is never made twice."""
    return f"pvc-{claim.metadata.uid}"


def volume(claim: PersistentVolumeClaim, of_class: StorageClass, hostname: str, path: str) -> dict[str, Any]:
    """The persistent volume for a claim, reserved for it, of a directory on one node."""
    meta = claim.metadata
    expression = {"key": HOSTNAME, "operator": "In", "values": [hostname]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(claim), "annotations": {PROVISIONED_BY: NAME}},
        "spec": {
            "accessModes": list(claim.spec.accessModes),
            "capacity": {"storage": claim.spec.resources.requests["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
                "resourceVersion": meta.resourceVersion,
            },
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
            "persistentVolumeReclaimPolicy": of_class.reclaimPolicy,
            "storageClassName": of_class.metadata.name,
            "volumeMode": "Filesystem",
        },
    }


def node_of(persistent: PersistentVolume) -> str:
    """The value of the hostname label of the node where a volume of ours is."""
    affinity = persistent.spec.nodeAffinity
    terms = affinity.required.nodeSelectorTerms if affinity is not None and affinity.required is not None else ()
    return next((v for term in terms for e in term.matchExpressions if e.key == HOSTNAME for v in e.values), "")


class LocalPathProvisioner(Controller):
    """Makes and removes volumes of the class."""

    name = "local-path"
    identity = "local-path-provisioner"
    workers = 4

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._claims = context.informers.of(PersistentVolumeClaim)
        self._volumes = context.informers.of(PersistentVolume)
        self._classes = context.informers.of(StorageClass)
        self._nodes = context.informers.of(Node)

    def watches(self) -> Sequence[Watch]:
        return (
            Watch(self._claims, lambda claim: (_CLAIM + claim.key,) if wants_volume(claim) else ()),
            Watch(self._volumes, lambda persistent: (_VOLUME + persistent.metadata.name,) if wants_removal(persistent) else ()),
            Watch(self._nodes, self._of_removed),
        )

    def _of_removed(self, node: Node) -> Iterable[str]:
        if self._nodes.get(node.metadata.name) is None:
            yield from (_VOLUME + persistent.metadata.name for persistent in self._volumes.list() if wants_removal(persistent))

    async def run(self, health: Health) -> None:
        """Have the class, then follow and reconcile until cancelled. A class that the administrator has changed stays as it is."""
        with contextlib.suppress(AlreadyExists):
            await self.client.create(StorageClass, storage_class())
        await super().run(health)

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(_CLAIM):
            return await self._provision(key.removeprefix(_CLAIM))
        return await self._remove(key.removeprefix(_VOLUME))

    async def _provision(self, key: str) -> float | None:
        claim = self._claims.get(key)
        if claim is None or not wants_volume(claim) or self._volumes.get(volume_name(claim)) is not None:
            return None
        of_class = self._classes.get(class_of(claim))
        if of_class is None:
            return _RETRY
        try:
            name = check(claim)
        except Unfit as error:
            self._say_failed(claim, str(error))
            return None
        node = self._nodes.get(name)
        try:
            if node is None:
                await change(self.client, claim, _forget_node)  # the scheduler chooses another one
                return None
            query = {"namespace": claim.metadata.namespace, "claim": claim.metadata.name}
            path = orjson.loads(await self._ask("POST", name, volume_name(claim), query))["path"]
            hostname = node.metadata.labels.get(HOSTNAME, name)
            await self.client.create(PersistentVolume, volume(claim, of_class, hostname, path))
        except AlreadyExists:
            return None
        except (StatusError, TransportError) as error:
            self._say_failed(claim, f'node "{name}" could not make the volume: {error}')
            return _RETRY
        message = f"Successfully provisioned volume {volume_name(claim)}"
        self.events.record(claim, "Normal", "ProvisioningSucceeded", message)
        return None

    def _say_failed(self, claim: PersistentVolumeClaim, problem: str) -> None:
        message = f'failed to provision volume with StorageClass "{class_of(claim)}": {problem}'
        self.events.record(claim, "Warning", "ProvisioningFailed", message)

    async def _remove(self, name: str) -> float | None:
        persistent = self._volumes.get(name)
        if persistent is None or not wants_removal(persistent):
            return None
        hostname = node_of(persistent)
        node = next((n for n in self._nodes.list() if n.metadata.labels.get(HOSTNAME, n.metadata.name) == hostname), None)
        try:
            if node is not None:
                await self._ask("DELETE", node.metadata.name, name, {})
            await self.client.delete(PersistentVolume, name, uid=persistent.metadata.uid)
        except NotFound:
            return None
        except (StatusError, TransportError) as error:
            self.events.record(persistent, "Warning", "VolumeFailedDelete", f"{error}")
            return _RETRY
        return None

    async def _ask(self, method: str, node: str, name: str, query: dict[str, str]) -> bytes:
        """The node's kubelet, through the API server."""
        return await self.client.request(method, f"/api/v1/nodes/{node}/proxy/localVolumes/{name}", query=query)


def _forget_node(live: dict[str, Any]) -> None:
    live["metadata"]["annotations"].pop(SELECTED_NODE, None)
