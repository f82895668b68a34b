"""Which certificates a server has and where they lie: one table, in the places and under the names that K3s gives them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from minikube_py.pki.issue import LeafSpec, Usage

SERVER_CA = "server-ca"
CLIENT_CA = "client-ca"
FRONT_PROXY_CA = "request-header-ca"
AUTHORITIES: Mapping[str, str] = {
    SERVER_CA: "minikube-py-server-ca",
    CLIENT_CA: "minikube-py-client-ca",
    FRONT_PROXY_CA: "minikube-py-request-header-ca",
}
"""File name of each authority, and the name in its certificate (what follows is unique per cluster)."""
SERVICE_ACCOUNT_KEY = "service"

API_SERVER = "serving-kube-apiserver"
ADMIN = "client-admin"
KUBELET_CLIENT = "client-kube-apiserver"
FRONT_PROXY = "client-auth-proxy"
KUBE_PROXY = "client-kube-proxy"
CONTROLLER = "client-controller"
SCHEDULER = "client-scheduler"
KUBELET = "client-kubelet"
KUBELET_SERVING = "serving-kubelet"


class Names(msgspec.Struct, frozen=True):
    """What the certificates of this server must say: `service_ips` are the first addresses of the service ranges, `node_ips` those under
    which the machine is reached, `tls_sans` further names or addresses that the user wants."""

    node_name: str
    hostname: str
    cluster_domain: str = "cluster.local"
    service_ips: tuple[str, ...] = ()
    node_ips: tuple[str, ...] = ()
    tls_sans: tuple[str, ...] = ()


class Leaf(NamedTuple):
    """One leaf of the table: its authority and its contents."""

    authority: str
    spec: LeafSpec


def leaves(names: Names) -> Mapping[str, Leaf]:
    """Every leaf that a server with these names has, by file name."""
    sans_dns = tuple(name for name in names.tls_sans if not _is_address(name))
    sans_addresses = tuple(name for name in names.tls_sans if _is_address(name))
    loopback = ("127.0.0.1", "::1")
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{names.cluster_domain}")
    host = tuple(dict.fromkeys(n for n in ("localhost", names.hostname, names.node_name) if n))
    return {
        API_SERVER: Leaf(
            SERVER_CA,
            LeafSpec(
                Usage.SERVER,
                "kube-apiserver",
                dns_names=(*service, *host, *sans_dns),
                addresses=(*loopback, *names.service_ips, *names.node_ips, *sans_addresses),
            ),
        ),
        KUBELET_SERVING: Leaf(SERVER_CA, LeafSpec(Usage.SERVER, names.node_name, dns_names=host, addresses=(*loopback, *names.node_ips))),
        ADMIN: Leaf(CLIENT_CA, LeafSpec(Usage.CLIENT, "system:admin", ("system:masters",))),
        KUBELET_CLIENT: Leaf(CLIENT_CA, LeafSpec(Usage.CLIENT, "kube-apiserver-kubelet-client", ("system:masters",))),
        CONTROLLER: Leaf(CLIENT_CA, LeafSpec(Usage.CLIENT, "system:kube-controller-manager")),
        SCHEDULER: Leaf(CLIENT_CA, LeafSpec(Usage.CLIENT, "system:kube-scheduler")),
        KUBE_PROXY: Leaf(CLIENT_CA, LeafSpec(Usage.CLIENT, "system:kube-proxy")),
        KUBELET: Leaf(CLIENT_CA, LeafSpec(Usage.CLIENT, f"system:node:{names.node_name}", ("system:nodes",))),
        FRONT_PROXY: Leaf(FRONT_PROXY_CA, LeafSpec(Usage.CLIENT, "system:auth-proxy")),
    }


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
