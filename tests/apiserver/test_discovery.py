"""Discovery documents in kube-apiserver's shape."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from minikube_py.apiserver.discovery import Discovery, aggregated_version, version_priority
from minikube_py.resources.registry import built_in

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
KUBECTL = f"{V2},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"


@pytest.fixture(scope="module")
def discovery() -> Discovery:
    return Discovery(built_in(), "10.0.0.1:6443")


def read(discovery: Discovery, path: str, accept: str = "") -> Any:
    document = discovery.document(path, accept)
    return None if document is None else orjson.loads(document.body)


def test_versions_of_the_core_group(discovery: Discovery) -> None:
    assert read(discovery, "/api") == {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "10.0.0.1:6443"}],
    }


def test_groups_in_order_of_priority(discovery: Discovery) -> None:
    groups = read(discovery, "/apis/")["groups"]
    assert [g["name"] for g in groups] == [
        "apps",
        "events.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
        "certificates.k8s.io",
        "networking.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "storage.k8s.io",
        "admissionregistration.k8s.io",
        "scheduling.k8s.io",
        "coordination.k8s.io",
        "node.k8s.io",
        "discovery.k8s.io",
        "resource.k8s.io",
        "flowcontrol.apiserver.k8s.io",
    ]
    assert next(g for g in groups if g["name"] == "autoscaling") == {
        "name": "autoscaling",
        "versions": [{"groupVersion": "autoscaling/v2", "version": "v2"}, {"groupVersion": "autoscaling/v1", "version": "v1"}],
        "preferredVersion": {"groupVersion": "autoscaling/v2", "version": "v2"},
    }


def test_one_group_and_one_version(discovery: Discovery) -> None:
    assert read(discovery, "/apis/apps")["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}
    listed = read(discovery, "/apis/apps/v1")
    assert (listed["kind"], listed["apiVersion"], listed["groupVersion"]) == ("APIResourceList", "v1", "apps/v1")
    assert [r["name"] for r in listed["resources"]] == [
        "controllerrevisions",
        "daemonsets",
        "daemonsets/status",
        "deployments",
        "deployments/scale",
        "deployments/status",
        "replicasets",
        "replicasets/scale",
        "replicasets/status",
        "statefulsets",
        "statefulsets/scale",
        "statefulsets/status",
    ]
    by_name = {r["name"]: r for r in listed["resources"]}
    assert by_name["deployments"] == {
        "name": "deployments",
        "singularName": "deployment",
        "namespaced": True,
        "kind": "Deployment",
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "shortNames": ["deploy"],
        "categories": ["all"],
    }
    assert by_name["deployments/scale"] == {
        "name": "deployments/scale",
        "singularName": "",
        "namespaced": True,
        "group": "autoscaling",
        "version": "v1",
        "kind": "Scale",
        "verbs": ["get", "patch", "update"],
    }


def test_the_core_list_has_no_api_version(discovery: Discovery) -> None:
    listed = read(discovery, "/api/v1")
    assert "apiVersion" not in listed and listed["groupVersion"] == "v1"
    by_name = {r["name"]: r for r in listed["resources"]}
    assert by_name["pods/eviction"]["group"] == "policy" and by_name["pods/eviction"]["kind"] == "Eviction"
    assert by_name["serviceaccounts/token"]["kind"] == "TokenRequest"
    assert "deletecollection" not in by_name["namespaces"]["verbs"]
    assert by_name["pods/log"]["verbs"] == ["get"] and by_name["pods/exec"]["verbs"] == ["create", "get"]
    assert by_name["nodes/proxy"]["verbs"] == ["create", "delete", "get", "patch", "update"]


@pytest.mark.parametrize("path", ["/apis/none", "/apis/apps/v2", "/api/v2", "/apis/apps/v1/deployments", "/other"])
def test_nothing_there(discovery: Discovery, path: str) -> None:
    assert discovery.document(path) is None


def test_aggregated(discovery: Discovery) -> None:
    document = discovery.document("/apis", KUBECTL)
    assert document is not None and document.content_type == V2
    assert document.headers["ETag"].startswith('"') and document.headers["Vary"] == "Accept"
    value = orjson.loads(document.body)
    assert (value["kind"], value["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    apps = value["items"][0]
    assert apps["metadata"]["name"] == "apps" and apps["versions"][0]["freshness"] == "Current"
    deployments = next(r for r in apps["versions"][0]["resources"] if r["resource"] == "deployments")
    assert deployments["responseKind"] == {"group": "apps", "version": "v1", "kind": "Deployment"} and deployments["scope"] == "Namespaced"
    assert deployments["subresources"][0] == {
        "subresource": "scale",
        "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
        "verbs": ["get", "patch", "update"],
    }
    core = read(discovery, "/api", KUBECTL)
    assert len(core["items"]) == 1 and "name" not in core["items"][0]["metadata"]
    assert [v["version"] for v in core["items"][0]["versions"]] == ["v1"]


def test_a_change_of_what_is_served_changes_the_etag(discovery: Discovery) -> None:
    fewer = Discovery(built_in()[:-1])
    before, after = discovery.document("/apis", V2), fewer.document("/apis", V2)
    assert before and after and before.etag != after.etag


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        ("", ""),
        ("application/json", ""),
        ("*/*", ""),
        (V2, "v2"),
        (KUBECTL, "v2"),
        ("application/json," + V2, ""),
        ("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList, application/json", "v2beta1"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", ""),
        ("application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList," + V2, "v2"),
    ],
)
def test_which_form_is_asked_for(accept: str, version: str) -> None:
    assert aggregated_version(accept) == version


def test_order_of_versions() -> None:
    assert sorted(["v1alpha1", "v1", "v2beta1", "foo", "v2", "v1beta2", "v1beta1"], key=version_priority) == [
        "v2",
        "v1",
        "v2beta1",
        "v1beta2",
        "v1beta1",
        "v1alpha1",
        "foo",
    ]
