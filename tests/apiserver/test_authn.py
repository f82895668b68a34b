"""Who a request comes from, over real TLS: certificates, front-proxies, tokens, nobody."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from minikube_py import pki
from minikube_py.pki import issue
from minikube_py.pki.issue import KeyPair, LeafSpec, Usage
from minikube_py.types.core import Secret, ServiceAccount
from minikube_py.types.pod import Pod
from tests.apiserver.trusted import SettableClock, trusted_server
from tests.support.api import Answer, ApiUnderTest

WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


def context_with(server: ApiUnderTest, directory: Path, pair: KeyPair) -> ssl.SSLContext:
    """A client's context that trusts the server and shows a certificate made for the test."""
    certificate, key = directory / "test.crt", directory / "test.key"
    certificate.write_bytes(pair.certificate_pem)
    key.write_bytes(pair.key_pem)
    context = server.keys.client_context()
    context.load_cert_chain(certificate, key)
    return context


async def ask(server: ApiUnderTest, context: ssl.SSLContext, headers: dict[str, str] | None = None) -> Answer:
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(server.url + WHOAMI, json=REVIEW, headers=headers) as answer,
    ):
        return Answer(answer.status, await answer.read(), answer.headers)


def authority(server: ApiUnderTest, name: str) -> KeyPair:
    return KeyPair(issue.load_key(server.keys.key_path(name).read_bytes()), server.keys.authority(name))


def user_of(answer: Answer) -> dict[str, Any]:
    assert answer.status == 201, answer.body
    info: dict[str, Any] = answer.json["status"]["userInfo"]
    return info


async def test_a_client_certificate_is_an_identity(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        info = user_of(await ask(server, server.keys.client_context(pki.KUBELET)))
        assert info["username"] == "system:node:node-1"
        assert info["groups"] == ["system:nodes", "system:authenticated"]
        assert info["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")


@pytest.mark.parametrize("what", ["expired", "not yet valid", "unknown authority", "front-proxy authority", "server usage"])
async def test_a_wrong_client_certificate_is_answered_with_401(tmp_path: Path, what: str) -> None:
    async with trusted_server(tmp_path / "server") as server:
        now = datetime.datetime.now(datetime.UTC)
        signer, spec = authority(server, pki.CLIENT_CA), LeafSpec(Usage.CLIENT, "eve", ("system:masters",))
        match what:
            case "expired":
                now -= datetime.timedelta(days=400)
            case "not yet valid":
                now += datetime.timedelta(days=2)
            case "unknown authority":
                signer = issue.make_authority("somebody", now)
            case "front-proxy authority":
                signer = authority(server, pki.FRONT_PROXY_CA)
            case "server usage":
                spec = LeafSpec(Usage.SERVER, "eve", ("system:masters",))
        answer = await ask(server, context_with(server, tmp_path, issue.issue(signer, spec, now)))
        assert answer.status == 401
        assert answer.json["reason"] == "Unauthorized"


async def test_a_certificate_that_expires_stops_working_on_an_open_connection(tmp_path: Path) -> None:
    clock = SettableClock()
    async with trusted_server(tmp_path, clock=clock) as server:
        session = server.session(pki.ADMIN)
        async with session.post(server.url + WHOAMI, json=REVIEW) as answer:
            assert answer.status == 201
        clock.offset = 366 * 86400
        async with session.post(server.url + WHOAMI, json=REVIEW) as answer:
            assert answer.status == 401


async def test_front_proxy_headers_count_only_with_its_certificate(tmp_path: Path) -> None:
    async with trusted_server(tmp_path / "server") as server:
        headers = {"X-Remote-User": "alice", "X-Remote-Group": "system:masters", "X-Remote-Extra-Acme.com%2Fteam": "a"}
        info = user_of(await ask(server, server.keys.client_context(pki.FRONT_PROXY), headers))
        assert (info["username"], info["groups"]) == ("alice", ["system:masters", "system:authenticated"])
        assert info["extra"] == {"acme.com/team": ["a"]}
        info = user_of(await ask(server, server.keys.client_context(pki.KUBE_PROXY), headers))
        assert (info["username"], info["groups"]) == ("system:kube-proxy", ["system:authenticated"])
        assert (await ask(server, server.keys.client_context(), headers)).status == 403
        now = datetime.datetime.now(datetime.UTC)
        other = issue.issue(authority(server, pki.FRONT_PROXY_CA), LeafSpec(Usage.CLIENT, "not-the-proxy"), now)
        assert (await ask(server, context_with(server, tmp_path, other), headers)).status == 401


async def test_nobody_gets_health_version_and_nothing_else(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        for path in ("/version", "/livez", "/readyz", "/healthz"):
            assert (await server.http("GET", path, token="")).status == 200, path
        for path in ("/api", "/apis", "/openapi/v3", "/metrics", "/api/v1/pods", "/api/v1/namespaces/kube-system/secrets"):
            answer = await server.http("GET", path, token="")
            assert answer.status == 403, path
            assert 'User "system:anonymous" cannot' in answer.json["message"]
        answer = await server.http("POST", WHOAMI, REVIEW, token="")
        assert answer.status == 403


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "Ünïcode"])
async def test_a_token_that_is_none_is_401(tmp_path: Path, token: str) -> None:
    async with trusted_server(tmp_path) as server:
        answer = await server.http("GET", "/version", headers={"Authorization": f"Bearer {token}"}, token="")
        assert answer.status == 401
        assert answer.json["message"] == "Unauthorized"


