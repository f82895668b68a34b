"""Bringing objects into the shape of their kind: what goes, what is rewritten, what is refused and in which words."""

import copy
import time
from typing import Any

import pytest

from minikube_py.schema.definitions import Definitions, load
from minikube_py.schema.errors import DecodeError
from minikube_py.schema.model import Kind
from tests.schema import objects


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    return load()


def normalized(kind: tuple[str, str, str], obj: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    return obj, load().schema(*kind).normalize(obj)


DEPLOYMENT = ("apps", "v1", "Deployment")
POD = ("", "v1", "Pod")


def pod(**spec: Any) -> dict[str, Any]:
    return {"spec": spec}


def test_every_kind_compiles(definitions: Definitions) -> None:
    kinds = list(definitions.kinds())
    assert {("", "v1", "Pod"), DEPLOYMENT, ("apiextensions.k8s.io", "v1", "CustomResourceDefinition")} <= set(kinds)
    for kind in kinds:
        assert definitions.schema(*kind).normalize({}) == []
    with pytest.raises(KeyError):
        definitions.schema("apps", "v1", "Pod")


def test_nulls_unknown_fields_and_empty_optional_lists_go() -> None:
    obj, unknown = normalized(
        DEPLOYMENT,
        {
            "metadata": {"name": "web", "creationTimestamp": None, "labels": {}, "Name": "x"},
            "spec": {
                "replica": 1,
                "template": {
                    "spec": {"containers": [{"name": "a"}, {"name": "b", "imagee": "x", "env": [], "ports": [{"port": {"a": 1}}]}]}
                },
            },
            "status": {},
        },
    )
    assert obj == {
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{}]}]}}},
        "status": {},
    }
    assert unknown == [
        "metadata.Name",
        "spec.replica",
        "spec.template.spec.containers[1].imagee",
        "spec.template.spec.containers[1].ports[0].port",
    ]


def test_unknown_fields_below_map_keys() -> None:
    crd = ("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
    schema = {"type": "object", "properties": {"spec": {"type": "object", "propertiez": {}}}}
    _, unknown = normalized(crd, {"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}})
    assert unknown == ["spec.versions[0].schema.openAPIV3Schema.properties.spec.propertiez"]


def test_required_lists_stay_when_empty() -> None:
    rules = [{"verbs": []}]
    assert normalized(("rbac.authorization.k8s.io", "v1", "Role"), {"rules": [{"verbs": [], "resources": []}]})[0] == {"rules": rules}


def test_what_omitempty_leaves_out_goes_and_a_pointer_to_zero_stays() -> None:
    container = {"name": "", "stdin": False, "tty": True, "workingDir": "", "ports": [{"containerPort": 0, "hostPort": 0}]}
    volume = {"name": "a", "persistentVolumeClaim": {"claimName": "", "readOnly": False}}
    claims = pod(
        hostNetwork=False,
        enableServiceLinks=False,
        priority=0,
        containers=[container],
        ephemeralContainers=[dict(container)],
        volumes=[volume],
    )
    obj, unknown = normalized(POD, claims)
    left = {"name": "", "tty": True, "ports": [{"containerPort": 0}]}
    assert (obj["spec"], unknown) == (
        {
            "enableServiceLinks": False,
            "priority": 0,
            "containers": [left],
            "ephemeralContainers": [left],
            "volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": ""}}],
        },
        [],
    )


def test_a_zero_of_the_wrong_type_is_refused_and_an_unknown_one_is_told() -> None:
    with pytest.raises(DecodeError, match="hostNetwork of type bool"):
        normalized(POD, pod(hostNetwork=""))
    assert normalized(POD, pod(hostNetworks=False)) == (pod(), ["spec.hostNetworks"])


def test_a_status_tells_zero_where_go_always_writes_it() -> None:
    status, _ = normalized(("apps", "v1", "StatefulSet"), {"status": {"replicas": 0, "availableReplicas": 0, "readyReplicas": 0}})
    assert status == {"status": {"replicas": 0, "availableReplicas": 0}}


