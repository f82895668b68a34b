"""Where pods may go: affinities, tolerations, spreading, taints. Upstream: pkg/apis/core/validation."""

from __future__ import annotations

from collections.abc import Sequence

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj
from minikube_py.resources.rules import Faults

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_OPERATOR = "not a valid selector operator"


def affinity(path: str, given: Obj) -> Faults:
    """Node and pod affinities of a pod."""
    if node := given.get("nodeAffinity"):
        if (required := node.get(_REQUIRED)) is not None:
            yield from node_selector(f"{path}.nodeAffinity.{_REQUIRED}", required)
        for i, term in enumerate(node.get(_PREFERRED) or ()):
            here = f"{path}.nodeAffinity.{_PREFERRED}[{i}]"
            yield from _weight(here, term)
            yield from _node_term(f"{here}.preference", term.get("preference") or {})
    for name in ("podAffinity", "podAntiAffinity"):
        pod = given.get(name) or {}
        for i, term in enumerate(pod.get(_REQUIRED) or ()):
            yield from _pod_term(f"{path}.{name}.{_REQUIRED}[{i}]", term)
        for i, term in enumerate(pod.get(_PREFERRED) or ()):
            here = f"{path}.{name}.{_PREFERRED}[{i}]"
            yield from _weight(here, term)
            yield from _pod_term(f"{here}.podAffinityTerm", term.get("podAffinityTerm") or {})


def _weight(path: str, term: Obj) -> Faults:
    weight = term.get("weight") or 0
    if not 1 <= weight <= 100:
        yield Cause.invalid(f"{path}.weight", weight, "must be in the range 1-100")


def node_selector(path: str, selector: Obj) -> Faults:
    """A NodeSelector: at least one term."""
    terms = selector.get("nodeSelectorTerms") or ()
    if not terms:
        yield Cause.required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")
    for i, term in enumerate(terms):
        yield from _node_term(f"{path}.nodeSelectorTerms[{i}]", term)


def _node_term(path: str, term: Obj) -> Faults:
    for i, requirement in enumerate(term.get("matchExpressions") or ()):
        yield from _node_expression(f"{path}.matchExpressions[{i}]", requirement)
    for i, requirement in enumerate(term.get("matchFields") or ()):
        here, values = f"{path}.matchFields[{i}]", requirement.get("values") or ()
        if requirement.get("operator") in ("In", "NotIn"):
            if len(values) != 1:
                yield Cause.required(f"{here}.values", "must be only one value when `operator` is 'In' or 'NotIn' for node field selector")
        else:
            yield Cause.invalid(f"{here}.operator", requirement.get("operator", ""), _OPERATOR)
        if requirement.get("key") != "metadata.name":
            yield Cause.invalid(f"{here}.key", requirement.get("key", ""), "not a valid field selector key")
        else:
            for j, value in enumerate(values):
                yield from rules.checked(f"{here}.values[{j}]", value, names.dns1123_subdomain)


def _node_expression(path: str, requirement: Obj) -> Faults:
    operator, values = requirement.get("operator", ""), requirement.get("values") or ()
    if operator in ("In", "NotIn"):
        if not values:
            yield Cause.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            yield Cause.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            yield Cause.required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
    else:
        yield Cause.invalid(f"{path}.operator", operator, _OPERATOR)
    yield from rules.checked(f"{path}.key", requirement.get("key", ""), names.label_key)


def _pod_term(path: str, term: Obj) -> Faults:
    yield from rules.selector(f"{path}.labelSelector", term.get("labelSelector"))
    yield from rules.selector(f"{path}.namespaceSelector", term.get("namespaceSelector"))
    for namespace in term.get("namespaces") or ():
        yield from rules.checked(f"{path}.namespace", namespace, names.dns1123_label)
    key = term.get("topologyKey") or ""
    if not key:
        yield Cause.required(f"{path}.topologyKey", "can not be empty")
    yield from rules.checked(f"{path}.topologyKey", key, names.label_key)


def tolerations(path: str, given: Sequence[Obj]) -> Faults:
    """A pod's tolerations."""
    for i, toleration in enumerate(given):
        here = f"{path}[{i}]"
        key, operator, value = toleration.get("key") or "", toleration.get("operator") or "", toleration.get("value") or ""
        effect = toleration.get("effect") or ""
        if key:
            yield from rules.checked(f"{here}.key", key, names.label_key)
        elif operator != "Exists":
            words = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            yield Cause.invalid(f"{here}.operator", operator, words)
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            yield Cause.invalid(f"{here}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
        if operator in ("", "Equal"):
            faults = names.label_value(value)
            if faults:
                yield Cause.invalid(f"{here}.operator", value, ";".join(faults))
        elif operator == "Exists":
            if value:
                yield Cause.invalid(f"{here}.operator", toleration, "value must be empty when `operator` is 'Exists'")
        else:
            yield Cause.not_supported(f"{here}.operator", operator, ("Equal", "Exists"))
        if effect and effect not in EFFECTS:
            yield Cause.not_supported(f"{here}.effect", effect, EFFECTS)


def spread(path: str, given: Sequence[Obj]) -> Faults:
    """Topology spread constraints."""
    seen: set[tuple[str, str]] = set()
    for i, constraint in enumerate(given):
        here = f"{path}[{i}]"
        if (constraint.get("maxSkew") or 0) <= 0:
            yield Cause.invalid(f"{here}.maxSkew", constraint.get("maxSkew") or 0, rules.POSITIVE)
        key, action = constraint.get("topologyKey") or "", constraint.get("whenUnsatisfiable") or ""
        if not key:
            yield Cause.required(f"{here}.topologyKey", "can not be empty")
        else:
            yield from rules.checked(f"{here}.topologyKey", key, names.label_key)
        if action not in ("DoNotSchedule", "ScheduleAnyway"):
            yield Cause.not_supported(f"{here}.whenUnsatisfiable", action, ("DoNotSchedule", "ScheduleAnyway"))
        if (key, action) in seen:
            yield Cause.duplicate(here + ".{topologyKey, whenUnsatisfiable}", f"{{{key}, {action}}}")
        seen.add((key, action))
        if (least := constraint.get("minDomains")) is not None:
            yield from rules.positive(f"{here}.minDomains", least)
            if action != "DoNotSchedule":
                words = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                yield Cause.invalid(f"{here}.minDomains", least, words)
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            yield from rules.optional(f"{here}.{field}", constraint.get(field), ("Honor", "Ignore"))
        yield from rules.selector(f"{here}.labelSelector", constraint.get("labelSelector"))


def taints(path: str, given: Sequence[Obj]) -> Faults:
    """A node's taints."""
    seen: set[tuple[str, str]] = set()
    for i, taint in enumerate(given):
        here, key, effect = f"{path}[{i}]", taint.get("key") or "", taint.get("effect") or ""
        yield from rules.checked(f"{here}.key", key, names.label_key)
        if faults := names.label_value(taint.get("value") or ""):
            yield Cause.invalid(f"{here}.value", taint.get("value"), ";".join(faults))
        yield from rules.one_of(f"{here}.effect", effect, EFFECTS)
        if (key, effect) in seen:
            fault = Cause.duplicate(here, taint)
            yield Cause(fault.type, here, f"{fault.detail}: taints must be unique by key and effect pair")
        seen.add((key, effect))
