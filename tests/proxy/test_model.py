"""Which endpoints a service port gets."""

from typing import Any

import msgspec

from minikube_py.proxy.conntrack import Flow, stale
from minikube_py.proxy.model import Backend, ServicePort, service_ports
from minikube_py.types.network import EndpointSlice, Service


def service(**spec: Any) -> Service:
    base = {"clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"], "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return msgspec.convert({"metadata": {"name": "web", "namespace": "default"}, "spec": {**base, **spec}}, Service)


def slice_of(*endpoints: dict[str, Any]) -> EndpointSlice:
    body = {"metadata": {"name": "web-1", "namespace": "default"}, "addressType": "IPv4", "endpoints": endpoints}
    return msgspec.convert({**body, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}, EndpointSlice)


def endpoint(ip: str, node: str = "a", **conditions: bool) -> dict[str, Any]:
    return {"addresses": [ip], "conditions": conditions, "nodeName": node}


def only(svc: Service, *endpoints: dict[str, Any]) -> ServicePort:
    (port,) = service_ports(svc, [slice_of(*endpoints)], "a")
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
    assert service_ports(service(clusterIP="None", clusterIPs=["None"]), [], "a") == ()
    assert service_ports(service(type="ExternalName", clusterIP="", clusterIPs=[]), [], "a") == ()
    labelled = msgspec.structs.replace(
        service(), metadata=msgspec.structs.replace(service().metadata, labels={"service.kubernetes.io/service-proxy-name": "x"})
    )
    assert service_ports(labelled, [], "a") == ()


def test_the_other_family_is_not_served() -> None:
    assert service_ports(service(), [], "a", ipv6=True) == ()


def udp(*ips: str) -> ServicePort:
    backends = tuple(Backend(ip, 53) for ip in ips)
    return ServicePort("d/dns", "udp", "10.43.0.9", 53, 30053, (), (), (), 0, False, False, backends, ())


def test_flows_to_endpoints_that_went_away_are_forgotten() -> None:
    assert stale([udp("10.42.0.2", "10.42.0.3")], [udp("10.42.0.3")]) == {Flow("10.43.0.9", 53, "10.42.0.2"), Flow("", 30053, "10.42.0.2")}
    assert stale([udp("10.42.0.2")], []) == {Flow("10.43.0.9", 53, "10.42.0.2"), Flow("", 30053, "10.42.0.2")}


def test_flows_from_before_the_first_endpoint_are_forgotten() -> None:
    assert stale([udp()], [udp("10.42.0.2")]) == {Flow("10.43.0.9", 53), Flow("", 30053)}


def test_tcp_is_left_alone() -> None:
    assert stale([udp("10.42.0.2")._replace(protocol="tcp")], []) == frozenset()
