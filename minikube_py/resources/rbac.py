"""Roles and bindings. Upstream: pkg/apis/rbac, pkg/registry/rbac. Whether the writer may grant what it writes is authorization's to say."""

from __future__ import annotations

from collections.abc import Sequence

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.rules import Faults

GROUP = "rbac.authorization.k8s.io"


class RoleStrategy(Strategy):
    """Rules that allow."""

    has_generation = False
    allow_create_on_update = True

    def __init__(self, namespaced: bool) -> None:
        self._namespaced = namespaced

    def validate(self, obj: Obj) -> list[Cause]:
        found = [c for i, rule in enumerate(obj.get("rules") or ()) for c in _rule(f"rules[{i}]", rule, self._namespaced)]
        for i, selector in enumerate((obj.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()):
            found += rules.selector(f"aggregationRule.clusterRoleSelectors[{i}]", selector)
        if obj.get("aggregationRule") is not None and not obj["aggregationRule"].get("clusterRoleSelectors"):
            found.append(
                Cause.required(
                    "aggregationRule.clusterRoleSelectors", "at least one clusterRoleSelector required if aggregationRule is non-nil"
                )
            )
        return found


def _rule(path: str, rule: Obj, namespaced: bool) -> Faults:
    urls: Sequence[str] = rule.get("nonResourceURLs") or ()
    if not rule.get("verbs"):
        yield Cause.required(f"{path}.verbs", "verbs must contain at least one value")
    if urls:
        if namespaced:
            yield Cause.invalid(f"{path}.nonResourceURLs", list(urls), "namespaced rules cannot apply to non-resource URLs")
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            words = "rules cannot apply to both regular resources and non-resource URLs"
            yield Cause.invalid(f"{path}.nonResourceURLs", list(urls), words)
        return
    if not rule.get("apiGroups"):
        yield Cause.required(f"{path}.apiGroups", "resource rules must supply at least one api group")
    if not rule.get("resources"):
        yield Cause.required(f"{path}.resources", "resource rules must supply at least one resource")


class BindingStrategy(Strategy):
    """Who has a role; which role it is never changes."""

    has_generation = False
    allow_create_on_update = True

    def __init__(self, namespaced: bool) -> None:
        self._namespaced = namespaced

    def default(self, obj: Obj) -> None:
        role = obj.get("roleRef")
        if role is not None and not role.get("apiGroup"):
            role["apiGroup"] = GROUP
        for subject in obj.get("subjects") or ():
            if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
                subject["apiGroup"] = GROUP

    def validate(self, obj: Obj) -> list[Cause]:
        role = obj.get("roleRef") or {}
        found: list[Cause] = []
        if role.get("apiGroup") != GROUP:
            found.append(Cause.not_supported("roleRef.apiGroup", role.get("apiGroup", ""), (GROUP,)))
        kinds = ("Role", "ClusterRole") if self._namespaced else ("ClusterRole",)
        if role.get("kind") not in kinds:
            found.append(Cause.not_supported("roleRef.kind", role.get("kind", ""), kinds))
        found += rules.named("roleRef.name", role.get("name"), names.path_segment)
        for i, subject in enumerate(obj.get("subjects") or ()):
            found += _subject(f"subjects[{i}]", subject, self._namespaced)
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        found = self.validate(obj)
        if obj.get("roleRef") != old.get("roleRef"):
            found.append(Cause.invalid("roleRef", obj.get("roleRef"), "cannot change roleRef"))
        return found


def _subject(path: str, subject: Obj, namespaced: bool) -> Faults:
    name, kind, group = subject.get("name") or "", subject.get("kind") or "", subject.get("apiGroup") or ""
    if not name:
        yield Cause.required(f"{path}.name")
    if kind == "ServiceAccount":
        if name:
            yield from rules.checked(f"{path}.name", name, names.dns1123_subdomain)
        if group:
            yield Cause.not_supported(f"{path}.apiGroup", group, ("",))
        if not namespaced and not subject.get("namespace"):
            yield Cause.required(f"{path}.namespace")
    elif kind in ("User", "Group"):
        if group != GROUP:
            yield Cause.not_supported(f"{path}.apiGroup", group, (GROUP,))
    else:
        yield Cause.not_supported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group"))
