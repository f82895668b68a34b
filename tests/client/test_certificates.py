"""A machine's own certificates: asked for, kept, renewed; on a control plane that approves and signs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from cryptography import x509

from minikube_py.client.certificates import Certificates, NotIssued, Wanted
from minikube_py.pki import contexts, issue
from minikube_py.pki.issue import LeafSpec, Usage
from minikube_py.types.certificates import KUBELET_CLIENT_SIGNER, CertificateSigningRequest
from tests.apiserver.trusted import SettableClock
from tests.controllers.test_certificates import BOOTSTRAPPER, Signing, signing
from tests.support.waiting import until

NODE = Wanted("client-kubelet", KUBELET_CLIENT_SIGNER, LeafSpec(Usage.CLIENT, "system:node:n1", ("system:nodes",)))


async def obtained(made: Signing, certificates: Certificates, wanted: Wanted = NODE) -> x509.Certificate:
    await certificates.obtain(made.plane.server.client(*BOOTSTRAPPER), wanted)
    return x509.load_pem_x509_certificate(certificates.path(wanted).read_bytes())


async def test_a_certificate_is_obtained_kept_and_due_again_after_two_thirds_of_its_life(tmp_path: Path) -> None:
    clock = SettableClock()
    async with signing(tmp_path / "server") as made:
        certificates = Certificates(tmp_path / "pki", clock)
        assert certificates.is_due(NODE) and not certificates.is_good(NODE)
        first = await obtained(made, certificates)
        assert not certificates.is_due(NODE) and certificates.is_good(NODE)
        assert certificates.path(NODE).stat().st_mode & 0o777 == 0o600
        contexts.client_context(made.clients.certificate_pem, certificates.path(NODE))
        clock.offset = 200 * 86400
        assert not certificates.is_due(NODE)
        clock.offset = 250 * 86400
        assert certificates.is_due(NODE) and certificates.is_good(NODE)
        clock.offset = 366 * 86400
        assert certificates.is_due(NODE) and not certificates.is_good(NODE)
        clock.offset = 0
        second = await obtained(made, certificates)
        assert second.public_key() != first.public_key(), "each has a key of its own"


async def test_one_that_says_something_else_or_is_damaged_is_not_good(tmp_path: Path) -> None:
    async with signing(tmp_path / "server") as made:
        certificates = Certificates(tmp_path / "pki", SettableClock())
        await obtained(made, certificates)
        assert not certificates.is_good(NODE._replace(spec=NODE.spec._replace(common_name="system:node:n2")))
        whole = certificates.path(NODE).read_bytes()
        for damaged in (b"", whole[: len(whole) // 2], issue.private_pem(issue.new_key()) + whole[whole.index(b"-----BEGIN CERT") :]):
            certificates.path(NODE).write_bytes(damaged)
            assert certificates.is_due(NODE) and not certificates.is_good(NODE)


async def test_a_request_that_is_denied_is_told(tmp_path: Path) -> None:
    async with signing(tmp_path / "server") as made:
        client = made.plane.client
        wanted = Wanted("x", "example.com/own", LeafSpec(Usage.CLIENT, "x"))
        obtaining = asyncio.create_task(Certificates(tmp_path / "pki", SettableClock()).obtain(client, wanted))

        async def asked() -> bool:
            return bool((await client.list(CertificateSigningRequest)).items)

        await until(asked)
        name = (await client.list(CertificateSigningRequest)).items[0].metadata.name
        body = orjson.loads(await client.request("GET", CertificateSigningRequest.resource.path(None, name)))
        body["status"] = {"conditions": [{"type": "Denied", "status": "True", "reason": "No", "message": "not you"}]}
        await client.update(CertificateSigningRequest, body, name, subresource="approval")
        with pytest.raises(NotIssued, match=f"certificate signing request {name} denied: not you"):
            await asyncio.wait_for(obtaining, 10)
