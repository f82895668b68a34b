"""The cache: bytes with their resourceVersion, everyone reads his own writes, indexes, what selectors see."""

from __future__ import annotations

import asyncio
import gc
import json
import random
from pathlib import Path

import msgspec
import pytest

from minikube_py.apiserver.cache import Cache
from minikube_py.apiserver.entries import Event, Shape
from minikube_py.store.api import Record, Write
from minikube_py.store.sqlite import open_sqlite
from minikube_py.types.pod import Pod

from .support_cache import CONFIGMAPS, DEPLOYMENTS, NODES, PODS, cluster, encode, resource


async def test_an_object_is_its_bytes_with_the_revision_in_place(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        record = await c.put(CONFIGMAPS, "default", "a", data={"k": "v"})
        entry = c.cache.of(CONFIGMAPS).get("default", "a")
        assert entry is not None
        assert json.loads(entry.value) == {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"resourceVersion": "1", "name": "a", "namespace": "default", "uid": "uid-of-a"},
            "data": {"k": "v"},
        }
        assert (entry.key, entry.namespace, entry.name, entry.uid) == ("/registry/core/configmaps/default/a", "default", "a", "uid-of-a")
        assert (entry.revision, entry.create_revision) == (record.revision, record.create_revision) == (1, 1)
        mine = entry.decode()
        mine["data"] = {}
        assert entry.decode()["data"] == {"k": "v"}


