"""Small resources, objects and readers for the tests of the cache and of watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from minikube_py.apiserver.cache import Cache
from minikube_py.apiserver.entries import stored_prefix
from minikube_py.resources.api import Columns, Resource, Strategy
from minikube_py.store.api import Durability, Record, Write
from minikube_py.store.sqlite import SQLiteStore, open_sqlite
from minikube_py.types.meta import ResourceRef
from tests.store.invariants import check


class PodStrategy(Strategy):
    selectable_fields = {
        "spec.nodeName": lambda obj: str(obj.get("spec", {}).get("nodeName", "")),
        "status.phase": lambda obj: str(obj.get("status", {}).get("phase", "")),
    }


def resource(plural: str, kind: str, *, group: str = "", namespaced: bool = True, strategy: Strategy | None = None) -> Resource:
    return Resource(
        ref=ResourceRef(group, "v1", plural, kind, namespaced),
        strategy=strategy or Strategy(),
        singular=kind.lower(),
        columns=Columns((), lambda obj, now: ()),
    )


PODS = resource("pods", "Pod", strategy=PodStrategy())
CONFIGMAPS = resource("configmaps", "ConfigMap")
NODES = resource("nodes", "Node", namespaced=False)
DEPLOYMENTS = resource("deployments", "Deployment", group="apps")
EVENTS = resource("events", "Event")
ALL = (PODS, CONFIGMAPS, NODES, DEPLOYMENTS, EVENTS)


def encode(kind: Resource, namespace: str, name: str, labels: dict[str, str] | None = None, **rest: Any) -> bytes:
    """A stored value."""
    ref = kind.ref
    metadata: dict[str, Any] = {"name": name, "uid": f"uid-of-{name}"}
    if ref.namespaced:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    value = orjson.dumps({"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata, **rest})
    assert value.startswith(stored_prefix(ref.api_version, ref.kind))
    return value


class Cluster:
    """A real store with a cache on it, and a way to write."""

    def __init__(self, store: SQLiteStore, cache: Cache) -> None:
        self.store, self.cache = store, cache

    async def put(
        self, kind: Resource, namespace: str, name: str, labels: dict[str, str] | None = None, relaxed: bool = False, **rest: Any
    ) -> Record:
        """Create or update."""
        now = self.cache.of(kind).get(namespace, name)
        durability = Durability.RELAXED if relaxed else Durability.DURABLE
        value = encode(kind, namespace, name, labels, **rest)
        return await self.store.commit(Write(kind.key(namespace, name), now.revision if now else 0, value, "test", durability))

    async def delete(self, kind: Resource, namespace: str, name: str) -> Record:
        now = self.cache.of(kind).get(namespace, name)
        assert now is not None
        return await self.store.commit(Write(now.key, now.revision, None, "test"))


@asynccontextmanager
async def cluster(directory: Path, **options: Any) -> AsyncIterator[Cluster]:
    store = await open_sqlite(directory)
    try:
        yield Cluster(store, await Cache.load(store, ALL, **options))
    finally:
        await store.close()
        await asyncio.to_thread(check, directory)


class Lines:
    """Reads a watch as a client would: one event after the other, as (type, name, revision)."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._events: list[dict[str, Any]] = []
        self.ended = False

    async def next(self) -> dict[str, Any] | None:
        """The next whole event, None at the end."""
        while not self._events:
            try:
                async with asyncio.timeout(5):
                    chunk = await anext(self._chunks)
            except StopAsyncIteration:
                return None
            assert chunk.endswith(b"\n")
            self._events = [json.loads(line) for line in chunk.splitlines()]
        return self._events.pop(0)

    async def take(self, count: int) -> list[tuple[str, str, int]]:
        """So many events, shortened."""
        return [short(await self.next()) for _ in range(count)]

    async def rest(self) -> list[tuple[str, str, int]]:
        """All until the end."""
        found = []
        while (event := await self.next()) is not None:
            found.append(short(event))
        return found

    async def nothing(self, seconds: float = 0.05) -> bool:
        """Whether nothing comes for a moment. The read goes on in the background."""
        assert not self._events
        step = asyncio.ensure_future(anext(self._chunks))
        done, _ = await asyncio.wait([step], timeout=seconds)
        if done:
            self._events = [json.loads(line) for line in step.result().splitlines()]
            return False
        step.cancel()
        await asyncio.wait([step])
        return True


def short(event: dict[str, Any] | None) -> tuple[str, str, int]:
    assert event is not None, "the watch has ended"
    metadata = event["object"].get("metadata", {})
    return event["type"], metadata.get("name", ""), int(metadata.get("resourceVersion", 0))
