"""What stands behind a service: endpoint slices and Endpoints, planned on values and kept on the real API server."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from minikube_py.controllers import endpoints, endpointslice
from minikube_py.types.core import Node, ServiceAccount
from minikube_py.types.meta import ObjectMeta, OwnerReference
from minikube_py.types.network import EndpointPort, Endpoints, EndpointSlice, Service, ServicePort
from minikube_py.types.pod import ContainerPort, Pod
from tests.controllers.builders import node, pod, service
from tests.controllers.harness import control_plane

ZONE = {"topology.kubernetes.io/zone": "z1"}


def known(name: str) -> Node | None:
    return node(name, labels=ZONE) if name == "n1" else None


def stored(made: Service, wanted: endpointslice.Wanted, name: str) -> EndpointSlice:
    owner = OwnerReference(apiVersion="v1", kind="Service", name=made.metadata.name, uid=made.metadata.uid, controller=True)
    meta = ObjectMeta(
        name=name,
        namespace="default",
        uid=f"uid-{name}",
        labels=endpointslice.labels_of(made),
        ownerReferences=(owner,),
        resourceVersion="1",
    )
    return EndpointSlice(metadata=meta, addressType=wanted.address_type, endpoints=wanted.endpoints, ports=wanted.ports)


def test_one_ready_pod() -> None:
    made = service(ports=[ServicePort(port=80, name="http", targetPort="web")], labels={"team": "x"})
    one = pod("a", ip="10.42.0.5", ports=[ContainerPort(containerPort=8080, name="web")])
    plan = endpointslice.plan(made, [one], known, [])
    assert not plan.delete and not plan.missing_nodes
    body = endpointslice.slice_body(made, plan.write[0], "2023-11-14T22:13:20Z")
    assert body["metadata"]["generateName"] == "web-"
    assert body["metadata"]["labels"] == {
        "team": "x",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert body["metadata"]["annotations"] == {"endpoints.kubernetes.io/last-change-trigger-time": "2023-11-14T22:13:20Z"}
    assert body["endpoints"] == [
        {
            "addresses": ["10.42.0.5"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "n1",
            "zone": "z1",
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "a", "uid": "uid-a"},
        }
    ]
    assert body["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]


def conditions(made: Service, one: Pod) -> tuple[bool | None, bool | None, bool | None]:
    (wanted,) = endpointslice.plan(made, [one], known, []).write
    (endpoint,) = wanted.endpoints
    return (endpoint.conditions.ready, endpoint.conditions.serving, endpoint.conditions.terminating)


def test_ready_serving_and_terminating() -> None:
    made, published = service(), service(publishNotReadyAddresses=True)
    assert conditions(made, pod("a", ip="10.42.0.5", ready=False)) == (False, False, False)
    assert conditions(made, pod("a", ip="10.42.0.5", ending=True)) == (False, True, True)
    assert conditions(published, pod("a", ip="10.42.0.5", ready=False)) == (True, False, False)
    assert conditions(published, pod("a", ip="10.42.0.5", ending=True)) == (True, True, True)


def test_pods_without_an_address_or_that_have_ended_are_left_out() -> None:
    (wanted,) = endpointslice.plan(service(), [pod("a"), pod("b", ip="10.42.0.6", phase="Failed")], known, []).write
    assert wanted == endpointslice.Wanted("IPv4", (), ())


def test_traffic_that_is_to_stay_near_is_hinted_at() -> None:
    pods = [pod("a", ip="10.42.0.5"), pod("b", ip="10.42.0.6", ready=False)]

    def hints(**spec: Any) -> list[Any]:
        made = service(**spec)
        return [e.get("hints") for e in endpointslice.slice_body(made, endpointslice.plan(made, pods, known, []).write[0], "")["endpoints"]]

    assert hints() == [None, None]
    for close in ("PreferClose", "PreferSameZone"):
        assert hints(trafficDistribution=close) == [{"forZones": [{"name": "z1"}]}, None], "and only who is ready"
    assert hints(trafficDistribution="PreferSameNode")[0] == {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}
    made = service(trafficDistribution="PreferSameNode")
    current = stored(made, endpointslice.plan(made, pods, known, []).write[0], "web-1")
    assert not endpointslice.plan(made, pods, known, [current]).write
    (wanted,) = endpointslice.plan(service(), pods, known, [current]).write
    assert wanted.current is current and all(e.hints is None for e in wanted.endpoints), "a Service that stops asking for it"


def test_pods_on_unknown_nodes_are_left_out_unless_everything_is_published() -> None:
    lost = pod("a", ip="10.42.0.5", node="gone")
    plan = endpointslice.plan(service(), [lost], known, [])
    assert plan.missing_nodes and not plan.write[0].endpoints
    plan = endpointslice.plan(service(publishNotReadyAddresses=True), [lost], known, [])
    assert not plan.missing_nodes and len(plan.write[0].endpoints) == 1


def test_pods_whose_named_ports_differ_get_slices_of_their_own() -> None:
    made = service(ports=[ServicePort(port=80, name="http", targetPort="web")])
    pods = [pod(n, ip=f"10.42.0.{p % 100}", ports=[ContainerPort(containerPort=p, name="web")]) for n, p in (("a", 8080), ("b", 9090))]
    assert {w.ports[0].port for w in endpointslice.plan(made, pods, known, []).write} == {8080, 9090}


def test_headless_services_bear_the_label_and_may_lack_ports() -> None:
    made = service(ports=[], clusterIP="None")
    assert endpointslice.labels_of(made)["service.kubernetes.io/headless"] == ""
    named = pod("a", ip="10.42.0.5", hostname="db-0", subdomain="web")
    (wanted,) = endpointslice.plan(made, [named], known, []).write
    assert wanted.ports == () and wanted.endpoints[0].hostname == "db-0"


def test_dual_stack_gives_a_slice_a_family() -> None:
    made = service(ipFamilies=("IPv4", "IPv6"))
    both = pod("a", ip="10.42.0.5")
    both = msgspec.structs.replace(
        both, status=msgspec.structs.replace(both.status, podIPs=(*both.status.podIPs, type(both.status.podIPs[0])(ip="fd00::5")))
    )
    found = {w.address_type: w.endpoints[0].addresses for w in endpointslice.plan(made, [both], known, []).write}
    assert found == {"IPv4": ("10.42.0.5",), "IPv6": ("fd00::5",)}


def test_a_slice_of_another_owner_is_replaced() -> None:
    made = service()
    wanted = endpointslice.Wanted("IPv4", (), ())
    foreign = stored(msgspec.structs.replace(made, metadata=ObjectMeta(name="web", namespace="default", uid="old")), wanted, "web-old")
    plan = endpointslice.plan(made, [pod("a", ip="10.42.0.5")], known, [foreign])
    assert plan.delete == (foreign,) and plan.write[0].current is None


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 5))
def test_slices_always_hold_exactly_the_pods_and_settle(source: random.Random, limit: int) -> None:
    made = service()
    slices: dict[str, EndpointSlice] = {}
    count = 0
    for _ in range(6):
        pods = [pod(f"p{i}", ip=f"10.42.0.{i + 1}", ready=source.random() < 0.7) for i in range(12) if source.random() < 0.6]
        for again in range(2):
            plan = endpointslice.plan(made, pods, known, list(slices.values()), limit)
            if again:
                assert not plan.write and not plan.delete, "a second look at the same state must find nothing to do"
            for gone in plan.delete:
                del slices[gone.metadata.name]
            for wanted in plan.write:
                count += 1
                name = wanted.current.metadata.name if wanted.current is not None else f"web-{count}"
                slices[name] = stored(made, wanted, name)
        held = [e for each in slices.values() for e in each.endpoints]
        assert sorted(e.addresses[0] for e in held) == sorted(p.status.podIP for p in pods)
        assert all(len(each.endpoints) <= limit for each in slices.values()) and slices


def test_endpoints_group_addresses_by_ports() -> None:
    made = service(ports=[ServicePort(port=80, name="http", targetPort=8080)])
    pods = [
        pod("a", ip="10.42.0.6"),
        pod("b", ip="10.42.0.5"),
        pod("c", ip="10.42.0.7", ready=False),
        pod("d", ip="10.42.0.8", ending=True),
    ]
    (subset,) = endpoints.subsets(made, pods)
    assert [a.ip for a in subset.addresses] == ["10.42.0.5", "10.42.0.6"]
    assert [a.ip for a in subset.notReadyAddresses] == ["10.42.0.7"]
    assert subset.ports == (EndpointPort(name="http", port=8080, protocol="TCP"),)


def test_endpoints_are_cut_off_at_capacity_ready_ones_first() -> None:
    pods = [pod(f"p{i}", ip=f"10.42.{i // 200}.{i % 200 + 1}", ready=i % 2 == 0) for i in range(1400)]
    wanted = endpoints.plan(service(), pods, None)
    assert wanted is not None
    (subset,) = wanted["subsets"]
    assert (len(subset["addresses"]), len(subset["notReadyAddresses"])) == (700, 300)
    assert wanted["metadata"]["annotations"]["endpoints.kubernetes.io/over-capacity"] == "truncated"


def body(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"team": "x"}},
        "spec": {
            "clusterIP": "None",
            "ipFamilies": ["IPv4"],
            "selector": {"app": "web"},
            "ports": [{"port": 80, "name": "http", "targetPort": 8080}],
            **spec,
        },
    }


POD = {"metadata": {"name": "a", "labels": {"app": "web"}}, "spec": {"nodeName": "n1", "containers": [{"name": "web", "image": "web:1"}]}}


async def test_a_service_follows_its_pods(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("endpointslice", "endpoints", "serviceaccount", "node-lifecycle")) as plane:
        await plane.node()
        await plane.create(Service, body())
        (made,) = await plane.count(EndpointSlice, 1)
        assert not made.endpoints and made.metadata.labels["team"] == "x"
        await plane.eventually(Endpoints, "web", lambda e: not e.subsets)
        await plane.eventually(ServiceAccount, "default", bool)
        one = await plane.create(Pod, POD)
        await plane.run_pod(one)
        made = await plane.eventually(EndpointSlice, made.metadata.name, lambda s: s.endpoints)
        assert made.endpoints[0].conditions.ready and made.endpoints[0].addresses == ("10.42.0.5",) and made.ports[0].port == 8080
        await plane.eventually(Endpoints, "web", lambda e: e.subsets and e.subsets[0].addresses[0].ip == "10.42.0.5")
        await plane.run_pod(one, ready=False)
        await plane.eventually(EndpointSlice, made.metadata.name, lambda s: not s.endpoints[0].conditions.ready)
        await plane.eventually(Endpoints, "web", lambda e: e.subsets[0].notReadyAddresses)
        await plane.client.delete(Pod, "a", "default")
        await plane.eventually(EndpointSlice, made.metadata.name, lambda s: s.endpoints[0].conditions.terminating)
        await plane.end_pod(one)
        await plane.eventually(EndpointSlice, made.metadata.name, lambda s: not s.endpoints)
        await plane.eventually(Endpoints, "web", lambda e: not e.subsets)
        assert len(await plane.list(EndpointSlice)) == 1


async def test_endpoints_go_with_their_service_but_hand_made_ones_stay(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("endpoints",)) as plane:
        subsets = [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 1}]}]
        await plane.create(Endpoints, {"metadata": {"name": "by-hand"}, "subsets": subsets})
        await plane.create(Service, body())
        await plane.eventually(Endpoints, "web", bool)
        await plane.client.delete(Service, "web", "default")
        await plane.gone(Endpoints, "web")
        assert await plane.exists(Endpoints, "by-hand")


async def test_services_without_a_selector_are_left_alone(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("endpointslice", "endpoints")) as plane:
        await plane.create(Service, body("bare", selector=None))
        await plane.create(Service, body())
        await plane.count(EndpointSlice, 1)
        await plane.eventually(Endpoints, "web", bool)
        assert not await plane.exists(Endpoints, "bare")
