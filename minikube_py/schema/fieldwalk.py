"""Walks objects by their type to find the field paths in them: all of one object, or those in which two differ.

A leaf is a scalar, what the type calls atomic, and an empty struct, map or list. A struct, map or list that comes or goes is itself a path,
beside what is in it; one that Go always has (a struct that is no pointer: spec, metadata, a pod template; a list that is always written)
neither comes nor goes as long as what holds it is there.

The walkers of one object are closures made per type at first use, since every create needs one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from minikube_py.schema.fieldset import LEAF, SELF, FieldSet
from minikube_py.schema.model import Kind, Type

Walk = Callable[[Any], dict[str, Any]]

_ALWAYS_THERE = frozenset(
    {
        "metadata",
        "spec",
        "status",
        "template",
        "strategy",
        "updateStrategy",
        "jobTemplate",
        "resources",
        "roleRef",
        "involvedObject",
        "source",
        "scaleTargetRef",
        "podSelector",
        "loadBalancer",
        "daemonEndpoints",
        "kubeletEndpoint",
        "nodeInfo",
        "clientConfig",
        "names",
        "conversion",
    }
)
"""Struct fields that are no pointers in Go. The definitions do not say which are; these are the ones on the way from an object's root."""


def added_to_nothing(type_: Type, value: Mapping[str, Any]) -> dict[str, Any]:
    """All paths of a new object."""
    return _struct(type_, True)(value)


def compared(type_: Type, old: Any, new: Any) -> tuple[FieldSet, FieldSet, FieldSet]:
    """The paths that are added, changed and removed between two objects of a type."""
    out: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = ({}, {}, {})
    _compare(type_, old, new, out, True)
    return out


@lru_cache(maxsize=4096)
def _name(field: str) -> str:
    return f"f:{field}"


def _key(item: Any, keys: tuple[str, ...]) -> str:
    """The path element of an item of a keyed list."""
    if len(keys) == 1:
        value = item.get(keys[0])
        return _single(keys[0], value) if value.__class__ is str and len(value) <= 63 else _made(keys[0], value)
    return "k:" + orjson.dumps({key: item[key] for key in sorted(keys) if key in item}).decode()


def _made(key: str, value: Any) -> str:
    return f'k:{{"{key}":{orjson.dumps(value).decode()}}}'


_single = lru_cache(maxsize=1024)(_made)


def _value(item: Any) -> str:
    return f"v:{orjson.dumps(item).decode()}"


def _always(field: str, type_: Type, required: bool) -> bool:
    """Whether Go's struct always has the field."""
    return field in _ALWAYS_THERE if type_.kind is Kind.STRUCT else required and type_.kind is Kind.LIST


# ---- one object ----


def _walk(type_: Type, there: bool) -> Walk | None:
    """What finds the paths below a value of this type; None for a leaf. `there` says that the value itself does not come."""
    if type_.atomic:
        return None
    if type_.kind is Kind.STRUCT:
        return _struct(type_, there)
    assert type_.items is not None
    child = _walk(type_.items, False)
    if type_.kind is Kind.MAP:
        return _map_of_leaves if child is None else _map_walk(child)
    if type_.list_type == "set":
        return _set_walk(there)
    return _list_walk(type_.list_map_keys, child, there)


def _struct(type_: Type, there: bool) -> Walk:
    struct = type_.struct
    found = struct.walks.get(there)
    if found is not None:
        return found
    table: dict[str, tuple[str, Walk | None, bool]] = {}

    def walk(value: Any) -> dict[str, Any]:
        out: dict[str, Any] = {} if there else {SELF: LEAF}
        for key, item in value.items():
            entry = table.get(key)
            if entry is None:
                entry = table[key] = at(key)
            element, child, always = entry
            if child is None or not item:
                if not always:
                    out[element] = LEAF
            elif inner := child(item):
                out[element] = inner
        return out

    def at(key: str) -> tuple[str, Walk | None, bool]:
        field = struct.fields.get(key)
        if field is None:
            return _name(key), None, False
        always = there and _always(key, field, key in struct.required)
        child = _walk(field, always)
        return _name(key), child, always and child is not None

    struct.walks[there] = walk
    return walk


def _map_of_leaves(value: Any) -> dict[str, Any]:
    out: dict[str, Any] = {SELF: LEAF}
    for key in value:
        out[f"f:{key}"] = LEAF
    return out


def _map_walk(child: Walk) -> Walk:
    def walk(value: Any) -> dict[str, Any]:
        return {SELF: LEAF, **{f"f:{key}": child(item) if item else LEAF for key, item in value.items()}}

    return walk


def _set_walk(there: bool) -> Walk:
    def walk(value: Any) -> dict[str, Any]:
        out: dict[str, Any] = {} if there else {SELF: LEAF}
        for item in value:
            out[_value(item)] = LEAF
        return out

    return walk


def _list_walk(keys: tuple[str, ...], child: Walk | None, there: bool) -> Walk:
    def walk(value: Any) -> dict[str, Any]:
        out: dict[str, Any] = {} if there else {SELF: LEAF}
        for item in value:
            out[_key(item, keys)] = LEAF if child is None or not item else child(item)
        return out

    return walk


# ---- two objects ----

Difference = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]


def _compare(type_: Type, old: Any, new: Any, out: Difference, there: bool) -> None:
    """Add to `out` the paths below a value that is on both sides."""
    if type_.kind is Kind.STRUCT:
        struct = type_.struct
        for key in _either(old, new):
            before, after = old.get(key), new.get(key)
            if before == after:
                continue
            field = struct.fields.get(key)
            always = there and field is not None and _always(key, field, key in struct.required)
            _compare_at(_name(key), field, before, after, out, always)
        return
    assert type_.items is not None
    if type_.kind is Kind.MAP:
        for key in _either(old, new):
            _compare_at(f"f:{key}", type_.items, old.get(key), new.get(key), out, False)
        return
    if type_.list_type == "set":
        before, after = ({_value(item) for item in side} for side in (old, new))
        out[0].update(dict.fromkeys(after - before, LEAF))
        out[2].update(dict.fromkeys(before - after, LEAF))
        return
    items_before, items_after = ({_key(item, type_.list_map_keys): item for item in side} for side in (old, new))
    for element in _either(items_before, items_after):
        _compare_at(element, type_.items, items_before.get(element), items_after.get(element), out, False)


def _either(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    if old.keys() == new.keys():
        return new
    return [*new, *(key for key in old if key not in new)]


def _compare_at(element: str, type_: Type | None, old: Any, new: Any, out: Difference, always: bool) -> None:
    """Add to `out` what differs at one path element; None is a value that is not there."""
    if old == new:
        return
    if type_ is None or type_.atomic:
        out[0 if old is None else 2 if new is None else 1][element] = LEAF
        return
    if (old is None or new is None) and not always:
        side = old if new is None else new
        child = _walk(type_, False) if side else None
        out[0 if old is None else 2][element] = child(side) if child else LEAF
        return
    nothing: Any = [] if type_.kind is Kind.LIST else {}
    inner: Difference = ({}, {}, {})
    _compare(type_, old or nothing, new or nothing, inner, always)
    for total, part in zip(out, inner, strict=True):
        if part:
            total[element] = part
