"""Deployments. Upstream: pkg/registry/apps/deployment, pkg/apis/apps/v1/defaults.go, pkg/apis/apps/validation."""

from __future__ import annotations

from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, WriteContext
from minikube_py.resources.rules import Faults
from minikube_py.resources.workloads import WorkloadStrategy, fill


class DeploymentStrategy(WorkloadStrategy):
    """Rolls out by a quarter at a time unless told otherwise."""

    kind = "Deployment"
    words = "deployment"
    counts = ("replicas", "minReadySeconds", "revisionHistoryLimit")

    def default_spec(self, spec: Obj) -> None:
        fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
        strategy = spec.setdefault("strategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            if strategy.get("rollingUpdate") is None:
                strategy["rollingUpdate"] = {}
            fill(strategy["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")

    def prepare_update(self, obj: Obj, old: Obj, context: WriteContext) -> None:
        super().prepare_update(obj, old, context)
        # Annotations count too: the controller copies them to replica sets, and clients wait for the generation.
        meta, before = obj["metadata"], old["metadata"]
        if context.subresource == "":
            changed = (meta.get("annotations") or {}) != (before.get("annotations") or {})
            if changed and meta.get("generation") == before.get("generation"):
                meta["generation"] = (before.get("generation") or 0) + 1

    def validate_spec(self, spec: Obj) -> Faults:
        strategy = spec.get("strategy") or {}
        rolling = strategy.get("rollingUpdate")
        if strategy.get("type") == "Recreate":
            if rolling is not None:
                words = "may not be specified when strategy `type` is 'Recreate'"
                yield Cause.forbidden("spec.strategy.rollingUpdate", words)
        elif strategy.get("type") != "RollingUpdate":
            yield Cause.not_supported("spec.strategy.type", strategy.get("type"), ("Recreate", "RollingUpdate"))
        elif rolling is None:
            yield Cause.required("spec.strategy.rollingUpdate", "this should be defaulted and never be nil")
        else:
            yield from rolling_faults("spec.strategy.rollingUpdate", rolling)
        deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds") or 0
        if deadline is not None:
            yield from rules.not_negative("spec.progressDeadlineSeconds", deadline)
            if deadline <= ready:
                yield Cause.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def rolling_faults(path: str, rolling: Obj) -> Faults:
    """maxUnavailable and maxSurge, which cannot both be nothing."""
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    yield from rules.int_or_percent(f"{path}.maxUnavailable", unavailable)
    yield from rules.int_or_percent(f"{path}.maxSurge", surge)
    if rules.is_zero(unavailable) and rules.is_zero(surge):
        yield Cause.invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")
    yield from rules.percent_at_most_100(f"{path}.maxUnavailable", unavailable)
