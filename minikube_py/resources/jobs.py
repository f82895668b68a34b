"""Jobs and cron jobs. Upstream: pkg/registry/batch, pkg/apis/batch/v1/defaults.go, pkg/apis/batch/validation."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.podspec import template, workload_template
from minikube_py.resources.podspec_defaults import default_template
from minikube_py.resources.podspec_warnings import template_warnings
from minikube_py.resources.rules import Faults
from minikube_py.resources.workloads import fill

_POLICIES = ("OnFailure", "Never")
_PREFIXED, _LEGACY = "batch.kubernetes.io/", ("controller-uid", "job-name")


class JobStrategy(Strategy):
    """The selector is made from the job's own uid, so that no two jobs take each other's pods."""

    has_status = True
    selectable_fields = {"status.successful": lambda job: str((job.get("status") or {}).get("succeeded") or 0)}

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        default_template(spec)
        if spec.get("completions") is None and spec.get("parallelism") is None:
            spec["completions"] = spec["parallelism"] = 1
        fill(spec, parallelism=1, suspend=False, completionMode="NonIndexed", manualSelector=False)
        fill(spec, backoffLimit=6 if spec.get("backoffLimitPerIndex") is None else rules.MAX_INT32)
        for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
            for pattern in rule.get("onPodConditions") or ():
                if not pattern.get("status"):
                    pattern["status"] = "True"
        fill(spec, podReplacementPolicy="TerminatingOrFailed" if spec.get("podFailurePolicy") is None else "Failed")
        _default_labels(obj)

    def prepare_create(self, obj: Obj, context: WriteContext) -> None:
        super().prepare_create(obj, context)
        generate_selector(obj)
        _default_labels(obj)

    def validate(self, obj: Obj) -> list[Cause]:
        found = list(_job_spec("spec", obj["spec"]))
        found += _generated(obj)
        if (obj["spec"].get("completionMode") == "Indexed") and (obj["spec"].get("completions") or 0) > 0:
            last = f"{obj['metadata'].get('name', '')}-{obj['spec']['completions'] - 1}"
            if faults := names.dns1123_label(last):
                words = f"will not able to create pod with invalid DNS label: {last}"
                found += [Cause.invalid("metadata.name", obj["metadata"].get("name"), words) for _ in faults[:1]]
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        if context.subresource == "status":
            status = obj.get("status") or {}
            return [c for f in ("active", "succeeded", "failed") for c in rules.not_negative(f"status.{f}", status.get(f))]
        found = list(_job_spec("spec", obj["spec"]))
        new, before = obj["spec"], old["spec"]
        for field in ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
            found += rules.unchanged(f"spec.{field}", new.get(field), before.get(field))
        found += _completions(new, before)
        status = old.get("status") or {}
        gated = before.get("suspend") and not status.get("startTime")
        same = _fixed_template(new, bool(gated)) == _fixed_template(before, bool(gated))
        if not same:
            found.append(Cause.invalid("spec.template", new.get("template"), rules.IMMUTABLE))
        return found

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        given = obj["spec"].get("template")
        found = template_warnings(given) if old is None or given != old["spec"].get("template") else []
        if obj["spec"].get("completionMode") == "Indexed" and (obj["spec"].get("completions") or 0) > 100_000:
            found.append("spec.completions: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than "
                         "10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail")  # fmt: skip
        return found


def _default_labels(job: Obj) -> None:
    """A job without labels has its template's, the generated ones too."""
    labels = ((job["spec"].get("template") or {}).get("metadata") or {}).get("labels")
    metadata = job.setdefault("metadata", {})
    if labels and not metadata.get("labels"):
        metadata["labels"] = dict(labels)


def generate_selector(job: Obj) -> None:
    """The labels and the selector that tie pods to this job, unless the user chose to have their own."""
    spec, metadata = job["spec"], job["metadata"]
    if spec.get("manualSelector"):
        return
    labels = spec.setdefault("template", {}).setdefault("metadata", {}).setdefault("labels", {})
    uid, name = metadata.get("uid", ""), metadata.get("name", "")
    for key, value in ((_LEGACY[0], uid), (_LEGACY[1], name), (_PREFIXED + _LEGACY[0], uid), (_PREFIXED + _LEGACY[1], name)):
        labels.setdefault(key, value)
    if spec.get("selector") is None:
        spec["selector"] = {}
    wanted = spec["selector"].setdefault("matchLabels", {})
    wanted.setdefault(_PREFIXED + _LEGACY[0], uid)


