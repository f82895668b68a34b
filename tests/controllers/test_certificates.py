"""Certificates for machines that join: who is granted what, what a signature takes over, what is cleaned away."""

from __future__ import annotations

import base64
import datetime
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from minikube_py.client import Client
from minikube_py.controllers import Options
from minikube_py.controllers.certificates import Refused, check_client, check_kubelet_client, check_kubelet_serving, serves_own_names
from minikube_py.controllers.csr_cleaner import is_past
from minikube_py.controllers.csr_signing import lifetime
from minikube_py.meta import bootstraptoken
from minikube_py.meta.errors import Forbidden
from minikube_py.pki import issue, requests
from minikube_py.pki.identities import CertificateIdentities
from minikube_py.pki.issue import LeafSpec, Usage
from minikube_py.types.certificates import (
    CLIENT_SIGNER,
    KUBELET_CLIENT_SIGNER,
    KUBELET_SERVING_SIGNER,
    CertificateSigningRequest,
    CertificateSigningRequestStatus,
)
from minikube_py.types.core import Node, NodeAddress, NodeStatus, Secret
from minikube_py.types.meta import Condition, ObjectMeta, timestamp
from tests.apiserver.trusted import SettableClock
from tests.controllers.harness import Plane, control_plane
from tests.support.waiting import until

CLIENT_USAGES = ("digital signature", "client auth")
SERVING_USAGES = ("digital signature", "server auth")
NOW = datetime.datetime.now(datetime.UTC)
BOOTSTRAPPER = ("system:bootstrap:abcdef", ("system:bootstrappers",))
CONTROLLERS = ("csrapproving", "csrsigning", "csrcleaner", "tokencleaner")


def request_pem(name: str, organizations: Sequence[str] = (), dns: Sequence[str] = (), addresses: Sequence[str] = ()) -> bytes:
    spec = LeafSpec(Usage.CLIENT, name, tuple(organizations), tuple(dns), tuple(addresses))
    return requests.make(spec, issue.new_key())


def request_of(*arguments: Any, **named: Any) -> requests.Request:
    return requests.parse(request_pem(*arguments, **named))


class Signing:
    """A control plane that signs, and its authorities."""

    def __init__(self, plane: Plane, clients: issue.KeyPair, servers: issue.KeyPair) -> None:
        self.plane, self.clients, self.servers = plane, clients, servers

    async def ask(
        self, who: tuple[str, tuple[str, ...]], signer: str, pem: bytes, usages: Sequence[str] = CLIENT_USAGES, **spec: Any
    ) -> CertificateSigningRequest:
        client: Client = self.plane.server.client(*who)
        body = {"request": base64.b64encode(pem).decode(), "signerName": signer, "usages": list(usages), **spec}
        return await client.create(CertificateSigningRequest, {"metadata": {"generateName": "csr-"}, "spec": body})

    async def current(self, csr: CertificateSigningRequest) -> CertificateSigningRequest:
        return await self.plane.client.get(CertificateSigningRequest, csr.metadata.name)

    async def issued(self, csr: CertificateSigningRequest) -> x509.Certificate:
        async def look() -> bool:
            return bool((await self.current(csr)).status.certificate)

        await until(look, what="no certificate came")
        return x509.load_pem_x509_certificate(base64.b64decode((await self.current(csr)).status.certificate))


@asynccontextmanager
async def signing(directory: Path, clock: SettableClock | None = None) -> AsyncIterator[Signing]:
    clients, servers = issue.make_authority("clients", NOW), issue.make_authority("servers", NOW)
    authorities = {CLIENT_SIGNER: clients, KUBELET_CLIENT_SIGNER: clients, KUBELET_SERVING_SIGNER: servers}
    options = Options(authorities=authorities, reserved_names=frozenset({"10.0.0.1"}))
    async with control_plane(directory, only=CONTROLLERS, options=options, clock=clock) as plane:
        yield Signing(plane, clients, servers)


async def test_a_bearer_of_a_bootstrap_token_gets_a_nodes_identity_and_the_node_renews_it(tmp_path: Path) -> None:
    async with signing(tmp_path) as made:
        pem = request_pem("system:node:n1", ["system:nodes"])
        certificate = await made.issued(await made.ask(BOOTSTRAPPER, KUBELET_CLIENT_SIGNER, pem))
        user = CertificateIdentities(made.clients.certificate_pem, SettableClock()).identify(
            certificate.public_bytes(serialization.Encoding.DER)
        )
        assert user is not None and (user.name, user.groups) == ("system:node:n1", ("system:nodes", "system:authenticated"))
        again = await made.ask(("system:node:n1", ("system:nodes",)), KUBELET_CLIENT_SIGNER, pem)
        await made.issued(again)
        messages = [c.message for c in (await made.current(again)).status.conditions]
        assert messages == ["Auto approving self kubelet client certificate after SubjectAccessReview."]


