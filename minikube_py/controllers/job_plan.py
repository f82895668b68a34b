"""Jobs' decisions: which pods to start and to end, whether the job has succeeded or failed, and how finished pods are counted once each.

Pure: values in, values out. Counting is upstream's: a finished pod bears the tracking finalizer until its uid stands in the status as
uncounted; only then is the finalizer taken off, and only then does the uid become a count. So a pod is counted exactly once, whatever is
deleted or restarted meanwhile. `tracked` are the uids of the pods whose finalizer is still on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson

from minikube_py.controllers import job_indexes, job_policy
from minikube_py.controllers.pods import condition_json, condition_of, deletion_order, is_active
from minikube_py.types.batch import Job, JobStatus, UncountedTerminatedPods
from minikube_py.types.meta import Condition, owner_reference, parse_timestamp, timestamp
from minikube_py.types.pod import Pod, is_ready, is_terminal
from minikube_py.types.workload import pod_template

FINALIZER = "batch.kubernetes.io/job-tracking"
BURST = 500
"""The most pods that one look creates or deletes."""
MAX_UNCOUNTED = 500
FIRST_BACKOFF, LONGEST_BACKOFF = 10.0, 600.0
_GENERATED_NAME = 58
"""Characters that generateName may have before the server shortens it."""


class Failures(NamedTuple):
    """Failures in a row, and when the last of them was."""

    in_a_row: int = 0
    last: float = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next pod may be started."""
        return backoff(self.in_a_row, self.last, now)


class Counts(NamedTuple):
    """What is known of the pods at one look."""

    active: tuple[Pod, ...]
    terminating: int
    succeeded: int
    failed: int
    succeeded_indexes: frozenset[int]
    failed_indexes: frozenset[int] | None
    """None where failures are not limited by index."""
    failures: Failures


class Plan(NamedTuple):
    """What to do, then what to say."""

    counts: Counts
    condition: Condition | None = None
    """FailureTarget, SuccessCriteriaMet, or (where one of them has been said) Failed, Complete."""
    end: tuple[Pod, ...] = ()
    """Pods that end with the job; they are counted."""
    remove: tuple[Pod, ...] = ()
    """Pods that are too many; they are not counted."""
    create: tuple[int | None, ...] = ()
    """Indexes, or None for each pod of a job without."""
    replaced: Mapping[int, Pod] = {}
    """By index, the failed pod whose counts the new one carries on; it is kept until then."""
    suspended: bool | None = None
    """What the Suspended condition is to say; None: leave it."""
    again: float | None = None


# Looking


def is_indexed(job: Job) -> bool:
    """Whether every pod has a number."""
    return job.spec.completionMode == "Indexed"


def backoff(count: int, last: float, now: float) -> float:
    """Seconds to wait after so many failures in a row."""
    if count == 0:
        return 0.0
    return max(0.0, last + float(min(FIRST_BACKOFF * 2 ** min(count - 1, 20), LONGEST_BACKOFF)) - now)


def finish_time(pod: Pod, now: float) -> float:
    """When the pod ended, as far as it is known."""
    sidecars = {c.name for c in pod.spec.initContainers if c.restartPolicy == "Always"}
    containers = (*pod.status.containerStatuses, *(s for s in pod.status.initContainerStatuses if s.name in sidecars))
    ends = [s.state.terminated.finishedAt for s in containers if s.state.terminated is not None]
    stamps = [parse_timestamp(stamp) for stamp in ends if stamp]
    if stamps and len(stamps) == len(containers):
        return max(stamps)
    ready = condition_of(pod.status.conditions, "Ready")
    if ready is not None and ready.status == "False" and ready.lastTransitionTime:
        return parse_timestamp(ready.lastTransitionTime)
    meta = pod.metadata
    if meta.deletionTimestamp is not None:
        return parse_timestamp(meta.deletionTimestamp) - (meta.deletionGracePeriodSeconds or 0)
    return parse_timestamp(meta.creationTimestamp) if meta.creationTimestamp else now


def _in_range(job: Job, pod: Pod) -> bool:
    if not is_indexed(job):
        return True
    index = job_indexes.index_of(pod)
    return index is not None and index < (job.spec.completions or 0)


