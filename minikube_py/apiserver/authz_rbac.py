"""Role-based access control: what the roles bound to a user and its groups allow.

Bindings are indexed by subject, roles by name, both straight from the cache; an index is made again when its kind has changed since. A
ClusterRole with an aggregation rule has the rules of the roles that it selects, whether or not a controller has written them down yet.
Upstream: plugin/pkg/auth/authorizer/rbac and pkg/registry/rbac/validation/rule.go.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from minikube_py.apiserver.api import Attributes, Decision
from minikube_py.meta.user import User
from minikube_py.types.meta import LabelSelector
from minikube_py.types.rbac import ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject

if TYPE_CHECKING:
    from minikube_py.apiserver.cache import Cache

_USER, _GROUP = "User", "Group"


class Scope(enum.Enum):
    """For what a decision is the same: one object, all those of its namespace, all in the cluster."""

    OBJECT = enum.auto()
    NAMESPACE = enum.auto()
    CLUSTER = enum.auto()


class Grant(NamedTuple):
    """A binding with the subject through which it applies; `order` is the binding's place among its kind."""

    order: int
    binding: RoleBinding | ClusterRoleBinding
    subject: Subject

    def describe(self) -> str:
        """The binding as upstream names it in a reason."""
        meta, role, subject = self.binding.metadata, self.binding.roleRef, self.subject
        if isinstance(self.binding, RoleBinding):
            kind, name = "RoleBinding", f"{meta.name}/{meta.namespace}"
        else:
            kind, name = "ClusterRoleBinding", meta.name
        who = f"{subject.name}/{subject.namespace or meta.namespace}" if subject.kind == "ServiceAccount" else subject.name
        return f'{kind} "{name}" of {role.kind} "{role.name}" to {subject.kind} "{who}"'

    def scope(self, rule: PolicyRule) -> Scope:
        """For what a rule of the binding's role says the same."""
        if rule.resourceNames:
            return Scope.OBJECT
        return Scope.NAMESPACE if isinstance(self.binding, RoleBinding) else Scope.CLUSTER


class Rules(NamedTuple):
    """What a user may do in a namespace, and what could not be resolved."""

    rules: tuple[PolicyRule, ...]
    errors: tuple[str, ...]


SubjectIndex = Mapping[tuple[str, str], Sequence[Grant]]


class RbacAuthorizer:
    """Decides by the roles and bindings in the cache."""

    def __init__(self, cache: Cache) -> None:
        self._roles = cache.of(Role.resource)
        self._cluster_roles = cache.of(ClusterRole.resource)
        self._bindings = cache.of(RoleBinding.resource)
        self._cluster_bindings = cache.of(ClusterRoleBinding.resource)
        self._revisions = (-1, -1, -1, -1)
        self._cluster_index: SubjectIndex = {}
        self._namespace_indexes: dict[str, SubjectIndex] = {}
        self._aggregated: dict[str, tuple[PolicyRule, ...]] = {}

    @property
    def revision(self) -> tuple[int, int, int, int]:
        """Changes whenever a decision may."""
        return self._roles.revision, self._cluster_roles.revision, self._bindings.revision, self._cluster_bindings.revision

    def authorize(self, attributes: Attributes) -> Decision:
        """The decision on attributes, with the binding that allows it."""
        return self.decide(attributes)[0]

    def decide(self, attributes: Attributes) -> tuple[Decision, Scope]:
        """The decision, and for what it is the same."""
        errors: list[str] = []
        for grant in self._grants(attributes.user, attributes.namespace):
            for rule in self._rules_of(grant.binding.roleRef, grant.binding.metadata.namespace, errors):
                if rule_allows(rule, attributes):
                    return Decision(True, f"RBAC: allowed by {grant.describe()}"), grant.scope(rule)
        return Decision(False, f"RBAC: {_aggregate(errors)}" if errors else ""), Scope.OBJECT

    def rules_for(self, user: User, namespace: str) -> Rules:
        """Every rule that applies to a user in a namespace."""
        errors: list[str] = []
        rules: list[PolicyRule] = []
        for grant in self._grants(user, namespace):
            rules += self._rules_of(grant.binding.roleRef, grant.binding.metadata.namespace, errors)
        return Rules(tuple(rules), tuple(dict.fromkeys(errors)))

    def rules_of(self, role: RoleRef, namespace: str) -> Rules:
        """The rules of a role that a binding in a namespace ("" for none) refers to."""
        errors: list[str] = []
        self._refresh()
        return Rules(self._rules_of(role, namespace, errors), tuple(errors))

    def _grants(self, user: User, namespace: str) -> Iterator[Grant]:
        self._refresh()
        subjects = [(_USER, user.name), *((_GROUP, group) for group in user.groups)]
        yield from _applicable(self._cluster_index, subjects)
        if namespace:
            index = self._namespace_indexes.get(namespace)
            if index is None:
                bindings = [entry.view(RoleBinding) for entry in self._bindings.entries(namespace)]
                index = self._namespace_indexes[namespace] = index_subjects(bindings, namespace)
            yield from _applicable(index, subjects)

    def _refresh(self) -> None:
        now = self.revision
        before, self._revisions = self._revisions, now
        if now == before:
            return
        if now[1] != before[1]:
            self._aggregated = {}
        if now[2] != before[2]:
            self._namespace_indexes = {}
        if now[3] != before[3]:
            self._cluster_index = index_subjects([entry.view(ClusterRoleBinding) for entry in self._cluster_bindings.entries()], "")

    def _rules_of(self, ref: RoleRef, namespace: str, errors: list[str]) -> tuple[PolicyRule, ...]:
        if ref.kind == "Role":
            entry = self._roles.get(namespace, ref.name)
            if entry is not None:
                return entry.view(Role).rules or ()
            errors.append(f'role.rbac.authorization.k8s.io "{ref.name}" not found')
        elif ref.kind == "ClusterRole":
            entry = self._cluster_roles.get("", ref.name)
            if entry is not None:
                role = entry.view(ClusterRole)
                return self._aggregate(role) if role.aggregationRule is not None else role.rules or ()
            errors.append(f'clusterrole.rbac.authorization.k8s.io "{ref.name}" not found')
        else:
            errors.append(f'unsupported role reference kind: "{ref.kind}"')
        return ()

    def _aggregate(self, role: ClusterRole) -> tuple[PolicyRule, ...]:
        name = role.metadata.name
        found = self._aggregated.get(name)
        if found is None:
            roles = [entry.view(ClusterRole) for entry in self._cluster_roles.entries()]
            found = self._aggregated[name] = aggregate(role, {r.metadata.name: r for r in roles})
        return found


