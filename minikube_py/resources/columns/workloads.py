"""Deployments, replica sets, stateful sets, daemon sets, jobs, autoscalers and disruption budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minikube_py.resources.api import Columns, Obj
from minikube_py.resources.columns.base import (
    NONE,
    UNKNOWN,
    age,
    columns,
    containers_text,
    human_duration,
    int_or,
    labels_text,
    selector_text,
    since,
)
from minikube_py.types.meta import parse_timestamp


def _parts(obj: Obj) -> tuple[str, Obj, Obj, Obj]:
    """Name, spec, status and the template's pod spec."""
    spec = obj.get("spec") or {}
    pod_spec = (spec.get("template") or {}).get("spec") or {}
    return obj["metadata"].get("name", ""), spec, obj.get("status") or {}, pod_spec


def _deployment(obj: Obj, now: float) -> Sequence[Any]:
    name, spec, status, pod_spec = _parts(obj)
    ready = f"{status.get('readyReplicas') or 0}/{int_or(spec.get('replicas'))}"
    selector = selector_text(spec.get("selector"))
    return (
        name, ready, status.get("updatedReplicas") or 0, status.get("availableReplicas") or 0, age(obj, now),
        *containers_text(pod_spec), "" if selector == NONE else "<invalid>" if selector == "<error>" else selector,
    )  # fmt: skip


def _replica_set(obj: Obj, now: float) -> Sequence[Any]:
    name, spec, status, pod_spec = _parts(obj)
    counts = int_or(spec.get("replicas")), status.get("replicas") or 0, status.get("readyReplicas") or 0
    return name, *counts, age(obj, now), *containers_text(pod_spec), selector_text(spec.get("selector"))


def _replication_controller(obj: Obj, now: float) -> Sequence[Any]:
    name, spec, status, pod_spec = _parts(obj)
    counts = int_or(spec.get("replicas")), status.get("replicas") or 0, status.get("readyReplicas") or 0
    return name, *counts, age(obj, now), *containers_text(pod_spec), labels_text(spec.get("selector"))


def _stateful_set(obj: Obj, now: float) -> Sequence[Any]:
    name, spec, status, pod_spec = _parts(obj)
    return name, f"{status.get('readyReplicas') or 0}/{int_or(spec.get('replicas'))}", age(obj, now), *containers_text(pod_spec)


def _daemon_set(obj: Obj, now: float) -> Sequence[Any]:
    name, spec, status, pod_spec = _parts(obj)
    fields = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable")
    return (
        name, *(status.get(f) or 0 for f in fields), labels_text(pod_spec.get("nodeSelector")), age(obj, now),
        *containers_text(pod_spec), selector_text(spec.get("selector")),
    )  # fmt: skip


def _job_status(obj: Obj) -> str:
    true = {c.get("type") for c in (obj.get("status") or {}).get("conditions") or () if c.get("status") == "True"}
    if "Complete" in true:
        return "Complete"
    if "Failed" in true:
        return "Failed"
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return next((word for word in ("Suspended", "FailureTarget") if word in true), "Running")


def _job(obj: Obj, now: float) -> Sequence[Any]:
    name, spec, status, pod_spec = _parts(obj)
    succeeded, parallelism = status.get("succeeded") or 0, int_or(spec.get("parallelism"))
    if spec.get("completions") is not None:
        completions = f"{succeeded}/{spec['completions']}"
    elif parallelism > 1:
        completions = f"{succeeded}/1 of {parallelism}"
    else:
        completions = f"{succeeded}/1"
    started, completed = status.get("startTime"), status.get("completionTime")
    took = ""
    if started:
        took = human_duration((parse_timestamp(completed) if completed else now) - parse_timestamp(started))
    return name, _job_status(obj), completions, took, age(obj, now), *containers_text(pod_spec), selector_text(spec.get("selector"))


