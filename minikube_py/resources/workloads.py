"""What deployments, replica sets, stateful sets, daemon sets and replication controllers have in common: a selector and a template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy
from minikube_py.resources.podspec import workload_template
from minikube_py.resources.podspec_defaults import default_template
from minikube_py.resources.podspec_warnings import template_warnings
from minikube_py.resources.rules import Faults

EMPTY_SELECTOR = "empty selector is invalid for {}"


def replicas_field(pod: Obj) -> str:
    """The status.replicas field selector."""
    return str((pod.get("status") or {}).get("replicas") or 0)


class WorkloadStrategy(Strategy):
    """The shared rules: the selector chooses the template's pods and never changes."""

    has_status = True
    kind = ""
    words = ""
    """What the kind is called in upstream's faults about its selector."""
    counts: tuple[str, ...] = ("replicas", "minReadySeconds", "revisionHistoryLimit")
    mutable_selector = False

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        default_template(spec)
        self.default_spec(spec)

    def default_spec(self, spec: Obj) -> None:
        """The kind's own defaults."""

    def validate(self, obj: Obj) -> list[Cause]:
        spec = obj["spec"]
        found = [c for field in self.counts for c in rules.not_negative(f"spec.{field}", spec.get(field))]
        found += selector_faults(spec, self.words)
        found += workload_template("spec.template", spec, self.kind)
        found += self.validate_spec(spec)
        return found

    def validate_spec(self, spec: Obj) -> Faults:
        """The kind's own rules."""
        yield from ()

    def validate_update(self, obj: Obj, old: Obj, context: Any) -> list[Cause]:
        if context.subresource == "status":
            return list(status_faults(obj.get("status") or {}))
        found = self.validate(obj)
        if not self.mutable_selector:
            found += rules.unchanged("spec.selector", obj["spec"].get("selector"), old["spec"].get("selector"))
        return found

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        template = obj["spec"].get("template")
        return template_warnings(template) if template and (old is None or template != old["spec"].get("template")) else []


def selector_faults(spec: Obj, words: str) -> Faults:
    """A selector that is there, is sound, and selects something."""
    selector = spec.get("selector")
    if selector is None:
        yield Cause.required("spec.selector")
        return
    yield from rules.selector("spec.selector", selector)
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield Cause.invalid("spec.selector", selector, EMPTY_SELECTOR.format(words))


_COUNTS = (
    "replicas", "fullyLabeledReplicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas", "currentReplicas",
    "observedGeneration", "collisionCount", "terminatingReplicas",
)  # fmt: skip


def status_faults(status: Obj) -> Faults:
    """Counts that contradict one another."""
    for field in _COUNTS:
        yield from rules.not_negative(f"status.{field}", status.get(field))
    total, ready = status.get("replicas") or 0, status.get("readyReplicas") or 0
    for field in ("fullyLabeledReplicas", "updatedReplicas", "readyReplicas", "availableReplicas", "currentReplicas"):
        if (status.get(field) or 0) > total:
            yield Cause.invalid(f"status.{field}", status[field], "cannot be greater than status.replicas")
    if (status.get("availableReplicas") or 0) > ready:
        yield Cause.invalid("status.availableReplicas", status["availableReplicas"], "cannot be greater than readyReplicas")


def fill(spec: Obj, **defaults: Any) -> None:
    """Set what is absent; a function makes the value where it must not be shared."""
    for name, value in defaults.items():
        if spec.get(name) is None:
            spec[name] = value() if isinstance(value, Callable) else value  # type: ignore[arg-type]
