"""Who may use the kubelet's endpoint: client certificates of the cluster's client authority or bearer tokens, then a SubjectAccessReview.

The TLS handshake has proved only that a client holds its certificate's key; issuer, dates and usage are judged here. What the API server
decided is remembered as long as upstream's kubelet remembers it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from minikube_py.aio import Clock
from minikube_py.client import Client
from minikube_py.meta.user import User
from minikube_py.pki.identities import CertificateIdentities
from minikube_py.types.meta import Object, ResourceRef, View

_ALLOWED_SECONDS = 300.0
_DENIED_SECONDS = 30.0
_TOKEN_SECONDS = 120.0
_CACHED = 1024


class _UserInfo(View, frozen=True):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = {}


class _TokenReviewStatus(View, frozen=True):
    authenticated: bool = False
    user: _UserInfo = _UserInfo()


class TokenReview(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
    status: _TokenReviewStatus = _TokenReviewStatus()


class _AccessReviewStatus(View, frozen=True):
    allowed: bool = False
    reason: str = ""


class SubjectAccessReview(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef(
        "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
    )
    status: _AccessReviewStatus = _AccessReviewStatus()


class Attributes(NamedTuple):
    """What is asked for, as a SubjectAccessReview says it."""

    verb: str
    subresources: tuple[str, ...]
    """The subresources of this node, any of which suffices, the finest first."""


_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def attributes(method: str, path: str) -> Attributes:
    """The attributes of a request, as upstream's kubelet names them."""
    first = path.lstrip("/").split("/")[0]
    match first:
        case "stats" | "metrics" | "checkpoint":
            subresources: tuple[str, ...] = (first,)
        case "logs":
            subresources = ("log",)
        case "pods" | "runningpods":
            subresources = ("pods", "proxy")
        case "healthz" | "configz":
            subresources = (first, "proxy")
        case _:
            subresources = ("proxy",)
    return Attributes(_VERBS.get(method, "get"), subresources)


class Access:
    """Authenticates and authorizes, with a memory. Raises StatusError and TransportError where the API does not answer."""

    def __init__(self, client: Client, node_name: str, authorities: Sequence[bytes], clock: Clock) -> None:
        self._client, self._node_name, self._clock = client, node_name, clock
        self._identities = tuple(CertificateIdentities(ssl.DER_cert_to_PEM_cert(der).encode(), clock) for der in authorities)
        self._tokens: dict[str, tuple[float, User | None]] = {}
        self._decisions: dict[tuple[str, tuple[str, ...], str, str, str], tuple[float, bool]] = {}

    async def user(self, certificate: bytes | None, authorization: str) -> User | None:
        """Whom the request is from; None when it does not say, or says it wrongly."""
        if certificate is not None:
            for identities in self._identities:
                if (user := identities.identify(certificate)) is not None:
                    return user
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and token:
            return await self._of_token(token.strip())
        return None

    async def allowed(self, user: User, wanted: Attributes) -> bool:
        """Whether the API server lets the user do this to the node."""
        for subresource in wanted.subresources:
            if await self._review(user, wanted.verb, subresource):
                return True
        return False

    async def _of_token(self, token: str) -> User | None:
        now = self._clock.monotonic()
        until, user = self._tokens.get(token, (0.0, None))
        if now < until:
            return user
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status = (await self._client.create(TokenReview, body)).status
        info = status.user
        user = User(info.username, info.groups, info.uid, dict(info.extra)) if status.authenticated else None
        if len(self._tokens) >= _CACHED:
            self._tokens.clear()
        self._tokens[token] = (now + (_TOKEN_SECONDS if user is not None else _DENIED_SECONDS / 3), user)
        return user

    async def _review(self, user: User, verb: str, subresource: str) -> bool:
        now = self._clock.monotonic()
        key = (user.name, user.groups, user.uid, verb, subresource)
        until, allowed = self._decisions.get(key, (0.0, False))
        if now < until:
            return allowed
        spec: dict[str, Any] = {
            "user": user.name,
            "groups": list(user.groups),
            "uid": user.uid,
            "extra": {name: list(values) for name, values in user.extra.items()},
            "resourceAttributes": {
                "verb": verb,
                "version": "v1",
                "resource": "nodes",
                "subresource": subresource,
                "name": self._node_name,
            },
        }
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        allowed = (await self._client.create(SubjectAccessReview, body)).status.allowed
        if len(self._decisions) >= _CACHED:
            self._decisions.clear()
        self._decisions[key] = (now + (_ALLOWED_SECONDS if allowed else _DENIED_SECONDS), allowed)
        return allowed