async def test_a_writer_reads_its_write_and_lists_are_in_key_order(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        cache = c.cache.of(CONFIGMAPS)

        async def write(name: str) -> None:
            record = await c.put(CONFIGMAPS, random.choice(("a", "b")), name)
            found = cache.by_key(record.key)
            assert found is not None
            assert found.revision == record.revision
            assert c.cache.revision >= record.revision

        await asyncio.gather(*(write(f"n{i}") for i in range(100)))
        keys = [entry.key for entry in cache.entries()]
        assert keys == sorted(keys)
        assert len(keys) == len(cache) == 100
        assert [e.key for e in cache.entries("a")] == [k for k in keys if "/a/" in k]
        assert cache.entries("none") == []
        await c.delete(CONFIGMAPS, *keys[0].split("/")[-2:])
        assert [entry.key for entry in cache.entries()] == keys[1:]


async def test_namespaces_whose_names_begin_alike_are_apart(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        for namespace in ("a", "a-b", "a.b", "ab"):
            await c.put(CONFIGMAPS, namespace, "x")
        assert [e.namespace for e in c.cache.of(CONFIGMAPS).entries("a")] == ["a"]


async def test_a_restart_loads_the_same(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await c.put(PODS, "default", "a", spec={"nodeName": "one"})
        await c.put(PODS, "default", "b", relaxed=True, spec={"nodeName": "two"})
        await c.put(NODES, "", "one")
        await c.put(DEPLOYMENTS, "x", "y")
        before = {r.ref.plural: [e.value for e in c.cache.of(r).entries()] for r in (PODS, NODES, DEPLOYMENTS)}
    async with cluster(tmp_path) as c:
        assert before == {r.ref.plural: [e.value for e in c.cache.of(r).entries()] for r in (PODS, NODES, DEPLOYMENTS)}
        assert c.cache.of(NODES.ref).revision == 3
        assert [e.name for e in c.cache.of(PODS).entries(node="two")] == ["b"]


async def test_pods_are_found_by_node(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        pods = c.cache.of(PODS)
        for name in "edcba":
            await c.put(PODS, "ns" if name < "c" else "other", name)
        assert pods.entries(node="one") == []
        for name in "eab":
            await c.put(PODS, "ns" if name < "c" else "other", name, spec={"nodeName": "one"})
        assert [e.name for e in pods.entries(node="one")] == ["a", "b", "e"]
        assert [e.name for e in pods.entries("other", node="one")] == ["e"]
        await c.put(PODS, "ns", "a", labels={"x": "y"}, spec={"nodeName": "one"})
        assert pods.entries(node="one")[0].labels == {"x": "y"}
        await c.put(PODS, "ns", "a", spec={"nodeName": "two"})
        await c.delete(PODS, "ns", "b")
        assert [e.name for e in pods.entries(node="one")] == ["e"]
        assert [e.name for e in pods.entries(node="two")] == ["a"]


async def test_what_selectors_see(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await c.put(PODS, "ns", "a", labels={"app": "web"}, spec={"nodeName": "one"}, status={"phase": "Running"})
        entry = c.cache.of(PODS).get("ns", "a")
        assert entry is not None
        assert entry.labels == {"app": "web"}
        assert entry.fields == {"metadata.name": "a", "metadata.namespace": "ns", "spec.nodeName": "one", "status.phase": "Running"}
        assert [entry.field(name) for name in entry.fields] == list(entry.fields.values())
        with pytest.raises(KeyError):
            entry.field("spec.unknown")
        await c.put(NODES, "", "one")
        node = c.cache.of(NODES).get("", "one")
        assert node is not None
        assert node.fields == {"metadata.name": "one", "metadata.namespace": ""}
        assert node.labels == {}


async def test_a_view_is_decoded_once(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await c.put(PODS, "ns", "a", spec={"nodeName": "one", "containers": []})
        entry = c.cache.of(PODS).get("ns", "a")
        assert entry is not None
        view = entry.view(Pod)
        assert view.metadata.resourceVersion == "1"
        assert entry.view(Pod) is view


async def test_what_is_written_while_a_resource_loads_is_not_missed(tmp_path: Path) -> None:
    store = await open_sqlite(tmp_path)
    try:
        for number in range(20):
            await store.commit(Write(CONFIGMAPS.key("a", f"n{number}"), 0, encode(CONFIGMAPS, "a", f"n{number}")))
        cache = Cache(store)
        loading = asyncio.ensure_future(cache.add(CONFIGMAPS))
        writes = [Write(CONFIGMAPS.key("a", f"n{number}"), 0, encode(CONFIGMAPS, "a", f"n{number}")) for number in range(20, 40)]
        written = [await store.commit(write) for write in writes]
        await store.commit(Write(written[0].key, written[0].revision, None))
        loaded = await loading
        assert len(loaded) == 39
        assert loaded.revision == cache.revision == store.revision
        assert await cache.add(CONFIGMAPS) is loaded
        cache.remove(CONFIGMAPS)
        with pytest.raises(KeyError):
            cache.of(CONFIGMAPS)
    finally:
        await store.close()


async def test_waiting_for_a_revision(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        waiting = asyncio.ensure_future(c.cache.wait_for(2))
        await c.put(CONFIGMAPS, "a", "x")
        assert not waiting.done()
        await c.put(CONFIGMAPS, "a", "y")
        await asyncio.wait_for(waiting, 1)
        await c.cache.wait_for(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(c.cache.wait_for(3), 0.01)


def test_the_revision_can_be_spliced_again() -> None:
    shape = Shape(CONFIGMAPS)
    record = Record("/registry/core/configmaps/a/b", 9, 3, 3, False, encode(CONFIGMAPS, "a", "b"))
    again = shape.again(shape.entry(record), 123456)
    assert json.loads(again.value)["metadata"]["resourceVersion"] == "123456"
    assert again.value == shape.splice(record.value, 123456)
    assert (again.revision, again.create_revision) == (123456, 3)


def test_cached_objects_are_not_walked_by_the_garbage_collector() -> None:
    shape = Shape(PODS)
    entry = shape.entry(Record(PODS.key("a", "b"), 9, 3, 3, False, encode(PODS, "a", "b", {"x": "y"}, spec={"nodeName": "n"})))
    assert entry.labels
    assert not gc.is_tracked(entry)
    assert not gc.is_tracked(entry.labels)
    assert not gc.is_tracked(Event("ADDED", entry, None))
    assert not gc.is_tracked(msgspec.json.decode(b"1"))


async def test_a_group_is_part_of_the_place(tmp_path: Path) -> None:
    other = resource("pods", "Pod", group="example.com")
    async with cluster(tmp_path) as c:
        await c.cache.add(other)
        await c.put(other, "ns", "a")
        await c.put(PODS, "ns", "a")
        await c.put(PODS, "ns", "b")
        assert (len(c.cache.of(other)), len(c.cache.of(PODS))) == (1, 2)