def look(job: Job, pods: Sequence[Pod], tracked: Collection[str], before: Failures, now: float) -> Counts:
    """Count the pods, those that the status does not count yet too."""
    uncounted = job.status.uncountedTerminatedPods or UncountedTerminatedPods()
    valid = [pod for pod in pods if pod.metadata.uid in tracked and _in_range(job, pod)]
    won = [pod for pod in valid if pod.status.phase == "Succeeded" and pod.metadata.uid not in uncounted.succeeded]
    lost = [pod for pod in valid if job_policy.is_failed(job, pod) and pod.metadata.uid not in uncounted.failed]
    counted = [pod for pod in lost if job_policy.judge(job.spec.podFailurePolicy, pod).counts]
    succeeded = job.status.succeeded + len(won) + len(uncounted.succeeded)
    done: frozenset[int] = frozenset()
    failed_indexes: frozenset[int] | None = None
    if is_indexed(job):
        completions = job.spec.completions or 0
        done = job_indexes.parse(job.status.completedIndexes, completions) | {
            index for pod in valid if pod.status.phase == "Succeeded" and (index := job_indexes.index_of(pod)) is not None
        }
        succeeded = len(done)
        if job.spec.backoffLimitPerIndex is not None:
            failed_indexes = job_indexes.parse(job.status.failedIndexes or "", completions) | {
                index for pod in valid if job_policy.index_has_failed(job, pod) and (index := job_indexes.index_of(pod)) is not None
            }
    return Counts(
        active=tuple(pod for pod in pods if is_active(pod)),
        terminating=sum(1 for pod in pods if pod.metadata.deletionTimestamp is not None and not is_terminal(pod)),
        succeeded=succeeded,
        failed=job.status.failed + len(counted) + len(uncounted.failed),
        succeeded_indexes=done,
        failed_indexes=failed_indexes,
        failures=_advance(before, won, lost, now),
    )


def _advance(before: Failures, won: Sequence[Pod], lost: Sequence[Pod], now: float) -> Failures:
    """A success ends a row of failures."""
    losses = [finish_time(pod, now) for pod in lost]
    if won:
        last_success = max(finish_time(pod, now) for pod in won)
        later = [at for at in losses if at > last_success]
        return Failures(len(later), max(later, default=0.0))
    if losses:
        return Failures(before.in_a_row + len(losses), max(losses))
    return before


# Deciding


def plan(job: Job, pods: Sequence[Pod], tracked: Collection[str], before: Failures, now: float) -> Plan:
    """The next step of a job that has not ended."""
    counts = look(job, pods, tracked, before, now)
    condition = _ending(job, pods, counts, now)
    if condition is not None:
        return Plan(counts, condition, end=counts.active, replaced=_replaced(job, pods, tracked, counts, now))
    step = Plan(counts, replaced=_replaced(job, pods, tracked, counts, now))
    left = deadline_left(job, now)
    if job.metadata.deletionTimestamp is None:
        step = _manage(job, pods, step, now)
    active = len(counts.active) - len(step.remove) + len(step.create)
    wanted = job.spec.completions
    if active == 0 and (counts.succeeded > 0 if wanted is None else counts.succeeded >= wanted):
        message = "Reached expected number of succeeded pods"
        return step._replace(condition=_condition("SuccessCriteriaMet", "CompletionsReached", message, now), suspended=None)
    if left is not None:
        step = step._replace(again=left if step.again is None else min(left, step.again))
    return step


def _condition(type_: str, reason: str, message: str, now: float) -> Condition:
    stamp = timestamp(now)
    return Condition(type=type_, status="True", reason=reason, message=message, lastProbeTime=stamp, lastTransitionTime=stamp)


def _said(job: Job, type_: str) -> Condition | None:
    found = condition_of(job.status.conditions, type_)
    return found if found is not None and found.status == "True" else None


def _ending(job: Job, pods: Sequence[Pod], counts: Counts, now: float) -> Condition | None:
    """Why the job ends now, if it does."""
    if (said := _said(job, "SuccessCriteriaMet")) is not None:
        return _condition("Complete", said.reason, said.message, now)
    if (said := _said(job, "FailureTarget")) is not None:
        return _condition("Failed", said.reason, said.message, now)
    for pod in pods if job.spec.podFailurePolicy is not None else ():
        if job_policy.is_failed(job, pod) and (message := job_policy.judge(job.spec.podFailurePolicy, pod).message):
            return _condition("FailureTarget", "PodFailurePolicy", message, now)
    if counts.failed > job.spec.backoffLimit or _restarted_too_often(job, pods):
        return _condition("FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit", now)
    left = deadline_left(job, now)
    if left is not None and left <= 0:
        return _condition("FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline", now)
    if counts.failed_indexes is not None:
        bad, limit = len(counts.failed_indexes), job.spec.maxFailedIndexes
        if limit is not None and bad > limit:
            message = "Job has exceeded the specified maximal number of failed indexes"
            return _condition("FailureTarget", "MaxFailedIndexesExceeded", message, now)
        if bad and bad + len(counts.succeeded_indexes) >= (job.spec.completions or 0):
            return _condition("FailureTarget", "FailedIndexes", "Job has failed indexes", now)
    if is_indexed(job) and (why := job_policy.succeeded(job.spec.successPolicy, job.spec.completions or 0, counts.succeeded_indexes)):
        return _condition("SuccessCriteriaMet", "SuccessPolicy", why, now)
    return None


