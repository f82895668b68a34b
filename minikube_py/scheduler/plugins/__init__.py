"""The scheduler's plugins, in the order in which they are asked: a cheap rejection first. One file a plugin, one line here."""

from __future__ import annotations

from minikube_py.scheduler.plugins.api import Filter, Ledger, Plugin, Refusal, Rejection, Score, Wide
from minikube_py.scheduler.plugins.balanced_allocation import NodeResourcesBalancedAllocation
from minikube_py.scheduler.plugins.image_locality import ImageLocality
from minikube_py.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from minikube_py.scheduler.plugins.node_affinity import NodeAffinity
from minikube_py.scheduler.plugins.node_name import NodeName
from minikube_py.scheduler.plugins.node_ports import NodePorts
from minikube_py.scheduler.plugins.node_unschedulable import NodeUnschedulable
from minikube_py.scheduler.plugins.pod_topology_spread import PodTopologySpread
from minikube_py.scheduler.plugins.resources_fit import NodeResourcesFit
from minikube_py.scheduler.plugins.taint_toleration import TaintToleration
from minikube_py.scheduler.plugins.volume_binding import VolumeBinding
from minikube_py.scheduler.plugins.volume_restrictions import VolumeRestrictions
from minikube_py.scheduler.plugins.volume_zone import VolumeZone

PLUGINS: tuple[Plugin, ...] = (
    NodeUnschedulable(),
    NodeName(),
    TaintToleration(),
    NodeAffinity(),
    NodePorts(),
    NodeResourcesFit(),
    VolumeRestrictions(),
    VolumeBinding(),
    VolumeZone(),
    PodTopologySpread(),
    InterPodAffinity(),
    NodeResourcesBalancedAllocation(),
    ImageLocality(),
)

__all__ = ["PLUGINS", "Filter", "Ledger", "Plugin", "Refusal", "Rejection", "Score", "Wide"]
