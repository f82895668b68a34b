"""Jobs and cron jobs: what their controllers read of them. Pod templates and job templates stay raw: they are copied whole."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from minikube_py.types.meta import Condition, LabelSelector, Object, ObjectReference, ResourceRef, View
from minikube_py.types.workload import NO_TEMPLATE


class OnExitCodes(View, frozen=True):
    operator: str
    values: tuple[int, ...] = ()
    containerName: str | None = None


class OnPodCondition(View, frozen=True):
    type: str
    status: str = "True"


class PodFailurePolicyRule(View, frozen=True):
    action: str
    onExitCodes: OnExitCodes | None = None
    onPodConditions: tuple[OnPodCondition, ...] = ()


class PodFailurePolicy(View, frozen=True):
    rules: tuple[PodFailurePolicyRule, ...] = ()


class SuccessPolicyRule(View, frozen=True):
    succeededIndexes: str | None = None
    succeededCount: int | None = None


class SuccessPolicy(View, frozen=True):
    rules: tuple[SuccessPolicyRule, ...] = ()


class JobSpec(View, frozen=True):
    parallelism: int = 1
    completions: int | None = None
    activeDeadlineSeconds: int | None = None
    podFailurePolicy: PodFailurePolicy | None = None
    successPolicy: SuccessPolicy | None = None
    backoffLimit: int = 6
    backoffLimitPerIndex: int | None = None
    maxFailedIndexes: int | None = None
    selector: LabelSelector = LabelSelector()
    template: msgspec.Raw = NO_TEMPLATE
    ttlSecondsAfterFinished: int | None = None
    completionMode: str = "NonIndexed"
    suspend: bool = False
    podReplacementPolicy: str = "TerminatingOrFailed"
    managedBy: str | None = None


class UncountedTerminatedPods(View, frozen=True):
    succeeded: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class JobStatus(View, frozen=True):
    conditions: tuple[Condition, ...] = ()
    startTime: str | None = None
    completionTime: str | None = None
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    terminating: int | None = None
    ready: int | None = None
    completedIndexes: str = ""
    failedIndexes: str | None = None
    uncountedTerminatedPods: UncountedTerminatedPods | None = None


class Job(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("batch", "v1", "jobs", "Job")
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class CronJobSpec(View, frozen=True):
    schedule: str = ""
    timeZone: str | None = None
    startingDeadlineSeconds: int | None = None
    concurrencyPolicy: str = "Allow"
    suspend: bool = False
    jobTemplate: msgspec.Raw = NO_TEMPLATE
    successfulJobsHistoryLimit: int | None = None
    failedJobsHistoryLimit: int | None = None


class CronJobStatus(View, frozen=True):
    active: tuple[ObjectReference, ...] = ()
    lastScheduleTime: str | None = None
    lastSuccessfulTime: str | None = None


class CronJob(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("batch", "v1", "cronjobs", "CronJob")
    spec: CronJobSpec = CronJobSpec()
    status: CronJobStatus = CronJobStatus()


def finished(job: Job) -> Condition | None:
    """The condition that says that the job has ended (Complete or Failed), if it has."""
    return next((c for c in job.status.conditions if c.type in ("Complete", "Failed") and c.status == "True"), None)
