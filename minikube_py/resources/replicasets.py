"""Replica sets and replication controllers. Upstream: pkg/registry/apps/replicaset, pkg/registry/core/replicationcontroller."""

from __future__ import annotations

from typing import Any

from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj
from minikube_py.resources.podspec import workload_template
from minikube_py.resources.podspec_defaults import default_template
from minikube_py.resources.workloads import WorkloadStrategy, fill, replicas_field


class ReplicaSetStrategy(WorkloadStrategy):
    """Keeps a number of pods."""

    kind = "ReplicaSet"
    words = "replicaset"
    counts = ("replicas", "minReadySeconds")
    initial_status = {"replicas": 0}
    selectable_fields = {"status.replicas": replicas_field}

    def default_spec(self, spec: Obj) -> None:
        fill(spec, replicas=1)


class ReplicationControllerStrategy(WorkloadStrategy):
    """The older form: a plain map selects, and labels come from the template where there are none."""

    kind = "ReplicationController"
    counts = ("replicas", "minReadySeconds")
    initial_status = {"replicas": 0}
    mutable_selector = True
    selectable_fields = {"status.replicas": replicas_field}

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        default_template(spec)
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
        if labels:
            if not spec.get("selector"):
                spec["selector"] = dict(labels)
            metadata = obj.setdefault("metadata", {})
            if not metadata.get("labels"):
                metadata["labels"] = dict(labels)
        fill(spec, replicas=1)

    def validate(self, obj: Obj) -> list[Cause]:
        spec: Any = obj["spec"]
        found = [c for field in self.counts for c in rules.not_negative(f"spec.{field}", spec.get(field))]
        if not spec.get("selector"):
            found.append(Cause.required("spec.selector"))
        if spec.get("template") is None:
            found.append(Cause.required("spec.template"))
        else:
            as_selector = {**spec, "selector": {"matchLabels": spec.get("selector") or {}}}
            found += workload_template("spec.template", as_selector, self.kind)
        return found
