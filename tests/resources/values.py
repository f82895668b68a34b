"""Objects and helpers that the tests of resources share."""

from __future__ import annotations

import copy
from typing import Any

from minikube_py.meta.errors import Cause
from minikube_py.meta.user import User
from minikube_py.resources.api import Resource, WriteContext
from minikube_py.resources.registry import built_in

NOW = 1_700_000_000.0
CREATED = "2023-11-14T22:13:20Z"
USER = User("ann", ("dev", "system:authenticated"), "u1", {"team": ("blue",)})


def resource(plural: str, group: str = "") -> Resource:
    """A built-in resource by name."""
    return next(r for r in built_in() if r.ref.plural == plural and r.ref.group == group)


def context(subresource: str = "") -> WriteContext:
    return WriteContext(USER, NOW, subresource)


def obj(kind: Resource, name: str = "web", **fields: Any) -> dict[str, Any]:
    """An object of a kind, as a client sends it."""
    metadata: dict[str, Any] = {"name": name, **({"namespace": "default"} if kind.ref.namespaced else {})}
    return {"apiVersion": kind.ref.api_version, "kind": kind.ref.kind, "metadata": metadata, **fields}


def created(kind: Resource, given: dict[str, Any]) -> dict[str, Any]:
    """What the server keeps of a new object; the test fails where it is not valid."""
    new = copy.deepcopy(given)
    kind.strategy.default(new)
    new["metadata"].setdefault("uid", "uid-1")
    kind.strategy.prepare_create(new, context())
    assert faults(kind.strategy.validate(new)) == []
    return new


def updated(kind: Resource, old: dict[str, Any], new: dict[str, Any], subresource: str = "") -> tuple[dict[str, Any], list[str]]:
    """What the server makes of a change, and its faults."""
    given = copy.deepcopy(new)
    kind.strategy.default(given)
    kind.strategy.prepare_update(given, copy.deepcopy(old), context(subresource))
    return given, faults(kind.strategy.validate_update(given, old, context(subresource)))


def rejected(kind: Resource, given: dict[str, Any]) -> list[str]:
    """The faults of a new object."""
    new = copy.deepcopy(given)
    kind.strategy.default(new)
    new["metadata"].setdefault("uid", "uid-1")
    kind.strategy.prepare_create(new, context())
    return faults(kind.strategy.validate(new))


def faults(causes: list[Cause]) -> list[str]:
    return [f"{c.field}: {c.detail}" for c in causes]


def pod(**spec: Any) -> dict[str, Any]:
    return obj(resource("pods"), spec={"containers": [{"name": "c", "image": "nginx:1.27"}], **spec})


TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "nginx:1.27"}]},
}
SELECTOR = {"matchLabels": {"app": "web"}}
