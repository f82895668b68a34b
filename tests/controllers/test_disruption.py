"""Disruption budgets: judged on values, and told to the eviction API on the real API server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from minikube_py.controllers import disruption
from minikube_py.meta.errors import TooManyRequests
from minikube_py.types.core import Event
from minikube_py.types.meta import LabelSelector, ObjectMeta, OwnerReference, timestamp
from minikube_py.types.pod import Pod
from minikube_py.types.policy import PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus
from minikube_py.types.workload import Deployment, ReplicaSet, ReplicationController
from tests.controllers.builders import LABELS, NOW, pod
from tests.controllers.harness import Plane, control_plane


def budget(disrupted: Mapping[str, str] = {}, **spec: Any) -> PodDisruptionBudget:
    return PodDisruptionBudget(
        metadata=ObjectMeta(name="web", namespace="default", uid="uid-web", generation=3),
        spec=PodDisruptionBudgetSpec(selector=LabelSelector(matchLabels=LABELS), **spec),
        status=PodDisruptionBudgetStatus(disruptedPods=disrupted),
    )


@pytest.mark.parametrize(
    ("spec", "healthy", "expected", "desired", "allowed"),
    [
        ({"minAvailable": 2}, 3, 3, 2, 1),
        ({"minAvailable": 2}, 1, 1, 2, 0),
        ({"minAvailable": "50%"}, 3, 5, 3, 0),
        ({"minAvailable": "50%"}, 5, 5, 3, 2),
        ({"maxUnavailable": 1}, 3, 3, 2, 1),
        ({"maxUnavailable": "30%"}, 10, 10, 7, 3),
        ({"maxUnavailable": "1%"}, 4, 4, 3, 1),
        ({"maxUnavailable": 5}, 2, 2, 0, 2),
        ({"maxUnavailable": 0}, 3, 3, 3, 0),
        ({"minAvailable": 0}, 0, 0, 0, 0),
    ],
)
def test_what_is_allowed(spec: dict[str, Any], healthy: int, expected: int, desired: int, allowed: int) -> None:
    pods = [pod(f"p{n}") for n in range(healthy)]
    status = disruption.plan(budget(**spec), pods, expected, NOW).status
    assert (status.currentHealthy, status.desiredHealthy, status.disruptionsAllowed) == (healthy, desired, allowed)
    assert status.expectedPods == expected and status.observedGeneration == 3
    (condition,) = status.conditions
    assert (condition.type, condition.reason) == ("DisruptionAllowed", "SufficientPods" if allowed else "InsufficientPods")
    assert condition.observedGeneration == 3


def test_pods_that_do_not_count() -> None:
    granted = {"granted": timestamp(NOW - 60), "overdue": timestamp(NOW - 121), "gone": timestamp(NOW)}
    pods = [pod("ready"), pod("unready", ready=False), pod("ending", ending=True), pod("granted"), pod("overdue")]
    step = disruption.plan(budget(granted, minAvailable=1), pods, 5, NOW)
    assert step.status.currentHealthy == 2 and set(step.status.disruptedPods) == {"granted"}
    assert [p.metadata.name for p in step.overdue] == ["overdue"] and step.again == 60


async def evict(plane: Plane, name: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    await plane.client.request("POST", Pod.resource.path("default", name, "eviction"), body=orjson.dumps(body))


async def test_evictions_go_by_the_budget(tmp_path: Path) -> None:
    only = ("disruption", "replicationcontroller", "serviceaccount", "node-lifecycle")
    async with control_plane(tmp_path, only=only, scheduler=True) as plane:
        await plane.node()
        template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}
        await plane.create(
            ReplicationController, {"metadata": {"name": "web"}, "spec": {"replicas": 2, "selector": LABELS, "template": template}}
        )
        spec = {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}}
        await plane.create(PodDisruptionBudget, {"metadata": {"name": "web"}, "spec": spec})
        pods = await plane.count(Pod, 2, lambda p: p.spec.nodeName)
        for n, found in enumerate(pods):
            await plane.run_pod(found, f"10.42.0.{n + 5}")
        made = await plane.eventually(PodDisruptionBudget, "web", lambda b: b.status.disruptionsAllowed == 1)
        assert (made.status.expectedPods, made.status.desiredHealthy, made.status.currentHealthy) == (2, 1, 2)
        await evict(plane, pods[0].metadata.name)
        with pytest.raises(TooManyRequests):
            await evict(plane, pods[1].metadata.name)
        await plane.eventually(PodDisruptionBudget, "web", lambda b: b.status.disruptionsAllowed == 0 and b.status.currentHealthy == 1)
        await plane.end_pod(pods[0])
        (new,) = await plane.count(Pod, 1, lambda p: p.spec.nodeName and not p.status.podIP)
        await plane.run_pod(new, "10.42.0.9")
        await plane.eventually(PodDisruptionBudget, "web", lambda b: b.status.disruptionsAllowed == 1 and not b.status.disruptedPods)
        await evict(plane, pods[1].metadata.name)


async def test_the_owner_of_many_pods_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    scale_of = disruption.DisruptionController._scale_of

    async def counted(self: disruption.DisruptionController, namespace: str, ref: OwnerReference) -> disruption.Scalable | None:
        asked.append(ref.kind)
        return await scale_of(self, namespace, ref)

    only = ("disruption", "deployment", "replicaset", "serviceaccount")
    async with control_plane(tmp_path, only=only) as plane:
        spec = {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}}
        template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}
        wanted = {"replicas": 20, "selector": {"matchLabels": LABELS}, "template": template}
        await plane.create(Deployment, {"metadata": {"name": "web"}, "spec": wanted})
        await plane.count(Pod, 20)
        monkeypatch.setattr(disruption.DisruptionController, "_scale_of", counted)
        await plane.create(PodDisruptionBudget, {"metadata": {"name": "web"}, "spec": spec})
        await plane.eventually(PodDisruptionBudget, "web", lambda b: b.status.expectedPods == 20)
        # a few looks at most, since a status brings the next
        assert 2 <= len(asked) <= 10


async def test_pods_that_nobody_controls_allow_nothing(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("disruption", "serviceaccount")) as plane:
        spec = {"containers": [{"name": "web", "image": "web:1"}]}
        await plane.create(
            PodDisruptionBudget, {"metadata": {"name": "web"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}}}
        )
        made = await plane.create(Pod, {"metadata": {"name": "bare", "labels": LABELS}, "spec": spec})
        await plane.run_pod(made)
        made_budget = await plane.eventually(PodDisruptionBudget, "web", lambda b: b.status.currentHealthy == 1)
        assert made_budget.status.disruptionsAllowed == 0 and made_budget.status.expectedPods == 0
        (told,) = await plane.count(Event, 1, lambda e: e.reason == "UnmanagedPods")
        assert "(selector: &LabelSelector{MatchLabels:map[string]string{app: web,}," in told.message
        await plane.client.patch(PodDisruptionBudget, "web", {"spec": {"maxUnavailable": None, "minAvailable": 0}}, "default")
        await plane.eventually(PodDisruptionBudget, "web", lambda b: b.status.disruptionsAllowed == 1)


async def test_a_pod_of_several_budgets_is_told_of(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("disruption", "serviceaccount")) as plane:
        for name in ("a", "b"):
            spec = {"minAvailable": 0, "selector": {"matchLabels": LABELS}}
            await plane.create(PodDisruptionBudget, {"metadata": {"name": name}, "spec": spec})
        spec = {"containers": [{"name": "web", "image": "web:1"}]}
        await plane.create(Pod, {"metadata": {"name": "bare", "labels": LABELS}, "spec": spec})
        (told,) = await plane.count(Event, 1, lambda e: e.reason == "MultiplePodDisruptionBudgets")
        assert told.message == 'Pod "default"/"bare" matches multiple PodDisruptionBudgets.  Chose "a" arbitrarily.'


def owner(kind: str, name: str, uid: str, group: str = "apps/v1") -> list[dict[str, Any]]:
    return [{"apiVersion": group, "kind": kind, "name": name, "uid": uid, "controller": True}]


@pytest.mark.parametrize(
    ("made_by", "said"),
    [
        (owner("ReplicaSet", "gone", "u"), 'found no controllers for pod "left"'),
        (owner("ReplicaSet", "web", "earlier"), 'found no controllers for pod "left"'),
        (owner("Deployment", "web", "u", "example.org/v1"), "deployments.example.org does not implement the scale subresource"),
    ],
)
async def test_while_a_pod_s_controller_tells_no_scale_nothing_is_allowed(tmp_path: Path, made_by: list[dict[str, Any]], said: str) -> None:
    async with control_plane(tmp_path, only=("disruption", "serviceaccount")) as plane:
        spec = {"containers": [{"name": "web", "image": "web:1"}]}
        template = {"metadata": {"labels": LABELS}, "spec": spec}
        wanted = {"replicas": 1, "selector": {"matchLabels": LABELS}, "template": template}
        there = await plane.create(ReplicaSet, {"metadata": {"name": "web"}, "spec": wanted})
        for name, owners in (("own", owner("ReplicaSet", "web", there.metadata.uid)), ("left", made_by)):
            pod = await plane.create(Pod, {"metadata": {"name": name, "labels": LABELS, "ownerReferences": owners}, "spec": spec})
            await plane.run_pod(pod)
        judged = {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}}
        await plane.create(PodDisruptionBudget, {"metadata": {"name": "web"}, "spec": judged})
        (condition,) = (await plane.eventually(PodDisruptionBudget, "web", lambda b: b.status.conditions)).status.conditions
        assert (condition.reason, condition.message) == ("SyncFailed", said)
        with pytest.raises(TooManyRequests):
            await evict(plane, "own")
        await plane.client.delete(Pod, "left", "default")
        await plane.eventually(PodDisruptionBudget, "web", lambda b: b.status.disruptionsAllowed == 1 and b.status.expectedPods == 1)


async def test_a_replica_set_whose_deployment_is_gone_speaks_for_itself(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("disruption", "serviceaccount")) as plane:
        spec = {"containers": [{"name": "web", "image": "web:1"}]}
        wanted = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": {"metadata": {"labels": LABELS}, "spec": spec}}
        meta = {"name": "web", "ownerReferences": owner("Deployment", "web", "gone")}
        there = await plane.create(ReplicaSet, {"metadata": meta, "spec": wanted})
        for name in ("a", "b"):
            owners = owner("ReplicaSet", "web", there.metadata.uid)
            await plane.run_pod(
                await plane.create(Pod, {"metadata": {"name": name, "labels": LABELS, "ownerReferences": owners}, "spec": spec})
            )
        await plane.create(
            PodDisruptionBudget, {"metadata": {"name": "web"}, "spec": {"minAvailable": "50%", "selector": {"matchLabels": LABELS}}}
        )
        await plane.eventually(PodDisruptionBudget, "web", lambda b: b.status.expectedPods == 2 and b.status.disruptionsAllowed == 1)
