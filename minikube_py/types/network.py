"""Services and what stands behind them: read by the service proxy, DNS, the endpoint controllers and the address allocators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from minikube_py.types.meta import Condition, Object, ObjectReference, ResourceRef, View
from minikube_py.types.pod import IntOrString


class ServicePort(View, frozen=True):
    port: int
    name: str = ""
    protocol: str = "TCP"
    targetPort: IntOrString | None = None
    nodePort: int = 0
    appProtocol: str = ""


class ClientIPConfig(View, frozen=True):
    timeoutSeconds: int = 10800


class SessionAffinityConfig(View, frozen=True):
    clientIP: ClientIPConfig = ClientIPConfig()


class ServiceSpec(View, frozen=True):
    type: str = "ClusterIP"
    clusterIP: str = ""
    clusterIPs: tuple[str, ...] = ()
    ipFamilies: tuple[str, ...] = ()
    ipFamilyPolicy: str = ""
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = {}
    externalIPs: tuple[str, ...] = ()
    externalName: str = ""
    loadBalancerIP: str = ""
    loadBalancerSourceRanges: tuple[str, ...] = ()
    loadBalancerClass: str = ""
    allocateLoadBalancerNodePorts: bool = True
    sessionAffinity: str = "None"
    sessionAffinityConfig: SessionAffinityConfig = SessionAffinityConfig()
    externalTrafficPolicy: str = ""
    internalTrafficPolicy: str = "Cluster"
    healthCheckNodePort: int = 0
    publishNotReadyAddresses: bool = False
    trafficDistribution: str = ""


class LoadBalancerIngress(View, frozen=True):
    ip: str = ""
    hostname: str = ""
    ipMode: str = ""


class LoadBalancerStatus(View, frozen=True):
    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(View, frozen=True):
    loadBalancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "services", "Service")
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class EndpointConditions(View, frozen=True):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForZone(View, frozen=True):
    name: str = ""


class ForNode(View, frozen=True):
    name: str = ""


class EndpointHints(View, frozen=True):
    forZones: tuple[ForZone, ...] = ()
    forNodes: tuple[ForNode, ...] = ()


class Endpoint(View, frozen=True):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    nodeName: str = ""
    zone: str = ""
    targetRef: ObjectReference | None = None
    hints: EndpointHints | None = None


class EndpointPort(View, frozen=True):
    name: str = ""
    port: int | None = None
    protocol: str = "TCP"
    appProtocol: str = ""


class EndpointSlice(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
    addressType: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class EndpointAddress(View, frozen=True):
    ip: str
    hostname: str = ""
    nodeName: str = ""
    targetRef: ObjectReference | None = None


class EndpointSubset(View, frozen=True):
    addresses: tuple[EndpointAddress, ...] = ()
    notReadyAddresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class Endpoints(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "endpoints", "Endpoints")
    subsets: tuple[EndpointSubset, ...] = ()


class ParentReference(View, frozen=True):
    group: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""


class IPAddressSpec(View, frozen=True):
    parentRef: ParentReference = ParentReference()


class IPAddress(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("networking.k8s.io", "v1", "ipaddresses", "IPAddress", namespaced=False)
    spec: IPAddressSpec = IPAddressSpec()


class ServiceCIDRSpec(View, frozen=True):
    cidrs: tuple[str, ...] = ()


class ServiceCIDRStatus(View, frozen=True):
    conditions: tuple[Condition, ...] = ()


class ServiceCIDR(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", namespaced=False)
    spec: ServiceCIDRSpec = ServiceCIDRSpec()
    status: ServiceCIDRStatus = ServiceCIDRStatus()


class IngressClass(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("networking.k8s.io", "v1", "ingressclasses", "IngressClass", namespaced=False)


SERVICE_PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
