"""Questions about identities and rights, and token requests, over TLS."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from minikube_py.types.core import Node, Secret, ServiceAccount
from minikube_py.types.meta import parse_timestamp
from minikube_py.types.pod import Pod
from tests.apiserver.trusted import trusted_server
from tests.support.api import Answer, ApiUnderTest

AUTHORIZATION = "/apis/authorization.k8s.io/v1"
READ_PODS = {"verb": "list", "resource": "pods", "namespace": "default"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiUnderTest]:
    async with trusted_server(tmp_path) as running:
        for name in ("default", "robot"):
            await running.client().create(ServiceAccount, {"metadata": {"name": name}}, "default")
        yield running


async def ask(server: ApiUnderTest, kind: str, spec: dict[str, Any], namespace: str = "", token: str | None = None) -> Answer:
    path = f"{AUTHORIZATION}/{f'namespaces/{namespace}/' if namespace else ''}{kind.lower()}s"
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    return await server.http("POST", path, body, token=token)


async def request_token(server: ApiUnderTest, account: str = "robot", **spec: Any) -> Answer:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    return await server.http("POST", f"/api/v1/namespaces/default/serviceaccounts/{account}/token", body)


async def test_subject_access_review(server: ApiUnderTest) -> None:
    answer = await ask(server, "SubjectAccessReview", {"user": "jane", "resourceAttributes": READ_PODS})
    assert (answer.status, answer.json["status"]) == (201, {"allowed": False})
    spec = {"user": "system:kube-scheduler", "resourceAttributes": READ_PODS}
    status = (await ask(server, "SubjectAccessReview", spec)).json["status"]
    binding = 'ClusterRoleBinding "system:kube-scheduler" of ClusterRole "system:kube-scheduler"'
    assert status == {"allowed": True, "reason": f'RBAC: allowed by {binding} to User "system:kube-scheduler"'}
    spec = {"groups": ["system:unauthenticated"], "nonResourceAttributes": {"verb": "get", "path": "/version"}}
    assert (await ask(server, "SubjectAccessReview", spec)).json["status"]["allowed"] is True


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"user": "u"}, "exactly one of nonResourceAttributes or resourceAttributes must be specified"),
        ({"resourceAttributes": READ_PODS}, "at least one of user or group must be specified"),
        (
            {"user": "u", "resourceAttributes": READ_PODS, "nonResourceAttributes": {"verb": "get", "path": "/"}},
            "cannot be specified in combination with resourceAttributes",
        ),
        ({"user": "u", "resourceAttributes": {**READ_PODS, "fieldSelector": {}}}, "requirements or rawSelector is required"),
    ],
)
async def test_unclear_questions_are_invalid(server: ApiUnderTest, spec: dict[str, Any], why: str) -> None:
    answer = await ask(server, "SubjectAccessReview", spec)
    assert answer.status == 422
    assert why in answer.json["message"]


async def test_the_selector_of_a_question_counts_for_nodes(server: ApiUnderTest) -> None:
    for selector in ({"rawSelector": "spec.nodeName=n1"}, {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]}):
        about = {"verb": "list", "resource": "pods", "fieldSelector": selector}
        for node, allowed in (("n1", True), ("n2", False)):
            spec = {"user": f"system:node:{node}", "groups": ["system:nodes"], "resourceAttributes": about}
            assert (await ask(server, "SubjectAccessReview", spec)).json["status"]["allowed"] is allowed


async def test_local_reviews_stay_in_their_namespace(server: ApiUnderTest) -> None:
    spec = {"user": "jane", "resourceAttributes": READ_PODS}
    assert (await ask(server, "LocalSubjectAccessReview", spec, "default")).json["status"] == {"allowed": False}
    answer = await ask(server, "LocalSubjectAccessReview", spec, "kube-system")
    assert answer.status == 422
    assert "must match metadata.namespace" in answer.json["message"]


async def test_asking_about_oneself(server: ApiUnderTest) -> None:
    token = (await request_token(server)).json["status"]["token"]
    mine = await ask(server, "SelfSubjectAccessReview", {"resourceAttributes": READ_PODS}, token=token)
    assert mine.json["status"] == {"allowed": False}
    admins = await ask(server, "SelfSubjectAccessReview", {"resourceAttributes": READ_PODS})
    assert admins.json["status"]["allowed"] is True
    rules = (await ask(server, "SelfSubjectRulesReview", {"namespace": "default"}, token=token)).json["status"]
    assert rules["incomplete"] is False
    assert {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]} in rules["resourceRules"]
    assert any("/openid/v1/jwks" in rule["nonResourceURLs"] for rule in rules["nonResourceRules"])
    everything = (await ask(server, "SelfSubjectRulesReview", {"namespace": "default"})).json["status"]["resourceRules"]
    assert {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]} in everything
    answer = await ask(server, "SelfSubjectRulesReview", {})
    assert (answer.status, answer.json["message"]) == (400, "no namespace on request")


async def test_token_request_says_when_it_ends(server: ApiUnderTest) -> None:
    answer = (await request_token(server, expirationSeconds=1200)).json
    assert answer["kind"] == "TokenRequest"
    assert answer["metadata"]["name"] == "robot"
    assert answer["spec"]["audiences"] == [server.tokens.issuer]
    claims = jwt.decode(answer["status"]["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 1200
    assert abs(parse_timestamp(answer["status"]["expirationTimestamp"]) - claims["exp"]) <= 1
    assert claims["sub"] == "system:serviceaccount:default:robot"
    default = (await request_token(server)).json["spec"]["expirationSeconds"]
    assert default == 3600


async def test_a_pods_own_token_lives_longer_than_it_says(server: ApiUnderTest) -> None:
    client = server.client()
    node = await client.create(Node, {"metadata": {"name": "n1"}})
    body = {
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n1", "serviceAccountName": "robot", "containers": [{"name": "c", "image": "i"}]},
    }
    pod = await client.create(Pod, body, "default")
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": pod.metadata.uid}
    answer = (await request_token(server, expirationSeconds=3607, boundObjectRef=bound)).json
    claims = jwt.decode(answer["status"]["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 365 * 86400
    private = claims["kubernetes.io"]
    assert private["warnafter"] - claims["iat"] == 3607
    assert private["pod"] == {"name": "p", "uid": pod.metadata.uid}
    assert private["node"] == {"name": "n1", "uid": node.metadata.uid}
    assert parse_timestamp(answer["status"]["expirationTimestamp"]) < time.time() + 3700


@pytest.mark.parametrize(
    ("account", "spec", "status", "why"),
    [
        ("ghost", {}, 404, 'serviceaccounts "ghost" not found'),
        ("robot", {"expirationSeconds": 599}, 422, "may not specify a duration less than 10 minutes"),
        ("robot", {"expirationSeconds": 2**33}, 422, "may not specify a duration larger than 2^32 seconds"),
        ("robot", {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "ghost"}}, 404, 'pods "ghost" not found'),
        (
            "robot",
            {"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "x"}},
            400,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        (
            "robot",
            {"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "s", "uid": "other"}},
            409,
            "the UID in the bound object reference (other) does not match the UID in record",
        ),
        (
            "robot",
            {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "of-default"}},
            400,
            'cannot bind token for serviceaccount "robot" to pod running with different serviceaccount name.',
        ),
    ],
)
async def test_wrong_token_requests(server: ApiUnderTest, account: str, spec: dict[str, Any], status: int, why: str) -> None:
    await server.client().create(Secret, {"metadata": {"name": "s"}}, "default")
    pod = {"metadata": {"name": "of-default"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await server.client().create(Pod, pod, "default")
    answer = await request_token(server, account, **spec)
    assert answer.status == status, answer.body
    assert why in answer.json["message"]


async def review_token(server: ApiUnderTest, token: str, audiences: list[str] | None = None) -> dict[str, Any]:
    spec = {"token": token, **({"audiences": audiences} if audiences else {})}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    answer = await server.http("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)
    assert answer.status == 201, answer.body
    status: dict[str, Any] = answer.json["status"]
    return status


async def test_token_review(server: ApiUnderTest) -> None:
    token = (await request_token(server, audiences=["vault", "db"])).json["status"]["token"]
    status = await review_token(server, token, ["vault", "other"])
    assert status["authenticated"] is True
    assert status["audiences"] == ["vault"]
    assert status["user"]["username"] == "system:serviceaccount:default:robot"
    status = await review_token(server, token)
    assert status.get("authenticated", False) is False
    assert "is invalid for the target audiences" in status["error"]
    assert (await review_token(server, "nonsense"))["error"] == "invalid bearer token"


async def test_others_can_verify_tokens_with_the_published_key(server: ApiUnderTest) -> None:
    token = (await request_token(server)).json["status"]["token"]
    document = (await server.http("GET", "/.well-known/openid-configuration", token=token)).json
    assert document["issuer"] == server.tokens.issuer
    assert document["jwks_uri"] == server.url + "/openid/v1/jwks"
    keys = jwt.PyJWKSet.from_json((await server.http("GET", "/openid/v1/jwks", token=token)).body.decode())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key.key, algorithms=["ES256"], audience=server.tokens.issuer, issuer=document["issuer"])
    assert claims["sub"] == "system:serviceaccount:default:robot"
    assert (await server.http("GET", "/openid/v1/jwks", token="")).status == 403


async def test_a_review_cannot_be_a_table(server: ApiUnderTest) -> None:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": READ_PODS}}
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    answer = await server.http("POST", f"{AUTHORIZATION}/selfsubjectaccessreviews", body, headers={"Accept": table})
    assert (answer.status, answer.json["reason"]) == (406, "NotAcceptable")
    either = {"Accept": f"{table},application/json"}
    answer = await server.http("POST", f"{AUTHORIZATION}/selfsubjectaccessreviews", body, headers=either)
    assert (answer.status, answer.json["kind"]) == (201, "SelfSubjectAccessReview")
