"""Certificates that a machine gets from the cluster's signers and keeps on disk: asked for by request, renewed in time.

Each is one file that holds key and certificate, replaced as a whole. The key never leaves the machine.
"""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from minikube_py.aio import Backoff, Clock
from minikube_py.client.client import Client
from minikube_py.client.transport import TransportError
from minikube_py.pki import issue, requests
from minikube_py.pki.issue import LeafSpec, Usage
from minikube_py.types.certificates import CertificateSigningRequest

PATIENCE = 900.0
"""How long a request may wait for its certificate before another is made."""


class Wanted(NamedTuple):
    """A certificate by its file's name, who signs it, and what it says."""

    name: str
    signer: str
    spec: LeafSpec


class NotIssued(Exception):
    """The request was denied, has failed, or was not answered; the message says which."""


class Certificates:
    """The certificates in one directory."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory, self._clock = directory, clock

    def path(self, wanted: Wanted) -> Path:
        """Where key and certificate lie together."""
        return self._directory / f"{wanted.name}.pem"

    def is_good(self, wanted: Wanted) -> bool:
        """Whether there is one that says what is wanted and is valid now. Blocking."""
        stored = self._stored(wanted)
        return stored is not None and stored.not_valid_before_utc.timestamp() <= self._clock.time() < stored.not_valid_after_utc.timestamp()

    def is_due(self, wanted: Wanted) -> bool:
        """Whether it is to be asked for (again): it is not good, or less than a third of its life is left. Blocking."""
        stored = self._stored(wanted)
        if stored is None:
            return True
        begins, ends = stored.not_valid_before_utc.timestamp(), stored.not_valid_after_utc.timestamp()
        return not begins <= self._clock.time() < ends - (ends - begins) / 3

    async def obtain(self, client: Client, wanted: Wanted) -> None:
        """Get a certificate and put it into place. Raises NotIssued, StatusError, TransportError."""
        key = await asyncio.to_thread(issue.new_key)
        usage = "client auth" if wanted.spec.usage is Usage.CLIENT else "server auth"
        ref = CertificateSigningRequest.resource
        body = {
            "apiVersion": ref.api_version,
            "kind": ref.kind,
            "metadata": {"generateName": "csr-"},
            "spec": {
                "request": base64.b64encode(requests.make(wanted.spec, key)).decode(),
                "signerName": wanted.signer,
                "usages": ["digital signature", usage],
            },
        }
        csr = await client.create(CertificateSigningRequest, body)
        pem = await self._issued(client, csr)
        await asyncio.to_thread(self._write, wanted, issue.private_pem(key) + pem)

    async def _issued(self, client: Client, csr: CertificateSigningRequest) -> bytes:
        backoff = Backoff(first=0.05, limit=5.0, factor=1.5)
        try:
            async with asyncio.timeout(PATIENCE):
                while not csr.status.certificate:
                    for condition in csr.status.conditions:
                        if condition.type in ("Denied", "Failed"):
                            raise NotIssued(
                                f"certificate signing request {csr.metadata.name} {condition.type.lower()}: {condition.message}"
                            )
                    await asyncio.sleep(backoff.next())
                    try:
                        csr = await client.get(CertificateSigningRequest, csr.metadata.name)
                    except TransportError:
                        continue
        except TimeoutError:
            raise NotIssued(f"certificate signing request {csr.metadata.name} was not answered within {PATIENCE:.0f} s") from None
        return base64.b64decode(csr.status.certificate)

    def _stored(self, wanted: Wanted) -> x509.Certificate | None:
        try:
            pem = self.path(wanted).read_bytes()
            certificate, key = x509.load_pem_x509_certificate(pem), issue.load_key(pem)
        except (FileNotFoundError, ValueError):
            return None
        if certificate.public_key() != key.public_key() or not isinstance(key, ec.EllipticCurvePrivateKey):
            return None
        return certificate if issue.says(certificate, wanted.spec) else None

    def _write(self, wanted: Wanted, content: bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.path(wanted)
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
