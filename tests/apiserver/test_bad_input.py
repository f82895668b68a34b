"""Bodies, credentials and requests that are wrong: each gets its Status, and the server goes on."""

import asyncio
import datetime
import ssl
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509

from minikube_py import pki
from minikube_py.pki import issue
from minikube_py.pki.layout import Names
from tests.support.api import Answer, ApiUnderTest

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"


def message(answer: Answer, code: int, reason: str) -> str:
    assert (answer.status, answer.json["reason"], answer.json["code"]) == (code, reason, code), answer.body
    return str(answer.json["message"])


@pytest.fixture(autouse=True)
async def _still_serves(server: ApiUnderTest) -> Any:
    yield
    assert (await server.http("GET", "/api/v1/namespaces/default")).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b'{"metadata":', b"nonsense", b'{"a":1}}', b"\xff\xfe", b"[]", b'"text"', b"null"])
async def test_malformed_json_is_400(server: ApiUnderTest, body: bytes) -> None:
    assert "the object provided is unrecognized (must be of type ConfigMap)" in message(
        await server.http("POST", CONFIGMAPS, body), 400, "BadRequest"
    )


@pytest.mark.parametrize("body", [b"a: b: c", b"metadata: [", b"- a\n- b", b"\x00", b"a: &x [*x]", b"metadata: *nobody"])
async def test_malformed_yaml_is_400(server: ApiUnderTest, body: bytes) -> None:
    message(await server.http("POST", CONFIGMAPS, body, content_type=YAML), 400, "BadRequest")


@pytest.mark.parametrize("body", [b"", b"k8s\x00", b"k8s\x00\xff\xff\xff", b"{}", b"k8s\x00\x0a\x05\x0a\x02v1\x12"])
async def test_malformed_protobuf_is_400(server: ApiUnderTest, body: bytes) -> None:
    message(await server.http("POST", CONFIGMAPS, body, content_type=PROTOBUF), 400, "BadRequest")


async def test_yaml_is_as_good_as_json(server: ApiUnderTest) -> None:
    answer = await server.http("POST", CONFIGMAPS, b"metadata:\n  name: a\ndata:\n  time: '12:30:45'\n", content_type=YAML)
    assert answer.status == 201 and answer.json["data"] == {"time": "12:30:45"}


_GO = "into Go struct field"


@pytest.mark.parametrize(
    ("path", "obj", "words"),
    [
        (CONFIGMAPS, {"metadata": {"name": "a"}, "data": {"k": 1}}, f"cannot unmarshal number {_GO} ConfigMap.data of type string"),
        (CONFIGMAPS, {"metadata": {"name": 7}}, f"cannot unmarshal number {_GO} ObjectMeta.metadata.name of type string"),
        (CONFIGMAPS, {"metadata": "a"}, f"cannot unmarshal string {_GO} ConfigMap.metadata"),
        (PODS, {"metadata": {"name": "a"}, "spec": {"containers": {}}}, f"cannot unmarshal object {_GO}"),
        (CONFIGMAPS, {"kind": "Secret", "apiVersion": "v1"}, 'Secret in version "v1" cannot be handled as a ConfigMap'),
        (CONFIGMAPS, {"kind": "Nonsense", "apiVersion": "v1"}, 'no kind "Nonsense" is registered for version "v1"'),
        (CONFIGMAPS, {"apiVersion": "v2"}, "the API version in the data (v2) does not match the expected API version (v1)"),
    ],
)
async def test_wrong_types_and_kinds_are_400(server: ApiUnderTest, path: str, obj: dict[str, Any], words: str) -> None:
    assert words in message(await server.http("POST", path, obj), 400, "BadRequest")


