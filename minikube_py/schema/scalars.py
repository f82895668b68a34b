"""How single values are decoded: numbers within their width, base64, times, quantities. Each function gives the value as it is stored, and
the very same object where nothing changes."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from minikube_py.meta import quantity
from minikube_py.schema.errors import DecodeError, MismatchError

_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)


def described(value: Any) -> str:
    """A JSON value as encoding/json describes it where an integer was wanted."""
    return f"number {quantity.number_text(value)}" if value.__class__ in (int, float) else kind_of(value)


def kind_of(value: Any) -> str:
    """The JSON type of a value, in encoding/json's words."""
    return _KINDS.get(value.__class__, "value")


_KINDS = {str: "string", bool: "bool", int: "number", float: "number", dict: "object", list: "array", type(None): "null"}


def int32(value: Any) -> Any:
    """An int32."""
    if value.__class__ is int and value in _INT32:
        return value
    raise MismatchError(described(value), "int32")


def int64(value: Any) -> Any:
    """An int64."""
    if value.__class__ is int and value in _INT64:
        return value
    raise MismatchError(described(value), "int64")


def double(value: Any) -> Any:
    """A float64."""
    if value.__class__ is int or value.__class__ is float:
        return value
    raise MismatchError(kind_of(value), "float64")


def int_or_string(value: Any) -> Any:
    """An int32 or a string."""
    return value if value.__class__ is str else int32(value)


def amount(value: Any) -> Any:
    """A quantity, in canonical form."""
    if value.__class__ is bool or value.__class__ in (dict, list):
        raise DecodeError(quantity.FORMAT_WRONG)
    try:
        text = quantity.canonical(value)
    except quantity.QuantityError as error:
        raise DecodeError(str(error)) from None
    return value if text == value else text


def base64(value: Any) -> Any:
    """Bytes in standard base64, with padding; line breaks are taken out."""
    if value.__class__ is not str:
        raise MismatchError(kind_of(value), "[]uint8")
    try:
        binascii.a2b_base64(value, strict_mode=True)
        return value
    except ValueError:
        pass
    plain = value.replace("\r", "").replace("\n", "")
    try:
        binascii.a2b_base64(plain, strict_mode=True)
    except ValueError:
        raise DecodeError(f"illegal base64 data at input byte {_illegal(value)}") from None
    return plain


def _illegal(value: str) -> int:
    """The offset that Go's decoder names: the first foreign character, or the group of four that is not whole."""
    seen = 0
    for index, character in enumerate(value):
        if character in "\r\n":
            continue
        if character.isascii() and (character.isalnum() or character in "+/"):
            seen += 1
            continue
        if character != "=" or seen % 4 < 2:
            return index
        rest = [i for i in range(index + 1, len(value)) if value[i] not in "\r\n"]
        if seen % 4 == 2:
            if not rest:
                return len(value)
            if value[rest[0]] != "=":
                return rest[0] - 1
            rest = rest[1:]
        return rest[0] if rest else len(value)
    return len(value) - seen % 4


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})\d*(Z|[+-]\d\d:\d\d)", re.ASCII)
_CACHED = 40
"""Characters of a time that is remembered: a fraction may have any number of digits."""

_TIME_LAYOUT = "2006-01-02T15:04:05Z07:00"
_MICRO_LAYOUT = "2006-01-02T15:04:05.000000Z07:00"


def time(value: Any) -> Any:
    """A metav1.Time: RFC 3339, answered in UTC with whole seconds."""
    if value.__class__ is not str:
        raise MismatchError(kind_of(value), "string")
    text = _time(value) if len(value) <= _CACHED else _time.__wrapped__(value)
    return value if text == value else text


def micro_time(value: Any) -> Any:
    """A metav1.MicroTime: RFC 3339 with microseconds, answered in UTC."""
    if value.__class__ is not str:
        raise MismatchError(kind_of(value), "string")
    text = _micro_time(value) if len(value) <= _CACHED else _micro_time.__wrapped__(value)
    return value if text == value else text


@lru_cache(maxsize=1024)
def _time(text: str) -> str:
    match = _TIME.fullmatch(text)
    if match is None:
        raise DecodeError(_time_fault(text, _TIME_LAYOUT))
    return _instant(text[:19], match[2], text).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


@lru_cache(maxsize=1024)
def _micro_time(text: str) -> str:
    match = _MICRO_TIME.fullmatch(text)
    if match is None:
        raise DecodeError(_time_fault(text, _MICRO_LAYOUT))
    return _instant(text[:19] + match[1], match[2], text).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def _instant(local: str, zone: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(local + ("+00:00" if zone == "Z" else zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise DecodeError(f'parsing time "{text}": {_out_of_range(local)} out of range') from None


def _out_of_range(local: str) -> str:
    month, hour, minute, second = int(local[5:7]), int(local[11:13]), int(local[14:16]), int(local[17:19])
    for part, wrong in (("month", not 1 <= month <= 12), ("hour", hour > 23), ("minute", minute > 59), ("second", second > 59)):
        if wrong:
            return part
    return "day"


_PIECES = re.compile(r"2006|01|02|15|04|05|\.000000|Z07:00|[-T:]")
_PIECE_SHAPES = {"2006": r"\d{4}", ".000000": r"\.\d{6}\d*", "Z07:00": r"Z|[+-]\d\d:\d\d", "05": r"\d\d(?:\.\d+)?"}


def _time_fault(text: str, layout: str) -> str:
    """Go's words for what is wrong: the first piece of the layout that the text does not have."""
    rest = text
    for piece in _PIECES.findall(layout):
        shape = _PIECE_SHAPES.get(piece) or (re.escape(piece) if len(piece) == 1 else r"\d\d")
        if piece == "05" and layout == _MICRO_LAYOUT:
            shape = r"\d\d"
        match = re.match(shape, rest, re.ASCII)
        if match is None:
            return f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "{piece}"'
        rest = rest[match.end() :]
    return f'parsing time "{text}": extra text: "{rest}"'


CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "int32": int32,
    "int64": int64,
    "double": double,
    "intOrString": int_or_string,
    "quantity": amount,
    "bytes": base64,
    "time": time,
    "microTime": micro_time,
}
CLASSES: dict[str, type] = {"string": str, "boolean": bool}
ZEROES: dict[str, Any] = {
    "string": "",
    "boolean": False,
    "int32": 0,
    "int64": 0,
    "double": 0,
    "intOrString": 0,
    "quantity": "0",
    "bytes": "",
}
"""What Go makes of a null inside a list or a map, which cannot be absent."""
