"""The scheduler's plugins, in the order in which they are asked: a cheap rejection first. One file a plugin, one line here."""

from __future__ import annotations

from minikube_py.scheduler.plugins.api import Filter, Rejection, Score
from minikube_py.scheduler.plugins.balanced_allocation import NodeResourcesBalancedAllocation
from minikube_py.scheduler.plugins.node_affinity import NodeAffinity
from minikube_py.scheduler.plugins.node_name import NodeName
from minikube_py.scheduler.plugins.node_ports import NodePorts
from minikube_py.scheduler.plugins.node_unschedulable import NodeUnschedulable
from minikube_py.scheduler.plugins.resources_fit import NodeResourcesFit
from minikube_py.scheduler.plugins.taint_toleration import TaintToleration

FILTERS: tuple[Filter, ...] = (NodeUnschedulable(), NodeName(), TaintToleration(), NodeAffinity(), NodePorts(), NodeResourcesFit())
SCORES: tuple[Score, ...] = (TaintToleration(), NodeAffinity(), NodeResourcesFit(), NodeResourcesBalancedAllocation())

__all__ = ["FILTERS", "SCORES", "Filter", "Rejection", "Score"]
