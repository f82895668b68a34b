"""Requests that somebody else answers: a node's kubelet (logs, exec, attach, port-forward, nodes/proxy), a pod or a service (…/proxy).

The policy here is where a request goes (`Target`), and with which path and query; bytes are moved by aiohttp's client (whole requests and
streams) or by streams.py (upgrades). The kubelet is reached at the node's InternalIP over TLS with the API server's own client certificate;
the user's credentials never leave this process.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

import aiohttp

from minikube_py import tunnel
from minikube_py.apiserver import streams
from minikube_py.apiserver.api import AdmissionRequest, Attributes, Operation, Response
from minikube_py.apiserver.cache import Cache
from minikube_py.apiserver.call import Call
from minikube_py.apiserver.links import Links
from minikube_py.meta.errors import BadRequest, Forbidden, InternalError, NotFound, ServiceUnavailable, StatusError, from_status, not_found
from minikube_py.types.meta import ResourceRef

KUBELET_PORT = 10250
NODES = ResourceRef("", "v1", "nodes", "Node", namespaced=False)
SLICES = ResourceRef("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
_SERVICE_LABEL = "kubernetes.io/service-name"
_ADDRESS_TYPES = ("InternalIP", "Hostname", "InternalDNS", "ExternalIP", "ExternalDNS")
_ERROR_LIMIT = 50_000
_PAGE_LIMIT = 4 << 20
_MAX_HEAD = 1 << 20
"""Bytes of one line of the head that a backend may answer with."""
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "host",
        "content-length", "authorization", "expect",
    }
)  # fmt: skip
_PRIVATE = ("impersonate-", "x-remote-")
_STREAMS = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))
_LOG_OPTIONS = (
    "follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream",
)  # fmt: skip

Obj = dict[str, Any]
Admit = Callable[[AdmissionRequest], Awaitable[None]]
Authorize = Callable[[Attributes], None]


class Target(NamedTuple):
    """Where a request goes on; `tls` says whether over TLS, `kubelet` whether with our certificate and the cluster's trust."""

    host: str
    port: int
    path: str
    tls: bool = False
    kubelet: bool = False

    @property
    def address(self) -> str:
        """host:port, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole URL."""
        return f"{'https' if self.tls else 'http'}://{self.address}{self.path}"


