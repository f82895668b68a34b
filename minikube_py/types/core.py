"""The smaller core kinds: namespaces, configuration, identities, nodes, leases, priority classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from minikube_py.types.meta import Condition, LabelSelector, Object, ObjectReference, ResourceRef, View
from minikube_py.types.pod import LocalObjectReference, Quantities, ResourceRequirements


class NamespaceSpec(View, frozen=True):
    finalizers: tuple[str, ...] = ()


class NamespaceStatus(View, frozen=True):
    phase: str = ""
    conditions: tuple[Condition, ...] = ()


class Namespace(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "namespaces", "Namespace", namespaced=False)
    spec: NamespaceSpec = NamespaceSpec()
    status: NamespaceStatus = NamespaceStatus()


class ConfigMap(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "configmaps", "ConfigMap")
    data: Mapping[str, str] = {}
    binaryData: Mapping[str, str] = {}
    immutable: bool = False


class Secret(Object, frozen=True):
    """`data` holds base64 text, as the API does."""

    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "secrets", "Secret")
    data: Mapping[str, str] = {}
    type: str = "Opaque"
    immutable: bool = False


class PersistentVolumeClaimSpec(View, frozen=True):
    """`storageClassName` is None where none is named, which is not the same as ""."""

    accessModes: tuple[str, ...] = ()
    selector: LabelSelector | None = None
    resources: ResourceRequirements = ResourceRequirements()
    volumeName: str = ""
    storageClassName: str | None = None
    volumeMode: str = "Filesystem"
    volumeAttributesClassName: str | None = None


class PersistentVolumeClaimStatus(View, frozen=True):
    phase: str = ""
    allocatedResources: Quantities = {}
    accessModes: tuple[str, ...] = ()
    capacity: Quantities = {}


class PersistentVolumeClaim(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
    spec: PersistentVolumeClaimSpec = PersistentVolumeClaimSpec()
    status: PersistentVolumeClaimStatus = PersistentVolumeClaimStatus()


class ServiceAccount(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "serviceaccounts", "ServiceAccount")
    automountServiceAccountToken: bool | None = None
    secrets: tuple[ObjectReference, ...] = ()
    imagePullSecrets: tuple[LocalObjectReference, ...] = ()


class Taint(View, frozen=True):
    key: str
    effect: str
    value: str = ""
    timeAdded: str | None = None


class NodeSpec(View, frozen=True):
    podCIDR: str = ""
    podCIDRs: tuple[str, ...] = ()
    providerID: str = ""
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeAddress(View, frozen=True):
    type: str
    address: str


class DaemonEndpoint(View, frozen=True):
    Port: int = 0


class NodeDaemonEndpoints(View, frozen=True):
    kubeletEndpoint: DaemonEndpoint = DaemonEndpoint()


class ContainerImage(View, frozen=True):
    names: tuple[str, ...] = ()
    sizeBytes: int = 0


class NodeFeatures(View, frozen=True):
    supplementalGroupsPolicy: bool = False


class NodeRuntimeHandlerFeatures(View, frozen=True):
    recursiveReadOnlyMounts: bool = False
    userNamespaces: bool = False


class NodeRuntimeHandler(View, frozen=True):
    name: str = ""
    features: NodeRuntimeHandlerFeatures = NodeRuntimeHandlerFeatures()


class NodeStatus(View, frozen=True):
    capacity: Quantities = {}
    allocatable: Quantities = {}
    conditions: tuple[Condition, ...] = ()
    addresses: tuple[NodeAddress, ...] = ()
    daemonEndpoints: NodeDaemonEndpoints = NodeDaemonEndpoints()
    images: tuple[ContainerImage, ...] = ()
    features: NodeFeatures | None = None
    runtimeHandlers: tuple[NodeRuntimeHandler, ...] = ()


class Node(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "nodes", "Node", namespaced=False)
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class LeaseSpec(View, frozen=True):
    holderIdentity: str = ""
    leaseDurationSeconds: int = 0
    acquireTime: str | None = None
    renewTime: str | None = None


class Lease(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("coordination.k8s.io", "v1", "leases", "Lease")
    spec: LeaseSpec = LeaseSpec()


class RuntimeClass(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False)
    handler: str = ""


class PriorityClass(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
    value: int = 0
    globalDefault: bool = False
    preemptionPolicy: str = ""


class Event(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "events", "Event")
    involvedObject: ObjectReference = ObjectReference()
    reason: str = ""
    message: str = ""
    type: str = ""
    count: int = 0