def _generated(job: Obj) -> Faults:
    """Labels that the generation put there must be what it puts."""
    spec, metadata = job["spec"], job["metadata"]
    if spec.get("manualSelector"):
        return
    if spec.get("selector") is None:
        yield Cause.required("spec.selector")
        return
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    for key, value in ((_PREFIXED + _LEGACY[0], metadata.get("uid", "")), (_PREFIXED + _LEGACY[1], metadata.get("name", ""))):
        if labels.get(key) != value:
            yield Cause.invalid("spec.template.metadata.labels", labels, f"must be '{value}'")
    expected = {_PREFIXED + _LEGACY[0]: metadata.get("uid", "")}
    given = spec["selector"]
    if given.get("matchExpressions") or (given.get("matchLabels") or {}).items() - expected.items() - {
        (_LEGACY[0], metadata.get("uid", ""))
    }:
        yield Cause.invalid("spec.selector", given, "`selector` not auto-generated")


def _job_spec(path: str, spec: Obj, *, selects: bool = True) -> Faults:
    for field in (
        "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished", "backoffLimitPerIndex",
        "maxFailedIndexes",
    ):  # fmt: skip
        yield from rules.not_negative(f"{path}.{field}", spec.get(field))
    yield from rules.optional(f"{path}.completionMode", spec.get("completionMode"), ("Indexed", "NonIndexed"))
    if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
        yield Cause.required(f"{path}.completions", "when completion mode is Indexed")
    if spec.get("completionMode") != "Indexed":
        if spec.get("backoffLimitPerIndex") is not None:
            yield Cause.invalid(f"{path}.backoffLimitPerIndex", spec["backoffLimitPerIndex"], "requires indexed completion mode")
        if spec.get("successPolicy") is not None:
            yield Cause.invalid(f"{path}.successPolicy", spec["successPolicy"], "requires indexed completion mode")
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        yield Cause.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    replacement = spec.get("podReplacementPolicy")
    if spec.get("podFailurePolicy") is not None:
        yield from rules.optional(f"{path}.podReplacementPolicy", replacement, ("Failed",))
    else:
        yield from rules.optional(f"{path}.podReplacementPolicy", replacement, ("Failed", "TerminatingOrFailed"))
    pod = (spec.get("template") or {}).get("spec") or {}
    if selects:
        selector = spec.get("selector")
        if selector is None:
            yield Cause.required(f"{path}.selector")
        else:
            yield from rules.selector(f"{path}.selector", selector)
        plain = {
            **spec,
            "template": {**(spec.get("template") or {}), "spec": {k: v for k, v in pod.items() if k != "activeDeadlineSeconds"}},
        }
        yield from (c for c in workload_template(f"{path}.template", plain, "Job", ("Always", *_POLICIES)))
    else:
        yield from template(f"{path}.template", spec.get("template") or {})
    policy = pod.get("restartPolicy")
    if policy == "Always":
        words = f'Required value: valid values: "{_POLICIES[0]}", "{_POLICIES[1]}"'
        yield Cause("FieldValueRequired", f"{path}.template.spec.restartPolicy", words)
    elif policy not in _POLICIES:
        yield Cause.not_supported(f"{path}.template.spec.restartPolicy", policy, _POLICIES)
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        words = 'only "Never" is supported when podFailurePolicy is specified'
        yield Cause.invalid(f"{path}.template.spec.restartPolicy", policy, words)


def _completions(new: Obj, old: Obj) -> Faults:
    """Completions may change only with parallelism, and only for indexed jobs."""
    if new.get("completions") == old.get("completions"):
        return
    if new.get("completionMode") == "Indexed" and new.get("completions") is not None and new["completions"] == new.get("parallelism"):
        return
    if new.get("completionMode") == "Indexed" and new.get("completions") is not None:
        yield Cause.invalid("spec.completions", new["completions"], f"can only be modified in tandem with {'spec.parallelism'}")
    else:
        yield Cause.invalid("spec.completions", new.get("completions"), rules.IMMUTABLE)


_SCHEDULING = ("nodeSelector", "tolerations", "affinity", "schedulingGates")


def _fixed_template(spec: Obj, suspended: bool) -> Obj:
    """The template as far as it may not change: where a suspended job's pods go may."""
    given: Obj = spec.get("template") or {}
    pod = rules.without(given.get("spec") or {}, _SCHEDULING if suspended else ())
    if suspended:
        for listed in ("containers", "initContainers"):
            if listed in pod:
                pod[listed] = [rules.without(c, ("resources",)) for c in pod[listed]]
    metadata = given.get("metadata") or {}
    labels = {n: v for n, v in metadata.items() if v} if not suspended else {}
    return {"metadata": labels, "spec": pod}


