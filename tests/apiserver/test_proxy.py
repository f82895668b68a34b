"""What the API server passes on: logs and streams from a node, requests to pods and services. The other end is a small HTTP server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from minikube_py.apiserver.proxy import Proxies
from minikube_py.meta.errors import ServiceUnavailable
from minikube_py.types.core import Node
from minikube_py.types.pod import Pod
from tests.support.api import ApiUnderTest

LOG = "/api/v1/namespaces/default/pods/p/log"
EXEC = "/api/v1/namespaces/default/pods/p/exec?container=c&stdin=true&stdout=true&command=sh&command=-c&command=a%20b"


class Backend:
    """Answers what `reply` says to each request's head, and echoes after an upgrade."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.certificates: list[bytes | None] = []
        self.reply = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n"
        self.hold = asyncio.Event()
        self.hold.set()
        self.ended = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            tls = writer.get_extra_info("ssl_object")
            self.certificates.append(tls.getpeercert(binary_form=True) if tls else None)
            writer.write(self.reply)
            await writer.drain()
            if b" 101 " in self.reply.split(b"\r\n")[0]:
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            elif not self.hold.is_set():
                await reader.read()
        self.ended.set()
        writer.close()


@pytest.fixture
async def kubelet(server: ApiUnderTest) -> AsyncIterator[Backend]:
    backend = Backend()
    listener = await asyncio.start_server(backend.serve, "127.0.0.1", 0, ssl=server.keys.kubelet_context())
    backend.port = listener.sockets[0].getsockname()[1]
    client = server.client()
    await client.create(Node, {"metadata": {"name": "n1"}})
    status = {
        "addresses": [{"type": "Hostname", "address": "nowhere"}, {"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": backend.port}},
    }
    await client.patch(Node, "n1", {"status": status}, subresource="status")
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]}}
    await client.create(Pod, pod, "default")
    yield backend
    listener.close()


async def test_logs_come_from_the_kubelet_with_the_servers_own_certificate(server: ApiUnderTest, kubelet: Backend) -> None:
    answer = await server.http("GET", LOG + "?container=c&tailLines=5&follow=true&pretty=1")
    assert (answer.status, answer.body) == (200, b"hello\n") and answer.headers["Content-Type"] == "text/plain"
    head = kubelet.requests[0]
    assert head.startswith(b"GET /containerLogs/default/p/c?follow=true&tailLines=5 HTTP/1.1\r\n")
    assert b"uthorization" not in head and kubelet.certificates[0] is not None


async def test_a_container_must_be_chosen(server: ApiUnderTest, kubelet: Backend) -> None:
    answer = await server.http("GET", LOG)
    assert answer.json["message"] == "a container name must be specified for pod p, choose one of: [c d]"
    answer = await server.http("GET", LOG + "?container=x")
    assert (answer.status, answer.json["message"]) == (400, "container x is not valid for pod p")
    assert (await server.http("GET", LOG.replace("/p/", "/q/"))).status == 404


async def test_the_kubelets_errors_are_the_users(server: ApiUnderTest, kubelet: Backend) -> None:
    text = b'container "c" in pod "p" is waiting to start: ImagePullBackOff'
    kubelet.reply = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
    answer = await server.http("GET", LOG + "?container=c")
    assert (answer.status, answer.json["reason"], answer.json["message"]) == (400, "BadRequest", text.decode())
    kubelet.reply = b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops"
    answer = await server.http("GET", LOG + "?container=c")
    assert (answer.status, answer.json["message"]) == (500, "Internal error occurred: oops")


async def test_a_node_that_is_away_is_a_clear_error(server: ApiUnderTest, kubelet: Backend) -> None:
    client = server.client()
    away = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}}
    await client.patch(Node, "n1", away, subresource="status")
    answer = await server.http("GET", LOG + "?container=c")
    assert answer.status == 500
    assert answer.json["message"].endswith('/containerLogs/default/p/c": dial tcp 127.0.0.1:1: connect: connection refused')
    answer = await server.http("POST", EXEC, headers={"Connection": "Upgrade", "Upgrade": "SPDY/3.1"})
    assert (answer.status, answer.json["message"]) == (500, "error dialing backend: dial tcp 127.0.0.1:1: connect: connection refused")


async def test_a_followed_log_ends_when_the_client_goes(server: ApiUnderTest, kubelet: Backend) -> None:
    kubelet.reply = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n"
    kubelet.hold.clear()
    session = server.session()
    headers = {"Authorization": f"Bearer {server.token}"}
    async with session.get(server.url + LOG + "?container=c&follow=true", headers=headers) as answer:
        assert await asyncio.wait_for(answer.content.readline(), 5) == b"first\n"
        assert not kubelet.ended.is_set()
    await session.close()
    await asyncio.wait_for(kubelet.ended.wait(), 5)


async def upgraded(server: ApiUnderTest, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    context = server.keys.client_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname="localhost")
    lines = [
        f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {server.token}", "Connection: Upgrade", "Upgrade: SPDY/3.1",
        "X-Stream-Protocol-Version: v4.channel.k8s.io", "Content-Length: 0", "", "",
    ]  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    return reader, writer, head


