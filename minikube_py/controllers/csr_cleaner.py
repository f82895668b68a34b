"""Deletes certificate signing requests that have served: granted or denied an hour ago, forgotten for a day, or expired."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Sequence

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller
from minikube_py.meta.errors import Conflict, NotFound
from minikube_py.types.certificates import CertificateSigningRequest
from minikube_py.types.meta import parse_timestamp

PERIOD = 3600.0
DECIDED_SECONDS = 3600.0
PENDING_SECONDS = 24 * 3600.0


def is_past(csr: CertificateSigningRequest, now: float, certificate_ends: float | None) -> bool:
    """Whether a request is to go. `certificate_ends`: when the certificate in it expires, None where there is none."""
    status = csr.status
    if not status.conditions:
        return _older(csr.metadata.creationTimestamp, PENDING_SECONDS, now)
    for condition in status.conditions:
        issued = condition.type == "Approved" and bool(status.certificate)
        if (issued or condition.type == "Denied") and _older(condition.lastUpdateTime, DECIDED_SECONDS, now):
            return True
        if issued and certificate_ends is not None and now > certificate_ends:
            return True
    return False


def _older(time: str | None, seconds: float, now: float) -> bool:
    return bool(time) and now - parse_timestamp(time or "") > seconds


class CSRCleanerController(Controller):
    """Looks at every request when it changes, and every hour."""

    name = "csrcleaner"
    identity = "certificate-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._requests = context.informers.of(CertificateSigningRequest)

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._requests),)

    async def reconcile(self, key: str) -> float | None:
        csr = self._requests.get(key)
        if csr is None:
            return None
        if not is_past(csr, self.clock.time(), _ends(csr.status.certificate)):
            return PERIOD
        with contextlib.suppress(NotFound, Conflict):
            await self.client.delete(CertificateSigningRequest, csr.metadata.name, uid=csr.metadata.uid)
        return None


def _ends(certificate: str) -> float | None:
    if not certificate:
        return None
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(base64.b64decode(certificate)).not_valid_after_utc.timestamp()
    except ValueError:
        return None
