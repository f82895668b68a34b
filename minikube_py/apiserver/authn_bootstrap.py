"""Bearers of bootstrap tokens: `system:bootstrap:<id>`, a member of system:bootstrappers and of the groups that the token's Secret names.

A token that was found good is remembered with the revision of its Secret: a change or deletion of the Secret is seen at the next request,
and so is the end of its time. Upstream: plugin/pkg/auth/authenticator/token/bootstrap.
"""

from __future__ import annotations

import hmac
import logging
from typing import TYPE_CHECKING, NamedTuple

from minikube_py.aio import Clock
from minikube_py.meta import bootstraptoken
from minikube_py.meta.bootstraptoken import BootstrapToken, InvalidGroups
from minikube_py.meta.user import User, authenticated
from minikube_py.types.core import Secret

if TYPE_CHECKING:
    from minikube_py.apiserver.cache import Cache

log = logging.getLogger(__name__)

_CACHED = 256


class _Found(NamedTuple):
    revision: int
    user: User
    expires: float | None


class BootstrapTokens:
    """Judges tokens by the Secrets of kube-system."""

    def __init__(self, cache: Cache, clock: Clock) -> None:
        self._secrets, self._clock = cache.of(Secret.resource), clock
        self._seen: dict[BootstrapToken, _Found] = {}

    def identify(self, text: str) -> User | None:
        """Whom a bearer token names; None where it is no bootstrap token, or none that is good."""
        token = bootstraptoken.parse(text)
        if token is None:
            return None
        entry = self._secrets.get(bootstraptoken.NAMESPACE, bootstraptoken.NAME_PREFIX + token.id)
        if entry is None:
            self._seen.pop(token, None)
            return None
        found = self._seen.get(token)
        if found is None or found.revision != entry.revision:
            self._seen.pop(token, None)
            judged = _judge(entry.view(Secret), token)
            if judged is None:
                return None
            if len(self._seen) >= _CACHED:
                self._seen.clear()
            found = self._seen[token] = _Found(entry.revision, *judged)
        if found.expires is not None and self._clock.time() >= found.expires:
            return None
        return found.user


def _judge(secret: Secret, token: BootstrapToken) -> tuple[User, float | None] | None:
    data, name = secret.data, secret.metadata.name
    if secret.metadata.deletionTimestamp is not None or secret.type != bootstraptoken.SECRET_TYPE:
        return None
    if not hmac.compare_digest(bootstraptoken.text(data, "token-secret").encode(), token.secret.encode()):
        return None
    if bootstraptoken.text(data, "token-id") != token.id or bootstraptoken.text(data, "usage-bootstrap-authentication") != "true":
        return None
    try:
        groups = bootstraptoken.groups_of(data)
    except InvalidGroups as error:
        log.warning("bootstrap token not accepted", extra={"secret": name, "error": str(error)})
        return None
    return authenticated(User(bootstraptoken.USER_PREFIX + token.id, groups)), bootstraptoken.expires(data)