@pytest.mark.parametrize("open_, close", [(b"[", b"]"), (b'{"a":', b"}")])
async def test_json_nested_ten_thousand_deep_is_400(server: ApiUnderTest, open_: bytes, close: bytes) -> None:
    nested = open_ * 10_000 + b"1" + close * 10_000
    body = b'{"metadata":{"name":"a"},"data":' + nested + b"}"
    for content_type in ("application/json", YAML):
        message(await server.http("POST", CONFIGMAPS, body, content_type=content_type), 400, "BadRequest")
    assert (await server.http("POST", CONFIGMAPS, {"metadata": {"name": "a"}})).status == 201
    for content_type in ("application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json"):
        answer = await server.http("PATCH", CONFIGMAPS + "/a", body, content_type=content_type)
        message(answer, 400, "BadRequest")


async def test_a_body_over_three_mebibytes_is_413(server: ApiUnderTest) -> None:
    body = b'{"metadata":{"name":"a"},"data":{"k":"' + b"x" * (3 * 1024 * 1024) + b'"}}'
    answer = await server.http("POST", CONFIGMAPS, body)
    assert message(answer, 413, "RequestEntityTooLarge") == "Request entity too large: limit is 3145728"

    async def pieces() -> Any:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    session = server.session()
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    async with session.post(server.url + CONFIGMAPS, data=pieces(), headers=headers) as chunked:
        assert chunked.status == 413


async def test_unknown_media_types(server: ApiUnderTest) -> None:
    answer = await server.http("POST", CONFIGMAPS, b"x", content_type="text/plain")
    assert message(answer, 415, "UnsupportedMediaType") == (
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    )
    answer = await server.http("GET", CONFIGMAPS, headers={"Accept": PROTOBUF})
    assert message(answer, 406, "NotAcceptable").startswith("only the following media types are accepted:")
    answer = await server.http("GET", CONFIGMAPS, headers={"Accept": f"{PROTOBUF},application/json"})
    assert answer.status == 200 and answer.json["kind"] == "ConfigMapList"


@pytest.mark.parametrize("path", ["/apis/nothing.example/v1/things", "/api/v1/things", "/api/v2/pods", "/nothing", "/api/v1/nodes/a/no"])
async def test_what_is_not_there_is_404(server: ApiUnderTest, path: str) -> None:
    assert message(await server.http("GET", path), 404, "NotFound") == "the server could not find the requested resource"


async def test_a_verb_that_a_resource_does_not_have_is_405(server: ApiUnderTest) -> None:
    answer = await server.http("DELETE", "/api/v1/namespaces")
    assert 'is not supported on resources of kind "namespaces"' in message(answer, 405, "MethodNotAllowed")
    assert (await server.http("POST", CONFIGMAPS + "/a", {"metadata": {"name": "a"}})).status == 405


@pytest.mark.parametrize(
    "query",
    [
        "labelSelector=a+b", "labelSelector=%3D", "fieldSelector=spec.none%3D1", "fieldSelector=x", "limit=x", "resourceVersion=x",
        "continue=!!",
    ],
)  # fmt: skip
async def test_queries_that_cannot_be_read_are_400(server: ApiUnderTest, query: str) -> None:
    message(await server.http("GET", f"{CONFIGMAPS}?{query}"), 400, "BadRequest")


@pytest.mark.parametrize(
    ("timeout", "problem"),
    [
        ("invalid", 'invalid duration "invalid"'),
        ("5", 'missing unit in duration "5"'),
        ("1m5", 'missing unit in duration "1m5"'),
        ("3d", 'unknown unit "d" in duration "3d"'),
        ("-", 'invalid duration "-"'),
        ("1s.", 'invalid duration "1s."'),
    ],
)
async def test_a_timeout_that_is_no_duration_is_400(server: ApiUnderTest, timeout: str, problem: str) -> None:
    for path in ("/version", CONFIGMAPS):
        answer = await server.http("GET", f"{path}?timeout={timeout}")
        assert message(answer, 400, "BadRequest") == f"invalid timeout specified in the request URL - time: {problem}"


@pytest.mark.parametrize("timeout", ["0", "0s", "3m", "1h2m3.5s", "-.5ms", "10%C2%B5s", ""])
async def test_a_timeout_that_is_a_duration_is_taken(server: ApiUnderTest, timeout: str) -> None:
    assert (await server.http("GET", f"{CONFIGMAPS}?timeout={timeout}")).status == 200