def _cron_job(obj: Obj, now: float) -> Sequence[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    suspend = spec.get("suspend")
    last = status.get("lastScheduleTime")
    return (
        obj["metadata"].get("name", ""), spec.get("schedule", ""), NONE if spec.get("timeZone") is None else spec["timeZone"],
        "<unset>" if suspend is None else str(bool(suspend)), len(status.get("active") or ()),
        since(last, now) if last else NONE, age(obj, now),
        *containers_text((job.get("template") or {}).get("spec") or {}), selector_text(job.get("selector")),
    )  # fmt: skip


def _controller_revision(obj: Obj, now: float) -> Sequence[Any]:
    owner = next((o for o in obj["metadata"].get("ownerReferences") or () if o.get("controller")), None)
    text = NONE
    if owner:
        group = owner.get("apiVersion", "").rpartition("/")[0]
        text = f"{owner.get('kind', '')}{'.' + group if group else ''}".lower() + f"/{owner.get('name', '')}"
    return obj["metadata"].get("name", ""), text, obj.get("revision") or 0, age(obj, now)


def _metric(spec: Obj, status: Obj | None) -> str:
    """One metric as current/target."""
    kind = spec.get("type") or ""
    if kind not in ("External", "Pods", "Object", "Resource", "ContainerResource"):
        return "<unknown type>"
    field = kind[0].lower() + kind[1:]
    source = spec.get(field) or {}
    target, current = source.get("target") or {}, ((status or {}).get(field) or {}).get("current")
    if kind in ("Resource", "ContainerResource"):
        if target.get("averageValue") is not None:
            have = UNKNOWN if current is None else current.get("averageValue", "<nil>")
            return f"{source.get('name')}: {have}/{target['averageValue']}"
        used = (current or {}).get("averageUtilization")
        wanted = target.get("averageUtilization")
        return f"{source.get('name')}: {UNKNOWN if used is None else f'{used}%'}/{'<auto>' if wanted is None else f'{wanted}%'}"
    if kind == "Pods":
        return f"{UNKNOWN if current is None else current.get('averageValue', '<nil>')}/{target.get('averageValue', '<nil>')}"
    if target.get("averageValue") is not None:
        return f"{(current or {}).get('averageValue', UNKNOWN)}/{target['averageValue']} (avg)"
    return f"{UNKNOWN if current is None else current.get('value', '<nil>')}/{target.get('value', '<nil>')}"


def _autoscaler(obj: Obj, now: float) -> Sequence[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    target = spec.get("scaleTargetRef") or {}
    currents = status.get("currentMetrics") or ()
    metrics = [_metric(m, currents[i] if i < len(currents) else None) for i, m in enumerate(spec.get("metrics") or ())]
    text = ", ".join(metrics[:2]) + (f" + {len(metrics) - 2} more..." if len(metrics) > 2 else "")
    least = spec.get("minReplicas")
    return (
        obj["metadata"].get("name", ""), f"{target.get('kind', '')}/{target.get('name', '')}", text or NONE,
        "<unset>" if least is None else str(least), spec.get("maxReplicas") or 0, status.get("currentReplicas") or 0, age(obj, now),
    )  # fmt: skip


def _disruption_budget(obj: Obj, now: float) -> Sequence[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    bounds = ("N/A" if spec.get(f) is None else str(spec[f]) for f in ("minAvailable", "maxUnavailable"))
    return obj["metadata"].get("name", ""), *bounds, status.get("disruptionsAllowed") or 0, age(obj, now)


DEPLOYMENTS = Columns(columns("Name, Ready, Up-to-date, Available, Age, Containers+, Images+, Selector+"), _deployment)
_COUNTED = columns("Name, Desired:integer, Current:integer, Ready:integer, Age, Containers+, Images+, Selector+")
REPLICA_SETS = Columns(_COUNTED, _replica_set)
REPLICATION_CONTROLLERS = Columns(_COUNTED, _replication_controller)
STATEFUL_SETS = Columns(columns("Name, Ready, Age, Containers+, Images+"), _stateful_set)
DAEMON_SETS = Columns(
    columns(
        "Name, Desired:integer, Current:integer, Ready:integer, Up-to-date:integer, Available:integer, Node Selector, Age, "
        "Containers+, Images+, Selector+"
    ),
    _daemon_set,
)
JOBS = Columns(columns("Name, Status, Completions, Duration, Age, Containers+, Images+, Selector+"), _job)
CRON_JOBS = Columns(
    columns("Name, Schedule, Timezone, Suspend:boolean, Active:integer, Last Schedule, Age, Containers+, Images+, Selector+"), _cron_job
)
CONTROLLER_REVISIONS = Columns(columns("Name, Controller, Revision, Age"), _controller_revision)
AUTOSCALERS = Columns(columns("Name, Reference, Targets, MinPods, MaxPods, Replicas, Age"), _autoscaler)
DISRUPTION_BUDGETS = Columns(columns("Name, Min Available, Max Unavailable, Allowed Disruptions:integer, Age"), _disruption_budget)
