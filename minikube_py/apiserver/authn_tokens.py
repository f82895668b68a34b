"""Bound service account tokens: signed claims (JWT, ES256) about a service account and the object that the token lives and dies with.

A token is valid while its signature, issuer, audience and times are right and everything that it is bound to still exists under the same
uid. The signature is checked once per token; the rest is a few dictionary look-ups, done at every request, so that a deleted pod's token
is refused at once. Upstream: pkg/serviceaccount/claims.go.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from minikube_py.aio import Clock
from minikube_py.meta.user import User, authenticated
from minikube_py.pki.identities import CREDENTIAL_ID
from minikube_py.types.core import Node, Secret, ServiceAccount
from minikube_py.types.meta import Object, ObjectMeta, PartialObject, parse_timestamp
from minikube_py.types.pod import Pod

if TYPE_CHECKING:
    from minikube_py.apiserver.cache import Cache, Entry, ResourceCache

LEEWAY = 60.0
"""Seconds of clock difference that are forgiven, and for which a token outlives the deletion of what it is bound to."""
_CACHED = 4096
INVALID_TOKEN = "invalid bearer token"
_INVALIDATED = "service account token has been invalidated"


class InvalidToken(Exception):
    """The token is not valid, and why."""


class Bound(NamedTuple):
    """An object that a token depends on."""

    kind: type[Object]
    namespace: str
    name: str
    uid: str


class _Verified:
    """What the signature vouches for. `held` are the caches and keys of the bound objects, `checked` the revisions at which they were last
    looked at, `usual` the API server's own audiences that the token is for."""

    __slots__ = ("audiences", "bound", "checked", "expires", "held", "not_before", "user", "usual")

    def __init__(self, user: User, audiences: tuple[str, ...], not_before: float, expires: float, bound: tuple[Bound, ...]) -> None:
        self.user, self.audiences, self.not_before, self.expires, self.bound = user, audiences, not_before, expires, bound
        self.checked = [0] * len(bound)
        self.held: tuple[tuple[ResourceCache, str], ...] = ()
        self.usual: tuple[str, ...] = ()


