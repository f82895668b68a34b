"""Reviews: questions to authentication and authorization, asked as creates of objects that are never stored.

SubjectAccessReview and its kin ask what somebody may do, SelfSubjectRulesReview what the asker may do at all, SelfSubjectReview who the
asker is, TokenReview whose a token is. Each handler has the shape (request, resource, namespace, name) → Response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from minikube_py.aio import Clock, SystemClock
from minikube_py.apiserver import answers
from minikube_py.apiserver.api import Attributes, Decision, Request, Response
from minikube_py.apiserver.authn_tokens import InvalidToken
from minikube_py.apiserver.authz_rbac import Rules
from minikube_py.apiserver.call import Handler
from minikube_py.apiserver.decode import decode
from minikube_py.apiserver.options import write_options
from minikube_py.apiserver.selection import field_terms
from minikube_py.meta.errors import BadRequest, Cause, invalid
from minikube_py.meta.user import User
from minikube_py.resources.api import Obj, Resource
from minikube_py.schema import definitions
from minikube_py.types.meta import ResourceRef, timestamp

AUTHORIZATION, AUTHENTICATION = "authorization.k8s.io", "authentication.k8s.io"


class ReviewAuthorizer(Protocol):
    """What reviews ask of the authorizer."""

    def authorize(self, attributes: Attributes) -> Decision:
        """The decision on one question."""

    def rules_for(self, user: User, namespace: str) -> Rules:
        """Everything that a user may do in a namespace."""


TokenCheck = Callable[[str, tuple[str, ...]], tuple[User, tuple[str, ...]]]
"""The user of a token, and those of the wanted audiences (none: the API server's) that it is for. Raises InvalidToken."""


class Reviews:
    """All review endpoints; `handlers` is what the API server is given."""

    def __init__(self, authorizer: ReviewAuthorizer, check_token: TokenCheck, clock: Clock | None = None) -> None:
        self._authorizer, self._check_token, self._clock = authorizer, check_token, clock or SystemClock()

    @property
    def handlers(self) -> Mapping[tuple[str, str, str], Handler]:
        """Handlers by group, plural and subresource."""
        return {
            (AUTHORIZATION, "subjectaccessreviews", ""): self.subject_access,
            (AUTHORIZATION, "localsubjectaccessreviews", ""): self.local_subject_access,
            (AUTHORIZATION, "selfsubjectaccessreviews", ""): self.self_subject_access,
            (AUTHORIZATION, "selfsubjectrulesreviews", ""): self.self_subject_rules,
            (AUTHENTICATION, "selfsubjectreviews", ""): self.self_subject,
            (AUTHENTICATION, "tokenreviews", ""): self.token,
        }

    async def subject_access(self, request: Request, resource: Resource, namespace: str, name: str) -> Response:
        """May this user do that?"""
        review, warnings = read(request, resource.ref)
        spec = review.get("spec") or {}
        _refuse(resource.ref, _access_faults(spec, subject=True) + _metadata_faults(review))
        return self._decided(review, _subject(spec), spec, warnings)

    async def local_subject_access(self, request: Request, resource: Resource, namespace: str, name: str) -> Response:
        """May this user do that in this namespace?"""
        review, warnings = read(request, resource.ref)
        spec = review.get("spec") or {}
        meta = review.setdefault("metadata", {})
        meta.setdefault("namespace", namespace)
        causes = _access_faults(spec, subject=True)
        if any(key not in ("namespace", "managedFields") for key in meta):
            causes.append(Cause.invalid("metadata", meta, "must be empty except for namespace"))
        asked = (spec.get("resourceAttributes") or {}).get("namespace", "")
        if spec.get("resourceAttributes") is not None and asked != meta["namespace"]:
            causes.append(Cause.invalid("spec.resourceAttributes.namespace", asked, "must match metadata.namespace"))
        if spec.get("nonResourceAttributes") is not None:
            what = spec["nonResourceAttributes"]
            causes.append(Cause.invalid("spec.nonResourceAttributes", what, "disallowed on this kind of request"))
        _refuse(resource.ref, causes)
        if meta["namespace"] != namespace:
            raise BadRequest(f"spec.resourceAttributes.namespace must match namespace: {namespace}")
        return self._decided(review, _subject(spec), spec, warnings)

    async def self_subject_access(self, request: Request, resource: Resource, namespace: str, name: str) -> Response:
        """May I do that?"""
        review, warnings = read(request, resource.ref)
        spec = review.get("spec") or {}
        _refuse(resource.ref, _access_faults(spec, subject=False) + _metadata_faults(review))
        return self._decided(review, request.user, spec, warnings)

    async def self_subject_rules(self, request: Request, resource: Resource, namespace: str, name: str) -> Response:
        """What may I do there?"""
        review, warnings = read(request, resource.ref)
        where = (review.get("spec") or {}).get("namespace")
        if not where:
            raise BadRequest("no namespace on request")
        rules, errors = self._authorizer.rules_for(request.user, where)
        resources: list[Obj] = []
        paths: list[Obj] = []
        for rule in rules:
            if rule.resources:
                entry: Obj = {"verbs": rule.verbs, "apiGroups": rule.apiGroups, "resources": rule.resources}
                resources.append({**entry, "resourceNames": rule.resourceNames} if rule.resourceNames else entry)
            if rule.nonResourceURLs:
                paths.append({"verbs": rule.verbs, "nonResourceURLs": rule.nonResourceURLs})
        status: Obj = {"resourceRules": resources, "nonResourceRules": paths, "incomplete": bool(errors)}
        if errors:
            status["evaluationError"] = errors[0] if len(errors) == 1 else "[" + ", ".join(errors) + "]"
        return _answer({**_head(resource.ref), "metadata": {}, "spec": {}, "status": status}, warnings)

    async def self_subject(self, request: Request, resource: Resource, namespace: str, name: str) -> Response:
        """Who am I?"""
        _, warnings = read(request, resource.ref)
        metadata = {"creationTimestamp": timestamp(self._clock.time())}
        return _answer({**_head(resource.ref), "metadata": metadata, "status": {"userInfo": user_info(request.user)}}, warnings)

    async def token(self, request: Request, resource: Resource, namespace: str, name: str) -> Response:
        """Whose token is this?"""
        review, warnings = read(request, resource.ref)
        spec = review.get("spec") or {}
        if not spec.get("token"):
            raise BadRequest("token is required for TokenReview in authentication")
        try:
            user, audiences = self._check_token(spec["token"], tuple(spec.get("audiences") or ()))
        except InvalidToken as error:
            review["status"] = {
                "user": {},
                "error": f"[invalid bearer token, {error}]" if str(error) != "invalid bearer token" else str(error),
            }
        else:
            review["status"] = {"authenticated": True, "user": user_info(user), "audiences": list(audiences)}
        return _answer(review, warnings)

    def _decided(self, review: Obj, user: User, spec: Obj, warnings: list[str]) -> Response:
        decision = self._authorizer.authorize(attributes_of(user, spec))
        review["status"] = {"allowed": decision.allowed, **({"reason": decision.reason} if decision.reason else {})}
        return _answer(review, warnings)


def read(request: Request, ref: ResourceRef) -> tuple[Obj, list[str]]:
    """The object that a request creates without storing it, and what to warn of. Raises BadRequest, Invalid."""
    loaded, warnings = definitions.load(), list[str]()
    options = write_options(request.query, request.headers.get("user-agent", ""), "CreateOptions")
    schema = loaded.schema(ref.group, ref.version, ref.kind)
    obj = decode(request.body, request.headers.get("content-type", ""), ref, loaded, schema, options.validation, warnings)
    obj.setdefault("metadata", {})
    return obj, warnings


def attributes_of(user: User, spec: Obj) -> Attributes:
    """The question in a review's spec."""
    path = spec.get("nonResourceAttributes")
    if path is not None:
        return Attributes(user, path.get("verb", ""), path=path.get("path", ""))
    asked = spec["resourceAttributes"]
    return Attributes(
        user,
        asked.get("verb", ""),
        asked.get("group", ""),
        asked.get("version") or "*",
        asked.get("resource", ""),
        asked.get("subresource", ""),
        asked.get("namespace", ""),
        asked.get("name", ""),
        field_selector=_field_selector(asked.get("fieldSelector") or {}),
    )


def user_info(user: User) -> Obj:
    """A user as authentication.k8s.io/v1 UserInfo."""
    info: Obj = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info


def _subject(spec: Obj) -> User:
    extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)