def _restarted_too_often(job: Job, pods: Sequence[Pod]) -> bool:
    """With restartPolicy OnFailure it is containers that are started anew, and restarts that count."""
    if pod_template(job.spec.template).spec.restartPolicy != "OnFailure":
        return False
    restarts = sum(
        status.restartCount
        for pod in pods
        if pod.status.phase in ("Running", "Pending")
        for status in (*pod.status.initContainerStatuses, *pod.status.containerStatuses)
    )
    return restarts >= max(job.spec.backoffLimit, 1)


def deadline_left(job: Job, now: float) -> float | None:
    """Seconds until the job has been active for too long; None where it may be for ever, or is suspended."""
    if job.spec.activeDeadlineSeconds is None or job.spec.suspend:
        return None
    started = parse_timestamp(job.status.startTime) if job.status.startTime else now
    return started + job.spec.activeDeadlineSeconds - now


def _manage(job: Job, pods: Sequence[Pod], step: Plan, now: float) -> Plan:
    counts = step.counts
    active = len(counts.active)
    if job.spec.suspend:
        return step._replace(remove=counts.active, suspended=True)
    step = step._replace(suspended=False)
    parallelism, completions = job.spec.parallelism, job.spec.completions
    if completions is None:
        wanted = active if counts.succeeded > 0 else parallelism
    else:
        wanted = max(0, min(completions - counts.succeeded, parallelism))
    remove = _surplus(job, counts.active, max(0, active - wanted), now)
    if remove:
        return step._replace(remove=tuple(remove[:BURST]))
    terminating = counts.terminating if job_policy.replaces_only_failed(job) else 0
    missing = min(wanted - terminating - active, BURST)
    if missing <= 0:
        return step
    if job.spec.backoffLimitPerIndex is None and (wait := counts.failures.wait(now)) > 0:
        return step._replace(again=wait)
    if not is_indexed(job):
        return step._replace(create=(None,) * missing)
    return _start_indexes(job, pods, step, missing, now)


def _start_indexes(job: Job, pods: Sequence[Pod], step: Plan, missing: int, now: float) -> Plan:
    counts = step.counts
    taken = {job_indexes.index_of(pod) for pod in counts.active} | counts.succeeded_indexes | (counts.failed_indexes or frozenset())
    if job_policy.replaces_only_failed(job):
        taken |= {job_indexes.index_of(p) for p in pods if p.metadata.deletionTimestamp is not None and not is_terminal(p)}
    pending: list[int] = []
    for index in range(job.spec.completions or 0):
        if len(pending) == missing:
            break
        if index not in taken:
            pending.append(index)
    if job.spec.backoffLimitPerIndex is None:
        return step._replace(create=tuple(pending))
    waits = {index: _index_wait(step.replaced.get(index), now) for index in pending}
    ready = tuple(index for index in pending if waits[index] <= 0)
    later = [wait for wait in waits.values() if wait > 0]
    return step._replace(create=ready, again=min(later, default=None))


def _index_wait(failed: Pod | None, now: float) -> float:
    if failed is None:
        return 0.0
    return backoff(_all_failures(failed) + 1, finish_time(failed, now), now)


def _all_failures(pod: Pod) -> int:
    return job_indexes.count(pod, job_indexes.FAILURES) + job_indexes.count(pod, job_indexes.IGNORED_FAILURES)


def _replaced(job: Job, pods: Sequence[Pod], tracked: Collection[str], counts: Counts, now: float) -> dict[int, Pod]:
    if job.spec.backoffLimitPerIndex is None:
        return {}
    settled = {job_indexes.index_of(p) for p in counts.active} | counts.succeeded_indexes | (counts.failed_indexes or frozenset())
    found: dict[int, Pod] = {}
    for pod in pods:
        index = job_indexes.index_of(pod)
        if pod.metadata.uid not in tracked or index is None or not _in_range(job, pod) or index in settled:
            continue
        if job_policy.is_failed(job, pod):
            known = found.get(index)
            if known is None or (_all_failures(pod), finish_time(pod, now)) >= (_all_failures(known), finish_time(known, now)):
                found[index] = pod
    return found


