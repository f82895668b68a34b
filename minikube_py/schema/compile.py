"""Builds, per type, the function that brings a decoded JSON value into the shape of that type: the hot path of every write.

A walker changes its dict or list in place: fields that the type does not have and nulls go, values that Go would rewrite are rewritten,
empty optional lists and maps go, and so does `false`, 0 or "" where Go's omitempty leaves it out (upstream cannot store them, and a Go
client that writes back what it has read does not send them). It returns the unknown fields' paths, or None, and raises a DecodeError where
a value has the wrong type. Walkers are closures over plain dicts, made when a type is first used; a struct's walker is known before its
fields are compiled, so that types may be recursive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from minikube_py.schema.errors import MismatchError
from minikube_py.schema.model import Kind, Struct, Type, go_name
from minikube_py.schema.scalars import CLASSES, CONVERTERS, ZEROES, kind_of

MAX_REPORTED = 100
"""Unknown fields that are reported, as upstream; further ones go without a word."""

Walker = Callable[[Any], list[str] | None]
Converter = Callable[[Any], Any]


class _Item(NamedTuple):
    """How one value is handled: exact class (nothing to do), converter (of scalars), walker (of dicts and lists)."""

    cls: type | None
    convert: Converter | None
    walk: Walker | None
    zero: Callable[[], Any]


class Compiler:
    """Makes and keeps walkers."""

    def __init__(self, resolve: Callable[[str], Struct]) -> None:
        self._resolve = resolve
        self._structs: dict[str, Walker] = {}

    def struct(self, name: str) -> Walker:
        """The walker of a definition."""
        walker = self._structs.get(name)
        if walker is None:
            walker = self._compile(name)
        return walker

    def _compile(self, name: str) -> Walker:
        struct = self._resolve(name)
        classes: dict[str, type] = {}
        converters: dict[str, Converter] = {}
        walkers: dict[str, Walker] = {}
        omitted: set[str] = set()
        walker = _struct_walker(go_name(name), struct.fields, classes, converters, walkers, omitted, struct.zeroless)
        self._structs[name] = walker
        for field, type_ in struct.fields.items():
            item = self._item(type_)
            if item.cls is not None:
                classes[field] = item.cls
            if item.convert is not None:
                converters[field] = item.convert
            if item.walk is not None:
                walkers[field] = item.walk
            if type_.kind in (Kind.LIST, Kind.MAP) and field not in struct.required:
                omitted.add(field)
        return walker

    def _item(self, type_: Type) -> _Item:
        if type_.kind is Kind.STRUCT:
            return _Item(None, None, self.struct(type_.name), dict)
        if type_.kind is Kind.ANY:
            return _Item(None, _keep, _nothing_unknown, lambda: None)
        if type_.kind is Kind.SCALAR:
            if type_.name.startswith("schemaOr"):
                walk, convert = self._schema_or(type_.name)
                return _Item(None, convert, walk, lambda: None)
            converter = CONVERTERS.get(type_.name)
            return _Item(CLASSES.get(type_.name), converter, _through(converter) if converter else None, lambda: ZEROES.get(type_.name))
        assert type_.items is not None
        items, name = self._item(type_.items), type_.go_name()
        item_name = type_.items.go_name()
        if type_.kind is Kind.LIST:
            return _Item(None, None, _list_walker(name, item_name, items), list)
        if items.cls is str:
            return _Item(None, None, _string_map_walker(name), dict)
        return _Item(None, None, _map_walker(name, item_name, items), dict)

    def _schema_or(self, name: str) -> tuple[Walker, Converter]:
        """The unions of a CRD's schema: JSONSchemaProps, or an array of them (or of strings), or a boolean. Their decoder is not strict."""
        schema = self.struct("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")

        def walk(value: Any) -> None:
            if value.__class__ is dict:
                schema(value)
            elif name == "schemaOrArray":
                for item in value:
                    schema(item)
            elif name == "schemaOrBool":
                raise MismatchError(kind_of(value), "bool")

        def convert(value: Any) -> Any:
            if name == "schemaOrBool" and value.__class__ is bool:
                return value
            raise MismatchError(kind_of(value), "v1.JSONSchemaProps")

        return walk, convert


def _keep(value: Any) -> Any:
    return value


def _nothing_unknown(value: Any) -> None:
    return None


