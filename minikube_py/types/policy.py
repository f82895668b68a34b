"""Policies of a namespace: disruption budgets, resource quotas, limit ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from minikube_py.types.meta import Condition, LabelSelector, Object, ResourceRef, View
from minikube_py.types.pod import IntOrString, Quantities


class PodDisruptionBudgetSpec(View, frozen=True):
    minAvailable: IntOrString | None = None
    maxUnavailable: IntOrString | None = None
    selector: LabelSelector | None = None
    unhealthyPodEvictionPolicy: str = ""


class PodDisruptionBudgetStatus(View, frozen=True):
    observedGeneration: int = 0
    disruptedPods: Mapping[str, str] = {}
    disruptionsAllowed: int = 0
    currentHealthy: int = 0
    desiredHealthy: int = 0
    expectedPods: int = 0
    conditions: tuple[Condition, ...] = ()


class PodDisruptionBudget(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
    spec: PodDisruptionBudgetSpec = PodDisruptionBudgetSpec()
    status: PodDisruptionBudgetStatus = PodDisruptionBudgetStatus()


class ScopedResourceSelectorRequirement(View, frozen=True):
    scopeName: str
    operator: str
    values: tuple[str, ...] = ()


class ScopeSelector(View, frozen=True):
    matchExpressions: tuple[ScopedResourceSelectorRequirement, ...] = ()


class ResourceQuotaSpec(View, frozen=True):
    hard: Quantities = {}
    scopes: tuple[str, ...] = ()
    scopeSelector: ScopeSelector | None = None


class ResourceQuotaStatus(View, frozen=True):
    hard: Quantities = {}
    used: Quantities = {}


class ResourceQuota(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "resourcequotas", "ResourceQuota")
    spec: ResourceQuotaSpec = ResourceQuotaSpec()
    status: ResourceQuotaStatus = ResourceQuotaStatus()


class LimitRangeItem(View, frozen=True):
    type: str
    max: Quantities = {}
    min: Quantities = {}
    default: Quantities = {}
    defaultRequest: Quantities = {}
    maxLimitRequestRatio: Quantities = {}


class LimitRangeSpec(View, frozen=True):
    limits: tuple[LimitRangeItem, ...] = ()


class LimitRange(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "limitranges", "LimitRange")
    spec: LimitRangeSpec = LimitRangeSpec()
