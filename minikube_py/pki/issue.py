"""Makes X.509 certificates: certificate authorities and the leaves that they sign. Values in, values out: no files, no clock.

Keys are EC P-256 everywhere. A certificate is valid from an hour before its issue, so that a machine whose clock is a little behind
accepts it.
"""

from __future__ import annotations

import datetime
import enum
import ipaddress
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME = datetime.timedelta(days=3652)
LEAF_LIFETIME = datetime.timedelta(days=365)
BACKDATED = datetime.timedelta(hours=1)
RENEW_BEFORE = LEAF_LIFETIME / 3
"""A leaf is due for renewal when less than this is left of it."""

_KEY_USAGE = {
    "content_commitment": False, "data_encipherment": False, "key_agreement": False, "encipher_only": False, "decipher_only": False,
}  # fmt: skip


class Usage(enum.Enum):
    """What a leaf is for."""

    SERVER = "server"
    CLIENT = "client"


class LeafSpec(NamedTuple):
    """What a leaf certificate says of its holder."""

    usage: Usage
    common_name: str
    organizations: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


class KeyPair(NamedTuple):
    """A private key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def key_pem(self) -> bytes:
        """The key as PEM (SEC 1)."""
        return private_pem(self.key)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM (SEC 1, the form of other Kubernetes tools)."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """A private key from PEM. Raises ValueError where it is damaged or not an EC key."""
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")
    return key


def make_authority(name: str, now: datetime.datetime, key: ec.EllipticCurvePrivateKey | None = None) -> KeyPair:
    """A self-signed certificate authority for leaves only (path length 0)."""
    key = key or new_key()
    own_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(own_name)
        .issuer_name(own_name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_encipherment=False, key_cert_sign=True, crl_sign=True, **_KEY_USAGE), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(key, certificate)


def issue(authority: KeyPair, spec: LeafSpec, now: datetime.datetime, key: ec.EllipticCurvePrivateKey | None = None) -> KeyPair:
    """A leaf of an authority; it never outlives the authority."""
    key = key or new_key()
    usage = ExtendedKeyUsageOID.SERVER_AUTH if spec.usage is Usage.SERVER else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject(spec))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(now + LEAF_LIFETIME, authority.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_encipherment=True, key_cert_sign=False, crl_sign=False, **_KEY_USAGE), critical=True
        )
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if spec.dns_names or spec.addresses:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative_names(spec)), critical=False)
    return KeyPair(key, builder.sign(authority.key, hashes.SHA256()))


def says(certificate: x509.Certificate, spec: LeafSpec) -> bool:
    """Whether a leaf has the subject and the alternative names of `spec`."""
    try:
        names: set[object] = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = set()
    return certificate.subject == subject(spec) and names == set(alternative_names(spec))


def fits(pair: KeyPair, authority: x509.Certificate, spec: LeafSpec) -> bool:
    """Whether a stored leaf belongs to its key, was signed by this authority and says what `spec` says."""
    certificate = pair.certificate
    if certificate.public_key() != pair.key.public_key() or not says(certificate, spec):
        return False
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def is_due(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    """Whether a leaf should be renewed now: little of it is left, or the clock was set back before its start."""
    return now > certificate.not_valid_after_utc - RENEW_BEFORE or now < certificate.not_valid_before_utc


def subject(spec: LeafSpec) -> x509.Name:
    """The subject of a leaf: its organizations, then its name."""
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in spec.organizations]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, spec.common_name)])


def alternative_names(spec: LeafSpec) -> list[x509.GeneralName]:
    """The names and addresses of a leaf, each once."""
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dict.fromkeys(spec.dns_names)]
    addresses = dict.fromkeys(ipaddress.ip_address(address) for address in spec.addresses)
    return [*names, *(x509.IPAddress(address) for address in addresses)]
