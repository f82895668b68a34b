"""What probes and hooks do, against real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from minikube_py.cri.client import CriClient
from minikube_py.kubelet.handlers import Handlers
from minikube_py.types.handlers import HTTPGetAction, HTTPHeader, TCPSocketAction
from minikube_py.types.pod import Container, ContainerPort

WEB = Container(name="web", ports=(ContainerPort(containerPort=1, name="http"),))


@contextlib.asynccontextmanager
async def handlers() -> AsyncIterator[Handlers]:
    cri = CriClient(Path("/nowhere"))
    made = Handlers(cri, "kube-probe/1.36")
    yield made
    await made.close()
    await cri.close()


@contextlib.asynccontextmanager
async def server(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[web.Request]]]:
    """A web server that answers by its path, and what was asked of it."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        match request.path:
            case "/bad":
                return web.Response(status=500, text="broken")
            case "/away":
                return web.Response(status=302, headers={"Location": "http://elsewhere.invalid/"}, text="gone")
            case "/here":
                return web.Response(status=302, headers={"Location": "/ok?again"})
            case "/round":
                return web.Response(status=302, headers={"Location": "/round"})
            case "/slow":
                await asyncio.sleep(1)
        return web.Response(text="fine")

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    assert site._server is not None
    yield site._server.sockets[0].getsockname()[1], asked  # type: ignore[attr-defined]
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "ok", "text"),
    [
        ("/ok", True, "fine"),
        ("bare", True, "fine"),
        ("/here", True, "fine"),
        ("/away", True, "Probe terminated redirects, Response body: gone"),
        ("/bad", False, "HTTP probe failed with statuscode: 500"),
        ("/round", False, "stopped after 10 redirects"),
        ("/slow", False, "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"),
    ],
)
async def test_a_get(path: str, ok: bool, text: str) -> None:
    async with handlers() as made, server() as (port, asked):
        headers = (HTTPHeader(name="Host", value="there"), HTTPHeader(name="accept", value=""), HTTPHeader(name="X-A", value="1"))
        outcome = await made.http(HTTPGetAction(port=port, path=path, httpHeaders=headers), "127.0.0.1", WEB, 0.5)
        assert outcome.ok is ok and text in outcome.text and outcome.warning is (path == "/away")
        first = asked[0].headers
        assert (first["User-Agent"], first["Host"], first["X-A"]) == ("kube-probe/1.36", "there", "1")


async def test_https_needs_no_authority_and_hooks_take_any_answer(tmp_path: Path) -> None:
    tls = await asyncio.to_thread(_own_certificate, tmp_path)
    async with handlers() as made, server(tls) as (port, _), server() as (plain, asked):
        secure = HTTPGetAction(port=port, path="/ok", scheme="HTTPS")
        assert (await made.http(secure, "127.0.0.1", WEB, 2)).ok
        assert (await made.http_hook(secure, "127.0.0.1", WEB, 2)).ok
        assert (await made.http_hook(HTTPGetAction(port=plain, path="/bad"), "127.0.0.1", WEB, 2)).ok
        credentials = (HTTPHeader(name="Authorization", value="Bearer x"),)
        wrong = HTTPGetAction(port=plain, path="/ok", scheme="HTTPS", httpHeaders=credentials)
        assert not (await made.http(wrong, "127.0.0.1", WEB, 2)).ok
        assert (await made.http_hook(wrong, "127.0.0.1", WEB, 2)).ok
        assert "Authorization" not in asked[-1].headers and asked[-1].headers["User-Agent"] == "kube-lifecycle/1.36"


def _own_certificate(directory: Path) -> ssl.SSLContext:
    """TLS by a certificate that signs itself, for no name that anybody asks for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "self")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(1))
    file = directory / "own.pem"
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(private + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_nobody_answers() -> None:
    async with handlers() as made:
        refused = "dial tcp 127.0.0.1:1: connect: connection refused"
        outcome = await made.http(HTTPGetAction(port="http", path="/"), "127.0.0.1", WEB, 1)
        assert outcome == (False, f'Get "http://127.0.0.1:1/": {refused}', False)
        assert await made.tcp(TCPSocketAction(port="http"), "127.0.0.1", WEB, 1) == (False, refused, False)
        assert (await made.tcp(TCPSocketAction(port="none"), "127.0.0.1", WEB, 1)).text == "couldn't find port: none"
        assert "error: health rpc probe failed" in (await made.grpc(1, "", "127.0.0.1", 1)).text


class _Health(grpc.GenericRpcHandler):
    """grpc.health.v1.Health, that answers by the service's name."""

    def service(self, call: Any) -> Any:
        if call.method != "/grpc.health.v1.Health/Check":
            return None

        async def check(request: bytes, context: Any) -> bytes:
            if request == b"":
                return b"\x08\x01"
            if request.endswith(b"slow"):
                await asyncio.sleep(1)
            return b"\x08\x01" if request == b"\x0a\xc8\x01" + b"s" * 200 else b"\x08\x02"

        return grpc.unary_unary_rpc_method_handler(check)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("service", "ok", "text"),
    [
        ("", True, "service healthy"),
        ("s" * 200, True, "service healthy"),
        ("other", False, 'service unhealthy (responded with "NOT_SERVING")'),
        ("slow", False, "timeout: health rpc did not complete within 0.5s"),
    ],
)
async def test_grpc(service: str, ok: bool, text: str) -> None:
    serving = grpc.aio.server(handlers=(_Health(),))
    port = serving.add_insecure_port("127.0.0.1:0")
    await serving.start()
    try:
        async with handlers() as made:
            assert await made.grpc(port, service, "127.0.0.1", 0.5) == (ok, text, False)
    finally:
        await serving.stop(0)
