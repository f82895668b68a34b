"""The node's HTTPS endpoint: logs, exec, attach, port-forward, pods, health. The API server calls it on its users' behalf.

Every request is authenticated and authorized first (`access`). Logs are read here; the interactive calls are the work of `streams`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable
from itertools import chain
from urllib.parse import parse_qs

from aiohttp import web

from minikube_py import tunnel
from minikube_py.aio import Health
from minikube_py.client.transport import TransportError
from minikube_py.cri import errors
from minikube_py.kubelet import claimstats, logs, metrics, nodelogs, nodestats
from minikube_py.kubelet.access import Access, attributes
from minikube_py.kubelet.admission import is_static
from minikube_py.kubelet.nodestats import NodeStats
from minikube_py.kubelet.pods import Pods
from minikube_py.kubelet.refused import Refused
from minikube_py.kubelet.state import ContainerRecord
from minikube_py.kubelet.streams import StreamServer, everybody, find, running
from minikube_py.kubelet.tools import Tools
from minikube_py.kubelet.volumes import localstorage
from minikube_py.kubelet.worker import PodWorker
from minikube_py.meta.errors import StatusError
from minikube_py.types.meta import parse_timestamp

log = logging.getLogger(__name__)

_TEXT = "text/plain; charset=utf-8"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_MAX_HEAD = 1024 * 1024
"""Bytes of a request's line, which holds the whole command of an exec, and of a header: what the API server takes itself."""


class KubeletServer:
    """Serves one node. `connect` reaches the runtime's streaming server."""

    def __init__(self, tools: Tools, pods: Pods, tls: ssl.SSLContext, connect: tunnel.Connect) -> None:
        self._tools, self._pods, self._tls = tools, pods, tls
        self._streams = StreamServer(tools, pods, connect)
        self._stats = NodeStats(tools, pods)
        authorities = tls.get_ca_certs(binary_form=True)
        self._access = Access(tools.client, tools.options.node_name, authorities, tools.clock)

    async def run(self, health: Health) -> None:
        """Serve until cancelled. Raises OSError when the port cannot be had."""
        options = self._tools.options
        server = web.Server(self._handle, access_log=None, handler_cancellation=True, max_line_size=_MAX_HEAD, max_field_size=_MAX_HEAD)
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(server, options.address, options.port, ssl=self._tls, reuse_address=True)
        health.well()
        try:
            await self._streams.commands.adopt()
            await asyncio.Event().wait()
        finally:
            listener.close()
            await self._streams.commands.close()
            await server.shutdown(0.5)  # twice: for what it serves, and for what is cancelled then

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            await self._admit(request)
            return await self._route(request)
        except Refused as refused:
            return web.Response(status=refused.status, text=refused.text)
        except (StatusError, TransportError) as error:
            log.warning("request could not be judged", extra={"path": request.path, "error": str(error)})
            return web.Response(status=500, text=f"Authorization error: {error}")
        except errors.NotFound as error:
            return web.Response(status=404, text=str(error))
        except errors.CriError as error:
            return web.Response(status=500, text=str(error))

    async def _admit(self, request: web.BaseRequest) -> None:
        connection = request.get_extra_info("ssl_object")
        certificate = connection.getpeercert(binary_form=True) if connection is not None else None
        user = await self._access.user(certificate, request.headers.get("Authorization", ""))
        if user is None:
            raise Refused(401, "Unauthorized")
        wanted = attributes(request.method, request.path)
        if not await self._access.allowed(user, wanted):
            resource = f"nodes, subresource(s)=[{' '.join(wanted.subresources)}])"
            raise Refused(403, f"Forbidden (user={user.name}, verb={wanted.verb}, resource={resource}")

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        match parts:
            case ["healthz", *_]:
                return web.Response(text="ok")
            case ["pods"]:
                return await self._list_pods()
            case ["runningpods"]:
                return web.json_response(nodestats.running_pods(self._pods))
            case ["stats", "summary"]:
                return web.json_response(await self._stats.summary())
            case ["metrics"]:
                return _metrics(self._tools.metrics.text("kubelet_", await self._gauges()))
            case ["metrics", "probes"]:
                return _metrics(self._tools.metrics.text("prober_"))
            case ["metrics", "resource"]:
                return _metrics(await self._stats.resource_metrics())
            case ["logs", *_]:
                return await nodelogs.serve(request, self._tools.options.system_log_dir)
            case ["containerLogs", namespace, name, container]:
                return await self._logs(request, namespace, name, container)
            case ["exec", namespace, name, *uid, container] if len(uid) < 2:
                return await self._streams.execute(request, namespace, name, "".join(uid), container)
            case ["attach", namespace, name, *uid, container] if len(uid) < 2:
                return await self._streams.attach(request, namespace, name, "".join(uid), container)
            case ["portForward", namespace, name, *uid] if len(uid) < 2:
                return await self._streams.port_forward(request, namespace, name, "".join(uid))
            case ["run", namespace, name, *uid, container] if len(uid) < 2:
                return await self._run(request, namespace, name, "".join(uid), container)
            case ["localVolumes", name] if request.method in ("POST", "DELETE"):
                return await self._local_volume(request, name)
        raise Refused(404, "404 page not found\n")

    async def _local_volume(self, request: web.BaseRequest, name: str) -> web.Response:
        """Make or remove the directory of a volume of the built-in storage class."""
        storage, query = self._tools.options.storage_dir, parse_qs(request.query_string)
        try:
            if request.method == "DELETE":
                await asyncio.to_thread(localstorage.remove, storage, name)
                return web.json_response({})
            namespace, claim = (query.get(part, [""])[0] for part in ("namespace", "claim"))
            path = await asyncio.to_thread(localstorage.ensure, storage, name, namespace, claim)
        except localstorage.InvalidName as error:
            raise Refused(400, str(error)) from error
        except OSError as error:
            raise Refused(500, str(error)) from error
        return web.json_response({"path": str(path)})

    async def _list_pods(self) -> web.Response:
        query = {"fieldSelector": f"spec.nodeName={self._tools.options.node_name}"}
        body = await self._tools.client.request("GET", "/api/v1/pods", query=query)
        return web.Response(body=body, content_type="application/json")

    async def _gauges(self) -> Iterable[tuple[str, tuple[str, ...], int]]:
        tools, pods = self._tools, self._pods
        desired, active = ([is_static(pod) for pod in some] for some in (pods.all(), pods.active()))
        states = (worker.state for worker in pods.workers.values())
        running = [worker.pod for worker in pods.workers.values() if worker.pod is not None and worker.state.running]
        claims = chain.from_iterable((await claimstats.read(tools, running)).values())
        own = metrics.gauges(tools.options.node_name, tools.node.cgroup_v2, desired, active, states)
        return chain(own, claimstats.gauges(claims))

    # Logs

    async def _logs(self, request: web.BaseRequest, namespace: str, name: str, container: str) -> web.StreamResponse:
        query = {key: values[-1] for key, values in parse_qs(request.query_string, keep_blank_values=True).items()}
        options = _log_options(query, self._tools.clock.time())
        worker = find(self._pods, namespace, name)
        record = _log_of(worker, name, container, _flag(query, "previous"))
        response = web.StreamResponse(headers={"Content-Type": _TEXT})
        response.enable_chunked_encoding()
        path = self._tools.options.pod_log_dir(namespace, name, worker.uid) / container / f"{record.attempt}.log"

        def still_running() -> bool:
            now = next((c for c in worker.state.containers if c.id == record.id), None)
            return now is not None and now.running and not worker.finished

        if not await asyncio.to_thread(path.exists):
            raise Refused(500, f'failed to try resolving symlinks in path "{path}": lstat {path}: no such file or directory')
        changed = worker.subscribe()
        try:
            await response.prepare(request)
            async for chunk in logs.read(path, options, still_running, lambda: changed):
                await response.write(chunk)
            await response.write_eof()
        except ConnectionResetError:
            pass  # the reader has seen enough
        finally:
            worker.unsubscribe(changed)
        return response

    async def _run(self, request: web.BaseRequest, namespace: str, name: str, uid: str, container: str) -> web.Response:
        record = running(find(self._pods, namespace, name, uid), container)
        if record is None:
            raise Refused(500, f'container not found ("{container}")')
        query = parse_qs(request.query_string)
        command = query.get("command") or query.get("cmd", [""])[0].split()
        answer = await self._tools.cri.exec_sync(record.id, command, 0)
        return web.Response(body=answer.stdout + answer.stderr, content_type="text/plain")