class CronJobStrategy(Strategy):
    """Makes jobs on a schedule."""

    has_status = True

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("concurrencyPolicy"):
            spec["concurrencyPolicy"] = "Allow"
        fill(spec, suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
        job = spec.setdefault("jobTemplate", {})
        job.setdefault("metadata", {})
        default_template(job.setdefault("spec", {}))

    def validate(self, obj: Obj) -> list[Cause]:
        found = list(_cron_spec(obj["spec"]))
        name = obj["metadata"].get("name") or ""
        if len(name) > 52:
            found.append(Cause.invalid("metadata.name", name, "must be no more than 52 characters"))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        return [] if context.subresource == "status" else list(_cron_spec(obj["spec"]))

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        job = obj["spec"]["jobTemplate"]["spec"].get("template")
        found = template_warnings(job, "spec.jobTemplate.spec.template")
        if "TZ" in (obj["spec"].get("schedule") or ""):
            found.append("spec.schedule: CRON_TZ or TZ used in schedule is not officially supported, see "
                         "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details")  # fmt: skip
        return found


@lru_cache(maxsize=64)
def _known_zone(name: str) -> bool:
    """Whether the system's time zone database has a zone; looked up once for each name."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return False
    return True


def _cron_spec(spec: Obj) -> Faults:
    schedule = spec.get("schedule") or ""
    if not schedule:
        yield Cause.required("spec.schedule")
    elif fault := cron_fault(schedule):
        yield Cause.invalid("spec.schedule", schedule, fault)
    for field in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        yield from rules.not_negative(f"spec.{field}", spec.get(field))
    yield from rules.one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), ("Allow", "Forbid", "Replace"))
    zone = spec.get("timeZone")
    if zone is not None:
        if not zone:
            yield Cause.invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")
        elif zone.lower() == "local":
            yield Cause.invalid(
                "spec.timeZone", zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
            )
        elif not _known_zone(zone):
            yield Cause.invalid("spec.timeZone", zone, f"unknown time zone {zone}")
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    yield from _job_spec("spec.jobTemplate.spec", job, selects=False)
    if job.get("manualSelector"):
        yield Cause.not_supported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false"))


_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 6))
_WORDS = {
    "month": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "day of week": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
_DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_PART = re.compile(r"(\*|\?|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/([0-9]+))?", re.IGNORECASE)


def cron_fault(schedule: str) -> str | None:
    """Why a schedule is none, in the words of the cron library that upstream uses; None where it is one."""
    text = schedule
    if text.startswith(("TZ=", "CRON_TZ=")):
        text = text.partition(" ")[2].strip()
    if text.startswith("@"):
        known = text in _DESCRIPTORS or re.fullmatch(r"@every ([0-9.]+(ns|us|µs|ms|s|m|h))+", text)
        return None if known else f"unrecognized descriptor: {text}"
    parts = text.split()
    if len(parts) != 5:
        return f"expected exactly 5 fields, found {len(parts)}: [{' '.join(parts)}]"
    for part, (field, least, most) in zip(parts, _FIELDS, strict=True):
        for item in part.split(","):
            if fault := _cron_item(item, field, least, most):
                return fault
    return None


def _cron_item(item: str, field: str, least: int, most: int) -> str | None:
    match = _PART.fullmatch(item)
    if not match:
        return f'failed to parse int from {item}: strconv.Atoi: parsing "{item}": invalid syntax'
    start = least if match[1] in "*?" else _cron_number(match[1], field)
    if start is None:
        return f'failed to parse int from {match[1]}: strconv.Atoi: parsing "{match[1]}": invalid syntax'
    end: Any = start
    if match[2]:
        end = _cron_number(match[2], field)
        if end is None:
            return f'failed to parse int from {match[2]}: strconv.Atoi: parsing "{match[2]}": invalid syntax'
    elif match[1] in "*?" or match[3]:
        end = most
    if start < least:
        return f"beginning of range ({start}) below minimum ({least}): {item}"
    if end > most:
        return f"end of range ({end}) above maximum ({most}): {item}"
    if start > end:
        return f"beginning of range ({start}) beyond end of range ({end}): {item}"
    if match[3] is not None and int(match[3]) == 0:
        return f"step of range should be a positive number: {item}"
    return None


def _cron_number(text: str, field: str) -> int | None:
    words = _WORDS.get(field)
    if words and text.lower() in words:
        return words.index(text.lower()) + (1 if field == "month" else 0)
    return int(text) if text.isdigit() else None
