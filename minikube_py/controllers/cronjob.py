"""CronJobs: a job each time that the schedule says, as many beside one another as the concurrency policy allows.

plan(): a cron job, its jobs, its schedule, the time → what has become of the active jobs, which to start, which old ones to delete. One
start that was missed is made up for, the latest; a job's name comes from its time, so that no time makes two.
"""

from __future__ import annotations

import email.utils
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from minikube_py.control import Watch
from minikube_py.controllers import cron_schedule
from minikube_py.controllers.base import Context, Controller, Fresh, change, controller_uid, merge_status, namespace_is_ending
from minikube_py.controllers.cron_schedule import Schedule, UnparseableSchedule
from minikube_py.meta.errors import AlreadyExists, NotFound, StatusError
from minikube_py.types.batch import CronJob, CronJobStatus, Job, finished
from minikube_py.types.meta import ObjectReference, controller_of, owner_reference, parse_timestamp, timestamp

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_MANY = 100
_UNSUPPORTED = (
    'CRON_TZ or TZ used in schedule "%s" is not officially supported, see '
    "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
)
_DELTA = 0.1
"""Seconds by which a start is late on purpose: a clock that is read a little early must not see the time as not come yet."""


class Plan(NamedTuple):
    """What to do at one look."""

    active: tuple[ObjectReference, ...]
    """The jobs that still run."""
    ended: tuple[Job, ...]
    unexpected: tuple[Job, ...]
    missing: tuple[ObjectReference, ...]
    last_success: str | None
    delete: tuple[Job, ...]
    """Finished jobs beyond what is kept."""
    replace: tuple[Job, ...] = ()
    start: float | None = None
    """The time for which a job is to be started."""
    tell: tuple[tuple[str, str, str], ...] = ()
    """(type, reason, message) of events."""
    again: float | None = None


def look(cron: CronJob, jobs: Sequence[Job]) -> Plan:
    """What has become of the jobs that are known."""
    listed = {ref.uid: ref for ref in cron.status.active}
    ended = tuple(job for job in jobs if job.metadata.uid in listed and finished(job) is not None)
    unexpected = tuple(job for job in jobs if job.metadata.uid not in listed and finished(job) is None)
    present = {job.metadata.uid for job in jobs}
    missing = tuple(ref for uid, ref in listed.items() if uid not in present)
    over = {job.metadata.uid for job in ended} | {ref.uid for ref in missing}
    times = [
        j.status.completionTime for j in jobs if (end := finished(j)) is not None and end.type == "Complete" and j.status.completionTime
    ]
    last = max([*times, cron.status.lastSuccessfulTime or ""]) or None
    active = tuple(ref for ref in cron.status.active if ref.uid not in over)
    return Plan(active, ended, unexpected, missing, last, surplus(cron, jobs))


def surplus(cron: CronJob, jobs: Iterable[Job]) -> tuple[Job, ...]:
    """Finished jobs beyond the history limits, the oldest first."""
    found: list[Job] = []
    by_end: dict[str, list[Job]] = {"Complete": [], "Failed": []}
    for job in jobs:
        if (end := finished(job)) is not None and job.metadata.deletionTimestamp is None:
            by_end[end.type].append(job)
    limits = {"Complete": cron.spec.successfulJobsHistoryLimit, "Failed": cron.spec.failedJobsHistoryLimit}
    for type_, ended in by_end.items():
        limit = limits[type_]
        if limit is not None and len(ended) > limit:
            ended.sort(key=lambda job: (job.status.startTime or "9999", job.metadata.name))
            found += ended[: len(ended) - limit]
    return tuple(found)


