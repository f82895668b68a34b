"""Carries out the actions of probes and lifecycle hooks: exec, httpGet, tcpSocket, grpc. What the outcome means is the caller's."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, NamedTuple

from minikube_py.cri import errors
from minikube_py.cri.client import CriClient
from minikube_py.types.pod import Container, ExecAction, HTTPGetAction, IntOrString, TCPSocketAction

if TYPE_CHECKING:
    import aiohttp

_BODY_LIMIT = 10 * 1024


class Outcome(NamedTuple):
    """Whether it worked, and what is said of it."""

    ok: bool
    text: str


def port_number(port: IntOrString, container: Container) -> int:
    """A port by number or by its name in the container. Raises ValueError."""
    if isinstance(port, int):
        return port
    for declared in container.ports:
        if declared.name == port:
            return declared.containerPort
    try:
        return int(port)
    except ValueError:
        raise ValueError(f"couldn't find port: {port}") from None


class Handlers:
    """Runs actions against containers and addresses of pods. None of them raises for what the action itself met."""

    def __init__(self, cri: CriClient, agent: str) -> None:
        self._cri, self._agent = cri, agent
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def exec(self, container_id: str, action: ExecAction, timeout: float) -> Outcome:
        """Run a command in a container; it works when it exits with 0."""
        try:
            answer = await self._cri.exec_sync(container_id, action.command, timeout)
        except errors.DeadlineExceeded:
            return Outcome(False, f"command timed out: {_quoted(action)} timed out after {_seconds(timeout)}")
        except errors.CriError as error:
            return Outcome(False, f"command {_quoted(action)} failed: {error}")
        text = (answer.stdout + answer.stderr)[:_BODY_LIMIT].decode("utf-8", "replace")
        return Outcome(answer.exit_code == 0, text)

    async def http(self, action: HTTPGetAction, address: str, container: Container, timeout: float, agent: str = "") -> Outcome:
        """GET; it works with a status from 200 to 399."""
        import aiohttp

        try:
            port = port_number(action.port, container)
        except ValueError as error:
            return Outcome(False, str(error))
        host = action.host or address
        shown = f"[{host}]" if ":" in host else host
        path = action.path if action.path.startswith("/") else "/" + action.path
        url = f"{(action.scheme or 'HTTP').lower()}://{shown}:{port}{path}"
        headers = {"User-Agent": agent or self._agent, "Accept": "*/*", "Connection": "close"}
        headers.update((header.name, header.value) for header in action.httpHeaders)
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=False, force_close=True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        try:
            limit = aiohttp.ClientTimeout(total=timeout)
            async with self._session.get(url, headers=headers, timeout=limit, allow_redirects=True, max_redirects=10) as response:
                body = (await response.content.read(_BODY_LIMIT)).decode("utf-8", "replace")
                if 200 <= response.status < 400:
                    return Outcome(True, body)
                return Outcome(False, f"HTTP probe failed with statuscode: {response.status}")
        except TimeoutError:
            return Outcome(False, f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)')
        except aiohttp.ClientConnectorError as error:
            return Outcome(False, f'Get "{url}": dial tcp {shown}:{port}: connect: {_reason(error.os_error)}')
        except (aiohttp.ClientError, OSError) as error:
            return Outcome(False, f'Get "{url}": {error}')

    async def tcp(self, action: TCPSocketAction, address: str, container: Container, timeout: float) -> Outcome:
        """Open a connection and close it again."""
        try:
            port = port_number(action.port, container)
        except ValueError as error:
            return Outcome(False, str(error))
        host = action.host or address
        shown = f"[{host}]" if ":" in host else host
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(host, port)
            writer.close()
        except TimeoutError:
            return Outcome(False, f"dial tcp {shown}:{port}: i/o timeout")
        except OSError as error:
            return Outcome(False, f"dial tcp {shown}:{port}: connect: {_reason(error)}")
        return Outcome(True, "")

    async def grpc(self, port: int, service: str, address: str, timeout: float) -> Outcome:
        """grpc.health.v1.Health/Check; it works with SERVING."""
        import grpc

        shown = f"[{address}]" if ":" in address else address
        request = b"\x0a" + bytes([len(service)]) + service.encode() if service else b""
        async with grpc.aio.insecure_channel(f"{shown}:{port}", options=(("grpc.enable_http_proxy", 0),)) as channel:
            try:
                call = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
                answer: bytes = await call(request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    return Outcome(
                        False, f"this server does not implement the grpc health protocol (grpc.health.v1.Health): {error.details()}"
                    )
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    return Outcome(
                        False, f'timeout: failed to connect service "{shown}:{port}" within {_seconds(timeout)}: context deadline exceeded'
                    )
                return Outcome(False, f"error: health rpc probe failed: {error.details()}")
        if answer == b"\x08\x01":
            return Outcome(True, "service healthy")
        return Outcome(False, 'service unhealthy (responded with "NOT_SERVING")')


def _quoted(action: ExecAction) -> str:
    return '"' + " ".join(action.command) + '"'


def _seconds(timeout: float) -> str:
    return f"{timeout:g}s"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
