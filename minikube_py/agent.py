"""The composition root of `minikube-py agent`: one asyncio process that makes this machine a node of a cluster that runs elsewhere.

Order of the start: whom to trust (the token names the certificate, and only then is shown) → an identity, by certificate signing request →
what the cluster decides for its nodes → the node, the same that a server has (node.py). Everything that was learnt is kept under
`<data-dir>/agent`: a start with no server in reach goes on from there.

The kubelet speaks as system:node:<name>, and the node authorizer and NodeRestriction hold it to what is its own; proxy, network and DNS
speak as system:kube-proxy, which may read services, endpoints and nodes and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from minikube_py import lifetime, machine
from minikube_py.aio import Backoff, Health, SystemClock, settle, well
from minikube_py.client import Client
from minikube_py.client.certificates import Certificates, NotIssued, Wanted
from minikube_py.client.checkpoint import CheckpointTransport
from minikube_py.client.http import HttpTransport
from minikube_py.client.join import JoinRefused, check_authority, explain, fetch_authority
from minikube_py.client.transport import TransportError
from minikube_py.config import AgentConfig
from minikube_py.lifetime import Program, StartError
from minikube_py.meta import clustersettings
from minikube_py.meta.bootstraptoken import JoinToken, parse_join_token
from minikube_py.meta.clustersettings import ClusterSettings, InvalidSettings
from minikube_py.meta.errors import Forbidden, NotFound, StatusError, Unauthorized
from minikube_py.node import Node, NodeOptions, NodeStartError
from minikube_py.pki import contexts
from minikube_py.pki.issue import LeafSpec, Usage
from minikube_py.types.certificates import CLIENT_SIGNER, KUBELET_CLIENT_SIGNER, KUBELET_SERVING_SIGNER
from minikube_py.types.core import ConfigMap
from minikube_py.types.core import Node as NodeView

log = logging.getLogger(__name__)

T = TypeVar("T")

_RENEWAL_EVERY = 3600.0
_KNOWN_SETTINGS_SECONDS = 3.0
"""How long a start waits for the server where it could do without."""
_NODES_GROUP = "system:nodes"
_KUBELET_PATHS = ("/api/v1/pods", "/api/v1/services")
_PROXY_PATHS = ("/api/v1/services", "/api/v1/nodes", "/apis/discovery.k8s.io/v1/endpointslices")


def run(config: AgentConfig) -> None:
    """Run until SIGTERM or SIGINT. Raises StartError."""
    lifetime.run(lambda stack: Agent(config, stack), config.log_level, config.log_format)


class Agent(Program):
    """One agent, from its configuration. Everything that is started is ended by the exit stack, in the reverse order."""

    def __init__(self, config: AgentConfig, stack: AsyncExitStack) -> None:
        super().__init__(stack)
        self._config = config
        self._clock = SystemClock()
        self._directory = config.data_dir / "agent"
        self._name = config.node_name or machine.node_name()
        self._ip = ""
        self._away = False
        self._readdressed = asyncio.Event()
        self._certificates = Certificates(self._directory / "pki", self._clock)
        self._transports: dict[str, tuple[Wanted, ssl.SSLContext, HttpTransport]] = {}

    async def start(self) -> None:
        """Join where that has not happened, and start the node. Raises StartError."""
        config = self._config
        try:
            self._ip = str(config.node_ip or machine.node_address())
            await asyncio.to_thread(self._directory.mkdir, 0o700, True, True)
            authority = await self._authority()
            await self._identities(authority)
        except machine.NoAddress as error:
            raise StartError(str(error)) from error
        except JoinRefused as error:
            raise StartError(str(error)) from error
        except OSError as error:
            raise StartError(f"cannot use the data directory {config.data_dir}: {error.strerror} (are you root?)") from error
        kubelet = self._client(self._kubelet_identity, authority, "kubelet", _KUBELET_PATHS)
        proxy = self._client(self._proxy_identity, authority, "kube-proxy", _PROXY_PATHS)
        settings = await self._settings(kubelet)
        serving = contexts.server_context(None, None, settings.client_ca.encode())
        if await asyncio.to_thread(self._certificates.is_good, self._serving_identity):
            serving.load_cert_chain(self._certificates.path(self._serving_identity))
        options = NodeOptions.of(config, settings, self._name, self._ip)
        self._node = node = Node(options, kubelet, lambda user, agent="": proxy, serving, self._readdress)
        try:
            await node.start(self._supervisor, self._stack)
        except NodeStartError as error:
            raise StartError(str(error)) from error
        self._supervisor.start("serving certificate", lambda health: self._keep_serving(health, kubelet, serving))
        self._supervisor.start("certificate renewal", well(lambda: self._renew(kubelet)))
        log.info("the node runs", extra={"node": self._name, "server": config.server})
        settle()
        await self._until_ready(self._not_ready)

    def _not_ready(self) -> Iterable[str]:
        """The parts of the node that have not served yet, its registration among them; but while the server is away it goes on from what
        it knew."""
        return () if self._away else [name for name, health in self._supervisor.health.items() if not health.ready.is_set()]

    # Joining

    @property
    def _kubelet_identity(self) -> Wanted:
        return Wanted("client-kubelet", KUBELET_CLIENT_SIGNER, LeafSpec(Usage.CLIENT, f"system:node:{self._name}", (_NODES_GROUP,)))

    @property
    def _proxy_identity(self) -> Wanted:
        return Wanted("client-kube-proxy", CLIENT_SIGNER, LeafSpec(Usage.CLIENT, "system:kube-proxy"))

    @property
    def _serving_identity(self) -> Wanted:
        spec = LeafSpec(Usage.SERVER, f"system:node:{self._name}", (_NODES_GROUP,), (self._name,), (self._ip,))
        return Wanted("serving-kubelet", KUBELET_SERVING_SIGNER, spec)

    def _token(self) -> JoinToken | None:
        if not self._config.token:
            return None
        token = parse_join_token(self._config.token)
        if token is None:
            raise JoinRefused("--token must be a whole join token, K10…::…, as 'minikube-py token create' prints it on the server")
        return token

    async def _authority(self) -> bytes:
        """The certificate that this cluster's servers are trusted by: the one that is known, or the one that the token names."""
        path = self._directory / "server-ca.crt"
        token = self._token()
        if path.exists():
            known = path.read_bytes()
            if token is not None:
                try:
                    check_authority(known, token, "the cluster that this machine has joined")
                except JoinRefused as error:
                    raise JoinRefused(f"{error}; to join another cluster, remove {self._directory}") from error
            return known
        if token is None:
            raise JoinRefused("this machine has not joined yet: give --token, as 'minikube-py token create' prints it on the server")
        authority = await self._patiently(lambda: fetch_authority(self._config.server, token))
        fresh = path.with_suffix(".new")
        fresh.write_bytes(authority)
        fresh.replace(path)
        return authority

    async def _identities(self, authority: bytes) -> None:
        """The client certificates; asked for with the token where they are missing or have ended."""
        wanted = (self._kubelet_identity, self._proxy_identity)
        missing = [one for one in wanted if not await asyncio.to_thread(self._certificates.is_good, one)]
        if not missing:
            return
        token = self._token()
        if token is None:
            raise JoinRefused(
                "this machine's certificates are missing or have ended: give --token, as 'minikube-py token create' prints it"
            )
        client = Client(
            HttpTransport(self._config.server, contexts.client_context(authority), token=token.token, agent="minikube-py-agent")
        )
        try:
            if self._kubelet_identity in missing:
                await self._check_name(client)
            async with asyncio.TaskGroup() as group:
                for one in missing:
                    group.create_task(self._obtain(client, one), name=f"obtain {one.name}")
        except* JoinRefused as errors:
            raise errors.exceptions[0] from None
        finally:
            await client.close()

    async def _check_name(self, client: Client) -> None:
        """Raises JoinRefused where another machine is a node of this name and lives: copies of one machine have its host name too."""

        async def look() -> NodeView | None:
            try:
                return await client.get(NodeView, self._name)
            except NotFound:
                return None

        node = await self._patiently(look)
        if node is None or not any(one.type == "Ready" and one.status == "True" for one in node.status.conditions):
            return
        addresses = [one.address for one in node.status.addresses if one.type == "InternalIP"]
        if self._ip not in addresses:
            raise JoinRefused(
                f"the cluster has a node {self._name} already, at {', '.join(addresses)}, and it is ready: give this machine another name "
                f"with --node-name, or take that one out with 'kubectl delete node {self._name}'"
            )

    async def _obtain(self, client: Client, wanted: Wanted) -> None:
        try:
            await self._patiently(lambda: self._certificates.obtain(client, wanted))
        except NotIssued as error:
            raise JoinRefused(f"no certificate for this machine: {error}") from error
        log.info("got a certificate", extra={"certificate": wanted.name})

    async def _settings(self, client: Client) -> ClusterSettings:
        """What the server tells its nodes; what it told last time, where it cannot be reached."""
        path = self._directory / "cluster.json"
        known = _read_settings(path)

        async def ask() -> ClusterSettings:
            found = await client.get(ConfigMap, clustersettings.NAME, clustersettings.NAMESPACE)
            return clustersettings.from_data(found.data)

        try:
            if known is None:
                settings = await self._patiently(ask)
            else:
                try:
                    async with asyncio.timeout(_KNOWN_SETTINGS_SECONDS):
                        settings = await ask()
                except (TransportError, TimeoutError, StatusError) as error:
                    self._away = True
                    log.warning("the server is away, going on with the settings that it gave last", extra={"error": str(error)})
                    return known
        except (InvalidSettings, JoinRefused) as error:
            raise StartError(str(error)) from error
        if settings != known:
            fresh = path.with_suffix(".new")
            fresh.write_text(json.dumps(settings.to_data()))
            fresh.replace(path)
        return settings

    async def _patiently(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something that needs the server, however long it is away. Raises JoinRefused where it says no."""
        backoff = Backoff(first=0.2, limit=10.0)
        while True:
            try:
                return await work()
            except (Unauthorized, Forbidden) as error:
                raise JoinRefused(f"{self._config.server}: {explain(error)}") from error
            except (TransportError, StatusError) as error:
                log.warning("the server does not answer, trying again", extra={"server": self._config.server, "error": str(error)})
            await asyncio.sleep(backoff.next())

    # Staying

    def _client(self, wanted: Wanted, authority: bytes, agent: str, remembered: tuple[str, ...]) -> Client:
        context = contexts.client_context(authority, self._certificates.path(wanted))
        transport = HttpTransport(self._config.server, context, agent=f"minikube-py-agent/{agent}")
        self._transports[wanted.name] = (wanted, context, transport)
        client = Client(CheckpointTransport(transport, self._directory / "checkpoint" / agent, remembered))
        self._stack.push_async_callback(client.close)
        return client

    async def _keep_serving(self, health: Health, client: Client, context: ssl.SSLContext) -> None:
        """The kubelet's serving certificate: asked for once the node is registered, and again before it ends or when the node's
        address changes."""
        backoff = Backoff(first=0.2, limit=30.0)
        while True:
            self._readdressed.clear()
            wanted = self._serving_identity
            if await asyncio.to_thread(self._certificates.is_due, wanted):
                try:
                    await self._certificates.obtain(client, wanted)
                    context.load_cert_chain(self._certificates.path(wanted))
                    log.info("got a certificate", extra={"certificate": wanted.name})
                except (NotIssued, StatusError, TransportError) as error:
                    health.degraded(str(error))
                    log.warning("no serving certificate, trying again", extra={"error": str(error)})
                    await asyncio.sleep(backoff.next())
                    continue
            backoff.reset()
            health.well()
            try:
                async with asyncio.timeout(_RENEWAL_EVERY):
                    await self._readdressed.wait()
            except TimeoutError:
                pass

    async def _readdress(self, ip: str) -> None:
        """The machine has another address: the serving certificate is to name it, and no connection of the old one brings anything."""
        self._ip = ip
        for _, _, transport in self._transports.values():
            transport.reconnect()
        self._readdressed.set()

    async def _renew(self, client: Client) -> None:
        """Ask for the client certificates again before they end; new connections show the new ones."""
        while True:
            await asyncio.sleep(_RENEWAL_EVERY)
            for wanted, context, transport in self._transports.values():
                if not await asyncio.to_thread(self._certificates.is_due, wanted):
                    continue
                try:
                    await self._certificates.obtain(client, wanted)
                except (NotIssued, StatusError, TransportError) as error:
                    log.warning("certificate not renewed, trying again", extra={"certificate": wanted.name, "error": str(error)})
                    continue
                context.load_cert_chain(self._certificates.path(wanted))
                transport.renew()
                log.info("renewed a certificate", extra={"certificate": wanted.name})


def _read_settings(path: Path) -> ClusterSettings | None:
    try:
        return clustersettings.from_data(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError):
        return None
