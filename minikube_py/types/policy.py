"""Disruption budgets: what their controller and the scheduler read of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from minikube_py.types.meta import Condition, LabelSelector, Object, ResourceRef, View
from minikube_py.types.pod import IntOrString


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
