"""What a job's policies make of its pods: whether a failure counts, ends an index or the job; whether enough indexes have succeeded.

Pure: the first rule that matches decides, as upstream's does.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from minikube_py.controllers import job_indexes
from minikube_py.types.batch import Job, OnExitCodes, PodFailurePolicy, SuccessPolicy
from minikube_py.types.pod import Pod


class Verdict(NamedTuple):
    """What the pod failure policy makes of one failed pod."""

    counts: bool
    """Whether the failure counts against the backoff limit."""
    action: str = ""
    message: str = ""
    """Why the job fails, where the action is FailJob."""


def judge(policy: PodFailurePolicy | None, pod: Pod) -> Verdict:
    """Apply the rules to a failed pod."""
    for number, rule in enumerate(policy.rules if policy is not None else ()):
        why = ""
        if rule.onExitCodes is not None:
            hit = _container_with(pod, rule.onExitCodes)
            if hit is not None:
                container, code = hit
                why = f"Container {container} for pod {pod.key} failed with exit code {code} matching {rule.action} rule at index {number}"
        else:
            pairs = {(c.type, c.status) for c in pod.status.conditions}
            matched = next((p for p in rule.onPodConditions if (p.type, p.status) in pairs), None)
            if matched is not None:
                why = f"Pod {pod.key} has condition {matched.type} matching {rule.action} rule at index {number}"
        if why:
            if rule.action == "Ignore":
                return Verdict(False, rule.action)
            if rule.action == "FailJob":
                return Verdict(True, rule.action, why)
            return Verdict(True, rule.action)
    return Verdict(True)


def _container_with(pod: Pod, wanted: OnExitCodes) -> tuple[str, int] | None:
    """The first container whose end the rule is about, with its exit code. An end with 0 is no failure, whatever the rule says."""
    for status in (*pod.status.containerStatuses, *pod.status.initContainerStatuses):
        ended = status.state.terminated
        if ended is None or ended.exitCode == 0 or wanted.containerName not in (None, status.name):
            continue
        if (ended.exitCode in wanted.values) == (wanted.operator == "In"):
            return status.name, ended.exitCode
    return None


def succeeded(policy: SuccessPolicy | None, completions: int, indexes: Collection[int]) -> str | None:
    """Why the job counts as successful although not every index is, or None where it does not."""
    if not indexes:
        return None
    for number, rule in enumerate(policy.rules if policy is not None else ()):
        relevant = frozenset(indexes)
        if rule.succeededIndexes is not None:
            named = job_indexes.parse(rule.succeededIndexes, completions)
            relevant &= named
            if rule.succeededCount is None and relevant >= named:
                return f"Matched rules at index {number}"
        if rule.succeededCount is not None and len(relevant) >= rule.succeededCount:
            return f"Matched rules at index {number}"
    return None


def is_failed(job: Job, pod: Pod) -> bool:
    """Whether a pod counts as failed: it has failed, or (unless only ended pods are replaced) it is being deleted without success."""
    if pod.status.phase == "Failed":
        return True
    return pod.metadata.deletionTimestamp is not None and pod.status.phase != "Succeeded" and not replaces_only_failed(job)


def replaces_only_failed(job: Job) -> bool:
    """Whether a pod that is ending is replaced only when it has ended."""
    return job.spec.podReplacementPolicy == "Failed" or job.spec.podFailurePolicy is not None


def index_has_failed(job: Job, pod: Pod) -> bool:
    """Whether a failed pod is one too many for its index."""
    limit = job.spec.backoffLimitPerIndex
    if limit is None or not is_failed(job, pod):
        return False
    verdict = judge(job.spec.podFailurePolicy, pod)
    if verdict.action == "FailIndex":
        return True
    return verdict.counts and job_indexes.count(pod, job_indexes.FAILURES) >= limit
