"""The base of all views: object metadata, owner references, selectors, and the name under which a kind is served."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple, TypeVar

import msgspec

Labels = Mapping[str, str]


class ResourceRef(NamedTuple):
    """How a kind is named and found: group ("" is core), version, plural, kind, scope."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """apiVersion as objects carry it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, or of one object or its subresource."""
        parts = ["/apis/" + self.group if self.group else "/api", self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


class View(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The root of everything under types/."""


class OwnerReference(View, frozen=True):
    apiVersion: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False
    blockOwnerDeletion: bool = False


class ObjectMeta(View, frozen=True):
    name: str = ""
    generateName: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    generation: int = 0
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    deletionGracePeriodSeconds: int | None = None
    labels: Labels = {}
    annotations: Labels = {}
    ownerReferences: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()


class Object(View, frozen=True):
    """An API object of a kind that is served; `resource` says where."""

    resource: ClassVar[ResourceRef]
    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> str:
        """namespace/name, or the name alone where there is no namespace: what work queues carry."""
        meta = self.metadata
        return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


class PartialObject(Object, frozen=True):
    """Metadata of an object of any kind; where it is served is told at the call."""

    apiVersion: str = ""
    kind: str = ""


V = TypeVar("V", bound=Object)


class LabelSelectorRequirement(View, frozen=True):
    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(View, frozen=True):
    matchLabels: Labels = {}
    matchExpressions: tuple[LabelSelectorRequirement, ...] = ()


class ObjectReference(View, frozen=True):
    apiVersion: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resourceVersion: str = ""
    fieldPath: str = ""


class Condition(View, frozen=True):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    lastTransitionTime: str | None = None
    lastHeartbeatTime: str | None = None
    lastProbeTime: str | None = None
    lastUpdateTime: str | None = None
    observedGeneration: int = 0


def split_key(key: str) -> tuple[str, str]:
    """(namespace, name) of a work queue key; the namespace is empty for cluster-scoped objects."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def controller_of(meta: ObjectMeta) -> OwnerReference | None:
    """The owner reference with controller=true, if there is one."""
    for ref in meta.ownerReferences:
        if ref.controller:
            return ref
    return None


def owner_reference(obj: Object) -> dict[str, Any]:
    """A controller's owner reference to an object, to go into what it makes."""
    ref = type(obj).resource
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "name": obj.metadata.name,
        "uid": obj.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def timestamp(seconds: float) -> str:
    """metav1.Time: RFC 3339 in UTC, whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(seconds: float) -> str:
    """metav1.MicroTime: RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(text: str) -> float:
    """Seconds since the epoch of a metav1.Time or MicroTime. Raises ValueError."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
