"""The OpenAPI v2 document as protobuf, the one form that client-go asks for: kubectl apply of a List, kubectl diff, older clients.

A JSON document goes in, bytes come out. The messages are gnostic's openapi.v2 (openapiv2/OpenAPIv2.proto in google/gnostic), of which the
fields that our documents have are in the tables below: field number and what the value becomes. A key that no table has is an error, so
that nothing is ever left out silently. Extensions are YAML text on the wire; JSON is YAML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import orjson

MEDIA_TYPE: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
CONTENT_TYPE: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

Encoder = Callable[[Any], bytes]
Table = Mapping[str, tuple[int, Encoder]]


def encode(document: Mapping[str, Any]) -> bytes:
    """The document's bytes. Raises KeyError for what the tables below do not have."""
    return _message(_DOCUMENT, 16, document)


# Values. Each encoder gives a field's content; `_field` puts the number and, as all but bool is length-delimited here, the length before.


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _message(table: Table, extension: int, value: Mapping[str, Any]) -> bytes:
    """A message; keys that begin with x- go to its field for extensions."""
    parts = []
    for key, item in value.items():
        if key.startswith("x-"):
            parts.append(_field(extension, _named(_any, key, item)))
            continue
        number, encoder = table[key]
        if item is True or item is False:
            parts.append(_varint(number << 3) + (b"\1" if item else b"\0"))
        elif isinstance(item, list) and encoder is not _items:
            parts += [_field(number, encoder(one)) for one in item]
        else:
            parts.append(_field(number, encoder(item)))
    return b"".join(parts)


def _text(value: str) -> bytes:
    return value.encode()


def _any(value: Any) -> bytes:
    return _field(2, orjson.dumps(value))


def _named(encoder: Encoder, name: str, value: Any) -> bytes:
    return _field(1, name.encode()) + _field(2, encoder(value))


def _map(number: int, encoder: Encoder, value: Mapping[str, Any]) -> bytes:
    """A map as a list of named values in field `number`."""
    return b"".join(_field(number, _named(encoder, name, item)) for name, item in value.items())


def _schema(value: Mapping[str, Any]) -> bytes:
    return _message(_SCHEMA, 31, value)


def _type(value: str) -> bytes:
    return _field(1, value.encode())


def _items(value: Mapping[str, Any]) -> bytes:
    return _field(1, _schema(value))


def _parameter(value: Mapping[str, Any]) -> bytes:
    """A parameter, wrapped as often as the messages ask for: a body, or one in the query or the path."""
    if value["in"] == "body":
        return _field(1, _field(1, _message(_BODY, 6, value)))
    where, table, extension = _IN[value["in"]]
    return _field(1, _field(2, _field(where, _message(table, extension, value))))


def _response(value: Mapping[str, Any]) -> bytes:
    return _field(1, _message(_RESPONSE, 5, value))


def _security(value: Mapping[str, Any]) -> bytes:
    return _map(1, lambda names: b"".join(_field(1, _text(name)) for name in names), value)


def _api_key(value: Mapping[str, Any]) -> bytes:
    return _field(2, _message(_API_KEY, 5, value))


# Messages: key → (field number, encoder). Booleans need no encoder.

_SCHEMA: Final[dict[str, tuple[int, Encoder]]] = {
    "$ref": (1, _text),
    "format": (2, _text),
    "title": (3, _text),
    "description": (4, _text),
    "default": (5, _any),
    "required": (19, _text),
    "enum": (20, _any),
    "additionalProperties": (21, _items),
    "type": (22, _type),
    "items": (23, _items),
    "properties": (25, partial(_map, 1, _schema)),
}
_BODY: Final[Table] = {"description": (1, _text), "name": (2, _text), "in": (3, _text), "required": (4, _text), "schema": (5, _schema)}
_NAMED: Final[Table] = {"required": (1, _text), "in": (2, _text), "description": (3, _text), "name": (4, _text)}
_IN: Final[Mapping[str, tuple[int, Table, int]]] = {
    "query": (3, {**_NAMED, "type": (6, _text), "format": (7, _text), "uniqueItems": (20, _text)}, 23),
    "path": (4, {**_NAMED, "type": (5, _text), "format": (6, _text), "uniqueItems": (19, _text)}, 22),
}
_RESPONSE: Final[Table] = {"description": (1, _text), "schema": (2, lambda value: _field(1, _schema(value)))}
_OPERATION: Final[Table] = {
    "tags": (1, _text),
    "summary": (2, _text),
    "description": (3, _text),
    "operationId": (5, _text),
    "produces": (6, _text),
    "consumes": (7, _text),
    "parameters": (8, _parameter),
    "responses": (9, partial(_map, 1, _response)),
    "schemes": (10, _text),
}
_operation: Final = partial(_message, _OPERATION, 13)
_PATH: Final[Table] = {
    **{method: (number, _operation) for method, number in (("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8))},
    "parameters": (9, _parameter),
}
_INFO: Final[Table] = {"title": (1, _text), "version": (2, _text), "description": (3, _text)}
_API_KEY: Final[Table] = {"type": (1, _text), "name": (2, _text), "in": (3, _text), "description": (4, _text)}
_DOCUMENT: Final[Table] = {
    "swagger": (1, _text),
    "info": (2, partial(_message, _INFO, 7)),
    "paths": (8, partial(_map, 2, partial(_message, _PATH, 10))),
    "definitions": (9, partial(_map, 1, _schema)),
    "security": (12, _security),
    "securityDefinitions": (13, partial(_map, 1, _api_key)),
}