class Proxies:
    """Serves every proxied subresource. `kubelet_tls` trusts kubelets and shows our client certificate; `authorize` raises Forbidden."""

    def __init__(self, cache: Cache, kubelet_tls: ssl.SSLContext, admit: Admit, authorize: Authorize) -> None:
        self._cache, self._kubelet_tls, self._admit, self._authorize = cache, kubelet_tls, admit, authorize
        self._session: aiohttp.ClientSession | None = None
        self._untrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._untrusting.check_hostname = False
        self._untrusting.verify_mode = ssl.CERT_NONE

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # Endpoints

    async def log(self, call: Call) -> Response:
        """pods/log, over a WebSocket where one is asked for."""
        upgrade, headers = call.request.upgrade, call.request.headers
        protocol = streams.reader_protocol(headers) if upgrade is not None and streams.wants_websocket(headers) else ""
        if protocol is None:
            raise Forbidden("requested protocol(s) are not supported", details={})
        pod = self._pod(call)
        container = choose_container(pod, call.request.query.get("container", ""))
        node = (pod.get("spec") or {}).get("nodeName")
        if not node:
            return Response(200, b"", content_type="text/plain")
        query = {name: call.request.query[name] for name in _LOG_OPTIONS if call.request.query.get(name)}
        path = f"/containerLogs/{call.info.namespace}/{call.info.name}/{quote(container)}"
        target = self._kubelet(node)._replace(path=f"{path}?{urlencode(query)}" if query else path)
        response = await self._pass("GET", target, {}, b"", check=True)
        if upgrade is not None and streams.wants_websocket(headers) and response.stream is not None:
            await streams.send(upgrade, protocol, response.stream)
            return Response(101)
        return response

    async def execute(self, call: Call) -> Response:
        """pods/exec and pods/attach."""
        self._may_create(call)
        pod = self._pod(call)
        container = choose_container(pod, call.request.query.get("container", ""))
        params = [(kubelet, "1") for name, kubelet in _STREAMS if call.request.query.get(name, "").lower() in ("1", "true")]
        if call.info.subresource == "exec":
            params += [(name, value) for name, value in parse_qsl(call.request.raw_query, keep_blank_values=True) if name == "command"]
            if not any(name == "command" for name, _ in params):
                raise BadRequest("you must specify at least 1 command for the container")
        if not any(name != "command" and name != "tty" for name, _ in params):
            raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
        path = f"/{call.info.subresource}/{call.info.namespace}/{call.info.name}/{quote(container)}"
        return await self._stream(call, pod, f"{path}?{urlencode(params)}")

    async def port_forward(self, call: Call) -> Response:
        """pods/portforward."""
        self._may_create(call)
        pod = self._pod(call)
        ports = [(name, value) for name, value in parse_qsl(call.request.raw_query) if name in ("port", "ports")]
        query = "?" + urlencode([("port", value) for _, value in ports]) if ports else ""
        return await self._stream(call, pod, f"/portForward/{call.info.namespace}/{call.info.name}{query}")

    async def node(self, call: Call) -> Response:
        """nodes/proxy: the kubelet's own endpoints."""
        name, _, _ = call.info.name.partition(":")
        target = self._kubelet(name)._replace(path=behind(call))
        await self._connect(call)
        return await self._forward(call, target)

    async def pod(self, call: Call) -> Response:
        """pods/proxy: a pod's port."""
        scheme, name, port = split_name(call.info.name)
        entry = self._cache.of(call.resource).get(call.info.namespace, name)
        if entry is None:
            raise not_found("pods", name)
        pod = entry.decode()
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            raise BadRequest("address not allowed")
        target = Target(address, int(port) if port.isdigit() else _container_port(pod, port), behind(call), scheme == "https")
        await self._connect(call)
        return await self._browse(call, target)

    async def service(self, call: Call) -> Response:
        """services/proxy: one of a service's ready endpoints."""
        scheme, name, port = split_name(call.info.name)
        entry = self._cache.of(call.resource).get(call.info.namespace, name)
        if entry is None:
            raise not_found("services", name)
        spec = entry.decode().get("spec") or {}
        host, number = self.endpoint(call.info.namespace, name, _port_name(spec, name, port))
        await self._connect(call)
        return await self._browse(call, Target(host, number, behind(call), scheme == "https"))

    # Where to

    def _pod(self, call: Call) -> Obj:
        entry = self._cache.of(call.resource).get(call.info.namespace, call.info.name)
        if entry is None:
            raise call.missing()
        return entry.decode()

    def _kubelet(self, name: str) -> Target:
        entry = self._cache.of(NODES).get("", name)
        if entry is None:
            raise not_found("nodes", name)
        status = entry.decode().get("status") or {}
        by_type = {a.get("type"): a.get("address") for a in reversed(status.get("addresses") or ())}
        host = next((by_type[kind] for kind in _ADDRESS_TYPES if by_type.get(kind)), None)
        if host is None:
            listed = " ".join(_ADDRESS_TYPES)
            raise InternalError(f"Internal error occurred: no preferred addresses found; known addresses: [], wanted: [{listed}]")
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or KUBELET_PORT
        return Target(host, port, "/", tls=True, kubelet=True)

    def endpoint(self, namespace: str, service: str, port: str) -> tuple[str, int]:
        """The address and port of one of a service's ready endpoints, for one of its ports by name. Raises ServiceUnavailable."""
        found = []
        for entry in self._cache.of(SLICES).entries(namespace):
            if entry.labels.get(_SERVICE_LABEL) != service:
                continue
            endpoint_slice = entry.decode()
            numbers = [p.get("port") for p in endpoint_slice.get("ports") or () if (p.get("name") or "") == port and p.get("port")]
            for endpoint in endpoint_slice.get("endpoints") or ():
                if numbers and (endpoint.get("conditions") or {}).get("ready", True) is not False:
                    found += [(address, numbers[0]) for address in endpoint.get("addresses") or ()]
        if not found:
            raise ServiceUnavailable(f'no endpoints available for service "{service}"')
        return random.choice(found)

    # Passing on

    async def _connect(self, call: Call) -> None:
        info = call.info
        request = AdmissionRequest(
            Operation.CONNECT, call.resource, info.subresource, info.namespace, info.name, None, None, call.request.user, False
        )
        await self._admit(request)

    def _may_create(self, call: Call) -> None:
        """WebSockets begin with a GET; who may only read shall not run commands for it (upstream since 1.35). Raises Forbidden."""
        verb, _, group, version, resource, subresource, namespace, name, _ = call.info
        if verb != "create":
            self._authorize(Attributes(call.request.user, "create", group, version, resource, subresource, namespace, name))

    async def _stream(self, call: Call, pod: Obj, path: str) -> Response:
        node = (pod.get("spec") or {}).get("nodeName")
        if not node:
            raise BadRequest(f"pod {call.info.name} does not have a host assigned")
        await self._connect(call)
        if call.request.upgrade is None:
            raise BadRequest("Upgrade request required")
        return await self._upgrade(call, self._kubelet(node)._replace(path=path))

    async def _browse(self, call: Call, target: Target) -> Response:
        """A request to a pod or a service, whose pages go on being read through the proxy."""
        request, path = call.request, call.info.path
        if request.upgrade is not None:
            return await self._forward(call, target)
        if path.endswith(f"/{call.info.name}/proxy") and request.method in ("GET", "HEAD"):
            query = f"?{request.raw_query}" if request.raw_query else ""
            return Response(301, b"", headers={"Location": f"{quote(path)}/{query}"})
        prefix = path[: path.index(f"/{call.info.name}/proxy")] + f"/{call.info.name}/proxy"
        answer = await self._forward(call, target, {"X-Forwarded-Uri": prefix + target.path})
        links = Links(prefix, (target.address, request.headers.get("host", "")))
        if location := answer.headers.get("Location"):
            answer.headers = {**answer.headers, "Location": links.url(location)}
        elif answer.content_type.partition(";")[0].strip() == "text/html" and request.method != "HEAD":
            await _rewrite(answer, links)
        return answer

    async def _forward(self, call: Call, target: Target, more: Mapping[str, str] = MappingProxyType({})) -> Response:
        """A request to nodes, pods or services, as it came."""
        request = call.request
        if request.raw_query:
            target = target._replace(path=f"{target.path}?{request.raw_query}")
        if request.upgrade is not None:
            return await self._upgrade(call, target)
        return await self._pass(request.method, target, {**forwarded(request.headers), **more}, request.body)

    async def _upgrade(self, call: Call, target: Target) -> Response:
        request = call.request
        headers = {**forwarded(request.headers), "Host": target.address, "Connection": "Upgrade", "Upgrade": request.headers["upgrade"]}
        if request.body or request.method == "POST":
            headers["Content-Length"] = str(len(request.body))
        head = tunnel.request_head(request.method, target.path, headers.items()) + request.body
        try:
            backend = await tunnel.ask(tunnel.connector(self._tls(target)), target.host, target.port, head)
        except (OSError, TimeoutError) as error:
            raise StatusError(f"error dialing backend: {_dial_error(target, error)}") from error
        if backend.status != 101:
            return await streams.refused(backend)
        await streams.join(request.upgrade, backend)
        return Response(101)

    def _tls(self, target: Target) -> ssl.SSLContext | None:
        if not target.tls:
            return None
        return self._kubelet_tls if target.kubelet else self._untrusting

    async def _pass(self, method: str, target: Target, headers: Mapping[str, str], body: bytes, *, check: bool = False) -> Response:
        """Send a request on and stream its answer back; with `check` an answer that is no success becomes a Status."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_connect=10)
            self._session = aiohttp.ClientSession(
                timeout=timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=_MAX_HEAD,
                max_field_size=_MAX_HEAD,
            )
        from yarl import URL

        try:
            answer = await self._session.request(
                method,
                URL(target.url, encoded=True),
                headers=headers,
                data=body or None,
                ssl=self._tls(target) or False,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            text = f'{method.capitalize()} "{target.url}": {_dial_error(target, error)}'
            if target.kubelet:
                raise InternalError(f"Internal error occurred: {text}" if not check else text) from error
            raise ServiceUnavailable(f"error trying to reach service: {_dial_error(target, error)}") from error
        if check and not 200 <= answer.status <= 206:
            text = (await answer.content.read(_ERROR_LIMIT)).decode("utf-8", "replace")
            answer.release()
            raise refused(answer.status, text)
        kept = {n: v for n, v in answer.headers.items() if n.lower() not in _HOP_BY_HOP and n.lower() not in ("content-type", "date")}
        if answer.content_length is not None:
            kept["Content-Length"] = str(answer.content_length)
        return Response(answer.status, content_type=answer.headers.get("Content-Type", "text/plain"), headers=kept, stream=_chunks(answer))


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ConnectionError(str(error)) from error
    finally:
        answer.close()


async def _rewrite(answer: Response, links: Links) -> None:
    """Take a page in and rewrite its links; what is too long for a page, or packed in a way that is not known, goes on as it is."""
    assert answer.stream is not None
    packing = answer.headers.get("Content-Encoding", "")
    if packing not in ("", "gzip"):
        return
    taken: list[bytes] = []
    rest = answer.stream
    async for chunk in rest:
        taken.append(chunk if isinstance(chunk, bytes) else b"".join(chunk))
        if sum(map(len, taken)) > _PAGE_LIMIT:
            answer.stream = _resumed(taken, rest)
            return
    body = b"".join(taken)
    if packing:
        unpacked = zlib.decompressobj(31)
        page = unpacked.decompress(body, _PAGE_LIMIT)
        if not unpacked.eof:
            answer.stream = _resumed(taken, rest)
            return
        body = page
    answer.body, answer.stream = await asyncio.to_thread(links.page, body), None
    answer.headers = {n: v for n, v in answer.headers.items() if n not in ("Content-Length", "Content-Encoding")}


async def _resumed(taken: list[bytes], rest: AsyncIterator[bytes | Sequence[bytes]]) -> AsyncIterator[bytes | Sequence[bytes]]:
    for chunk in taken:
        yield chunk
    async for more in rest:
        yield more


def refused(code: int, text: str) -> StatusError:
    """The error for a backend's answer that is no success: its own Status where it gave one."""
    import orjson

    try:
        status = orjson.loads(text)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return from_status(status, code)
    if code == 500:
        return InternalError(f"Internal error occurred: {text}")
    return from_status({"message": text or f"the server responded with status {code}"}, code)


