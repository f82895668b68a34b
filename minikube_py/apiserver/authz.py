"""Authorization: whether a user may do what it asks for.

Asked in this order: the masters' group may do everything; a kubelet is judged by its relation to the object; everybody by RBAC. A decision
of RBAC made before is found again by those of its attributes that it depends on until a role or binding changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from minikube_py.apiserver.api import Attributes, Decision
from minikube_py.apiserver.authz_node import NodeAuthorizer, node_name_of
from minikube_py.apiserver.authz_rbac import RbacAuthorizer, Rules, Scope
from minikube_py.meta.user import MASTERS_GROUP, User
from minikube_py.types.rbac import PolicyRule

if TYPE_CHECKING:
    from minikube_py.apiserver.cache import Cache

__all__ = ["NodeAuthorizer", "RbacAuthorizer", "RequestAuthorizer"]

_MASTER = Decision(True)
_EVERYTHING = Rules(
    (
        PolicyRule(verbs=("*",), apiGroups=("*",), resources=("*",)),
        PolicyRule(verbs=("*",), nonResourceURLs=("*",)),
    ),
    (),
)
_CACHED = 4096
_USUAL = 512
"""Characters of attributes up to which a decision is remembered: anybody may ask about a path of any length."""

_Key = tuple[object, ...]


class RequestAuthorizer:
    """The cluster's authorizer, over the cache of the API server."""

    def __init__(self, cache: Cache, node_rules: Iterable[PolicyRule] | None = None) -> None:
        if node_rules is None:
            from minikube_py.apiserver.bootstrap_roles import node_rules as rules

            node_rules = rules()
        self.rbac = RbacAuthorizer(cache)
        self._nodes = NodeAuthorizer(cache, node_rules)
        self._decisions: dict[_Key, Decision] = {}
        self._revision = self.rbac.revision

    def authorize(self, attributes: Attributes) -> Decision:
        """The decision on one request."""
        user, verb, group, _, resource, subresource, namespace, name, path = attributes[:9]
        if MASTERS_GROUP in user.groups:
            return _MASTER
        revision = self.rbac.revision
        if revision != self._revision or len(self._decisions) > _CACHED:
            self._decisions, self._revision = {}, revision
        key: _Key = (user.name, user.groups, verb, group, resource, subresource, path)
        decisions = self._decisions
        decision = decisions.get(key) or decisions.get((*key, namespace)) or decisions.get((*key, namespace, name))
        if decision is not None:
            return decision
        if node_name_of(user) is not None:
            return self._of_node(attributes)
        decision, scope = self.rbac.decide(attributes)
        if sum(map(len, attributes[1:9])) <= _USUAL:
            where = () if scope is Scope.CLUSTER else (namespace,) if scope is Scope.NAMESPACE else (namespace, name)
            decisions[(*key, *where)] = decision
        return decision

    def _of_node(self, attributes: Attributes) -> Decision:
        """Not remembered: what a node is related to changes with every pod."""
        by_relation = self._nodes.authorize(attributes)
        if by_relation.allowed:
            return by_relation
        by_role = self.rbac.authorize(attributes)
        if by_role.allowed:
            return by_role
        return Decision(False, ", ".join(reason for reason in (by_relation.reason, by_role.reason) if reason))

    def rules_for(self, user: User, namespace: str) -> Rules:
        """What a user may do in a namespace, for SelfSubjectRulesReview."""
        if MASTERS_GROUP in user.groups:
            return _EVERYTHING
        rules, errors = self.rbac.rules_for(user, namespace)
        if node_name_of(user) is not None:
            errors = ("node authorizer does not support user rule resolution", *errors)
        return Rules(rules, errors)
