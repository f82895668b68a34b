"""Roles and bindings: read by authorization, written by the bootstrap of a cluster."""

from __future__ import annotations

from typing import ClassVar

from minikube_py.types.meta import LabelSelector, Object, ResourceRef, View

GROUP = "rbac.authorization.k8s.io"


class PolicyRule(View, frozen=True):
    verbs: tuple[str, ...] = ()
    apiGroups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resourceNames: tuple[str, ...] = ()
    nonResourceURLs: tuple[str, ...] = ()


class Subject(View, frozen=True):
    kind: str
    name: str
    apiGroup: str = ""
    namespace: str = ""


class RoleRef(View, frozen=True):
    kind: str
    name: str
    apiGroup: str = ""


class AggregationRule(View, frozen=True):
    clusterRoleSelectors: tuple[LabelSelector, ...] = ()


class Role(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef(GROUP, "v1", "roles", "Role")
    rules: tuple[PolicyRule, ...] | None = ()


class ClusterRole(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef(GROUP, "v1", "clusterroles", "ClusterRole", namespaced=False)
    rules: tuple[PolicyRule, ...] | None = ()
    aggregationRule: AggregationRule | None = None


class RoleBinding(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef(GROUP, "v1", "rolebindings", "RoleBinding")
    roleRef: RoleRef = RoleRef("", "")
    subjects: tuple[Subject, ...] = ()


class ClusterRoleBinding(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef(GROUP, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
    roleRef: RoleRef = RoleRef("", "")
    subjects: tuple[Subject, ...] = ()
