"""What a job starts and ends, when it is over, and that each pod is counted once."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikube_py.controllers import job_indexes, job_plan, job_policy
from minikube_py.controllers.job_plan import FINALIZER, Failures
from minikube_py.types.batch import (
    Job,
    JobSpec,
    JobStatus,
    OnExitCodes,
    OnPodCondition,
    PodFailurePolicy,
    PodFailurePolicyRule,
    SuccessPolicy,
    SuccessPolicyRule,
    UncountedTerminatedPods,
)
from minikube_py.types.meta import Condition, ObjectMeta, timestamp
from minikube_py.types.pod import Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus
from tests.controllers.builders import NOW, pod, template

NONE = Failures()


def job(status: JobStatus | None = None, *, restart: str = "Never", **spec: Any) -> Job:
    return Job(
        metadata=ObjectMeta(name="work", namespace="default", uid="uid-work"),
        spec=JobSpec(template=template(restartPolicy=restart), **spec),
        status=status or JobStatus(startTime=timestamp(NOW - 100)),
    )


def worker(
    name: str, phase: str = "Running", index: int | None = None, *, code: int | None = None, at: float = NOW - 50, **fields: Any
) -> Pod:
    annotations = dict(fields.pop("annotations", {}))
    if index is not None:
        annotations[job_indexes.INDEX] = str(index)
    made = pod(name, phase=phase, annotations=annotations, **fields)
    if phase in ("Succeeded", "Failed"):
        ended = ContainerStateTerminated(exitCode=code if code is not None else int(phase == "Failed"), finishedAt=timestamp(at))
        containers = (ContainerStatus(name="web", state=ContainerState(terminated=ended)),)
        made = msgspec.structs.replace(made, status=msgspec.structs.replace(made.status, containerStatuses=containers))
    return made


def uids(pods: list[Pod]) -> set[str]:
    return {p.metadata.uid for p in pods}


def plan(made: Job, pods: list[Pod], before: Failures = NONE, now: float = NOW) -> job_plan.Plan:
    return job_plan.plan(made, pods, uids(pods), before, now)


def ending(made: Job, pods: list[Pod]) -> tuple[str, str] | None:
    condition = plan(made, pods).condition
    return (condition.type, condition.reason) if condition is not None else None


def names(pods: Any) -> list[str]:
    return sorted(p.metadata.name for p in pods)


@pytest.mark.parametrize(
    ("spec", "pods", "create"),
    [
        ({"completions": 5, "parallelism": 2}, [], 2),
        ({"completions": 5, "parallelism": 2}, [worker("a")], 1),
        ({"completions": 2, "parallelism": 5}, [worker("a", "Succeeded")], 1),
        ({"completions": 1, "parallelism": 1}, [worker("a", ending=True)], 0),
        ({"parallelism": 3}, [worker("a")], 2),
        ({"parallelism": 3}, [worker("a"), worker("b", "Succeeded")], 0),
        ({"completions": 3, "parallelism": 0}, [], 0),
    ],
)
def test_how_many_are_started(spec: dict[str, Any], pods: list[Pod], create: int) -> None:
    # whoever ends without success counts as failed, and a failure is waited for: the one in the table too
    assert len(plan(job(**spec), pods).create) == create


def test_those_that_are_too_many_go() -> None:
    step = plan(job(completions=5, parallelism=1), [worker("a"), worker("b", ready=False)])
    assert names(step.remove) == ["b"] and not step.create
    indexed = job(completions=2, parallelism=2, completionMode="Indexed")
    pods = [worker("a", index=0), worker("b", index=0, ready=False), worker("c", index=7), worker("d")]
    assert names(plan(indexed, pods).remove) == ["b", "c", "d"]


def test_indexes_that_are_missing_are_started_the_lowest_first() -> None:
    indexed = job(JobStatus(completedIndexes="1", startTime=timestamp(NOW)), completions=6, parallelism=3, completionMode="Indexed")
    assert plan(indexed, [worker("a", index=0)]).create == (2, 3)


def test_only_what_has_ended_is_replaced_where_that_is_wanted() -> None:
    ending_pod = [worker("a", index=0, ending=True)]
    wait = job(completions=2, parallelism=1, completionMode="Indexed", podReplacementPolicy="Failed")
    assert plan(wait, ending_pod).create == ()
    at_once = job(completions=2, parallelism=1, completionMode="Indexed")
    step = job_plan.plan(at_once, ending_pod, (), Failures(), NOW)
    assert step.create == (0,)


def test_when_a_pod_ended() -> None:
    def status(name: str, at: float | None) -> ContainerStatus:
        ended = ContainerStateTerminated(exitCode=0, finishedAt=timestamp(at)) if at is not None else None
        return ContainerStatus(name=name, state=ContainerState(terminated=ended))

    sidecar = Container(name="side", restartPolicy="Always")
    made = pod("a", ready=False, since=NOW - 50, initContainers=(sidecar, Container(name="once")))
    for side, expected in ((NOW - 5, NOW - 5), (NOW - 30, NOW - 20), (None, NOW - 50)):
        states = {"containerStatuses": (status("web", NOW - 20),), "initContainerStatuses": (status("side", side), status("once", NOW))}
        ended = msgspec.structs.replace(made, status=msgspec.structs.replace(made.status, **states))
        assert job_plan.finish_time(ended, NOW) == expected
    # of what nobody has looked after: when its deletion was asked for, or when it was made
    lost = msgspec.structs.replace(made, status=PodStatus())
    assert job_plan.finish_time(lost, NOW) == NOW - 1000
    meta = msgspec.structs.replace(lost.metadata, deletionTimestamp=timestamp(NOW), deletionGracePeriodSeconds=30)
    assert job_plan.finish_time(msgspec.structs.replace(lost, metadata=meta), NOW) == NOW - 30


def test_failures_are_waited_after_ever_longer() -> None:
    failed = [worker("a", "Failed", at=NOW - 4)]
    step = plan(job(completions=1), failed)
    assert (step.create, step.again, step.counts.failures.in_a_row) == ((), 6.0, 1)
    assert plan(job(completions=1), failed, Failures(2, NOW - 60)).again == 36.0
    assert plan(job(completions=1), [worker("a", "Failed", at=NOW - 11)]).create == (None,)
    reset = plan(job(completions=3), [*failed, worker("b", "Succeeded", at=NOW - 1)], Failures(4, NOW - 60))
    assert reset.counts.failures == Failures() and reset.create == (None,)
    assert job_plan.backoff(50, NOW, NOW) == 600


def test_ways_to_end() -> None:
    assert ending(job(completions=1), [worker("a", "Succeeded")]) == ("SuccessCriteriaMet", "CompletionsReached")
    assert ending(job(parallelism=2), [worker("a", "Succeeded")]) == ("SuccessCriteriaMet", "CompletionsReached")
    assert ending(job(parallelism=2), [worker("a", "Succeeded"), worker("b")]) is None
    assert ending(job(completions=0), []) == ("SuccessCriteriaMet", "CompletionsReached")
    assert ending(job(completions=1, backoffLimit=0), [worker("a", "Failed")]) == ("FailureTarget", "BackoffLimitExceeded")
    assert ending(job(completions=1, activeDeadlineSeconds=100), [worker("a")]) == ("FailureTarget", "DeadlineExceeded")
    assert ending(job(completions=1, activeDeadlineSeconds=101), [worker("a")]) is None
    assert ending(job(completions=1, activeDeadlineSeconds=1, suspend=True), []) is None
    restarting = job(completions=1, restart="OnFailure", backoffLimit=2)
    assert ending(restarting, [worker("a", restarts=1)]) is None
    assert ending(restarting, [worker("a", restarts=2)]) == ("FailureTarget", "BackoffLimitExceeded")


def test_what_was_said_is_kept_to() -> None:
    said = Condition(type="FailureTarget", status="True", reason="BackoffLimitExceeded", message="why")
    step = plan(job(JobStatus(conditions=(said,)), completions=1), [worker("a"), worker("b", "Succeeded")])
    assert step.condition is not None and (step.condition.type, step.condition.message) == ("Failed", "why")
    assert names(step.end) == ["a"]


def test_limits_by_index() -> None:
    spec = {"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 1, "backoffLimit": 100}
    once = worker("a", "Failed", 0, annotations={job_indexes.FAILURES: "0"}, at=NOW - 20)
    step = plan(job(**spec), [once, worker("b", index=1), worker("c", index=2)])
    assert step.create == (0,) and step.replaced[0] is once and step.condition is None
    body = orjson.loads(job_plan.pod_body(job(**spec), 0, once))
    assert body["metadata"]["annotations"][job_indexes.FAILURES] == "1"
    twice = worker("a", "Failed", 0, annotations={job_indexes.FAILURES: "1"})
    step = plan(job(**spec), [twice, worker("b", index=1), worker("c", index=2)])
    assert step.create == () and step.counts.failed_indexes == frozenset({0}) and not step.replaced
    assert ending(job(**spec, maxFailedIndexes=0), [twice]) == ("FailureTarget", "MaxFailedIndexesExceeded")
    others = [worker("b", "Succeeded", 1), worker("c", "Succeeded", 2)]
    assert ending(job(**spec), [twice, *others]) == ("FailureTarget", "FailedIndexes")
    early = worker("a", "Failed", 0, annotations={job_indexes.FAILURES: "0"}, at=NOW - 4)
    assert plan(job(**spec), [early, worker("b", index=1), worker("c", index=2)]).again == 6.0


# Policies


def rule(action: str, **fields: Any) -> PodFailurePolicy:
    return PodFailurePolicy(rules=(PodFailurePolicyRule(action=action, **fields),))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, (True, "")),
        (rule("Ignore", onExitCodes=OnExitCodes(operator="In", values=(3, 4))), (False, "Ignore")),
        (rule("Ignore", onExitCodes=OnExitCodes(operator="NotIn", values=(3,))), (True, "")),
        (rule("Count", onExitCodes=OnExitCodes(operator="NotIn", values=(5,))), (True, "Count")),
        (rule("Ignore", onExitCodes=OnExitCodes(operator="In", values=(3,), containerName="other")), (True, "")),
        (rule("Ignore", onPodConditions=(OnPodCondition(type="DisruptionTarget"),)), (False, "Ignore")),
        (rule("Ignore", onPodConditions=(OnPodCondition(type="DisruptionTarget", status="False"),)), (True, "")),
    ],
)
def test_the_pod_failure_policy(policy: PodFailurePolicy | None, expected: tuple[bool, str]) -> None:
    failed = worker("a", "Failed", code=3, conditions=(Condition(type="DisruptionTarget", status="True"),))
    assert job_policy.judge(policy, failed)[:2] == expected


def test_a_failure_that_is_ignored_counts_nowhere() -> None:
    policy = rule("Ignore", onExitCodes=OnExitCodes(operator="In", values=(3,)))
    pods = [worker("a", "Failed", code=3)]
    made = job(completions=1, backoffLimit=0, podFailurePolicy=policy)
    step = plan(made, pods)
    assert step.condition is None and step.counts.failed == 0
    entered = job_plan.track(made, pods, uids(pods), step, made.status)
    assert entered.release == tuple(pods) and entered.status.uncountedTerminatedPods == UncountedTerminatedPods()


@pytest.mark.parametrize(
    ("rule", "indexes", "met"),
    [
        (SuccessPolicyRule(succeededIndexes="0-1"), {0}, False),
        (SuccessPolicyRule(succeededIndexes="0-1"), {0, 1}, True),
        (SuccessPolicyRule(succeededCount=2), {1, 4}, True),
        (SuccessPolicyRule(succeededCount=2, succeededIndexes="0-2"), {1, 4}, False),
        (SuccessPolicyRule(succeededCount=2, succeededIndexes="0-4"), {1, 4}, True),
        (SuccessPolicyRule(succeededCount=1), set(), False),
    ],
)
def test_the_success_policy(rule: SuccessPolicyRule, indexes: set[int], met: bool) -> None:
    assert bool(job_policy.succeeded(SuccessPolicy(rules=(rule,)), 5, indexes)) == met


# Counting


def test_a_pod_is_counted_once_whatever_happens_between() -> None:
    made = job(completions=3)
    pods = [worker("won", "Succeeded"), worker("lost", "Failed"), worker("runs")]
    tracked = uids(pods)
    entered = job_plan.track(made, pods, tracked, plan(made, pods), made.status)
    assert entered.status.uncountedTerminatedPods == UncountedTerminatedPods(succeeded=("uid-won",), failed=("uid-lost",))
    assert names(entered.release) == ["lost", "won"] and (entered.status.succeeded, entered.status.failed) == (0, 0)
    # one finalizer came off, then everything stopped: the next look goes on from the status
    again = job(job_plan.settle(entered.status, tracked - {"uid-won"}), completions=3)
    assert (again.status.succeeded, again.status.failed) == (1, 0)
    left = job_plan.look(again, pods, tracked - {"uid-won"}, Failures(), NOW)
    assert (left.succeeded, left.failed) == (1, 1)
    entered = job_plan.track(again, pods, tracked - {"uid-won"}, plan(again, pods[1:]), again.status)
    assert names(entered.release) == ["lost"] and entered.status.uncountedTerminatedPods == UncountedTerminatedPods(failed=("uid-lost",))
    done = job_plan.settle(entered.status, {"uid-runs"})
    assert (done.succeeded, done.failed) == (1, 1)


def test_pods_that_end_with_a_failed_job_are_failures_and_with_a_successful_one_are_not() -> None:
    made = job(completions=3, backoffLimit=0)
    pods = [worker("lost", "Failed"), worker("runs")]
    entered = job_plan.track(made, pods, uids(pods), plan(made, pods), made.status)
    assert entered.status.uncountedTerminatedPods == UncountedTerminatedPods(failed=("uid-lost", "uid-runs"))
    policy = SuccessPolicy(rules=(SuccessPolicyRule(succeededIndexes="0"),))
    made = job(completions=3, completionMode="Indexed", successPolicy=policy)
    pods = [worker("won", "Succeeded", 0), worker("runs", index=1)]
    step = plan(made, pods)
    entered = job_plan.track(made, pods, uids(pods), step, made.status)
    assert names(step.end) == ["runs"] and entered.status.uncountedTerminatedPods == UncountedTerminatedPods()
    assert (entered.status.completedIndexes, entered.status.succeeded) == ("0", 1)


def test_the_end_waits_for_what_is_not_counted_or_still_ending() -> None:
    condition = plan(job(completions=1), [worker("a", "Succeeded")]).condition
    waiting = JobStatus(uncountedTerminatedPods=UncountedTerminatedPods(failed=("x",)))
    assert job_plan.finish(waiting, condition, NOW) is waiting
    waiting = JobStatus(terminating=1)
    assert job_plan.finish(waiting, condition, NOW) is waiting
    ended = job_plan.finish(JobStatus(), condition, NOW)
    assert ended.conditions[-1].type == "Complete" and ended.completionTime == timestamp(NOW)


def test_more_than_one_status_holds_is_counted_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_plan, "MAX_UNCOUNTED", 3)
    made = job(completions=5)
    pods = [worker(f"p{n}", "Succeeded") for n in range(5)]
    entered = job_plan.track(made, pods, uids(pods), plan(made, pods), made.status)
    assert not entered.whole and len(entered.release) == 3


def test_a_pod_of_an_index_knows_it() -> None:
    made = job(completions=3, completionMode="Indexed")
    body = orjson.loads(job_plan.pod_body(made, 2, None))
    meta, container = body["metadata"], body["spec"]["containers"][0]
    assert meta["generateName"] == "work-2-" and meta["finalizers"] == [FINALIZER]
    assert meta["labels"][job_indexes.INDEX] == meta["annotations"][job_indexes.INDEX] == "2"
    assert body["spec"]["hostname"] == "work-2"
    path = f"metadata.labels['{job_indexes.INDEX}']"
    assert container["env"] == [{"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": path}}}]


@pytest.mark.parametrize(("indexes", "text"), [(set(), ""), ({0}, "0"), ({0, 1}, "0,1"), ({0, 1, 2}, "0-2"), ({1, 3, 4, 5, 9}, "1,3-5,9")])
def test_indexes_as_text(indexes: set[int], text: str) -> None:
    assert job_indexes.text(indexes) == text and job_indexes.parse(text, 10) == indexes


@given(st.sets(st.integers(0, 300)))
def test_indexes_survive_being_written(indexes: set[int]) -> None:
    assert job_indexes.parse(job_indexes.text(indexes), 301) == indexes
    assert job_indexes.parse(job_indexes.text(indexes), 100) == {index for index in indexes if index < 100}
