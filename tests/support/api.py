"""A whole API server in the test's process: real store, real keys and TLS on a loopback port, HTTP clients and in-process ones.

async with api_server(tmp_path) as server:
    client = server.client()                              # in-process, as an administrator
    client = server.client("system:kube-scheduler")       # as somebody else
    answer = await server.http("GET", "/api/v1/pods")     # over TLS, as an administrator
"""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from minikube_py import pki
from minikube_py.aio import Clock, SystemClock
from minikube_py.apiserver.api import AdmissionPlugin, Attributes, Authorizer, Decision
from minikube_py.apiserver.authn import RequestAuthenticator
from minikube_py.apiserver.authn_tokens import ServiceAccountTokens
from minikube_py.apiserver.cache import Cache
from minikube_py.apiserver.http import HttpFront
from minikube_py.apiserver.local import LocalTransport
from minikube_py.apiserver.server import ApiServer
from minikube_py.client import Client
from minikube_py.meta.errors import AlreadyExists
from minikube_py.meta.user import AUTHENTICATED_GROUP, MASTERS_GROUP, User
from minikube_py.pki.layout import Names
from minikube_py.resources.registry import built_in
from minikube_py.store.sqlite import SQLiteStore, open_sqlite
from minikube_py.types.core import Namespace

ISSUER = "https://kubernetes.default.svc.cluster.local"


class AllowAll:
    """An authorizer for tests that are not about authorization."""

    def authorize(self, attributes: Attributes) -> Decision:
        return Decision(True)


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass
class ApiUnderTest:
    """A running API server and the ways to it."""

    store: SQLiteStore
    cache: Cache
    api: ApiServer
    keys: pki.Pki
    port: int
    token: str
    front: HttpFront
    tokens: ServiceAccountTokens
    _sessions: list[aiohttp.ClientSession] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.port}"

    def transport(self, user: str = "admin", groups: Sequence[str] = (MASTERS_GROUP,), agent: str = "test/1.0") -> LocalTransport:
        """An in-process transport of a user."""
        return LocalTransport(self.api, User(user, (*groups, AUTHENTICATED_GROUP)), agent)

    def client(self, user: str = "admin", groups: Sequence[str] = (MASTERS_GROUP,), agent: str = "test/1.0") -> Client:
        """An in-process client of a user."""
        return Client(self.transport(user, groups, agent))

    def session(self, certificate: str | None = None) -> aiohttp.ClientSession:
        """An HTTPS session that trusts this server and shows the named client certificate, if any; closed with the server."""
        context = self.keys.client_context(certificate or "")
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), auto_decompress=False)
        self._sessions.append(session)
        return session

    async def http(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] = {},
        token: str | None = None,
    ) -> Answer:
        """One request over TLS as the administrator (or with another token; "" for none). A body that is no bytes goes as JSON."""
        if not self._sessions:
            self.session()
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        payload = io.BytesIO(data) if data is not None and len(data) > 1 << 20 else data  # aiohttp warns of large bodies as bytes
        token = self.token if token is None else token
        sent = {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {token}"} if token else {})}
        if data is not None:
            sent["Content-Type"] = content_type
        sent |= headers
        async with self._sessions[0].request(method, self.url + path, data=payload, headers=sent) as answer:
            return Answer(answer.status, await answer.read(), answer.headers)


@asynccontextmanager
async def api_server(
    directory: Path,
    *,
    authorizer: Callable[[Cache], Authorizer] = lambda cache: AllowAll(),
    admission: Callable[[Cache], Sequence[AdmissionPlugin]] = lambda cache: (),
    namespaces: Iterable[str] = ("default", "kube-system"),
    clock: Clock | None = None,
    **more: Any,
) -> AsyncIterator[ApiUnderTest]:
    """A server over a log in `directory`. `more` goes to ApiServer (handlers, routes, subresources, …)."""
    clock = clock or SystemClock()
    keys = pki.ensure(directory / "tls", Names("node-1", "localhost", service_ips=("10.43.0.1",), node_ips=("127.0.0.1",)), time.time())
    store = await open_sqlite(directory / "db")
    resources = built_in()
    cache = await Cache.load(store, [r for r in resources if r.stored])
    tokens = ServiceAccountTokens(keys.service_account_key, cache, clock, issuer=ISSUER)
    token = secrets.token_hex(16)
    authenticator = RequestAuthenticator(
        client_ca_pem=keys.certificate_pem(pki.CLIENT_CA),
        front_proxy_ca_pem=keys.certificate_pem(pki.FRONT_PROXY_CA),
        tokens=tokens,
        static_tokens={token: User("admin", (MASTERS_GROUP,))},
        clock=clock,
    )
    api = ApiServer(
        store=store,
        cache=cache,
        resources=resources,
        authenticator=authenticator,
        authorizer=authorizer(cache),
        admission=admission(cache),
        clock=clock,
        **{"kubelet_tls": keys.client_context(pki.KUBELET_CLIENT), **more},
    )
    front = HttpFront(api, authenticator)
    port = await front.start("127.0.0.1", 0, keys.api_server_context())
    server = ApiUnderTest(store, cache, api, keys, port, token, front, tokens)
    try:
        for name in namespaces:
            with contextlib.suppress(AlreadyExists):
                await server.client().create(Namespace, {"metadata": {"name": name}})
        yield server
    finally:
        for session in server._sessions:
            await session.close()
        await front.close()
        await api.close()
        await store.close()


def unverified() -> ssl.SSLContext:
    """A client's context that trusts anything: for tests that look at certificates themselves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
