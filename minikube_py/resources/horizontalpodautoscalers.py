"""Horizontal pod autoscalers: stored as autoscaling/v2, served as v1 too, where everything but the CPU target travels in annotations.

Upstream: pkg/apis/autoscaling/v1/conversion.go (what the annotations hold is v1's own older wording of a metric), v2/defaults.go.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from minikube_py.meta.errors import Cause
from minikube_py.resources.api import Converter, Obj, Strategy

_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_TYPES = ("ContainerResource", "External", "Object", "Pods", "Resource")


class HorizontalPodAutoscalerStrategy(Strategy):
    """Defaults are those of v2: one to ten replicas at 80 % CPU where nothing is said."""

    has_status = True
    has_generation = False
    initial_status = {"desiredReplicas": 0}

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if spec.get("minReplicas") is None:
            spec["minReplicas"] = 1
        if not spec.get("metrics"):
            target = {"type": "Utilization", "averageUtilization": 80}
            spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
        behavior = spec.get("behavior")
        if behavior:
            _default_behavior(behavior)

    def validate(self, obj: Obj) -> list[Cause]:
        spec = obj.get("spec") or {}
        found = []
        least, most = spec.get("minReplicas", 1), spec.get("maxReplicas") or 0
        if least < 1:
            found.append(Cause.invalid("spec.minReplicas", least, "must be greater than or equal to 1"))
        if most < 1:
            found.append(Cause.invalid("spec.maxReplicas", most, "must be greater than 0"))
        elif most < least:
            found.append(Cause.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
        target = spec.get("scaleTargetRef") or {}
        found.extend(Cause.required(f"spec.scaleTargetRef.{field}") for field in ("kind", "name") if not target.get(field))
        for i, metric in enumerate(spec.get("metrics") or ()):
            found.extend(_metric_faults(metric, f"spec.metrics[{i}]"))
        return found


def _default_behavior(behavior: Obj) -> None:
    up = behavior.setdefault("scaleUp", {})
    up.setdefault("stabilizationWindowSeconds", 0)
    up.setdefault("selectPolicy", "Max")
    if not up.get("policies"):
        up["policies"] = [{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]
    down = behavior.setdefault("scaleDown", {})
    down.setdefault("selectPolicy", "Max")
    if not down.get("policies"):
        down["policies"] = [{"type": "Percent", "value": 100, "periodSeconds": 15}]


def _metric_faults(metric: Obj, path: str) -> Iterable[Cause]:
    kind = metric.get("type")
    if not kind:
        yield Cause.required(f"{path}.type", "must specify a metric source type")
    elif kind not in _TYPES:
        yield Cause.not_supported(f"{path}.type", kind, _TYPES)
    else:
        field = kind[0].lower() + kind[1:]
        if not metric.get(field):
            yield Cause.required(f"{path}.{field}", "must populate information for the given metric source")


def _v1_metric(metric: Obj) -> Obj:
    """One metric of spec in v1's words."""
    kind = metric.get("type", "")
    field = kind[:1].lower() + kind[1:]
    source = metric.get(field) or {}
    target = source.get("target") or {}
    named = source.get("metric") or {}
    out: Obj = {}
    if kind == "Object":
        out = {"target": source.get("describedObject", {}), "metricName": named.get("name", ""), "targetValue": target.get("value", "0")}
        out |= _given(averageValue=target.get("averageValue"), selector=named.get("selector"))
    elif kind == "Pods":
        out = {"metricName": named.get("name", ""), "targetAverageValue": target.get("averageValue", "0")}
        out |= _given(selector=named.get("selector"))
    elif kind in ("Resource", "ContainerResource"):
        out = {"name": source.get("name", "")} | _given(container=source.get("container"))
        out |= _given(targetAverageUtilization=target.get("averageUtilization"), targetAverageValue=target.get("averageValue"))
    elif kind == "External":
        out = {"metricName": named.get("name", "")} | _given(metricSelector=named.get("selector"))
        out |= _given(targetValue=target.get("value"), targetAverageValue=target.get("averageValue"))
    return {"type": kind, field: out}


