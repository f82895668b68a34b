"""Flow schemas and priority levels. Upstream: pkg/apis/flowcontrol."""

from __future__ import annotations

from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.workloads import fill


class FlowSchemaStrategy(Strategy):
    """Which requests belong together."""

    has_status = True

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("matchingPrecedence"):
            spec["matchingPrecedence"] = 1000

    def validate(self, obj: Obj) -> list[Cause]:
        spec = obj["spec"]
        found = list(rules.within("spec.matchingPrecedence", spec.get("matchingPrecedence"), 1, 10000))
        if not (spec.get("priorityLevelConfiguration") or {}).get("name"):
            found.append(Cause.required("spec.priorityLevelConfiguration.name", "must reference a priority level"))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        return [] if context.subresource == "status" else self.validate(obj)


class PriorityLevelConfigurationStrategy(Strategy):
    """How much of the server such requests get."""

    has_status = True

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        limited = spec.get("limited")
        if limited is not None:
            fill(limited, nominalConcurrencyShares=30, lendablePercent=0)
            queuing = (limited.get("limitResponse") or {}).get("queuing")
            if queuing is not None:
                for field, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                    if not queuing.get(field):
                        queuing[field] = value
        if spec.get("type") == "Exempt":
            fill(spec, exempt=dict)
            fill(spec["exempt"], nominalConcurrencyShares=0, lendablePercent=0)

    def validate(self, obj: Obj) -> list[Cause]:
        spec = obj["spec"]
        found = list(rules.one_of("spec.type", spec.get("type"), ("Exempt", "Limited")))
        if spec.get("type") == "Limited" and spec.get("limited") is None:
            found.append(Cause.required("spec.limited", "must not be empty when type is Limited"))
        if spec.get("type") == "Exempt" and spec.get("limited") is not None:
            found.append(Cause.forbidden("spec.limited", "must be nil if the type is not Limited"))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        return [] if context.subresource == "status" else self.validate(obj)
