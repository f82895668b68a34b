"""Admission: what a write must fulfil beyond its user's rights, and what is filled in for it. One file a plugin; the order is here."""

from __future__ import annotations

from minikube_py.apiserver.admission.certificates import CertificateApproval, CertificateSigning, CertificateSubjectRestriction
from minikube_py.apiserver.admission.default_ingress_class import DefaultIngressClass
from minikube_py.apiserver.admission.default_storage_class import DefaultStorageClass
from minikube_py.apiserver.admission.default_toleration_seconds import SECONDS, DefaultTolerationSeconds
from minikube_py.apiserver.admission.limit_ranger import LimitRanger
from minikube_py.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from minikube_py.apiserver.admission.node_restriction import NodeRestriction
from minikube_py.apiserver.admission.persistent_volume_claim_resize import PersistentVolumeClaimResize
from minikube_py.apiserver.admission.pod_resize_validator import PodResizeValidator
from minikube_py.apiserver.admission.pod_topology_labels import PodTopologyLabels
from minikube_py.apiserver.admission.priority import Priority
from minikube_py.apiserver.admission.rbac_escalation import RbacEscalation
from minikube_py.apiserver.admission.resource_quota import ResourceQuota
from minikube_py.apiserver.admission.runtime_class import RuntimeClass
from minikube_py.apiserver.admission.service_account import ServiceAccountPlugin
from minikube_py.apiserver.admission.storage_object_in_use_protection import StorageObjectInUseProtection
from minikube_py.apiserver.admission.taint_nodes_by_condition import TaintNodesByCondition
from minikube_py.apiserver.api import AdmissionPlugin
from minikube_py.apiserver.authz import RequestAuthorizer
from minikube_py.apiserver.cache import Cache


def plugins(
    cache: Cache, authorizer: RequestAuthorizer, toleration_seconds: tuple[int, int] = (SECONDS, SECONDS)
) -> tuple[AdmissionPlugin, ...]:
    """The plugins in the order in which they run: upstream's, and after them what upstream does in the storage of RBAC's kinds.

    `toleration_seconds`: how long pods tolerate, by default, a node that is not ready, and one that is unreachable.
    """
    return (
        NamespaceLifecycle(cache),
        LimitRanger(cache),
        ServiceAccountPlugin(cache),
        NodeRestriction(cache, authorizer),
        TaintNodesByCondition(),
        Priority(cache),
        DefaultTolerationSeconds(*toleration_seconds),
        DefaultStorageClass(cache),
        StorageObjectInUseProtection(),
        PersistentVolumeClaimResize(cache),
        RuntimeClass(cache),
        CertificateApproval(authorizer),
        CertificateSigning(authorizer),
        CertificateSubjectRestriction(),
        DefaultIngressClass(cache),
        PodTopologyLabels(cache),
        PodResizeValidator(cache),
        RbacEscalation(authorizer),
        # last: it charges only for what all others let through
        ResourceQuota(cache),
    )