def plan(cron: CronJob, jobs: Sequence[Job], schedule: Schedule, now: float) -> Plan:
    """The whole of what is to be done."""
    step = look(cron, jobs)
    if cron.metadata.deletionTimestamp is not None or cron.spec.suspend:
        return step
    if "TZ" in cron.spec.schedule:
        step = _told(step, "Warning", "UnsupportedSchedule", _UNSUPPORTED % cron.spec.schedule)
    next_ = schedule.after(now)
    if next_ is None:
        why = "time difference between two schedules is less than 1 second"
        return _told(step, "Warning", "InvalidSchedule", f"invalid schedule: {cron.spec.schedule} : {why}")
    step = step._replace(again=next_ - now + _DELTA)
    created = parse_timestamp(cron.metadata.creationTimestamp) if cron.metadata.creationTimestamp else now
    last = parse_timestamp(cron.status.lastScheduleTime) if cron.status.lastScheduleTime else None
    earliest = last if last is not None else created
    deadline = cron.spec.startingDeadlineSeconds
    if deadline is not None:
        earliest = max(earliest, now - deadline)
    due = schedule.latest(earliest, now)
    if due is None:
        return step
    if missed(schedule, earliest, now) > _MANY:
        message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        step = _told(step, "Warning", "TooManyMissedTimes", message)
    if deadline is not None and due + deadline < now:
        stamp = email.utils.format_datetime(datetime.fromtimestamp(due, UTC))
        return _told(step, "Warning", "MissSchedule", f"Missed scheduled time to start a job: {stamp}")
    if due == last or any(ref.name == job_name(cron, due) for ref in step.active):
        return step
    if cron.spec.concurrencyPolicy == "Forbid" and step.active:
        message = "Not starting job because prior execution is running and concurrency policy is Forbid"
        return _told(step, "Normal", "JobAlreadyActive", message)
    if cron.spec.concurrencyPolicy == "Replace":
        uids = {ref.uid for ref in step.active}
        step = step._replace(active=(), replace=tuple(job for job in jobs if job.metadata.uid in uids))
    return step._replace(start=due)


def _told(step: Plan, type_: str, reason: str, message: str) -> Plan:
    return step._replace(tell=(*step.tell, (type_, reason, message)))


def missed(schedule: Schedule, since: float, now: float) -> int:
    """About how many times have passed, told from the distance of the first two."""
    first = schedule.after(since)
    second = schedule.after(first) if first is not None else None
    if first is None or second is None or now < first:
        return 0
    return int((now - first) // max(second - first, 1.0)) + 1


def job_name(cron: CronJob, due: float) -> str:
    """The name of the job of a time."""
    return f"{cron.metadata.name}-{int(due) // 60}"


def job_body(cron: CronJob, due: float) -> dict[str, Any]:
    """The job of a time, as the template says."""
    template: dict[str, Any] = msgspec.json.decode(cron.spec.jobTemplate)
    meta = template.get("metadata") or {}
    zone = _zone(cron.spec.timeZone) if cron.spec.timeZone else UTC
    stamp = datetime.fromtimestamp(due, UTC).astimezone(zone).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(cron, due),
            "labels": meta.get("labels") or {},
            "annotations": {**(meta.get("annotations") or {}), SCHEDULED: stamp},
            "ownerReferences": [owner_reference(cron)],
        },
        "spec": template.get("spec") or {},
    }


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    return ZoneInfo(name)


@lru_cache(maxsize=1)
def _local_zone() -> tzinfo:
    """The time zone of this machine: what schedules without one are meant in."""
    try:
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