class ServiceAccountTokens:
    """Issues and verifies the tokens of one issuer. `audiences` are the API server's own: what a token without a wish gets."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, cache: Cache, clock: Clock, *, issuer: str, audiences: Sequence[str] = ()) -> None:
        self._key, self._cache, self._clock = key, cache, clock
        self.issuer, self.audiences = issuer, tuple(audiences) or (issuer,)
        public = key.public_key()
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.key_id = _base64url(hashlib.sha256(der).digest())
        self._public = public
        self._seen: dict[str, _Verified] = {}

    # Issuing

    def issue(
        self,
        account: ObjectMeta,
        audiences: Sequence[str],
        seconds: int,
        *,
        pod: ObjectMeta | None = None,
        secret: ObjectMeta | None = None,
        node: tuple[str, str] | None = None,
        warn_after: int = 0,
    ) -> str:
        """A token for a service account, optionally bound to a pod, a secret, or a node (name and uid; beside a pod it is information)."""
        import jwt

        now = int(self._clock.time())
        private: dict[str, Any] = {"namespace": account.namespace}
        if node is not None:
            private["node"] = {"name": node[0], **({"uid": node[1]} if node[1] else {})}
        if pod is not None:
            private["pod"] = {"name": pod.name, "uid": pod.uid}
        if secret is not None:
            private["secret"] = {"name": secret.name, "uid": secret.uid}
        private["serviceaccount"] = {"name": account.name, "uid": account.uid}
        if warn_after:
            private["warnafter"] = now + warn_after
        claims = {
            "aud": list(audiences),
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"system:serviceaccount:{account.namespace}:{account.name}",
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self.key_id, "typ": None})

    # Verifying

    def verify(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, tuple[str, ...]]:
        """The user of a token and those of `audiences` (by default the API server's) that it is meant for. Raises InvalidToken."""
        verified = self._seen.get(token)
        if verified is None:
            verified = self._check_signature(token)
            caches = [self._cache.of(bound.kind.resource) for bound in verified.bound]
            verified.held = tuple((c, c.resource.key(b.namespace, b.name)) for c, b in zip(caches, verified.bound, strict=True))
            verified.usual = tuple(a for a in verified.audiences if a in self.audiences)
            if len(self._seen) >= _CACHED:
                self._seen.clear()
            self._seen[token] = verified
        now = self._clock.time()
        if now > verified.expires + LEEWAY:
            del self._seen[token]
            raise InvalidToken("service account token has expired")
        if now < verified.not_before - LEEWAY:
            raise InvalidToken("service account token is not valid yet")
        meant = tuple(a for a in verified.audiences if a in audiences) if audiences else verified.usual
        if not meant:
            raise InvalidToken(
                f"token audiences {_quoted(verified.audiences)} is invalid for the target audiences {_quoted(audiences or self.audiences)}"
            )
        for index, (objects, key) in enumerate(verified.held):
            entry = objects.by_key(key)
            if entry is None or entry.revision != verified.checked[index]:
                verified.checked[index] = _check_alive(verified.bound[index], entry, now)
        return verified.user, meant

    def _check_signature(self, token: str) -> _Verified:
        import jwt

        options = {f"verify_{claim}": False for claim in ("aud", "exp", "iat", "nbf", "iss", "sub", "jti")}
        try:
            claims = jwt.decode(token, self._public, algorithms=["ES256"], options=options)  # type: ignore[arg-type]
        except (jwt.InvalidTokenError, ValueError) as error:
            raise InvalidToken(INVALID_TOKEN) from error
        if claims.get("iss") != self.issuer:
            raise InvalidToken(INVALID_TOKEN)
        try:
            return _verified(claims)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidToken("service account token claims could not be validated") from error

    # Publishing the key

    def openid_configuration(self, jwks_uri: str) -> bytes:
        """The OpenID discovery document."""
        return orjson.dumps(
            {
                "issuer": self.issuer,
                "jwks_uri": jwks_uri,
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            }
        )

    def key_set(self) -> bytes:
        """The public key as a JSON web key set."""
        numbers = self._public.public_numbers()
        return orjson.dumps(
            {
                "keys": [
                    {
                        "use": "sig",
                        "kty": "EC",
                        "kid": self.key_id,
                        "crv": "P-256",
                        "alg": "ES256",
                        "x": _base64url(numbers.x.to_bytes(32, "big")),
                        "y": _base64url(numbers.y.to_bytes(32, "big")),
                    }
                ]
            }
        )


def _verified(claims: dict[str, Any]) -> _Verified:
    private = claims["kubernetes.io"]
    namespace, account = str(private["namespace"]), private["serviceaccount"]
    bound = [Bound(ServiceAccount, namespace, str(account["name"]), str(account["uid"]))]
    extra: dict[str, tuple[str, ...]] = {}
    if jti := claims.get("jti"):
        extra[CREDENTIAL_ID] = (f"JTI={jti}",)
    secret, pod, node = private.get("secret"), private.get("pod"), private.get("node")
    if secret:
        bound.append(Bound(Secret, namespace, str(secret["name"]), str(secret["uid"])))
    if pod:
        bound.append(Bound(Pod, namespace, str(pod["name"]), str(pod["uid"])))
        extra["authentication.kubernetes.io/pod-name"] = (str(pod["name"]),)
        extra["authentication.kubernetes.io/pod-uid"] = (str(pod["uid"]),)
    if node:
        if not pod:
            bound.append(Bound(Node, "", str(node["name"]), str(node["uid"])))
        extra["authentication.kubernetes.io/node-name"] = (str(node["name"]),)
        if node.get("uid"):
            extra["authentication.kubernetes.io/node-uid"] = (str(node["uid"]),)
    audiences = claims["aud"]
    user = User(
        f"system:serviceaccount:{namespace}:{account['name']}",
        ("system:serviceaccounts", f"system:serviceaccounts:{namespace}"),
        str(account["uid"]),
        extra,
    )
    return _Verified(
        authenticated(user),
        (audiences,) if isinstance(audiences, str) else tuple(str(a) for a in audiences),
        max(float(claims.get("nbf", 0)), float(claims.get("iat", 0))),
        float(claims["exp"]),
        tuple(bound),
    )


def _check_alive(bound: Bound, entry: Entry | None, now: float) -> int:
    """The revision up to which the object need not be looked at again: its own, or 0 where it is being deleted. Raises InvalidToken."""
    word = bound.kind.resource.kind
    if entry is None:
        if bound.kind is ServiceAccount:
            raise InvalidToken(f'serviceaccounts "{bound.name}" not found')
        raise InvalidToken(_INVALIDATED)
    meta = entry.view(PartialObject).metadata
    if meta.uid != bound.uid:
        if bound.kind is ServiceAccount:
            raise InvalidToken(f"service account UID ({meta.uid}) does not match claim ({bound.uid})")
        raise InvalidToken(f"{word.lower()} UID ({meta.uid}) does not match service account {word.lower()} ref claim ({bound.uid})")
    if meta.deletionTimestamp is None:
        return entry.revision
    if parse_timestamp(meta.deletionTimestamp) < now - LEEWAY:
        if bound.kind is ServiceAccount:
            raise InvalidToken(f"service account {bound.namespace}/{bound.name} has been deleted")
        raise InvalidToken(_INVALIDATED)
    return 0


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _quoted(values: Sequence[str]) -> str:
    return "[" + " ".join(f'"{v}"' for v in values) + "]"
