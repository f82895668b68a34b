"""CronJobs on the real API server, and their schedules."""

from __future__ import annotations

import time
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from minikube_py.controllers import cron_schedule, cronjob
from minikube_py.controllers.cron_schedule import UnparseableSchedule, parse
from minikube_py.types.batch import CronJob, CronJobSpec, CronJobStatus, Job, JobStatus, finished
from minikube_py.types.meta import Condition, ObjectMeta, ObjectReference, OwnerReference, timestamp
from minikube_py.types.pod import Pod
from tests.controllers.harness import Plane, control_plane
from tests.controllers.test_jobs import end
from tests.support.waiting import until

NOON = datetime(2024, 3, 6, 12, 0, tzinfo=UTC).timestamp()
"""A Wednesday."""


def due(text: str, moment: datetime, zone: tzinfo = UTC) -> datetime:
    found = parse(text, zone).after(moment.timestamp())
    assert found is not None
    return datetime.fromtimestamp(found, zone)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/5 * * * *", "2024-03-06T12:05:00"),
        ("0 0 ? * *", "2024-03-07T00:00:00"),
        ("@hourly", "2024-03-06T13:00:00"),
        ("@weekly", "2024-03-10T00:00:00"),
        ("@yearly", "2025-01-01T00:00:00"),
        ("@every 1h30m", "2024-03-06T13:30:00"),
        ("0 9 * * MON-FRI", "2024-03-07T09:00:00"),
        # a stepped star is no star: the 7th (every second day from the 1st), not only those that are Sundays
        ("0 0 */2 * SUN", "2024-03-07T00:00:00"),
        ("0 0 1 * FRI", "2024-03-08T00:00:00"),
        ("0 0 * * 1/2", "2024-03-08T00:00:00"),
        ("0 0 29 FEB *", "2028-02-29T00:00:00"),
        ("10-20/5,40 12 * * *", "2024-03-06T12:10:00"),
    ],
)
def test_when_a_schedule_is_due(text: str, expected: str) -> None:
    assert due(text, datetime.fromtimestamp(NOON, UTC)).strftime("%Y-%m-%dT%H:%M:%S") == expected


def test_a_stepped_weekday_never_reaches_the_next_week() -> None:
    days = parse("0 0 * * 1/2", UTC)
    moment, seen = NOON, set()
    for _ in range(7):
        found = days.after(moment)
        assert found is not None
        moment = found
        seen.add(datetime.fromtimestamp(moment, UTC).strftime("%a"))
    assert seen == {"Mon", "Wed", "Fri"}


@pytest.mark.parametrize("text", ["", "* * * *", "61 * * * *", "@never", "@every", "@every 5", "a b c d e"])
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(UnparseableSchedule):
        parse(text, UTC)


def test_a_schedule_has_a_zone() -> None:
    there = ZoneInfo("America/New_York")
    assert due("0 9 * * *", datetime.fromtimestamp(NOON, UTC), there).timestamp() == NOON + 2 * 3600
    assert cron_schedule.split_zone("CRON_TZ=Asia/Tokyo 0 9 * * *") == ("Asia/Tokyo", "0 9 * * *")


def test_the_latest_time() -> None:
    minutes = parse("* * * * *", UTC)
    assert minutes.latest(NOON - 300, NOON) == NOON
    assert minutes.latest(NOON - 300, NOON + 59.9) == NOON
    assert minutes.latest(NOON, NOON + 59.9) is None
    assert parse("@every 10s", UTC).latest(NOON, NOON + 35) == NOON + 30


# Plans


