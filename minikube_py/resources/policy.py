"""Disruption budgets, priority classes, limits and quotas. Upstream: pkg/apis/{policy,scheduling,core}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minikube_py.meta import names, quantity
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.rules import Faults

HIGHEST_USER_PRIORITY = 1_000_000_000
SYSTEM_PRIORITIES: Mapping[str, int] = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


class PodDisruptionBudgetStrategy(Strategy):
    """How many pods may be away at once."""

    has_status = True
    initial_status = {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}
    allow_unconditional_update = False

    def default(self, obj: Obj) -> None:
        obj.setdefault("spec", {})

    def validate(self, obj: Obj) -> list[Cause]:
        return list(_budget(obj["spec"]))

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        if context.subresource == "status":
            status = obj.get("status") or {}
            fields = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
            return [c for f in fields for c in rules.not_negative(f"status.{f}", status.get(f))]
        return self.validate(obj)


def _budget(spec: Obj) -> Faults:
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        yield Cause.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set")
    for field, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is not None:
            yield from rules.int_or_percent(f"spec.{field}", value)
            yield from rules.percent_at_most_100(f"spec.{field}", value)
    yield from rules.selector("spec.selector", spec.get("selector"))
    yield from rules.optional("spec.unhealthyPodEvictionPolicy", spec.get("unhealthyPodEvictionPolicy"), ("AlwaysAllow", "IfHealthyBudget"))


class PriorityClassStrategy(Strategy):
    """A name for a priority."""

    def default(self, obj: Obj) -> None:
        if obj.get("preemptionPolicy") is None:
            obj["preemptionPolicy"] = "PreemptLowerPriority"

    def prepare_update(self, obj: Obj, old: Obj, context: WriteContext) -> None:
        """The generation stays what it was at creation."""

    def validate(self, obj: Obj) -> list[Cause]:
        found: list[Cause] = []
        name, value = obj["metadata"].get("name") or "", obj.get("value") or 0
        if name.startswith("system-"):
            if SYSTEM_PRIORITIES.get(name) != value:
                words = "priority class names with 'system-' prefix are reserved for system use only. error: "
                words += f"{name} is not a known system priority class" if name not in SYSTEM_PRIORITIES else (
                    f"value of {name} PriorityClass must be {SYSTEM_PRIORITIES[name]}"
                )  # fmt: skip
                found.append(Cause.forbidden("metadata.name", words))
        elif value > HIGHEST_USER_PRIORITY:
            words = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
            found.append(Cause.forbidden("value", words))
        found += rules.one_of("preemptionPolicy", obj.get("preemptionPolicy"), ("PreemptLowerPriority", "Never"))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        found = []
        if (obj.get("value") or 0) != (old.get("value") or 0):
            found.append(Cause.forbidden("value", "may not be changed in an update."))
        found += rules.unchanged("preemptionPolicy", obj.get("preemptionPolicy"), old.get("preemptionPolicy"))
        return found


class LimitRangeStrategy(Strategy):
    """What containers, pods and claims of a namespace may ask for."""

    has_generation = False
    allow_create_on_update = True

    def default(self, obj: Obj) -> None:
        for item in (obj.get("spec") or {}).get("limits") or ():
            if item.get("type") == "Container":
                limit = {**(item.get("max") or {}), **(item.get("default") or {})}
                request = {**(item.get("min") or {}), **limit, **(item.get("defaultRequest") or {})}
                if limit:
                    item["default"] = limit
                if request:
                    item["defaultRequest"] = request

    def validate(self, obj: Obj) -> list[Cause]:
        limits = (obj.get("spec") or {}).get("limits") or ()
        seen: set[str] = set()
        found: list[Cause] = []
        for i, item in enumerate(limits):
            kind = item.get("type") or ""
            found += rules.named(f"spec.limits[{i}].type", kind, names.label_key)
            if kind in seen:
                found.append(Cause.duplicate(f"spec.limits[{i}].type", kind))
            seen.add(kind)
            found += _limits(f"spec.limits[{i}]", item)
        return found


_ORDER = (
    ("min", "max", "min value {} is greater than max value {}"),
    ("min", "defaultRequest", "min value {} is greater than default request value {}"),
    ("defaultRequest", "max", "default request value {} is greater than max value {}"),
    ("defaultRequest", "default", "default request value {} is greater than default limit value {}"),
    ("min", "default", "min value {} is greater than default value {}"),
    ("default", "max", "default value {} is greater than max value {}"),
)


def _limits(path: str, item: Obj) -> Faults:
    kind = item.get("type")
    if kind == "Pod":
        for field in ("default", "defaultRequest"):
            if item.get(field):
                yield Cause.forbidden(f"{path}.{field}", "may not be specified when `type` is 'Pod'")
    if kind == "PersistentVolumeClaim" and "storage" not in (item.get("min") or {}) and "storage" not in (item.get("max") or {}):
        yield Cause.required(f"{path}.limits", "either minimum or maximum storage value is required, but neither was provided")
    amounts: dict[str, dict[str, Any]] = {}
    for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
        amounts[field] = {n: quantity.parse(v) for n, v in (item.get(field) or {}).items()}
    for low, high, words in _ORDER:
        for name, value in amounts[low].items():
            if name in amounts[high] and amounts[high][name] < value:
                where = "default" if high == "default" and low == "min" else low
                yield Cause.invalid(f"{path}.{where}[{name}]", str(value), words.format(value, amounts[high][name]))
    for name, ratio in amounts["maxLimitRequestRatio"].items():
        if ratio.nano < quantity.NANO:
            yield Cause.invalid(f"{path}.maxLimitRequestRatio[{name}]", str(ratio), f"ratio {ratio} is less than 1")


_SCOPES = (
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
)


class ResourceQuotaStrategy(Strategy):
    """What a namespace may use in all."""

    has_status = True
    has_generation = False

    def validate(self, obj: Obj) -> list[Cause]:
        spec = obj.get("spec") or {}
        found = [c for name, value in (spec.get("hard") or {}).items() for c in rules.amount(f"spec.hard[{name}]", value)]
        unknown = [scope for scope in spec.get("scopes") or () if scope not in _SCOPES]
        return found + [Cause.invalid("spec.scopes", spec["scopes"], "unsupported scope") for _ in unknown]

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        if context.subresource == "status":
            status = obj.get("status") or {}
            return [c for f in ("hard", "used") for n, v in (status.get(f) or {}).items() for c in rules.amount(f"status.{f}[{n}]", v)]
        found = self.validate(obj)
        now, before = (obj.get("spec") or {}).get("scopes") or [], (old.get("spec") or {}).get("scopes") or []
        if sorted(now) != sorted(before):
            found.append(Cause.invalid("spec.scopes", now, rules.IMMUTABLE))
        return found