def _v2_metric(metric: Obj) -> Obj:
    """One metric of v1's annotation as v2 has it."""
    kind = metric.get("type", "")
    field = kind[:1].lower() + kind[1:]
    source = metric.get(field) or {}
    name = {"name": source.get("metricName", "")}
    out: Obj = {}
    if kind == "Object":
        out = {"describedObject": source.get("target", {}), "metric": name | _given(selector=source.get("selector"))}
        out["target"] = _target(value=source.get("targetValue"), average=source.get("averageValue"))
    elif kind == "Pods":
        out = {"metric": name | _given(selector=source.get("selector")), "target": _target(average=source.get("targetAverageValue"))}
    elif kind in ("Resource", "ContainerResource"):
        out = {"name": source.get("name", "")} | _given(container=source.get("container"))
        out["target"] = _target(average=source.get("targetAverageValue"), utilization=source.get("targetAverageUtilization"))
    elif kind == "External":
        out = {"metric": name | _given(selector=source.get("metricSelector"))}
        out["target"] = _target(value=source.get("targetValue"), average=source.get("targetAverageValue"))
    return {"type": kind, field: out}


def _target(*, value: Any = None, average: Any = None, utilization: int | None = None) -> Obj:
    if utilization is not None:
        return {"type": "Utilization", "averageUtilization": utilization} | _given(averageValue=average)
    if average is not None:
        return {"type": "AverageValue", "averageValue": average}
    return {"type": "Value"} | _given(value=value)


def _given(**fields: Any) -> Obj:
    return {name: value for name, value in fields.items() if value is not None}


def _v1_current(metric: Obj) -> Obj:
    """One metric of status in v1's words."""
    kind = metric.get("type", "")
    field = kind[:1].lower() + kind[1:]
    source = metric.get(field) or {}
    current = source.get("current") or {}
    named = source.get("metric") or {}
    if kind in ("Resource", "ContainerResource"):
        out = {"name": source.get("name", "")} | _given(container=source.get("container"))
        out |= _given(currentAverageUtilization=current.get("averageUtilization"), currentAverageValue=current.get("averageValue"))
    elif kind == "Pods":
        out = {"metricName": named.get("name", "")} | _given(
            currentAverageValue=current.get("averageValue"), selector=named.get("selector")
        )
    elif kind == "Object":
        out = {"target": source.get("describedObject", {}), "metricName": named.get("name", "")}
        out |= _given(currentValue=current.get("value"), averageValue=current.get("averageValue"), selector=named.get("selector"))
    else:
        out = {"metricName": named.get("name", "")} | _given(metricSelector=named.get("selector"))
        out |= _given(currentValue=current.get("value"), currentAverageValue=current.get("averageValue"))
    return {"type": kind, field: out}


def _v2_current(metric: Obj) -> Obj:
    kind = metric.get("type", "")
    field = kind[:1].lower() + kind[1:]
    source = metric.get(field) or {}
    if kind in ("Resource", "ContainerResource"):
        current = _given(averageUtilization=source.get("currentAverageUtilization"), averageValue=source.get("currentAverageValue"))
        return {"type": kind, field: {"name": source.get("name", ""), "current": current} | _given(container=source.get("container"))}
    selector = source.get("metricSelector" if kind == "External" else "selector")
    out: Obj = {"metric": {"name": source.get("metricName", "")} | _given(selector=selector)}
    if kind == "Object":
        out["describedObject"] = source.get("target", {})
        out["current"] = _given(value=source.get("currentValue"), averageValue=source.get("averageValue"))
    else:
        out["current"] = _given(value=source.get("currentValue"), averageValue=source.get("currentAverageValue"))
    return {"type": kind, field: out}


def _is_cpu(metric: Mapping[str, Any], utilization: str) -> bool:
    resource = metric.get("resource") or {}
    inner = resource.get("target" if utilization == "target" else "current") or {}
    return metric.get("type") == "Resource" and resource.get("name") == "cpu" and inner.get("averageUtilization") is not None


