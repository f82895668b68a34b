"""The endpoints that are no resources: version, health, discovery, OpenAPI, metrics, and those that others bring (CA, OpenID)."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import orjson

from minikube_py import ownprocess
from minikube_py.apiserver import answers, metrics
from minikube_py.apiserver.api import Request, Response
from minikube_py.apiserver.discovery import Discovery
from minikube_py.apiserver.health import ENDPOINTS
from minikube_py.apiserver.impersonate import values
from minikube_py.apiserver.requestinfo import RequestInfo
from minikube_py.meta import expfmt
from minikube_py.meta.errors import MethodNotAllowed, NotAcceptable, NotFound
from minikube_py.meta.version import KUBERNETES_MAJOR, KUBERNETES_MINOR, KUBERNETES_VERSION, architecture
from minikube_py.schema import openapi_wire

if TYPE_CHECKING:
    from minikube_py.apiserver.server import ApiServer
    from minikube_py.schema.openapi import OpenAPI

_LISTED = ("/api", "/apis", "/healthz", "/livez", "/metrics", "/metrics/slis", "/openapi/v2", "/openapi/v3", "/readyz", "/version")


class Routes:
    """Answers what is not a resource. `extra` are further paths."""

    def __init__(self, api: ApiServer, extra: Mapping[str, Callable[[Request], Awaitable[Response]]]) -> None:
        self._api = api
        self._extra = extra
        self._discovery = Discovery(api.resources)

    async def answer(self, request: Request, info: RequestInfo) -> Response:
        """The answer; raises NotFound for a path that is not there."""
        path = info.path
        handler = self._extra.get(path)
        if handler is not None:
            return await handler(request)
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("the server does not allow this method on the requested resource", details={})
        first = path.strip("/").partition("/")[0]
        if first in ENDPOINTS:
            return self._api.health.answer(request)
        if first in ("api", "apis"):
            return self._discovered(request, path)
        if path == "/version":
            return Response(200, version())
        if first == "openapi":
            return await self._openapi(request, path)
        if path == "/metrics":
            families = (self._api.metrics.family(), *metrics.of_loop(self._api.lag), *ownprocess.metrics())
            return Response(200, expfmt.text(families).encode(), content_type=expfmt.CONTENT_TYPE)
        if path == "/metrics/slis":
            return Response(200, expfmt.text(self._api.health.metrics()).encode(), content_type=expfmt.CONTENT_TYPE)
        if path == "/":
            return answers.json({"paths": sorted((*_LISTED, *self._extra))})
        raise _not_found()

    def _discovered(self, request: Request, path: str) -> Response:
        document = self._discovery.document(path, ",".join(values(request.headers, "accept")))
        if document is None:
            raise _not_found()
        if document.etag and request.headers.get("if-none-match") == document.etag:
            return Response(304, headers=document.headers)
        return Response(200, document.body, content_type=document.content_type, headers=document.headers)

    async def _openapi(self, request: Request, path: str) -> Response:
        """OpenAPI documents are big and seldom asked for: they are made in a thread, kept compressed, and known by their ETag."""
        path = path.rstrip("/")
        if path == "/openapi/v3":
            return Response(200, self._schemas.index())
        parts = path.removeprefix("/openapi/v3/").split("/")
        content_type = "application/json"
        try:
            if path == "/openapi/v2":
                accept = request.headers.get("accept", "*/*")
                if openapi_wire.MEDIA_TYPE in accept:
                    content_type = openapi_wire.CONTENT_TYPE
                    document = await asyncio.to_thread(self._schemas.document_v2_protobuf)
                elif "json" in accept or "*/*" in accept:
                    document = await asyncio.to_thread(self._schemas.document_v2)
                else:
                    raise NotAcceptable(f"only the following media types are accepted: application/json, {openapi_wire.MEDIA_TYPE}")
            elif len(parts) == 2 and parts[0] == "api":
                document = await asyncio.to_thread(self._schemas.document, "", parts[1])
            elif len(parts) == 3 and parts[0] == "apis":
                document = await asyncio.to_thread(self._schemas.document, parts[1], parts[2])
            else:
                raise KeyError(path)
        except KeyError:
            raise _not_found() from None
        headers = {"ETag": f'"{document.etag}"', "Vary": "Accept-Encoding, Accept", "Cache-Control": "no-cache, private"}
        if request.query.get("hash") == document.etag:
            headers["Cache-Control"] = "public, immutable"
        if request.headers.get("if-none-match", "").strip('"') == document.etag:
            return Response(304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(200, document.compressed, content_type=content_type, headers={**headers, "Content-Encoding": "gzip"})
        return Response(200, await asyncio.to_thread(document.plain), content_type=content_type, headers=headers)

    @cached_property
    def _schemas(self) -> OpenAPI:
        from minikube_py.schema.openapi import OpenAPI

        return OpenAPI(self._api.resources, KUBERNETES_VERSION, self._api.definitions)


def _not_found() -> NotFound:
    return NotFound("the server could not find the requested resource", details={})


def version() -> bytes:
    """What /version answers."""
    return orjson.dumps(
        {
            "major": KUBERNETES_MAJOR,
            "minor": KUBERNETES_MINOR,
            "emulationMajor": KUBERNETES_MAJOR,
            "emulationMinor": KUBERNETES_MINOR,
            "minCompatibilityMajor": KUBERNETES_MAJOR,
            "minCompatibilityMinor": str(int(KUBERNETES_MINOR) - 1),
            "gitVersion": KUBERNETES_VERSION,
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": f"python{platform.python_version()}",
            "compiler": platform.python_implementation().lower(),
            "platform": f"linux/{architecture()}",
        },
        option=orjson.OPT_INDENT_2,
    )
