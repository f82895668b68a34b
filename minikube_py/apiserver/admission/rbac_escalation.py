"""Nobody grants more than he has: roles and bindings are refused that would give rights which their author does not hold.

Who may use the verb `escalate` on a role, or `bind` on the role of a binding, is exempt; so are the masters. Upstream has this in the
storage of the kinds (pkg/registry/rbac/*/policybased); here it is the last plugin, so that it sees the object as it will be stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from minikube_py.apiserver.admission.base import Plugin, refusal
from minikube_py.apiserver.api import AdmissionRequest, Attributes, Operation
from minikube_py.apiserver.authz import RequestAuthorizer
from minikube_py.meta.user import MASTERS_GROUP
from minikube_py.types.rbac import GROUP, PolicyRule, RoleRef

_EVERYTHING = (
    PolicyRule(verbs=("*",), apiGroups=("*",), resources=("*",)),
    PolicyRule(verbs=("*",), nonResourceURLs=("*",)),
)
_ROLES = frozenset({"roles", "clusterroles"})
_BINDINGS = frozenset({"rolebindings", "clusterrolebindings"})
_IGNORED = frozenset({"metadata", "apiVersion", "kind"})


class RbacEscalation(Plugin):
    name = "RBACEscalation"
    resources = frozenset((GROUP, plural) for plural in _ROLES | _BINDINGS)

    def __init__(self, authorizer: RequestAuthorizer) -> None:
        self._authorizer = authorizer

    async def validate(self, request: AdmissionRequest) -> None:
        ref, obj, old = request.resource.ref, request.object, request.old
        if ref.group != GROUP or obj is None or request.operation not in (Operation.CREATE, Operation.UPDATE):
            return
        if MASTERS_GROUP in request.user.groups:
            return
        if old is not None and _content(old) == _content(obj):
            return
        if ref.plural in _ROLES:
            if self._may(request, "escalate", ref.plural, request.name):
                return
            rules = msgspec.convert(obj.get("rules") or [], tuple[PolicyRule, ...])
            if (obj.get("aggregationRule") or {}).get("clusterRoleSelectors"):
                missing = self._missing(request, _EVERYTHING)
                if missing:
                    why = f"must have cluster-admin privileges to use an aggregationRule: {_complaint(request, missing)}"
                    raise refusal(request, why)
        elif ref.plural in _BINDINGS:
            target = msgspec.convert(obj.get("roleRef") or {}, RoleRef)
            plural = "clusterroles" if target.kind == "ClusterRole" else "roles"
            if self._may(request, "bind", plural, target.name):
                return
            rules, errors = self._authorizer.rbac.rules_of(target, request.namespace)
            if errors:
                raise refusal(request, errors[0])
        else:
            return
        missing = self._missing(request, rules)
        if missing:
            raise refusal(request, _complaint(request, missing))

    def _may(self, request: AdmissionRequest, verb: str, plural: str, name: str) -> bool:
        attributes = Attributes(request.user, verb, GROUP, "v1", plural, namespace=request.namespace, name=name)
        return self._authorizer.authorize(attributes).allowed

    def _missing(self, request: AdmissionRequest, wanted: Iterable[PolicyRule]) -> list[PolicyRule]:
        held = self._authorizer.rules_for(request.user, request.namespace).rules
        return uncovered(held, wanted)


def uncovered(held: Sequence[PolicyRule], wanted: Iterable[PolicyRule]) -> list[PolicyRule]:
    """The single rights in `wanted` that no rule of `held` covers."""
    return [right for rule in wanted for right in _single(rule) if not any(_covers(owned, right) for owned in held)]


def _single(rule: PolicyRule) -> Iterator[PolicyRule]:
    """A rule as rules of one verb on one thing."""
    for verb in rule.verbs:
        for url in rule.nonResourceURLs:
            yield PolicyRule(verbs=(verb,), nonResourceURLs=(url,))
        for group in rule.apiGroups:
            for resource in rule.resources:
                for name in rule.resourceNames or ("",):
                    names = (name,) if name else ()
                    yield PolicyRule(verbs=(verb,), apiGroups=(group,), resources=(resource,), resourceNames=names)


def _covers(held: PolicyRule, right: PolicyRule) -> bool:
    if "*" not in held.verbs and right.verbs[0] not in held.verbs:
        return False
    if right.nonResourceURLs:
        url = right.nonResourceURLs[0]
        return any(p == url or p == "*" or (p.endswith("*") and url.startswith(p.rstrip("*"))) for p in held.nonResourceURLs)
    if "*" not in held.apiGroups and right.apiGroups[0] not in held.apiGroups:
        return False
    resource = right.resources[0]
    _, slash, subresource = resource.partition("/")
    if "*" not in held.resources and resource not in held.resources and not (slash and f"*/{subresource}" in held.resources):
        return False
    return not held.resourceNames or (bool(right.resourceNames) and right.resourceNames[0] in held.resourceNames)


def _complaint(request: AdmissionRequest, missing: Sequence[PolicyRule]) -> str:
    """What is missing, in upstream's words: the verbs on one thing together, sorted."""
    verbs: dict[PolicyRule, list[str]] = {}
    for right in missing:
        verbs.setdefault(msgspec.structs.replace(right, verbs=()), []).append(right.verbs[0])
    described = sorted(_describe(thing, on_it) for thing, on_it in verbs.items())
    groups = _quoted(request.user.groups)
    who = f'user "{request.user.name}" (groups={groups}) is attempting to grant RBAC permissions not currently held:\n'
    return who + "\n".join(described)


def _describe(thing: PolicyRule, verbs: Sequence[str]) -> str:
    parts = (
        ("APIGroups", thing.apiGroups),
        ("Resources", thing.resources),
        ("NonResourceURLs", thing.nonResourceURLs),
        ("ResourceNames", thing.resourceNames),
        ("Verbs", tuple(dict.fromkeys(verbs))),
    )
    return "{" + ", ".join(f"{name}:{_quoted(values)}" for name, values in parts if values) + "}"


def _quoted(values: Sequence[str]) -> str:
    return "[" + " ".join(f'"{value}"' for value in values) + "]"


def _content(obj: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in obj.items() if name not in _IGNORED}