async def test_others_are_not_granted_a_nodes_identity(tmp_path: Path) -> None:
    async with signing(tmp_path) as made:
        # somebody may ask, having been given the right to, and still must be approved by a person
        asked = await made.ask(("somebody", ("system:masters",)), CLIENT_SIGNER, request_pem("somebody"))
        pem = request_pem("system:node:n2", ["system:nodes"])
        with pytest.raises(Forbidden):
            await made.ask(("system:node:n1", ("system:nodes",)), KUBELET_CLIENT_SIGNER, pem)
        with pytest.raises(Forbidden, match=r"use of kubernetes\.io/kube-apiserver-client signer with system:masters group is not allowed"):
            await made.ask(("x", ("system:masters",)), CLIENT_SIGNER, request_pem("x", ["system:masters"]))
        for pem in (request_pem("system:kube-proxy", ["more"]), request_pem("system:kube-proxy", dns=["a"]), request_pem("system:admin")):
            await made.ask(BOOTSTRAPPER, CLIENT_SIGNER, pem)
        # the last one in the queue has been looked at once this one is granted
        await made.issued(await made.ask(BOOTSTRAPPER, CLIENT_SIGNER, request_pem("system:kube-proxy")))
        waiting = [csr for csr in (await made.plane.client.list(CertificateSigningRequest)).items if not csr.status.conditions]
        assert len(waiting) == 4 and asked.metadata.name in {csr.metadata.name for csr in waiting}


async def test_who_may_not_approve_for_a_signer_cannot(tmp_path: Path) -> None:
    async with signing(tmp_path) as made:
        csr = await made.ask(("somebody", ("system:masters",)), "example.com/own", request_pem("x"))
        controller = made.plane.server.client("system:serviceaccount:kube-system:certificate-controller", ())
        import orjson

        body = orjson.loads(await controller.request("GET", CertificateSigningRequest.resource.path(None, csr.metadata.name)))
        body["status"] = {"conditions": [{"type": "Approved", "status": "True"}]}
        with pytest.raises(Forbidden, match=r'user not permitted to approve requests with signerName "example\.com/own"'):
            await controller.update(CertificateSigningRequest, body, csr.metadata.name, subresource="approval")
        body["status"] = {"certificate": base64.b64encode(made.clients.certificate_pem).decode()}
        with pytest.raises(Forbidden, match=r'user not permitted to sign requests with signerName "example\.com/own"'):
            await controller.update(CertificateSigningRequest, body, csr.metadata.name, subresource="status")


async def test_a_serving_certificate_is_for_the_addresses_of_the_node_once_they_are_known(tmp_path: Path) -> None:
    async with signing(tmp_path) as made:
        node = ("system:node:n1", ("system:nodes",))
        pem = request_pem("system:node:n1", ["system:nodes"], ["n1"], ["10.0.0.7"])
        csr = await made.ask(node, KUBELET_SERVING_SIGNER, pem, SERVING_USAGES)
        await made.plane.create(Node, {"metadata": {"name": "n1"}}, None)
        assert not (await made.current(csr)).status.conditions
        addresses = [{"type": "InternalIP", "address": "10.0.0.7"}, {"type": "Hostname", "address": "n1"}]
        await made.plane.client.patch(Node, "n1", {"status": {"addresses": addresses}}, subresource="status")
        certificate = await made.issued(csr)
        certificate.verify_directly_issued_by(made.servers.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["n1"]
        assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
        assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]


async def test_what_a_signer_does_not_sign_fails_though_it_was_approved(tmp_path: Path) -> None:
    async with signing(tmp_path) as made:
        import orjson

        admin = ("admin", ("system:masters",))
        csr = await made.ask(admin, KUBELET_SERVING_SIGNER, request_pem("system:node:n1", ["system:nodes"]), SERVING_USAGES)
        client = made.plane.client
        body = orjson.loads(await client.request("GET", CertificateSigningRequest.resource.path(None, csr.metadata.name)))
        body["status"] = {"conditions": [{"type": "Approved", "status": "True", "reason": "Mine"}]}
        await client.update(CertificateSigningRequest, body, csr.metadata.name, subresource="approval")

        async def failed() -> bool:
            return (await made.current(csr)).has("Failed")

        await until(failed)
        condition = next(c for c in (await made.current(csr)).status.conditions if c.type == "Failed")
        assert (condition.reason, condition.message) == ("SignerValidationFailure", "DNS or IP subjectAltName is required")


async def test_the_wanted_lifetime_is_kept(tmp_path: Path) -> None:
    async with signing(tmp_path) as made:
        csr = await made.ask(BOOTSTRAPPER, CLIENT_SIGNER, request_pem("system:kube-proxy"), expirationSeconds=3600)
        certificate = await made.issued(csr)
        left = certificate.not_valid_after_utc.timestamp() - time.time()
        assert 3590 < left <= 3600
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == datetime.timedelta(hours=1, minutes=5)
    assert [lifetime(n).total_seconds() for n in (None, 1, 10**9)] == [365 * 86400, 600, 365 * 86400]


