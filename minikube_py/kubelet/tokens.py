"""Service account tokens for pods: bound to the pod, asked for by TokenRequest, renewed when four fifths of their life are over."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from minikube_py.aio import Clock
from minikube_py.client import Client
from minikube_py.client.transport import TransportError
from minikube_py.meta.errors import StatusError
from minikube_py.types.core import ServiceAccount
from minikube_py.types.meta import Object, ResourceRef, View, parse_timestamp
from minikube_py.types.pod import Pod, ServiceAccountTokenProjection

_LONGEST_USE = 24 * 3600.0


class TokenRequestStatus(View, frozen=True):
    token: str = ""
    expirationTimestamp: str = ""


class TokenRequest(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest")
    status: TokenRequestStatus = TokenRequestStatus()


class Token(NamedTuple):
    """A token and the times (seconds since the epoch) of its renewal and its end."""

    text: str
    renew_at: float
    expires_at: float


class Tokens:
    """The tokens in use, by pod."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._tokens: dict[str, dict[ServiceAccountTokenProjection, Token]] = {}

    async def get(self, pod: Pod, projection: ServiceAccountTokenProjection) -> Token:
        """The token for a projection; the one in use until it is due. A failed renewal keeps it while it is valid.

        Raises StatusError, TransportError."""
        held = self._tokens.setdefault(pod.metadata.uid, {})
        token, now = held.get(projection), self._clock.time()
        if token is not None and now < token.renew_at:
            return token
        try:
            token = await self._request(pod, projection)
        except (StatusError, TransportError):
            if token is None or now >= token.expires_at:
                raise
            return token._replace(renew_at=now + 60)
        held[projection] = token
        return token

    def renew_at(self, uid: str) -> float | None:
        """When the first of a pod's tokens is due; None when it has none."""
        return min((token.renew_at for token in self._tokens.get(uid, {}).values()), default=None)

    def release(self, uid: str) -> None:
        """The pod is gone."""
        self._tokens.pop(uid, None)

    async def _request(self, pod: Pod, projection: ServiceAccountTokenProjection) -> Token:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [projection.audience] if projection.audience else [],
                "expirationSeconds": projection.expirationSeconds,
                "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod.metadata.name, "uid": pod.metadata.uid},
            },
        }
        answer = await self._client.create(
            TokenRequest,
            body,
            pod.metadata.namespace,
            name=pod.spec.serviceAccountName or "default",
            subresource="token",
            resource=ServiceAccount.resource,
        )
        now = self._clock.time()
        expires = parse_timestamp(answer.status.expirationTimestamp)
        return Token(answer.status.token, now + min((expires - now) * 0.8, _LONGEST_USE), expires)
