"""exec, attach and port-forward at the node's endpoint: from a request to a stream between the client and the container runtime.

Policy: which container or sandbox is meant, and which way its client's protocol goes. exec ends here, by WebSocket and by SPDY alike, and
the runtime is asked for a process (`nativecommand`). For attach, and where the runtime has no such thing, it gets SPDY: made here for
clients of WebSocket's remotecommand protocols (v5 and v4), tunnelled as bytes for those who speak it; so it is for port-forward, out of the
WebSocket where it comes in one. What always holds: who cannot be served hears so before the upgrade, in upstream's words.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from minikube_py import tunnel
from minikube_py.cri.v1 import api_pb2 as v1
from minikube_py.kubelet import remotecommand, spdyclient, spdycommand, websocket
from minikube_py.kubelet.connection import taken
from minikube_py.kubelet.nativecommand import Commands
from minikube_py.kubelet.pods import Pods
from minikube_py.kubelet.refused import Refused
from minikube_py.kubelet.state import ContainerRecord
from minikube_py.kubelet.tools import Tools
from minikube_py.kubelet.worker import PodWorker
from minikube_py.types.pod import Container

# What belongs to the one connection, or to us, and not to the other side.
_DROPPED = frozenset({"host", "authorization", "content-length", "transfer-encoding"})


class StreamServer:
    """Serves the streams of one node. `connect` reaches the runtime's streaming server."""

    def __init__(self, tools: Tools, pods: Pods, connect: tunnel.Connect) -> None:
        self._tools, self._pods, self._connect = tools, pods, connect
        self.commands = Commands(tools.cri, tools.options.root_dir / "commands")

    async def execute(self, request: web.BaseRequest, namespace: str, name: str, uid: str, container: str) -> web.StreamResponse:
        """A command in a container. Raises Refused and CriError."""
        query = parse_qs(request.rel_url.raw_query_string, keep_blank_values=True)
        streams = _streams(query)
        record = running(find(self._pods, namespace, name, uid), container)
        if record is None:
            raise Refused(500, f'container not found ("{container}")')
        words, protocol = query.get("command", []), _protocol(request)
        if protocol is not None or spdyclient.is_asked_for(request):
            command = await self.commands.prepare(record.id, words, streams)
            if command is not None:
                if protocol is not None:
                    await remotecommand.serve(request, protocol, streams, command)
                else:
                    await spdyclient.serve(request, streams, command)
                return web.Response()  # never sent: the connection was the stream's
        asked = v1.ExecRequest(container_id=record.id, cmd=words, **_flags(streams))
        return await self._at_the_runtimes_server(request, streams, await self._tools.cri.exec(asked))

    async def attach(self, request: web.BaseRequest, namespace: str, name: str, uid: str, container: str) -> web.StreamResponse:
        """The standard streams of a container; whether it has a terminal is its own affair. Raises Refused and CriError."""
        streams = _streams(parse_qs(request.rel_url.raw_query_string, keep_blank_values=True))
        worker = find(self._pods, namespace, name, uid)
        record = running(worker, container)
        if record is None:
            raise Refused(500, f"container {container} not found in pod {name}_{namespace}")
        spec = next((c for c in everybody(worker) if c.name == container), None)
        asked = v1.AttachRequest(container_id=record.id, **(_flags(streams) | {"tty": spec is not None and spec.tty}))
        return await self._at_the_runtimes_server(request, streams, await self._tools.cri.attach(asked))

    async def port_forward(self, request: web.BaseRequest, namespace: str, name: str, uid: str) -> web.StreamResponse:
        """Ports of a pod. Raises Refused and CriError."""
        protocols = websocket.requested(request)
        within = websocket.tunnelled(protocols) if protocols is not None else ()
        ports = _ports(request) if protocols is not None and not within else []
        sandbox = find(self._pods, namespace, name, uid).state.sandbox
        if sandbox is None or not sandbox.ready:
            raise Refused(500, f'pod not found ("{name}_{namespace}")')
        url = await self._tools.cri.port_forward(sandbox.id, ports)
        if not within:
            return await self._pass_on(request, url)
        try:
            backend = await websocket.spdy(url, within[0], self._connect)
        except (OSError, TimeoutError) as error:
            raise _unreachable(error) from error
        await websocket.serve_tunnel(request, backend)
        return web.Response()  # never sent: the connection was the stream's

    async def _at_the_runtimes_server(self, request: web.BaseRequest, streams: remotecommand.Streams, url: str) -> web.StreamResponse:
        if (protocol := _protocol(request)) is None:
            return await self._pass_on(request, url)
        try:
            runtime = await spdycommand.connect(url, streams, self._connect)
        except (OSError, TimeoutError) as error:
            raise _unreachable(error) from error
        await remotecommand.serve(request, protocol, streams, runtime)
        return web.Response()  # never sent: the connection was the stream's

    async def _pass_on(self, request: web.BaseRequest, url: str) -> web.StreamResponse:
        """Hand the request on to the runtime, and the connection with it."""
        if not request.headers.get("Upgrade"):
            raise Refused(400, "Upgrade request required")
        target = urlsplit(url)
        path = target.path + (f"?{target.query}" if target.query else "")
        headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in request.raw_headers]
        kept = [("Host", target.netloc), *((n, v) for n, v in headers if n.lower() not in _DROPPED)]
        head = tunnel.request_head(request.method, path, kept)
        try:
            backend = await tunnel.ask(self._connect, target.hostname or "127.0.0.1", target.port or 80, head)
        except (OSError, TimeoutError) as error:
            raise _unreachable(error) from error
        if backend.status != 101:
            raise Refused(backend.status, (await tunnel.refusal(backend)).decode("utf-8", "replace"))
        async with taken(request) as client:
            await tunnel.run_on_socket(client, backend)
        return web.Response()  # never sent: the connection was the tunnel's