async def test_old_requests_and_tokens_are_cleaned_away(tmp_path: Path) -> None:
    clock = SettableClock()
    async with signing(tmp_path, clock) as made:
        client = made.plane.client
        token = bootstraptoken.BootstrapToken("abcdef", "0123456789abcdef")
        for name, body in {
            "ended": bootstraptoken.secret(token, expiration=timestamp(time.time() - 1)),
            "unreadable": bootstraptoken.secret(token._replace(id="aaaaaa"), expiration="tomorrow"),
            "endless": bootstraptoken.secret(token._replace(id="bbbbbb")),
        }.items():
            body["metadata"]["annotations"] = {"is": name}
            await client.create(Secret, body, "kube-system")
        clock.offset = 2 * 86400
        await made.ask(("somebody", ("system:masters",)), CLIENT_SIGNER, request_pem("old"))

        async def left() -> bool:
            secrets = [s.metadata.annotations["is"] for s in (await client.list(Secret, "kube-system")).items]
            return secrets == ["endless"] and not (await client.list(CertificateSigningRequest)).items

        await until(left)


# Policy


def refusal(check: Any, request: requests.Request, usages: Sequence[str]) -> str:
    with pytest.raises(Refused) as caught:
        check(request, usages)
    return str(caught.value)


def test_what_kubelets_may_ask_for() -> None:
    node = "system:node:n1"
    check_kubelet_client(request_of(node, ["system:nodes"]), [*CLIENT_USAGES, "key encipherment"])
    check_kubelet_serving(request_of(node, ["system:nodes"], dns=["n1"]), SERVING_USAGES)
    assert refusal(check_kubelet_client, request_of(node), CLIENT_USAGES) == "subject organization is not system:nodes"
    assert refusal(check_kubelet_client, request_of(node, ["system:nodes", "x"]), CLIENT_USAGES).startswith("subject organization")
    assert refusal(check_kubelet_client, request_of("n1", ["system:nodes"]), CLIENT_USAGES).startswith("subject common name")
    assert refusal(check_kubelet_client, request_of(node, ["system:nodes"], dns=["a"]), CLIENT_USAGES).startswith("DNS")
    assert refusal(check_kubelet_client, request_of(node, ["system:nodes"], addresses=["10.0.0.1"]), CLIENT_USAGES).startswith("IP")
    wanted = "usages did not match [client auth digital signature key encipherment]"
    assert refusal(check_kubelet_client, request_of(node, ["system:nodes"]), SERVING_USAGES) == wanted
    assert refusal(check_client, request_of("x"), SERVING_USAGES) == "invalid usage for client certificate: server auth"
    assert refusal(check_client, request_of("x"), []) == "missing required usage for client certificate: client auth"


def test_a_node_serves_under_its_own_names_only() -> None:
    def node(name: str, *addresses: str) -> Node:
        status = NodeStatus(addresses=tuple(NodeAddress(type="InternalIP", address=a) for a in addresses))
        return Node(metadata=ObjectMeta(name=name), status=status)

    nodes = [node("n1", "10.0.0.7", "n1", "10.0.0.1", "10.0.0.8"), node("n2", "10.0.0.8")]

    def granted(*names: str) -> bool:
        addresses = [n for n in names if n[0].isdigit()]
        dns = [n for n in names if not n[0].isdigit()]
        return serves_own_names(request_of("system:node:n1", ["system:nodes"], dns, addresses), nodes, {"10.0.0.1"})

    assert granted("n1", "10.0.0.7")
    assert not granted("n1", "10.0.0.9"), "nobody's"
    assert not granted("10.0.0.8"), "another node's too"
    assert not granted("10.0.0.1"), "the API server's"


def test_when_requests_go() -> None:
    def csr(*conditions: Condition, certificate: str = "") -> CertificateSigningRequest:
        status = CertificateSigningRequestStatus(conditions=conditions, certificate=certificate)
        return CertificateSigningRequest(metadata=ObjectMeta(creationTimestamp=timestamp(0)), status=status)

    decided = {kind: Condition(type=kind, status="True", lastUpdateTime=timestamp(1000)) for kind in ("Approved", "Denied")}
    assert not is_past(csr(), 86400, None) and is_past(csr(), 86401, None)
    assert not is_past(csr(decided["Denied"]), 4600, None) and is_past(csr(decided["Denied"]), 4601, None)
    issued = csr(decided["Approved"], certificate="x")
    assert not is_past(issued, 4600, 9999) and is_past(issued, 4601, 9999) and is_past(issued, 2000, 1999)
    assert not is_past(csr(decided["Approved"]), 10**6, None), "approved, and not signed yet"


def test_a_request_that_does_not_hold_together_is_not_signed() -> None:
    pair = issue.make_authority("ca", NOW)
    der = bytearray(request_of("x").raw.public_bytes(serialization.Encoding.DER))
    der[-3] ^= 1
    forged = x509.load_der_x509_csr(bytes(der))
    with pytest.raises(requests.BadRequest, match="signature"):
        requests.sign(pair, request_of("x")._replace(raw=forged), CLIENT_USAGES, datetime.timedelta(days=1), NOW)
    with pytest.raises(requests.BadRequest):
        requests.parse(b"nothing")
