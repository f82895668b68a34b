"""Rules that many kinds share, in upstream's words: each yields the faults of one value at one path. Pure.

What always holds: a rule that is given nothing (None, an absent field) says nothing, unless it is about being required.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from minikube_py.meta import names, quantity
from minikube_py.meta.errors import Cause
from minikube_py.resources.api import Obj
from minikube_py.resources.names import IP_FAULT, parse_ip

MAX_INT32 = 2**31 - 1
NOT_NEGATIVE = "must be greater than or equal to 0"
POSITIVE = "must be greater than zero"
IMMUTABLE = "field is immutable"
PROTOCOLS = ("SCTP", "TCP", "UDP")

Faults = Iterator[Cause]


_USUAL = 63
"""Length up to which it is remembered that a name is sound: most names of a cluster are seen again and again."""


def sound(value: str, check: names.Check) -> bool:
    """Whether a rule of meta/names.py finds no fault."""
    return _sound(check, value) if len(value) <= _USUAL else not check(value)


@lru_cache(maxsize=1024)
def _sound(check: names.Check, value: str) -> bool:
    return not check(value)


def checked(field: str, value: str, check: names.Check) -> Faults:
    """Every fault that a rule of meta/names.py finds."""
    if not sound(value, check):
        for fault in check(value):
            yield Cause.invalid(field, value, fault)


def named(field: str, value: str | None, check: names.Check) -> Faults:
    """A required name."""
    if not value:
        yield Cause.required(field)
    elif not sound(value, check):
        yield from checked(field, value, check)


def one_of(field: str, value: str | None, supported: Sequence[str]) -> Faults:
    """A required value of an enumeration."""
    if not value:
        yield Cause.required(field)
    elif value not in supported:
        yield Cause.not_supported(field, value, supported)


def optional(field: str, value: str | None, supported: Sequence[str]) -> Faults:
    """A value of an enumeration, where there is one."""
    if value is not None and value not in supported:
        yield Cause.not_supported(field, value, supported)


def not_negative(field: str, value: int | None) -> Faults:
    """A number that may be 0."""
    if value is not None and value < 0:
        yield Cause.invalid(field, value, NOT_NEGATIVE)


def positive(field: str, value: int | None) -> Faults:
    """A number above 0."""
    if value is not None and value <= 0:
        yield Cause.invalid(field, value, POSITIVE)


def within(field: str, value: int | None, least: int, most: int) -> Faults:
    """A number between two bounds, both allowed."""
    if value is not None and not least <= value <= most:
        yield Cause.invalid(field, value, f"must be between {least} and {most}, inclusive")


def port(field: str, value: int) -> Faults:
    """A port number."""
    yield from within(field, value, 1, 65535)


def port_or_name(field: str, value: Any) -> Faults:
    """A port number, or the name of a container's port."""
    if isinstance(value, str):
        yield from checked(field, value, names.port_name)
    else:
        yield from port(field, value or 0)


def ip(field: str, value: str, words: str = IP_FAULT) -> Faults:
    """An IP address."""
    if parse_ip(value) is None:
        yield Cause.invalid(field, value, words)


def labels(field: str, given: Mapping[str, Any] | None) -> Faults:
    """Label keys and values."""
    for key, value in (given or {}).items():
        yield from checked(field, key, names.label_key)
        yield from checked(field, str(value), names.label_value)


def selector(field: str, given: Obj | None) -> Faults:
    """A LabelSelector."""
    if not given:
        return
    yield from labels(f"{field}.matchLabels", given.get("matchLabels"))
    for i, expression in enumerate(given.get("matchExpressions") or ()):
        path = f"{field}.matchExpressions[{i}]"
        operator, values = expression.get("operator", ""), expression.get("values") or ()
        if operator in ("In", "NotIn"):
            if not values:
                yield Cause.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                yield Cause.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
        else:
            yield Cause.invalid(f"{path}.operator", operator, "not a valid selector operator")
        yield from checked(f"{path}.key", expression.get("key", ""), names.label_key)
        for j, value in enumerate(values):
            yield from checked(f"{path}.values[{j}]", value, names.label_value)


def unchanged(field: str, new: Any, old: Any, words: str = IMMUTABLE) -> Faults:
    """A field that may not change; absent and empty are one, as they are for upstream's deep equality."""
    if (new or None) != (old or None):
        yield Cause.invalid(field, new, words)


def relative_path(field: str, value: str) -> Faults:
    """A path below somewhere: not absolute, nothing that leads up."""
    if value.startswith("/"):
        yield Cause.invalid(field, value, "must be a relative path")
    yield from no_backsteps(field, value)


