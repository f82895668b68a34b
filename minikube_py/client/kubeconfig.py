"""A kubeconfig file as a client: its current context, with everything embedded or named by path."""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from minikube_py.pki import contexts


class KubeconfigError(Exception):
    """The file cannot be used; the message says why."""


class Kubeconfig(NamedTuple):
    """One server and one identity; certificates and key as PEM, empty where there is none."""

    server: str
    authority: bytes
    certificate: bytes
    key: bytes
    token: str

    def context(self) -> ssl.SSLContext:
        """The TLS context that trusts the server and shows the certificate."""
        if not self.certificate:
            return contexts.client_context(self.authority)
        # the ssl module takes a key from files only
        with tempfile.TemporaryDirectory() as directory:
            pair = Path(directory) / "pair.pem"
            descriptor = os.open(pair, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.certificate + b"\n" + self.key)
            return contexts.client_context(self.authority, pair)


def load(path: Path) -> Kubeconfig:
    """Read a kubeconfig. Raises KubeconfigError, OSError."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
        context = _named(content, "contexts", content["current-context"])["context"]
        cluster = _named(content, "clusters", context["cluster"])["cluster"]
        user = _named(content, "users", context["user"])["user"]
        return Kubeconfig(
            cluster["server"],
            _bytes(cluster, "certificate-authority", path),
            _bytes(user, "client-certificate", path),
            _bytes(user, "client-key", path),
            user.get("token", ""),
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise KubeconfigError(f"{path} is no kubeconfig that can be used: {error}") from error


def _named(content: Any, kind: str, name: str) -> Any:
    for item in content[kind]:
        if item["name"] == name:
            return item
    raise KeyError(f"{kind}/{name}")


def _bytes(holder: dict[str, str], name: str, path: Path) -> bytes:
    if data := holder.get(f"{name}-data"):
        return base64.b64decode(data)
    if file := holder.get(name):
        return (path.parent / file).read_bytes()
    return b""
