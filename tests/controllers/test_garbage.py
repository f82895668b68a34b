"""Garbage collection by owner references, on values and on the real API server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from minikube_py.controllers.garbage_graph import FOREGROUND, NOTHING, ORPHAN, Action, Graph, Item
from minikube_py.types.core import ConfigMap, Event, Node
from minikube_py.types.meta import OwnerReference
from minikube_py.types.pod import Pod
from minikube_py.types.workload import Deployment, ReplicaSet
from tests.controllers.harness import Plane, control_plane
from tests.controllers.test_workloads import WORKLOADS, complete, deployment


def reference(uid: str, block: bool = False) -> OwnerReference:
    return OwnerReference(apiVersion="v1", kind="ConfigMap", name=uid, uid=uid, blockOwnerDeletion=block)


def item(
    uid: str, *owners: str, ending: bool = False, finalizers: tuple[str, ...] = (), block: bool = False, namespace: str = "default"
) -> Item:
    references = tuple(reference(owner, block) for owner in owners)
    return Item(ConfigMap.resource, namespace, uid, uid, references, ending, finalizers)


def graph(*items: Item) -> Graph:
    made = Graph()
    for each in items:
        list(made.put(each))
    return made


def decide(made: Graph, uid: str) -> Action:
    found = made.get(uid)
    assert found is not None
    return made.decide(found)


def test_what_has_a_living_owner_stays() -> None:
    assert decide(graph(item("a"), item("b", "a")), "b") == NOTHING


def test_an_owner_is_gone_only_when_the_server_says_so() -> None:
    made = graph(item("b", "a"))
    assert [ref.uid for ref in made.unknown_owners(item("b", "a"))] == ["a"]
    made.mark_absent(reference("a"), "default")
    assert not made.unknown_owners(item("b", "a"))
    assert decide(made, "b") == Action(delete="Background")


def test_one_living_owner_is_enough_and_the_dead_one_is_dropped() -> None:
    made = graph(item("a"), item("b", "a", "dead"))
    made.mark_absent(reference("dead"), "default")
    assert decide(made, "b") == Action(drop_owners=frozenset({"dead"}))


def test_an_owner_in_another_namespace_does_not_count() -> None:
    child = item("b", "a")
    made = graph(item("a", namespace="other"), child)
    assert made.misplaced(child) == made.unknown_owners(child) == [reference("a")]
    made.mark_absent(reference("a"), "default")
    assert decide(made, "b") == Action(delete="Background")
    # what is said of one namespace says nothing of the other
    assert not made.unknown_owners(item("c", "a", namespace="other"))
    assert decide(graph(item("a", namespace=""), item("b", "a")), "b") == NOTHING


def test_a_reference_that_misnames_an_owner_means_another_object() -> None:
    child = msgspec.structs.replace(item("b"), owners=(msgspec.structs.replace(reference("a"), name="x"),))
    made = graph(item("a"), child)
    assert made.unknown_owners(child) == list(child.owners)
    made.mark_absent(child.owners[0], "default")
    assert decide(made, "b") == Action(delete="Background")


def test_foreground_deletion_waits_for_dependents_that_block_it() -> None:
    owner = item("a", ending=True, finalizers=(FOREGROUND,))
    made = graph(owner, item("b", "a", block=True), item("c", "a"))
    assert {d.uid for d in decide(made, "a").push} == {"b", "c"}
    assert decide(made, "b") == Action(delete="Background")
    assert set(made.remove("b")) == {"a"}
    assert decide(made, "a") == Action(remove_finalizer=FOREGROUND)


def test_foreground_goes_down_level_by_level_and_circles_are_cut() -> None:
    owner = item("a", ending=True, finalizers=(FOREGROUND,))
    assert decide(graph(owner, item("b", "a", block=True), item("c", "b", block=True)), "b") == Action(delete="Foreground")
    circle = graph(item("a", "b", ending=True, finalizers=(FOREGROUND,), block=True), item("b", "a", block=True))
    assert decide(circle, "b") == Action(delete="Foreground", unblock=frozenset({"a"}))


def test_orphaning_frees_the_dependents_first() -> None:
    owner, dependent = item("a", ending=True, finalizers=(ORPHAN,)), item("b", "a")
    assert decide(graph(owner, dependent), "a") == Action(orphan=(dependent,), remove_finalizer=ORPHAN)


def test_the_end_of_an_owner_wakes_its_dependents() -> None:
    made = graph(item("a"), item("b", "a"))
    assert list(made.remove("a")) == ["b"] and decide(made, "b") == Action(delete="Background")


async def config_map(plane: Plane, name: str, *owners: ConfigMap, block: bool = False) -> ConfigMap:
    references: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": o.metadata.name, "uid": o.metadata.uid, "blockOwnerDeletion": block}
        for o in owners
    ]
    return await plane.create(ConfigMap, {"metadata": {"name": name, "ownerReferences": references}})


async def test_background_deletion_takes_the_whole_tree(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("garbage-collector",)) as plane:
        root = await config_map(plane, "root")
        child = await config_map(plane, "child", root)
        await config_map(plane, "grandchild", child)
        other = await config_map(plane, "other")
        await config_map(plane, "shared", root, other)
        await plane.client.delete(ConfigMap, "root", "default", propagation="Background")
        await plane.gone(ConfigMap, "child")
        await plane.gone(ConfigMap, "grandchild")
        shared = await plane.eventually(ConfigMap, "shared", lambda c: len(c.metadata.ownerReferences) == 1)
        assert shared.metadata.ownerReferences[0].name == "other"


async def test_foreground_deletion_keeps_the_owner_to_the_end(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("garbage-collector",)) as plane:
        root = await config_map(plane, "root")
        child = await config_map(plane, "child", root, block=True)
        await plane.client.patch(ConfigMap, "child", {"metadata": {"finalizers": ["example.com/hold"]}}, "default")
        await plane.client.delete(ConfigMap, "root", "default", propagation="Foreground")
        await plane.eventually(ConfigMap, "child", lambda c: c.metadata.deletionTimestamp)
        held = await plane.get(ConfigMap, "root")
        assert held.metadata.finalizers == ("foregroundDeletion",)
        await plane.client.patch(ConfigMap, child.metadata.name, {"metadata": {"finalizers": None}}, "default")
        await plane.gone(ConfigMap, "child")
        await plane.gone(ConfigMap, "root")


async def test_orphaning_leaves_the_dependents(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("garbage-collector",)) as plane:
        root = await config_map(plane, "root")
        await config_map(plane, "child", root)
        await plane.client.delete(ConfigMap, "root", "default", propagation="Orphan")
        await plane.gone(ConfigMap, "root")
        await plane.eventually(ConfigMap, "child", lambda c: not c.metadata.ownerReferences)


async def test_an_owner_that_never_was_takes_its_dependents_along(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("garbage-collector",)) as plane:
        never = {"apiVersion": "v1", "kind": "ConfigMap", "name": "never", "uid": "0f0f0f0f-0000-4000-8000-000000000000"}
        strange = {**never, "kind": "Stranger", "apiVersion": "example.com/v1", "uid": "0f0f0f0f-0000-4000-8000-000000000001"}
        await plane.create(ConfigMap, {"metadata": {"name": "lost", "ownerReferences": [never]}})
        await plane.create(ConfigMap, {"metadata": {"name": "unclear", "ownerReferences": [strange]}})
        await plane.gone(ConfigMap, "lost")
        await asyncio.sleep(0.2)
        assert await plane.exists(ConfigMap, "unclear"), "an owner of an unknown kind may well exist"


async def test_cluster_scoped_owners(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("garbage-collector",)) as plane:
        node = await plane.create(Node, {"metadata": {"name": "n1"}}, None)
        owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node.metadata.uid}
        await plane.create(ConfigMap, {"metadata": {"name": "of-node", "ownerReferences": [owner]}})
        await asyncio.sleep(0.2)
        assert await plane.exists(ConfigMap, "of-node")
        await plane.client.delete(Node, "n1")
        await plane.gone(ConfigMap, "of-node")


async def test_an_object_without_a_namespace_that_names_an_owner_in_one_stays(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("garbage-collector",)) as plane:
        owner = await config_map(plane, "root")
        named = {"apiVersion": "v1", "kind": "ConfigMap", "name": "root", "uid": owner.metadata.uid}
        never = {**named, "name": "never", "uid": "0f0f0f0f-0000-4000-8000-000000000000"}
        for name, reference in (("n1", named), ("n2", never)):
            await plane.create(Node, {"metadata": {"name": name, "ownerReferences": [reference]}}, None)
        (told,) = await plane.count(Event, 1, lambda e: e.reason == "OwnerRefInvalidNamespace")
        assert (told.involvedObject.kind, told.involvedObject.name) == ("Node", "n1")
        said = f"[v1/ConfigMap, namespace: , name: root, uid: {owner.metadata.uid}]"
        assert told.message == f'ownerRef {said} does not exist in namespace ""'
        await plane.client.delete(ConfigMap, "root", "default")
        await asyncio.sleep(0.3)
        assert await plane.exists(Node, "n1", None) and await plane.exists(Node, "n2", None)
        await config_map(plane, "child", owner)
        await plane.gone(ConfigMap, "child")


async def test_a_deleted_deployment_leaves_nothing(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=(*WORKLOADS, "garbage-collector"), scheduler=True, kubelet=True) as plane:
        await plane.node()
        await plane.create(Deployment, deployment(3))
        await plane.eventually(Deployment, "web", complete)
        await plane.client.delete(Deployment, "web", "default", propagation="Foreground")
        await plane.gone(Deployment, "web")
        assert not await plane.list(Pod) and not await plane.list(ReplicaSet)
