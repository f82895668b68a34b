"""Signs what was approved, with the authority that a signer's name stands for: the clients' or the servers'.

The keys are handed in by who puts the controllers together; a signer without a key signs nothing.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Sequence
from typing import Any

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, change
from minikube_py.controllers.certificates import CHECKS, Refused
from minikube_py.meta.errors import NotFound
from minikube_py.pki import requests
from minikube_py.types.certificates import CertificateSigningRequest

LIFETIME = datetime.timedelta(days=365)
SHORTEST = datetime.timedelta(minutes=10)


def lifetime(wanted: int | None) -> datetime.timedelta:
    """How long a certificate lives that was asked for with `expirationSeconds`."""
    if wanted is None:
        return LIFETIME
    return max(SHORTEST, min(datetime.timedelta(seconds=wanted), LIFETIME))


class CSRSigningController(Controller):
    """Writes the certificate into the status of an approved request, or says why there is none."""

    name = "csrsigning"
    identity = "certificate-controller"
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._requests = context.informers.of(CertificateSigningRequest)

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._requests),)

    async def reconcile(self, key: str) -> float | None:
        csr = self._requests.get(key)
        if csr is None or csr.status.certificate or not csr.has("Approved") or csr.has("Denied") or csr.has("Failed"):
            return None
        authority = self.options.authorities.get(csr.spec.signerName)
        check = CHECKS.get(csr.spec.signerName)
        if authority is None or check is None:
            return None
        now = datetime.datetime.fromtimestamp(int(self.clock.time()), datetime.UTC)
        try:
            request = requests.parse(base64.b64decode(csr.spec.request))
            check(request, csr.spec.usages)
            certificate = requests.sign(authority, request, csr.spec.usages, lifetime(csr.spec.expirationSeconds), now)
        except (Refused, requests.BadRequest) as error:
            failed = {"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": str(error)}
            await self._write(csr, lambda status: status.setdefault("conditions", []).append(failed))
            return None
        encoded = base64.b64encode(certificate).decode()
        await self._write(csr, lambda status: status.setdefault("certificate", encoded))
        return None

    async def _write(self, csr: CertificateSigningRequest, edit: Any) -> None:
        try:
            await change(self.client, csr, lambda live: edit(live.setdefault("status", {})), "status")
        except NotFound:
            return