async def test_exec_is_a_tunnel_of_bytes(server: ApiUnderTest, kubelet: Backend) -> None:
    kubelet.reply = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
    reader, writer, head = await upgraded(server, EXEC)
    assert head == kubelet.reply
    sent = kubelet.requests[0].decode()
    assert sent.startswith("POST /exec/default/p/c?input=1&output=1&command=sh&command=-c&command=a+b HTTP/1.1\r\n")
    assert "Upgrade: SPDY/3.1\r\n" in sent and "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n" in sent and server.token not in sent
    big = bytes(range(256)) * 20_000
    writer.write(big)
    assert await asyncio.wait_for(reader.readexactly(len(big)), 10) == big
    writer.write(b"more")
    assert await asyncio.wait_for(reader.readexactly(4), 5) == b"more"
    writer.close()
    await asyncio.wait_for(kubelet.ended.wait(), 5)


async def test_the_client_hears_when_the_kubelet_ends_the_stream(server: ApiUnderTest, kubelet: Backend) -> None:
    kubelet.reply = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nlast words"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(kubelet.reply)
        writer.close()

    kubelet.serve = serve  # type: ignore[method-assign]
    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server.keys.kubelet_context())
    port = listener.sockets[0].getsockname()[1]
    status = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}}
    await server.client().patch(Node, "n1", status, subresource="status")
    reader, writer, _ = await upgraded(server, EXEC)
    assert await asyncio.wait_for(reader.read(), 5) == b"last words"
    writer.close()
    listener.close()


async def test_a_refused_upgrade_is_the_kubelets_error(server: ApiUnderTest, kubelet: Backend) -> None:
    kubelet.reply = b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno such c"
    answer = await server.http("POST", EXEC, headers={"Connection": "Upgrade", "Upgrade": "SPDY/3.1"})
    assert (answer.status, answer.body) == (404, b"no such c")  # clients look for the kubelet's own words
    answer = await server.http("POST", EXEC)
    assert (answer.status, answer.json["message"]) == (400, "Upgrade request required")
    answer = await server.http("POST", EXEC.replace("command", "other"), headers={"Connection": "Upgrade", "Upgrade": "SPDY/3.1"})
    assert answer.status == 400


async def test_requests_to_nodes_pods_and_services(server: ApiUnderTest, kubelet: Backend) -> None:
    assert (await server.http("GET", "/api/v1/nodes/n1/proxy/pods/?x=1")).body == b"hello\n"
    assert kubelet.requests[-1].startswith(b"GET /pods/?x=1 HTTP/1.1\r\n")
    web = Backend()
    listener = await asyncio.start_server(web.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    client = server.client()
    await client.patch(Pod, "p", {"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}}, "default", subresource="status")
    answer = await server.http("PUT", f"/api/v1/namespaces/default/pods/p:{port}/proxy/a/b?c=d", b"body", content_type="text/x")
    assert answer.body == b"hello\n"
    assert web.requests[-1].startswith(b"PUT /a/b?c=d HTTP/1.1\r\n") and b"text/x" in web.requests[-1]
    service: dict[str, Any] = {"metadata": {"name": "s"}, "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}}
    await client.request("POST", "/api/v1/namespaces/default/services", body=_json(service))
    answer = await server.http("GET", "/api/v1/namespaces/default/services/s:http/proxy/")
    assert (answer.status, answer.json["message"]) == (503, 'no endpoints available for service "s"')
    listener.close()


async def test_a_backend_may_answer_with_large_headers(server: ApiUnderTest, kubelet: Backend) -> None:
    kubelet.reply = b"HTTP/1.1 200 OK\r\nX-Large: %b\r\nContent-Length: 6\r\n\r\nhello\n" % (b"x" * 50_000)
    session = aiohttp.ClientSession(max_line_size=1 << 20, max_field_size=1 << 20)
    headers = {"Authorization": f"Bearer {server.token}"}
    async with session, session.get(f"{server.url}/api/v1/nodes/n1/proxy/", headers=headers, ssl=server.keys.client_context("")) as answer:
        assert (answer.status, len(answer.headers["X-Large"]), await answer.read()) == (200, 50_000, b"hello\n")


async def test_a_services_ready_endpoints_are_where_its_port_goes(server: ApiUnderTest) -> None:
    client = server.client()
    for number, ready in ((1, True), (2, False), (3, True)):
        endpoint_slice = {
            "metadata": {"name": f"s-{number}", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [f"10.1.2.{number}"], "conditions": {"ready": ready}}],
            "ports": [{"name": "http", "port": 8080}, {"name": "more", "port": 9090}],
        }
        await client.request("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", body=_json(endpoint_slice))
    proxies = Proxies(server.cache, server.keys.client_context(), server.api.writer.admit, server.api.authorize)
    assert {proxies.endpoint("default", "s", "more") for _ in range(50)} == {("10.1.2.1", 9090), ("10.1.2.3", 9090)}
    with pytest.raises(ServiceUnavailable):
        proxies.endpoint("kube-system", "s", "http")


def _json(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()
