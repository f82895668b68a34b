"""Bootstrap tokens: what a machine joins with, as text and as the Secret that the API server knows it by. Values in, values out.

A token is `<id>.<secret>`; as a join token it carries in front what the cluster's certificate must hash to (`K10<SHA-256>::`), so that it
is shown to nobody else. The Secret is upstream's (kubernetes.io/docs, "Authenticating with Bootstrap Tokens").
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

NAMESPACE = "kube-system"
SECRET_TYPE = "bootstrap.kubernetes.io/token"
NAME_PREFIX = "bootstrap-token-"
USER_PREFIX = "system:bootstrap:"
GROUP = "system:bootstrappers"
USAGES = ("authentication", "signing")

_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_EXTRA_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")
_JOIN_TOKEN = re.compile(r"K10([0-9a-f]{64})::(\S+)")


class BootstrapToken(NamedTuple):
    """The public and the private part of a token."""

    id: str
    secret: str

    def __str__(self) -> str:
        return f"{self.id}.{self.secret}"


class JoinToken(NamedTuple):
    """The SHA-256 (hex) of the PEM certificate that the server must show, and what to show it then."""

    ca_hash: str
    token: str

    def __str__(self) -> str:
        return f"K10{self.ca_hash}::{self.token}"


class InvalidGroups(ValueError):
    """A token's Secret names a group that no token may have."""


def parse(text: str) -> BootstrapToken | None:
    """The parts of `<id>.<secret>`; None where the text is something else."""
    match = _TOKEN.fullmatch(text)
    return BootstrapToken(match[1], match[2]) if match else None


def parse_join_token(text: str) -> JoinToken | None:
    """The parts of `K10<hash>::<token>`; None where the text is something else."""
    match = _JOIN_TOKEN.fullmatch(text.strip())
    return JoinToken(match[1], match[2]) if match else None


def secret(
    token: BootstrapToken, *, expiration: str = "", usages: Sequence[str] = USAGES, groups: Sequence[str] = (), description: str = ""
) -> dict[str, Any]:
    """The Secret of a token; `expiration` is an RFC 3339 time, "" for never. Raises InvalidGroups."""
    check_groups(groups)
    data = {"token-id": token.id, "token-secret": token.secret, **{f"usage-bootstrap-{usage}": "true" for usage in usages}}
    optional = {"expiration": expiration, "auth-extra-groups": ",".join(groups), "description": description}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME_PREFIX + token.id, "namespace": NAMESPACE},
        "type": SECRET_TYPE,
        "stringData": {**data, **{key: value for key, value in optional.items() if value}},
    }


def text(data: Mapping[str, str], key: str) -> str:
    """A value of a Secret's data (base64) as text; "" where it is absent or no text."""
    try:
        return base64.b64decode(data.get(key, ""), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def expires(data: Mapping[str, str]) -> float | None:
    """When a token ends, in seconds since the epoch: None for never, 0 where the time cannot be read (it has ended then)."""
    expiration = text(data, "expiration")
    if not expiration:
        return None
    try:
        return datetime.fromisoformat(expiration).timestamp()
    except ValueError:
        return 0.0


def groups_of(data: Mapping[str, str]) -> tuple[str, ...]:
    """The groups of a token's bearer. Raises InvalidGroups."""
    extra = [group for group in text(data, "auth-extra-groups").split(",") if group]
    check_groups(extra)
    return (GROUP, *sorted(set(extra) - {GROUP}))


def check_groups(groups: Sequence[str]) -> None:
    """Raises InvalidGroups where a token may not have one of these further groups."""
    for group in groups:
        if not _EXTRA_GROUP.fullmatch(group):
            raise InvalidGroups(f"bootstrap group {group!r} is invalid (must match {_EXTRA_GROUP.pattern})")
