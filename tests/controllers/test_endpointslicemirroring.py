"""Endpoints that users write, mirrored into slices: planned on values and kept on the real API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minikube_py.controllers import endpointslicemirroring as mirroring
from minikube_py.types.meta import ObjectMeta, OwnerReference
from minikube_py.types.network import EndpointAddress, EndpointPort, Endpoints, EndpointSlice, EndpointSubset, Service, ServiceSpec
from tests.controllers.harness import control_plane
from tests.support.waiting import until

HTTP, METRICS = EndpointPort(name="http", port=80), EndpointPort(name="metrics", port=9090)
A, B, SIX = (EndpointAddress(ip=ip) for ip in ("10.0.0.1", "10.0.0.2", "fd00::1"))


def endpoints(*subsets: EndpointSubset, **meta: Any) -> Endpoints:
    return Endpoints(metadata=ObjectMeta(name="web", namespace="default", uid="uid-web", **meta), subsets=subsets)


def stored(made: Endpoints, mirror: mirroring.Mirror, name: str, uid: str = "uid-web") -> EndpointSlice:
    body = mirroring.slice_body(made, mirror)
    owner = OwnerReference(apiVersion="v1", kind="Endpoints", name="web", uid=uid, controller=True)
    labels, annotations = body["metadata"]["labels"], body["metadata"].get("annotations", {})
    meta = ObjectMeta(name=name, namespace="default", uid=name, labels=labels, annotations=annotations, ownerReferences=(owner,))
    return EndpointSlice(metadata=meta, addressType=mirror.address_type, endpoints=mirror.endpoints, ports=mirror.ports)


def test_a_slice_for_each_family_and_set_of_ports() -> None:
    made = endpoints(
        EndpointSubset(addresses=(A, SIX), notReadyAddresses=(B,), ports=(HTTP,)),
        EndpointSubset(addresses=(A,), ports=(METRICS,)),
        labels={"team": "x"},
        annotations={"note": "y", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
    )
    todo = mirroring.plan(made, [])
    found = {(m.address_type, m.ports): [(e.addresses[0], e.conditions.ready) for e in m.endpoints] for m in todo.write}
    assert found == {
        ("IPv4", (HTTP,)): [("10.0.0.1", True), ("10.0.0.2", False)],
        ("IPv6", (HTTP,)): [("fd00::1", True)],
        ("IPv4", (METRICS,)): [("10.0.0.1", True)],
    }
    meta = mirroring.slice_body(made, todo.write[0])["metadata"]
    assert meta["generateName"] == "web-" and meta["annotations"] == {"note": "y"}
    assert meta["labels"] == {
        "team": "x",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
    }
    assert meta["ownerReferences"][0]["kind"] == "Endpoints"


def test_addresses_with_the_same_ports_share_a_slice_and_are_there_once() -> None:
    made = endpoints(
        EndpointSubset(addresses=(A,), ports=(HTTP,)),
        EndpointSubset(addresses=(A,), ports=(METRICS,)),
        EndpointSubset(notReadyAddresses=(A,), ports=(HTTP, METRICS)),
    )
    (mirror,) = mirroring.plan(made, []).write
    assert mirror.ports == (HTTP, METRICS)
    assert [(e.addresses, e.conditions.ready) for e in mirror.endpoints] == [(("10.0.0.1",), False)]


def test_what_is_mirrored_is_left_alone_and_a_change_is_an_update() -> None:
    made = endpoints(EndpointSubset(addresses=(A,), ports=(HTTP,)))
    (mirror,) = mirroring.plan(made, []).write
    there = stored(made, mirror, "web-1")
    assert mirroring.plan(made, [there]) == mirroring.Plan()
    assert mirroring.plan(made, [there, stored(made, mirror, "web-2")]).delete[0].metadata.name == "web-2"
    changed = mirroring.plan(endpoints(EndpointSubset(addresses=(B,), ports=(METRICS,))), [there])
    assert [m.current for m in changed.write] == [there] and not changed.delete
    assert mirroring.plan(endpoints(), [there]).delete == (there,)
    # an earlier object's slice would be collected with that object
    assert mirroring.plan(made, [stored(made, mirror, "web-1", uid="earlier")]).write[0].current is not None


def test_what_cannot_be_mirrored_is_counted() -> None:
    bad = EndpointAddress(ip="10.0.0.0.1")
    todo = mirroring.plan(endpoints(EndpointSubset(addresses=(bad, A, B), ports=(HTTP,))), [], limit=1)
    assert (todo.invalid, todo.too_many, len(todo.write[0].endpoints)) == (1, 1, 1)


def test_which_endpoints_are_mirrored() -> None:
    plain, selecting = Service(spec=ServiceSpec()), Service(spec=ServiceSpec(selector={"app": "x"}))
    assert mirroring.is_mirrored(endpoints(), plain)
    assert not mirroring.is_mirrored(endpoints(), selecting)
    assert not mirroring.is_mirrored(endpoints(), None)
    assert not mirroring.is_mirrored(endpoints(labels={"endpointslice.kubernetes.io/skip-mirror": "true"}), plain)
    assert not mirroring.is_mirrored(endpoints(annotations={"control-plane.alpha.kubernetes.io/leader": "{}"}), plain)


async def test_slices_follow_the_object_and_go_with_it(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("endpointslicemirroring",)) as plane:
        await plane.create(Service, {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}})
        subset = {"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}
        await plane.create(Endpoints, {"metadata": {"name": "web"}, "subsets": [subset]})
        (made,) = await plane.count(EndpointSlice, 1)
        assert made.endpoints[0].addresses == ("10.1.2.3",) and made.ports[0].port == 80
        await plane.client.patch(Endpoints, "web", {"subsets": [{**subset, "addresses": [{"ip": "10.1.2.4"}]}]}, "default")

        async def moved() -> bool:
            slices = await plane.list(EndpointSlice)
            return [found.endpoints[0].addresses for found in slices] == [("10.1.2.4",)]

        await until(moved)
        await plane.client.delete(Endpoints, "web", "default")
        await plane.count(EndpointSlice, 0)
