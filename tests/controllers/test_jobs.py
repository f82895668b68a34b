"""Jobs on the real API server: what a user sees of them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from minikube_py.client import Patch
from minikube_py.controllers import job_plan
from minikube_py.controllers.job_plan import FINALIZER
from minikube_py.types.batch import Job, finished
from minikube_py.types.core import Namespace, ServiceAccount
from minikube_py.types.meta import controller_of, timestamp
from minikube_py.types.pod import Pod
from tests.controllers.harness import Plane, control_plane

CONTROLLERS = ("job", "serviceaccount")
INDEX = "batch.kubernetes.io/job-completion-index"


def body(**spec: Any) -> dict[str, Any]:
    template = {"spec": {"restartPolicy": spec.pop("restart", "Never"), "containers": [{"name": "work", "image": "work:1"}]}}
    return {"metadata": {"name": "work"}, "spec": {"template": template, **spec}}


async def end(
    plane: Plane, pod: Pod, phase: str = "Succeeded", code: int | None = None, conditions: tuple[dict[str, str], ...] = ()
) -> None:
    """Write the end of a pod's container as its kubelet would."""
    code = code if code is not None else int(phase == "Failed")
    state = {"terminated": {"exitCode": code, "finishedAt": timestamp(time.time())}}
    containers = [{"name": "work", "image": "work:1", "imageID": "", "ready": False, "restartCount": 0, "state": state}]
    status = {"phase": phase, "containerStatuses": containers, "conditions": list(conditions)}
    meta = pod.metadata
    await plane.client.patch(Pod, meta.name, {"status": status}, meta.namespace, kind=Patch.STRATEGIC, subresource="status")


def active(pod: Pod) -> bool:
    return pod.status.phase == "Pending" and pod.metadata.deletionTimestamp is None