def _dial_error(target: Target, error: BaseException) -> str:
    """A connection's failure in Go's words where they are known."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, TimeoutError | asyncio.TimeoutError):
        return f"dial tcp {target.address}: i/o timeout"
    if isinstance(cause, ConnectionRefusedError):
        return f"dial tcp {target.address}: connect: connection refused"
    if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, ssl.SSLError):
        return f"dial tcp {target.address}: connect: {cause.strerror.lower()}"
    return f"dial tcp {target.address}: {cause}"


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that go on: not those of the connection, and not who the user is."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower in _HOP_BY_HOP or lower.startswith(_PRIVATE):
            continue
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def behind(call: Call) -> str:
    """The path behind …/proxy, with its slashes."""
    path = call.info.path
    marker = f"/{call.info.name}/proxy"
    rest = path[path.index(marker) + len(marker) :]
    return quote(rest, safe="/:@!$&'()*+,;=~-._") or "/"


def split_name(name: str) -> tuple[str, str, str]:
    """(scheme, name, port) of [SCHEME:]NAME[:PORT]. Raises BadRequest."""
    parts = name.split(":")
    if len(parts) == 1:
        return "http", name, ""
    if len(parts) == 2:
        return "http", parts[0], parts[1]
    if len(parts) == 3 and parts[0] in ("http", "https", ""):
        return parts[0] or "http", parts[1], parts[2]
    raise BadRequest(f'invalid request "{name}"')


def choose_container(pod: Obj, wanted: str) -> str:
    """The container that a request means. Raises BadRequest where that is not clear."""
    spec, name = pod.get("spec") or {}, pod["metadata"]["name"]
    listed = [[c["name"] for c in spec.get(field) or ()] for field in ("containers", "initContainers", "ephemeralContainers")]
    if wanted:
        if not any(wanted in names for names in listed):
            raise BadRequest(f"container {wanted} is not valid for pod {name}")
        return wanted
    containers, init, ephemeral = listed
    if len(containers) == 1:
        return str(containers[0])
    if not containers:
        raise BadRequest(f"a container name must be specified for pod {name}")
    message = f"a container name must be specified for pod {name}, choose one of: [{' '.join(containers)}]"
    if init:
        message += f" or one of the init containers: [{' '.join(init)}]"
    if ephemeral:
        message += f" or one of the ephemeral containers: [{' '.join(ephemeral)}]"
    raise BadRequest(message)


def _container_port(pod: Obj, name: str) -> int:
    ports = [p for c in (pod.get("spec") or {}).get("containers") or () for p in c.get("ports") or ()]
    if not name:
        return int(ports[0]["containerPort"]) if ports else 80
    for port in ports:
        if port.get("name") == name:
            return int(port["containerPort"])
    raise BadRequest(f'no port "{name}" found in pod "{pod["metadata"]["name"]}"')


def _port_name(spec: Obj, service: str, wanted: str) -> str:
    """The name of a service's port that is asked for by name or number; the only one where none is."""
    ports = spec.get("ports") or []
    if not wanted and len(ports) == 1:
        return ports[0].get("name") or ""
    for port in ports:
        if wanted and (str(port.get("port")) == wanted or port.get("name") == wanted):
            return port.get("name") or ""
    raise NotFound(f'no service port "{wanted}" found for service "{service}"', details={"name": service, "kind": "services"})
