"""Aggregated cluster roles: their rules are the rules of all roles that their selectors match, in the order of names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller
from minikube_py.meta.errors import NotFound
from minikube_py.meta.selectors import matches
from minikube_py.types.rbac import ClusterRole, PolicyRule


def plan(role: ClusterRole, roles: Iterable[ClusterRole]) -> tuple[PolicyRule, ...] | None:
    """The rules that an aggregated role should have, or None where it has them or is not aggregated."""
    if role.aggregationRule is None:
        return None
    rules: list[PolicyRule] = []
    selectors = role.aggregationRule.clusterRoleSelectors
    for other in sorted(roles, key=lambda r: r.metadata.name):
        if other.metadata.name == role.metadata.name or not any(matches(s, other.metadata.labels) for s in selectors):
            continue
        rules.extend(rule for rule in other.rules or () if rule not in rules)
    return None if tuple(rules) == (role.rules or ()) else tuple(rules)


def rule_json(rule: PolicyRule) -> dict[str, Any]:
    """A rule as the API takes it, empty lists left out."""
    return {name: list(value) for name in rule.__struct_fields__ if (value := getattr(rule, name))}


class ClusterRoleAggregation(Controller):
    """Keeps the aggregated roles."""

    name = "clusterrole-aggregation"
    identity = "clusterrole-aggregation-controller"
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._roles = context.informers.of(ClusterRole)

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._roles, self._aggregating),)

    def _aggregating(self, role: ClusterRole) -> Iterable[str]:
        if role.aggregationRule is not None:
            yield role.key
        for other in self._roles.list():
            if other.aggregationRule is not None and other.key != role.key:
                yield other.key

    async def reconcile(self, key: str) -> float | None:
        role = self._roles.get(key)
        if role is None:
            return None
        rules = plan(role, self._roles.list())
        if rules is None:
            return None
        patch = {"metadata": {"resourceVersion": role.metadata.resourceVersion}, "rules": [rule_json(rule) for rule in rules]}
        try:
            await self.client.patch(ClusterRole, key, patch)
        except NotFound:
            return None
        return None
