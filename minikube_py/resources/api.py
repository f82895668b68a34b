"""The interface between the generic API machinery and what one kind adds to it.

A `Resource` is a frozen value that says how a kind is named, served and stored; its `Strategy` holds the kind's own rules as pure
functions over JSON values: no input or output, no clock. Built-in kinds come from the OpenAPI definitions and registry.py; a kind made at
run time (a CRD) makes the same value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from minikube_py.meta.errors import Cause
from minikube_py.meta.user import User
from minikube_py.types.meta import ResourceRef

Obj = dict[str, Any]


class WriteContext(NamedTuple):
    """The who and when of one write: `now` in seconds since the epoch; `subresource` is "" for the object itself."""

    user: User
    now: float
    subresource: str = ""
    dry_run: bool = False


class Column(NamedTuple):
    """One column of a Table (metav1.TableColumnDefinition): priority 0 is always shown, above only with -o wide."""

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0


class Columns(NamedTuple):
    """How a kind is printed: `cells(obj, now)` gives one value per definition; `conditions(obj)` marks a row (a pod that has completed)."""

    definitions: tuple[Column, ...]
    cells: Callable[[Obj, float], Sequence[Any]]
    conditions: Callable[[Obj], Sequence[Obj]] | None = None


class Strategy:
    """A kind's own rules; this base class has the generic ones. Objects given to be prepared are changed in place.

    Generic rules: `status` is ignored on the object itself and everything but status (and some metadata) is ignored on /status, where the
    kind has that subresource; metadata.generation starts at 1 and goes up when anything outside metadata and status changes.
    """

    allow_create_on_update = False
    """Whether PUT to a name that does not exist creates (upstream: leases, events, RBAC, …)."""

    allow_unconditional_update = True
    """Whether PUT may leave out metadata.resourceVersion."""

    has_status = False
    initial_status: Mapping[str, Any] = {}
    """The status of a new object, where the kind has one: what a client sends is ignored."""

    keeps_status = False
    """Whether a new object keeps the status that it comes with (nodes: the kubelet registers what it has found)."""

    has_generation = True
    selectable_fields: Mapping[str, Callable[[Obj], str]] = {}
    """Field selectors beside metadata.name and metadata.namespace, with how to read them."""

    def default(self, obj: Obj) -> None:
        """Fill in the defaults of the API version."""

    def prepare_create(self, obj: Obj, context: WriteContext) -> None:
        """Clear what a client may not set at creation."""
        if self.has_status and not self.keeps_status:
            obj["status"] = deepcopy(self.initial_status) if self.initial_status else {}
        if self.has_generation:
            obj["metadata"]["generation"] = 1

    def prepare_update(self, obj: Obj, old: Obj, context: WriteContext) -> None:
        """Carry over what a client may not change here, and count the generation."""
        if self.has_status:
            if context.subresource == "status":
                for name in [n for n in obj if n not in ("metadata", "status", "kind", "apiVersion")]:
                    del obj[name]
                obj.update({n: v for n, v in old.items() if n not in ("metadata", "status", "kind", "apiVersion")})
            elif "status" in old:
                obj["status"] = old["status"]
            else:
                obj.pop("status", None)
        if self.has_generation:
            generation = old["metadata"].get("generation", 0)
            changed = context.subresource != "status" and self._spec(obj) != self._spec(old)
            obj["metadata"]["generation"] = generation + 1 if changed else generation
            if not obj["metadata"]["generation"]:
                del obj["metadata"]["generation"]

    @staticmethod
    def _spec(obj: Obj) -> Obj:
        return {n: v for n, v in obj.items() if n not in ("metadata", "status", "kind", "apiVersion")}

    def validate(self, obj: Obj) -> list[Cause]:
        """The kind's faults in a new object, beside those of its schema and its metadata."""
        return []

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        """The kind's faults in a change; by default those of a new object."""
        return self.validate(obj)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        """What to warn the client of."""
        return []

    def grace_period(self, obj: Obj, requested: int | None) -> int:
        """Seconds between a delete request and the removal: 0 removes at once; above 0 the object stays with a deletionTimestamp."""
        return 0


class Subresource(NamedTuple):
    """A subresource as discovery shows it: its own kind, group and version where they differ from the resource's."""

    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


STANDARD_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """How a kind is named, served and stored. `ref` is the hub: the one version that is stored; `served` are further group versions of the
    same stored objects, converted at the edge (`from_hub`, `to_hub` by ResourceRef)."""

    ref: ResourceRef
    strategy: Strategy
    singular: str
    columns: Columns
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = STANDARD_VERBS
    subresources: Mapping[str, Subresource] = field(default_factory=dict)
    converters: Mapping[ResourceRef, Converter] = field(default_factory=dict)
    name_rule: Callable[[str], str | None] | None = None
    """Checks metadata.name: the fault in words, or None; the default is a DNS subdomain."""
    stored: bool = True
    """Whether objects of the kind are kept. False for what is only asked or done (reviews, bindings): a handler answers."""
    deprecation: str = ""
    """What every request for the kind is warned of ("v1 Endpoints is deprecated in v1.33+; …")."""
    relaxed: Callable[[str], bool] = lambda namespace: False
    """Whether writes in a namespace may lose the last minute in a power cut (events; node leases)."""

    prefix: str = field(init=False, repr=False)
    """The key prefix in the log: /registry/<group or core>/<plural>/."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", f"/registry/{self.ref.group or 'core'}/{self.ref.plural}/")

    def key(self, namespace: str, name: str) -> str:
        """The key of one object in the log."""
        return f"{self.prefix}{namespace}/{name}" if self.ref.namespaced else self.prefix + name


class Converter(NamedTuple):
    """Pure functions between the stored version of a kind and another one."""

    to_hub: Callable[[Obj], Obj]
    from_hub: Callable[[Obj], Obj]
    fields: Mapping[str, str] | None = None
    """What field selectors of this version call the fields that are selectable; None: as the stored version does."""
