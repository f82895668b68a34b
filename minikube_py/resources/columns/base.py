"""What all printers share: the Name and Age columns, and how long ago a timestamp was, in upstream's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minikube_py.resources.api import Column, Columns, Obj
from minikube_py.types.meta import parse_timestamp

UNKNOWN = "<unknown>"
NONE = "<none>"


def human_duration(seconds: float) -> str:
    """A duration as kubectl shows it (apimachinery's duration.HumanDuration): 45s, 3m20s, 5h, 2d3h, 400d, 3y10d."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    if total < 0:
        return "0s"
    if total < 120:
        return f"{total}s"
    minutes = total // 60
    if minutes < 10:
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = total // 3600
    if hours < 8:
        rest = minutes % 60
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days, rest = divmod(hours, 24)
    if hours < 192:
        return f"{days}d{rest}h" if rest else f"{days}d"
    if hours < 24 * 365 * 2:
        return f"{days}d"
    years, days = divmod(days, 365)
    if years < 8:
        return f"{years}y{days}d" if days else f"{years}y"
    return f"{years}y"


def since(timestamp: str | None, now: float) -> str:
    """How long ago a metav1.Time was; <unknown> where there is none."""
    return human_duration(now - parse_timestamp(timestamp)) if timestamp else UNKNOWN


def age(obj: Obj, now: float) -> str:
    """The Age cell."""
    return since(obj["metadata"].get("creationTimestamp"), now)


_DESCRIPTIONS = {
    "Name": "The object's name, unique among its kind in its namespace.",
    "Age": "How long ago the object was created, by the server's clock.",
    "Created At": "When the object was created, by the server's clock.",
}


def columns(text: str) -> tuple[Column, ...]:
    """Column definitions from `Name, Desired:integer, Selector+`: a type after a colon, a plus for what only -o wide shows."""
    return tuple(_column(word.strip()) for word in text.split(","))


def _column(word: str) -> Column:
    wide = word.endswith("+")
    name, _, kind = word.rstrip("+").partition(":")
    return Column(name, kind or "string", "name" if name == "Name" else "", _DESCRIPTIONS.get(name, ""), 1 if wide else 0)


def _generic(obj: Obj, now: float) -> Sequence[Any]:
    metadata = obj["metadata"]
    return metadata.get("name", ""), metadata.get("creationTimestamp") or UNKNOWN


GENERIC = Columns(columns("Name, Created At:date"), _generic)
"""Kinds without columns of their own: a name and a timestamp, which the client turns into an age (registry/rest's default convertor)."""


def int_or(value: Any, default: int = 0) -> int:
    """An optional number of the API; upstream's zero value where it is absent."""
    return value if isinstance(value, int) else default


def selector_text(selector: Obj | None) -> str:
    """A LabelSelector as `a=b,c in (d,e)`; <none> where it selects everything or nothing (metav1.FormatLabelSelector)."""
    if selector is None:
        return NONE
    requirements = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        key, operator = expression.get("key", ""), expression.get("operator", "")
        values = ",".join(sorted(expression.get("values") or ()))
        words = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key, "DoesNotExist": f"!{key}"}
        if operator not in words:
            return "<error>"
        requirements.append((key, words[operator]))
    return ",".join(text for _, text in sorted(requirements, key=lambda r: r[0])) or NONE


def labels_text(labels: Obj | None) -> str:
    """A plain label map as `a=b,c=d`, sorted; <none> where it is empty (labels.FormatLabels)."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def containers_text(pod_spec: Obj) -> tuple[str, str]:
    """Names and images of a template's containers, joined."""
    containers = pod_spec.get("containers") or ()
    return ",".join(c.get("name", "") for c in containers), ",".join(c.get("image", "") for c in containers)
