"""The types of the API as values: what a field holds, how a list is keyed, how a patch merges it.

A definition is parsed when its type is first used and kept; types refer to one another by name, since they may be recursive.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Kind(enum.Enum):
    """The shapes of a value."""

    SCALAR = "scalar"
    STRUCT = "struct"
    MAP = "map"
    LIST = "list"
    ANY = "any"
    """Kept as it is: JSON, RawExtension, FieldsV1."""


class Type:
    """The type of a field or item. `name` is the scalar's or definition's name; the rest says what the x-kubernetes-* extensions say."""

    __slots__ = ("_resolve", "_struct", "items", "kind", "list_map_keys", "list_type", "map_type", "merge_key", "name", "strategies")

    def __init__(self, node: Any, resolve: Callable[[str], Struct]) -> None:
        extras: Mapping[str, Any] = node if isinstance(node, dict) else {}
        name: str = extras["type"] if extras else node
        self._resolve = resolve
        self._struct: Struct | None = None
        self.name = name[1:] if name.startswith("#") else name
        self.items: Type | None = Type(extras["items"], resolve) if "items" in extras else None
        self.kind = _kind(name)
        self.list_type: str = extras.get("listType", "")
        self.list_map_keys: tuple[str, ...] = tuple(extras.get("listMapKeys", ()))
        self.map_type: str = extras.get("mapType", "")
        self.merge_key: str = extras.get("mergeKey", "")
        self.strategies: tuple[str, ...] = tuple(s for s in extras.get("strategy", "").split(",") if s)

    @property
    def struct(self) -> Struct:
        """The struct that this type is or refers to; only for Kind.STRUCT."""
        if self._struct is None:
            self._struct = self._resolve(self.name)
        return self._struct

    @property
    def atomic(self) -> bool:
        """Whether the value has one owner as a whole (structured-merge-diff's atomic)."""
        if self.kind is Kind.LIST:
            return self.list_type not in ("map", "set")
        if self.kind is Kind.STRUCT:
            return (self.map_type or self.struct.map_type) == "atomic"
        return self.map_type == "atomic" if self.kind is Kind.MAP else True

    def go_name(self) -> str:
        """The Go type, as encoding/json names it in its errors."""
        if self.kind is Kind.LIST:
            assert self.items is not None
            return "[]" + self.items.go_name()
        if self.kind is Kind.MAP:
            assert self.items is not None
            return "v1.ResourceList" if self.items.name == "quantity" else "map[string]" + self.items.go_name()
        if self.kind is Kind.STRUCT:
            return go_name(self.name)
        return _GO_SCALARS.get(self.name, self.name)


class Struct:
    """One definition: `fields` by JSON name; `required` ones are written even when they are empty, scalars that are `zeroless` are not
    when they are zero."""

    __slots__ = ("fields", "map_type", "name", "required", "walks", "zeroless")

    def __init__(self, name: str, node: Mapping[str, Any], resolve: Callable[[str], Struct]) -> None:
        self.name = name
        self.fields: dict[str, Type] = {field: Type(spec, resolve) for field, spec in node["fields"].items()}
        self.required: frozenset[str] = frozenset(node.get("required", ()))
        self.zeroless: frozenset[str] = frozenset(node.get("zeroless", ()))
        self.map_type: str = node.get("mapType", "")
        self.walks: dict[bool, Callable[[Any], dict[str, Any]]] = {}
        """What fieldwalk has compiled for this struct."""


def go_name(definition: str) -> str:
    """io.k8s.api.apps.v1.DeploymentSpec → v1.DeploymentSpec"""
    return ".".join(definition.rsplit(".", 2)[1:])


def key_of(item: Mapping[str, Any], keys: Sequence[str]) -> tuple[Any, ...]:
    """The identity of an item of a list that is keyed by these fields."""
    return tuple(item.get(key) for key in keys)


_GO_SCALARS = {
    "boolean": "bool",
    "double": "float64",
    "bytes": "[]uint8",
    "quantity": "resource.Quantity",
    "intOrString": "intstr.IntOrString",
}
_SHAPES = {"list": Kind.LIST, "map": Kind.MAP, "any": Kind.ANY}


def _kind(name: str) -> Kind:
    return Kind.STRUCT if name.startswith("#") else _SHAPES.get(name, Kind.SCALAR)