def _log_of(worker: PodWorker, name: str, container: str, previous: bool) -> ContainerRecord:
    """The container whose log is asked for. Raises Refused with upstream's words."""
    pod = worker.pod
    if not any(c.name == container for c in everybody(worker)):
        raise Refused(404, f'container "{container}" not found in pod "{name}"')
    records = worker.state.all_of(container)
    waiting = worker.waiting.get(container)
    if previous:
        ended = [r for r in records if not r.running]
        held = waiting is not None and records and not records[0].running
        found = ended[0] if held and ended else next(iter(records[1:]), None)
        if found is None:
            raise Refused(400, f'previous terminated container "{container}" in pod "{name}" not found')
        return found
    if not records:
        default = "PodInitializing" if pod is not None and pod.spec.initContainers else "ContainerCreating"
        if waiting is not None and waiting.reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"):
            said = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
            problem = said.get(waiting.reason, waiting.reason)
            raise Refused(400, f'container "{container}" in pod "{name}" is waiting to start: {problem}')
        reason = waiting.reason if waiting is not None else default
        raise Refused(400, f'container "{container}" in pod "{name}" is waiting to start: {reason}')
    return records[0]


def _log_options(query: dict[str, str], now: float) -> logs.LogOptions:
    try:
        since: float | None = None
        if query.get("sinceSeconds"):
            since = now - int(query["sinceSeconds"])
        elif query.get("sinceTime"):
            since = parse_timestamp(query["sinceTime"])
        return logs.LogOptions(
            follow=_flag(query, "follow"),
            tail_lines=int(query["tailLines"]) if query.get("tailLines") else None,
            limit_bytes=int(query["limitBytes"]) if query.get("limitBytes") else None,
            since=since,
            timestamps=_flag(query, "timestamps"),
            stream=query.get("stream") or "All",
        )
    except ValueError as error:
        raise Refused(400, f"Unable to decode query: {error}") from error


def _metrics(text: str) -> web.Response:
    return web.Response(body=text.encode(), headers={"Content-Type": _PROMETHEUS})


def _flag(query: dict[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1", "t")
