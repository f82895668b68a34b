"""kube-controller-manager: one file a controller, each with its own identity, all on one set of informers.

What flows through: views from informers → a pure plan → writes through the API as the controller's own service account. The controllers
know nothing of one another: they meet in the API.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minikube_py.aio import Clock, Component, SystemClock
from minikube_py.client import Client
from minikube_py.control import Informers
from minikube_py.controllers.base import Context, Controller, Options
from minikube_py.controllers.clusterrole_aggregation import ClusterRoleAggregation
from minikube_py.controllers.cronjob import CronJobController
from minikube_py.controllers.csr_approving import CSRApprovingController
from minikube_py.controllers.csr_cleaner import CSRCleanerController
from minikube_py.controllers.csr_signing import CSRSigningController
from minikube_py.controllers.daemonset import DaemonSetController
from minikube_py.controllers.deployment import DeploymentController
from minikube_py.controllers.disruption import DisruptionController
from minikube_py.controllers.endpoints import EndpointsController
from minikube_py.controllers.endpointslice import EndpointSliceController
from minikube_py.controllers.endpointslicemirroring import EndpointSliceMirroringController
from minikube_py.controllers.ephemeral_volume import EphemeralVolumeController
from minikube_py.controllers.garbagecollector import GarbageCollector
from minikube_py.controllers.job import JobController
from minikube_py.controllers.local_path import LocalPathProvisioner
from minikube_py.controllers.namespace import NamespaceController
from minikube_py.controllers.node_ipam import NodeIPAMController
from minikube_py.controllers.node_lifecycle import NodeLifecycleController
from minikube_py.controllers.persistentvolume import PersistentVolumeController
from minikube_py.controllers.podgc import PodGCController
from minikube_py.controllers.pvc_protection import ClaimProtectionController, VolumeProtectionController
from minikube_py.controllers.replicaset import ReplicaSetController, ReplicationControllerController
from minikube_py.controllers.resource_quota import ResourceQuotaController
from minikube_py.controllers.rootca import RootCAPublisher
from minikube_py.controllers.serviceaccount import ServiceAccountController
from minikube_py.controllers.statefulset import StatefulSetController
from minikube_py.controllers.taint_eviction import TaintEvictionController
from minikube_py.controllers.token_cleaner import TokenCleanerController
from minikube_py.controllers.ttl_after_finished import TTLAfterFinishedController

CONTROLLERS: tuple[type[Controller], ...] = (
    NamespaceController,
    ServiceAccountController,
    RootCAPublisher,
    ClusterRoleAggregation,
    NodeIPAMController,
    NodeLifecycleController,
    TaintEvictionController,
    DeploymentController,
    ReplicaSetController,
    ReplicationControllerController,
    DaemonSetController,
    StatefulSetController,
    JobController,
    CronJobController,
    TTLAfterFinishedController,
    DisruptionController,
    EndpointSliceController,
    EndpointSliceMirroringController,
    EndpointsController,
    PodGCController,
    ResourceQuotaController,
    PersistentVolumeController,
    ClaimProtectionController,
    VolumeProtectionController,
    EphemeralVolumeController,
    LocalPathProvisioner,
    CSRApprovingController,
    CSRSigningController,
    CSRCleanerController,
    TokenCleanerController,
    # last: it follows what the others follow through their informers, and all other kinds by itself
    GarbageCollector,
)


def controllers(
    client_for: Callable[[str], Client],
    informers: Informers,
    options: Options | None = None,
    clock: Clock | None = None,
    disabled: frozenset[str] = frozenset(),
) -> Sequence[tuple[str, Component]]:
    """The supervised component of every controller, by name. `client_for(name)` acts as system:serviceaccount:kube-system:<name>."""
    context = Context(client_for, informers, options or Options(), clock or SystemClock())
    chosen = [cls for cls in CONTROLLERS if cls.name not in disabled]
    if not context.options.allocate_node_cidrs:
        chosen = [cls for cls in chosen if cls is not NodeIPAMController]
    return tuple((cls.name, cls(context).run) for cls in chosen)


__all__ = ["CONTROLLERS", "Context", "Options", "controllers"]
