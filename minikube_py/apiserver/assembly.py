"""The API server put together from its parts: cache, identities, rights, admission, allocation, and the endpoints beyond the generic verbs.

What flows through: a log and the cluster's keys in, an `Assembly` out: the server, clients of it for this process's components, and the
background work that belongs to it. What every cluster has from the beginning is there when `assemble` returns.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from minikube_py import pki
from minikube_py.aio import Clock, Component, LagProbe, Supervisor
from minikube_py.apiserver import admission, bootstrap
from minikube_py.apiserver.allocation import ServiceAllocator
from minikube_py.apiserver.allocation_repair import AllocationRepair
from minikube_py.apiserver.api import Allocator, Request, Response
from minikube_py.apiserver.authn import RequestAuthenticator
from minikube_py.apiserver.authn_bootstrap import BootstrapTokens
from minikube_py.apiserver.authn_tokens import ServiceAccountTokens
from minikube_py.apiserver.authz import RequestAuthorizer
from minikube_py.apiserver.cache import Cache
from minikube_py.apiserver.health import HealthChecks
from minikube_py.apiserver.kubernetes_service import KubernetesService
from minikube_py.apiserver.local import LocalTransport
from minikube_py.apiserver.reviews import Reviews
from minikube_py.apiserver.server import ApiServer
from minikube_py.apiserver.tokens import TokenRequests
from minikube_py.apiserver.tokens import routes as token_routes
from minikube_py.client import Client
from minikube_py.meta.clustersettings import ClusterSettings
from minikube_py.meta.errors import NotFound
from minikube_py.meta.user import MASTERS_GROUP, NODES_GROUP, User, authenticated
from minikube_py.resources.registry import built_in
from minikube_py.store.api import Store
from minikube_py.types.network import SERVICE_PROXY_NAME_LABEL, Service


class Settings(NamedTuple):
    """What the API server must know of the cluster."""

    service_cidr: str
    advertise_address: str
    port: int
    cluster_domain: str = "cluster.local"
    cluster_dns: str = ""
    """The address that the Service kube-system/kube-dns gets; "" for none."""
    node_ports: range = range(30000, 32768)
    token: str = ""
    not_ready_toleration: int = 300
    unreachable_toleration: int = 300
    cluster: ClusterSettings | None = None
    """What the nodes of other machines must know."""


class Assembly:
    """The API server of this process, and clients of it."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.components: Sequence[tuple[str, Component]] = ()
        """The background work that belongs to the API server, to be supervised."""

    @property
    def health(self) -> HealthChecks:
        """The health endpoints' state."""
        return self.api.health

    def client(self, user: str, *groups: str, agent: str) -> Client:
        """A client with an identity of its own."""
        return Client(LocalTransport(self.api, authenticated(User(user, groups)), agent))

    def service_account_client(self, name: str) -> Client:
        """A client as a service account of kube-system: a controller's identity."""
        groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system")
        return self.client(f"system:serviceaccount:kube-system:{name}", *groups, agent=name)

    def node_client(self, node_name: str) -> Client:
        """A client as the kubelet of a node."""
        return self.client(f"system:node:{node_name}", NODES_GROUP, agent="kubelet")


async def assemble(store: Store, keys: pki.Pki, settings: Settings, supervisor: Supervisor, lag: LagProbe, clock: Clock) -> Assembly:
    """Build the API server over a log. Raises the client's errors where the bootstrap objects cannot be written."""
    resources = built_in()
    cache = await Cache.load(store, [resource for resource in resources if resource.stored])
    tokens = ServiceAccountTokens(
        keys.service_account_key, cache, clock, issuer=f"https://kubernetes.default.svc.{settings.cluster_domain}"
    )
    join = {settings.token: User("system:bootstrap:server", ("system:bootstrappers",))} if settings.token else {}
    authenticator = RequestAuthenticator(
        client_ca_pem=keys.certificate_pem(pki.CLIENT_CA),
        front_proxy_ca_pem=keys.certificate_pem(pki.FRONT_PROXY_CA),
        tokens=tokens,
        static_tokens=join,
        bootstrap=BootstrapTokens(cache, clock),
        clock=clock,
    )
    authorizer = RequestAuthorizer(cache)
    host = settings.advertise_address
    external_url = f"https://{f'[{host}]' if ':' in host else host}:{settings.port}"
    plugins = admission.plugins(cache, authorizer, (settings.not_ready_toleration, settings.unreachable_toleration))
    allocators: dict[tuple[str, str], Allocator] = {}
    api = ApiServer(
        store=store,
        cache=cache,
        resources=resources,
        authenticator=authenticator,
        authorizer=authorizer,
        admission=plugins,
        handlers={
            **TokenRequests(tokens, cache, plugins, clock).handlers,
            **Reviews(authorizer, authenticator.check_token, clock).handlers,
        },
        allocators=allocators,
        routes={"/cacerts": _public_certificate(keys), **token_routes(tokens, external_url)},
        health=HealthChecks({}, lambda: supervisor.health),
        kubelet_tls=keys.client_context(pki.KUBELET_CLIENT),
        lag=lag,
        clock=clock,
    )
    assembly = Assembly(api)
    own = assembly.client("system:apiserver", MASTERS_GROUP, agent="kube-apiserver")
    allocator = ServiceAllocator(own, cache, store, service_cidrs=(settings.service_cidr,), node_ports=settings.node_ports)
    allocators["", "services"] = allocator
    await bootstrap.reconcile(
        own,
        cache,
        bootstrap.Settings(
            (settings.service_cidr,),
            keys.certificate_pem(pki.CLIENT_CA).decode(),
            keys.certificate_pem(pki.FRONT_PROXY_CA).decode(),
            cluster=settings.cluster.to_data() if settings.cluster is not None else {},
        ),
        clock.time(),
    )
    service_ip = str(ipaddress.ip_network(settings.service_cidr)[1])
    kubernetes = KubernetesService(own, cache, store, service_ip=service_ip, address=settings.advertise_address, port=settings.port)
    repair = AllocationRepair(allocator, own, cache, store, clock)
    assembly.components = (("kubernetes service", kubernetes.run), ("allocation repair", repair.run))
    if settings.cluster_dns:
        await _ensure_dns_service(own, settings.cluster_dns)
    return assembly


async def _ensure_dns_service(client: Client, address: str) -> None:
    """Every node answers DNS at this address by itself: the Service holds the address, and tells the proxies to leave it alone."""
    try:
        await client.get(Service, "kube-dns", "kube-system")
    except NotFound:
        labels = {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "kube-dns"}
        ports: list[dict[str, Any]] = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
        body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "labels": {**labels, SERVICE_PROXY_NAME_LABEL: "minikube-py-dns"}},
            "spec": {"clusterIP": address, "ports": ports},
        }
        await client.create(Service, body, "kube-system")


def _public_certificate(keys: pki.Pki) -> Callable[[Request], Awaitable[Response]]:
    """The certificate that clients trust, for everybody: an agent fetches it, checks its hash, and only then speaks."""

    async def answer(request: Request) -> Response:
        return Response(200, keys.server_ca_pem, content_type="text/plain")

    return answer
