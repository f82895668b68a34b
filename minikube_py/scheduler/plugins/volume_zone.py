"""A volume that is labelled with a zone or region can only be used there."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import cast

from minikube_py.scheduler import volumes
from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins.api import Ledger, Refusal, Rejection
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.tally import Tally
from minikube_py.scheduler.world import World

_OTHER_ZONE = Rejection(("node(s) had no available volume zone",), False, "VolumeZone")
_CURRENT = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}
"""The old labels, and those that replaced them."""
_LABELS = (*_CURRENT, *_CURRENT.values())
_SEPARATOR = "__"
"""Between the zones of a volume that is in several."""

Places = tuple[tuple[str, tuple[str, ...]], ...]


class VolumeZone:
    """Filter on the labels of bound volumes."""

    name = "VolumeZone"
    of_claims = True

    def demand(self, pod: PodInfo, world: World) -> Places | Refusal | None:
        objects = world.objects
        places = []
        for volume in pod.pod.spec.volumes:
            if volume.persistentVolumeClaim is None:
                continue
            name = volume.persistentVolumeClaim.claimName
            claim = objects.claims.get(f"{pod.kind.namespace}/{name}")
            if claim is None:
                return Refusal(f'persistentvolumeclaim "{name}" not found', self.name)
            if not claim.spec.volumeName:
                storage = volumes.class_of(claim)
                if not storage:
                    return Refusal("PersistentVolumeClaim had no pv name and storageClass name", self.name)
                if storage not in objects.classes:
                    return Refusal(f'storageclass.storage.k8s.io "{storage}" not found', self.name)
                if objects.classes[storage].volumeBindingMode == "WaitForFirstConsumer":
                    continue
                return Refusal("PersistentVolume had no name", self.name)
            found = objects.volumes.get(claim.spec.volumeName)
            if found is None:
                return Refusal(f'persistentvolume "{claim.spec.volumeName}" not found', self.name)
            labels = found.metadata.labels
            places += [(label, tuple(sorted(labels[label].split(_SEPARATOR)))) for label in _LABELS if label in labels]
        return tuple(places) or None

    def open(self, demand: Hashable, pod: PodInfo, world: World) -> Ledger:
        return _Zones(cast("Places", demand))


class _Zones:
    filters = True
    weight = 0
    tallies: Sequence[Tally] = ()

    def __init__(self, places: Places) -> None:
        self._places = places

    def sort(self, node: NodeInfo) -> Hashable:
        labels = node.labels
        if not any(label in labels for label in _LABELS):
            return True
        return all(labels.get(label, labels.get(_CURRENT.get(label, label))) in values for label, values in self._places)

    def judge(self, of: Hashable) -> Rejection | None:
        return None if of else _OTHER_ZONE

    def points(self, classes: Sequence[Hashable]) -> Sequence[int]:
        return [0] * len(classes)
