"""Identities by client certificate: the common name is the user, the organizations are its groups.

The handshake has proved that the client holds the certificate's key and nothing more (pki/contexts.py): issuer, dates and usage are
checked here, against one authority. A certificate seen before costs one dictionary look-up.
"""

from __future__ import annotations

from typing import NamedTuple

from minikube_py.aio import Clock
from minikube_py.meta.user import User, authenticated

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_CACHED = 1024


class Holder(NamedTuple):
    """Whom a certificate of the authority names, and from when to when (seconds since the epoch)."""

    user: User
    not_before: float
    not_after: float


class CertificateIdentities:
    """Judges certificates against one authority (PEM)."""

    def __init__(self, authority_pem: bytes, clock: Clock) -> None:
        from cryptography import x509

        self._authority = x509.load_pem_x509_certificate(authority_pem)
        self._clock = clock
        self._seen: dict[bytes, Holder | None] = {}

    def identify(self, certificate: bytes) -> User | None:
        """The user that a DER certificate names; None where it is not of this authority, not for clients, or not valid now."""
        try:
            holder = self._seen[certificate]
        except KeyError:
            if len(self._seen) >= _CACHED:
                self._seen.clear()
            holder = self._seen[certificate] = self._judge(certificate)
        if holder is None or not holder.not_before <= self._clock.time() <= holder.not_after:
            return None
        return holder.user

    def _judge(self, der: bytes) -> Holder | None:
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        try:
            certificate = x509.load_der_x509_certificate(der)
            certificate.verify_directly_issued_by(self._authority)
            usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            subject = certificate.subject
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound, x509.DuplicateExtension):
            return None
        if ExtendedKeyUsageOID.CLIENT_AUTH not in usages and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages:
            return None
        names = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if not names or not names[-1]:
            return None
        user = User(
            names[-1],
            tuple(str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)),
            extra={CREDENTIAL_ID: ("X509SHA256=" + certificate.fingerprint(hashes.SHA256()).hex(),)},
        )
        authority = self._authority
        return Holder(
            authenticated(user),
            max(certificate.not_valid_before_utc, authority.not_valid_before_utc).timestamp(),
            min(certificate.not_valid_after_utc, authority.not_valid_after_utc).timestamp(),
        )
