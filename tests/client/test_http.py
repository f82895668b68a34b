"""The HTTP transport against the real API server over TLS, and against servers that go away."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from minikube_py import pki
from minikube_py.client import Client, Patch
from minikube_py.client import http as client_http
from minikube_py.client.http import HttpTransport
from minikube_py.client.transport import TransportError
from minikube_py.control import Informers
from minikube_py.meta.errors import NotFound, Unauthorized
from minikube_py.types.core import ConfigMap
from tests.apiserver.trusted import trusted_server
from tests.support.api import api_server
from tests.support.waiting import until


def config_map(name: str, **data: str) -> dict[str, object]:
    return {"metadata": {"name": name}, "data": data}


async def test_objects_are_written_read_watched_and_deleted(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        client = Client(HttpTransport(server.url, server.keys.client_context(pki.ADMIN)))
        await client.create(ConfigMap, config_map("a", x="1"), "default")
        informers = Informers(client)
        maps = informers.of(ConfigMap)
        await asyncio.wait_for(maps.synced.wait(), 5)
        await client.patch(ConfigMap, "a", {"data": {"x": "2"}}, "default", kind=Patch.MERGE)
        await until(lambda: maps.get("default/a") is not None and maps.get("default/a").data["x"] == "2")  # type: ignore[union-attr]
        await client.delete(ConfigMap, "a", "default")
        await until(lambda: maps.get("default/a") is None)
        with pytest.raises(NotFound):
            await client.get(ConfigMap, "a", "default")
        await informers.close()
        await client.close()


async def test_a_long_list_and_a_watch_arrive_whole(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        local = server.client()
        for number in range(60):
            await local.create(ConfigMap, config_map(f"big-{number:02}", text="x" * 20000), "default")
        client = Client(HttpTransport(server.url, server.keys.client_context(pki.ADMIN)))
        assert len((await client.list(ConfigMap, "default", page=25)).items) == 60
        seen = []
        async for event in client.watch(ConfigMap, "default", resource_version="1"):
            if event.type == "ADDED" and event.object.metadata.name.startswith("big-"):
                seen.append(event.object.metadata.name)
            if len(seen) == 60:
                break
        assert seen == sorted(seen)
        await client.close()


async def test_a_token_is_shown_and_a_wrong_one_refused(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        good = Client(HttpTransport(server.url, server.keys.client_context(), token=server.token))
        assert (await good.list(ConfigMap, "default")).items == ()
        bad = Client(HttpTransport(server.url, server.keys.client_context(), token="wrong"))
        with pytest.raises(Unauthorized):
            await bad.list(ConfigMap, "default")
        await good.close()
        await bad.close()


async def test_a_server_of_another_cluster_gets_nothing(tmp_path: Path) -> None:
    async with api_server(tmp_path / "one") as server, api_server(tmp_path / "other") as other:
        client = Client(HttpTransport(server.url, other.keys.client_context(), token=server.token))
        with pytest.raises(TransportError) as caught:
            await client.list(ConfigMap)
        assert isinstance(caught.value.__cause__, ssl.SSLError | OSError)
        await client.close()


async def test_nobody_listening_is_a_transport_error_that_says_where(tmp_path: Path) -> None:
    client = Client(HttpTransport("https://127.0.0.1:1", ssl.create_default_context()))
    with pytest.raises(TransportError, match=r"GET https://127\.0\.0\.1:1/api/v1/configmaps"):
        await client.list(ConfigMap)
    await client.close()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await writer.drain()
    await reader.read()
    writer.close()


async def test_a_watch_that_says_nothing_and_an_answer_that_does_not_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_http, "SILENT_WATCH", 0.2)
    listener = await asyncio.start_server(_silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    client = Client(HttpTransport(f"http://127.0.0.1:{port}", ssl.create_default_context(), timeout=0.3))
    with pytest.raises(TransportError):
        async for _ in client.watch(ConfigMap, resource_version="1"):
            pass
    with pytest.raises(TransportError, match="no answer within"):
        await client.list(ConfigMap)
    await client.close()
    listener.close()


async def test_a_broken_watch_goes_on_after_the_server_is_back(tmp_path: Path) -> None:
    port = 0
    async with trusted_server(tmp_path) as server:
        port = server.port
        client = Client(HttpTransport(server.url, server.keys.client_context(pki.ADMIN)))
        informers = Informers(client)
        maps = informers.of(ConfigMap)
        await asyncio.wait_for(maps.synced.wait(), 5)
        before = len(maps)
        await server.front.close()
        await server.client().create(ConfigMap, config_map("meanwhile"), "default")
        await asyncio.sleep(0.3)
        assert len(maps) == before
        await server.front.start("127.0.0.1", port, server.keys.api_server_context())
        await until(lambda: maps.get("default/meanwhile") is not None, 10)
        await informers.close()
        await client.close()


async def _user(client: Client) -> str:
    import orjson

    body = b'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'
    answer = await client.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body)
    name: str = orjson.loads(answer)["status"]["userInfo"]["username"]
    return name


async def test_another_certificate_is_shown_after_renew_and_running_watches_go_on(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        context = server.keys.client_context(pki.ADMIN)
        transport = HttpTransport(server.url, context)
        client = Client(transport)
        watch = client.watch(ConfigMap, "default", resource_version="")
        first = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.1)
        assert await _user(client) == "system:admin"
        context.load_cert_chain(server.keys.certificate_path(pki.KUBE_PROXY), server.keys.key_path(pki.KUBE_PROXY))
        assert await _user(client) == "system:admin", "a kept connection is who it was"
        transport.renew()
        assert await _user(client) == "system:kube-proxy"
        await server.client().create(ConfigMap, config_map("b"), "default")
        assert (await asyncio.wait_for(first, 5)).object.metadata.name == "b"
        await watch.aclose()  # type: ignore[attr-defined]
        await client.close()


def test_aiohttp_is_not_imported_before_the_first_request() -> None:
    code = "import sys, minikube_py.client.http; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
