"""Jobs: pods that run to an end, as many as are wanted, counted once each.

The decisions are in job_plan.py; here they are applied, in the order that makes counting safe: pods are ended and started; the status is
written with the uids that are about to be counted; finalizers come off; the status is written with the counts, and at last with the end.
Pods whose job has gone lose their finalizer too, so that they can go.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import msgspec

from minikube_py.client import Patch
from minikube_py.control import Watch
from minikube_py.controllers import job_plan
from minikube_py.controllers.base import (
    Context,
    Controller,
    Failure,
    Fresh,
    Pace,
    change,
    delete_pod,
    in_batches,
    merge_status,
    namespace_is_ending,
    slow_start,
)
from minikube_py.controllers.claims import apply_claim, candidates, controller_index, plan_claim
from minikube_py.controllers.job_plan import FINALIZER, Failures, Plan
from minikube_py.meta.errors import NotFound, StatusError
from minikube_py.meta.selectors import matches
from minikube_py.types.batch import Job, JobStatus, finished
from minikube_py.types.meta import controller_of, split_key, timestamp
from minikube_py.types.pod import Pod

_POD = "pod:"
"""Marks the keys of pods that no job controls and that bear the finalizer."""
MANAGER = "kubernetes.io/job-controller"


class JobController(Controller):
    """Drives every Job."""

    name = "job"
    identity = "job-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._jobs: Fresh[Job] = Fresh(context.informers.of(Job))
        self._pods: Fresh[Pod] = Fresh(context.informers.of(Pod), {"controller": controller_index, "job": _job_of})
        self._pace = Pace(self.clock)
        self._failures: dict[str, Failures] = {}
        self._released: dict[str, set[str]] = {}
        """By job, uids of pods whose finalizer was taken off while the informer may still show it."""

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._jobs.informer), Watch(self._pods.informer, self._keys_of))

    def _keys_of(self, pod: Pod) -> Iterable[str]:
        namespace = pod.metadata.namespace
        if controller_of(pod.metadata) is not None:
            yield from _job_of(pod)
            return
        for job in self._jobs.informer.list(namespace):
            if matches(job.spec.selector, pod.metadata.labels):
                yield job.key
        if FINALIZER in pod.metadata.finalizers:
            yield f"{namespace}/{_POD}{pod.metadata.name}"

    async def reconcile(self, key: str) -> float | None:
        namespace, name = split_key(key)
        if name.startswith(_POD):
            await self._free(f"{namespace}/{name.removeprefix(_POD)}")
            return None
        job = self._jobs.get(key)
        await self._free_strangers(key, job)
        if job is None:
            self._failures.pop(key, None)
            self._released.pop(key, None)
            return None
        if job.spec.managedBy not in (None, MANAGER):
            return None
        if finished(job) is not None:
            self._failures.pop(key, None)
            return None
        if wait := self._pace.wait(key):
            return wait
        started = time.perf_counter()
        claim = plan_claim(job, job.spec.selector, candidates(self._pods, job))
        spent = time.perf_counter() - started
        pods = await apply_claim(self.client, self._pods, job, claim, FINALIZER)
        started = time.perf_counter()
        tracked = self._tracked(key, pods)
        step = job_plan.plan(job, pods, tracked, self._failures.get(key, Failures()), self.clock.time())
        self._pace.took(key, spent + time.perf_counter() - started, len(step.create))
        failure = await self._apply(job, step)
        if failure is not None and step.condition is not None:
            # pods are left that the job's end has to wait for
            step = step._replace(condition=None)
        await self._count(job, pods, tracked, step)
        if failure is not None and not namespace_is_ending(failure):
            raise failure
        return step.again

    # Pods

    def _tracked(self, key: str, pods: Sequence[Pod]) -> set[str]:
        """The uids of the pods that still bear the finalizer."""
        shown = {pod.metadata.uid for pod in pods if FINALIZER in pod.metadata.finalizers}
        released = self._released.get(key)
        if released is None:
            return shown
        released &= shown
        if not released:
            del self._released[key]
        return shown - released

    async def _apply(self, job: Job, step: Plan) -> Failure | None:
        results = await in_batches(step.end, lambda pod: delete_pod(self, job, self._pods, pod))
        if step.remove:
            await in_batches(step.remove, lambda pod: self._release(job, pod))
            results += await in_batches(step.remove, lambda pod: delete_pod(self, job, self._pods, pod))
        failures = [failure for failure in results if failure is not None]
        if failures:
            return failures[0]
        indexes = list(step.create)

        async def create() -> None:
            index = indexes.pop(0)
            body = job_plan.pod_body(job, index, step.replaced.get(index) if index is not None else None)
            pod = self._pods.wrote(await self.client.create(Pod, body, job.metadata.namespace))
            self.events.record(job, "Normal", "SuccessfulCreate", f"Created pod: {pod.metadata.name}")

        if not indexes:
            return None
        _, failure = await slow_start(len(indexes), create)
        if failure is not None and not namespace_is_ending(failure):
            self.events.record(job, "Warning", "FailedCreate", f"Error creating: {failure}")
        return failure

    async def _release(self, job: Job, pod: Pod) -> StatusError | None:
        """Take the finalizer off; gives what went wrong."""
        try:
            await self._strip(pod)
        except StatusError as error:
            return error
        self._released.setdefault(job.key, set()).add(pod.metadata.uid)
        return None

    async def _strip(self, pod: Pod) -> None:
        meta = pod.metadata
        patch = {"metadata": {"uid": meta.uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        try:
            self._pods.wrote(await self.client.patch(Pod, meta.name, patch, meta.namespace, kind=Patch.STRATEGIC))
        except NotFound:
            return

    async def _free_strangers(self, key: str, job: Job | None) -> None:
        """Free the pods that an earlier job of this name has left."""
        for pod in self._pods.by_index("job", key):
            ref = controller_of(pod.metadata)
            if FINALIZER in pod.metadata.finalizers and ref is not None and (job is None or ref.uid != job.metadata.uid):
                await self._strip(pod)

    async def _free(self, key: str) -> None:
        """Free a pod that no job controls, unless one is going to adopt it."""
        pod = self._pods.get(key)
        if pod is None or FINALIZER not in pod.metadata.finalizers or controller_of(pod.metadata) is not None:
            return
        jobs = self._jobs.list(pod.metadata.namespace)
        if not any(j.metadata.deletionTimestamp is None and matches(j.spec.selector, pod.metadata.labels) for j in jobs):
            await self._strip(pod)

    # Status

    async def _count(self, job: Job, pods: Sequence[Pod], tracked: set[str], step: Plan) -> None:
        now = self.clock.time()
        present = [p for p in self._pods.by_index("controller", job.metadata.uid) if matches(job.spec.selector, p.metadata.labels)]
        active, ready, terminating = job_plan.active_counts(present)
        base = msgspec.structs.replace(job.status, active=active, ready=ready, terminating=terminating)
        if base.startTime is None and not job.spec.suspend:
            base = msgspec.structs.replace(base, startTime=timestamp(now))
        if step.suspended is not None:
            resumed = job_plan.with_suspended(base, step.suspended, now)
            if resumed is not base:
                reason, message = ("Suspended", "Job suspended") if step.suspended else ("Resumed", "Job resumed")
                self.events.record(job, "Normal", reason, message)
            base = resumed
        entered = job_plan.track(job, pods, tracked, step, base)
        written = await self._write(job, job.status, entered.status)
        if written is None:
            return
        self._failures[job.key] = step.counts.failures
        results = await in_batches(entered.release, lambda pod: self._release(job, pod))
        left = tracked - {pod.metadata.uid for pod, error in zip(entered.release, results, strict=True) if error is None}
        counted = job_plan.settle(entered.status, left)
        failures = [error for error in results if error is not None]
        ended = job_plan.finish(counted, step.condition, self.clock.time()) if entered.whole and not failures else counted
        if await self._write(job, entered.status, ended) is None:
            return
        if ended is not counted:
            self._tell(job, ended)
        if failures:
            raise failures[0]

    async def _write(self, job: Job, before: JobStatus, after: JobStatus) -> Job | None:
        """Write a status that has changed. None: the job has gone."""
        if before == after:
            return job
        try:
            edit = merge_status(job_plan.status_json(after))
            return self._jobs.wrote(await change(self.client, job, edit, "status"))
        except NotFound:
            return None

    def _tell(self, job: Job, status: JobStatus) -> None:
        final = status.conditions[-1]
        if final.type == "Failed":
            self.events.record(job, "Warning", final.reason, final.message)
            return
        if job.spec.completions is not None and status.succeeded > job.spec.completions:
            message = "Too many succeeded pods running after completion count reached"
            self.events.record(job, "Warning", "TooManySucceededPods", message)
        self.events.record(job, "Normal", "Completed", "Job completed")


def _job_of(pod: Pod) -> tuple[str, ...]:
    ref = controller_of(pod.metadata)
    return (f"{pod.metadata.namespace}/{ref.name}",) if ref is not None and ref.kind == "Job" else ()


__all__ = ["MANAGER", "JobController"]