async def make_account(server: ApiUnderTest, name: str = "robot") -> None:
    await server.client().create(ServiceAccount, {"metadata": {"name": name}}, "default")


async def token_for(server: ApiUnderTest, name: str = "robot", **spec: Any) -> str:
    path = f"/api/v1/namespaces/default/serviceaccounts/{name}/token"
    answer = await server.http("POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
    assert answer.status == 201, answer.body
    token: str = answer.json["status"]["token"]
    return token


async def whoami(server: ApiUnderTest, token: str) -> Answer:
    return await server.http("POST", WHOAMI, REVIEW, token=token)


async def test_a_service_account_token_is_an_identity_until_the_account_goes(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        await make_account(server)
        token = await token_for(server)
        info = user_of(await whoami(server, token))
        assert info["username"] == "system:serviceaccount:default:robot"
        assert info["groups"] == ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
        assert info["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")
        await server.client().delete(ServiceAccount, "robot", "default")
        assert (await whoami(server, token)).status == 401
        await make_account(server)
        assert (await whoami(server, token)).status == 401, "an account of the same name is another account"


async def test_tokens_expire(tmp_path: Path) -> None:
    clock = SettableClock()
    async with trusted_server(tmp_path, clock=clock) as server:
        await make_account(server)
        token = await token_for(server, expirationSeconds=600)
        clock.offset = 590
        assert (await whoami(server, token)).status == 201
        clock.offset = 700
        assert (await whoami(server, token)).status == 401


async def test_a_token_for_somebody_else_is_refused(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        await make_account(server)
        assert (await whoami(server, await token_for(server, audiences=["vault"]))).status == 401
        both = await token_for(server, audiences=["vault", server.tokens.issuer])
        assert (await whoami(server, both)).status == 201


async def test_a_token_dies_with_the_secret_or_pod_that_it_is_bound_to(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        await make_account(server)
        client = server.client()
        await client.create(Secret, {"metadata": {"name": "s"}}, "default")
        pod = {"metadata": {"name": "p"}, "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "i"}]}}
        await client.create(Pod, pod, "default")
        by_secret = await token_for(server, boundObjectRef={"apiVersion": "v1", "kind": "Secret", "name": "s"})
        by_pod = await token_for(server, boundObjectRef={"apiVersion": "v1", "kind": "Pod", "name": "p"})
        assert (await whoami(server, by_secret)).status == 201
        info = user_of(await whoami(server, by_pod))
        assert info["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
        await client.delete(Secret, "s", "default")
        await client.delete(Pod, "p", "default", grace_seconds=0)
        assert (await whoami(server, by_secret)).status == 401
        assert (await whoami(server, by_pod)).status == 401


async def test_forged_tokens_are_refused(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        await make_account(server)
        good = await token_for(server)
        claims = jwt.decode(good, options={"verify_signature": False})
        secret = server.keys.certificate_pem(pki.SERVER_CA).decode()
        forged = [
            jwt.encode(claims, issue.new_key(), algorithm="ES256"),
            jwt.encode(claims, "", algorithm="none"),
            jwt.encode(claims, secret[:64], algorithm="HS256"),
            jwt.encode({**claims, "iss": "https://elsewhere"}, server.keys.service_account_key, algorithm="ES256"),
            jwt.encode({k: v for k, v in claims.items() if k != "exp"}, server.keys.service_account_key, algorithm="ES256"),
            good[:-2],
        ]
        assert (await whoami(server, good)).status == 201
        for token in forged:
            assert (await whoami(server, token)).status == 401