def no_backsteps(field: str, value: str) -> Faults:
    """A path without `..`."""
    if ".." in value.replace("\\", "/").split("/"):
        yield Cause.invalid(field, value, "must not contain '..'")


def int_or_percent(field: str, value: Any) -> Faults:
    """A number that may be 0, or a percentage."""
    if isinstance(value, str):
        yield from checked(field, value, names.percent)
    else:
        yield from not_negative(field, value)


def percent_at_most_100(field: str, value: Any) -> Faults:
    """A percentage may not be over 100%."""
    if isinstance(value, str) and not names.percent(value) and int(value[:-1]) > 100:
        yield Cause.invalid(field, value, "must not be greater than 100%")


def is_zero(value: Any) -> bool:
    """Whether a number or percentage is nothing."""
    return value in (0, "0%", None) or (isinstance(value, str) and value.rstrip("%").strip("0") == "")


_STANDARD = frozenset({"cpu", "memory", "ephemeral-storage"})
_QUOTA = frozenset(
    [
        "cpu",
        "memory",
        "storage",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.storage",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "persistentvolumeclaims",
        "configmaps",
        "services.nodeports",
        "services.loadbalancers",
    ]
)


def container_resource_name(field: str, name: str) -> Faults:
    """A resource that a container can ask for: cpu, memory, ephemeral-storage, huge pages, or one with a domain."""
    if name in _STANDARD:
        return
    faults = names.label_key(name)
    for fault in faults:
        yield Cause.invalid(field, name, fault)
    if faults or name.startswith("hugepages-"):
        return
    if "/" not in name:
        if name not in _QUOTA:
            yield Cause.invalid(field, name, "must be a standard resource type or fully qualified")
        yield Cause.invalid(field, name, "must be a standard resource for containers")
    elif name.startswith("requests.") and "kubernetes.io/" not in name:
        yield Cause.invalid(field, name, "doesn't follow extended resource name standard")


def amount(field: str, value: Any) -> Faults:
    """A quantity that may be 0."""
    try:
        parsed = quantity.parse(value)
    except quantity.QuantityError as e:
        yield Cause.invalid(field, value, str(e))
        return
    if parsed.nano < 0:
        yield Cause.invalid(field, str(parsed), NOT_NEGATIVE)


def whole(field: str, name: str, value: Any) -> Faults:
    """What comes in pieces (devices, huge pages) cannot be asked for in parts."""
    if name not in _STANDARD and quantity.parse(value).nano % quantity.NANO and (name.startswith("hugepages-") or "/" in name):
        yield Cause.invalid(field, str(value), "must be an integer")


def _overcommitted(name: str) -> bool:
    return name in _STANDARD or ("/" in name and "kubernetes.io/" in name)


def resources(field: str, given: Obj | None, name_rule: Callable[[str, str], Iterable[Cause]] = container_resource_name) -> Faults:
    """Requests and limits: known resources, sound amounts, nothing asked for above its limit."""
    if not given:
        return
    limits, requests = given.get("limits") or {}, given.get("requests") or {}
    sound = True
    for part, amounts in (("limits", limits), ("requests", requests)):
        for name, value in amounts.items():
            path = f"{field}.{part}[{name}]"
            yield from name_rule(path, name)
            faults = list(amount(path, value)) or list(whole(path, name, value))
            sound = sound and not faults
            yield from faults
    if not sound:
        return
    for name, value in requests.items():
        if name in limits:
            asked, limit = quantity.parse(value), quantity.parse(limits[name])
            if asked != limit and not _overcommitted(name):
                yield Cause.invalid(f"{field}.requests", str(asked), f"must be equal to {name} limit of {limit}")
            elif limit < asked:
                yield Cause.invalid(f"{field}.requests", str(asked), f"must be less than or equal to {name} limit of {limit}")
        elif not _overcommitted(name):
            yield Cause.required(f"{field}.limits", "Limit must be set for non overcommitable resources")


def duplicates(field: str, values: Iterable[str]) -> Faults:
    """Values of a set, each once."""
    seen: set[str] = set()
    for i, value in enumerate(values):
        if value in seen:
            yield Cause.duplicate(f"{field}[{i}]", value)
        seen.add(value)


def without(obj: Mapping[str, Any], fields: Collection[str]) -> Obj:
    """A mapping without some fields and without what is empty: to compare what may not change."""
    return {name: value for name, value in obj.items() if name not in fields and value not in (None, "", [], {})}
