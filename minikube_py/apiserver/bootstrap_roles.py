"""Turns the tables of bootstrap_policy.py into RBAC objects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from minikube_py.apiserver import bootstrap_policy as policy
from minikube_py.apiserver.authz_rbac import aggregate
from minikube_py.types.meta import LabelSelector, ObjectMeta
from minikube_py.types.rbac import GROUP, AggregationRule, ClusterRole, PolicyRule

READ = ("get", "list", "watch")
WRITE = ("create", "delete", "deletecollection", "patch", "update")
EVENTS = {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]}
CONTROLLER_PREFIX = "system:controller:"
NODE_ROLE = "system:node"
LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_AGGREGATE = f"{GROUP}/aggregate-to-"

Obj = dict[str, Any]


class Policy(NamedTuple):
    """Everything that the bootstrap keeps, as objects ready to be created."""

    cluster_roles: tuple[Obj, ...]
    roles: tuple[Obj, ...]
    cluster_role_bindings: tuple[Obj, ...]
    role_bindings: tuple[Obj, ...]


def objects() -> Policy:
    """The bootstrap roles and bindings."""
    cluster_roles = {role["metadata"]["name"]: role for role in _cluster_roles()}
    _fill_aggregating(cluster_roles)
    controllers = [name for name in cluster_roles if name.startswith(CONTROLLER_PREFIX)]
    bindings = [_binding(line) for line in _lines(policy.CLUSTER_ROLE_BINDINGS)]
    bindings += [_binding(f"{name} account:kube-system/{name[len(CONTROLLER_PREFIX) :]}") for name in controllers]
    return Policy(
        tuple(cluster_roles.values()),
        tuple(_object("Role", head, rules=rules) for head, rules in _roles(policy.NAMESPACE_ROLES)),
        tuple(bindings),
        tuple(_binding(line) for line in _lines(policy.ROLE_BINDINGS)),
    )


@cache
def node_rules() -> tuple[PolicyRule, ...]:
    """The rules of the system:node role."""
    rules = next(rules for head, rules in _roles(policy.CLUSTER_ROLES) if head == NODE_ROLE)
    return frozen(rules)


def _cluster_roles() -> Iterator[Obj]:
    for head, rules in _roles(policy.CLUSTER_ROLES):
        name, *marks = head.split()
        role = _object("ClusterRole", name, rules=rules)
        for mark in marks:
            direction, _, target = mark.partition(":")
            label = {_AGGREGATE + target: "true"}
            if direction == "into":
                role["metadata"]["labels"].update(label)
            else:
                role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": label}]}
        yield role
    for head, rules in _roles(policy.CONTROLLER_ROLES):
        yield _object("ClusterRole", CONTROLLER_PREFIX + head, rules=rules)


def _fill_aggregating(roles: Mapping[str, Obj]) -> None:
    """Give the aggregating roles the rules that their controller would write, so that they can be read from the start."""
    views = {
        name: ClusterRole(
            metadata=ObjectMeta(name=name, labels=role["metadata"]["labels"]),
            rules=frozen(role["rules"]),
            aggregationRule=_aggregation(role),
        )
        for name, role in roles.items()
    }
    for name, view in views.items():
        if view.aggregationRule is not None:
            roles[name]["rules"] = [
                {key: list(getattr(rule, key)) for key in ("apiGroups", "resources", "verbs")} for rule in aggregate(view, views)
            ]


def _aggregation(role: Obj) -> AggregationRule | None:
    rule = role.get("aggregationRule")
    if rule is None:
        return None
    return AggregationRule(tuple(LabelSelector(matchLabels=s["matchLabels"]) for s in rule["clusterRoleSelectors"]))


def frozen(rules: Sequence[Obj]) -> tuple[PolicyRule, ...]:
    """Rules as views."""
    return tuple(PolicyRule(**{key: tuple(values) for key, values in rule.items()}) for rule in rules)


def _object(kind: str, name: str, **content: Any) -> Obj:
    namespace, _, short = name.rpartition("/")
    metadata: Obj = {"name": short}
    if namespace:
        metadata["namespace"] = namespace
    metadata |= {"labels": dict(LABELS), "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata, **content}


def _lines(table: str) -> list[str]:
    """The lines of a table; one that ends with a comma goes on in the next."""
    return re.sub(r",\s+", ",", table).strip().split("\n")


def _roles(table: str) -> Iterator[tuple[str, list[Obj]]]:
    head, rules = "", list[Obj]()
    for line in _lines(table):
        if line.startswith(" "):
            rules.append(_rule(line.split()))
            continue
        if head:
            yield head, rules
        head, rules = line, []
    yield head, rules


def _rule(words: Sequence[str]) -> Obj:
    if words[0] == "events":
        return {key: list(values) for key, values in EVENTS.items()}
    verbs: list[str] = []
    for verb in words[0].split(","):
        verbs += READ if verb == "read" else WRITE if verb == "write" else (verb,)
    if words[1] == "url":
        return {"nonResourceURLs": words[2].split(","), "verbs": sorted(verbs)}
    rule: Obj = {
        "apiGroups": ["" if group == "core" else group for group in words[1].split(",")],
        "resources": words[2].split(","),
        "verbs": sorted(verbs),
    }
    if len(words) > 3:
        rule["resourceNames"] = words[3].split(",")
    return rule


def _binding(line: str) -> Obj:
    head, *subjects = line.split()
    name, _, role = head.partition("=")
    namespace, _, short = name.rpartition("/")
    kind, role_kind = ("RoleBinding", "Role") if namespace else ("ClusterRoleBinding", "ClusterRole")
    reference = {"apiGroup": GROUP, "kind": role_kind, "name": role or short}
    content: Obj = {"roleRef": reference}
    if subjects:
        content["subjects"] = [_subject(subject) for subject in subjects]
    return _object(kind, name, **content)


def _subject(text: str) -> Obj:
    kind, _, name = text.partition(":")
    if kind == "account":
        namespace, _, short = name.partition("/")
        return {"kind": "ServiceAccount", "name": short, "namespace": namespace}
    return {"apiGroup": GROUP, "kind": "User" if kind == "user" else "Group", "name": name}
