"""Typed access to the API: views out, plain objects and patches in.

Reading gives frozen views; writing takes JSON values (dicts) or ready bytes, never a view: fields that a view does not know must survive.
Errors are the StatusError tree; TransportError where no answer came.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple

import msgspec
import orjson

from minikube_py.client.transport import Transport
from minikube_py.meta.errors import StatusError, from_status
from minikube_py.types.meta import ResourceRef, V


class Patch(enum.Enum):
    """A patch's media type."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


class ListResult(NamedTuple, Generic[V]):
    """The objects of a collection and the revision at which they were read."""

    items: tuple[V, ...]
    resource_version: str


class WatchEvent(NamedTuple, Generic[V]):
    """One event: type is ADDED, MODIFIED, DELETED or BOOKMARK (then only metadata means anything)."""

    type: str
    object: V


class _ListMeta(msgspec.Struct, gc=False):
    resourceVersion: str = ""
    continue_: str = msgspec.field(default="", name="continue")


_decoders: dict[type, tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]] = {}


class _RawEvent(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw


_raw_event = msgspec.json.Decoder(_RawEvent)


def _decoders_for(view: type[V]) -> tuple[msgspec.json.Decoder[V], msgspec.json.Decoder[Any]]:
    found = _decoders.get(view)
    if found is None:
        list_type = msgspec.defstruct(f"{view.__name__}List", [("metadata", _ListMeta), ("items", tuple[view, ...] | None, None)], gc=False)  # type: ignore[valid-type]
        found = _decoders[view] = (msgspec.json.Decoder(view), msgspec.json.Decoder(list_type))
    return found


class Client:
    """Speaks to one API server as one identity."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(
        self, view: type[V], name: str, namespace: str | None = None, *, subresource: str = "", resource: ResourceRef | None = None
    ) -> V:
        """One object. Raises NotFound and the other StatusErrors."""
        ref = resource or view.resource
        body = await self.request("GET", ref.path(namespace, name, subresource))
        return _decoders_for(view)[0].decode(body)

    async def list(
        self,
        view: type[V],
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        page: int = 500,
        resource: ResourceRef | None = None,
    ) -> ListResult[V]:
        """A whole collection, all at one revision, fetched in pages."""
        path = (resource or view.resource).path(namespace)
        query = {"limit": str(page)}
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        if resource_version:
            query["resourceVersion"] = resource_version
        items: list[V] = []
        decoder = _decoders_for(view)[1]
        while True:
            result = decoder.decode(await self.request("GET", path, query=query))
            items.extend(result.items or ())
            if not result.metadata.continue_:
                return ListResult(tuple(items), result.metadata.resourceVersion)
            query["continue"] = result.metadata.continue_
            query.pop("resourceVersion", None)

    async def watch(
        self,
        view: type[V],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout: float = 0,
        resource: ResourceRef | None = None,
    ) -> AsyncIterator[WatchEvent[V]]:
        """Events after a revision, with bookmarks, until the server ends it. An error event is raised as its StatusError (410: Expired)."""
        path = (resource or view.resource).path(namespace)
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": resource_version}
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        if timeout:
            query["timeoutSeconds"] = str(int(timeout))
        decode = _decoders_for(view)[0].decode
        async with self._transport.stream("GET", path, query=query) as (status, chunks):
            if status != 200:
                raise status_error(b"".join([c async for c in chunks]), status)
            async for line in lines(chunks):
                event = _raw_event.decode(line)
                if event.type == "ERROR":
                    raise from_status(orjson.loads(bytes(event.object)))
                yield WatchEvent(event.type, decode(event.object))

    async def create(
        self,
        view: type[V],
        obj: Mapping[str, Any] | bytes,
        namespace: str | None = None,
        *,
        name: str = "",
        subresource: str = "",
        resource: ResourceRef | None = None,
    ) -> V:
        """Create an object (or POST to a subresource of the named one); the stored object comes back."""
        ref = resource or view.resource
        body = await self.request("POST", ref.path(namespace, name, subresource), body=_encode(obj))
        return _decoders_for(view)[0].decode(body)

    async def update(
        self,
        view: type[V],
        obj: Mapping[str, Any] | bytes,
        name: str,
        namespace: str | None = None,
        *,
        subresource: str = "",
        resource: ResourceRef | None = None,
    ) -> V:
        """Replace an object; a resourceVersion inside it makes this a compare-and-swap (Conflict)."""
        ref = resource or view.resource
        body = await self.request("PUT", ref.path(namespace, name, subresource), body=_encode(obj))
        return _decoders_for(view)[0].decode(body)

    async def patch(
        self,
        view: type[V],
        name: str,
        patch: Mapping[str, Any] | Sequence[Any] | bytes,
        namespace: str | None = None,
        *,
        kind: Patch = Patch.MERGE,
        subresource: str = "",
        query: Mapping[str, str] = {},
        resource: ResourceRef | None = None,
    ) -> V:
        """Patch an object; put metadata.uid or metadata.resourceVersion into the patch to make it conditional."""
        ref = resource or view.resource
        path = ref.path(namespace, name, subresource)
        body = await self.request("PATCH", path, body=_encode(patch), content_type=kind.value, query=query)
        return _decoders_for(view)[0].decode(body)

    async def delete(
        self,
        view: type[V],
        name: str,
        namespace: str | None = None,
        *,
        propagation: str = "",
        grace_seconds: int | None = None,
        uid: str = "",
        resource_version: str = "",
        resource: ResourceRef | None = None,
    ) -> None:
        """Delete an object; `uid` and `resource_version` are preconditions (Conflict)."""
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if propagation:
            options["propagationPolicy"] = propagation
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        preconditions = {**({"uid": uid} if uid else {}), **({"resourceVersion": resource_version} if resource_version else {})}
        if preconditions:
            options["preconditions"] = preconditions
        await self.request("DELETE", (resource or view.resource).path(namespace, name), body=orjson.dumps(options))

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str] = {}, body: bytes | None = None, content_type: str = "application/json"
    ) -> bytes:
        """A request below the typed calls: the body of a 2xx answer; any other is raised as its StatusError."""
        answer = await self._transport.request(method, path, query=query, body=body, content_type=content_type)
        if answer.status >= 300:
            raise status_error(answer.body, answer.status)
        return answer.body

    async def close(self) -> None:
        """Let go of the transport."""
        await self._transport.close()


def status_error(body: bytes, code: int) -> StatusError:
    """The StatusError in an answer's body, or one made from its code where the body is something else."""
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        status = {"message": body[:500].decode("utf-8", "replace")}
    return from_status(status, code)


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Newline-separated lines of a stream of chunks."""
    rest = b""
    async for chunk in chunks:
        if rest:
            chunk = rest + chunk
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            if line:
                yield line


def _encode(value: Mapping[str, Any] | Sequence[Any] | bytes) -> bytes:
    return value if isinstance(value, bytes) else orjson.dumps(value)
