"""Authorization's words, impersonation, the endpoints that are no resources, and the in-process transport."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minikube_py.apiserver.api import Attributes, Decision
from minikube_py.apiserver.metrics import RequestMetrics
from minikube_py.apiserver.phases import Phases
from minikube_py.apiserver.requestinfo import parse
from minikube_py.meta.errors import Forbidden, NotFound
from minikube_py.meta.user import AUTHENTICATED_GROUP, MASTERS_GROUP
from minikube_py.types.core import ConfigMap, Node
from tests.support.api import ApiUnderTest, api_server


class Masters:
    """Masters may do everything, "limited" may get configmaps in one namespace and list pods of one node, nobody else anything."""

    def __init__(self) -> None:
        self.asked: list[Attributes] = []

    def authorize(self, attributes: Attributes) -> Decision:
        self.asked.append(attributes)
        if MASTERS_GROUP in attributes.user.groups:
            return Decision(True)
        if attributes.user.name == "limited" and attributes.verb == "get" and attributes.resource == "configmaps":
            return Decision(attributes.namespace == "default")
        return Decision(attributes.user.name == "node" and ("spec.nodeName", "=", "n1") in attributes.field_selector)


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[tuple[ApiUnderTest, Masters]]:
    masters = Masters()
    async with api_server(tmp_path, authorizer=lambda cache: masters) as server:
        yield server, masters


async def test_what_is_forbidden_is_said_in_upstreams_words(strict: tuple[ApiUnderTest, Masters]) -> None:
    server, _ = strict
    limited = server.client("limited", ())
    core, cluster = 'in API group ""', "at the cluster scope"
    for path, subject, what in (
        ("/api/v1/namespaces/default/pods", "pods", f'list resource "pods" {core} in the namespace "default"'),
        ("/apis/apps/v1/deployments", "deployments.apps", f'list resource "deployments" in API group "apps" {cluster}'),
        ("/api/v1/namespaces/x/configmaps/a", 'configmaps "a"', f'get resource "configmaps" {core} in the namespace "x"'),
        ("/api/v1/namespaces/x/pods/a/log", 'pods "a"', f'get resource "pods/log" {core} in the namespace "x"'),
        ("/apis/nothing/v1/things", "things.nothing", f'list resource "things" in API group "nothing" {cluster}'),
        ("/metrics", "", 'get path "/metrics"'),
    ):
        with pytest.raises(Forbidden) as caught:
            await limited.request("GET", path)
        assert caught.value.message == f'{subject} is forbidden: User "limited" cannot {what}'.removeprefix("" if subject else " is ")
    with pytest.raises(NotFound):
        await limited.get(ConfigMap, "a", "default")


async def test_a_selected_name_and_its_fields_are_what_is_authorized(strict: tuple[ApiUnderTest, Masters]) -> None:
    server, masters = strict
    node = server.client("node", ())
    await node.request("GET", "/api/v1/pods", query={"fieldSelector": "spec.nodeName=n1"})
    with pytest.raises(Forbidden):
        await node.request("GET", "/api/v1/pods", query={"fieldSelector": "spec.nodeName=n2"})
    await server.client().request("GET", "/api/v1/nodes", query={"fieldSelector": "metadata.name=n7"})
    assert (masters.asked[-1].verb, masters.asked[-1].name) == ("list", "n7")


async def test_impersonation_needs_a_right_for_each_part(strict: tuple[ApiUnderTest, Masters]) -> None:
    server, masters = strict
    path = "/api/v1/namespaces/default/configmaps/a"
    answer = await server.http("GET", path, headers={"Impersonate-User": "limited"})
    assert answer.status == 404
    assert masters.asked[-1].user.name == "limited" and masters.asked[-1].user.groups == (AUTHENTICATED_GROUP,)
    answer = await server.http("GET", path.replace("default", "other"), headers={"Impersonate-User": "limited"})
    assert answer.status == 403
    headers = {"Impersonate-User": "jane", "Impersonate-Group": MASTERS_GROUP, "Impersonate-Extra-scopes": "view"}
    assert (await server.http("GET", path, headers=headers)).status == 404
    impersonations = [(a.resource, a.subresource, a.name) for a in masters.asked if a.verb == "impersonate"]
    assert ("users", "", "jane") in impersonations and ("groups", "", MASTERS_GROUP) in impersonations
    assert ("userextras", "scopes", "view") in impersonations
    transport = server.transport("limited", ())
    request = transport._request("GET", path, {}, None, "", "")
    request.headers = {**request.headers, "impersonate-user": "admin"}
    assert (await server.api.handle(request)).status == 403


async def test_health_and_its_checks(server: ApiUnderTest) -> None:
    for endpoint in ("/healthz", "/livez", "/readyz"):
        answer = await server.http("GET", endpoint)
        assert (answer.status, answer.body) == (200, b"ok")
    answer = await server.http("GET", "/readyz?verbose")
    assert answer.body.startswith(b"[+]ping ok\n") and answer.body.endswith(b"readyz check passed\n")
    assert (await server.http("GET", "/livez/ping")).body == b"ok"
    server.api.health.shutting_down = True
    answer = await server.http("GET", "/readyz")
    assert answer.status == 500 and b"[-]shutdown failed: reason withheld" in answer.body
    assert (await server.http("GET", "/readyz?exclude=shutdown")).status == 200
    said = (await server.http("GET", "/metrics/slis")).body.decode().splitlines()
    assert 'kubernetes_healthcheck{name="ping",type="livez"} 1' in said
    assert 'kubernetes_healthcheck{name="shutdown",type="readyz"} 0' in said
    assert 'kubernetes_healthchecks_total{name="shutdown",status="error",type="readyz"} 1' in said
    server.api.health.shutting_down = False


async def test_version_discovery_openapi_and_metrics(server: ApiUnderTest) -> None:
    assert (await server.http("GET", "/version")).json["minor"] == "36"
    assert (await server.http("GET", "/api")).json["versions"] == ["v1"]
    assert "deployments/scale" in [r["name"] for r in (await server.http("GET", "/apis/apps/v1")).json["resources"]]
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    aggregated = await server.http("GET", "/apis", headers={"Accept": accept})
    assert aggregated.json["kind"] == "APIGroupDiscoveryList"
    again = await server.http("GET", "/apis", headers={"Accept": accept, "If-None-Match": aggregated.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    # a client's cache takes the headers of a 304 for those of what it holds
    assert "Content-Type" not in again.headers and "Content-Length" not in again.headers
    paths = (await server.http("GET", "/openapi/v3")).json["paths"]
    document = await server.http("GET", paths["apis/apps/v1"]["serverRelativeURL"])
    assert "io.k8s.api.apps.v1.Deployment" in document.json["components"]["schemas"]
    assert document.headers["Cache-Control"] == "public, immutable"
    metrics = (await server.http("GET", "/metrics")).body.decode()
    assert 'apiserver_request_total{verb="CREATE",group="",version="v1",resource="namespaces",subresource="",code="201"} 2' in metrics
    assert "# TYPE apiserver_request_total counter\n" in metrics and "\nprocess_resident_memory_bytes " in metrics


def test_counters_are_bounded_whatever_is_asked_for() -> None:
    metrics = RequestMetrics()
    for number in range(10_100):
        metrics.count(parse("GET", f"/apis/g{number}/v1/things"), 403)
    samples = metrics.family().samples
    assert sum(sample.value for sample in samples) == 10_100
    assert len(samples) == 10_001
    assert [sample.value for sample in samples if not sample.labels["group"]] == [100]


async def test_every_answer_has_an_audit_id_of_its_own(server: ApiUnderTest) -> None:
    ids = {(await server.http("GET", "/version")).headers["Audit-Id"] for _ in range(3)}
    assert len(ids) == 3 and all(len(i) == 36 for i in ids)


async def test_a_failure_inside_is_a_500_status_and_not_the_end(server: ApiUnderTest, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        name = "Broken"

        async def admit(self, request: object) -> None:
            raise ZeroDivisionError("a fault")

        async def validate(self, request: object) -> None:
            pass

    server.api.writer._admission = Phases((Broken(),))
    answer = await server.http("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "a"}})
    assert (answer.status, answer.json["reason"]) == (500, "InternalError")
    assert "request failed" in caplog.text
    server.api.writer._admission = Phases(())
    assert (await server.http("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "a"}})).status == 201


async def test_clients_of_the_process_see_views_and_errors(server: ApiUnderTest) -> None:
    client = server.client("system:kube-controller-manager", ())
    made = await client.create(ConfigMap, {"metadata": {"name": "a"}, "data": {"k": "v"}}, "default")
    assert (await client.get(ConfigMap, "a", "default")).metadata.uid == made.metadata.uid
    with pytest.raises(NotFound):
        await client.get(Node, "none")
    listed = await client.list(ConfigMap, "default", page=1)
    assert [obj.metadata.name for obj in listed.items] == ["a"]

    async def changes() -> list[str]:
        seen = []
        async for event in client.watch(ConfigMap, "default", resource_version=listed.resource_version):
            seen.append(event.type)
            if event.type == "DELETED":
                break
        return seen

    task = asyncio.create_task(changes())
    await asyncio.sleep(0)
    await client.patch(ConfigMap, "a", {"data": {"k": "w"}}, "default")
    await client.delete(ConfigMap, "a", "default", uid=made.metadata.uid)
    assert await asyncio.wait_for(task, 5) == ["MODIFIED", "DELETED"]


async def test_pipelined_requests_are_answered_in_order(server: ApiUnderTest) -> None:
    context = server.keys.client_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname="localhost")
    head = f"Host: x\r\nAuthorization: Bearer {server.token}\r\n"
    writer.write(f"GET /version HTTP/1.1\r\n{head}\r\nGET /api HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert answer.index(b'"gitVersion"') < answer.index(b'"APIVersions"') and b"Connection: close" in answer
    writer.close()


async def test_a_client_that_waits_for_100_continue_gets_it(server: ApiUnderTest) -> None:
    context = server.keys.client_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname="localhost")
    body = b'{"metadata":{"name":"a"}}'
    writer.write(
        f"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        f"Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    )
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 201 Created\r\n")
    writer.close()
