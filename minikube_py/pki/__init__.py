"""The cluster's keys and certificates: made at first start, checked at every start, renewed while running.

What flows through: the names that this server goes by in, key and certificate files under `<data-dir>/server/tls` out. What always holds:
a private key is written before anything that depends on it, synced, and readable by its owner alone; a file is replaced as a whole or not
at all; authorities and the service account key are never made anew once they were there (what they signed is out in the world), while a
leaf that is damaged, of another authority, short of life or says other names is quietly issued again.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from minikube_py.pki import contexts, issue, layout
from minikube_py.pki.issue import KeyPair
from minikube_py.pki.layout import (
    ADMIN,
    API_SERVER,
    CLIENT_CA,
    FRONT_PROXY,
    FRONT_PROXY_CA,
    KUBE_PROXY,
    KUBELET,
    KUBELET_CLIENT,
    KUBELET_SERVING,
    SERVER_CA,
    Names,
)

__all__ = [
    "ADMIN", "API_SERVER", "CLIENT_CA", "FRONT_PROXY", "FRONT_PROXY_CA", "KUBELET", "KUBELET_CLIENT", "KUBELET_SERVING", "KUBE_PROXY",
    "SERVER_CA", "Names", "Pki", "PkiError", "ensure",
]  # fmt: skip


class PkiError(Exception):
    """The stored keys cannot be used; the message says which file and what to do."""


class Pki:
    """The keys and certificates of one data directory. Made by `ensure`."""

    def __init__(self, directory: Path, names: Names, authorities: Mapping[str, KeyPair], service_account_key: ec.EllipticCurvePrivateKey):
        self.directory, self.names = directory, names
        self._authorities = authorities
        self.service_account_key = service_account_key
        self._leaves: dict[str, x509.Certificate] = {}
        self._contexts: list[tuple[str, ssl.SSLContext]] = []

    # Reading

    def certificate_path(self, name: str) -> Path:
        """Where the certificate of a leaf or authority lies."""
        return self.directory / f"{name}.crt"

    def key_path(self, name: str) -> Path:
        """Where the private key of a leaf or authority lies."""
        return self.directory / f"{name}.key"

    def certificate_pem(self, name: str) -> bytes:
        """The certificate of a leaf or authority as PEM."""
        if name in self._authorities:
            return self._authorities[name].certificate_pem
        return self.certificate_path(name).read_bytes()

    def authority(self, name: str) -> x509.Certificate:
        """The certificate of an authority: SERVER_CA, CLIENT_CA or FRONT_PROXY_CA."""
        return self._authorities[name].certificate

    def signing_pair(self, name: str) -> KeyPair:
        """An authority with its key, to sign with."""
        return self._authorities[name]

    def api_server_names(self) -> frozenset[str]:
        """Every name and address that the API server's certificate says."""
        spec = layout.leaves(self.names)[API_SERVER].spec
        return frozenset({*spec.dns_names, *spec.addresses})

    @property
    def server_ca_pem(self) -> bytes:
        """What clients trust: published to anybody who asks (a join token carries its hash)."""
        return self._authorities[SERVER_CA].certificate_pem

    def ca_hash(self) -> str:
        """The SHA-256 of the published CA certificate (its PEM bytes), as a join token carries it: K10<hash>::<id>.<secret>."""
        return hashlib.sha256(self.server_ca_pem).hexdigest()

    # Using

    def api_server_context(self) -> ssl.SSLContext:
        """The context of the API server's listener; certificates renewed later are used for new connections."""
        clients = self.certificate_pem(CLIENT_CA) + self.certificate_pem(FRONT_PROXY_CA)
        return self._serving(API_SERVER, clients)

    def kubelet_context(self) -> ssl.SSLContext:
        """The context of the kubelet's listener; its clients are those of the client CA."""
        return self._serving(KUBELET_SERVING, self.certificate_pem(CLIENT_CA))

    def client_context(self, name: str = "") -> ssl.SSLContext:
        """A context that trusts this cluster's servers and shows the named client leaf, if any (KUBELET_CLIENT to call kubelets)."""
        if not name:
            return contexts.client_context(self.server_ca_pem)
        context = contexts.client_context(self.server_ca_pem, self.certificate_path(name), self.key_path(name))
        self._contexts.append((name, context))
        return context

    def _serving(self, name: str, clients: bytes) -> ssl.SSLContext:
        context = contexts.server_context(self.certificate_path(name), self.key_path(name), clients)
        self._contexts.append((name, context))
        return context

    def kubeconfig(self, server: str, leaf: str = ADMIN) -> str:
        """A kubeconfig with everything embedded for one client leaf; `server` is the URL."""
        from base64 import b64encode

        def data(content: bytes) -> str:
            return b64encode(content).decode()

        return (
            "apiVersion: v1\n"
            "kind: Config\n"
            "clusters:\n"
            "- name: default\n"
            "  cluster:\n"
            f"    server: {server}\n"
            f"    certificate-authority-data: {data(self.server_ca_pem)}\n"
            "users:\n"
            "- name: default\n"
            "  user:\n"
            f"    client-certificate-data: {data(self.certificate_pem(leaf))}\n"
            f"    client-key-data: {data(self.key_path(leaf).read_bytes())}\n"
            "contexts:\n"
            "- name: default\n"
            "  context:\n"
            "    cluster: default\n"
            "    user: default\n"
            "current-context: default\n"
        )

    def write_kubeconfig(self, path: Path, server: str, leaf: str = ADMIN, mode: int = 0o600) -> None:
        """Write a kubeconfig file as a whole, with these permissions."""
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, self.kubeconfig(server, leaf).encode(), mode)

    @staticmethod
    def write_secret(path: Path, text: str) -> None:
        """Write a file as a whole, readable by its owner alone."""
        _write(path, text.encode())

    # Renewing

    def renew_due(self, now: float) -> tuple[str, ...]:
        """The leaves that should be issued again, `now` in seconds since the epoch."""
        moment = _moment(now)
        return tuple(name for name, certificate in self._leaves.items() if issue.is_due(certificate, moment))

    def renew(self, now: float, names: Iterable[str] | None = None) -> tuple[str, ...]:
        """Issue leaves again (by default those that are due) and have running listeners use them; returns which. Blocks for about 2 ms a
        leaf: call it in a thread where that matters."""
        wanted = self.renew_due(now) if names is None else tuple(names)
        for name in wanted:
            self._issue(name, now)
        for name, context in self._contexts:
            if name in wanted:
                context.load_cert_chain(self.certificate_path(name), self.key_path(name))
        return wanted

    def readdress(self, node_ips: tuple[str, ...], now: float) -> tuple[str, ...]:
        """The machine has other addresses now: issue the leaves again that name them, and have running listeners use them; returns which.
        Blocks as `renew` does."""
        before = layout.leaves(self.names)
        self.names = replace(self.names, node_ips=node_ips)
        return self.renew(now, [name for name, leaf in layout.leaves(self.names).items() if leaf != before[name]])

    def _issue(self, name: str, now: float) -> None:
        leaf = layout.leaves(self.names)[name]
        pair = issue.issue(self._authorities[leaf.authority], leaf.spec, _moment(now))
        # a crash in between leaves a pair that does not fit together, which the next start issues again
        _write(self.key_path(name), pair.key_pem, sync=False)
        _write(self.certificate_path(name), pair.certificate_pem, sync=False)
        self._leaves[name] = pair.certificate

    def _check_leaves(self, now: float) -> None:
        moment = _moment(now)
        for name, leaf in layout.leaves(self.names).items():
            pair = self._stored(name)
            if pair is None or not issue.fits(pair, self.authority(leaf.authority), leaf.spec) or issue.is_due(pair.certificate, moment):
                self._issue(name, now)
            else:
                self._leaves[name] = pair.certificate

    def _stored(self, name: str) -> KeyPair | None:
        try:
            return KeyPair(
                issue.load_key(self.key_path(name).read_bytes()),
                x509.load_pem_x509_certificate(self.certificate_path(name).read_bytes()),
            )
        except (FileNotFoundError, ValueError):
            return None


