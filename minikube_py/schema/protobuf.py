"""Kubernetes's protobuf wire format, read: kubectl's typed commands and client-go send it (application/vnd.kubernetes.protobuf).

A body is four magic bytes and a runtime.Unknown that names the kind and holds the object. The object is walked with the field numbers of
protobuf_fields.txt (made by scripts/protobuf_table, which says where they come from) and the types of the definitions, into the same JSON
value that the JSON form of the object would give: zero values that Go's omitempty leaves out are left out, pointers to zero are kept.

Rules of the wire: https://protobuf.dev/programming-guides/encoding/ ; of the envelope:
https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from minikube_py.schema import definitions
from minikube_py.schema.errors import DecodeError
from minikube_py.schema.model import Kind, Struct, Type

MAGIC = b"k8s\x00"
MEDIA_TYPE = "application/vnd.kubernetes.protobuf"

_MAX_DEPTH = 100
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Reader = Callable[[int, Any, int], Any]
"""Turns one wire value (wire type, value, depth) into a JSON value; None means that nothing is to be kept."""


def decode(body: bytes) -> tuple[str, str, dict[str, Any]]:
    """(apiVersion, kind, object) of a body. Raises DecodeError; a kind that is not built in is one too."""
    if not body.startswith(MAGIC):
        raise DecodeError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    api_version = kind = ""
    raw = b""
    for number, _, value in _fields(memoryview(body)[4:]):
        if number == 1:
            for inner, _, text in _fields(value):
                if inner == 1:
                    api_version = _text(text)
                elif inner == 2:
                    kind = _text(text)
        elif number == 2:
            raw = value
    group, _, version = api_version.rpartition("/")
    loaded = definitions.load()
    try:
        name = loaded.definition(group, version, kind)
        _table()[name]
    except KeyError:
        raise DecodeError(f'no kind "{kind}" is registered for version "{api_version}"') from None
    return api_version, kind, {"apiVersion": api_version, "kind": kind, **_message(raw, _codec(name, name), 0)}


class _Field(NamedTuple):
    """One field: its JSON name ("" for an inlined message), how it is read, and what becomes of its value."""

    name: str
    read: Reader
    repeated: bool = False
    mapping: bool = False
    keep_zero: bool = False


class _Codec(NamedTuple):
    fields: Mapping[int, _Field]


@cache
def _table() -> Mapping[str, Mapping[int, str]]:
    """Definition name → field number → field as the table writes it."""
    messages: dict[str, dict[int, str]] = {}
    for line in (Path(__file__).parent / "protobuf_fields.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, *fields = line.split(" ")
            messages[name] = {int(number): field for field, _, number in (f.rpartition("=") for f in fields)}
    return messages


@cache
def _codec(message: str, definition: str) -> _Codec:
    """How a message is read. An inlined message has numbers of its own, and its fields are found in the definition around it."""
    struct_ = definitions.load().struct(definition)
    fields: dict[int, _Field] = {}
    for number, entry in _table().get(message, {}).items():
        if entry.startswith("@"):
            fields[number] = _Field("", _inlined(entry[1:], definition))
            continue
        name = entry.rstrip("*")
        type_ = struct_.fields.get(name)
        if type_ is not None:
            fields[number] = _field(name, type_, keep_zero=entry.endswith("*") or _required(struct_, name))
    return _Codec(fields)


def _required(struct_: Struct, name: str) -> bool:
    return name in struct_.required


def _field(name: str, type_: Type, keep_zero: bool) -> _Field:
    if type_.kind is Kind.LIST:
        assert type_.items is not None
        return _Field(name, _reader(type_.items), repeated=True)
    if type_.kind is Kind.MAP:
        assert type_.items is not None
        return _Field(name, _entry(_reader(type_.items)), mapping=True)
    return _Field(name, _reader(type_), keep_zero=keep_zero)


def _message(data: Any, codec: _Codec, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise DecodeError("exceeded max depth")
    out: dict[str, Any] = {}
    fields = codec.fields
    for number, wire, value in _fields(data):
        field = fields.get(number)
        if field is None:
            continue
        if field.repeated and (wire != _BYTES or field.read in _PACKABLE):
            found = [field.read(wire, each, depth) for each in _packed(wire, value)]
            out.setdefault(field.name, []).extend(found)
            continue
        json_value = field.read(wire, value, depth + 1)
        if not field.name:
            out.update(json_value)
        elif field.repeated:
            out.setdefault(field.name, []).append(json_value)
        elif field.mapping:
            out.setdefault(field.name, {}).update(json_value)
        elif json_value is not None and (field.keep_zero or json_value.__class__ is dict or json_value):
            out[field.name] = json_value
    return out


def _packed(wire: int, value: Any) -> list[int]:
    if wire != _BYTES:
        return [value]
    numbers = []
    position = 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(number)
    return numbers


def _fields(data: Any) -> Any:
    """(number, wire type, value) of each field: ints for numbers, memoryviews for the rest. Raises DecodeError."""
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position)
        wire = key & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield key >> 3, wire, value
            continue
        if wire == _BYTES:
            size, position = _varint(data, position)
        elif wire == _FIXED64:
            size = 8
        elif wire == _FIXED32:
            size = 4
        else:
            raise DecodeError(f"proto: illegal wireType {wire}")
        if key >> 3 == 0:
            raise DecodeError("proto: illegal tag 0")
        if position + size > end:
            raise DecodeError("unexpected EOF")
        yield key >> 3, wire, data[position : position + size]
        position += size


def _varint(data: Any, position: int) -> tuple[int, int]:
    result = shift = 0
    try:
        while True:
            byte = data[position]
            position += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result & 0xFFFFFFFFFFFFFFFF, position
            shift += 7
            if shift > 63:
                raise DecodeError("proto: integer overflow")
    except IndexError:
        raise DecodeError("unexpected EOF") from None


# Readers of values


def _reader(type_: Type) -> Reader:
    if type_.kind is Kind.STRUCT:
        return _struct(type_.name)
    if type_.kind is Kind.LIST:
        assert type_.items is not None
        # a list where protobuf has no repeated field (the values of a map) is a message of its own, with its items as field 1
        return _wrapped_list(_reader(type_.items))
    if type_.kind is Kind.MAP:
        raise DecodeError("a map of maps has no protobuf form")
    return _SCALARS[type_.name]


@cache
def _struct(name: str) -> Reader:
    # the codec is looked up at the call: types may contain themselves
    def read(wire: int, value: Any, depth: int) -> Any:
        return _message(_view(wire, value), _codec(name, name), depth)

    return read


def _inlined(message: str, definition: str) -> Reader:
    def read(wire: int, value: Any, depth: int) -> Any:
        return _message(_view(wire, value), _codec(message, definition), depth)

    return read


def _wrapped_list(read_item: Reader) -> Reader:
    def read(wire: int, value: Any, depth: int) -> Any:
        return [read_item(w, v, depth + 1) for number, w, v in _fields(_view(wire, value)) if number == 1]

    return read


def _entry(read_value: Reader) -> Reader:
    def read(wire: int, value: Any, depth: int) -> Any:
        key: str = ""
        # a value that is left out is its type's zero: the empty message, text or bytes
        found = read_value(_BYTES, memoryview(b""), depth) if read_value is not _number else 0
        for number, inner, item in _fields(_view(wire, value)):
            if number == 1:
                key = _text(item)
            elif number == 2:
                found = read_value(inner, item, depth)
        return {key: found}

    return read


def _view(wire: int, value: Any) -> Any:
    if wire != _BYTES:
        raise DecodeError(f"proto: wrong wireType = {wire}")
    return value


def _text(value: Any) -> str:
    try:
        return bytes(_view(_BYTES, value) if not isinstance(value, int) else b"").decode()
    except UnicodeDecodeError:
        raise DecodeError("proto: string field contains invalid UTF-8") from None


def _string(wire: int, value: Any, depth: int) -> str:
    return _text(_view(wire, value))


def _bytes(wire: int, value: Any, depth: int) -> str:
    return base64.b64encode(_view(wire, value)).decode()


def _number(wire: int, value: Any, depth: int) -> int:
    if wire != _VARINT:
        if wire == _BYTES:
            raise DecodeError("proto: wrong wireType = 2 for an integer")
        return int.from_bytes(value, "little", signed=True)
    number = int(value)
    return number - (1 << 64) if number >> 63 else number


def _boolean(wire: int, value: Any, depth: int) -> bool:
    return bool(_number(wire, value, depth))


def _double(wire: int, value: Any, depth: int) -> float:
    if wire != _FIXED64:
        raise DecodeError(f"proto: wrong wireType = {wire} for a double")
    return float(struct.unpack("<d", value)[0])


def _quantity(wire: int, value: Any, depth: int) -> str:
    text = next((_text(v) for number, _, v in _fields(_view(wire, value)) if number == 1), "")
    return text or "0"


def _int_or_string(wire: int, value: Any, depth: int) -> int | str:
    parts = {number: (inner, item) for number, inner, item in _fields(_view(wire, value))}
    if parts.get(1, (0, 0))[1] == 1:
        return _string(*parts[3], depth) if 3 in parts else ""
    return _number(*parts[2], depth) if 2 in parts else 0


def _time(wire: int, value: Any, depth: int) -> str | None:
    found = _seconds_nanos(_view(wire, value))
    return None if found is None else f"{_date(found[0])}Z"


def _micro_time(wire: int, value: Any, depth: int) -> str | None:
    found = _seconds_nanos(_view(wire, value))
    return None if found is None else f"{_date(found[0])}.{found[1] // 1000:06d}Z"


def _seconds_nanos(data: Any) -> tuple[int, int] | None:
    """None for Go's zero time, which is an empty message."""
    parts = {number: _number(wire, value, 0) for number, wire, value in _fields(data)}
    return (parts.get(1, 0), parts.get(2, 0)) if parts else None