def test_a_null_within_a_list_or_map_is_the_zero_value() -> None:
    obj, _ = normalized(POD, {"metadata": {"labels": {"a": None}}, "spec": {"containers": [None, {"command": ["x", None]}]}})
    assert obj == {"metadata": {"labels": {"a": ""}}, "spec": {"containers": [{}, {"command": ["x", ""]}]}}


def test_values_are_rewritten_as_a_round_trip_through_upstream_does() -> None:
    obj, _ = normalized(
        POD,
        {
            "metadata": {"creationTimestamp": "2026-01-02T03:04:05.678+01:00"},
            "spec": {"containers": [{"resources": {"limits": {"cpu": 0.5, "memory": "1024Mi", "a.b/c": 3}}}]},
        },
    )
    assert obj["metadata"]["creationTimestamp"] == "2026-01-02T02:04:05Z"
    assert obj["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "500m", "memory": "1Gi", "a.b/c": "3"}
    assert normalized(("", "v1", "Secret"), {"data": {"a": "YWJj\nZA=="}})[0] == {"data": {"a": "YWJjZA=="}}


def test_untyped_values_stay_as_they_are() -> None:
    raw = {"apiVersion": "x/v1", "nulls": None, "list": [None, {}], "number": 1.5}
    assert normalized(("apps", "v1", "ControllerRevision"), {"data": copy.deepcopy(raw), "revision": 1})[0]["data"] == raw


def test_an_object_in_canonical_form_is_not_changed() -> None:
    for kind, obj in ((POD, objects.pod()), (("", "v1", "ConfigMap"), objects.configmap())):
        normalized(kind, obj)
        before = copy.deepcopy(obj)
        assert normalized(kind, obj) == (before, [])


STRUCT = "json: cannot unmarshal {} into Go struct field {} of type {}"


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ({"spec": {"replicas": "3"}}, STRUCT.format("string", "DeploymentSpec.spec.replicas", "int32")),
        ({"spec": {"replicas": 3.5}}, STRUCT.format("number 3.5", "DeploymentSpec.spec.replicas", "int32")),
        ({"spec": {"replicas": 3000000000}}, STRUCT.format("number 3000000000", "DeploymentSpec.spec.replicas", "int32")),
        ({"spec": {"replicas": True}}, STRUCT.format("bool", "DeploymentSpec.spec.replicas", "int32")),
        ({"spec": {"replicas": {}}}, STRUCT.format("object", "DeploymentSpec.spec.replicas", "int32")),
        ({"spec": []}, STRUCT.format("array", "Deployment.spec", "v1.DeploymentSpec")),
        ({"spec": "x"}, STRUCT.format("string", "Deployment.spec", "v1.DeploymentSpec")),
        ({"spec": {"paused": "yes"}}, STRUCT.format("string", "DeploymentSpec.spec.paused", "bool")),
        ({"metadata": {"name": 5}}, STRUCT.format("number", "ObjectMeta.metadata.name", "string")),
        ({"metadata": {"labels": {"a": 1}}}, STRUCT.format("number", "ObjectMeta.metadata.labels", "string")),
        ({"metadata": {"labels": ["a"]}}, STRUCT.format("array", "ObjectMeta.metadata.labels", "map[string]string")),
        ({"metadata": {"creationTimestamp": 5}}, STRUCT.format("number", "ObjectMeta.metadata.creationTimestamp", "string")),
        (
            {"spec": {"template": {"spec": {"containers": [{"ports": [{"containerPort": "80"}]}]}}}},
            STRUCT.format("string", "ContainerPort.spec.template.spec.containers.ports.containerPort", "int32"),
        ),
        (
            {"spec": {"template": {"spec": {"containers": {}}}}},
            STRUCT.format("object", "PodSpec.spec.template.spec.containers", "[]v1.Container"),
        ),
        (
            {"spec": {"template": {"spec": {"containers": [{"command": [1]}]}}}},
            STRUCT.format("number", "Container.spec.template.spec.containers.command", "string"),
        ),
        (
            {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 1.5}}}},
            STRUCT.format("number 1.5", "RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge", "int32"),
        ),
        (
            {"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "much"}}}]}}}},
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            {"metadata": {"creationTimestamp": "yesterday"}},
            'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"',
        ),
        ({"metadata": {"creationTimestamp": "2026-13-01T00:00:00Z"}}, 'parsing time "2026-13-01T00:00:00Z": month out of range'),
        ({"metadata": {"creationTimestamp": "2026-02-30T00:00:00Z"}}, 'parsing time "2026-02-30T00:00:00Z": day out of range'),
    ],
)
def test_wrong_types_are_refused_in_the_words_of_go(obj: dict[str, Any], message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        normalized(DEPLOYMENT, obj)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "offset"),
    [("YQ=", 3), ("a", 0), ("YWE", 0), ("Y!==", 1), ("YQ===", 4), ("=", 0), ("YWJjZ", 4)],
)
def test_base64_faults_name_the_byte_that_go_names(text: str, offset: int) -> None:
    with pytest.raises(DecodeError, match=f"illegal base64 data at input byte {offset}$"):
        normalized(("", "v1", "Secret"), {"data": {"a": text}})


