"""The definitions of the built-in kinds, from the file that the build step extracts (scripts/build_steps/definitions.py).

Loading keeps each definition as unparsed bytes; a type is parsed, and its walker compiled, when an object of its kind first comes by.
Compiled types are kept for the life of the process; everything here is read-only afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec

from minikube_py.schema.compile import Compiler, Walker
from minikube_py.schema.model import Kind, Struct, Type

DATA = Path(__file__).parent / "data"


class _Kinds(msgspec.Struct):
    """The part of a definition that is read at the start."""

    kinds: list[tuple[str, str, str]] = []


class Definitions:
    """All definitions by name, and the kinds among them."""

    def __init__(self, raw: dict[str, bytes]) -> None:
        self._raw = raw
        self._structs: dict[str, Struct] = {}
        self._schemas: dict[str, Schema] = {}
        self._compiler = Compiler(self.struct)
        self._names: dict[tuple[str, str, str], str] = {}
        decode = msgspec.json.Decoder(_Kinds).decode
        for name, node in raw.items():
            if b'"kinds"' in node:
                for gvk in decode(node).kinds:
                    self._names[gvk] = name

    def kinds(self) -> Iterable[tuple[str, str, str]]:
        """(group, version, kind) of every top-level kind, lists and options included."""
        return self._names.keys()

    def schema(self, group: str, version: str, kind: str) -> Schema:
        """The kind's schema, compiled at first use. Raises KeyError for a kind that is not built in."""
        name = self._names[group, version, kind]
        schema = self._schemas.get(name)
        if schema is None:
            schema = self._schemas[name] = Schema(self, name)
        return schema

    def definition(self, group: str, version: str, kind: str) -> str:
        """The name of the kind's definition, such as io.k8s.api.core.v1.Pod. Raises KeyError."""
        return self._names[group, version, kind]

    def named(self, name: str) -> Schema:
        """The schema of any definition, such as io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta. Raises KeyError."""
        schema = self._schemas.get(name)
        if schema is None:
            if name not in self._raw:
                raise KeyError(name)
            schema = self._schemas[name] = Schema(self, name)
        return schema

    def struct(self, name: str) -> Struct:
        """A definition as a type. Raises KeyError."""
        struct = self._structs.get(name)
        if struct is None:
            struct = self._structs[name] = Struct(name, msgspec.json.decode(self._raw[name]), self.struct)
        return struct

    def walker(self, name: str) -> Walker:
        """The compiled walker of a definition. Raises KeyError."""
        return self._compiler.struct(name)


class Schema:
    """One kind, compiled."""

    def __init__(self, definitions: Definitions, name: str) -> None:
        self._definitions = definitions
        self.name = name

    @cached_property
    def type(self) -> Type:
        """The kind as a type, for patches and managedFields."""
        return Type("#" + self.name, self._definitions.struct)

    @cached_property
    def _walk(self) -> Walker:
        return self._definitions.walker(self.name)

    def properties(self) -> Collection[str]:
        """The names of the root's fields."""
        return self.type.struct.fields.keys()

    def normalize(self, obj: dict[str, Any]) -> list[str]:
        """Bring `obj` into the kind's shape, in place, as decoding into upstream's Go type and storing it would: unknown fields and
        nulls go, values are canonical. Returns the unknown fields' paths (spec.containers[0].foo); raises DecodeError for a value of the
        wrong type, and then `obj` may be half done."""
        return self._walk(obj) or []

    def field(self, *path: str) -> Type:
        """The type at a path of field names; through lists and maps it goes to their items. Raises KeyError."""
        type_ = self.type
        for name in path:
            while type_.kind in (Kind.LIST, Kind.MAP) and type_.items is not None and type_.items.kind is not Kind.SCALAR:
                type_ = type_.items
            type_ = type_.struct.fields[name]
        return type_


@cache
def load() -> Definitions:
    """The definitions of this version of Kubernetes. Raises FileNotFoundError with what to do when the package was not built."""
    path = DATA / "definitions.json"
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: run python scripts/build_hook.py, or install the package") from None
    return Definitions({name: bytes(raw) for name, raw in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()})
