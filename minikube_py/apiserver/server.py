"""The API server behind its transports: authorize a request, find what it is about, dispatch, answer.

A request comes in with its user already authenticated (http.py, or local.py for clients of the same process) and a Response comes out; no
exception does. One look-up by (group, version, plural) finds the resource; there is no router. What always holds: nothing is looked at,
not even whether a resource exists, before the request has been authorized.
"""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from minikube_py.aio import Clock, LagProbe, SystemClock, Turns
from minikube_py.apiserver import answers, impersonate
from minikube_py.apiserver.api import AdmissionPlugin, Allocator, Attributes, Authenticator, Authorizer, Request, Response
from minikube_py.apiserver.cache import Cache
from minikube_py.apiserver.call import Call, Handler, SubresourceHandler
from minikube_py.apiserver.decode import decode
from minikube_py.apiserver.delete import Deleter
from minikube_py.apiserver.health import HealthChecks
from minikube_py.apiserver.metrics import RequestMetrics
from minikube_py.apiserver.negotiate import PATCH_TYPES, PLAIN, media_type, negotiate
from minikube_py.apiserver.options import check_timeout, write_options
from minikube_py.apiserver.patching import patcher
from minikube_py.apiserver.present import Presenter
from minikube_py.apiserver.proxy import Proxies
from minikube_py.apiserver.read import Reader
from minikube_py.apiserver.requestinfo import RequestInfo, parse
from minikube_py.apiserver.routes import Routes
from minikube_py.apiserver.selection import Term, field_terms
from minikube_py.apiserver.write import Writer
from minikube_py.meta.errors import Forbidden, InternalError, MethodNotAllowed, NotFound, StatusError, forbidden, qualified
from minikube_py.resources.api import Obj, Resource
from minikube_py.schema import definitions as schemas
from minikube_py.schema.definitions import Schema
from minikube_py.store.api import Store
from minikube_py.types.meta import ResourceRef

log = logging.getLogger(__name__)

_NO_RESOURCE = "the server could not find the requested resource"
_SELECTING = frozenset({"list", "watch", "deletecollection"})
_LONG_RUNNING = frozenset({"watch", "proxy", "attach", "exec", "log", "portforward"})
"""Verbs and subresources whose requests may take as long as they like."""

RouteHandler = Callable[[Request], Awaitable[Response]]
"""A non-resource endpoint."""


