"""Which credentials a pod's pull secrets have for an image, and whose they are. Pure.

The rules are the kubelet's keyring (pkg/credentialprovider/keyring.go): an entry matches by host, where each of its dot-separated parts may
be a glob, by port, and by a prefix of the path; the more specific entries come first; an entry of https://index.docker.io/v1/ stands in for
Docker Hub where nothing else matches.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import msgspec

from minikube_py.cri.references import normalize
from minikube_py.types.core import Secret

_HUB = "index.docker.io"


class Source(NamedTuple):
    """The secret that credentials come from."""

    uid: str
    namespace: str
    name: str


class Credential(NamedTuple):
    """A name and a password for a registry; `digest` tells two of them apart without showing them."""

    username: str
    password: str
    identity_token: str
    source: Source
    digest: str


def lookup(secrets: Iterable[Secret], image: str) -> list[Credential]:
    """What the secrets have for an image, the most specific first; none of a secret that is not well-formed."""
    repository = repository_of(normalize(image))
    index: dict[str, list[Credential]] = {}
    for secret in secrets:
        meta = secret.metadata
        for location, entry in _entries(secret).items():
            credential = _credential(entry, Source(meta.uid, meta.namespace, meta.name))
            if credential is not None:
                index.setdefault(_key(location), []).append(credential)
    found = [c for key in sorted(index, reverse=True) if _matches(key, repository) for c in index[key]]
    if not found and repository.startswith("docker.io/"):
        found = index.get(_HUB, [])
    return found


def repository_of(image: str) -> str:
    """The name without tag and digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def _entries(secret: Secret) -> Mapping[str, Any]:
    """The entries by location, of either form of a pull secret."""
    for type_, name, wrapped in (
        ("kubernetes.io/dockerconfigjson", ".dockerconfigjson", True),
        ("kubernetes.io/dockercfg", ".dockercfg", False),
    ):
        if secret.type != type_ or name not in secret.data:
            continue
        try:
            content = msgspec.json.decode(base64.b64decode(secret.data[name]))
        except (msgspec.DecodeError, binascii.Error):
            return {}
        found = content.get("auths") if wrapped and isinstance(content, dict) else content
        return found if isinstance(found, dict) else {}
    return {}


def _credential(entry: Any, source: Source) -> Credential | None:
    if not isinstance(entry, dict):
        return None
    username, password, token = (str(entry.get(name) or "") for name in ("username", "password", "identitytoken"))
    if entry.get("auth"):
        try:
            username, _, password = base64.b64decode(str(entry["auth"])).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        password = password.rstrip("\0")
    digest = hashlib.sha256(msgspec.json.encode((username, password, token))).hexdigest()
    return Credential(username, password, token, source, digest)


def _key(location: str) -> str:
    """host[:port][/path] of an entry; /v1/ and /v2/ mean the host as a whole."""
    host, slash, path = location.removeprefix("https://").removeprefix("http://").partition("/")
    path = slash + path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return host + path if path not in ("", "/") else host


def _matches(key: str, repository: str) -> bool:
    key_host, slash, key_path = key.partition("/")
    host, _, path = repository.partition("/")
    key_name, _, key_port = key_host.partition(":")
    name, _, port = host.partition(":")
    parts, key_parts = name.split("."), key_name.split(".")
    if port != key_port or len(parts) != len(key_parts) or not f"/{path}".startswith(slash + key_path):
        return False
    return all(fnmatchcase(part, glob) for part, glob in zip(parts, key_parts, strict=True))
