"""Which certificate signing requests are those of a node, and which of them are granted. Pure.

Upstream: pkg/apis/certificates/helpers.go for what a kubelet may ask for; pkg/controller/certificates/approver for who is granted it.
Upstream leaves the approval of kubelets' serving certificates to somebody else; here a node is granted one for the addresses that its Node
says it has, as long as no other node and not the API server goes by them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from minikube_py.pki.requests import Request
from minikube_py.types.certificates import CLIENT_SIGNER, KUBELET_CLIENT_SIGNER, KUBELET_SERVING_SIGNER, CertificateSigningRequest
from minikube_py.types.core import Node

NODE_PREFIX = "system:node:"
NODES_GROUP = "system:nodes"
PROXY_USER = "system:kube-proxy"

_CLIENT_USAGES = frozenset({"digital signature", "client auth"})
_SERVING_USAGES = frozenset({"digital signature", "server auth"})
_RSA = frozenset({"key encipherment"})


class Refused(ValueError):
    """A request is not what its signer signs; the message says why, in upstream's words."""


class Recognizer(NamedTuple):
    """A request that is granted to whom may create `certificatesigningrequests/<subresource>`."""

    subresource: str
    recognizes: Callable[[CertificateSigningRequest, Request], bool]
    message: str


def check_kubelet_client(request: Request, usages: Collection[str]) -> None:
    """Raises Refused where this is no kubelet's client certificate."""
    if request.organizations != (NODES_GROUP,):
        raise Refused("subject organization is not system:nodes")
    if request.dns_names:
        raise Refused("DNS subjectAltNames are not allowed")
    if request.emails:
        raise Refused("Email subjectAltNames are not allowed")
    if request.addresses:
        raise Refused("IP subjectAltNames are not allowed")
    if request.uris:
        raise Refused("URI subjectAltNames are not allowed")
    if not request.common_name.startswith(NODE_PREFIX):
        raise Refused("subject common name does not begin with system:node:")
    _check_usages(usages, _CLIENT_USAGES)


def check_kubelet_serving(request: Request, usages: Collection[str]) -> None:
    """Raises Refused where this is no kubelet's serving certificate."""
    if request.organizations != (NODES_GROUP,):
        raise Refused("subject organization is not system:nodes")
    if not request.dns_names and not request.addresses:
        raise Refused("DNS or IP subjectAltName is required")
    if request.emails:
        raise Refused("Email subjectAltNames are not allowed")
    if request.uris:
        raise Refused("URI subjectAltNames are not allowed")
    _check_usages(usages, _SERVING_USAGES)
    if not request.common_name.startswith(NODE_PREFIX):
        raise Refused("subject common name does not begin with system:node:")


def check_client(request: Request, usages: Collection[str]) -> None:
    """Raises Refused where a certificate for API clients is to be good for something else."""
    for usage in usages:
        if usage not in ("digital signature", "key encipherment", "client auth"):
            raise Refused(f"invalid usage for client certificate: {usage}")
    if "client auth" not in usages:
        raise Refused("missing required usage for client certificate: client auth")


CHECKS: dict[str, Callable[[Request, Collection[str]], None]] = {
    CLIENT_SIGNER: check_client,
    KUBELET_CLIENT_SIGNER: check_kubelet_client,
    KUBELET_SERVING_SIGNER: check_kubelet_serving,
}
"""What each signer signs."""


def _check_usages(usages: Collection[str], required: frozenset[str]) -> None:
    if set(usages) not in (required, required | _RSA):
        raise Refused(f"usages did not match [{' '.join(sorted(required | _RSA))}]")


def _passes(check: Callable[[Request, Collection[str]], None], request: Request, usages: Collection[str]) -> bool:
    try:
        check(request, usages)
    except Refused:
        return False
    return True


def _node_client(csr: CertificateSigningRequest, request: Request) -> bool:
    return csr.spec.signerName == KUBELET_CLIENT_SIGNER and _passes(check_kubelet_client, request, csr.spec.usages)


def _self_node_client(csr: CertificateSigningRequest, request: Request) -> bool:
    return csr.spec.username == request.common_name and _node_client(csr, request)


def _proxy_client(csr: CertificateSigningRequest, request: Request) -> bool:
    if csr.spec.signerName != CLIENT_SIGNER or not _passes(check_client, request, csr.spec.usages):
        return False
    named = request.dns_names or request.addresses or request.emails or request.uris
    return request.common_name == PROXY_USER and not request.organizations and not named


def _self_node_serving(csr: CertificateSigningRequest, request: Request) -> bool:
    if csr.spec.signerName != KUBELET_SERVING_SIGNER or csr.spec.username != request.common_name:
        return False
    return NODES_GROUP in csr.spec.groups and _passes(check_kubelet_serving, request, csr.spec.usages)


SELF_NODE_SERVING = Recognizer(
    "selfnodeserving", _self_node_serving, "Auto approving kubelet serving certificate of the node's own addresses."
)
RECOGNIZERS: Sequence[Recognizer] = (
    Recognizer("selfnodeclient", _self_node_client, "Auto approving self kubelet client certificate after SubjectAccessReview."),
    Recognizer("nodeclient", _node_client, "Auto approving kubelet client certificate after SubjectAccessReview."),
    Recognizer("nodeproxyclient", _proxy_client, "Auto approving service proxy client certificate after SubjectAccessReview."),
    SELF_NODE_SERVING,
)


def serves_own_names(request: Request, nodes: Iterable[Node], reserved: Collection[str]) -> bool:
    """Whether all names and addresses of a kubelet's serving certificate are those of its own Node, and of nobody else.

    `reserved` are the names and addresses of the API server, which the same authority vouches for."""
    name = request.common_name.removeprefix(NODE_PREFIX)
    wanted = {*request.dns_names, *request.addresses}
    own: set[str] = set()
    others: set[str] = set()
    for node in nodes:
        (own if node.metadata.name == name else others).update(address.address for address in node.status.addresses)
    return wanted <= own and not wanted & others and not wanted & set(reserved)
