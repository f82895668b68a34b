"""Carries out the actions of probes and lifecycle hooks: exec, httpGet, tcpSocket, grpc. What the outcome means is the caller's."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, NamedTuple

from minikube_py.cri import errors
from minikube_py.cri.client import CriClient
from minikube_py.types.handlers import ExecAction, HTTPGetAction, TCPSocketAction
from minikube_py.types.pod import Container, IntOrString

if TYPE_CHECKING:
    import aiohttp

_BODY_LIMIT = 10 * 1024
_REDIRECTS = 10
_REDIRECTING = frozenset({301, 302, 303, 307, 308})
_SERVING = 1
_HEALTH = {0: "UNKNOWN", _SERVING: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
"""grpc.health.v1.HealthCheckResponse.ServingStatus."""


class Outcome(NamedTuple):
    """Whether it worked, and what is said of it."""

    ok: bool
    text: str
    warning: bool = False
    """It worked in a way that is worth an event."""


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

    async def http(self, action: HTTPGetAction, address: str, container: Container, timeout: float) -> Outcome:
        """A probe's GET; it works with a status from 200 to 399. Redirects are followed on the same host; one that leads elsewhere is a
        success with a warning."""
        import aiohttp
        from yarl import URL

        try:
            url, where = _url(action, address, container)
        except ValueError as error:
            return Outcome(False, str(error))
        headers = _headers(action, self._agent)
        try:
            async with asyncio.timeout(timeout):
                target = URL(url)
                for _ in range(_REDIRECTS):
                    async with self._client().get(target, headers=headers, allow_redirects=False) as response:
                        body = (await response.content.read(_BODY_LIMIT)).decode("utf-8", "replace")
                        status, location = response.status, response.headers.get("Location", "")
                    if status not in _REDIRECTING or not location:
                        break
                    after = target.join(URL(location))
                    if after.host != target.host:
                        return Outcome(True, f"Probe terminated redirects, Response body: {body}", warning=True)
                    target = after
                else:
                    return Outcome(False, f'Get "{url}": stopped after {_REDIRECTS} redirects')
                return Outcome(True, body) if 200 <= status < 400 else Outcome(False, f"HTTP probe failed with statuscode: {status}")
        except TimeoutError:
            return Outcome(False, f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)')
        except aiohttp.ClientConnectorError as error:
            return Outcome(False, f'Get "{url}": dial tcp {where}: connect: {_reason(error.os_error)}')
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(False, f'Get "{url}": {error}')

    async def http_hook(self, action: HTTPGetAction, address: str, container: Container, timeout: float) -> Outcome:
        """A lifecycle hook's GET: any answer will do. One that says https of a server that only speaks http is asked again without TLS, and
        then without credentials."""
        import aiohttp

        try:
            url, where = _url(action, address, container)
        except ValueError as error:
            return Outcome(False, str(error))
        headers = _headers(action, self._agent.replace("kube-probe", "kube-lifecycle"))
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            try:
                async with self._client().get(url, headers=headers, timeout=limit):
                    return Outcome(True, "")
            except aiohttp.ClientConnectorSSLError:
                headers.pop("Authorization", None)
                async with self._client().get("http" + url.removeprefix("https"), headers=headers, timeout=limit):
                    return Outcome(True, "")
        except TimeoutError:
            return Outcome(False, f'Get "{url}": context deadline exceeded')
        except aiohttp.ClientConnectorError as error:
            return Outcome(False, f'Get "{url}": dial tcp {where}: connect: {_reason(error.os_error)}')
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(False, f'Get "{url}": {error}')

    def _client(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=False, force_close=True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

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
        options = (("grpc.enable_http_proxy", 0), ("grpc.primary_user_agent", self._agent))
        async with grpc.aio.insecure_channel(f"{shown}:{port}", options=options) as channel:
            try:
                call = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
                answer: bytes = await call(_health_request(service), timeout=timeout)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    words = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
                    return Outcome(False, f"{words}: {error.details()}")
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    return Outcome(False, f"timeout: health rpc did not complete within {_seconds(timeout)}")
                return Outcome(False, f"error: health rpc probe failed: {error.details()}")
        status = answer[1] if len(answer) >= 2 and answer[0] == 0x08 else 0
        if status == _SERVING:
            return Outcome(True, "service healthy")
        return Outcome(False, f'service unhealthy (responded with "{_HEALTH.get(status, str(status))}")')


def _url(action: HTTPGetAction, address: str, container: Container) -> tuple[str, str]:
    """(the URL, host:port) of an action. Raises ValueError for a port that the container does not have."""
    port = port_number(action.port or 80, container)
    host = action.host or address
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    path = action.path if action.path.startswith("/") else "/" + action.path
    return f"{(action.scheme or 'HTTP').lower()}://{where}{path}", where


def _headers(action: HTTPGetAction, agent: str) -> dict[str, str]:
    headers = {"User-Agent": agent, "Accept": "*/*", "Connection": "close"}
    for given in action.httpHeaders:
        name = next((known for known in headers if known.lower() == given.name.lower()), given.name)
        headers[name] = given.value
    # a header that is given without a value is one not to be sent
    return {name: value for name, value in headers.items() if value or name.lower() not in ("user-agent", "accept")}


def _health_request(service: str) -> bytes:
    """HealthCheckRequest, by hand: one field, `string service = 1`."""
    if not service:
        return b""
    name = service.encode()
    length, size = len(name), bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return b"\x0a" + bytes(size) + name


def _quoted(action: ExecAction) -> str:
    return '"' + " ".join(action.command) + '"'


def _seconds(timeout: float) -> str:
    return f"{timeout:g}s"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
