"""Who may approve and who may sign certificate signing requests, signer by signer; and no request makes anybody a master.

Upstream: plugin/pkg/admission/certificates.
"""

from __future__ import annotations

import base64
from typing import Any

from minikube_py.apiserver.admission.base import Plugin, is_about, refusal
from minikube_py.apiserver.api import AdmissionRequest, Attributes, Operation
from minikube_py.apiserver.authz import RequestAuthorizer
from minikube_py.meta.user import MASTERS_GROUP, User

_GROUP, _PLURAL = "certificates.k8s.io", "certificatesigningrequests"
_CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"

Obj = dict[str, Any]


def _may(authorizer: RequestAuthorizer, user: User, verb: str, signer: str) -> bool:
    """Whether a user has a verb on a signer, or on all signers of its domain."""
    wildcard = signer.partition("/")[0] + "/*"
    return any(
        authorizer.authorize(Attributes(user, verb, _GROUP, "*", "signers", name=name)).allowed
        for name in dict.fromkeys((signer, wildcard))
    )


class CertificateApproval(Plugin):
    name = "CertificateApproval"

    def __init__(self, authorizer: RequestAuthorizer) -> None:
        self._authorizer = authorizer

    async def validate(self, request: AdmissionRequest) -> None:
        if request.operation is not Operation.UPDATE or request.subresource != "approval" or not is_about(request, _GROUP, _PLURAL):
            return
        signer = _signer(request.old)
        if not _may(self._authorizer, request.user, "approve", signer):
            raise refusal(request, f'user not permitted to approve requests with signerName "{signer}"')


class CertificateSigning(Plugin):
    name = "CertificateSigning"

    def __init__(self, authorizer: RequestAuthorizer) -> None:
        self._authorizer = authorizer

    async def validate(self, request: AdmissionRequest) -> None:
        if request.operation is not Operation.UPDATE or request.subresource != "status" or not is_about(request, _GROUP, _PLURAL):
            return
        if _outcome(request.old) == _outcome(request.object):
            return
        signer = _signer(request.old)
        if not _may(self._authorizer, request.user, "sign", signer):
            raise refusal(request, f'user not permitted to sign requests with signerName "{signer}"')


class CertificateSubjectRestriction(Plugin):
    name = "CertificateSubjectRestriction"

    async def validate(self, request: AdmissionRequest) -> None:
        if request.operation is not Operation.CREATE or request.subresource or not is_about(request, _GROUP, _PLURAL):
            return
        if _signer(request.object) != _CLIENT_SIGNER:
            return
        if MASTERS_GROUP in _organizations(request):
            raise refusal(request, f"use of {_CLIENT_SIGNER} signer with {MASTERS_GROUP} group is not allowed")


def _signer(obj: Obj | None) -> str:
    return str(((obj or {}).get("spec") or {}).get("signerName") or "")


def _outcome(obj: Obj | None) -> tuple[Any, bool]:
    """What a signer decides: the certificate, or that there will be none."""
    status = (obj or {}).get("status") or {}
    failed = any(c.get("type") == "Failed" and c.get("status") == "True" for c in status.get("conditions") or ())
    return status.get("certificate") or "", failed


def _organizations(request: AdmissionRequest) -> tuple[str, ...]:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    text = ((request.object or {}).get("spec") or {}).get("request") or ""
    try:
        subject = x509.load_pem_x509_csr(base64.b64decode(text)).subject
    except ValueError as error:
        raise refusal(request, f"unable to parse csr: {error}") from error
    return tuple(str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
