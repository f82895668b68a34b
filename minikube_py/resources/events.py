"""Events: stored as core/v1, served as events.k8s.io/v1 too. Upstream: pkg/registry/core/event, pkg/apis/events/v1/conversion.go."""

from __future__ import annotations

from collections.abc import Mapping

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Converter, Obj, Strategy, WriteContext

_CORE_TO_EVENTS: Mapping[str, str] = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_EVENTS_TO_CORE: Mapping[str, str] = {v: k for k, v in _CORE_TO_EVENTS.items()}
_CORE = {"apiVersion": "v1", "kind": "Event"}
_EVENTS = {"apiVersion": "events.k8s.io/v1", "kind": "Event"}


def _renamed(obj: Obj, header: Mapping[str, str], words: Mapping[str, str]) -> Obj:
    return {**header, **{words.get(name, name): value for name, value in obj.items() if name not in header}}


_REFERENCE = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")

EVENTS_V1 = Converter(
    to_hub=lambda obj: _renamed(obj, _CORE, _EVENTS_TO_CORE),
    from_hub=lambda obj: _renamed(obj, _EVENTS, _CORE_TO_EVENTS),
    fields={
        **{f"regarding.{name}": f"involvedObject.{name}" for name in _REFERENCE},
        "reason": "reason",
        "reportingController": "reportingComponent",
        "type": "type",
    },
)


def _source(obj: Obj) -> str:
    """The component that reported; upstream takes source.component, then reportingComponent."""
    return str((obj.get("source") or {}).get("component") or obj.get("reportingComponent") or "")


class EventStrategy(Strategy):
    """Events may be created by PUT; who writes them may leave out nearly everything."""

    allow_create_on_update = True
    has_generation = False
    selectable_fields = {
        "involvedObject.kind": lambda o: str((o.get("involvedObject") or {}).get("kind") or ""),
        "involvedObject.namespace": lambda o: str((o.get("involvedObject") or {}).get("namespace") or ""),
        "involvedObject.name": lambda o: str((o.get("involvedObject") or {}).get("name") or ""),
        "involvedObject.uid": lambda o: str((o.get("involvedObject") or {}).get("uid") or ""),
        "involvedObject.apiVersion": lambda o: str((o.get("involvedObject") or {}).get("apiVersion") or ""),
        "involvedObject.resourceVersion": lambda o: str((o.get("involvedObject") or {}).get("resourceVersion") or ""),
        "involvedObject.fieldPath": lambda o: str((o.get("involvedObject") or {}).get("fieldPath") or ""),
        "reason": lambda o: str(o.get("reason") or ""),
        "reportingComponent": lambda o: str(o.get("reportingComponent") or ""),
        "source": _source,
        "type": lambda o: str(o.get("type") or ""),
    }

    def prepare_update(self, obj: Obj, old: Obj, context: WriteContext) -> None:
        """Everything of an event may change."""

    def validate(self, obj: Obj) -> list[Cause]:
        """The event lives where what it tells of lives; what has no namespace is told of in default."""
        namespace = obj["metadata"].get("namespace", "")
        involved = (obj.get("involvedObject") or {}).get("namespace", "")
        if obj.get("eventTime"):
            return _validate_new(obj, namespace, involved)
        if not involved and namespace not in ("", "default"):
            return [Cause.invalid("involvedObject.namespace", involved, "does not match event.namespace")]
        if involved and involved != namespace:
            return [Cause.invalid("involvedObject.namespace", involved, "does not match event.namespace")]
        return []


def _validate_new(obj: Obj, namespace: str, involved: str) -> list[Cause]:
    """The rules for events with an eventTime (the newer API's)."""
    found = []
    if (not involved and namespace not in ("default", "kube-system")) or (involved and involved != namespace):
        found.append(Cause.invalid("involvedObject.namespace", involved, "does not match event.namespace"))
    controller = obj.get("reportingComponent") or ""
    if not controller:
        found.append(Cause.required("reportingComponent"))
    else:
        found += rules.checked("reportingComponent", controller, names.label_key)
    for field, limit in (("reportingInstance", 128), ("action", 128), ("reason", 128)):
        value = obj.get(field) or ""
        if not value:
            found.append(Cause.required(field))
        elif len(value) > limit:
            found.append(Cause.invalid(field, "", f"can have at most {limit} characters"))
    if len(obj.get("message") or "") > 1024:
        found.append(Cause.invalid("message", "", "can have at most 1024 characters"))
    return found
