"""managedFields: what a create, an update and a no-op leave behind, and the algebra of field sets."""

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from minikube_py.schema.definitions import load
from minikube_py.schema.fields import ANCIENT, MAX_UPDATE_MANAGERS, update_managed_fields
from minikube_py.schema.fieldset import FieldSet, difference, intersection, paths, union
from minikube_py.schema.fieldwalk import added_to_nothing, compared
from tests.schema import objects

DEPLOYMENT = load().schema("apps", "v1", "Deployment")


def deployment() -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "d", "uid": "1", "generation": 1, "labels": {"app": "web"}, "creationTimestamp": "t"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [
                        {
                            "name": "c",
                            "image": "i",
                            "resources": {},
                            "command": ["sh"],
                            "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        }
                    ],
                    "volumes": [{"name": "v", "emptyDir": {}}],
                },
            },
        },
        "status": {},
    }


def update(
    new: dict[str, Any], old: dict[str, Any] | None, manager: str = "kubectl", now: str = "t1", subresource: str = ""
) -> list[dict[str, Any]]:
    update_managed_fields(DEPLOYMENT, new, old, manager=manager, api_version="apps/v1", subresource=subresource, now=now)
    return new["metadata"].get("managedFields", [])


def created(manager: str = "kubectl") -> dict[str, Any]:
    obj = deployment()
    update(obj, None, manager, "t0")
    return obj


def test_a_create_owns_what_the_client_gave() -> None:
    assert created()["metadata"]["managedFields"] == [
        {
            "manager": "kubectl",
            "operation": "Update",
            "apiVersion": "apps/v1",
            "time": "t0",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:strategy": {"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
                    "f:template": {
                        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                        "f:spec": {
                            "f:containers": {
                                'k:{"name":"c"}': {
                                    ".": {},
                                    "f:name": {},
                                    "f:image": {},
                                    "f:resources": {},
                                    "f:command": {},
                                    "f:ports": {
                                        ".": {},
                                        'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}, "f:protocol": {}},
                                    },
                                }
                            },
                            "f:volumes": {".": {}, 'k:{"name":"v"}': {".": {}, "f:name": {}, "f:emptyDir": {}}},
                        },
                    },
                },
            },
        }
    ]


def test_sets_are_owned_by_value() -> None:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": ["x/y"]}, "data": {"k": "v"}}
    update_managed_fields(load().schema("", "v1", "ConfigMap"), obj, None, manager="m", api_version="v1", now="t")
    (entry,) = obj["metadata"]["managedFields"]  # type: ignore[index]
    assert entry["fieldsV1"] == {  # type: ignore[index]
        "f:metadata": {"f:finalizers": {".": {}, 'v:"x/y"': {}}},
        "f:data": {".": {}, "f:k": {}},
    }


def test_a_write_that_changes_nothing_leaves_the_entries() -> None:
    old = created()
    for managed in (old["metadata"]["managedFields"], None, []):
        new = copy.deepcopy(old)
        new["metadata"]["managedFields"] = copy.deepcopy(managed)
        new["metadata"]["resourceVersion"] = "7"
        if managed is None:
            del new["metadata"]["managedFields"]
        assert update(new, old, "someone else") == old["metadata"]["managedFields"]


def test_changed_and_added_fields_move_to_who_changed_them() -> None:
    old, new = created(), created()
    new["spec"]["replicas"] = 3
    new["metadata"]["labels"]["team"] = "x"
    first, second = update(new, old, "scaler")
    assert (first["manager"], first["time"], second["manager"], second["time"]) == ("kubectl", "t0", "scaler", "t1")
    assert second["fieldsV1"] == {"f:spec": {"f:replicas": {}}, "f:metadata": {"f:labels": {"f:team": {}}}}
    assert "f:replicas" not in first["fieldsV1"]["f:spec"]
    assert first["fieldsV1"]["f:metadata"] == {"f:labels": {".": {}, "f:app": {}}}


def test_removed_fields_leave_everybody_and_a_manager_without_any_vanishes() -> None:
    old, new = created(), created()
    new["metadata"]["labels"] = {"app": "web", "team": "x"}
    update(new, old, "labeler")
    after = copy.deepcopy(new)
    del after["metadata"]["labels"]["team"]
    del after["spec"]["template"]["spec"]["volumes"]
    (entry,) = update(after, new, "remover", "t2")
    assert (entry["manager"], entry["time"]) == ("kubectl", "t0")
    assert "f:volumes" not in entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]


