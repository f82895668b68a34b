"""Strategic merge patches as kubectl and controllers send them, and the faults of those that do not fit."""

import copy
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikube_py.meta.errors import BadRequest, InternalError, StatusError
from minikube_py.schema.definitions import load
from minikube_py.schema.merge import go_text, strategic_merge


def patched(original: dict[str, Any], patch: dict[str, Any], kind: tuple[str, str, str] = ("", "v1", "Pod")) -> dict[str, Any]:
    before = copy.deepcopy(patch)
    result = strategic_merge(load().schema(*kind), copy.deepcopy(original), patch)
    assert patch == before, "a patch may be applied again"
    return result


def containers(*items: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(items)}}


A, B, C = ({"name": name, "image": f"{name}:1"} for name in "abc")


def test_maps_merge_and_null_removes() -> None:
    original = {"metadata": {"labels": {"a": "1", "b": "2"}, "annotations": {"x": "y"}}}
    patch = {"metadata": {"labels": {"a": None, "c": "3", "gone": None}, "annotations": None}}
    assert patched(original, patch) == {"metadata": {"labels": {"b": "2", "c": "3"}}}


def test_keyed_lists_merge_by_key_and_new_items_come_with_the_patch() -> None:
    result = patched(containers(A, B), containers({"name": "b", "image": "b:2"}, C))
    assert result == containers(A, {"name": "b", "image": "b:2"}, C)


def test_lists_merge_at_every_depth() -> None:
    original = containers({"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}], "command": ["sh"]})
    patch = containers({"name": "a", "env": [{"name": "Y", "value": "3"}], "command": ["bash", "-c"]})
    expected = containers({"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "3"}], "command": ["bash", "-c"]})
    assert patched(original, patch) == expected


def test_items_are_deleted_by_key() -> None:
    assert patched(containers(A, B), containers({"name": "a", "$patch": "delete"})) == containers(B)
    assert patched(containers(A), containers({"name": "z", "$patch": "delete"}, C)) == containers(C, A)


def test_a_list_is_replaced_as_a_whole() -> None:
    assert patched(containers(A, B), containers({"$patch": "replace"}, C)) == containers(C)


def test_a_map_is_replaced_or_deleted() -> None:
    original = {"metadata": {"labels": {"a": "1"}}, "spec": {"securityContext": {"runAsUser": 1}}}
    assert patched(original, {"metadata": {"labels": {"$patch": "replace", "b": "2"}}})["metadata"] == {"labels": {"b": "2"}}
    assert patched(original, {"spec": {"securityContext": {"$patch": "delete"}}})["spec"] == {"securityContext": {}}


def test_retained_keys() -> None:
    original = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert patched(original, patch, ("apps", "v1", "Deployment")) == {"spec": {"strategy": {"type": "Recreate"}}}
    with pytest.raises(BadRequest, match="invalid patch format of retainKeys"):
        patched(original, {"spec": {"strategy": {"$retainKeys": ["rollingUpdate"], "type": "Recreate"}}}, ("apps", "v1", "Deployment"))
    with pytest.raises(BadRequest, match="invalid patch format of retainKeys"):
        patched(original, {"spec": {"strategy": {"$retainKeys": "type"}}}, ("apps", "v1", "Deployment"))


def test_a_volume_changes_its_source_with_retained_keys() -> None:
    original = {"spec": {"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}]}}
    patch = {"spec": {"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/x"}}]}}
    assert patched(original, patch)["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/x"}}, {"name": "w", "emptyDir": {}}]


def test_lists_of_scalars_merge_as_sets() -> None:
    original = {"metadata": {"finalizers": ["a", "b"]}}
    assert patched(original, {"metadata": {"finalizers": ["b", "c"]}})["metadata"]["finalizers"] == ["a", "b", "c"]
    deletion = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "z"]}}
    assert patched(original, deletion)["metadata"]["finalizers"] == ["b"]
    assert patched({"metadata": {}}, deletion) == {"metadata": {}}


