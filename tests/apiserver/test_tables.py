"""Tables: what kubectl get asks for."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from minikube_py.apiserver import tables
from minikube_py.apiserver.watch import bookmark
from minikube_py.meta.errors import BadRequest
from minikube_py.resources.api import Resource
from minikube_py.resources.registry import built_in

NOW = 1_700_000_000.0


def resource(plural: str) -> Any:
    return next(r for r in built_in() if r.ref.plural == plural)


def value(kind: str = "ConfigMap", name: str = "a", **fields: Any) -> bytes:
    metadata = {"resourceVersion": "7", "name": name, "namespace": "default", "creationTimestamp": "2023-11-14T22:12:20Z"}
    return orjson.dumps({"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields})


def test_a_list() -> None:
    got = orjson.loads(
        tables.table(resource("configmaps"), [value(data={"k": "v"}), value(name="b")], "", NOW, b'{"resourceVersion":"9","continue":"c"}')
    )
    assert (got["kind"], got["apiVersion"], got["metadata"]) == ("Table", "meta.k8s.io/v1", {"resourceVersion": "9", "continue": "c"})
    assert [(c["name"], c["type"], c["format"], c["priority"]) for c in got["columnDefinitions"]] == [
        ("Name", "string", "name", 0), ("Data", "string", "", 0), ("Age", "string", "", 0),
    ]  # fmt: skip
    assert [r["cells"] for r in got["rows"]] == [["a", 1, "60s"], ["b", 0, "60s"]]
    assert got["rows"][0]["object"] == {
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": orjson.loads(value())["metadata"],
    }  # fmt: skip


def test_an_empty_list_has_its_columns() -> None:
    got = orjson.loads(tables.table(resource("pods"), [], "", NOW, b'{"resourceVersion":"9"}'))
    assert got["rows"] == [] and got["columnDefinitions"][0]["name"] == "Name"


def test_one_object_gives_its_own_resource_version() -> None:
    assert orjson.loads(tables.table(resource("configmaps"), [value()], "", NOW))["metadata"] == {"resourceVersion": "7"}


@pytest.mark.parametrize(("include", "expected"), [("Object", orjson.loads(value())), ("None", None)])
def test_what_a_row_carries(include: str, expected: Any) -> None:
    assert orjson.loads(tables.table(resource("configmaps"), [value()], include, NOW))["rows"][0]["object"] == expected


def test_an_unknown_include_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        tables.table(resource("configmaps"), [], "Everything", NOW)
    assert caught.value.message == "includeObject: Invalid value: \"Everything\": must be 'Metadata', 'Object', 'None', or empty"


def test_ages_are_told_at_the_request() -> None:
    cells = [orjson.loads(tables.table(resource("configmaps"), [value()], "", now))["rows"][0]["cells"][2] for now in (NOW, NOW + 60)]
    assert cells == ["60s", "2m"]


def test_completed_rows_are_marked() -> None:
    row = orjson.loads(tables.table(resource("pods"), [value("Pod", status={"phase": "Failed"})], "", NOW))["rows"][0]
    assert row["conditions"] == [{"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}]


def test_another_version_prints_as_the_stored_one() -> None:
    new = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"}, "note": "hello",
        "regarding": {"kind": "Pod", "name": "web"}, "reason": "Started", "type": "Normal", "eventTime": "2023-11-14T22:12:20.000000Z",
    }  # fmt: skip
    got = orjson.loads(tables.table(resource("events"), [orjson.dumps(new)], "", NOW))
    assert got["rows"][0]["cells"][:4] == ["60s", "Normal", "Started", "pod/web"] and "hello" in got["rows"][0]["cells"]


def test_only_the_first_watch_event_defines_the_columns() -> None:
    first = tables.event(resource("configmaps"), "ADDED", value(), "", NOW, headers=True)
    assert first.endswith(b"\n") and first.count(b"\n") == 1
    got = orjson.loads(first)
    assert got["type"] == "ADDED" and len(got["object"]["columnDefinitions"]) == 3
    later = orjson.loads(tables.event(resource("configmaps"), "MODIFIED", value(), "", NOW, headers=False))
    assert later["object"]["columnDefinitions"] is None and later["object"]["rows"][0]["cells"][0] == "a"


@pytest.mark.parametrize("of", built_in(), ids=lambda r: r.ref.plural)
def test_a_bookmark_is_a_table_with_a_row_of_nothing(of: Resource) -> None:
    got = orjson.loads(tables.event(of, "BOOKMARK", bookmark(of.ref.api_version, of.ref.kind, 7, True), "", NOW, headers=False))
    (row,) = got["object"]["rows"]
    assert got["object"]["metadata"] == {"resourceVersion": "7"} and len(row["cells"]) == len(of.columns.definitions)
    assert row["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_metadata_only() -> None:
    got = orjson.loads(tables.partial(value(data={"k": "v"})))
    assert got == {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": orjson.loads(value())["metadata"]}
