"""Pod templates that stand alone, and controller revisions. Upstream: pkg/registry/{core/podtemplate,apps/controllerrevision}."""

from __future__ import annotations

from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.podspec import template
from minikube_py.resources.podspec_defaults import default_template
from minikube_py.resources.podspec_warnings import template_warnings


class ControllerRevisionStrategy(Strategy):
    """A state that a controller had; the state itself never changes."""

    has_generation = False

    def validate(self, obj: Obj) -> list[Cause]:
        found = list(rules.not_negative("revision", obj.get("revision")))
        if obj.get("data") is None:
            found.append(Cause.required("data", "data is mandatory"))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        found = self.validate(obj)
        if obj.get("data") != old.get("data"):
            found.append(Cause.invalid("data", obj.get("data"), rules.IMMUTABLE))
        return found


class PodTemplateStrategy(Strategy):
    """A template that stands alone."""

    def default(self, obj: Obj) -> None:
        obj.setdefault("template", {})
        default_template(obj)

    def validate(self, obj: Obj) -> list[Cause]:
        return list(template("template", obj.get("template") or {}))

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        return template_warnings(obj.get("template") or {}, "template")