def _surplus(job: Job, active: Sequence[Pod], at_least: int, now: float) -> list[Pod]:
    """Pods without a valid index, all but one of an index, and as many more as are too many."""
    rm: list[Pod] = []
    left = list(active)
    if is_indexed(job):
        by_index: dict[int, list[Pod]] = {}
        for pod in active:
            index = job_indexes.index_of(pod)
            if index is None or not _in_range(job, pod):
                rm.append(pod)
            else:
                by_index.setdefault(index, []).append(pod)
        left = []
        for same in by_index.values():
            in_order = deletion_order(same, (), now)
            rm += in_order[:-1]
            left.append(in_order[-1])
    if len(rm) < at_least:
        rm += deletion_order(left, (), now)[: at_least - len(rm)]
    return rm


# Counting


class Tracked(NamedTuple):
    """The status with what is to be counted, and the pods whose finalizer may go once that status is written."""

    status: JobStatus
    release: tuple[Pod, ...]
    whole: bool
    """False where there was more to count than one status holds."""


def track(job: Job, pods: Sequence[Pod], tracked: Collection[str], step: Plan, base: JobStatus) -> Tracked:
    """Enter what has finished into the status. `base`: the status with the other fields brought up to date."""
    base = settle(base, tracked)
    uncounted = base.uncountedTerminatedPods or UncountedTerminatedPods()
    won, lost = list(uncounted.succeeded), list(uncounted.failed)
    indexed = is_indexed(job)
    release: list[Pod] = []
    ending = step.condition
    failing = ending is not None and ending.type in ("FailureTarget", "Failed")
    whole = True
    indexes: set[int] = set(job_indexes.parse(job.status.completedIndexes, job.spec.completions or 0)) if indexed else set()
    fresh = 0
    for pod in sorted(pods, key=lambda p: job_indexes.index_of(p) or 0) if indexed else pods:
        uid = pod.metadata.uid
        failed = job_policy.is_failed(job, pod)
        if uid not in tracked or not _may_release(job, pod, step, failed):
            continue
        release.append(pod)
        if pod.status.phase == "Succeeded" and uid not in lost:
            if indexed:
                index = job_indexes.index_of(pod)
                if index is not None and _in_range(job, pod) and index not in indexes:
                    indexes.add(index)
                    fresh += 1
            elif uid not in won:
                won.append(uid)
        elif (failed or failing) and uid not in lost and _in_range(job, pod) and job_policy.judge(job.spec.podFailurePolicy, pod).counts:
            lost.append(uid)
        if fresh + len(won) + len(lost) >= MAX_UNCOUNTED:
            whole = False
            break
    status = msgspec.structs.replace(base, uncountedTerminatedPods=UncountedTerminatedPods(succeeded=tuple(won), failed=tuple(lost)))
    if indexed:
        bad = step.counts.failed_indexes
        status = msgspec.structs.replace(
            status,
            succeeded=len(indexes),
            completedIndexes=job_indexes.text(indexes),
            failedIndexes=job_indexes.text(bad) if bad is not None else None,
        )
    if ending is not None and ending.type in ("FailureTarget", "SuccessCriteriaMet"):
        status = msgspec.structs.replace(status, conditions=(*status.conditions, ending))
    return Tracked(status, tuple(release), whole)


def _may_release(job: Job, pod: Pod, step: Plan, failed: bool) -> bool:
    if job.metadata.deletionTimestamp is not None or step.condition is not None or pod.status.phase == "Succeeded":
        return True
    if not failed:
        return False
    index = job_indexes.index_of(pod)
    kept = step.replaced.get(index) if index is not None else None
    return kept is None or kept.metadata.uid != pod.metadata.uid


def settle(status: JobStatus, tracked: Collection[str]) -> JobStatus:
    """Turn the uncounted pods that have lost their finalizer into counts."""
    uncounted = status.uncountedTerminatedPods or UncountedTerminatedPods()
    won = tuple(uid for uid in uncounted.succeeded if uid in tracked)
    lost = tuple(uid for uid in uncounted.failed if uid in tracked)
    return msgspec.structs.replace(
        status,
        succeeded=status.succeeded + len(uncounted.succeeded) - len(won),
        failed=status.failed + len(uncounted.failed) - len(lost),
        uncountedTerminatedPods=UncountedTerminatedPods(succeeded=won, failed=lost),
    )


def finish(status: JobStatus, condition: Condition | None, now: float) -> JobStatus:
    """The status of a job that has ended: once nothing is left to be counted and no pod is still ending. Else the same status."""
    if condition is None or status.terminating:
        return status
    uncounted = status.uncountedTerminatedPods or UncountedTerminatedPods()
    if uncounted.succeeded or uncounted.failed:
        return status
    type_ = {"FailureTarget": "Failed", "SuccessCriteriaMet": "Complete"}.get(condition.type, condition.type)
    final = _condition(type_, condition.reason, condition.message, now)
    ended = msgspec.structs.replace(status, conditions=(*status.conditions, final))
    if type_ == "Complete":
        ended = msgspec.structs.replace(ended, completionTime=final.lastTransitionTime)
    return ended