def cron(*, active: tuple[str, ...] = (), last: float | None = None, **spec: Any) -> CronJob:
    refs = tuple(ObjectReference(kind="Job", name=name, uid=f"uid-{name}") for name in active)
    return CronJob(
        metadata=ObjectMeta(name="tick", namespace="default", uid="uid-tick", creationTimestamp=timestamp(NOON - 3600)),
        spec=CronJobSpec(**{"schedule": "* * * * *", "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1, **spec}),
        status=CronJobStatus(active=refs, lastScheduleTime=timestamp(last) if last is not None else None),
    )


def job(name: str, state: str = "", at: float = NOON) -> Job:
    conditions = (Condition(type=state, status="True", lastTransitionTime=timestamp(at)),) if state else ()
    completion = timestamp(at) if state == "Complete" else None
    owner = OwnerReference(kind="CronJob", name="tick", uid="uid-tick", controller=True)
    return Job(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", ownerReferences=(owner,)),
        status=JobStatus(conditions=conditions, startTime=timestamp(at - 10), completionTime=completion),
    )


def plan(made: CronJob, jobs: tuple[Job, ...] = (), now: float = NOON) -> cronjob.Plan:
    return cronjob.plan(made, jobs, parse(made.spec.schedule, UTC), now)


def reasons(step: cronjob.Plan) -> list[str]:
    return [reason for _, reason, _ in step.tell]


def test_one_start_is_made_up_for() -> None:
    step = plan(cron(last=NOON - 180), now=NOON + 7)
    assert step.start == NOON and step.again == pytest.approx(53.1) and step.tell == ()
    assert plan(cron(last=NOON), now=NOON + 7).start is None
    assert plan(cron(suspend=True)).start is None


def test_concurrency() -> None:
    running = (job("tick-1"),)
    assert plan(cron(active=("tick-1",)), running).start == NOON
    forbidden = plan(cron(active=("tick-1",), concurrencyPolicy="Forbid"), running)
    assert forbidden.start is None and reasons(forbidden) == ["JobAlreadyActive"]
    replaced = plan(cron(active=("tick-1",), concurrencyPolicy="Replace"), running)
    assert replaced.start == NOON and replaced.replace == running and replaced.active == ()


def test_a_start_that_is_too_late_is_left_out() -> None:
    hourly = cron(schedule="0 * * * *", last=NOON - 3600, startingDeadlineSeconds=30)
    assert plan(hourly, now=NOON + 20).start == NOON
    assert plan(hourly, now=NOON + 40).start is None


def test_many_missed_starts_are_told_of() -> None:
    step = plan(cron(last=NOON - 200 * 60))
    assert step.start == NOON and reasons(step) == ["TooManyMissedTimes"]
    assert plan(cron(last=NOON - 200 * 60, startingDeadlineSeconds=200)).tell == ()
    # with a deadline those within it count
    assert reasons(plan(cron(last=NOON - 200 * 60, startingDeadlineSeconds=150 * 60))) == ["TooManyMissedTimes"]


def test_a_zone_in_the_schedule_is_warned_of() -> None:
    made = cron(schedule="CRON_TZ=UTC * * * * *", last=NOON)
    ((_, reason, message),) = cronjob.plan(made, (), parse("* * * * *", UTC), NOON).tell
    assert reason == "UnsupportedSchedule" and 'used in schedule "CRON_TZ=UTC * * * * *" is not officially' in message


def test_a_schedule_that_never_comes_is_invalid() -> None:
    ((_, reason, message),) = plan(cron(schedule="59 23 31 2 *")).tell
    assert reason == "InvalidSchedule"
    assert message == "invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second"


def test_what_became_of_the_jobs() -> None:
    made = cron(active=("a", "b", "c"), last=NOON)
    step = plan(made, (job("a", "Complete", NOON - 5), job("b"), job("d")))
    assert [ref.name for ref in step.active] == ["b"] and [ref.name for ref in step.missing] == ["c"]
    assert [j.metadata.name for j in step.ended] == ["a"] and [j.metadata.name for j in step.unexpected] == ["d"]
    assert step.last_success == timestamp(NOON - 5)


def test_history_is_limited() -> None:
    jobs = tuple(job(f"ok{n}", "Complete", NOON + n) for n in range(5)) + tuple(job(f"bad{n}", "Failed", NOON + n) for n in range(2))
    assert [j.metadata.name for j in cronjob.surplus(cron(), reversed(jobs))] == ["ok0", "ok1", "bad0"]


def test_the_job_says_for_when_it_was_made() -> None:
    body = cronjob.job_body(cron(timeZone="Asia/Tokyo"), NOON)
    assert body["metadata"]["annotations"] == {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2024-03-06T21:00:00+09:00"}
    assert body["metadata"]["name"] == f"tick-{int(NOON) // 60}"


# On the API server


class Later:
    """The machine's clock, put forward."""

    ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


async def poke(plane: Plane, clock: Later, seconds: float) -> None:
    clock.ahead += seconds
    await plane.client.patch(CronJob, "tick", {"metadata": {"annotations": {"at": str(clock.ahead)}}}, "default")


def body(**spec: Any) -> dict[str, Any]:
    pod = {"restartPolicy": "OnFailure", "containers": [{"name": "work", "image": "work:1"}]}
    job = {"metadata": {"labels": {"of": "tick"}}, "spec": {"template": {"spec": pod}}}
    return {"metadata": {"name": "tick"}, "spec": {"schedule": "* * * * *", "jobTemplate": job, **spec}}


async def test_a_job_a_minute(tmp_path: Path) -> None:
    clock = Later()
    async with control_plane(tmp_path, only=("cronjob", "job", "serviceaccount"), clock=clock) as plane:
        await plane.create(CronJob, body(successfulJobsHistoryLimit=1))
        for n in range(1, 4):
            await poke(plane, clock, 60)
            made = await plane.eventually(CronJob, "tick", lambda c: len(c.status.active) == 1)
            (pod,) = await plane.count(Pod, 1, lambda p: p.status.phase == "Pending")
            await end(plane, pod)
            made = await plane.eventually(CronJob, "tick", lambda c: not c.status.active and c.status.lastSuccessfulTime)
            assert made.status.lastScheduleTime
            (job,) = await plane.count(Job, 1, finished)
            assert job.metadata.labels["of"] == "tick", n


async def test_replace(tmp_path: Path) -> None:
    clock = Later()
    async with control_plane(tmp_path, only=("cronjob", "job", "serviceaccount", "garbage-collector"), clock=clock) as plane:
        await plane.create(CronJob, body(concurrencyPolicy="Replace"))
        await poke(plane, clock, 60)
        (first,) = await plane.count(Job, 1)
        await poke(plane, clock, 60)
        (second,) = await plane.count(Job, 1, lambda j: j.metadata.uid != first.metadata.uid)
        await plane.eventually(CronJob, "tick", lambda c: [ref.uid for ref in c.status.active] == [second.metadata.uid])
        await plane.gone(Job, first.metadata.name)
        await plane.client.patch(CronJob, "tick", {"spec": {"suspend": True}}, "default")
        await poke(plane, clock, 120)
        await plane.client.delete(CronJob, "tick", "default")
        await until(lambda: plane.exists(Job, second.metadata.name))
        await plane.count(Job, 0)
