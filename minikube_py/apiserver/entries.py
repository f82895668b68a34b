"""Objects and events as the cache keeps them: bytes, and what selectors need, taken out of them once.

Why bytes: GET answers them, LIST joins them, a watch event wraps them; nothing on the read path parses. What flows through: records of the
log in, entries with their resourceVersion in place out.

A stored value starts with `{"apiVersion":"…","kind":"…","metadata":{`, the same for all objects of a kind, so that the resourceVersion
is spliced in at a constant offset. Behind that brace there is always something (every object has a name), so the comma is always right.

What always holds: an entry never changes but for what is computed lazily; it is a msgspec.Struct without garbage-collector tracking,
since a cache of a hundred thousand objects must not be walked by every collection. Nothing in it can refer back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from sys import intern
from types import MappingProxyType
from typing import Any, TypeVar, cast

import msgspec
import orjson

from minikube_py.resources.api import Resource
from minikube_py.store.api import Record

V = TypeVar("V")

ADDED, MODIFIED, DELETED, BOOKMARK, ERROR = "ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"

_NO_LABELS: Mapping[str, str] = MappingProxyType({})


class _Metadata(msgspec.Struct, gc=False):
    uid: str = ""
    labels: dict[str, str] | None = None


class _Probe(msgspec.Struct, gc=False):
    metadata: _Metadata


class _PodSpec(msgspec.Struct, gc=False, frozen=True):
    nodeName: str = ""


class _PodProbe(msgspec.Struct, gc=False):
    spec: _PodSpec = _PodSpec()


_probe = msgspec.json.Decoder(_Probe).decode
_pod_probe = msgspec.json.Decoder(_PodProbe).decode


class Shape:
    """What all entries of one resource have in common."""

    __slots__ = ("by_node", "extractors", "field_names", "offset", "prefix", "resource")

    def __init__(self, resource: Resource) -> None:
        ref = resource.ref
        self.resource = resource
        self.prefix = resource.prefix
        self.offset = len(stored_prefix(ref.api_version, ref.kind))
        self.field_names: tuple[str, ...] = ("metadata.name", "metadata.namespace", *resource.strategy.selectable_fields)
        self.extractors: tuple[Callable[[dict[str, Any]], str], ...] = tuple(resource.strategy.selectable_fields.values())
        self.by_node = (ref.group, ref.plural) == ("", "pods")

    def entry(self, record: Record) -> Entry:
        """The entry of a record; a tombstone's has the last value under the revision of the delete."""
        return self._entry(record.key, record.revision, record.create_revision, self.splice(record.value, record.revision))

    def again(self, entry: Entry, revision: int) -> Entry:
        """An entry's object under another resourceVersion."""
        end = entry.value.index(b",", self.offset) + 1
        return self._entry(
            entry.key, revision, entry.create_revision, self.splice(entry.value[: self.offset] + entry.value[end:], revision)
        )

    def splice(self, value: bytes, revision: int) -> bytes:
        """A stored value with its resourceVersion."""
        return b'%b"resourceVersion":"%d",%b' % (value[: self.offset], revision, value[self.offset :])

    def _entry(self, key: str, revision: int, created: int, value: bytes) -> Entry:
        namespace = ""
        if self.resource.ref.namespaced:
            start = len(self.prefix)
            namespace = intern(key[start : key.index("/", start)])
        node = intern(_pod_probe(value).spec.nodeName) if self.by_node else ""
        return Entry(self, key, namespace, revision, created, value, node)


class Entry(msgspec.Struct, gc=False, eq=False):
    """One object at one revision. `value` has the resourceVersion in it; `node` is a pod's spec.nodeName, else empty."""

    shape: Shape
    key: str
    namespace: str
    revision: int
    create_revision: int
    value: bytes
    node: str = ""
    _metadata: _Metadata | None = None
    _fields: tuple[str, ...] | None = None
    _views: dict[type, Any] | None = None

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.key[self.key.rindex("/") + 1 :]

    @property
    def labels(self) -> Mapping[str, str]:
        """metadata.labels."""
        return self._probed().labels or _NO_LABELS

    @property
    def uid(self) -> str:
        """metadata.uid."""
        return self._probed().uid

    @property
    def fields(self) -> Mapping[str, str]:
        """What field selectors see: metadata.name, metadata.namespace, and the strategy's selectable fields."""
        return dict(zip(self.shape.field_names, self._extracted(), strict=True))

    def field(self, name: str) -> str:
        """One of them. Raises KeyError."""
        if name == "metadata.name":
            return self.name
        if name == "metadata.namespace":
            return self.namespace
        try:
            return self._extracted()[self.shape.field_names.index(name)]
        except ValueError:
            raise KeyError(name) from None

    def view(self, cls: type[V]) -> V:
        """The object as a frozen view, decoded once."""
        if self._views is None:
            self._views = {}
        view = self._views.get(cls)
        if view is None:
            view = self._views[cls] = _decoder(cast("Hashable", cls))(self.value)
        return cast("V", view)

    def decode(self) -> dict[str, Any]:
        """The object as a new dict, the caller's own."""
        return cast("dict[str, Any]", orjson.loads(self.value))

    def _extracted(self) -> tuple[str, ...]:
        if self._fields is None:
            extractors = self.shape.extractors
            obj = self.decode() if extractors else {}
            self._fields = (self.name, self.namespace, *(extract(obj) for extract in extractors))
        return self._fields

    def _probed(self) -> _Metadata:
        if self._metadata is None:
            self._metadata = _probe(self.value).metadata
        return self._metadata


class Event(msgspec.Struct, gc=False, eq=False):
    """One change: `entry` is the object after it (for DELETED: the last one, under the delete's revision), `previous` the one before."""

    type: str
    entry: Entry
    previous: Entry | None

    @property
    def revision(self) -> int:
        """The revision that the change made."""
        return self.entry.revision

    @property
    def departed(self) -> Entry:
        """The object as it last matched a selector that it does not match any more, under this change's revision."""
        if self.type == DELETED or self.previous is None:
            return self.entry
        return self.entry.shape.again(self.previous, self.revision)


def frame(type_: str, value: bytes) -> bytes:
    """One line of a watch response."""
    return b'{"type":"%b","object":%b}\n' % (type_.encode(), value)


def stored_prefix(api_version: str, kind: str) -> bytes:
    """What every stored value of a kind starts with."""
    return f'{{"apiVersion":"{api_version}","kind":"{kind}","metadata":{{'.encode()


@lru_cache(maxsize=256)
def _decoder(cls: Hashable) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(cast("Any", cls)).decode
