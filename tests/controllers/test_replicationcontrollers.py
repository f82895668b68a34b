"""ReplicationControllers on the real API server: the ReplicaSet's logic with a plain selector."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson

from minikube_py.types.meta import controller_of
from minikube_py.types.pod import Pod
from minikube_py.types.workload import ReplicationController
from tests.controllers.harness import control_plane

LABELS = {"app": "web"}


def body(replicas: int = 2) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}
    return {"metadata": {"name": "web"}, "spec": {"replicas": replicas, "template": template}}


async def test_pods_come_are_scaled_adopted_and_released(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("replicationcontroller", "serviceaccount")) as plane:
        orphan = {"metadata": {"name": "orphan", "labels": LABELS}, "spec": body()["spec"]["template"]["spec"]}
        await plane.create(Pod, orphan)
        made = await plane.create(ReplicationController, body())
        pods = await plane.count(Pod, 2)
        await plane.eventually(ReplicationController, "web", lambda r: r.status.replicas == 2 and r.status.observedGeneration == 1)
        assert {controller_of(p.metadata).uid for p in pods} == {made.metadata.uid}  # type: ignore[union-attr]
        path = ReplicationController.resource.path("default", "web", "scale")
        scale = orjson.loads(await plane.client.request("GET", path))
        scale["spec"]["replicas"] = 3
        await plane.client.request("PUT", path, body=orjson.dumps(scale))
        await plane.count(Pod, 3)
        await plane.client.patch(Pod, "orphan", {"metadata": {"labels": {"app": "other"}}}, "default")
        await plane.eventually(Pod, "orphan", lambda p: not p.metadata.ownerReferences)
        await plane.count(Pod, 4)


async def test_it_comes_to_rest(tmp_path: Path) -> None:
    """A count that the kind does not have must not be written again and again."""
    async with control_plane(tmp_path, only=("replicationcontroller", "serviceaccount")) as plane:
        await plane.create(ReplicationController, body())
        await plane.eventually(ReplicationController, "web", lambda r: r.status.replicas == 2)
        await asyncio.sleep(0.3)
        before = (await plane.get(ReplicationController, "web")).metadata.resourceVersion
        await asyncio.sleep(0.3)
        assert (await plane.get(ReplicationController, "web")).metadata.resourceVersion == before


async def test_no_service_account_is_said_in_the_status(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("replicationcontroller",)) as plane:
        await plane.create(ReplicationController, body())
        made = await plane.eventually(ReplicationController, "web", lambda r: r.status.conditions)
        assert [(c.type, c.reason) for c in made.status.conditions] == [("ReplicaFailure", "FailedCreate")]
