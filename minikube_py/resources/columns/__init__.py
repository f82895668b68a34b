"""How kinds are printed: upstream's columns (pkg/printers/internalversion), a module a family; `BY_KIND` has them all."""

from __future__ import annotations

from collections.abc import Mapping

from minikube_py.resources.api import Columns
from minikube_py.resources.columns import cluster, network, pods, storage, workloads
from minikube_py.resources.columns.base import GENERIC as GENERIC

_BY_GROUP: Mapping[str, Mapping[str, Columns]] = {
    "": {
        "ComponentStatus": cluster.COMPONENT_STATUSES,
        "ConfigMap": cluster.CONFIG_MAPS,
        "Endpoints": network.ENDPOINTS,
        "Event": cluster.EVENTS,
        "Namespace": cluster.NAMESPACES,
        "Node": cluster.NODES,
        "PersistentVolume": storage.VOLUMES,
        "PersistentVolumeClaim": storage.CLAIMS,
        "Pod": pods.PODS,
        "PodTemplate": pods.POD_TEMPLATES,
        "ReplicationController": workloads.REPLICATION_CONTROLLERS,
        "ResourceQuota": cluster.QUOTAS,
        "Secret": cluster.SECRETS,
        "Service": network.SERVICES,
        "ServiceAccount": cluster.SERVICE_ACCOUNTS,
    },
    "admissionregistration.k8s.io": {
        "MutatingAdmissionPolicy": cluster.MUTATING_POLICIES,
        "MutatingAdmissionPolicyBinding": cluster.POLICY_BINDINGS,
        "MutatingWebhookConfiguration": cluster.WEBHOOKS,
        "ValidatingAdmissionPolicy": cluster.VALIDATING_POLICIES,
        "ValidatingAdmissionPolicyBinding": cluster.POLICY_BINDINGS,
        "ValidatingWebhookConfiguration": cluster.WEBHOOKS,
    },
    "apps": {
        "ControllerRevision": workloads.CONTROLLER_REVISIONS,
        "DaemonSet": workloads.DAEMON_SETS,
        "Deployment": workloads.DEPLOYMENTS,
        "ReplicaSet": workloads.REPLICA_SETS,
        "StatefulSet": workloads.STATEFUL_SETS,
    },
    "autoscaling": {"HorizontalPodAutoscaler": workloads.AUTOSCALERS},
    "batch": {"CronJob": workloads.CRON_JOBS, "Job": workloads.JOBS},
    "certificates.k8s.io": {"CertificateSigningRequest": cluster.CERTIFICATE_REQUESTS},
    "coordination.k8s.io": {"Lease": cluster.LEASES},
    "discovery.k8s.io": {"EndpointSlice": network.ENDPOINT_SLICES},
    "flowcontrol.apiserver.k8s.io": {"FlowSchema": cluster.FLOW_SCHEMAS, "PriorityLevelConfiguration": cluster.PRIORITY_LEVELS},
    "networking.k8s.io": {
        "IPAddress": network.IP_ADDRESSES,
        "Ingress": network.INGRESSES,
        "IngressClass": network.INGRESS_CLASSES,
        "NetworkPolicy": network.NETWORK_POLICIES,
        "ServiceCIDR": network.SERVICE_CIDRS,
    },
    "node.k8s.io": {"RuntimeClass": cluster.RUNTIME_CLASSES},
    "policy": {"PodDisruptionBudget": workloads.DISRUPTION_BUDGETS},
    "rbac.authorization.k8s.io": {"ClusterRoleBinding": cluster.BINDINGS, "RoleBinding": cluster.BINDINGS},
    "resource.k8s.io": {
        "DeviceClass": storage.NAMED,
        "ResourceClaim": storage.RESOURCE_CLAIMS,
        "ResourceClaimTemplate": storage.NAMED,
        "ResourceSlice": storage.RESOURCE_SLICES,
    },
    "scheduling.k8s.io": {"PriorityClass": cluster.PRIORITY_CLASSES},
    "storage.k8s.io": {
        "CSIDriver": storage.CSI_DRIVERS,
        "CSINode": storage.CSI_NODES,
        "CSIStorageCapacity": storage.CSI_CAPACITIES,
        "StorageClass": storage.STORAGE_CLASSES,
        "VolumeAttachment": storage.ATTACHMENTS,
        "VolumeAttributesClass": storage.ATTRIBUTES_CLASSES,
    },
}

BY_KIND: Mapping[tuple[str, str], Columns] = {
    (group, kind): columns for group, kinds in _BY_GROUP.items() for kind, columns in kinds.items()
}