def with_suspended(status: JobStatus, suspended: bool, now: float) -> JobStatus:
    """The status with the Suspended condition as it should be. A suspended job has no start, one that is resumed a new one."""
    current = condition_of(status.conditions, "Suspended")
    if (current is not None and current.status == "True") == suspended:
        return status
    stamp = timestamp(now)
    state, reason, message = ("True", "JobSuspended", "Job suspended") if suspended else ("False", "JobResumed", "Job resumed")
    new = Condition(type="Suspended", status=state, reason=reason, message=message, lastProbeTime=stamp, lastTransitionTime=stamp)
    conditions = tuple(new if c.type == "Suspended" else c for c in status.conditions) if current is not None else (*status.conditions, new)
    status = msgspec.structs.replace(status, conditions=conditions)
    return msgspec.structs.replace(status, startTime=None if suspended else stamp)


def status_json(new: JobStatus) -> dict[str, Any]:
    """The status as the API takes it; None for what is left out of the object, as upstream does with counts of zero."""
    uncounted = new.uncountedTerminatedPods or UncountedTerminatedPods()
    pending = {name: list(uids) for name in ("succeeded", "failed") if (uids := getattr(uncounted, name))}
    body: dict[str, Any] = {name: getattr(new, name) or None for name in ("active", "succeeded", "failed", "completedIndexes")}
    body |= {name: getattr(new, name) for name in ("startTime", "completionTime", "terminating", "ready", "failedIndexes")}
    return body | {"uncountedTerminatedPods": pending, "conditions": [condition_json(c) for c in new.conditions] or None}


# Making pods


def pod_body(job: Job, index: int | None, replaced: Pod | None) -> bytes:
    """A pod of the job, of an index where there is one. It carries on the counts of the pod that it replaces."""
    parsed: dict[str, Any] = msgspec.json.decode(job.spec.template)
    meta: dict[str, Any] = parsed.get("metadata") or {}
    spec: dict[str, Any] = parsed.get("spec") or {}
    labels, annotations = dict(meta.get("labels") or {}), dict(meta.get("annotations") or {})
    prefix = f"{job.metadata.name}-"
    if index is not None:
        labels[job_indexes.INDEX] = annotations[job_indexes.INDEX] = str(index)
        spec["hostname"] = f"{job.metadata.name}-{index}"
        tail = f"-{index}-"
        prefix = f"{job.metadata.name[: _GENERATED_NAME - len(tail)]}{tail}"
        for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
            _add_index_variable(container)
        if job.spec.backoffLimitPerIndex is not None:
            annotations |= _carried(job, replaced)
    finalizers = list(meta.get("finalizers") or ())
    made = {
        "generateName": prefix,
        "labels": labels,
        "annotations": annotations,
        "finalizers": finalizers if FINALIZER in finalizers else [*finalizers, FINALIZER],
        "ownerReferences": [owner_reference(job)],
    }
    return orjson.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": made, "spec": spec})


def _add_index_variable(container: dict[str, Any]) -> None:
    env = container.setdefault("env", [])
    if not any(variable.get("name") == "JOB_COMPLETION_INDEX" for variable in env):
        source = {"fieldRef": {"fieldPath": f"metadata.labels['{job_indexes.INDEX}']"}}
        env.append({"name": "JOB_COMPLETION_INDEX", "valueFrom": source})


def _carried(job: Job, replaced: Pod | None) -> dict[str, str]:
    if replaced is None:
        return {job_indexes.FAILURES: "0"}
    counts = job_policy.judge(job.spec.podFailurePolicy, replaced).counts
    failures = job_indexes.count(replaced, job_indexes.FAILURES) + counts
    ignored = job_indexes.count(replaced, job_indexes.IGNORED_FAILURES) + (not counts)
    return {job_indexes.FAILURES: str(failures), **({job_indexes.IGNORED_FAILURES: str(ignored)} if ignored else {})}


def active_counts(pods: Sequence[Pod]) -> tuple[int, int, int]:
    """(active, ready, terminating) pods, as the status has them."""
    active = [pod for pod in pods if is_active(pod)]
    ending = sum(1 for pod in pods if pod.metadata.deletionTimestamp is not None and not is_terminal(pod))
    return len(active), sum(1 for pod in active if is_ready(pod)), ending