def _from_hub(obj: Obj) -> Obj:
    """v2 to v1: the CPU target becomes a field, what v1 has no field for an annotation."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations: dict[str, str] = {}
    others = []
    for metric in spec.pop("metrics", None) or ():
        if "targetCPUUtilizationPercentage" not in spec and _is_cpu(metric, "target"):
            spec["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
        else:
            others.append(_v1_metric(metric))
    if others:
        annotations[_METRICS] = _json(others)
    if behavior := spec.pop("behavior", None):
        annotations[_BEHAVIOR] = _json(_capitalised(behavior))
    if conditions := status.pop("conditions", None):
        annotations[_CONDITIONS] = _json(conditions)
    current = status.pop("currentMetrics", None) or ()
    if current:
        cpu = next((m for m in current if _is_cpu(m, "current")), None)
        if cpu:
            status["currentCPUUtilizationPercentage"] = cpu["resource"]["current"]["averageUtilization"]
        annotations[_CURRENT] = _json([_v1_current(m) for m in current])
    for field in ("currentReplicas", "desiredReplicas"):
        status.setdefault(field, 0)
    return _assembled("autoscaling/v1", obj, spec, status, annotations)


def _to_hub(obj: Obj) -> Obj:
    """v1 to v2: the annotations become fields again and are gone from metadata."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    metrics = [_v2_metric(m) for m in _parsed(annotations.get(_METRICS))]
    cpu = spec.pop("targetCPUUtilizationPercentage", None)
    if cpu is not None:
        target = {"type": "Utilization", "averageUtilization": cpu}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    if metrics:
        spec["metrics"] = metrics
    if behavior := _parsed_object(annotations.get(_BEHAVIOR)):
        spec["behavior"] = _lowered(behavior)
    if conditions := _parsed(annotations.get(_CONDITIONS)):
        status["conditions"] = conditions
    current = status.pop("currentCPUUtilizationPercentage", None)
    if not status.get("currentReplicas"):
        status.pop("currentReplicas", None)
    if listed := _parsed(annotations.get(_CURRENT)):
        status["currentMetrics"] = [_v2_current(m) for m in listed]
    elif current is not None:
        status["currentMetrics"] = [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": current}}}]
    return _assembled("autoscaling/v2", obj, spec, status, {})


def _assembled(api_version: str, obj: Obj, spec: Obj, status: Obj, annotations: dict[str, str]) -> Obj:
    metadata = dict(obj.get("metadata") or {})
    ours = (_METRICS, _CURRENT, _CONDITIONS, _BEHAVIOR)
    kept = {k: v for k, v in (metadata.pop("annotations", None) or {}).items() if k not in ours} | annotations
    if kept:
        metadata["annotations"] = kept
    out = {"apiVersion": api_version, "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}
    if "status" in obj:
        out["status"] = status
    return out


def _capitalised(behavior: Obj) -> Obj:
    """Upstream writes the internal type of a behavior to the annotation; its fields have no JSON names, so they begin with a capital."""
    return {_upper(k): _map_keys(v, _upper) for k, v in behavior.items()}


def _lowered(behavior: Obj) -> Obj:
    return {_lower(k): _map_keys(v, _lower) for k, v in behavior.items()}


def _map_keys(value: Any, rename: Any) -> Any:
    if isinstance(value, dict):
        return {rename(k): _map_keys(v, rename) for k, v in value.items()}
    if isinstance(value, list):
        return [_map_keys(v, rename) for v in value]
    return value


def _upper(word: str) -> str:
    return word[:1].upper() + word[1:]


def _lower(word: str) -> str:
    return word[:1].lower() + word[1:]


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _parsed(text: str | None) -> list[Any]:
    """A list from an annotation; what is not one counts as absent, as upstream's conversion has it."""
    try:
        value = json.loads(text) if text else []
    except ValueError:
        return []
    return value if isinstance(value, list) else []


def _parsed_object(text: str | None) -> Obj:
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


AUTOSCALING_V1 = Converter(to_hub=_to_hub, from_hub=_from_hub)
