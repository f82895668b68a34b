"""TokenRequest (POST serviceaccounts/NAME/token): a bound, expiring token for a service account; and the documents that let others verify
such tokens (OpenID discovery and key set)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from minikube_py.aio import Clock, SystemClock
from minikube_py.apiserver import answers
from minikube_py.apiserver.api import AdmissionPlugin, AdmissionRequest, Operation, Request, Response
from minikube_py.apiserver.authn_tokens import ServiceAccountTokens
from minikube_py.apiserver.cache import Cache, Entry
from minikube_py.apiserver.call import Handler
from minikube_py.apiserver.reviews import read
from minikube_py.meta.errors import BadRequest, Cause, Conflict, conflict, invalid, not_found
from minikube_py.resources.api import Obj, Resource
from minikube_py.types.core import Node, Secret, ServiceAccount
from minikube_py.types.meta import ObjectMeta, PartialObject, ResourceRef, timestamp
from minikube_py.types.pod import Pod

TOKEN_REQUEST = ResourceRef("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest")
DEFAULT_SECONDS, LEAST_SECONDS, MOST_SECONDS = 3600, 600, 2**32
WARN_SECONDS = 3607
"""Pods' own tokens ask for this and get a year: clients that never read the file again go on working (upstream's safe rollout)."""
EXTENDED_SECONDS = 365 * 24 * 3600
OPENID_CONFIGURATION, KEY_SET = "/.well-known/openid-configuration", "/openid/v1/jwks"


class _Binding(NamedTuple):
    """What a token is bound to."""

    pod: ObjectMeta | None = None
    secret: ObjectMeta | None = None
    node: tuple[str, str] | None = None


class TokenRequests:
    """Serves TokenRequest. `admission` is asked as for any write: NodeRestriction keeps kubelets to the pods of their node."""

    def __init__(
        self, tokens: ServiceAccountTokens, cache: Cache, admission: Sequence[AdmissionPlugin] = (), clock: Clock | None = None
    ) -> None:
        self._tokens, self._cache, self._admission, self._clock = tokens, cache, admission, clock or SystemClock()

    @property
    def handlers(self) -> Mapping[tuple[str, str, str], Handler]:
        """Handlers by group, plural and subresource."""
        return {("", "serviceaccounts", "token"): self.create}

    async def create(self, request: Request, resource: Resource, namespace: str, name: str) -> Response:
        """A token for the named account."""
        wanted, warnings = read(request, TOKEN_REQUEST)
        meta, spec = wanted["metadata"], wanted.setdefault("spec", {})
        admission = AdmissionRequest(Operation.CREATE, resource, "token", namespace, name, wanted, None, request.user)
        for plugin in self._admission:
            await plugin.admit(admission)
        self._check_name(meta, namespace, name)
        entry = self._cache.of(ServiceAccount.resource).get(namespace, name)
        if entry is None:
            raise not_found("serviceaccounts", name)
        account = entry.view(ServiceAccount).metadata
        if meta.get("uid") and meta["uid"] != account.uid:
            why = f"the UID in the token request ({meta['uid']}) does not match the UID of the service account ({account.uid})"
            raise conflict("TokenRequest", name, why, TOKEN_REQUEST.group)
        # after admission, which compares what a kubelet asked for with what the pod's volume asks for
        spec["audiences"] = spec.get("audiences") or list(self._tokens.audiences)
        seconds = spec.setdefault("expirationSeconds", DEFAULT_SECONDS)
        meta.update(name=name, namespace=namespace, uid=account.uid)
        now = self._clock.time()
        meta["creationTimestamp"] = timestamp(now)
        wanted.pop("status", None)
        _check_seconds(seconds)
        for plugin in self._admission:
            await plugin.validate(admission)
        binding = self._bind(namespace, name, spec.get("boundObjectRef"))
        if request.query.get("dryRun"):
            return answers.json(_completed(wanted, "", now), 201, answers.warning_header(warnings))
        lives, warn_after = seconds, 0
        if binding.pod is not None and seconds == WARN_SECONDS and set(spec["audiences"]) <= set(self._tokens.audiences):
            lives, warn_after = EXTENDED_SECONDS, seconds
        token = self._tokens.issue(
            account, spec["audiences"], lives, pod=binding.pod, secret=binding.secret, node=binding.node, warn_after=warn_after
        )
        return answers.json(_completed(wanted, token, now), 201, answers.warning_header(warnings))

    @staticmethod
    def _check_name(meta: Obj, namespace: str, name: str) -> None:
        for field, value, word in (("name", name, "name"), ("namespace", namespace, "namespace")):
            if meta.get(field) and meta[field] != value:
                cause = Cause.invalid(f"metadata.{field}", meta[field], f"must match the service account {word} if specified")
                raise invalid("TokenRequest", name, [cause], TOKEN_REQUEST.group)

    def _bind(self, namespace: str, account: str, ref: Obj | None) -> _Binding:
        if not ref:
            return _Binding()
        kind, version, name = ref.get("kind", ""), ref.get("apiVersion", ""), ref.get("name", "")
        group, _, version = version.rpartition("/")
        if group or kind not in ("Pod", "Secret", "Node"):
            raise BadRequest(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
        if kind == "Pod":
            entry = self._find(Pod.resource, namespace, name)
            view = entry.view(Pod)
            if view.spec.serviceAccountName != account:
                raise BadRequest(f'cannot bind token for serviceaccount "{account}" to pod running with different serviceaccount name.')
            binding = _Binding(pod=view.metadata, node=self._node_of(view.spec.nodeName))
        elif kind == "Secret":
            entry = self._find(Secret.resource, namespace, name)
            binding = _Binding(secret=entry.view(PartialObject).metadata)
        else:
            entry = self._find(Node.resource, "", name)
            binding = _Binding(node=(name, entry.uid))
        if ref.get("uid") and ref["uid"] != entry.uid:
            raise _other_uid(kind, name, ref["uid"])
        return binding

    def _find(self, ref: ResourceRef, namespace: str, name: str) -> Entry:
        entry = self._cache.of(ref).get(namespace, name)
        if entry is None:
            raise not_found(ref.plural, name, ref.group)
        return entry

    def _node_of(self, name: str) -> tuple[str, str] | None:
        if not name:
            return None
        entry = self._cache.of(Node.resource).get("", name)
        return name, entry.uid if entry is not None else ""


def routes(tokens: ServiceAccountTokens, external_url: str) -> Mapping[str, Callable[[Request], Awaitable[Response]]]:
    """The non-resource endpoints with which others verify tokens; `external_url` is the API server's own, without a path."""
    configuration, keys = tokens.openid_configuration(external_url.rstrip("/") + KEY_SET), tokens.key_set()
    headers = {"Cache-Control": "public, max-age=3600"}

    async def answer_configuration(request: Request) -> Response:
        return Response(200, configuration, headers=headers)

    async def answer_keys(request: Request) -> Response:
        return Response(200, keys, content_type="application/jwk-set+json", headers=headers)

    return {OPENID_CONFIGURATION: answer_configuration, KEY_SET: answer_keys}


def _completed(wanted: Obj, token: str, now: float) -> Obj:
    # what the client is told: the time that it asked for, though a pod's token may live longer
    status = {"token": token, "expirationTimestamp": timestamp(now + wanted["spec"]["expirationSeconds"])}
    return {**wanted, "status": status}


def _check_seconds(seconds: int) -> None:
    detail = ""
    if seconds < LEAST_SECONDS:
        detail = "may not specify a duration less than 10 minutes"
    elif seconds > MOST_SECONDS:
        detail = "may not specify a duration larger than 2^32 seconds"
    if detail:
        raise invalid("TokenRequest", "", [Cause.invalid("spec.expirationSeconds", seconds, detail)], TOKEN_REQUEST.group)


def _other_uid(kind: str, name: str, uid: str) -> Conflict:
    why = f"the UID in the bound object reference ({uid}) does not match the UID in record. "
    return conflict(kind, name, why + "The object might have been deleted and then recreated")
