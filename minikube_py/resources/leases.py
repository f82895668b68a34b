"""Leases. Upstream: pkg/apis/coordination."""

from __future__ import annotations

from typing import Any

from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy


class LeaseStrategy(Strategy):
    """Who holds something, and until when."""

    has_generation = False
    allow_create_on_update = True
    allow_unconditional_update = False

    def validate(self, obj: Obj) -> list[Cause]:
        spec = obj.get("spec") or {}
        found = []
        seconds: Any = spec.get("leaseDurationSeconds")
        if seconds is not None and seconds <= 0:
            found.append(Cause.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
        transitions: Any = spec.get("leaseTransitions")
        if transitions is not None and transitions < 0:
            found.append(Cause.invalid("spec.leaseTransitions", transitions, rules.NOT_NEGATIVE))
        if (strategy := spec.get("strategy")) is not None:
            found += rules.one_of("spec.strategy", strategy, ("OldestEmulationVersion",)) if "/" not in strategy else ()
        if spec.get("preferredHolder") and not spec.get("strategy"):
            found.append(Cause.forbidden("spec.preferredHolder", "may only be specified if `strategy` is defined"))
        return found
