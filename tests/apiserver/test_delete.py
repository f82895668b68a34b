"""Deletion: grace, finalizers, propagation, preconditions, collections, namespaces; and bindings and evictions of pods."""

import asyncio
from typing import Any

from minikube_py.types.core import ConfigMap
from tests.support.api import ApiUnderTest

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
MERGE = "application/merge-patch+json"


async def created(server: ApiUnderTest, path: str, obj: dict[str, Any]) -> Any:
    answer = await server.http("POST", path, obj)
    assert answer.status == 201, answer.body
    return answer.json


def pod(name: str = "p", **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **meta}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


async def bound(server: ApiUnderTest, name: str = "p", **meta: Any) -> Any:
    obj = await created(server, PODS, pod(name, **meta))
    answer = await server.http("POST", f"{PODS}/{name}/binding", {"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}})
    assert answer.status == 201, answer.body
    return obj


async def test_most_deletions_answer_with_a_status(server: ApiUnderTest) -> None:
    obj = await created(server, CONFIGMAPS, {"metadata": {"name": "a"}})
    answer = await server.http("DELETE", CONFIGMAPS + "/a")
    assert answer.status == 200 and answer.json["status"] == "Success"
    assert answer.json["details"] == {"name": "a", "kind": "configmaps", "uid": obj["metadata"]["uid"]}
    answer = await server.http("DELETE", CONFIGMAPS + "/a")
    assert (answer.status, answer.json["message"]) == (404, 'configmaps "a" not found')


async def test_finalizers_keep_an_object_until_the_last_is_gone(server: ApiUnderTest) -> None:
    await created(server, CONFIGMAPS, {"metadata": {"name": "a", "finalizers": ["example.com/x"]}})
    gone = (await server.http("DELETE", CONFIGMAPS + "/a")).json
    assert gone["metadata"]["deletionTimestamp"] and gone["metadata"]["deletionGracePeriodSeconds"] == 0
    again = (await server.http("DELETE", CONFIGMAPS + "/a")).json
    assert again["metadata"]["resourceVersion"] == gone["metadata"]["resourceVersion"]
    patch: dict[str, Any] = {"metadata": {"finalizers": ["example.com/x", "example.com/y"]}}
    answer = await server.http("PATCH", CONFIGMAPS + "/a", patch, content_type=MERGE)
    assert answer.status == 422
    assert (
        'no new finalizers can be added if the object is being deleted, found new finalizers []string{"example.com/y"}'
        in (answer.json["message"])
    )
    patch = {"metadata": {"deletionTimestamp": None}}
    assert (await server.http("PATCH", CONFIGMAPS + "/a", patch, content_type=MERGE)).json["metadata"]["deletionTimestamp"]
    answer = await server.http("PATCH", CONFIGMAPS + "/a", {"metadata": {"finalizers": None}}, content_type=MERGE)
    assert answer.status == 200
    assert (await server.http("GET", CONFIGMAPS + "/a")).status == 404


async def test_propagation_is_kept_as_a_finalizer(server: ApiUnderTest) -> None:
    for policy, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
        name = policy.lower()
        await created(server, CONFIGMAPS, {"metadata": {"name": name}})
        obj = (await server.http("DELETE", f"{CONFIGMAPS}/{name}", {"propagationPolicy": policy})).json
        assert obj["metadata"]["finalizers"] == [finalizer]
    await created(server, CONFIGMAPS, {"metadata": {"name": "c"}})
    assert (await server.http("DELETE", f"{CONFIGMAPS}/c?propagationPolicy=Background")).json["status"] == "Success"
    answer = await server.http("DELETE", f"{CONFIGMAPS}/c", {"propagationPolicy": "Orphan", "orphanDependents": True})
    assert answer.status == 422 and answer.json["message"].startswith('DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy')


async def test_preconditions(server: ApiUnderTest) -> None:
    obj = await created(server, CONFIGMAPS, {"metadata": {"name": "a"}})
    for conditions in ({"uid": "other"}, {"resourceVersion": "1"}):
        answer = await server.http("DELETE", CONFIGMAPS + "/a", {"preconditions": conditions})
        assert answer.status == 409 and "in the precondition" in answer.json["message"]
    conditions = {"uid": obj["metadata"]["uid"], "resourceVersion": obj["metadata"]["resourceVersion"]}
    assert (await server.http("DELETE", CONFIGMAPS + "/a", {"preconditions": conditions})).status == 200


async def test_a_pod_on_a_node_goes_when_its_kubelet_says_so(server: ApiUnderTest) -> None:
    await bound(server)
    first = (await server.http("DELETE", PODS + "/p")).json["metadata"]
    assert first["deletionGracePeriodSeconds"] == 30 and first["deletionTimestamp"]
    longer = (await server.http("DELETE", PODS + "/p?gracePeriodSeconds=60")).json["metadata"]
    assert longer["deletionGracePeriodSeconds"] == 30
    shorter = (await server.http("DELETE", PODS + "/p?gracePeriodSeconds=5")).json["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5 and shorter["deletionTimestamp"] < first["deletionTimestamp"]
    assert (await server.http("DELETE", PODS + "/p?gracePeriodSeconds=0")).json["metadata"]["name"] == "p"
    assert (await server.http("GET", PODS + "/p")).status == 404


async def test_a_pod_without_a_node_goes_at_once(server: ApiUnderTest) -> None:
    await created(server, PODS, pod())
    assert (await server.http("DELETE", PODS + "/p")).json["kind"] == "Pod"
    assert (await server.http("GET", PODS + "/p")).status == 404


async def test_a_pod_is_bound_once(server: ApiUnderTest) -> None:
    await bound(server)
    obj = (await server.http("GET", PODS + "/p")).json
    assert obj["spec"]["nodeName"] == "n1"
    assert [(c["type"], c["status"]) for c in obj["status"]["conditions"]] == [("PodScheduled", "True")]
    target = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n2"}}
    answer = await server.http("POST", PODS + "/p/binding", target)
    assert answer.status == 409 and 'pod p is already assigned to node "n1"' in answer.json["message"]
    answer = await server.http("POST", "/api/v1/namespaces/default/bindings", {"metadata": {"name": "q"}, "target": {"name": "n2"}})
    assert answer.status == 404
    await created(server, PODS, pod("q"))
    answer = await server.http("POST", "/api/v1/namespaces/default/bindings", {"metadata": {"name": "q"}, "target": {}})
    assert answer.status == 422 and "target.name: Required value" in answer.json["message"]
    answer = await server.http("POST", "/api/v1/namespaces/default/bindings", {"metadata": {"name": "q"}, "target": {"name": "n2"}})
    assert answer.status == 201
    listed = (await server.http("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2")).json
    assert [item["metadata"]["name"] for item in listed["items"]] == ["q"]


async def test_an_eviction_spends_a_disruption_budget(server: ApiUnderTest) -> None:
    for name in ("p", "q"):
        await bound(server, name, labels={"app": "web"})
        patch = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        assert (await server.http("PATCH", f"{PODS}/{name}/status", patch, content_type=MERGE)).status == 200
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    await created(server, budgets, {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}})
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    unnamed = await server.http("POST", PODS + "/p/eviction", {"apiVersion": "policy/v1", "kind": "Eviction"})
    assert unnamed.status == 400 and unnamed.json["message"] == "name in URL does not match name in Eviction object"
    answer = await server.http("POST", PODS + "/p/eviction", eviction)
    assert answer.status == 429 and "is still being processed by the server" in answer.json["details"]["causes"][0]["message"]
    status = {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}
    answer = await server.http("PATCH", budgets + "/b/status", {"status": status}, content_type=MERGE)
    assert answer.status == 200, answer.body
    assert (await server.http("POST", PODS + "/p/eviction", eviction)).status == 201
    assert (await server.http("GET", PODS + "/p")).json["metadata"]["deletionTimestamp"]
    (said,) = [c for c in (await server.http("GET", PODS + "/p")).json["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    assert (said["status"], said["reason"], said["message"]) == ("True", "EvictionByEvictionAPI", "Eviction API: evicting")
    budget = (await server.http("GET", budgets + "/b")).json["status"]
    assert budget["disruptionsAllowed"] == 0 and list(budget["disruptedPods"]) == ["p"]
    answer = await server.http("POST", PODS + "/q/eviction", {**eviction, "metadata": {"name": "q"}})
    assert answer.status == 429
    assert answer.json["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    dry = await server.http("POST", PODS + "/q/eviction?dryRun=All", {**eviction, "metadata": {"name": "q"}})
    assert dry.status == 429
    assert answer.json["details"]["causes"][0]["message"] == "The disruption budget b does not allow evicting pods currently"


async def test_evictions_that_no_count_is_kept_of(server: ApiUnderTest) -> None:
    """A pod that has not started goes whatever its budget says; one that is not ready where that harms nothing."""
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    for name in ("pending", "unready"):
        await bound(server, name, labels={"app": name})
        await created(
            server, budgets, {"metadata": {"name": name}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": name}}}}
        )
    running = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}}
    assert (await server.http("PATCH", f"{PODS}/unready/status", running, content_type=MERGE)).status == 200

    async def evict(name: str, query: str = "") -> Any:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        return await server.http("POST", f"{PODS}/{name}/eviction{query}", body)

    assert (await evict("pending")).status == 201
    refused = await evict("unready")
    assert refused.status == 429 and refused.json["details"]["retryAfterSeconds"] == 10
    always = {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}}
    assert (await server.http("PATCH", f"{budgets}/unready", always, content_type=MERGE)).status == 200
    assert (await evict("unready", "?dryRun=All")).status == 201
    pod = (await server.http("GET", PODS + "/unready")).json
    assert "deletionTimestamp" not in pod["metadata"] and [c["type"] for c in pod["status"]["conditions"]] == ["Ready"]
    assert (await evict("unready")).status == 201
    await bound(server, "twice", labels={"app": "twice"})
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    assert (await server.http("PATCH", f"{PODS}/twice/status", ready, content_type=MERGE)).status == 200
    for number in (1, 2):
        await created(server, budgets, {"metadata": {"name": f"b{number}"}, "spec": {"selector": {"matchLabels": {"app": "twice"}}}})
    answer = await evict("twice")
    assert answer.status == 500 and answer.json["message"].startswith("This pod has more than one PodDisruptionBudget")


async def test_a_collection_goes_by_its_selector(server: ApiUnderTest) -> None:
    for number in range(20):
        await created(server, CONFIGMAPS, {"metadata": {"name": f"c{number}", "labels": {"n": str(number % 2)}}})
    answer = await server.http("DELETE", CONFIGMAPS + "?labelSelector=n%3D1")
    assert answer.json["kind"] == "ConfigMapList" and len(answer.json["items"]) == 10
    left = (await server.http("GET", CONFIGMAPS)).json["items"]
    assert {item["metadata"]["labels"]["n"] for item in left} == {"0"} and len(left) == 10


async def test_a_namespace_terminates_and_its_finalizer_ends_it(server: ApiUnderTest) -> None:
    obj = await created(server, "/api/v1/namespaces", {"metadata": {"name": "shop"}})
    assert obj["spec"]["finalizers"] == ["kubernetes"] and obj["status"]["phase"] == "Active"
    obj = (await server.http("DELETE", "/api/v1/namespaces/shop")).json
    assert obj["status"]["phase"] == "Terminating" and obj["metadata"]["deletionTimestamp"]
    kept = await server.http("PATCH", "/api/v1/namespaces/shop", {"spec": {"finalizers": None}}, content_type=MERGE)
    assert kept.json["spec"]["finalizers"] == ["kubernetes"]
    answer = await server.http("PUT", "/api/v1/namespaces/shop/finalize", {**kept.json, "spec": {"finalizers": []}})
    assert answer.status == 200, answer.body
    assert (await server.http("GET", "/api/v1/namespaces/shop")).status == 404


async def test_a_watcher_sees_the_last_state_of_what_is_deleted(server: ApiUnderTest) -> None:
    await created(server, CONFIGMAPS, {"metadata": {"name": "a"}, "data": {"k": "last"}})
    client = server.client()
    since = str(server.store.revision)

    async def first() -> Any:
        async for event in client.watch(ConfigMap, "default", resource_version=since):
            return event

    task = asyncio.create_task(first())
    await asyncio.sleep(0.05)
    await client.delete(ConfigMap, "a", "default")
    event = await asyncio.wait_for(task, 5)
    assert event.type == "DELETED" and event.object.data == {"k": "last"}