def test_micro_times_need_their_microseconds() -> None:
    lease = ("coordination.k8s.io", "v1", "Lease")
    obj, _ = normalized(lease, {"spec": {"renewTime": "2026-01-02T03:04:05.123456+02:00"}})
    assert obj["spec"]["renewTime"] == "2026-01-02T01:04:05.123456Z"
    with pytest.raises(DecodeError, match=r'as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000"$'):
        normalized(lease, {"spec": {"renewTime": "2026-01-02T03:04:05Z"}})


def test_the_unions_of_a_crds_schema() -> None:
    props = {
        "items": {"type": "string", "nullable": None},
        "additionalProperties": False,
        "default": {"anything": [None]},
        "enum": ["a", 1],
        "dependencies": {"a": ["b"], "c": {"type": "object"}},
        "maximum": 1.5,
    }
    crd = ("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
    obj, unknown = normalized(crd, {"spec": {"versions": [{"schema": {"openAPIV3Schema": copy.deepcopy(props)}}]}})
    assert unknown == []
    assert obj["spec"]["versions"][0]["schema"]["openAPIV3Schema"] == {**props, "items": {"type": "string"}}
    with pytest.raises(DecodeError):
        normalized(crd, {"spec": {"versions": [{"schema": {"openAPIV3Schema": {"additionalProperties": "x"}}}]}})


def test_types_tell_how_lists_are_keyed(definitions: Definitions) -> None:
    schema = definitions.schema(*POD)
    containers = schema.field("spec", "containers")
    assert (containers.list_type, containers.list_map_keys, containers.merge_key) == ("map", ("name",), "name")
    assert not containers.atomic
    assert schema.field("spec", "containers", "ports").list_map_keys == ("containerPort", "protocol")
    assert schema.field("spec", "containers", "command").atomic
    assert schema.field("spec", "nodeSelector").atomic
    assert schema.field("spec", "nodeSelector").kind is Kind.MAP
    assert schema.field("metadata", "finalizers").list_type == "set"
    assert {"metadata", "spec", "status"} <= set(schema.properties())


def test_a_great_many_unknown_fields_are_no_great_work() -> None:
    obj = {"spec": {"containers": [{f"x{i}": i} for i in range(50_000)]}, **{f"y{i}": {} for i in range(50_000)}}
    started = time.thread_time()
    unknown = load().schema(*POD).normalize(obj)
    assert time.thread_time() - started < 0.5
    assert (unknown[0], unknown[99], len(unknown)) == ("spec.containers[0].x0", "spec.containers[99].x99", 100)
    assert not any(obj["spec"]["containers"]) and list(obj) == ["spec"]


def test_texts_that_would_keep_a_matcher_busy() -> None:
    started = time.thread_time()
    for obj in (
        {"spec": {"containers": [{"resources": {"limits": {"cpu": "0" * 10**6 + "x"}}}]}},
        {"metadata": {"creationTimestamp": "2026-01-02T03:04:05." + "1" * 10**6}},
    ):
        with pytest.raises(DecodeError):
            normalized(POD, obj)
    assert time.thread_time() - started < 0.2
