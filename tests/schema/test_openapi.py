"""The OpenAPI documents: complete in themselves, with what kubectl looks for."""

import json
import re
from typing import Any, NamedTuple

import pytest

from minikube_py.schema.openapi import OpenAPI


class Ref(NamedTuple):
    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True


class Sub(NamedTuple):
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


class Served(NamedTuple):
    ref: Ref
    verbs: tuple[str, ...] = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
    subresources: dict[str, Sub] = {}
    converters: dict[Ref, None] = {}


DEPLOYMENTS = Served(
    Ref("apps", "v1", "Deployment", "deployments"),
    subresources={
        "scale": Sub("Scale", ("get", "patch", "update"), "autoscaling", "v1"),
        "status": Sub("Deployment", ("get", "patch", "update")),
    },
)
NODES = Served(Ref("", "v1", "Node", "nodes", False))
PODS = Served(
    Ref("", "v1", "Pod", "pods"), subresources={"log": Sub("Pod", ("get",)), "eviction": Sub("Eviction", ("create",), "policy", "v1")}
)
EVENTS = Served(Ref("", "v1", "Event", "events"), converters={Ref("events.k8s.io", "v1", "Event", "events"): None})


@pytest.fixture(scope="module")
def api() -> OpenAPI:
    return OpenAPI((DEPLOYMENTS, NODES, PODS, EVENTS), "v1.36.0")


def v3(api: OpenAPI, group: str, version: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(api.document(group, version).plain())
    return document


def test_the_index_names_every_group_version(api: OpenAPI) -> None:
    paths = json.loads(api.index())["paths"]
    assert sorted(paths) == ["api/v1", "apis/apps/v1", "apis/events.k8s.io/v1"]
    assert paths["apis/apps/v1"]["serverRelativeURL"] == f"/openapi/v3/apis/apps/v1?hash={api.hash('apps', 'v1')}"
    with pytest.raises(KeyError):
        api.document("batch", "v1")


def test_a_hash_changes_with_what_is_served(api: OpenAPI) -> None:
    assert OpenAPI((DEPLOYMENTS,), "v1.36.0").hash("apps", "v1") == api.hash("apps", "v1")
    assert OpenAPI((DEPLOYMENTS._replace(subresources={}),), "v1.36.0").hash("apps", "v1") != api.hash("apps", "v1")


@pytest.mark.parametrize(("group", "version"), [("", "v1"), ("apps", "v1"), ("events.k8s.io", "v1")])
def test_a_document_refers_to_nothing_that_it_does_not_hold(api: OpenAPI, group: str, version: str) -> None:
    document = v3(api, group, version)
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references and references <= set(document["components"]["schemas"])


def test_schemas_have_what_explain_shows(api: OpenAPI) -> None:
    schemas = v3(api, "apps", "v1")["components"]["schemas"]
    deployment = schemas["io.k8s.api.apps.v1.Deployment"]
    assert deployment["x-kubernetes-group-version-kind"] == [{"group": "apps", "version": "v1", "kind": "Deployment"}]
    spec = deployment["properties"]["spec"]
    assert spec["allOf"] == [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"}] and spec["description"]
    replicas = schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["replicas"]
    assert (replicas["type"], replicas["format"]) == ("integer", "int32")
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"]["oneOf"] == [{"type": "string"}, {"type": "number"}]
    assert {schema.get("type") for schema in schemas.values()} <= {"object", "string", None}
    assert "enum" not in deployment["properties"]["kind"]


def test_a_patch_takes_field_validation_and_every_patch_type(api: OpenAPI) -> None:
    """What kubectl apply looks for before it leaves validation and merging to the server."""
    patch = v3(api, "apps", "v1")["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert {"dryRun", "fieldValidation", "fieldManager", "force"} <= {parameter["name"] for parameter in patch["parameters"]}
    assert {"application/strategic-merge-patch+json", "application/apply-patch+yaml"} <= set(patch["requestBody"]["content"])


def test_paths_follow_scope_and_subresources(api: OpenAPI) -> None:
    core = v3(api, "", "v1")["paths"]
    assert {"/api/v1/nodes", "/api/v1/nodes/{name}", "/api/v1/pods", "/api/v1/namespaces/{namespace}/pods/{name}/log"} <= set(core)
    assert set(core["/api/v1/pods"]) == {"get", "parameters"}
    assert set(core["/api/v1/namespaces/{namespace}/pods"]) == {"get", "post", "delete", "parameters"}
    eviction = core["/api/v1/namespaces/{namespace}/pods/{name}/eviction"]["post"]
    assert eviction["x-kubernetes-group-version-kind"] == {"group": "policy", "version": "v1", "kind": "Eviction"}
    scale = v3(api, "apps", "v1")["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"]
    assert scale["x-kubernetes-group-version-kind"]["kind"] == "Scale"
    identifiers = [operation["operationId"] for item in core.values() for verb, operation in item.items() if verb != "parameters"]
    assert len(identifiers) == len(set(identifiers))
    assert "readCoreV1NamespacedPodLog" in identifiers


def test_the_v2_document(api: OpenAPI) -> None:
    document = json.loads(api.document_v2().plain())
    references = set(re.findall(r'"#/([a-z]+)/', json.dumps(document)))
    assert references == {"definitions"}
    definitions = document["definitions"]
    assert set(re.findall(r'"#/definitions/([^"]+)"', json.dumps(document))) <= set(definitions)
    assert definitions["io.k8s.api.apps.v1.Deployment"]["properties"]["spec"]["$ref"] == "#/definitions/io.k8s.api.apps.v1.DeploymentSpec"
    assert definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"] == "string"
    assert definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"] == "int-or-string"
    post = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]["post"]
    assert post["parameters"][0] == {
        "name": "body",
        "in": "body",
        "required": True,
        "schema": {"$ref": "#/definitions/io.k8s.api.apps.v1.Deployment"},
    }