async def test_a_watch_has_no_timeout_of_this_name(server: ApiUnderTest) -> None:
    assert (await server.http("GET", f"{CONFIGMAPS}?watch=1&timeoutSeconds=1&timeout=nonsense")).status == 200


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("resourceVersionMatch=Exact", "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ("resourceVersionMatch=Exact&resourceVersion=0", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'),
        ("resourceVersionMatch=Other&resourceVersion=1", 'Unsupported value: "Other"'),
        ("sendInitialEvents=true", "sendInitialEvents is forbidden for list"),
        ("watch=1&sendInitialEvents=true", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        ("watch=1&resourceVersionMatch=NotOlderThan", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"),
    ],
)
async def test_list_options_that_do_not_go_together_are_422(server: ApiUnderTest, query: str, words: str) -> None:
    answer = await server.http("GET", f"{CONFIGMAPS}?{query}")
    assert words in message(answer, 422, "Invalid")
    assert answer.json["message"].startswith('ListOptions.meta.k8s.io "" is invalid: ')


@pytest.mark.parametrize("query", ["dryRun=Some", "fieldValidation=Maybe", "fieldManager=" + "x" * 129, "fieldManager=%01"])
async def test_write_options_that_are_wrong_are_422(server: ApiUnderTest, query: str) -> None:
    answer = await server.http("POST", f"{CONFIGMAPS}?{query}", {"metadata": {"name": "a"}})
    message(answer, 422, "Invalid")
    assert (await server.http("GET", CONFIGMAPS + "/a")).status == 404


# Credentials


async def test_an_unknown_token_is_401_and_none_is_anonymous(server: ApiUnderTest) -> None:
    for token in ("wrong", "a.b.c", "x" * 10_000):
        answer = await server.http("GET", "/api/v1/nodes", token=token)
        assert message(answer, 401, "Unauthorized") == "Unauthorized"
    assert (await server.http("GET", "/version", token="")).status == 200


async def with_certificate(server: ApiUnderTest, pair: issue.KeyPair, directory: Path) -> int:
    (directory / "c.crt").write_bytes(pair.certificate_pem)
    (directory / "c.key").write_bytes(pair.key_pem)
    context = ssl.create_default_context(cadata=server.keys.server_ca_pem.decode())
    context.load_cert_chain(directory / "c.crt", directory / "c.key")
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.get(server.url + "/api/v1/namespaces") as answer,
    ):
        return answer.status


async def test_a_certificate_of_an_unknown_authority_is_401(server: ApiUnderTest, tmp_path: Path) -> None:
    other = pki.ensure(tmp_path / "other", Names("node-1", "localhost"), time.time())
    certificate = x509.load_pem_x509_certificate(other.certificate_pem(pki.ADMIN))
    pair = issue.KeyPair(issue.load_key(other.key_path(pki.ADMIN).read_bytes()), certificate)
    assert await with_certificate(server, pair, tmp_path) == 401


async def test_an_expired_certificate_is_401_and_a_good_one_is_its_user(server: ApiUnderTest, tmp_path: Path) -> None:
    key = issue.load_key(server.keys.key_path(pki.CLIENT_CA).read_bytes())
    authority = issue.KeyPair(key, server.keys.authority(pki.CLIENT_CA))
    spec = issue.LeafSpec(issue.Usage.CLIENT, "admin", ("system:masters",))
    now = datetime.datetime.now(datetime.UTC)
    assert await with_certificate(server, issue.issue(authority, spec, now), tmp_path) == 200
    assert await with_certificate(server, issue.issue(authority, spec, now - datetime.timedelta(days=3650)), tmp_path) == 401


async def test_garbage_instead_of_http_ends_the_connection(server: ApiUnderTest) -> None:
    context = server.keys.client_context()
    bad_length = b"POST /version HTTP/1.1\r\nContent-Length: x\r\n\r\n"
    for garbage in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", bad_length):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname="localhost")
        writer.write(garbage)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.") and b" 400 " in answer.split(b"\r\n")[0]
        writer.close()