def test_the_same_manager_keeps_one_entry_per_subresource() -> None:
    old, new = created(), created()
    new["status"] = {"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]}
    entries = update(new, old, "kubectl", "t1", "status")
    assert [(e["manager"], e.get("subresource")) for e in entries] == [("kubectl", None), ("kubectl", "status")]
    condition = {".": {}, "f:type": {}, "f:status": {}}
    conditions = {".": {}, 'k:{"type":"Available"}': condition}
    assert entries[1]["fieldsV1"] == {"f:status": {"f:replicas": {}, "f:conditions": conditions}}
    newer = copy.deepcopy(new)
    newer["spec"]["replicas"] = 9
    entries = update(newer, new, "kubectl", "t2")
    assert [(e["manager"], e.get("subresource"), e["time"]) for e in entries] == [("kubectl", "status", "t1"), ("kubectl", None, "t2")]


def test_a_client_may_clear_the_entries_and_then_nothing_is_tracked() -> None:
    old, new = created(), created()
    new["metadata"]["managedFields"] = [{}]
    assert update(new, old) == []
    newer = copy.deepcopy(new)
    newer["spec"]["replicas"] = 5
    assert update(newer, new) == []


def test_entries_that_make_no_sense_are_as_good_as_absent() -> None:
    old, new = created(), created()
    new["metadata"]["managedFields"] = [{"manager": "x", "operation": "Steal", "fieldsType": "FieldsV1", "fieldsV1": {}}]
    assert update(new, old) == old["metadata"]["managedFields"]


def test_the_oldest_managers_are_joined() -> None:
    obj = created("m00")
    for index in range(1, MAX_UPDATE_MANAGERS + 4):
        new = copy.deepcopy(obj)
        new["metadata"]["labels"][f"l{index}"] = "x"
        update(new, obj, f"m{index:02d}", f"t{index:02d}")
        obj = new
    entries = obj["metadata"]["managedFields"]
    assert len(entries) == MAX_UPDATE_MANAGERS
    ancient = next(e for e in entries if e["manager"] == ANCIENT)
    assert {"f:l1", "f:l2"} <= set(ancient["fieldsV1"]["f:metadata"]["f:labels"])
    owned = [path for e in entries for path in paths(e["fieldsV1"])]
    assert len(owned) == len(set(owned)), "nothing is owned twice or lost"
    assert {("f:metadata", "f:labels", f"f:l{i}") for i in range(1, MAX_UPDATE_MANAGERS + 4)} <= set(owned)


_sets = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(st.sampled_from(["f:a", "f:b", "f:c"]), inner, min_size=1, max_size=3).flatmap(
        lambda node: st.sampled_from([node, {".": {}, **node}])
    ),
    max_leaves=8,
)
_roots = st.dictionaries(st.sampled_from(["f:a", "f:b", "f:c"]), _sets, max_size=3)


@given(_roots, _roots)
def test_field_sets_are_sets_of_paths(a: FieldSet, b: FieldSet) -> None:
    ours, theirs = set(paths(a)), set(paths(b))
    assert set(paths(union(a, b))) == ours | theirs
    assert set(paths(difference(a, b))) == ours - theirs
    assert set(paths(intersection(a, b))) == ours & theirs
    assert not difference(a, a)
    assert (set(paths(a)), set(paths(b))) == (ours, theirs), "operations change nothing"


_labels = st.dictionaries(st.sampled_from("ab"), st.sampled_from(["1", "2"]), max_size=2)
_containers = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("xyz")},
        optional={
            "image": st.sampled_from(["1", "2"]),
            "env": st.lists(st.fixed_dictionaries({"name": st.sampled_from("ef")}), unique_by=lambda e: e["name"], max_size=2),
            "command": st.lists(st.sampled_from("cd"), max_size=2),
            "resources": st.fixed_dictionaries({}, optional={"limits": st.just({"cpu": "1"})}),
        },
    ),
    unique_by=lambda container: container["name"],
    max_size=3,
)
_deployments = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"name": st.just("web")}, optional={"labels": _labels, "finalizers": st.lists(st.sampled_from("fg"), unique=True)}
        )
    },
    optional={
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "replicas": st.integers(0, 2),
                "selector": st.fixed_dictionaries({"matchLabels": _labels}),
                "strategy": st.fixed_dictionaries({}, optional={"type": st.just("Recreate"), "rollingUpdate": st.just({"maxSurge": 1})}),
                "template": st.fixed_dictionaries({}, optional={"spec": st.fixed_dictionaries({"containers": _containers})}),
            },
        ),
        "status": st.fixed_dictionaries({}, optional={"replicas": st.integers(0, 2)}),
    },
)


def _normalized(obj: dict[str, Any]) -> dict[str, Any]:
    obj = copy.deepcopy(obj)
    DEPLOYMENT.normalize(obj)
    return obj


@given(_deployments, _deployments)
def test_a_comparison_leads_from_the_fields_of_one_object_to_those_of_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    old, new = _normalized(before), _normalized(after)
    added, changed, removed = (set(paths(part)) for part in compared(DEPLOYMENT.type, old, new))
    theirs, ours = (set(paths(added_to_nothing(DEPLOYMENT.type, obj))) for obj in (old, new))
    assert (theirs - removed) | added == ours
    assert removed <= theirs and added <= ours and not added & theirs and not removed & ours
    assert changed <= theirs & ours
    assert bool(added or changed or removed) == (old != new) or _only_order_or_emptiness(old, new)


def _only_order_or_emptiness(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether two objects differ in nothing that is a field: the order of keyed lists, structs that Go always has."""

    def essence(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: inner for key, item in value.items() if (inner := essence(item)) not in ({}, [])}
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return sorted((essence(item) for item in value), key=str)
        return sorted(value, key=str) if isinstance(value, list) else value

    return bool(essence(old) == essence(new))


def test_a_pod_of_every_day_is_owned_completely() -> None:
    schema = load().schema("", "v1", "Pod")
    pod = objects.pod()
    schema.normalize(pod)
    owned = set(paths(added_to_nothing(schema.type, pod)))
    assert ("f:status", "f:conditions", 'k:{"type":"Ready"}', "f:status") in owned
    assert ("f:spec", "f:containers", 'k:{"name":"app"}', "f:env", 'k:{"name":"MODE"}', "f:value") in owned
    assert ("f:spec", "f:tolerations") in owned, "an atomic list is one field"


def test_fields_are_written_in_the_order_of_their_names() -> None:
    old = created()
    new = copy.deepcopy(old)
    new["spec"]["paused"], new["spec"]["minReadySeconds"] = True, 3
    for entry in (*update(new, old, "kubectl"), *old["metadata"]["managedFields"]):
        assert json.dumps(entry["fieldsV1"]) == json.dumps(entry["fieldsV1"], sort_keys=True)
