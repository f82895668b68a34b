"""A claim of access mode ReadWriteOncePod serves one pod in the whole cluster."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import cast

from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins.api import Ledger, Refusal, Rejection
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.tally import EVERYWHERE, Measure, Tally
from minikube_py.scheduler.world import World

_IN_USE = Rejection(
    ("node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",),
    True,
    "VolumeRestrictions",
)


class VolumeRestrictions:
    """Filter on claims that another pod uses."""

    name = "VolumeRestrictions"
    of_claims = True

    def demand(self, pod: PodInfo, world: World) -> tuple[str, ...] | Refusal | None:
        exclusive = []
        for volume in pod.pod.spec.volumes:
            if volume.persistentVolumeClaim is None:
                continue
            name = volume.persistentVolumeClaim.claimName
            claim = world.objects.claims.get(f"{pod.kind.namespace}/{name}")
            if claim is None:
                return Refusal(f'persistentvolumeclaim "{name}" not found', self.name)
            if "ReadWriteOncePod" in claim.spec.accessModes:
                exclusive.append(claim.key)
        return tuple(exclusive) or None

    def open(self, demand: Hashable, pod: PodInfo, world: World) -> Ledger:
        return _Users(cast("tuple[str, ...]", demand), world)


class _Users:
    filters = True
    weight = 0

    def __init__(self, claims: tuple[str, ...], world: World) -> None:
        self.tallies: Sequence[Tally] = tuple(world.tallies.of(("claim", claim), EVERYWHERE, partial(_users, claim)) for claim in claims)

    def sort(self, node: NodeInfo) -> Hashable:
        return None

    def judge(self, of: Hashable) -> Rejection | None:
        return _IN_USE if any(tally.total for tally in self.tallies) else None

    def points(self, classes: Sequence[Hashable]) -> Sequence[int]:
        return [0] * len(classes)


def _users(claim: str) -> Measure:
    """The pods of a node that use a claim."""
    return lambda node: node.claims.get(claim, 0)