class ApiServer:
    """Serves the resources.

    `handlers` are special endpoints by (group, plural, subresource), such as reviews and tokens; `subresources` are further ones that the
    generic verbs do not serve; `routes` are non-resource endpoints by path; `allocators` give the objects of a (group, plural) what they
    need exclusively; `kubelet_tls` is what kubelets are called with (without it logs, exec and the proxies are not served);
    `lag` is the loop's probe, shown by /metrics."""

    def __init__(
        self,
        *,
        store: Store,
        cache: Cache,
        resources: Iterable[Resource],
        authenticator: Authenticator,
        authorizer: Authorizer,
        admission: Sequence[AdmissionPlugin] = (),
        handlers: Mapping[tuple[str, str, str], Handler] = {},
        subresources: Mapping[tuple[str, str, str], SubresourceHandler] = {},
        routes: Mapping[str, RouteHandler] = {},
        allocators: Mapping[tuple[str, str], Allocator] = {},
        health: HealthChecks | None = None,
        kubelet_tls: ssl.SSLContext | None = None,
        lag: LagProbe | None = None,
        clock: Clock | None = None,
        choose: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        clock = clock or SystemClock()
        self.store, self.cache, self.authenticator, self.authorizer, self.clock = store, cache, authenticator, authorizer, clock
        self.resources = tuple(resources)
        self.definitions = schemas.load()
        self.health = health or HealthChecks({}, dict)
        self.metrics = RequestMetrics()
        self._turns = Turns()
        self.lag = lag or LagProbe()
        self.presenter = Presenter(clock)
        self.reader = Reader(store, cache, self.presenter, clock)
        self.writer = Writer(store, cache, self.definitions, admission, clock, choose, allocators)
        self.deleter = Deleter(cache, self.writer.committer, self.writer.locks, admission, self.presenter, clock, allocators)
        self.admission = admission
        self._handlers = handlers
        self._proxies = Proxies(cache, kubelet_tls, self.writer.admit, self.authorize) if kubelet_tls is not None else None
        self._subresources = {**self._own_subresources(), **subresources}
        self._routes = Routes(self, routes)
        self._found: dict[tuple[str, str, str], tuple[Resource, ResourceRef]] = {}
        for resource in self.resources:
            for ref in (resource.ref, *resource.converters):
                self._found[ref.group, ref.version, ref.plural] = (resource, ref)

    def _own_subresources(self) -> dict[tuple[str, str, str], SubresourceHandler]:
        from minikube_py.apiserver.binding import Bindings
        from minikube_py.apiserver.componentstatus import ComponentStatuses
        from minikube_py.apiserver.eviction import Evictions
        from minikube_py.apiserver.scale import KINDS, Scales

        scales = Scales(self.writer, self.reader)
        found: dict[tuple[str, str, str], SubresourceHandler] = {(group, plural, "scale"): scales for group, plural in KINDS}
        by_plural = {(r.ref.group, r.ref.plural): r for r in self.resources}
        if pods := by_plural.get(("", "pods")):
            found["", "pods", "binding"] = found["", "bindings", ""] = Bindings(self.writer, pods, self.clock)
            if budgets := by_plural.get(("policy", "poddisruptionbudgets")):
                found["", "pods", "eviction"] = Evictions(self.cache, self.writer, self.deleter, budgets, self.clock)
        if ("", "componentstatuses") in by_plural:
            found["", "componentstatuses", ""] = ComponentStatuses(self.presenter, self.health, self.store)
        if self._proxies is not None:
            found["", "pods", "log"] = self._proxies.log
            found["", "pods", "exec"] = found["", "pods", "attach"] = self._proxies.execute
            found["", "pods", "portforward"] = self._proxies.port_forward
            found["", "pods", "proxy"], found["", "nodes", "proxy"] = self._proxies.pod, self._proxies.node
            found["", "services", "proxy"] = self._proxies.service
        return found

    async def close(self) -> None:
        """Let go of connections to kubelets."""
        if self._proxies is not None:
            await self._proxies.close()

    def find(self, group: str, version: str, plural: str) -> tuple[Resource, ResourceRef] | None:
        """The resource of a group, version and plural, and the served version that these name."""
        return self._found.get((group, version, plural))

    async def handle(self, request: Request) -> Response:
        """The answer to an authenticated request."""
        info = None
        if request.method != "GET":  # reads come from memory, and are over soon
            await self._turns.take()
        try:
            query = request.query
            info = parse(request.method, request.path, query.get("watch"))
            if query and info.verb not in _LONG_RUNNING and info.subresource not in _LONG_RUNNING:
                check_timeout(query)
            response = await self._handle(request, info)
        except StatusError as error:
            response = answers.failure(error)
        except Exception as error:
            log.exception("request failed", extra={"method": request.method, "path": request.path})
            response = answers.failure(InternalError(f"Internal error occurred: {type(error).__name__}: {error}"))
        if info is not None:
            self.metrics.count(info, response.status)
        return response

    async def _handle(self, request: Request, info: RequestInfo) -> Response:
        if "impersonate-user" in request.headers or "impersonate-group" in request.headers or "impersonate-uid" in request.headers:
            self._impersonate(request)
        if not info.resource:
            self.authorize(Attributes(request.user, info.verb, path=info.path))
            return await self._routes.answer(request, info)
        verb = info.verb
        attributes = Attributes(request.user, verb, info.group, info.version, info.resource, info.subresource, info.namespace, info.name)
        if verb in _SELECTING and request.query.get("fieldSelector"):
            terms = field_terms(request.query["fieldSelector"])
            if not info.name:
                info = _with_selected_name(info, terms)
            attributes = attributes._replace(name=info.name, field_selector=terms)
        self.authorize(attributes)
        found = self._found.get((info.group, info.version, info.resource))
        if found is None:
            raise NotFound(_NO_RESOURCE, details={})
        resource, ref = found
        if info.namespace and not ref.namespaced and not (ref.plural == "namespaces" and not ref.group):
            raise NotFound(_NO_RESOURCE, details={})
        if ref.plural == "namespaces" and not ref.group:
            info = info._replace(namespace="")
        accept = request.headers.get("accept", "")
        handler = self._handlers.get((ref.group, ref.plural, info.subresource))
        call = Call(request, info, resource, ref, negotiate(accept, tables=handler is None) if accept else PLAIN)
        if resource.deprecation:
            call.warnings.append(resource.deprecation)
        if info.subresource:
            return await self._subresource(call)
        if verb not in resource.verbs:
            raise _not_supported(call)
        if handler is not None:
            return await handler(request, resource, info.namespace, info.name)
        special = self._subresources.get((ref.group, ref.plural, ""))
        if special is not None:
            return await special(call)
        return await self._object(call)

    def authorize(self, attributes: Attributes) -> None:
        """Raises Forbidden, in upstream's words."""
        decision = self.authorizer.authorize(attributes)
        if not decision.allowed:
            raise denied(attributes, decision.reason)

    def _impersonate(self, request: Request) -> None:
        user, needed = impersonate.wanted(request.headers, request.user)
        for attributes in needed:
            self.authorize(attributes)
        request.user = user

    # Objects

    async def _object(self, call: Call) -> Response:
        info = call.info
        verb = info.verb
        if verb == "get":
            return await self.reader.get(call)
        if verb == "list":
            return await self.reader.list(call)
        if verb == "watch":
            return await self.reader.watch(call)
        if verb == "create":
            if info.name:
                raise _not_supported(call)
            return await self._create(call)
        if verb == "update":
            return await self._update(call)
        if verb == "patch":
            return await self._patch(call)
        if verb == "delete":
            return await self.deleter.delete(call)
        if verb == "deletecollection":
            found = await self.reader.select_all(call)
            return await self.deleter.collection(call, found.entries, found.revision)
        raise _not_supported(call)

    async def _subresource(self, call: Call) -> Response:
        info, ref = call.info, call.ref
        subresource = call.resource.subresources.get(info.subresource)
        if subresource is None:
            raise NotFound(_NO_RESOURCE, details={})
        # no API verb stands for OPTIONS, and a proxied server may know it all the same
        if info.verb not in subresource.verbs and not (info.subresource == "proxy" and call.request.method == "OPTIONS"):
            raise _not_supported(call)
        handler = self._handlers.get((ref.group, ref.plural, info.subresource))
        if handler is not None:
            return await handler(call.request, call.resource, info.namespace, info.name)
        special = self._subresources.get((ref.group, ref.plural, info.subresource))
        if special is not None:
            return await special(call)
        if subresource.kind != ref.kind:
            raise NotFound(_NO_RESOURCE, details={})
        if info.verb == "get":
            return await self.reader.get(call)
        if info.verb == "update":
            return await self._update(call)
        if info.verb == "patch":
            return await self._patch(call)
        raise _not_supported(call)

    def schema(self, ref: ResourceRef) -> Schema:
        """The schema of a served version."""
        return self.definitions.schema(ref.group, ref.version, ref.kind)

    def _decoded(self, call: Call, validation: str) -> Obj:
        request, ref = call.request, call.ref
        content_type = request.headers.get("content-type", "")
        return decode(request.body, content_type, ref, self.definitions, self.schema(ref), validation, call.warnings)

    async def _create(self, call: Call) -> Response:
        wanted = write_options(call.request.query, call.user_agent, "CreateOptions")
        obj = self._decoded(call, wanted.validation)
        return self.presenter.object(call, await self.writer.create(call, obj, wanted), 201)

    async def _update(self, call: Call) -> Response:
        info = call.info
        wanted = write_options(call.request.query, call.user_agent, "UpdateOptions")
        obj: Obj | None = self._decoded(call, wanted.validation)

        def decoded() -> Obj:
            # A second try needs the object as it was sent: the first one has changed it.
            nonlocal obj
            fresh, obj = obj, None
            fresh = fresh if fresh is not None else self._decoded(call, wanted.validation)
            self.writer.check_name(call, fresh)
            return fresh

        async def create() -> bytes:
            user = call.request.user
            self.authorize(Attributes(user, "create", info.group, info.version, info.resource, "", info.namespace, info.name))
            return await self.writer.create_by_update(call, decoded(), wanted)

        may_create = call.resource.strategy.allow_create_on_update and not info.subresource
        value, created = await self.writer.change(
            call, lambda read: decoded(), wanted, subresource=info.subresource, create=create if may_create else None
        )
        return self.presenter.object(call, value, 201 if created else 200)

    async def _patch(self, call: Call) -> Response:
        request = call.request
        media = media_type(request.headers.get("content-type", ""), PATCH_TYPES, default="")
        wanted = write_options(request.query, call.user_agent, "PatchOptions")
        apply = patcher(media, request.body, self.schema(call.ref), wanted.validation, call.warnings)

        def patched(read: Callable[[], Obj]) -> Obj:
            result = apply(read)
            self.writer.check_name(call, result)
            return result

        value, _ = await self.writer.change(call, patched, wanted, subresource=call.info.subresource)
        return self.presenter.object(call, value)


def denied(attributes: Attributes, reason: str) -> Forbidden:
    """The error for attributes that are not allowed, in upstream's words."""
    user, verb = attributes.user.name, attributes.verb
    because = f": {reason}" if reason else ""
    if not attributes.resource:
        return Forbidden(f'forbidden: User "{user}" cannot {verb} path "{attributes.path}"{because}', details={})
    resource = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
    where = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    why = f'User "{user}" cannot {verb} resource "{resource}" in API group "{attributes.group}" {where}{because}'
    return forbidden(attributes.resource, attributes.name, why, attributes.group)


def _with_selected_name(info: RequestInfo, terms: Sequence[Term]) -> RequestInfo:
    """A list or watch that selects one name is authorized for that name."""
    for field, operator, value in terms:
        if field == "metadata.name" and operator == "=" and value and "/" not in value and "%" not in value:
            return info._replace(name=value)
    return info


def _not_supported(call: Call) -> MethodNotAllowed:
    ref = call.ref
    return MethodNotAllowed(
        f'{call.info.verb or call.request.method} is not supported on resources of kind "{qualified(ref.plural, ref.group)}"',
        details={**({"group": ref.group} if ref.group else {}), "kind": ref.plural},
    )
