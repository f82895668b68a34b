"""Namespaces. Upstream: pkg/registry/core/namespace."""

from __future__ import annotations

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext

NAME_LABEL = "kubernetes.io/metadata.name"
FINALIZER = "kubernetes"


class NamespaceStrategy(Strategy):
    """A namespace carries its name as a label, and a finalizer of its own kind until everything in it is gone."""

    has_status = True
    has_generation = False
    initial_status = {"phase": "Active"}
    selectable_fields = {
        "status.phase": lambda ns: str((ns.get("status") or {}).get("phase") or ""),
        "name": lambda ns: str(ns["metadata"].get("name") or ""),
    }

    def default(self, obj: Obj) -> None:
        metadata = obj["metadata"]
        if metadata.get("name"):
            labels = metadata.get("labels")
            if labels is None:
                labels = metadata["labels"] = {}
            labels[NAME_LABEL] = metadata["name"]

    def prepare_create(self, obj: Obj, context: WriteContext) -> None:
        super().prepare_create(obj, context)
        self.default(obj)
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        finalizers = spec.get("finalizers") or []
        if FINALIZER not in finalizers:
            spec["finalizers"] = [*finalizers, FINALIZER]

    def prepare_update(self, obj: Obj, old: Obj, context: WriteContext) -> None:
        """The finalizers change at /finalize only, where nothing else does."""
        spec, status = obj.get("spec") or {}, obj.get("status")
        if context.subresource == "status":
            obj["spec"] = old.get("spec") or {}
            if status is None:
                obj.pop("status", None)
            return
        obj["status"] = old.get("status") or {}
        if context.subresource == "finalize":
            obj["spec"] = spec
        else:
            obj["spec"] = {**spec, "finalizers": (old.get("spec") or {}).get("finalizers") or []}
            if not obj["spec"]["finalizers"]:
                del obj["spec"]["finalizers"]

    def validate(self, obj: Obj) -> list[Cause]:
        return [
            cause
            for i, name in enumerate((obj.get("spec") or {}).get("finalizers") or ())
            for cause in (
                *rules.checked(f"spec.finalizers[{i}]", name, names.label_key),
                *(() if "/" in name or name in (FINALIZER, "orphan") else _unqualified(i, name)),
            )
        ]

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        if context.subresource != "status":
            return self.validate(obj)
        phase = (obj.get("status") or {}).get("phase")
        if obj["metadata"].get("deletionTimestamp"):
            return (
                []
                if phase == "Terminating"
                else [Cause.invalid("status.Phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")]
            )
        return [] if phase == "Active" else [Cause.invalid("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty")]


def _unqualified(i: int, name: str) -> tuple[Cause, ...]:
    return (Cause.invalid(f"spec.finalizers[{i}]", name, "name is neither a standard finalizer name nor is it fully qualified"),)