def _date(seconds: int) -> str:
    try:
        # not strftime: it does not pad years before 1000
        return (datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        raise DecodeError("a time is out of range") from None


def _any(wire: int, value: Any, depth: int) -> Any:
    """RawExtension, FieldsV1 and JSON hold JSON text in field 1."""
    raw = next((bytes(v) for number, _, v in _fields(_view(wire, value)) if number == 1), b"")
    try:
        return msgspec.json.decode(raw) if raw else None
    except (msgspec.DecodeError, RecursionError) as error:
        raise DecodeError(str(error)) from error


def _schema_or_bool(wire: int, value: Any, depth: int) -> Any:
    parts = {number: (inner, item) for number, inner, item in _fields(_view(wire, value))}
    if 2 in parts:
        return _struct(_JSON_SCHEMA)(*parts[2], depth + 1)
    return _boolean(*parts[1], depth) if 1 in parts else False


def _schema_or_array(wire: int, value: Any, depth: int) -> Any:
    schemas = [(number, _struct(_JSON_SCHEMA)(inner, item, depth + 1)) for number, inner, item in _fields(_view(wire, value))]
    several = [schema for number, schema in schemas if number == 2]
    return several or (schemas[0][1] if schemas else None)


def _schema_or_strings(wire: int, value: Any, depth: int) -> Any:
    strings = []
    for number, inner, item in _fields(_view(wire, value)):
        if number == 1:
            return _struct(_JSON_SCHEMA)(inner, item, depth + 1)
        strings.append(_string(inner, item, depth))
    return strings


_JSON_SCHEMA = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"

_SCALARS: Mapping[str, Reader] = {
    "string": _string,
    "bytes": _bytes,
    "int32": _number,
    "int64": _number,
    "boolean": _boolean,
    "double": _double,
    "quantity": _quantity,
    "intOrString": _int_or_string,
    "time": _time,
    "microTime": _micro_time,
    "any": _any,
    "schemaOrBool": _schema_or_bool,
    "schemaOrArray": _schema_or_array,
    "schemaOrStringArray": _schema_or_strings,
}
_PACKABLE = frozenset({_number, _boolean})