class CronJobController(Controller):
    """Drives every CronJob."""

    name = "cronjob"
    identity = "cronjob-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._crons: Fresh[CronJob] = Fresh(context.informers.of(CronJob))
        self._jobs: Fresh[Job] = Fresh(context.informers.of(Job), {"controller": lambda job: (controller_uid(job.metadata),)})

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._crons.informer), Watch(self._jobs.informer, _cron_of))

    async def reconcile(self, key: str) -> float | None:
        cron = self._crons.get(key)
        if cron is None:
            return None
        jobs = self._jobs.by_index("controller", cron.metadata.uid)
        schedule = self._schedule(cron)
        step = plan(cron, jobs, schedule, self.clock.time()) if schedule is not None else look(cron, jobs)
        self._tell(cron, step)
        status = CronJobStatus(active=step.active, lastScheduleTime=cron.status.lastScheduleTime, lastSuccessfulTime=step.last_success)
        for job in (*step.delete, *step.replace):
            await self._delete(cron, job)
        if step.start is not None:
            started = await self._start(cron, step.start)
            if started is not None:
                status = msgspec.structs.replace(status, active=(*step.active, reference(started)), lastScheduleTime=timestamp(step.start))
        if status != cron.status:
            await self._write_status(cron, status)
        return step.again

    def _schedule(self, cron: CronJob) -> Schedule | None:
        name, text = cron_schedule.split_zone(cron.spec.schedule)
        name = cron.spec.timeZone or name
        try:
            return cron_schedule.parse(text, _zone(name) if name else _local_zone())
        except UnparseableSchedule as error:
            message = f'unparseable schedule: "{cron.spec.schedule}" : {error}'
            self.events.record(cron, "Warning", "UnparseableSchedule", message)
        except (ZoneInfoNotFoundError, ValueError) as error:
            self.events.record(cron, "Warning", "UnknownTimeZone", f'invalid timeZone: "{name}": {error}')
        return None

    def _tell(self, cron: CronJob, step: Plan) -> None:
        for job in step.ended:
            end = finished(job)
            message = f"Saw completed job: {job.metadata.name}, condition: {end.type if end is not None else ''}"
            self.events.record(cron, "Normal", "SawCompletedJob", message)
        for job in step.unexpected:
            message = f"Saw a job that the controller did not create or forgot: {job.metadata.name}"
            self.events.record(cron, "Warning", "UnexpectedJob", message)
        for ref in step.missing:
            self.events.record(cron, "Normal", "MissingJob", f"Active job went missing: {ref.name}")
        for type_, reason, message in step.tell:
            self.events.record(cron, type_, reason, message)

    async def _start(self, cron: CronJob, due: float) -> Job | None:
        body = job_body(cron, due)
        name, namespace = body["metadata"]["name"], cron.metadata.namespace
        try:
            job = self._jobs.wrote(await self.client.create(Job, body, namespace))
        except AlreadyExists:
            there = await self.client.get(Job, name, namespace)
            # started before, and the status did not come to say so; or somebody else's, who is left to it
            return there if controller_uid(there.metadata) == cron.metadata.uid else None
        except StatusError as error:
            if namespace_is_ending(error):
                return None
            self.events.record(cron, "Warning", "FailedCreate", f"Error creating job: {error.message}")
            raise
        self.events.record(cron, "Normal", "SuccessfulCreate", f"Created job {name}")
        return job

    async def _delete(self, cron: CronJob, job: Job) -> None:
        meta = job.metadata
        try:
            await self.client.delete(Job, meta.name, meta.namespace, propagation="Background", uid=meta.uid)
        except NotFound:
            self._jobs.deleted(job)
            return
        except StatusError as error:
            self.events.record(cron, "Warning", "FailedDelete", f"Deleted job: {error.message}")
            raise
        self._jobs.deleted(job)
        self.events.record(cron, "Normal", "SuccessfulDelete", f"Deleted job {meta.name}")

    async def _write_status(self, cron: CronJob, status: CronJobStatus) -> None:
        body = {
            "active": [{k: v for k, v in msgspec.to_builtins(ref).items() if v} for ref in status.active] or None,
            "lastScheduleTime": status.lastScheduleTime,
            "lastSuccessfulTime": status.lastSuccessfulTime,
        }
        try:
            self._crons.wrote(await change(self.client, cron, merge_status(body), "status"))
        except NotFound:
            return


def reference(job: Job) -> ObjectReference:
    """How a cron job names one of its jobs."""
    meta, ref = job.metadata, Job.resource
    names = {"apiVersion": ref.api_version, "kind": ref.kind, "namespace": meta.namespace, "name": meta.name}
    return ObjectReference(**names, uid=meta.uid, resourceVersion=meta.resourceVersion)


def _cron_of(job: Job) -> tuple[str, ...]:
    ref = controller_of(job.metadata)
    return (f"{job.metadata.namespace}/{ref.name}",) if ref is not None and ref.kind == "CronJob" else ()


__all__ = ["CronJobController", "Plan", "job_body", "job_name", "plan", "surplus"]
