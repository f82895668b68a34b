"""JSON patches and merge patches on values."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikube_py.meta.errors import BadRequest, Invalid
from minikube_py.meta.patch import MAX_COPIED, REJECTED, json_patch, merge_patch

_scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2)
_values = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3))
_objects = st.dictionaries(st.sampled_from("abcd"), _values, max_size=4)


@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": "x"}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": [1, 2]}, {"a": [None, 3]}, {"a": [None, 3]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ],
)
def test_merge_patches_of_the_rfc(original: Any, patch: Any, result: Any) -> None:
    assert merge_patch(original, patch) == result


@given(_objects, _objects)
def test_a_merge_patch_twice_is_once_and_stays_what_it_was(original: Any, patch: Any) -> None:
    before = copy.deepcopy(patch)
    once = merge_patch(original, patch)
    expected = copy.deepcopy(once)
    assert merge_patch(once, patch) == expected
    assert patch == before


def test_a_result_shares_nothing_with_the_patch() -> None:
    patch: dict[str, Any] = {"a": {"b": [1]}, "c": [{}]}
    result = merge_patch({}, patch)
    result["a"]["b"].append(2)
    result["c"][0]["x"] = 1
    operations: list[Any] = [{"op": "add", "path": "/a", "value": {"b": [1]}}]
    json_patch({}, operations)["a"]["b"].append(2)
    assert patch == {"a": {"b": [1]}, "c": [{}]}
    assert operations == [{"op": "add", "path": "/a", "value": {"b": [1]}}]


def test_json_patch_operations() -> None:
    original = {"a": {"b": 1}, "list": [1, 2, 3], "x/y": {"~": 0}}
    operations = [
        {"op": "test", "path": "/a/b", "value": 1},
        {"op": "replace", "path": "/a/b", "value": 2},
        {"op": "add", "path": "/list/1", "value": 9},
        {"op": "add", "path": "/list/-", "value": 4},
        {"op": "remove", "path": "/list/0"},
        {"op": "copy", "from": "/a", "path": "/c"},
        {"op": "move", "from": "/a", "path": "/d"},
        {"op": "replace", "path": "/x~1y/~0", "value": 5},
    ]
    assert json_patch(original, operations) == {"list": [9, 2, 3, 4], "c": {"b": 2}, "d": {"b": 2}, "x/y": {"~": 5}}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/b"},
        {"op": "replace", "path": "/b/c", "value": 1},
        {"op": "add", "path": "/list/7", "value": 1},
        {"op": "add", "path": "/a/b", "value": 1},
        {"op": "add", "path": "no slash", "value": 1},
        {"op": "nothing", "path": "/a"},
        {"op": "add", "path": "/x"},
        {"op": "copy", "path": "/x"},
        {"op": "copy", "from": "/nowhere", "path": "/x"},
        {"op": "move", "from": 5, "path": "/x"},
        {"path": "/a"},
        {"op": "add", "path": ["a"], "value": 1},
    ],
)
def test_a_json_patch_that_does_not_fit_is_one_fault(operation: Any) -> None:
    with pytest.raises(Invalid) as caught:
        json_patch({"a": 1, "list": [1]}, [operation])
    assert caught.value.message == REJECTED


def test_what_is_no_json_patch() -> None:
    with pytest.raises(BadRequest, match=r"json: cannot unmarshal object into Go value of type jsonpatch\.Patch"):
        json_patch({}, {"op": "add"})  # type: ignore[arg-type]
    with pytest.raises(BadRequest):
        json_patch({}, ["add"])


def test_copies_that_double_are_stopped() -> None:
    operations = [{"op": "add", "path": "/a", "value": ["x" * 1000]}]
    operations += [{"op": "copy", "from": "/a", "path": "/a/-"} for _ in range(30)]
    with pytest.raises(Invalid):
        json_patch({}, operations)
    assert len("x" * 1000) * 2**30 > MAX_COPIED
