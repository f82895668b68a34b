"""The form in which stored objects go out: as they are, in another served version, as a Table, as metadata only, as YAML.

What always holds: an object that is asked for in its stored version as JSON goes out as the bytes that the cache holds, unparsed; a list
is those bytes joined, in pieces of about 128 KiB, each without its version and kind, which the list has (Go's typed lists are so too).
Everything else is made from the bytes, and kept while it is likely to be asked again. What takes long for a long list (rows of a Table,
YAML) is made piece by piece too, since others have their turn between two.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

import orjson

from minikube_py.aio import Clock
from minikube_py.apiserver import answers, tables
from minikube_py.apiserver.api import Response
from minikube_py.apiserver.cache import Entry
from minikube_py.apiserver.call import Call
from minikube_py.apiserver.negotiate import JSON, PARTIAL, PLAIN, TABLE, YAML
from minikube_py.meta.errors import NotAcceptable
from minikube_py.resources.api import Resource
from minikube_py.types.meta import ResourceRef

PIECE = 128 * 1024
_TURN_ROWS = 32
"""Rows of a Table in a piece, at most: about 2 ms."""
_TURN_YAML = 2
"""Objects in a piece of YAML: about 5 ms."""
_KEPT_CONVERSIONS = 4096

Buffer = bytes | memoryview


class Presenter:
    """Makes answers of objects and lists."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._converted: dict[tuple[str, int, ResourceRef], bytes] = {}

    def object(self, call: Call, value: bytes, status: int = 200) -> Response:
        """One object, given as its stored version with a resourceVersion."""
        headers = answers.warning_header(call.warnings) if call.warnings else {}
        if call.ref is not call.resource.ref:
            value = convert(call.resource, call.ref, value)
        output = call.output
        if output is PLAIN:
            return Response(status, value, headers=headers)
        if output.transform == TABLE:
            value = self._table(call, (value,))
        elif output.transform == PARTIAL:
            value = tables.partial(value, output.version)
        elif output.transform:
            raise NotAcceptable(f"only the following media types are accepted: {JSON}, {YAML}")
        return Response(status, *self._encode(call, value), headers=headers)

    def value(self, call: Call, entry: Entry) -> bytes:
        """An entry in the version of the call; conversions are kept by revision."""
        ref = call.ref
        if ref is call.resource.ref:
            return entry.value
        key = (entry.key, entry.revision, ref)
        found = self._converted.get(key)
        if found is None:
            if len(self._converted) >= _KEPT_CONVERSIONS:
                self._converted.clear()
            found = self._converted[key] = convert(call.resource, ref, entry.value)
        return found

    def collection(self, call: Call, entries: Sequence[Entry], revision: int, token: str = "", remaining: int = 0) -> Response:
        """A list of entries as of a revision, with where it goes on."""
        headers = answers.warning_header(call.warnings) if call.warnings else {}
        meta = b'{"resourceVersion":"%d"' % revision
        if token:
            meta += b',"continue":"%b"' % token.encode()
            if remaining:
                meta += b',"remainingItemCount":%d' % remaining
        meta += b"}"
        ref = call.ref
        values = [e.value for e in entries] if ref is call.resource.ref else [self.value(call, e) for e in entries]
        if call.output.transform == TABLE:
            if call.output.media == YAML:
                return Response(200, *self._encode(call, self._table(call, values, meta)), headers=headers)
            return self._rows(call, values, meta, headers)
        if call.output.transform:
            kind, api_version = "PartialObjectMetadataList", f"meta.k8s.io/{call.output.version}"
            items = [memoryview(tables.partial(value, call.output.version))[1:] for value in values]
        else:
            kind, api_version = f"{ref.kind}List", ref.api_version
            items = _untyped(values, ref)
        if call.output.media == YAML:
            return Response(200, content_type=YAML, headers=headers, stream=_yaml_pieces(kind, api_version, meta, items), finite=True)
        head = b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (kind.encode(), api_version.encode(), meta)
        if not items:
            return Response(200, head + b"]}", headers=headers)
        head += b"{"
        size = len(head) + sum(map(len, items)) + 2 * (len(items) - 1) + 2
        if size <= PIECE:
            return Response(200, b"%b%b]}" % (head, b",{".join(items)), headers=headers)
        return Response(200, stream=_pieces(head, items, between=b",{"), headers={**headers, "Content-Length": str(size)}, finite=True)

    def _rows(self, call: Call, values: Sequence[bytes], meta: bytes, headers: dict[str, str]) -> Response:
        """A list as a Table."""
        if len(values) <= _TURN_ROWS:
            return Response(200, self._table(call, values, meta), headers=headers)
        include, now = call.request.query.get("includeObject", ""), self._clock.time()
        version = call.output.version
        head = tables.opening(call.resource, meta, include, version=version)
        rows = (tables.row(call.resource, value, include, now, version) for value in values)
        return Response(200, stream=_pieces(head, rows, _TURN_ROWS), headers=headers, finite=True)

    def _table(self, call: Call, values: Sequence[bytes], meta: bytes = b"") -> bytes:
        include, version = call.request.query.get("includeObject", ""), call.output.version
        return tables.table(call.resource, values, include, self._clock.time(), meta, version=version)

    def _encode(self, call: Call, value: bytes) -> tuple[bytes, str]:
        if call.output.media != YAML:
            return value, JSON
        return to_yaml(value), YAML


def convert(resource: Resource, ref: ResourceRef, value: bytes) -> bytes:
    """An object's bytes in another served version."""
    return orjson.dumps(resource.converters[ref].from_hub(orjson.loads(value)))


def to_yaml(value: bytes) -> bytes:
    """JSON bytes as YAML, keys sorted, as upstream prints it."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(orjson.loads(value), Dumper=dumper, sort_keys=True, allow_unicode=True, default_flow_style=False).encode()


def _untyped(values: Sequence[bytes], ref: ResourceRef) -> list[memoryview]:
    """Objects without their version and kind, each from behind its opening brace."""
    typed = b'{"apiVersion":"%b","kind":"%b",' % (ref.api_version.encode(), ref.kind.encode())
    return [memoryview(value)[len(typed) if value.startswith(typed) else 1 :] for value in values]


async def _pieces(head: bytes, values: Iterable[Buffer], most: int = 0, between: bytes = b",") -> AsyncIterator[bytes]:
    """A list's bytes, in pieces of about PIECE and (unless it is 0) of `most` values."""
    parts: list[Buffer] = []
    size = 0
    lead = head
    for value in values:
        parts.append(value)
        size += len(value)
        if size >= PIECE or len(parts) == most:
            yield lead + between.join(parts)
            lead, parts, size = between, [], 0
    yield (lead if parts or lead is head else b"") + between.join(parts) + b"]}"


async def _yaml_pieces(kind: str, api_version: str, meta: bytes, items: Sequence[memoryview]) -> AsyncIterator[bytes]:
    """A list as to_yaml would tell it whole: the fields in order, each item an entry of the sequence."""
    yield to_yaml(orjson.dumps({"apiVersion": api_version})) + (b"items:\n" if items else b"items: []\n")
    for start in range(0, len(items), _TURN_YAML):
        yield to_yaml(b"[{%b]" % b",{".join(items[start : start + _TURN_YAML]))
    yield to_yaml(b'{"kind":"%b","metadata":%b}' % (kind.encode(), meta))
