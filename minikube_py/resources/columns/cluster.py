"""Nodes, namespaces, events, quotas, configuration, classes, leases and what guards them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minikube_py.meta.selectors import go_string
from minikube_py.resources.api import Columns, Obj
from minikube_py.resources.columns.base import NONE, UNKNOWN, age, columns, since

_ROLE = "node-role.kubernetes.io/"


def _node(obj: Obj, now: float) -> Sequence[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    info = status.get("nodeInfo") or {}
    ready = next((c for c in reversed(status.get("conditions") or ()) if c.get("type") == "Ready"), None)
    word = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    labels = obj["metadata"].get("labels") or {}
    roles = {key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE) and len(key) > len(_ROLE)}
    if labels.get("kubernetes.io/role"):
        roles.add(labels["kubernetes.io/role"])
    addresses = status.get("addresses") or ()
    return (
        obj["metadata"].get("name", ""),
        word + (",SchedulingDisabled" if spec.get("unschedulable") else ""),
        ",".join(sorted(roles)) or NONE,
        age(obj, now),
        info.get("kubeletVersion", ""),
        *(next((a.get("address", "") for a in addresses if a.get("type") == kind), NONE) for kind in ("InternalIP", "ExternalIP")),
        *(info.get(field) or UNKNOWN for field in ("osImage", "kernelVersion", "containerRuntimeVersion")),
    )


def _event(obj: Obj, now: float) -> Sequence[Any]:
    first = since(obj.get("firstTimestamp") or obj.get("eventTime"), now)
    last = since(obj["lastTimestamp"], now) if obj.get("lastTimestamp") else first
    count = obj.get("count") or 1
    if series := obj.get("series"):
        last, count = since(series.get("lastObservedTime"), now), series.get("count") or 0
    involved, source = obj.get("involvedObject") or {}, obj.get("source") or {}
    target = involved.get("kind", "").lower() + (f"/{involved['name']}" if involved.get("name") else "")
    component = source.get("component") or obj.get("reportingComponent") or ""
    instance = source.get("host") or obj.get("reportingInstance") or ""
    return (
        last, obj.get("type", ""), obj.get("reason", ""), target, involved.get("fieldPath", ""),
        f"{component}, {instance}" if instance else component,
        (obj.get("message") or "").strip(), first, count, obj["metadata"].get("name", ""),
    )  # fmt: skip


def _quota(obj: Obj, now: float) -> Sequence[Any]:
    status = obj.get("status") or {}
    used = status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for name, hard in sorted((status.get("hard") or {}).items()):
        (limits if name.startswith("limits.") else requests).append(f"{name}: {used.get(name, '0')}/{hard}")
    return obj["metadata"].get("name", ""), ", ".join(requests), ", ".join(limits), age(obj, now)


def _component(obj: Obj, now: float) -> Sequence[Any]:
    healthy = next((c for c in obj.get("conditions") or () if c.get("type") == "Healthy"), None)
    word = "Unknown" if healthy is None else "Healthy" if healthy.get("status") == "True" else "Unhealthy"
    return obj["metadata"].get("name", ""), word, (healthy or {}).get("message", ""), (healthy or {}).get("error", "")


def _request(obj: Obj, now: float) -> Sequence[Any]:
    from minikube_py.resources.columns.base import human_duration

    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    types = {c.get("type") for c in status.get("conditions") or ()}
    word = "Denied" if "Denied" in types else "Approved" if "Approved" in types else "Pending"
    word += ",Failed" if "Failed" in types else ""
    word += ",Issued" if status.get("certificate") else ""
    seconds = spec.get("expirationSeconds")
    return (
        obj["metadata"].get("name", ""), age(obj, now), spec.get("signerName") or NONE, spec.get("username", ""),
        NONE if seconds is None else human_duration(seconds), word,
    )  # fmt: skip


def _binding(obj: Obj, now: float) -> Sequence[Any]:
    role, subjects = obj.get("roleRef") or {}, obj.get("subjects") or ()

    def named(kind: str) -> str:
        return ", ".join(s.get("name", "") for s in subjects if s.get("kind") == kind)

    accounts = ", ".join(f"{s['namespace']}/{s['name']}" if s.get("namespace") else f"/{s.get('name', '')}" for s in subjects if s.get("kind") == "ServiceAccount")  # fmt: skip # noqa: E501
    return (
        obj["metadata"].get("name", ""),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        age(obj, now),
        named("User"),
        named("Group"),
        accounts,
    )


def _role(obj: Obj, now: float) -> Sequence[Any]:
    return obj["metadata"].get("name", ""), obj["metadata"].get("creationTimestamp") or UNKNOWN


def _priority_class(obj: Obj, now: float) -> Sequence[Any]:
    name = obj["metadata"].get("name", "")
    return name, obj.get("value") or 0, bool(obj.get("globalDefault")), age(obj, now), obj.get("preemptionPolicy") or ""


def _flow_schema(obj: Obj, now: float) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    dangling = next((c.get("status", "") for c in (obj.get("status") or {}).get("conditions") or () if c.get("type") == "Dangling"), "?")
    return (
        obj["metadata"].get("name", ""), (spec.get("priorityLevelConfiguration") or {}).get("name", ""),
        spec.get("matchingPrecedence") or 0, (spec.get("distinguisherMethod") or {}).get("type", NONE), age(obj, now), dangling,
    )  # fmt: skip


def _priority_level(obj: Obj, now: float) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    limited = spec.get("limited")
    queuing = ((limited or {}).get("limitResponse") or {}).get("queuing")
    queues = (NONE, NONE, NONE) if queuing is None else tuple(queuing.get(f) or 0 for f in ("queues", "handSize", "queueLengthLimit"))
    shares = NONE if limited is None else limited.get("nominalConcurrencyShares") or 0
    return obj["metadata"].get("name", ""), spec.get("type", ""), shares, *queues, age(obj, now)


def _policy(field: str) -> Callable[[Obj, float], Sequence[Any]]:
    def cells(obj: Obj, now: float) -> Sequence[Any]:
        spec = obj.get("spec") or {}
        kind = spec.get("paramKind")
        text = "<unset>" if kind is None else f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}"
        return obj["metadata"].get("name", ""), len(spec.get(field) or ()), text, age(obj, now)

    return cells


def _policy_binding(obj: Obj, now: float) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    ref, text = spec.get("paramRef"), "<unset>"
    if ref and ref.get("name"):
        text = f"{ref.get('namespace') or '*'}/{ref['name']}"
    elif ref and ref.get("selector") is not None:
        text = _go_selector(ref["selector"])
    return obj["metadata"].get("name", ""), spec.get("policyName", ""), text, age(obj, now)


def _go_selector(selector: Obj) -> str:
    expressions = selector.get("matchExpressions") or ()
    return go_string(
        selector.get("matchLabels") or {}, ((e.get("key", ""), e.get("operator", ""), e.get("values") or ()) for e in expressions)
    )


def _fields(*read: Callable[[Obj], Any]) -> Callable[[Obj, float], Sequence[Any]]:
    """Cells of a kind with nothing to compute: its name, these, and its age."""
    return lambda obj, now: (obj["metadata"].get("name", ""), *(r(obj) for r in read), age(obj, now))


NODES = Columns(
    columns("Name, Status, Roles, Age, Version, Internal-IP+, External-IP+, OS-Image+, Kernel-Version+, Container-Runtime+"), _node
)
NAMESPACES = Columns(columns("Name, Status, Age"), _fields(lambda o: (o.get("status") or {}).get("phase", "")))
EVENTS = Columns(columns("Last Seen, Type, Reason, Object, Subobject+, Source+, Message, First Seen+, Count+, Name+"), _event)
QUOTAS = Columns(columns("Name, Request, Limit, Age"), _quota)
COMPONENT_STATUSES = Columns(columns("Name, Status, Message, Error"), _component)
CONFIG_MAPS = Columns(columns("Name, Data, Age"), _fields(lambda o: len(o.get("data") or ()) + len(o.get("binaryData") or ())))
SECRETS = Columns(columns("Name, Type, Data, Age"), _fields(lambda o: o.get("type", ""), lambda o: len(o.get("data") or ())))
SERVICE_ACCOUNTS = Columns(columns("Name, Secrets, Age"), _fields(lambda o: len(o.get("secrets") or ())))
BINDINGS = Columns(columns("Name, Role, Age, Users+, Groups+, ServiceAccounts+"), _binding)
ROLES = Columns(columns("Name, Created At:date"), _role)
CERTIFICATE_REQUESTS = Columns(columns("Name, Age, SignerName, Requestor, RequestedDuration, Condition"), _request)
LEASES = Columns(columns("Name, Holder, Age"), _fields(lambda o: (o.get("spec") or {}).get("holderIdentity") or ""))
PRIORITY_CLASSES = Columns(columns("Name, Value:integer, Global-Default:boolean, Age, PreemptionPolicy"), _priority_class)
RUNTIME_CLASSES = Columns(columns("Name, Handler, Age"), _fields(lambda o: o.get("handler", "")))
WEBHOOKS = Columns(columns("Name, Webhooks:integer, Age"), _fields(lambda o: len(o.get("webhooks") or ())))
VALIDATING_POLICIES = Columns(columns("Name, Validations:integer, ParamKind, Age"), _policy("validations"))
MUTATING_POLICIES = Columns(columns("Name, Mutations:integer, ParamKind, Age"), _policy("mutations"))
POLICY_BINDINGS = Columns(columns("Name, PolicyName, ParamRef, Age"), _policy_binding)
FLOW_SCHEMAS = Columns(columns("Name, PriorityLevel, MatchingPrecedence, DistinguisherMethod, Age, MissingPL"), _flow_schema)
PRIORITY_LEVELS = Columns(columns("Name, Type, NominalConcurrencyShares, Queues, HandSize, QueueLengthLimit, Age"), _priority_level)
