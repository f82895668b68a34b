"""Claims on devices and their templates. Upstream: pkg/apis/resource."""

from __future__ import annotations

from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext


def default_device_claim(spec: Obj) -> None:
    """Defaults of a claim on devices: one of them, exactly."""
    for request in (spec.get("devices") or {}).get("requests") or ():
        for wanted in (request.get("exactly"), *(request.get("firstAvailable") or ())):
            if wanted is None:
                continue
            if not wanted.get("allocationMode"):
                wanted["allocationMode"] = "ExactCount"
            if wanted["allocationMode"] == "ExactCount" and not wanted.get("count"):
                wanted["count"] = 1
            for toleration in wanted.get("tolerations") or ():
                if not toleration.get("operator"):
                    toleration["operator"] = "Equal"


class ResourceClaimStrategy(Strategy):
    """A claim on devices; it never changes."""

    has_status = True
    has_generation = False

    def default(self, obj: Obj) -> None:
        default_device_claim(obj.setdefault("spec", {}))

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        return list(rules.unchanged("spec", obj.get("spec"), old.get("spec")))


class ResourceClaimTemplateStrategy(Strategy):
    """Makes such claims for pods; it never changes."""

    has_generation = False

    def default(self, obj: Obj) -> None:
        default_device_claim(obj.setdefault("spec", {}).setdefault("spec", {}))

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        return list(rules.unchanged("spec", obj.get("spec"), old.get("spec")))