def types(job: Job) -> list[str]:
    return [c.type for c in job.status.conditions if c.status == "True"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed pods are replaced at once: how long is waited is the plan's tests' affair."""
    monkeypatch.setattr(job_plan, "FIRST_BACKOFF", 0.0)


async def test_a_job_runs_to_its_completions(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        made = await plane.create(Job, body(completions=3, parallelism=2))
        pods = await plane.count(Pod, 2, active)
        assert all(p.metadata.finalizers == (FINALIZER,) and p.metadata.name.startswith("work-") for p in pods)
        assert pods[0].metadata.labels["batch.kubernetes.io/controller-uid"] == made.metadata.uid
        job = await plane.eventually(Job, "work", lambda j: j.status.active == 2)
        assert job.status.startTime and job.status.ready == 0 and job.status.terminating == 0
        for pod in pods:
            await end(plane, pod)
        (last,) = await plane.count(Pod, 1, active)
        await plane.eventually(Job, "work", lambda j: j.status.succeeded == 2 and j.status.active == 1)
        await end(plane, last)
        job = await plane.eventually(Job, "work", finished)
        assert types(job) == ["SuccessCriteriaMet", "Complete"]
        assert {(c.reason, c.message) for c in job.status.conditions} == {
            ("CompletionsReached", "Reached expected number of succeeded pods")
        }
        assert (job.status.succeeded, job.status.active) == (3, 0) and job.status.completionTime
        await plane.count(Pod, 3, lambda p: not p.metadata.finalizers)


async def test_indexes_are_run_once_each(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        await plane.create(Job, body(completions=4, parallelism=4, completionMode="Indexed"))
        pods = {p.metadata.annotations[INDEX]: p for p in await plane.count(Pod, 4, active)}
        assert set(pods) == {"0", "1", "2", "3"} == {p.metadata.labels[INDEX] for p in pods.values()}
        assert pods["2"].spec.hostname == "work-2" and pods["2"].metadata.name.startswith("work-2-")
        (variable,) = pods["2"].spec.containers[0].env
        assert variable.name == "JOB_COMPLETION_INDEX" and variable.valueFrom is not None
        for index in "013":
            await end(plane, pods[index])
        await plane.eventually(Job, "work", lambda j: j.status.completedIndexes == "0,1,3" and j.status.succeeded == 3)
        await end(plane, pods["2"], "Failed")
        (again,) = await plane.count(Pod, 1, active)
        assert again.metadata.annotations[INDEX] == "2"
        await end(plane, again)
        job = await plane.eventually(Job, "work", finished)
        assert (job.status.completedIndexes, job.status.succeeded, job.status.failed) == ("0-3", 4, 1)


async def test_the_backoff_limit_ends_it(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        await plane.create(Job, body(backoffLimit=1))
        for _ in range(2):
            (pod,) = await plane.count(Pod, 1, active)
            await end(plane, pod, "Failed")
        job = await plane.eventually(Job, "work", finished)
        assert types(job) == ["FailureTarget", "Failed"] and job.status.failed == 2
        assert {c.reason for c in job.status.conditions} == {"BackoffLimitExceeded"}
        await plane.count(Pod, 2, lambda p: not p.metadata.finalizers)


async def test_backoff_limit_per_index_and_failed_indexes(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1}
        await plane.create(Job, body(**spec))
        pods = {p.metadata.annotations[INDEX]: p for p in await plane.count(Pod, 2, active)}
        await end(plane, pods["1"])
        await end(plane, pods["0"], "Failed")
        (again,) = await plane.count(Pod, 1, active)
        assert again.metadata.annotations["batch.kubernetes.io/job-index-failure-count"] == "1"
        await end(plane, again, "Failed")
        job = await plane.eventually(Job, "work", finished)
        assert types(job) == ["FailureTarget", "Failed"] and job.status.conditions[-1].reason == "FailedIndexes"
        assert (job.status.failedIndexes, job.status.completedIndexes, job.status.failed) == ("0", "1", 2)
        await plane.count(Pod, 3, lambda p: not p.metadata.finalizers)


async def test_the_pod_failure_policy(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        rules = [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "work", "operator": "In", "values": [42]}},
        ]
        await plane.create(Job, body(backoffLimit=0, podFailurePolicy={"rules": rules}))
        (pod,) = await plane.count(Pod, 1, active)
        await end(plane, pod, "Failed", conditions=({"type": "DisruptionTarget", "status": "True"},))
        (pod,) = await plane.count(Pod, 1, active)
        assert (await plane.get(Job, "work")).status.failed == 0
        await end(plane, pod, "Failed", 42)
        job = await plane.eventually(Job, "work", finished)
        assert types(job) == ["FailureTarget", "Failed"] and job.status.conditions[-1].reason == "PodFailurePolicy"
        expected = f"Container work for pod {pod.key} failed with exit code 42 matching FailJob rule at index 1"
        assert job.status.conditions[-1].message == expected


async def test_the_success_policy_ends_the_others(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        policy = {"rules": [{"succeededIndexes": "1"}]}
        await plane.create(Job, body(completions=3, parallelism=3, completionMode="Indexed", successPolicy=policy))
        pods = {p.metadata.annotations[INDEX]: p for p in await plane.count(Pod, 3, active)}
        await end(plane, pods["1"])
        job = await plane.eventually(Job, "work", finished)
        assert types(job) == ["SuccessCriteriaMet", "Complete"] and job.status.conditions[0].reason == "SuccessPolicy"
        assert job.status.conditions[0].message == "Matched rules at index 0"
        assert (job.status.succeeded, job.status.failed, job.status.completedIndexes) == (1, 0, "1")
        await plane.count(Pod, 1)


async def test_suspend_and_resume(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        await plane.create(Job, body(parallelism=2, completions=2, suspend=True))
        job = await plane.eventually(Job, "work", lambda j: types(j) == ["Suspended"])
        assert job.status.startTime is None and not await plane.list(Pod)
        await plane.client.patch(Job, "work", {"spec": {"suspend": False}}, "default")
        await plane.count(Pod, 2, active)
        job = await plane.eventually(Job, "work", lambda j: not types(j) and j.status.active == 2)
        assert job.status.conditions[0].reason == "JobResumed" and job.status.startTime
        await plane.client.patch(Job, "work", {"spec": {"suspend": True}}, "default")
        await plane.count(Pod, 0)
        job = await plane.eventually(Job, "work", lambda j: types(j) == ["Suspended"] and j.status.active == 0)
        assert job.status.failed == 0 and job.status.startTime is None


async def test_the_deadline(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        await plane.create(Job, body(activeDeadlineSeconds=1))
        job = await plane.eventually(Job, "work", finished)
        assert types(job) == ["FailureTarget", "Failed"] and job.status.conditions[-1].reason == "DeadlineExceeded"
        await plane.count(Pod, 0)


async def test_orphans_are_adopted_and_strays_released(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        await plane.create(Job, body(parallelism=2))
        first, _ = await plane.count(Pod, 2, active)
        await plane.client.patch(Pod, first.metadata.name, {"metadata": {"ownerReferences": None}}, "default")
        adopted = await plane.eventually(Pod, first.metadata.name, lambda p: controller_of(p.metadata))
        assert adopted.metadata.finalizers == (FINALIZER,)
        labels = dict.fromkeys(first.metadata.labels)
        await plane.client.patch(Pod, first.metadata.name, {"metadata": {"labels": labels}}, "default")
        await plane.eventually(Pod, first.metadata.name, lambda p: not p.metadata.ownerReferences and not p.metadata.finalizers)
        await plane.count(Pod, 3)


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
async def test_a_deleted_job_takes_its_pods_along(tmp_path: Path, propagation: str) -> None:
    async with control_plane(tmp_path, only=(*CONTROLLERS, "garbage-collector")) as plane:
        await plane.create(Job, body(parallelism=3))
        await plane.count(Pod, 3)
        await plane.client.delete(Job, "work", "default", propagation=propagation)
        await plane.gone(Job, "work")
        await plane.count(Pod, 0)


async def test_pods_that_a_job_leaves_behind_are_free(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=(*CONTROLLERS, "garbage-collector")) as plane:
        await plane.create(Job, body(parallelism=2))
        await plane.count(Pod, 2)
        await plane.client.delete(Job, "work", "default", propagation="Orphan")
        await plane.gone(Job, "work")
        await plane.count(Pod, 2, lambda p: not p.metadata.ownerReferences and not p.metadata.finalizers)


async def test_a_restart_counts_nothing_twice(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        await plane.create(Job, body(completions=4, parallelism=2))
        for pod in await plane.count(Pod, 2, active):
            await end(plane, pod)
        await plane.eventually(Job, "work", lambda j: j.status.succeeded == 2)
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        for pod in await plane.count(Pod, 2, active):
            await end(plane, pod)
        job = await plane.eventually(Job, "work", finished)
        assert job.status.succeeded == 4 and len(await plane.list(Pod)) == 4


async def test_a_finished_job_goes_when_its_time_is_over(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=(*CONTROLLERS, "garbage-collector", "ttl-after-finished")) as plane:
        await plane.create(Job, body(ttlSecondsAfterFinished=2))
        (pod,) = await plane.count(Pod, 1, active)
        await end(plane, pod)
        await plane.eventually(Job, "work", finished)
        await asyncio.sleep(0.1)
        assert await plane.exists(Job, "work")
        await plane.gone(Job, "work")
        await plane.count(Pod, 0)


async def test_a_namespace_with_a_job_can_go(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=(*CONTROLLERS, "namespace", "garbage-collector")) as plane:
        await plane.create(Namespace, {"metadata": {"name": "team"}}, None)
        await plane.eventually(ServiceAccount, "default", lambda a: True, "team")
        await plane.create(Job, body(parallelism=3), "team")
        await plane.count(Pod, 3, namespace="team")
        await plane.client.delete(Namespace, "team")
        await plane.gone(Namespace, "team", None)


async def test_a_pod_that_is_deleted_is_replaced_and_counts_as_failed(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        await plane.create(Job, body(completions=1))
        (pod,) = await plane.count(Pod, 1, active)
        await plane.client.delete(Pod, pod.metadata.name, "default")
        await plane.count(Pod, 1, lambda p: active(p) and p.metadata.uid != pod.metadata.uid)
        await plane.eventually(Job, "work", lambda j: (j.status.failed, j.status.active) == (1, 1))


async def test_somebody_elses_job_is_left_alone(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        await plane.create(Job, body(managedBy="example.com/queue"))
        await asyncio.sleep(0.3)
        assert not await plane.list(Pod) and not (await plane.get(Job, "work")).status.conditions
