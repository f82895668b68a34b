"""Everything that a decision is made in: the nodes with their pods, the other objects, and running totals over both."""

from __future__ import annotations

from minikube_py.scheduler.nodeinfo import Cluster
from minikube_py.scheduler.objects import Objects
from minikube_py.scheduler.tally import Tallies


class World:
    """One cluster as the scheduler sees it."""

    __slots__ = ("cluster", "objects", "tallies")

    def __init__(self, cluster: Cluster, objects: Objects | None = None) -> None:
        self.cluster = cluster
        self.objects = objects or Objects()
        self.tallies = Tallies()
