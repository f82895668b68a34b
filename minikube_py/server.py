"""The composition root of `minikube-py server`: one asyncio process that hosts the control plane and, unless told otherwise, a node.

Order of the start: log (locked, checked) → keys → API server → what every cluster has → listener → controllers and scheduler → node. The
stop goes the other way; pods are left running, for the next start to adopt. Only this file and node.py know many components; the components
know only the API.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import logging
import socket
import time
from contextlib import AsyncExitStack

from minikube_py import lifetime, machine, pki
from minikube_py.aio import LagProbe, SystemClock, settle, well
from minikube_py.apiserver.assembly import Assembly, Settings, assemble
from minikube_py.apiserver.expiry import keep_events
from minikube_py.apiserver.http import HttpFront
from minikube_py.config import ServerConfig
from minikube_py.control import Informers
from minikube_py.lifetime import Program, StartError
from minikube_py.meta.bootstraptoken import JoinToken
from minikube_py.meta.clustersettings import ClusterSettings
from minikube_py.store.api import StoreError
from minikube_py.store.maintenance import Retention, keep_floors
from minikube_py.store.sqlite import SQLiteStore, open_sqlite
from minikube_py.types.certificates import CLIENT_SIGNER, KUBELET_CLIENT_SIGNER, KUBELET_SERVING_SIGNER

log = logging.getLogger(__name__)

_HISTORY = Retention(seconds=7 * 86400.0, bytes=512 << 20)
_RENEWAL_EVERY = 3600.0


def load(config: ServerConfig) -> None:
    """Import what the configuration asks for beside the API server: once the loop runs, an import would block it."""
    for name in ("controllers", "scheduler", *(() if config.disable_agent else ("node", "dns"))):
        if name not in config.disable:
            importlib.import_module(f"minikube_py.{name}")


def run(config: ServerConfig) -> None:
    """Run until SIGTERM or SIGINT. Raises StartError."""
    lifetime.run(lambda stack: Server(config, stack), config.log_level, config.log_format)


class Server(Program):
    """One server, from its configuration. Everything that is started is ended by the exit stack, in the reverse order."""

    def __init__(self, config: ServerConfig, stack: AsyncExitStack) -> None:
        super().__init__(stack)
        self._config = config
        self._clock = SystemClock()
        self._lag = LagProbe(resting=0.2)
        self._assembly: Assembly | None = None

    async def start(self) -> None:
        """Start everything; returns when /readyz says so. Raises StartError."""
        config = self._config
        began = time.monotonic()
        node_name = config.node_name or machine.node_name()
        node_ip = str(config.node_ip or _own_address(config))
        advertise = str(config.advertise_address or (config.node_ip if config.node_ip else node_ip))
        store = await self._open_store()
        keys = await self._keys(node_name, node_ip, advertise)
        settings = Settings(
            service_cidr=str(config.service_cidr),
            node_ports=config.service_node_port_range,
            cluster_domain=config.cluster_domain,
            cluster_dns="" if "dns" in config.disable else str(config.cluster_dns),
            advertise_address=advertise,
            port=config.https_listen_port,
            token=config.token,
            not_ready_toleration=config.default_not_ready_toleration_seconds,
            unreachable_toleration=config.default_unreachable_toleration_seconds,
            cluster=self._cluster_settings(keys),
        )
        assembly = self._assembly = await assemble(store, keys, settings, self._supervisor, self._lag, self._clock)
        assembly.health.starting = True
        await self._listen(assembly, keys)
        await asyncio.to_thread(self._write_kubeconfigs, keys, advertise)
        log.info("serving the API", extra={"port": config.https_listen_port, "seconds": round(time.monotonic() - began, 3)})

        start = self._supervisor.start
        start("lag probe", well(self._lag.run))
        start("compaction", well(lambda: keep_floors(store, _HISTORY, self._clock)))
        events = (store, assembly.api.cache, store.revision_at, config.event_ttl, self._clock)
        start("event expiry", well(lambda: keep_events(*events)))
        start("certificate renewal", well(lambda: _renew(keys, self._clock)))
        for name, component in assembly.components:
            start(name, component)
        controllers = assembly.client("system:kube-controller-manager", agent="kube-controller-manager")
        informers = Informers(controllers)
        self._stack.push_async_callback(informers.close)
        if "controllers" not in config.disable:
            self._start_controllers(assembly, informers, keys)
        if "scheduler" not in config.disable:
            from minikube_py.scheduler import Scheduler

            start("scheduler", Scheduler(assembly.client("system:kube-scheduler", agent="kube-scheduler"), informers).run)
            assembly.health.parts["scheduler"] = ["scheduler"]
        if not config.disable_agent:
            await self._start_node(assembly, keys, node_name, node_ip)
        assembly.health.starting = False
        settle()
        await self._until_ready(assembly.health.problems)

    async def end_components(self) -> None:
        """End what runs; /readyz says no from now on."""
        if self._assembly is not None:
            self._assembly.health.shutting_down = True
        await super().end_components()

    def _cluster_settings(self, keys: pki.Pki) -> ClusterSettings:
        config = self._config
        return ClusterSettings(
            cluster_cidr=str(config.cluster_cidr),
            service_cidr=str(config.service_cidr),
            cluster_dns=str(config.cluster_dns),
            cluster_domain=config.cluster_domain,
            overlay=config.overlay,
            client_ca=keys.certificate_pem(pki.CLIENT_CA).decode(),
            node_lease_duration=str(config.node_lease_duration),
            disabled=config.disable & {"dns", "proxy"},
        )

    async def _open_store(self) -> SQLiteStore:
        try:
            self._config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            store = await open_sqlite(self._config.data_dir / "server" / "db")
        except StoreError as error:
            raise StartError(str(error)) from error
        except OSError as error:
            hint = "be root, or " if isinstance(error, PermissionError) else ""
            message = f"cannot use the data directory {self._config.data_dir}: {error.strerror}; {hint}choose another with --data-dir"
            raise StartError(message) from error
        self._stack.push_async_callback(store.close)
        return store

    async def _keys(self, node_name: str, node_ip: str, advertise: str) -> pki.Pki:
        config = self._config
        names = pki.Names(
            node_name=node_name,
            hostname=socket.gethostname(),
            cluster_domain=config.cluster_domain,
            service_ips=(str(config.api_service_ip),),
            node_ips=tuple(dict.fromkeys((node_ip, advertise))),
            tls_sans=config.tls_san,
        )
        try:
            return await asyncio.to_thread(pki.ensure, config.data_dir / "server" / "tls", names, self._clock.time())
        except pki.PkiError as error:
            raise StartError(str(error)) from error

    async def _listen(self, assembly: Assembly, keys: pki.Pki) -> None:
        config = self._config
        front = HttpFront(assembly.api, assembly.api.authenticator)
        host = None if config.bind_address.is_unspecified else str(config.bind_address)
        try:
            await front.start(host, config.https_listen_port, keys.api_server_context())
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                message = f"port {config.https_listen_port} is in use: stop what listens there, or choose another with --https-listen-port"
            elif error.errno == errno.EADDRNOTAVAIL:
                message = f"--bind-address {config.bind_address} is none of this machine's addresses"
            else:
                message = f"cannot listen on {config.bind_address} port {config.https_listen_port}: {error.strerror}"
            raise StartError(message) from error
        self._stack.push_async_callback(front.close)

    def _write_kubeconfigs(self, keys: pki.Pki, advertise: str) -> None:
        config = self._config
        bound = config.bind_address
        host = "127.0.0.1" if bound.is_unspecified or bound.is_loopback else str(bound)
        url = f"https://{f'[{host}]' if ':' in host else host}:{config.https_listen_port}"
        keys.write_kubeconfig(config.data_dir / "server" / "cred" / "admin.kubeconfig", url)
        if config.token:
            keys.write_secret(config.data_dir / "server" / "token", f"{JoinToken(keys.ca_hash(), config.token)}\n")
        try:
            keys.write_kubeconfig(config.write_kubeconfig, url, mode=config.write_kubeconfig_mode)
        except OSError as error:
            raise StartError(
                f"cannot write {config.write_kubeconfig}: {error.strerror}; choose another place with --write-kubeconfig"
            ) from error

    def _start_controllers(self, assembly: Assembly, informers: Informers, keys: pki.Pki) -> None:
        from minikube_py.controllers import Options, controllers

        config = self._config
        clients, servers = keys.signing_pair(pki.CLIENT_CA), keys.signing_pair(pki.SERVER_CA)
        options = Options(
            cluster_cidr=str(config.cluster_cidr),
            service_cidr=str(config.service_cidr),
            node_monitor_period=config.node_monitor_period,
            node_monitor_grace_period=config.node_monitor_grace_period,
            root_ca=keys.server_ca_pem.decode(),
            authorities={CLIENT_SIGNER: clients, KUBELET_CLIENT_SIGNER: clients, KUBELET_SERVING_SIGNER: servers},
            reserved_names=keys.api_server_names(),
        )
        disabled = frozenset({"local-path"} if "local-storage" in config.disable else ())
        made = controllers(assembly.service_account_client, informers, options, self._clock, disabled)
        for name, component in made:
            self._supervisor.start(name, component)
        assembly.health.parts["controller-manager"] = [name for name, _ in made]

    async def _start_node(self, assembly: Assembly, keys: pki.Pki, node_name: str, node_ip: str) -> None:
        from minikube_py.node import Node, NodeOptions, NodeStartError

        config = self._config
        options = NodeOptions.of(config, self._cluster_settings(keys), node_name, node_ip)

        async def readdressed(ip: str) -> None:
            # whoever still knows the server by the address that it was told to advertise goes on
            ips = dict.fromkeys((ip, str(config.advertise_address or ip)))
            await asyncio.to_thread(keys.readdress, tuple(ips), self._clock.time())

        client, context = assembly.node_client(node_name), keys.kubelet_context()
        self._node = node = Node(options, client, assembly.client, context, readdressed)
        try:
            await node.start(self._supervisor, self._stack)
        except NodeStartError as error:
            raise StartError(f"{error} (or run the control plane alone with --disable-agent)") from error


def _own_address(config: ServerConfig) -> str:
    try:
        return machine.node_address()
    except machine.NoAddress as error:
        if config.disable_agent:
            return "127.0.0.1"
        raise StartError(str(error)) from error


async def _renew(keys: pki.Pki, clock: SystemClock) -> None:
    """Issue leaves again before they end; running listeners take them up."""
    while True:
        await asyncio.sleep(_RENEWAL_EVERY)
        for name in await asyncio.to_thread(keys.renew, clock.time()):
            log.info("renewed a certificate", extra={"certificate": name})