def find(pods: Pods, namespace: str, name: str, uid: str = "") -> PodWorker:
    """The pod that a request names. Raises Refused."""
    worker = pods.find(namespace, name)
    if worker is None or (uid and worker.uid != uid):
        raise Refused(404, "pod does not exist")
    return worker


def everybody(worker: PodWorker) -> tuple[Container, ...]:
    """The containers that the pod's object lists, of every sort."""
    pod = worker.pod
    return (*pod.spec.initContainers, *pod.spec.containers, *pod.spec.ephemeralContainers) if pod is not None else ()


def running(worker: PodWorker, container: str) -> ContainerRecord | None:
    """A container of the pod, if it runs."""
    record = worker.state.of(container)
    return record if record is not None and record.running else None


def _protocol(request: web.BaseRequest) -> str | None:
    """Which of WebSocket's remotecommand protocols the client is answered in, if it asks for one."""
    return next((p for p in websocket.requested(request) or () if p in remotecommand.PROTOCOLS), None)


def _streams(query: dict[str, list[str]]) -> remotecommand.Streams:
    """The streams that a request asks for, by the kubelet's names and by the API's. Raises Refused."""
    tty = _asked(query, "tty")
    found = remotecommand.Streams(
        _asked(query, "input", "stdin"), _asked(query, "output", "stdout"), _asked(query, "error", "stderr") and not tty, tty
    )
    if not (found.stdin or found.stdout or found.stderr):
        raise Refused(400, "you must specify at least 1 of stdin, stdout, stderr")
    return found


def _flags(streams: remotecommand.Streams) -> dict[str, Any]:
    return dict(streams._asdict())


def _asked(query: dict[str, list[str]], *names: str) -> bool:
    return any(query.get(name, [""])[-1].lower() in ("true", "1", "t") for name in names)


def _ports(request: web.BaseRequest) -> list[int]:
    """The ports that a WebSocket client has to name in advance, in its runtime's protocol. Raises Refused."""
    query = parse_qs(request.rel_url.raw_query_string, keep_blank_values=True)
    listed = [*query.get("port", ()), *query.get("ports", ())]
    if not listed:
        raise Refused(400, 'query parameter "port" is required')
    found = []
    for value in listed:
        if not value:
            raise Refused(400, 'query parameter "port" cannot be empty')
        for text in value.split(","):
            if not (text.isascii() and text.isdigit()) or int(text) > 65535:
                raise Refused(400, f'unable to parse "{value}" as a port: strconv.ParseUint: parsing "{text}": invalid syntax')
            if int(text) < 1:
                raise Refused(400, f'port "{value}" must be > 0')
            found.append(int(text))
    return found


def _unreachable(error: BaseException) -> Refused:
    return Refused(502, f"the runtime's streaming server cannot be reached: {error}")
