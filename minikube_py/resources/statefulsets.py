"""Stateful sets and daemon sets. Upstream: pkg/registry/apps/{statefulset,daemonset}, pkg/apis/apps/v1/defaults.go."""

from __future__ import annotations

from typing import Any

from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, WriteContext
from minikube_py.resources.deployments import rolling_faults
from minikube_py.resources.podspec_defaults import default_claim_spec
from minikube_py.resources.rules import Faults
from minikube_py.resources.workloads import WorkloadStrategy, fill

_UPDATABLE = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', "
    "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_MUTABLE = (
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
)  # fmt: skip
_RETENTION = ("Delete", "Retain")


def _default_update(spec: Obj, **rolling: int) -> None:
    """The update strategy: rolling, with these defaults, unless the user says otherwise."""
    update = spec.setdefault("updateStrategy", {})
    if not update.get("type"):
        update["type"] = "RollingUpdate"
    if update["type"] == "RollingUpdate":
        if update.get("rollingUpdate") is None:
            update["rollingUpdate"] = {}
        fill(update["rollingUpdate"], **rolling)


class StatefulSetStrategy(WorkloadStrategy):
    """Pods with names and claims that last."""

    kind = "StatefulSet"
    words = "statefulset"
    initial_status = {"replicas": 0, "availableReplicas": 0}
    mutable_selector = True
    """Its selector is guarded by the rule about the whole spec."""

    def default_spec(self, spec: Obj) -> None:
        fill(spec, replicas=1, revisionHistoryLimit=10)
        if not spec.get("podManagementPolicy"):
            spec["podManagementPolicy"] = "OrderedReady"
        _default_update(spec, partition=0)
        fill(spec, persistentVolumeClaimRetentionPolicy=dict)
        retention = spec["persistentVolumeClaimRetentionPolicy"]
        for field in ("whenDeleted", "whenScaled"):
            if not retention.get(field):
                retention[field] = "Retain"
        for claim in spec.get("volumeClaimTemplates") or ():
            claim.setdefault("apiVersion", "v1")
            claim.setdefault("kind", "PersistentVolumeClaim")
            default_claim_spec(claim.setdefault("spec", {}))
            claim["status"] = {"phase": "Pending", **(claim.get("status") or {})}

    def prepare_create(self, obj: Obj, context: WriteContext) -> None:
        super().prepare_create(obj, context)
        _rolling(obj).pop("maxUnavailable", None)

    def prepare_update(self, obj: Obj, old: Obj, context: WriteContext) -> None:
        # of a feature that upstream leaves off; a set that has it from elsewhere keeps it
        if "maxUnavailable" not in _rolling(old):
            _rolling(obj).pop("maxUnavailable", None)
        super().prepare_update(obj, old, context)

    def validate(self, obj: Obj) -> list[Cause]:
        return super().validate(_with_claims(obj))

    def validate_spec(self, spec: Obj) -> Faults:
        policy = spec.get("podManagementPolicy")
        if policy not in ("OrderedReady", "Parallel"):
            yield Cause.invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'")
        update = spec.get("updateStrategy") or {}
        rolling = update.get("rollingUpdate")
        if update.get("type") == "OnDelete":
            if rolling is not None:
                yield Cause.invalid("spec.updateStrategy.rollingUpdate", rolling, "only allowed for updateStrategy 'RollingUpdate'")
        elif update.get("type") != "RollingUpdate":
            yield Cause.invalid("spec.updateStrategy", update, "must be 'RollingUpdate' or 'OnDelete'")
        elif rolling is not None:
            yield from rules.not_negative("spec.updateStrategy.rollingUpdate.partition", rolling.get("partition"))
            if (unavailable := rolling.get("maxUnavailable")) is not None:
                path = "spec.updateStrategy.rollingUpdate.maxUnavailable"
                yield from rules.int_or_percent(path, unavailable)
                if rules.is_zero(unavailable):
                    yield Cause.invalid(path, unavailable, "cannot be 0")
                yield from rules.percent_at_most_100(path, unavailable)
        retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
        for field in ("whenDeleted", "whenScaled"):
            yield from rules.optional(f"spec.persistentVolumeClaimRetentionPolicy.{field}", retention.get(field), _RETENTION)
        if (ordinals := spec.get("ordinals")) is not None:
            yield from rules.not_negative("spec.ordinals.start", ordinals.get("start"))

    def validate_update(self, obj: Obj, old: Obj, context: Any) -> list[Cause]:
        found = super().validate_update(obj, old, context)
        if not context.subresource and rules.without(obj["spec"], _MUTABLE) != rules.without(old["spec"], _MUTABLE):
            found.append(Cause.forbidden("spec", _UPDATABLE))
        return found


def _rolling(obj: Obj) -> Obj:
    rolling: Obj = ((obj.get("spec") or {}).get("updateStrategy") or {}).get("rollingUpdate") or {}
    return rolling


def _with_claims(obj: Obj) -> Obj:
    """The set with its template's volumes as its pods will have them: containers mount the claims by the names of their templates."""
    spec = obj["spec"]
    claims = [(claim.get("metadata") or {}).get("name") or "" for claim in spec.get("volumeClaimTemplates") or ()]
    template = spec.get("template")
    if not claims or not template or not template.get("spec"):
        return obj
    own = [volume for volume in template["spec"].get("volumes") or () if volume.get("name") not in claims]
    volumes = [*({"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims), *own]
    return {**obj, "spec": {**spec, "template": {**template, "spec": {**template["spec"], "volumes": volumes}}}}


class DaemonSetStrategy(WorkloadStrategy):
    """A pod on every node."""

    kind = "DaemonSet"
    words = "daemonset"
    counts = ("minReadySeconds", "revisionHistoryLimit")
    initial_status = {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}

    def default_spec(self, spec: Obj) -> None:
        fill(spec, revisionHistoryLimit=10)
        _default_update(spec, maxUnavailable=1, maxSurge=0)

    def validate_spec(self, spec: Obj) -> Faults:
        update = spec.get("updateStrategy") or {}
        if update.get("type") == "RollingUpdate":
            rolling = update.get("rollingUpdate")
            if rolling is None:
                yield Cause.required("spec.updateStrategy.rollingUpdate")
            else:
                yield from _daemon_rolling("spec.updateStrategy.rollingUpdate", rolling)
        elif update.get("type") != "OnDelete":
            yield Cause.not_supported("spec.updateStrategy.type", update.get("type"), ("RollingUpdate", "OnDelete"))


def _daemon_rolling(path: str, rolling: Obj) -> Faults:
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    none_unavailable, none_surge = rules.is_zero(unavailable), rules.is_zero(surge)
    if none_unavailable and none_surge:
        yield Cause.required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0")
    elif not none_unavailable and not none_surge:
        yield Cause.invalid(f"{path}.maxSurge", surge, "may not be set when maxUnavailable is non-zero")
    for fault in rolling_faults(path, rolling):
        if not fault.detail.endswith("may not be 0 when `maxSurge` is 0"):
            yield fault