def _field_selector(selector: Obj) -> tuple[tuple[str, str, str], ...]:
    """A field selector as the node authorizer reads it: only single values make a difference; what cannot be read restricts nothing."""
    if selector.get("rawSelector"):
        try:
            return tuple((term[0], term[1], term[2]) for term in field_terms(selector["rawSelector"]))
        except BadRequest:
            return ()
    operators = {"In": "=", "NotIn": "!="}
    requirements = selector.get("requirements") or ()
    return tuple(
        (r["key"], operators[r["operator"]], r["values"][0])
        for r in requirements
        if r.get("operator") in operators and len(r.get("values") or ()) == 1
    )


def _access_faults(spec: Obj, *, subject: bool) -> list[Cause]:
    causes: list[Cause] = []
    about, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if about is not None and path is not None:
        causes.append(Cause.invalid("spec.nonResourceAttributes", path, "cannot be specified in combination with resourceAttributes"))
    if about is None and path is None:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        causes.append(Cause.invalid("spec.resourceAttributes", None, detail))
    if subject and not spec.get("user") and not spec.get("groups"):
        causes.append(Cause.invalid("spec.user", spec.get("user", ""), "at least one of user or group must be specified"))
    for name in ("fieldSelector", "labelSelector"):
        selector = (about or {}).get(name)
        if selector is None:
            continue
        field = f"spec.resourceAttributes.{name}"
        if selector.get("rawSelector") and selector.get("requirements"):
            detail = "may not specified at the same time as requirements"
            causes.append(Cause.invalid(f"{field}.rawSelector", selector["rawSelector"], detail))
        elif not selector.get("rawSelector") and not selector.get("requirements"):
            causes.append(Cause.required(f"{field}.requirements", f"when {field} is specified, requirements or rawSelector is required"))
    return causes


def _metadata_faults(review: Obj) -> list[Cause]:
    meta: dict[str, Any] = review.get("metadata") or {}
    return [Cause.invalid("metadata", meta, "must be empty")] if any(key != "managedFields" for key in meta) else []


def _refuse(ref: ResourceRef, causes: list[Cause]) -> None:
    if causes:
        raise invalid(ref.kind, "", causes, ref.group)


def _head(ref: ResourceRef) -> Obj:
    return {"kind": ref.kind, "apiVersion": ref.api_version}


def _answer(obj: Obj, warnings: list[str]) -> Response:
    return answers.json(obj, 201, answers.warning_header(warnings))
