"""Authentication: who sends a request.

What flows through: the headers of a request and the certificate of its connection in, a User out. What always holds: identity comes from
the authority that signed the certificate (a client's or a front-proxy's, never both), from a verified token, or is system:anonymous;
credentials that are shown and wrong are refused, never taken for anonymous. A connection or token seen before costs a few look-ups.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import unquote

from minikube_py.aio import Clock, SystemClock
from minikube_py.apiserver.authn_bootstrap import BootstrapTokens
from minikube_py.apiserver.authn_tokens import InvalidToken, ServiceAccountTokens
from minikube_py.apiserver.impersonate import values
from minikube_py.meta.errors import Unauthorized
from minikube_py.meta.user import ANONYMOUS, UNAUTHENTICATED_GROUP, User, authenticated
from minikube_py.pki.identities import CertificateIdentities

ANONYMOUS_USER = User(ANONYMOUS, (UNAUTHENTICATED_GROUP,))
FRONT_PROXY_NAMES = ("system:auth-proxy",)
REMOTE_USER, REMOTE_UID, REMOTE_GROUP, REMOTE_EXTRA = "x-remote-user", "x-remote-uid", "x-remote-group", "x-remote-extra-"


class RequestAuthenticator:
    """Tries, in this order: a front-proxy's headers, the client certificate, the bearer token; then anonymous.

    Bearer tokens are those of service accounts, `bootstrap` tokens where there are any, and `static_tokens` with their users."""

    def __init__(
        self,
        *,
        client_ca_pem: bytes,
        front_proxy_ca_pem: bytes,
        tokens: ServiceAccountTokens,
        static_tokens: Mapping[str, User] = {},
        bootstrap: BootstrapTokens | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self._clients = CertificateIdentities(client_ca_pem, clock)
        self._front_proxies = CertificateIdentities(front_proxy_ca_pem, clock)
        self._tokens, self._bootstrap = tokens, bootstrap
        self._static = {token.encode(): authenticated(user) for token, user in static_tokens.items()}

    async def authenticate(self, headers: Mapping[str, str], peer_certificate: bytes | None) -> User:
        """The user of a request. Raises Unauthorized."""
        return self.identify(headers, peer_certificate)

    def identify(self, headers: Mapping[str, str], peer_certificate: bytes | None) -> User:
        """The same, without the wait that it never needs."""
        if peer_certificate is not None:
            if REMOTE_USER in headers and (proxied := self._from_front_proxy(headers, peer_certificate)) is not None:
                return proxied
            user = self._clients.identify(peer_certificate)
            if user is not None:
                return user
        authorization = headers.get("authorization")
        if authorization is not None:
            scheme, _, token = authorization.partition(" ")
            token = token.strip()
            if scheme.lower() == "bearer" and token:
                return self._from_token(token)
        if peer_certificate is not None:
            raise Unauthorized("Unauthorized")
        return ANONYMOUS_USER

    def check_token(self, token: str, audiences: tuple[str, ...] = ()) -> tuple[User, tuple[str, ...]]:
        """The user of a bearer token, and those of the audiences (none: the API server's) that it is for. Raises InvalidToken."""
        if self._static:
            presented = token.encode("utf-8", "surrogateescape")
            for known, user in self._static.items():
                if hmac.compare_digest(known, presented):
                    return user, audiences or self._tokens.audiences
        if self._bootstrap is not None and (joining := self._bootstrap.identify(token)) is not None:
            return joining, audiences or self._tokens.audiences
        return self._tokens.verify(token, audiences)

    def _from_token(self, token: str) -> User:
        try:
            return self.check_token(token)[0]
        except InvalidToken as error:
            raise Unauthorized("Unauthorized") from error

    def _from_front_proxy(self, headers: Mapping[str, str], certificate: bytes) -> User | None:
        proxy = self._front_proxies.identify(certificate)
        name = headers[REMOTE_USER]
        if proxy is None or proxy.name not in FRONT_PROXY_NAMES or not name:
            return None
        extra = {
            unquote(key[len(REMOTE_EXTRA) :]).lower(): tuple(values(headers, key))
            for key in headers
            if key.lower().startswith(REMOTE_EXTRA)
        }
        return authenticated(User(name, tuple(values(headers, REMOTE_GROUP)), headers.get(REMOTE_UID, ""), extra))