def aggregate(role: ClusterRole, roles: Mapping[str, ClusterRole]) -> tuple[PolicyRule, ...]:
    """The rules of an aggregating role: those of every role that it selects, in the order of their names, each once. A selected role that
    aggregates in its turn is followed, as controllers writing one after the other would in the end."""
    rules: dict[PolicyRule, None] = {}
    visited: set[str] = set()

    def visit(current: ClusterRole) -> None:
        if current.metadata.name in visited:
            return
        visited.add(current.metadata.name)
        if current.aggregationRule is None:
            rules.update(dict.fromkeys(current.rules or ()))
            return
        for name in sorted(roles):
            if any(selects(selector, roles[name].metadata.labels) for selector in current.aggregationRule.clusterRoleSelectors):
                visit(roles[name])

    visit(role)
    return tuple(rules)


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches labels."""
    if any(labels.get(key) != value for key, value in selector.matchLabels.items()):
        return False
    for requirement in selector.matchExpressions:
        value = labels.get(requirement.key)
        match requirement.operator:
            case "In":
                held = value is not None and value in requirement.values
            case "NotIn":
                held = value is None or value not in requirement.values
            case "Exists":
                held = value is not None
            case "DoesNotExist":
                held = value is None
            case _:
                held = False
        if not held:
            return False
    return True


def index_subjects(bindings: Iterable[RoleBinding | ClusterRoleBinding], namespace: str) -> SubjectIndex:
    """Bindings by the users and groups that they name; `namespace` is what a service account without one lives in."""
    index: dict[tuple[str, str], list[Grant]] = {}
    for order, binding in enumerate(bindings):
        for subject in binding.subjects:
            if subject.kind == "ServiceAccount":
                home = subject.namespace or namespace
                if not home:
                    continue
                key = (_USER, f"system:serviceaccount:{home}:{subject.name}")
            else:
                key = (subject.kind, subject.name)
            index.setdefault(key, []).append(Grant(order, binding, subject))
    return index


def _applicable(index: SubjectIndex, subjects: Iterable[tuple[str, str]]) -> Iterator[Grant]:
    found: dict[int, Grant] = {}
    for subject in subjects:
        for grant in index.get(subject, ()):
            found.setdefault(grant.order, grant)
    for order in sorted(found):
        yield found[order]


def rule_allows(rule: PolicyRule, attributes: Attributes) -> bool:
    """Whether one rule covers what is asked."""
    verbs = rule.verbs
    if attributes.verb not in verbs and "*" not in verbs:
        return False
    if attributes.path:
        return any(_url_matches(url, attributes.path) for url in rule.nonResourceURLs)
    groups = rule.apiGroups
    if attributes.group not in groups and "*" not in groups:
        return False
    resources, resource = rule.resources, attributes.resource
    if attributes.subresource:
        if (
            f"{resource}/{attributes.subresource}" not in resources
            and "*" not in resources
            and f"*/{attributes.subresource}" not in resources
        ):
            return False
    elif resource not in resources and "*" not in resources:
        return False
    return not rule.resourceNames or attributes.name in rule.resourceNames


def _url_matches(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern.rstrip("*")))


def _aggregate(errors: Sequence[str]) -> str:
    unique = list(dict.fromkeys(errors))
    return unique[0] if len(unique) == 1 else "[" + ", ".join(unique) + "]"
