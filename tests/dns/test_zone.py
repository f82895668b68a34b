"""What names stand for, by the Kubernetes DNS specification."""

from typing import Any

import msgspec

from minikube_py.dns.zone import Answer, Record, Srv, Zone
from minikube_py.types.network import EndpointSlice, Service

DOMAIN = "cluster.local"


def service(name: str = "web", **spec: Any) -> Service:
    base = {"clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"], "ports": [{"name": "http", "port": 80}]}
    return msgspec.convert({"metadata": {"name": name, "namespace": "shop"}, "spec": {**base, **spec}}, Service)


def headless(**spec: Any) -> Service:
    return service(clusterIP="None", clusterIPs=["None"], **spec)


def slice_of(*endpoints: dict[str, Any]) -> list[EndpointSlice]:
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return [msgspec.convert({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}, EndpointSlice)]


def zone(*services: tuple[Service, list[EndpointSlice]]) -> Zone:
    made = Zone(DOMAIN)
    for each, slices in services:
        made.set_service(each.key, each, slices)
    return made


def test_a_service_has_its_cluster_ip() -> None:
    z = zone((service(), []))
    assert z.lookup("web.shop.svc.cluster.local", "A") == Answer(True, (Record("A", "10.43.0.7"),))
    assert z.lookup("web.shop.svc.cluster.local", "AAAA") == Answer(True)


def test_named_ports_have_srv_records_with_the_targets_address() -> None:
    found = zone((service(), [])).lookup("_http._tcp.web.shop.svc.cluster.local", "SRV")
    target = "web.shop.svc.cluster.local"
    assert found == Answer(True, (Record("SRV", Srv(80, target, 100)),), ((target, Record("A", "10.43.0.7")),))


def test_addresses_point_back() -> None:
    z = zone((service(), []))
    assert "7.0.43.10.in-addr.arpa" in z
    assert "8.0.43.10.in-addr.arpa" not in z
    assert z.lookup("7.0.43.10.in-addr.arpa", "PTR").records == (Record("PTR", "web.shop.svc.cluster.local"),)


def test_a_headless_service_has_its_ready_endpoints_by_hostname_or_address() -> None:
    slices = slice_of(
        {"addresses": ["10.42.0.2"], "hostname": "db-0"},
        {"addresses": ["10.42.0.3"]},
        {"addresses": ["10.42.0.4"], "conditions": {"ready": False}},
    )
    z = zone((headless(), slices))
    assert {r.data for r in z.lookup("web.shop.svc.cluster.local", "A").records} == {"10.42.0.2", "10.42.0.3"}
    assert z.lookup("db-0.web.shop.svc.cluster.local", "A").records == (Record("A", "10.42.0.2"),)
    assert z.lookup("10-42-0-3.web.shop.svc.cluster.local", "A").records == (Record("A", "10.42.0.3"),)
    assert not z.lookup("10-42-0-4.web.shop.svc.cluster.local", "A").exists
    assert len(z.lookup("_http._tcp.web.shop.svc.cluster.local", "SRV").records) == 2


def test_publish_not_ready_addresses_publishes_them() -> None:
    slices = slice_of({"addresses": ["10.42.0.4"], "conditions": {"ready": False}})
    assert zone((headless(publishNotReadyAddresses=True), slices)).lookup("web.shop.svc.cluster.local", "A").records


def test_an_external_name_is_an_alias_for_every_type() -> None:
    z = zone((service(type="ExternalName", externalName="Example.org.", clusterIP="", clusterIPs=[]), []))
    assert z.lookup("web.shop.svc.cluster.local", "A").records == (Record("CNAME", "example.org"),)


def test_names_above_names_exist_without_data() -> None:
    z = zone((service(), []))
    assert z.lookup("shop.svc.cluster.local", "A") == Answer(True)
    assert z.lookup("svc.cluster.local", "A") == Answer(True)
    assert not z.lookup("other.svc.cluster.local", "A").exists


def test_a_removed_service_leaves_nothing() -> None:
    z = zone((service(), []))
    z.set_service("shop/web", None, [])
    assert not z.lookup("web.shop.svc.cluster.local", "A").exists
    assert not z.lookup("shop.svc.cluster.local", "A").exists


def test_two_services_in_front_of_one_address_both_point_back() -> None:
    slices = slice_of({"addresses": ["10.42.0.2"], "hostname": "a"})
    other = msgspec.structs.replace(headless(), metadata=msgspec.structs.replace(headless().metadata, name="other"))
    z = zone((headless(), slices), (other, slices))
    assert len(z.lookup("2.0.42.10.in-addr.arpa", "PTR").records) == 2
    z.set_service("shop/other", None, [])
    assert len(z.lookup("2.0.42.10.in-addr.arpa", "PTR").records) == 1


def test_pod_names_hold_their_address() -> None:
    assert Zone(DOMAIN).lookup("10-42-0-2.shop.pod.cluster.local", "A").records == (Record("A", "10.42.0.2"),)
    assert not Zone(DOMAIN).lookup("nonsense.shop.pod.cluster.local", "A").exists


def test_the_schema_version_is_told() -> None:
    assert Zone(DOMAIN).lookup("dns-version.cluster.local", "TXT").records == (Record("TXT", "1.1.0"),)
