"""What becomes of the things that a component says about objects: a new Event, one more in an Event's count, or nothing.

The rules are those of client-go's correlator (tools/record/events_cache.go): the same object, type, reason and message is a repeat of the
same Event, which raises its count. Ten different messages of one reason about one object, none ten minutes after the one before, are one
Event from the tenth on, whose message is the latest. About one object 25 things of a type are said in a row, then one in five minutes; what
is left unsaid counts all the same.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

from minikube_py.meta import names

V = TypeVar("V")
Key = tuple[str, ...]

_REMEMBERED = 4096
_REMEMBERED_SECONDS = 1200.0
"""What is said again is said within this: the longest waits between tries, here and upstream, are 1,000 seconds."""
_DIFFERENT = 10
_DIFFERENT_WINDOW = 600.0
_BURST = 25.0
_PER_SECOND = 1 / 300
_COMBINED = "(combined from similar events): "


class Said(NamedTuple):
    """Something about an object (`regarding`: an ObjectReference), at a time in seconds since the epoch."""

    regarding: Mapping[str, str]
    type: str
    reason: str
    message: str
    at: float


class Correlated(NamedTuple):
    """An Event as it is to be now: `key` is the same for all that goes into it, `times` how often it was said, `first` when that began."""

    said: Said
    key: Key
    name: str
    message: str
    times: int
    first: float


class Correlator:
    """Remembers what one component has said a while ago: of the most recent objects and Events."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._events: _Recent[tuple[str, int, float]] = _Recent(remembered)
        self._similar: _Recent[tuple[str, ...]] = _Recent(remembered)
        self._left: _Recent[float] = _Recent(remembered)

    def correlate(self, said: Said) -> Correlated | None:
        """The Event that this makes, None where enough was said of the object."""
        key, message = self._combine(said)
        _, (name, count, first) = self._events.get(key) or (said.at, (_name(said), 0, said.at))
        self._events.put(key, (name, count + 1, first), said.at)
        if not self._may_say(said):
            return None
        return Correlated(said, key, name, message, count + 1, first)

    def _combine(self, said: Said) -> tuple[Key, str]:
        """Which Event it belongs to, and the Event's message."""
        about = said.regarding
        key = (*_object(about), said.type, said.reason)
        last, messages = self._similar.get(key) or (said.at, ())
        if said.at - last > _DIFFERENT_WINDOW:
            messages = ()
        if said.message not in messages:
            messages = (*messages, said.message)
        self._similar.put(key, messages[: _DIFFERENT - 1], said.at)
        if len(messages) < _DIFFERENT:
            return (*key, about.get("fieldPath", ""), said.message), said.message
        return key, _COMBINED + said.message

    def _may_say(self, said: Said) -> bool:
        key = (*_object(said.regarding), said.type)
        at, left = self._left.get(key) or (said.at, _BURST)
        left = min(_BURST, left + max(said.at - at, 0.0) * _PER_SECOND)
        self._left.put(key, left - 1 if left >= 1 else left, said.at)
        return left >= 1


def _name(said: Said) -> str:
    """An Event's name: the object's and the time, unless that is too long or the object's is none that an Event may have."""
    name = f"{said.regarding['name']}.{int(said.at * 1e9):x}"
    return str(uuid.uuid4()) if names.dns1123_subdomain(name) else name


def _object(about: Mapping[str, str]) -> Key:
    return tuple(about.get(field, "") for field in ("kind", "namespace", "name", "uid", "apiVersion"))


class _Recent(Generic[V]):
    """The values of those keys that were put last, with the times of that."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Key, tuple[float, V]] = OrderedDict()

    def get(self, key: Key) -> tuple[float, V] | None:
        return self._values.get(key)

    def put(self, key: Key, value: V, at: float) -> None:
        values = self._values
        values[key] = at, value
        values.move_to_end(key)
        while len(values) > self._size or next(iter(values.values()))[0] < at - _REMEMBERED_SECONDS:
            values.popitem(last=False)
