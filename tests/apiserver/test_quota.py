"""Resource quotas and limit ranges at admission, on the real API server: what is let through, what is said, what is charged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from minikube_py.client import Patch
from minikube_py.meta.errors import AlreadyExists, Forbidden
from minikube_py.types.core import ConfigMap, PersistentVolumeClaim, PriorityClass
from minikube_py.types.devices import ResourceClaim
from minikube_py.types.network import Service
from minikube_py.types.pod import Pod
from minikube_py.types.policy import LimitRange, ResourceQuota
from minikube_py.types.workload import Deployment
from tests.controllers.harness import Plane, control_plane
from tests.support.waiting import until

Obj = dict[str, Any]


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with control_plane(tmp_path, only=("serviceaccount", "resourcequota")) as made:
        yield made


def pod(name: str, requests: Mapping[str, str] = {}, limits: Mapping[str, str] = {}, **spec: Any) -> Obj:
    container = {"name": "c", "image": "c:1", "resources": {"requests": dict(requests), "limits": dict(limits)}}
    return {"metadata": {"name": name}, "spec": {"automountServiceAccountToken": False, "containers": [container], **spec}}


async def quota(plane: Plane, hard: Mapping[str, str], name: str = "q", **spec: Any) -> ResourceQuota:
    """A quota whose status has been told."""
    await plane.create(ResourceQuota, {"metadata": {"name": name, "labels": {"kept": "yes"}}, "spec": {"hard": dict(hard), **spec}})
    return await plane.eventually(ResourceQuota, name, lambda q: dict(q.status.hard) == dict(hard) and q.status.used.keys() == hard.keys())


async def uses(plane: Plane, used: Mapping[str, str], name: str = "q") -> None:
    await plane.eventually(ResourceQuota, name, lambda q: used.items() <= dict(q.status.used).items())


async def refused(plane: Plane, view: Any, body: Obj) -> str:
    with pytest.raises(Forbidden) as caught:
        await plane.create(view, body)
    return caught.value.message


async def test_pods_are_charged_for_what_they_ask_and_credited_when_they_go(plane: Plane) -> None:
    hard = {"pods": "3", "cpu": "1", "requests.memory": "1Gi", "limits.cpu": "2", "requests.example.com/foo": "2", "count/pods": "9"}
    await quota(plane, hard)
    asked = {"cpu": "600m", "memory": "500Mi", "example.com/foo": "1"}
    first = await plane.create(Pod, pod("a", asked, {"cpu": "1", "example.com/foo": "1"}))
    charged = {
        "pods": "1",
        "cpu": "600m",
        "requests.memory": "500Mi",
        "limits.cpu": "1",
        "requests.example.com/foo": "1",
        "count/pods": "1",
    }
    await uses(plane, charged)
    assert await refused(plane, Pod, pod("b", asked, {"cpu": "1", "example.com/foo": "1"})) == (
        'pods "b" is forbidden: exceeded quota: q, requested: cpu=600m, used: cpu=600m, limited: cpu=1'
    )
    assert await refused(plane, Pod, pod("c", {"memory": "1Mi"})) == (
        'pods "c" is forbidden: failed quota: q: must specify cpu for: c; limits.cpu for: c'
    )
    both = await refused(plane, Pod, pod("d", {"cpu": "500m", "memory": "900Mi"}, {"cpu": "500m"}))
    assert both == (
        'pods "d" is forbidden: exceeded quota: q, requested: cpu=500m,requests.memory=900Mi, used: cpu=600m,requests.memory=500Mi, '
        "limited: cpu=1,requests.memory=1Gi"
    )
    # a dry run is judged, and costs nothing
    path = Pod.resource.path("default")
    await plane.client.request("POST", path, query={"dryRun": "All"}, body=_json(pod("dry", {"cpu": "1m", "memory": "1Mi"}, {"cpu": "1m"})))
    # what has ended holds nothing, but is an object still
    ended = {"status": {"phase": "Succeeded"}}
    await plane.client.patch(Pod, "a", ended, "default", kind=Patch.STRATEGIC, subresource="status")
    await uses(plane, {**dict.fromkeys(charged, "0"), "count/pods": "1"})
    await plane.client.delete(Pod, "a", "default", grace_seconds=0, uid=first.metadata.uid)
    await uses(plane, dict.fromkeys(charged, "0"))


def _json(obj: Obj) -> bytes:
    import json

    return json.dumps({"apiVersion": "v1", "kind": "Pod", **obj}).encode()


async def test_scopes_choose_the_pods(plane: Plane) -> None:
    await plane.create(PriorityClass, {"metadata": {"name": "high"}, "value": 10}, None)
    for scope in ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating"):
        await quota(plane, {"pods": "5"}, scope.lower(), scopes=[scope])
    wanted = [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]
    await quota(plane, {"pods": "1"}, "priority", scopeSelector={"matchExpressions": wanted})
    await plane.create(Pod, pod("lazy"))
    await plane.create(Pod, pod("busy", {"cpu": "1m"}, activeDeadlineSeconds=60, priorityClassName="high"))
    for name in ("besteffort", "notbesteffort", "terminating", "notterminating", "priority"):
        await uses(plane, {"pods": "1"}, name)
    message = await refused(plane, Pod, pod("second", priorityClassName="high"))
    assert message.endswith("exceeded quota: priority, requested: pods=1, used: pods=1, limited: pods=1")
    # a deadline that is set later moves the pod to another scope
    await plane.client.patch(Pod, "lazy", {"spec": {"activeDeadlineSeconds": 60}}, "default")
    await uses(plane, {"pods": "2"}, "terminating")
    await uses(plane, {"pods": "0"}, "notterminating")


async def test_objects_are_counted_by_kind(plane: Plane) -> None:
    hard = {"services": "4", "services.nodeports": "2", "services.loadbalancers": "1", "configmaps": "9", "count/deployments.apps": "1"}
    await quota(
        plane, {**hard, "resourcequotas": "1", "persistentvolumeclaims": "1", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"}
    )
    assert (await refused(plane, ResourceQuota, {"metadata": {"name": "r"}, "spec": {"hard": {"pods": "1"}}})).endswith(
        "exceeded quota: q, requested: resourcequotas=1, used: resourcequotas=1, limited: resourcequotas=1"
    )
    ports = [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]

    def service(name: str, kind: str, **spec: Any) -> Obj:
        return {"metadata": {"name": name}, "spec": {"type": kind, "ports": ports, "selector": {"a": "b"}, **spec}}

    await plane.create(Service, service("balanced", "LoadBalancer", allocateLoadBalancerNodePorts=False))
    await uses(plane, {"services": "1", "services.nodeports": "0", "services.loadbalancers": "1"})
    await plane.create(Service, service("inner", "ClusterIP"))
    # a service that changes its type is charged the difference
    await plane.client.patch(Service, "inner", {"spec": {"type": "NodePort"}}, "default")
    await uses(plane, {"services": "2", "services.nodeports": "2"})
    message = await refused(plane, Service, service("more", "NodePort"))
    assert message.endswith("exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=2, limited: services.nodeports=2")
    with pytest.raises(Forbidden):
        await plane.client.patch(Service, "balanced", {"spec": {"type": "NodePort"}}, "default")
    await plane.client.delete(Service, "inner", "default")
    await uses(plane, {"services": "1", "services.nodeports": "0"})

    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "c:1"}]}}
    deployment = {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    await plane.create(Deployment, {"metadata": {"name": "one"}, **deployment})
    assert (await refused(plane, Deployment, {"metadata": {"name": "two"}, **deployment})).startswith(
        'deployments.apps "two" is forbidden: exceeded quota: q, requested: count/deployments.apps=1'
    )
    await plane.client.delete(Deployment, "one", "default")
    await uses(plane, {"count/deployments.apps": "0"})

    def claim(name: str, size: str) -> Obj:
        requests = {"requests": {"storage": size}}
        return {"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "gold", "resources": requests}}

    assert "gold.storageclass.storage.k8s.io/requests.storage=2Gi" in await refused(plane, PersistentVolumeClaim, claim("big", "2Gi"))
    await plane.create(PersistentVolumeClaim, claim("small", "1Gi"))
    await uses(plane, {"persistentvolumeclaims": "1", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"})


async def test_devices_are_counted_by_class(plane: Plane) -> None:
    gold, tin = (f"{name}.deviceclass.resource.k8s.io/devices" for name in ("gold", "tin"))
    await quota(plane, {gold: "3", tin: "40", "count/resourceclaims.resource.k8s.io": "5"})

    def claim(name: str, *requests: Obj) -> Obj:
        return {"metadata": {"name": name}, "spec": {"devices": {"requests": list(requests)}}}

    one = {"name": "a", "exactly": {"deviceClassName": "gold"}}
    choice = [
        {"name": "x", "deviceClassName": "gold", "count": 1},
        {"name": "y", "deviceClassName": "gold", "count": 2},
        {"name": "z", "deviceClassName": "tin", "allocationMode": "All"},
    ]
    await plane.create(ResourceClaim, claim("a", one, {"name": "b", "firstAvailable": choice}))
    await uses(plane, {gold: "3", tin: "32", "count/resourceclaims.resource.k8s.io": "1"})
    assert (await refused(plane, ResourceClaim, claim("b", one))).endswith(
        f"exceeded quota: q, requested: {gold}=1, used: {gold}=3, limited: {gold}=3"
    )
    await plane.client.delete(ResourceClaim, "a", "default")
    await uses(plane, {gold: "0", tin: "0", "count/resourceclaims.resource.k8s.io": "0"})


async def test_many_at_once_get_exactly_what_there_is(plane: Plane) -> None:
    await quota(plane, {"configmaps": "40"})
    await quota(plane, {"count/configmaps": "100"}, "other")
    before = len(await plane.list(ConfigMap))

    async def create(number: int) -> int:
        try:
            await plane.create(ConfigMap, {"metadata": {"name": f"c{number}"}, "data": {"a": "b"}})
        except Forbidden as error:
            assert "exceeded quota: q, requested: configmaps=1, used: configmaps=40, limited: configmaps=40" in error.message
            return 0
        return 1

    assert sum(await asyncio.gather(*(create(number) for number in range(64)))) == 40 - before
    await uses(plane, {"configmaps": "40"})
    await uses(plane, {"count/configmaps": "40"}, "other")
    # names that are taken are not charged twice, whoever asks
    await plane.client.patch(ResourceQuota, "q", {"spec": {"hard": {"configmaps": "50"}}}, "default")
    await plane.eventually(ResourceQuota, "q", lambda q: q.status.hard == {"configmaps": "50"})
    for existing in (await plane.list(ConfigMap))[:3]:
        with pytest.raises(AlreadyExists):
            await plane.create(ConfigMap, {"metadata": {"name": existing.metadata.name}})
        assert (await plane.get(ResourceQuota, "q")).status.used == {"configmaps": "40"}

    async def churn(number: int) -> None:
        name = f"churn{number}"
        await plane.create(ConfigMap, {"metadata": {"name": name}})
        await plane.client.delete(ConfigMap, name, "default")

    await asyncio.gather(*(churn(number) for number in range(10)))
    await uses(plane, {"configmaps": "40"})
    assert len(await plane.list(ConfigMap)) == 40


async def test_the_status_is_put_right_whoever_wrote_it(plane: Plane) -> None:
    await quota(plane, {"configmaps": "5"})
    wrong = {"status": {"hard": {"configmaps": "99"}, "used": {"configmaps": "77"}}}
    await plane.client.patch(ResourceQuota, "q", wrong, "default", subresource="status")
    actual = str(len(await plane.list(ConfigMap)))
    await plane.eventually(ResourceQuota, "q", lambda q: q.status.hard == {"configmaps": "5"} and q.status.used == {"configmaps": actual})
    assert (await plane.get(ResourceQuota, "q")).metadata.labels == {"kept": "yes"}


async def test_limit_ranges_fill_in_and_bound(plane: Plane) -> None:
    container = {
        "type": "Container",
        "min": {"cpu": "50m"},
        "max": {"cpu": "500m"},
        "default": {"cpu": "200m", "memory": "100Mi"},
        "defaultRequest": {"cpu": "100m"},
        "maxLimitRequestRatio": {"cpu": "4"},
    }
    limits = [container, {"type": "Pod", "max": {"memory": "300Mi"}}, {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}}]
    await plane.create(LimitRange, {"metadata": {"name": "l"}, "spec": {"limits": limits}})
    made = await plane.create(Pod, pod("plain"))
    resources = made.spec.containers[0].resources
    assert resources.requests == {"cpu": "100m", "memory": "100Mi"} and resources.limits == {"cpu": "200m", "memory": "100Mi"}
    said = "LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c"
    assert made.metadata.annotations["kubernetes.io/limit-ranger"] == said
    assert made.status.qosClass == "Burstable"
    cases: list[tuple[Obj, str]] = [
        (pod("small", {"cpu": "10m"}, {"cpu": "40m"}), "minimum cpu usage per Container is 50m, but request is 10m"),
        (pod("large", {"cpu": "400m"}, {"cpu": "600m"}), "maximum cpu usage per Container is 500m, but limit is 600m"),
        (
            pod("uneven", {"cpu": "50m"}, {"cpu": "250m"}),
            "cpu max limit to request ratio per Container is 4, but provided ratio is 5.000000",
        ),
        (pod("heavy", {}, {"memory": "400Mi"}), "maximum memory usage per Pod is 300Mi, but limit is 400Mi"),
    ]
    for body, words in cases:
        name = body["metadata"]["name"]
        assert await refused(plane, Pod, body) == f'pods "{name}" is forbidden: {words}'
    two = await refused(plane, Pod, pod("both", {"cpu": "10m"}, {"cpu": "600m"}))
    assert two.startswith('pods "both" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, maximum cpu usage')
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    message = await refused(plane, PersistentVolumeClaim, {"metadata": {"name": "p"}, "spec": claim})
    assert message.endswith("minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi")


async def test_only_a_namespace_with_a_quota_is_limited_and_only_while_it_has_one(plane: Plane) -> None:
    await quota(plane, {"configmaps": "0"})
    await plane.client.request("POST", "/api/v1/namespaces", body=b'{"metadata":{"name":"free"}}')
    await plane.create(ConfigMap, {"metadata": {"name": "c"}}, "free")
    assert "exceeded quota" in await refused(plane, ConfigMap, {"metadata": {"name": "c"}})

    async def gone() -> bool:
        await plane.client.delete(ResourceQuota, "q", "default")
        return True

    await until(gone)
    await plane.create(ConfigMap, {"metadata": {"name": "c"}})
