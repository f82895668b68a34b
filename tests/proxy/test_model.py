"""Which endpoints a service port gets."""

from typing import Any

import msgspec

from minikube_py.proxy.model import Backend, HealthCheck, Place, ServicePort, health_check, service_ports
from minikube_py.types.network import EndpointSlice, Service

HERE = Place("a", "z1")


def service(**spec: Any) -> Service:
    base = {"clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"], "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return msgspec.convert({"metadata": {"name": "web", "namespace": "default"}, "spec": {**base, **spec}}, Service)


def slice_of(*endpoints: dict[str, Any]) -> EndpointSlice:
    body = {"metadata": {"name": "web-1", "namespace": "default"}, "addressType": "IPv4", "endpoints": endpoints}
    return msgspec.convert({**body, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}, EndpointSlice)


def endpoint(ip: str, node: str = "a", **conditions: bool) -> dict[str, Any]:
    return {"addresses": [ip], "conditions": conditions, "nodeName": node}


def only(svc: Service, *endpoints: dict[str, Any]) -> ServicePort:
    (port,) = service_ports(svc, [slice_of(*endpoints)], HERE)
    return port


def test_ready_endpoints_serve() -> None:
    port = only(service(), endpoint("10.42.0.2", ready=True), endpoint("10.42.0.3", ready=False))
    assert port.backends == (Backend("10.42.0.2", 8080),)


def test_an_endpoint_without_conditions_is_ready() -> None:
    assert only(service(), endpoint("10.42.0.2")).backends == (Backend("10.42.0.2", 8080),)


def test_terminating_endpoints_serve_only_where_none_is_ready() -> None:
    leaving = endpoint("10.42.0.3", ready=False, serving=True, terminating=True)
    assert only(service(), leaving).backends == (Backend("10.42.0.3", 8080),)
    assert only(service(), leaving, endpoint("10.42.0.2", ready=True)).backends == (Backend("10.42.0.2", 8080),)


def test_local_policies_see_this_node_only() -> None:
    svc = service(type="NodePort", externalTrafficPolicy="Local")
    port = only(svc, endpoint("10.42.0.2", "a", ready=True), endpoint("10.42.1.2", "b", ready=True))
    assert port.external_local
    assert port.local_backends == (Backend("10.42.0.2", 8080),)
    assert len(port.backends) == 2


def test_headless_external_name_and_foreign_proxy_services_have_no_ports() -> None:
    assert service_ports(service(clusterIP="None", clusterIPs=["None"]), [], HERE) == ()
    assert service_ports(service(type="ExternalName", clusterIP="", clusterIPs=[]), [], HERE) == ()
    labels = {"service.kubernetes.io/service-proxy-name": ""}
    labelled = msgspec.structs.replace(service(), metadata=msgspec.structs.replace(service().metadata, labels=labels))
    assert service_ports(labelled, [], HERE) == ()


def test_slices_for_headless_services_are_not_followed() -> None:
    labels = {"service.kubernetes.io/headless": ""}
    plain = slice_of(endpoint("10.42.0.2", ready=True))
    labelled = msgspec.structs.replace(plain, metadata=msgspec.structs.replace(plain.metadata, labels=labels))
    (port,) = service_ports(service(), [labelled], HERE)
    assert port.backends == ()
    of_service = msgspec.structs.replace(service(), metadata=msgspec.structs.replace(service().metadata, labels=labels))
    (port,) = service_ports(of_service, [plain], HERE)
    assert port.backends == (Backend("10.42.0.2", 8080),)


def test_the_other_family_is_not_served() -> None:
    assert service_ports(service(), [], "a", ipv6=True) == ()


def test_hints_for_this_node_or_zone_are_followed_where_every_endpoint_has_some() -> None:
    def hinted(ip: str, zone: str, node: str = "", ready: bool = True) -> dict[str, Any]:
        hints = {"forZones": [{"name": zone}], **({"forNodes": [{"name": node}]} if node else {})}
        return {**endpoint(ip, node or "x", ready=ready), "hints": hints}

    near, far = hinted("10.42.0.2", "z1"), hinted("10.42.1.2", "z2")
    svc = service(trafficDistribution="PreferClose")

    def chosen(*endpoints: dict[str, Any], here: Place = HERE) -> list[str]:
        (port,) = service_ports(svc, [slice_of(*endpoints)], here)
        return [b.ip for b in port.backends]

    assert chosen(near, far) == ["10.42.0.2"]
    assert chosen(near, far, here=Place("a", "z3")) == ["10.42.0.2", "10.42.1.2"], "nobody is hinted for that zone"
    assert chosen(near, far, here=Place("a")) == ["10.42.0.2", "10.42.1.2"]
    assert chosen(near, far, endpoint("10.42.2.2", ready=True)) == ["10.42.0.2", "10.42.1.2", "10.42.2.2"], "one has no hint"
    assert chosen(hinted("10.42.0.2", "z1", ready=False), far) == ["10.42.1.2"], "who is hinted is not ready"
    assert chosen(hinted("10.42.0.2", "z1", "b"), hinted("10.42.0.3", "z1", "a")) == ["10.42.0.3"]
    assert chosen(hinted("10.42.0.2", "z1", "b"), hinted("10.42.0.3", "z2", "c")) == ["10.42.0.2"], "none of this node: the zone's"


def test_external_ips_and_load_balancers_are_external_by_themselves() -> None:
    port = only(service(externalIPs=["192.0.2.1", "192.0.2.1"], externalTrafficPolicy="Local"), endpoint("10.42.0.2", ready=True))
    assert (port.external, port.external_local, port.external_ips) == (True, True, ("192.0.2.1",))


def test_a_health_check_counts_the_ready_endpoints_of_this_node_once_each() -> None:
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}
    endpoints = slice_of(
        endpoint("10.42.0.2", ready=True), endpoint("10.42.0.3", ready=False, serving=True, terminating=True), endpoint("10.42.1.2", "b")
    )
    assert health_check(service(**spec), [endpoints, endpoints], HERE) == HealthCheck(31000, 1)
    assert health_check(service(**spec), [], HERE) == HealthCheck(31000, 0)
    assert health_check(service(**{**spec, "externalTrafficPolicy": "Cluster"}), [endpoints], HERE) is None
    assert health_check(service(**{**spec, "type": "NodePort"}), [endpoints], HERE) is None
