"""A pod with claims needs them bound, on a node that their volumes reach; claims that wait for their first consumer need a volume there."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple, cast

from minikube_py.scheduler import volumes
from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins.api import Ledger, Refusal, Rejection
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.tally import Tally
from minikube_py.scheduler.world import World
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.meta import controller_of

_OUT_OF_REACH = "node(s) didn't match PersistentVolume's node affinity"
_NONE_FREE = "node(s) didn't find available persistent volumes to bind"
_GONE = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"


class Demand(NamedTuple):
    """The claims by namespace/name; the version of all storage objects that they were looked at in."""

    bound: tuple[str, ...]
    delayed: tuple[str, ...]
    version: int


class VolumeBinding:
    """Filter on the reach of volumes."""

    name = "VolumeBinding"
    of_claims = True

    def demand(self, pod: PodInfo, world: World) -> Demand | Refusal | None:
        for volume, key in zip(_claiming(pod), pod.claims, strict=True):
            fault = _fault(pod, key, world.objects.claims.get(key), ephemeral=volume)
            if fault:
                return Refusal(fault, self.name)
        claims = volumes.claims_of(pod, world.objects)
        if claims.immediate:
            return Refusal("pod has unbound immediate PersistentVolumeClaims", self.name)
        return Demand(tuple(c.key for c in claims.bound), tuple(c.key for c in claims.delayed), world.objects.storage_version)

    def open(self, demand: Hashable, pod: PodInfo, world: World) -> Ledger:
        return _Reach(cast("Demand", demand), world)


def _claiming(pod: PodInfo) -> Sequence[bool]:
    """For each claim of the pod, whether it is the pod's own (ephemeral)."""
    return [v.ephemeral is not None for v in pod.pod.spec.volumes if v.persistentVolumeClaim is not None or v.ephemeral is not None]


def _fault(pod: PodInfo, key: str, claim: PersistentVolumeClaim | None, *, ephemeral: bool) -> str:
    name = key.partition("/")[2]
    if claim is None:
        if ephemeral:
            return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
        return f'persistentvolumeclaim "{name}" not found'
    if claim.status.phase == "Lost":
        return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{claim.spec.volumeName}"'
    if claim.metadata.deletionTimestamp is not None:
        return f'persistentvolumeclaim "{name}" is being deleted'
    owner = controller_of(claim.metadata)
    if ephemeral and (owner is None or owner.uid != pod.uid):
        return f"PVC {key} was not created for pod {pod.key} (pod is not owner)"
    return ""


class _Reach:
    filters = True
    weight = 0
    tallies: Sequence[Tally] = ()

    def __init__(self, demand: Demand, world: World) -> None:
        claims = world.objects.claims
        self._bound = tuple(claims[key] for key in demand.bound)
        self._delayed = tuple(claims[key] for key in demand.delayed)
        self._objects = world.objects

    def sort(self, node: NodeInfo) -> Hashable:
        reasons = []
        found = [self._objects.volumes.get(claim.spec.volumeName) for claim in self._bound]
        if any(volume is not None and not volumes.reaches(volume, node) for volume in found):
            reasons.append(_OUT_OF_REACH)
        if self._delayed and volumes.find(self._delayed, node, self._objects) is None:
            reasons.append(_NONE_FREE)
        if any(volume is None for volume in found):
            reasons.append(_GONE)
        return tuple(reasons)

    def judge(self, of: Hashable) -> Rejection | None:
        reasons = cast("tuple[str, ...]", of)
        return Rejection(reasons, False, VolumeBinding.name) if reasons else None

    def points(self, classes: Sequence[Hashable]) -> Sequence[int]:
        return [0] * len(classes)
