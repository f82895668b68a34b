"""Certificate signing requests: made by who wants a certificate, read and signed by who has an authority. Values in, values out.

What a signature takes over of a request is its subject, its alternative names and its public key, nothing else; what the certificate is
good for and for how long is the signer's word.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
from collections.abc import Collection, Iterable
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from minikube_py.pki.issue import KeyPair, LeafSpec, alternative_names, subject

BACKDATED = datetime.timedelta(hours=1)
"""As our own certificates are, and not upstream's five minutes: a machine whose clock is set back by an hour goes on trusting its nodes."""
SHORT = datetime.timedelta(hours=8)
"""Certificates that live shorter than this end when they were asked to, and are backdated by upstream's five minutes alone: who asks for
one does not want it to be good for much longer."""
_SHORT_BACKDATED = datetime.timedelta(minutes=5)

_KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_EXTENDED_USAGES = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsec end system": ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "microsoft sgc": ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": ObjectIdentifier("2.16.840.1.113730.4.1"),
}


class BadRequest(ValueError):
    """The request cannot be read or signed; the message says why."""


class Request(NamedTuple):
    """What a signing request says of its holder."""

    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]
    emails: tuple[str, ...]
    uris: tuple[str, ...]
    raw: x509.CertificateSigningRequest


def make(spec: LeafSpec, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A signing request as PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject(spec))
    if names := alternative_names(spec):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def parse(pem: bytes) -> Request:
    """What a PEM request says. Raises BadRequest."""
    try:
        raw = x509.load_pem_x509_csr(pem)
        common_names = [str(a.value) for a in raw.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        organizations = [str(a.value) for a in raw.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        names: Iterable[x509.GeneralName] = ()
        with contextlib.suppress(x509.ExtensionNotFound):
            names = tuple(raw.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise BadRequest(str(error)) from error
    return Request(
        common_names[-1] if common_names else "",
        tuple(organizations),
        tuple(name.value for name in names if isinstance(name, x509.DNSName)),
        tuple(str(name.value) for name in names if isinstance(name, x509.IPAddress)),
        tuple(name.value for name in names if isinstance(name, x509.RFC822Name)),
        tuple(name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)),
        raw,
    )


def sign(authority: KeyPair, request: Request, usages: Collection[str], lifetime: datetime.timedelta, now: datetime.datetime) -> bytes:
    """A certificate as PEM for what the request says, good for `usages` (in the API's words). Raises BadRequest."""
    raw = request.raw
    if not raw.is_signature_valid:
        raise BadRequest("unable to verify certificate request signature")
    unknown = [usage for usage in usages if usage not in _KEY_USAGES and usage not in _EXTENDED_USAGES]
    if unknown:
        raise BadRequest(f"unrecognized usage values: {unknown}")
    begins, ends = (now - _SHORT_BACKDATED, now + lifetime) if lifetime < SHORT else (now - BACKDATED, now + lifetime - BACKDATED)
    public = raw.public_key()
    wanted = {_KEY_USAGES[usage] for usage in usages if usage in _KEY_USAGES}
    extended = list(dict.fromkeys(_EXTENDED_USAGES[usage] for usage in usages if usage in _EXTENDED_USAGES))
    builder = (
        x509.CertificateBuilder()
        .subject_name(raw.subject)
        .issuer_name(authority.certificate.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(min(ends, authority.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if wanted:
        flags = {name: name in wanted for name in set(_KEY_USAGES.values())}
        try:
            builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
        except ValueError as error:
            raise BadRequest(str(error)) from error
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    names: list[x509.GeneralName] = [
        *(x509.DNSName(name) for name in request.dns_names),
        *(x509.RFC822Name(name) for name in request.emails),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in request.addresses),
        *(x509.UniformResourceIdentifier(name) for name in request.uris),
    ]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
