"""Which kind has rules of its own: (group, kind) to its strategy. Kinds that are not here have the generic rules."""

from __future__ import annotations

from collections.abc import Mapping

from minikube_py.resources import (
    admissionregistration,
    configuration,
    devices,
    endpoints,
    flowcontrol,
    leases,
    networking,
    persistentvolumeclaims,
    policy,
    rbac,
    storage,
    templates,
)
from minikube_py.resources.api import Strategy
from minikube_py.resources.certificates import CertificateSigningRequestStrategy
from minikube_py.resources.deployments import DeploymentStrategy
from minikube_py.resources.events import EventStrategy
from minikube_py.resources.horizontalpodautoscalers import HorizontalPodAutoscalerStrategy
from minikube_py.resources.jobs import CronJobStrategy, JobStrategy
from minikube_py.resources.namespaces import NamespaceStrategy
from minikube_py.resources.nodes import NodeStrategy
from minikube_py.resources.pods import PodStrategy
from minikube_py.resources.replicasets import ReplicaSetStrategy, ReplicationControllerStrategy
from minikube_py.resources.services import ServiceStrategy
from minikube_py.resources.statefulsets import DaemonSetStrategy, StatefulSetStrategy


class PlainStrategy(Strategy):
    """A kind without status, rules or generation."""

    has_generation = False


class PlainStatusStrategy(Strategy):
    """A kind with a /status and no rules."""

    has_status = True
    has_generation = False


class GenerationStrategy(Strategy):
    """A kind without rules whose generation counts."""


PLAIN: Strategy = PlainStrategy()
PLAIN_WITH_STATUS: Strategy = PlainStatusStrategy()

_BY_GROUP: Mapping[str, Mapping[str, Strategy]] = {
    "": {
        "ConfigMap": configuration.ConfigMapStrategy(),
        "Endpoints": endpoints.EndpointsStrategy(),
        "Event": EventStrategy(),
        "LimitRange": policy.LimitRangeStrategy(),
        "Namespace": NamespaceStrategy(),
        "Node": NodeStrategy(),
        "PersistentVolume": persistentvolumeclaims.PersistentVolumeStrategy(),
        "PersistentVolumeClaim": persistentvolumeclaims.PersistentVolumeClaimStrategy(),
        "Pod": PodStrategy(),
        "PodTemplate": templates.PodTemplateStrategy(),
        "ReplicationController": ReplicationControllerStrategy(),
        "ResourceQuota": policy.ResourceQuotaStrategy(),
        "Secret": configuration.SecretStrategy(),
        "Service": ServiceStrategy(),
        "ServiceAccount": configuration.ServiceAccountStrategy(),
    },
    "admissionregistration.k8s.io": {
        "MutatingAdmissionPolicy": admissionregistration.AdmissionPolicyStrategy(mutating=True),
        "MutatingAdmissionPolicyBinding": admissionregistration.AdmissionPolicyBindingStrategy(mutating=True),
        "MutatingWebhookConfiguration": admissionregistration.WebhookConfigurationStrategy(mutating=True),
        "ValidatingAdmissionPolicy": admissionregistration.AdmissionPolicyStrategy(mutating=False),
        "ValidatingAdmissionPolicyBinding": admissionregistration.AdmissionPolicyBindingStrategy(mutating=False),
        "ValidatingWebhookConfiguration": admissionregistration.WebhookConfigurationStrategy(mutating=False),
    },
    "apps": {
        "ControllerRevision": templates.ControllerRevisionStrategy(),
        "DaemonSet": DaemonSetStrategy(),
        "Deployment": DeploymentStrategy(),
        "ReplicaSet": ReplicaSetStrategy(),
        "StatefulSet": StatefulSetStrategy(),
    },
    "autoscaling": {"HorizontalPodAutoscaler": HorizontalPodAutoscalerStrategy()},
    "batch": {"CronJob": CronJobStrategy(), "Job": JobStrategy()},
    "certificates.k8s.io": {"CertificateSigningRequest": CertificateSigningRequestStrategy()},
    "coordination.k8s.io": {"Lease": leases.LeaseStrategy()},
    "discovery.k8s.io": {"EndpointSlice": endpoints.EndpointSliceStrategy()},
    "flowcontrol.apiserver.k8s.io": {
        "FlowSchema": flowcontrol.FlowSchemaStrategy(),
        "PriorityLevelConfiguration": flowcontrol.PriorityLevelConfigurationStrategy(),
    },
    "networking.k8s.io": {
        "IPAddress": networking.IPAddressStrategy(),
        "Ingress": networking.IngressStrategy(),
        "IngressClass": networking.IngressClassStrategy(),
        "NetworkPolicy": networking.NetworkPolicyStrategy(),
        "ServiceCIDR": networking.ServiceCIDRStrategy(),
    },
    "node.k8s.io": {"RuntimeClass": storage.RuntimeClassStrategy()},
    "policy": {"PodDisruptionBudget": policy.PodDisruptionBudgetStrategy()},
    "rbac.authorization.k8s.io": {
        "ClusterRole": rbac.RoleStrategy(namespaced=False),
        "ClusterRoleBinding": rbac.BindingStrategy(namespaced=False),
        "Role": rbac.RoleStrategy(namespaced=True),
        "RoleBinding": rbac.BindingStrategy(namespaced=True),
    },
    "resource.k8s.io": {
        "DeviceClass": GenerationStrategy(),
        "ResourceClaim": devices.ResourceClaimStrategy(),
        "ResourceClaimTemplate": devices.ResourceClaimTemplateStrategy(),
        "ResourceSlice": GenerationStrategy(),
    },
    "scheduling.k8s.io": {"PriorityClass": policy.PriorityClassStrategy()},
    "storage.k8s.io": {
        "CSIDriver": storage.CSIDriverStrategy(),
        "CSINode": storage.CSINodeStrategy(),
        "CSIStorageCapacity": storage.CSIStorageCapacityStrategy(),
        "StorageClass": storage.StorageClassStrategy(),
        "VolumeAttachment": storage.VolumeAttachmentStrategy(),
        "VolumeAttributesClass": storage.VolumeAttributesClassStrategy(),
    },
}

BY_KIND: Mapping[tuple[str, str], Strategy] = {
    (group, kind): strategy for group, kinds in _BY_GROUP.items() for kind, strategy in kinds.items()
}