def _through(converter: Converter) -> Walker:
    """A converter as a walker: only ever called with a dict or list, which it refuses."""

    def walk(value: Any) -> None:
        converter(value)

    return walk


def _struct_walker(
    name: str,
    fields: dict[str, Type],
    classes: dict[str, type],
    converters: dict[str, Converter],
    walkers: dict[str, Walker],
    omitted: set[str],
    zeroless: frozenset[str],
) -> Walker:
    class_of, converter_of, walker_of = classes.get, converters.get, walkers.get
    short = name.rpartition(".")[2]

    def walk(value: Any) -> list[str] | None:
        if value.__class__ is not dict:
            raise MismatchError(kind_of(value), name)
        drop: list[str] | None = None
        unknown: list[str] | None = None
        key = ""
        try:
            for key, item in value.items():
                cls = item.__class__
                if cls is class_of(key):
                    if item or key not in zeroless:
                        continue
                elif cls is dict or cls is list:
                    child = walker_of(key)
                    if child is not None:
                        if not item and key in omitted:
                            child(item)
                        else:
                            inner = child(item)
                            if inner:
                                unknown = _more(unknown, key, inner)
                            continue
                    elif key in fields:
                        raise MismatchError(kind_of(item), fields[key].go_name())
                    else:
                        unknown = _one_more(unknown, key)
                elif item is not None:
                    convert = converter_of(key)
                    if convert is not None:
                        converted = convert(item)
                        if converted or key not in zeroless:
                            if converted is not item:
                                value[key] = converted
                            continue
                    elif key in fields:
                        raise MismatchError(kind_of(item), fields[key].go_name())
                    else:
                        unknown = _one_more(unknown, key)
                elif key not in fields:
                    unknown = _one_more(unknown, key)
                if drop is None:
                    drop = [key]
                else:
                    drop.append(key)
        except MismatchError as error:
            error.inside(short, key)
            raise
        if drop is not None:
            for key in drop:
                del value[key]
        return unknown

    return walk


def _one_more(paths: list[str] | None, path: str) -> list[str]:
    """The list with one more path, unless it is full."""
    if paths is None:
        return [path]
    if len(paths) < MAX_REPORTED:
        paths.append(path)
    return paths


def _more(paths: list[str] | None, prefix: str, inner: list[str]) -> list[str]:
    """The list with more paths, found below `prefix`, until it is full."""
    paths = [] if paths is None else paths
    for path in inner[: MAX_REPORTED - len(paths)]:
        paths.append(prefix + path if path[0] == "[" else f"{prefix}.{path}")
    return paths


def _list_walker(name: str, item_name: str, items: _Item) -> Walker:
    wanted, convert, child, zero = items

    def walk(value: Any) -> list[str] | None:
        if value.__class__ is not list:
            raise MismatchError(kind_of(value), name)
        unknown: list[str] | None = None
        for index, item in enumerate(value):
            cls = item.__class__
            if cls is wanted:
                continue
            if child is not None and (cls is dict or cls is list):
                inner = child(item)
                if inner:
                    unknown = _more(unknown, f"[{index}]", inner)
            elif item is None:
                value[index] = zero()
            elif convert is not None:
                value[index] = convert(item)
            else:
                raise MismatchError(kind_of(item), item_name)
        return unknown

    return walk


def _map_walker(name: str, item_name: str, items: _Item) -> Walker:
    wanted, convert, child, zero = items

    def walk(value: Any) -> list[str] | None:
        if value.__class__ is not dict:
            raise MismatchError(kind_of(value), name)
        unknown: list[str] | None = None
        for key, item in value.items():
            cls = item.__class__
            if cls is wanted:
                continue
            if child is not None and (cls is dict or cls is list):
                inner = child(item)
                if inner:
                    unknown = _more(unknown, key, inner)
            elif item is None:
                value[key] = zero()
            elif convert is not None:
                value[key] = convert(item)
            else:
                raise MismatchError(kind_of(item), item_name)
        return unknown

    return walk


def _string_map_walker(name: str) -> Walker:
    """The map of labels, annotations and configuration data, which nearly every object has."""

    def walk(value: Any) -> None:
        if value.__class__ is not dict:
            raise MismatchError(kind_of(value), name)
        for key, item in value.items():
            if item.__class__ is not str:
                if item is not None:
                    raise MismatchError(kind_of(item), "string")
                value[key] = ""

    return walk