def test_the_patch_orders_a_list() -> None:
    order = [{"name": "c"}, {"name": "b"}, {"name": "a"}]
    patch = {"spec": {"$setElementOrder/containers": order, "containers": [C, {"name": "b", "image": "b:2"}]}}
    assert patched(containers(A, B), patch) == containers(C, {"name": "b", "image": "b:2"}, A)


def test_what_the_patch_does_not_order_stays_where_it_was() -> None:
    live = {"name": "live", "image": "injected:1"}
    patch = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}
    assert patched(containers(live, A, B), patch) == containers(live, B, A)
    finalizers = {"metadata": {"$setElementOrder/finalizers": ["c", "a"], "finalizers": ["c"]}}
    assert patched({"metadata": {"finalizers": ["a", "live"]}}, finalizers)["metadata"]["finalizers"] == ["c", "a", "live"]


def test_the_order_must_be_that_of_the_patch() -> None:
    patch = {"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}], "containers": [B, A]}}
    with pytest.raises(InternalError, match=r"doesn't match \$setElementOrder list"):
        patched(containers(A, B), patch)


def test_directives_in_what_the_object_did_not_have_do_not_get_in() -> None:
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate", "rollingUpdate": None}}}
    assert patched({"spec": {}}, patch, ("apps", "v1", "Deployment")) == {"spec": {"strategy": {"type": "Recreate"}}}
    patch = {
        "spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a", "$setElementOrder/ports": [], "env": None}]}
    }
    assert patched({"spec": {}}, patch) == containers({"name": "a"})


@pytest.mark.parametrize(
    ("patch", "fault", "message"),
    [
        (containers({"image": "x"}), InternalError, r"map: map\[image:x\] does not contain declared merge key: name"),
        (containers({"name": "a", "$patch": "erase"}), InternalError, r"unknown patch type: erase in map: map\[\$patch:erase name:a\]"),
        ({"spec": {"$patch": "merge"}}, InternalError, "unknown patch type: merge"),
        (containers("a"), InternalError, "list element types are not identical"),
        (containers(["a"]), BadRequest, "lists of lists are not supported"),
        ({"spec": {"$setElementOrder": []}}, BadRequest, "invalid patch format of setElementOrder list"),
        ({"spec": {"$setElementOrder/containers": {}}}, InternalError, r"expected a \[\]interface \{\}, but received a map"),
        ({"spec": {"$deleteFromPrimitiveList": []}}, BadRequest, "invalid patch format of primitive list"),
    ],
)
def test_faults(patch: dict[str, Any], fault: type[StatusError], message: str) -> None:
    with pytest.raises(fault, match=message):
        patched(containers(A), patch)


def test_values_in_faults_are_written_as_go_writes_them() -> None:
    assert go_text({"b": [1, 1.5, 2.0, True], "a": {"x": None, "y": "z"}}) == "map[a:map[x:<nil> y:z] b:[1 1.5 2 true]]"


_names = st.lists(st.sampled_from("abcde"), unique=True, max_size=5)


@given(_names, _names)
def test_a_merge_keeps_everything_and_the_order_of_the_patch(live: list[str], wanted: list[str]) -> None:
    result = patched(containers(*({"name": n, "image": "1"} for n in live)), containers(*({"name": n, "tty": True} for n in wanted)))
    items = result["spec"]["containers"]
    names = [item["name"] for item in items]
    assert sorted(names) == sorted({*live, *wanted})
    assert [n for n in names if n in wanted] == wanted
    assert [n for n in names if n not in wanted] == [n for n in live if n not in wanted]
    assert all(("image" in item) == (item["name"] in live) and ("tty" in item) == (item["name"] in wanted) for item in items)


def test_long_lists_merge_in_linear_time() -> None:
    items = [{"name": f"c{i}", "image": "1"} for i in range(20_000)]
    order = [{"name": item["name"]} for item in reversed(items)]
    started = time.thread_time()
    result = patched(containers(*items), {"spec": {"$setElementOrder/containers": order, "containers": [*reversed(items)]}})
    assert [item["name"] for item in result["spec"]["containers"]] == [item["name"] for item in order]
    assert time.thread_time() - started < 2
