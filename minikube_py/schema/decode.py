"""Turns request bodies into JSON values: JSON, and YAML by way of the same values.

What comes out is always plain: dicts with string keys, lists, strings, booleans, None, integers and finite floats, nested no deeper than
orjson writes (254 levels), so that code after it may recurse. Upstream allows 10,000 levels; no object of the API has more than a few
dozen. A body that is what orjson writes for its value has no duplicate keys, and that is most; else they are found by comparing counts, and
looked for in Python only when there are some. Errors are in encoding/json's words.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from minikube_py.schema.errors import DecodeError

MAX_YAML = 128 * 1024
"""Bytes of a YAML body: about 50 ms. kubectl, Helm and the client libraries send JSON or protobuf, whatever the user wrote."""

MAX_EXAMINED = 512 * 1024
"""Bytes of a JSON body that is searched for duplicate keys when the counts say that there may be some: about 100 ms."""

TOO_DEEP = "exceeded max depth"


def parse_json(body: bytes) -> tuple[Any, list[str]]:
    """The value of a JSON text, and the paths of fields that are given twice (the last one counts). Raises DecodeError."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        body = _repaired(body)
        value = orjson.loads(body)
    try:
        again = orjson.dumps(value)
    except TypeError:  # orjson.JSONEncodeError: deeper than it writes
        raise DecodeError(TOO_DEEP) from None
    if body == again or body[:-1] == again:
        return value, []
    compact = body.translate(None, b" \t\r\n")
    if _keys(compact) == _keys(again) and b'\\\\"' not in compact:
        return value, []
    return value, _duplicates(body) if len(body) <= MAX_EXAMINED else []


def parse_yaml(body: bytes) -> tuple[Any, list[str]]:
    """The same for YAML, read as sigs.k8s.io/yaml does: the first document counts. A body that is JSON is parsed as such."""
    if body[:1] in (b"{", b"["):
        try:
            return parse_json(body)
        except DecodeError as error:
            if str(error) == TOO_DEEP:
                raise
    if len(body) > MAX_YAML:
        raise DecodeError(f"yaml: the document has {len(body)} bytes, more than the {MAX_YAML} that are read here: send it as JSON")
    from minikube_py.schema import yaml  # not needed by most servers, and slow to import

    value, duplicates = yaml.parse(body)
    try:
        orjson.dumps(value)
    except TypeError:
        raise DecodeError(TOO_DEEP) from None
    return value, duplicates


def _keys(text: bytes) -> int:
    """How many fields a JSON text has that has no white space between them: the colons that follow a quote which is not within a string,
    where it would be escaped. (A key that ends in a backslash looks like that too.)"""
    escaped = text.count(b'\\":') if b"\\" in text else 0
    return text.count(b'":') - escaped


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written."""


def _duplicates(body: bytes) -> list[str]:
    """The paths of the fields that are there twice, each once, in the order of the text."""
    found: dict[str, None] = {}

    def look(value: Any, path: str) -> None:
        if value.__class__ is _Pairs:
            seen: set[str] = set()
            for key, item in value:
                inner = f"{path}.{key}" if path else key
                if key in seen:
                    found[inner] = None
                seen.add(key)
                if item.__class__ is _Pairs or item.__class__ is list:
                    look(item, inner)
        else:
            for index, item in enumerate(value):
                if item.__class__ is _Pairs or item.__class__ is list:
                    look(item, f"{path}[{index}]")

    document = json.loads(body, object_pairs_hook=_Pairs)
    if document.__class__ is _Pairs or document.__class__ is list:
        look(document, "")
    return list(found)


_ESCAPES = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)


def _repaired(body: bytes) -> bytes:
    """A text that Go reads and orjson does not: what is no UTF-8 and surrogates without a partner become U+FFFD. Raises DecodeError for
    everything else."""
    text = body.decode("utf-8", "replace")
    repaired = _ESCAPES.sub(lambda match: "\\ufffd" if match[1] else match[0], text).encode()
    try:
        orjson.loads(repaired)
    except orjson.JSONDecodeError as error:
        raise DecodeError(TOO_DEEP if "depth limit" in str(error) else _fault(text, error.pos)) from None
    return repaired


_AFTER_VALUE = "after top-level value"
_WORDS = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Extra data": _AFTER_VALUE,
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}
_CUT_OFF = "unexpected end of JSON input"


def _fault(text: str, position: int) -> str:
    """Why a text is not JSON, as encoding/json says it; `position` is where orjson stopped."""
    try:
        json.loads(text, parse_constant=_constant)
    except RecursionError:
        return TOO_DEEP
    except json.JSONDecodeError as error:
        at = error.pos
        while at < len(text) and text[at] in " \t\r\n" and error.msg.startswith(("Expecting", "Illegal")):
            at += 1
        if at >= len(text) or error.msg.startswith("Unterminated string"):
            return _CUT_OFF
        if error.msg.startswith("Illegal trailing comma"):
            at = text.find("}" if "object" in error.msg else "]", at)
        elif error.msg.startswith("Invalid \\") and text[at] == "\\":
            at = min(at + 1, len(text) - 1)
        if error.msg == "Expecting value" and (literal := _literal_fault(text, at)):
            return literal
        words = _WORDS.get(error.msg) or ("looking for beginning of value" if text[at] == "\ufeff" else f"after {_container(text[:at])}")
        return f"invalid character {_quoted(text[at])} {words}"
    except DecodeError as error:
        return str(error)
    except ValueError:  # more digits than Python converts
        return "json: cannot unmarshal number into Go value of type float64"
    number = re.compile(r"-?[\d.]++[eE]\+?\d+").match(text, position)
    return f"json: cannot unmarshal number {number[0] if number else ''} into Go value of type float64"


def _literal_fault(text: str, at: int) -> str:
    """The words for a literal or number that begins well and then goes wrong, else ""."""
    if text[at] == "-":
        return f"invalid character {_quoted(text[at + 1])} in numeric literal" if at + 1 < len(text) else _CUT_OFF
    for literal in ("true", "false", "null"):
        if text[at] == literal[0]:
            good = next(i for i in range(1, len(literal) + 1) if text[at : at + i] != literal[:i]) - 1
            if at + good >= len(text):
                return _CUT_OFF
            return f"invalid character {_quoted(text[at + good])} in literal {literal} (expecting '{literal[good]}')"
    return ""


def _constant(name: str) -> Any:
    raise DecodeError(f"invalid character '{name[0]}' looking for beginning of value")


def _container(before: str) -> str:
    """Whether a text ends within an object or an array."""
    stack: list[str] = []
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', before[-(1 << 18) :]):
        if token[0] in ("[", "{"):
            stack.append(token[0])
        elif token[0] in ("]", "}") and stack:
            stack.pop()
    return "array element" if stack and stack[-1] == "[" else "object key:value pair"


def _quoted(character: str) -> str:
    if character == "'":
        return r"'\''"
    if character == '"':
        return "'\"'"
    return "'" + json.dumps(character, ensure_ascii=False)[1:-1] + "'"