def ensure(directory: Path, names: Names, now: float) -> Pki:
    """The keys and certificates in a directory, made where they are missing; `now` is in seconds since the epoch.

    Raises PkiError where an authority or the service account key is damaged, OSError where the directory cannot be written."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authorities = {name: _authority(directory, name, title, now) for name, title in layout.AUTHORITIES.items()}
    pki = Pki(directory, names, authorities, _service_account_key(directory))
    pki._check_leaves(now)
    return pki


def _authority(directory: Path, name: str, title: str, now: float) -> KeyPair:
    key_path, certificate_path = directory / f"{name}.key", directory / f"{name}.crt"
    key = _key(key_path)
    if key is None:
        if certificate_path.exists():
            raise PkiError(f"{key_path} is missing: restore it from a backup, or remove {certificate_path} to start with a new authority")
        key = issue.new_key()
        _write(key_path, issue.private_pem(key))
    if not certificate_path.exists():
        # the time makes authorities of different clusters, and of the same one made anew, tell apart
        pair = issue.make_authority(f"{title}@{int(now)}", _moment(now), key)
        _write(certificate_path, pair.certificate_pem, 0o644)
        return pair
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    except ValueError as error:
        raise PkiError(f"{certificate_path} is damaged: restore it from a backup") from error
    if certificate.public_key() != key.public_key():
        raise PkiError(f"{certificate_path} does not belong to {key_path}: restore both from a backup")
    return KeyPair(key, certificate)


def _service_account_key(directory: Path) -> ec.EllipticCurvePrivateKey:
    path = directory / f"{layout.SERVICE_ACCOUNT_KEY}.key"
    key = _key(path)
    if key is None:
        key = issue.new_key()
        _write(path, issue.private_pem(key))
    return key


def _key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    try:
        return issue.load_key(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise PkiError(f"{path} is damaged: restore it from a backup") from error


def _write(path: Path, content: bytes, mode: int = 0o600, sync: bool = True) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(file, "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(content)
        if sync:
            stream.flush()
            os.fsync(stream.fileno())
    os.replace(temporary, path)
    if sync:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _moment(now: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(now), datetime.UTC)
