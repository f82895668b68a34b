"""YAML as sigs.k8s.io/yaml reads it, which is neither YAML 1.1 nor 1.2: yes and on are booleans, 012 is ten, 12:30:45 and dates are
strings.

The value is built from libyaml's events without recursion. Aliases copy what they name, as they will once the value is JSON, and count
towards a budget, so that a few lines cannot stand for gigabytes. Only the first document is read.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from typing import Any

from yaml import CSafeLoader, YAMLError
from yaml import parse as _events
from yaml.events import AliasEvent, DocumentEndEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent, SequenceStartEvent
from yaml.scanner import ScannerError

from minikube_py.schema.errors import DecodeError

MAX_ALIASED = 1 << 20
"""Bytes of text that the aliases of one document may stand for together, each value counting 16 beside its characters."""

_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_NOT_FINITE = {
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INTEGERS = (
    (re.compile(r"([-+]?)0[xX]([0-9a-fA-F]+)"), 16),
    (re.compile(r"([-+]?)0[bB]([01]+)"), 2),
    (re.compile(r"([-+]?)0[oO]?([0-7]+)"), 8),
    (re.compile(r"([-+]?)(0|[1-9][0-9]*)"), 10),
)
_TAG = "tag:yaml.org,2002:"
_MERGE = object()


def parse(body: bytes) -> tuple[Any, list[str]]:
    """The first document's value (None if there is none), and the paths of keys that are given twice. Raises DecodeError."""
    try:
        return _Builder(body).build()
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + isinstance(error, ScannerError) if mark is not None and mark.line else 0
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unknown problem parsing YAML content"
        raise DecodeError(f"yaml: {f'line {line}: ' if line else ''}{problem}") from None


class _Frame:
    """A mapping or sequence that is being built."""

    __slots__ = ("anchor", "key", "path", "seen", "value")

    def __init__(self, value: Any, anchor: str | None, path: str) -> None:
        self.value, self.anchor, self.path = value, anchor, path
        self.key: Any = _Frame
        self.seen: set[str] = set()


class _Builder:
    """Builds one document's value."""

    def __init__(self, body: bytes) -> None:
        self._source: Iterator[Any] = _events(body, Loader=CSafeLoader)
        self._anchors: dict[str, Any] = {}
        self._budget = MAX_ALIASED
        self._stack: list[_Frame] = []
        self._root: Any = None
        self._duplicates: dict[str, None] = {}

    def build(self) -> tuple[Any, list[str]]:
        for event in self._source:
            cls = event.__class__
            if cls is ScalarEvent:
                value = _scalar(event)
                if event.anchor:
                    self._anchors[event.anchor] = value
                self._add(value, event.start_mark.line)
            elif cls is MappingStartEvent or cls is SequenceStartEvent:
                if len(self._stack) > 1000:
                    raise DecodeError("exceeded max depth")
                self._stack.append(_Frame({} if cls is MappingStartEvent else [], event.anchor, self._path()))
            elif cls is MappingEndEvent or cls is SequenceEndEvent:
                frame = self._stack.pop()
                if frame.anchor:
                    self._anchors[frame.anchor] = frame.value
                self._add(frame.value, event.start_mark.line)
            elif cls is AliasEvent:
                if event.anchor not in self._anchors:
                    inside = any(frame.anchor == event.anchor for frame in self._stack)
                    fault = f"anchor '{event.anchor}' value contains itself" if inside else f"unknown anchor '{event.anchor}' referenced"
                    raise DecodeError(f"yaml: {fault}")
                self._add(self._copied(self._anchors[event.anchor]), event.start_mark.line)
            elif cls is DocumentEndEvent:
                break
        return self._root, list(self._duplicates)

    def _path(self) -> str:
        if not self._stack:
            return ""
        frame = self._stack[-1]
        if isinstance(frame.value, list):
            return f"{frame.path}[{len(frame.value)}]"
        return frame.path if frame.key in (_Frame, _MERGE) else f"{frame.path}.{frame.key}" if frame.path else frame.key

    def _add(self, value: Any, line: int) -> None:
        if not self._stack:
            self._root = _plain(value)
            return
        frame = self._stack[-1]
        if isinstance(frame.value, list):
            frame.value.append(_plain(value))
        elif frame.key is _Frame:
            frame.key = _MERGE if value is _MERGE else _key(value)
        elif frame.key is _MERGE:
            _merge(frame.value, value)
            frame.key = _Frame
        else:
            if frame.key in frame.seen:
                self._duplicates[self._path()] = None
            frame.seen.add(frame.key)
            frame.value[frame.key] = _plain(value)
            frame.key = _Frame

    def _copied(self, value: Any) -> Any:
        """A copy of an anchored value, paid for from the budget."""
        self._budget -= 16 + (len(value) if isinstance(value, str) else 0)
        if self._budget < 0:
            raise DecodeError("yaml: document contains excessive aliasing")
        if isinstance(value, dict):
            return {key: self._copied(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._copied(item) for item in value]
        return value


def _plain(value: Any) -> Any:
    return "<<" if value is _MERGE else value


def _merge(into: dict[str, Any], value: Any) -> None:
    for source in reversed(value) if isinstance(value, list) else (value,):
        if not isinstance(source, dict):
            raise DecodeError("yaml: map merge requires map or sequence of maps as the value")
        into.update(source)


def _key(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    kind = {dict: "map", list: "slice", type(None): "<nil>"}.get(value.__class__, "object")
    raise DecodeError(f"unsupported map key of type: {kind}")


def _scalar(event: ScalarEvent) -> Any:
    text: str = event.value
    tag: str | None = event.tag
    if tag is None or tag == "!":
        return _resolve(text) if event.implicit[0] and tag is None else text
    if not tag.startswith(_TAG):
        return text
    name = tag[len(_TAG) :]
    if name == "str" or name == "timestamp":
        return text
    if name == "binary":
        try:
            return base64.b64decode(text).decode("utf-8", "replace")
        except ValueError:
            raise DecodeError("yaml: !!binary value contains invalid base64 data") from None
    value = _resolve(text)
    if name == "float" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if name == _name(value) or name == "merge":
        return value
    raise DecodeError(f"yaml: cannot decode !!{_name(value)} `{text}` as a !!{name}")


def _name(value: Any) -> str:
    return {bool: "bool", int: "int", float: "float", type(None): "null"}.get(value.__class__, "str")


def _resolve(text: str) -> Any:
    """The value of a plain scalar."""
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first == "<" and text == "<<":
        return _MERGE
    if not (first.isdigit() or first in "+-."):
        return text
    if text in _NOT_FINITE:
        raise DecodeError(f"json: unsupported value: {_go_float(_NOT_FINITE[text])}")
    plain = text.replace("_", "")
    for shape, base in _INTEGERS:
        match = shape.fullmatch(plain)
        if match and len(plain) < 70:
            number = int(match[2], base) * (-1 if match[1] == "-" else 1)
            if -(2**63) <= number < 2**64:
                return number
    if _FLOAT.fullmatch(plain):
        value = float(plain)
        if math.isinf(value):
            return text
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    return text


def _go_float(value: float) -> str:
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
