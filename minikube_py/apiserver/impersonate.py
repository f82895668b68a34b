"""Impersonation: the Impersonate-* headers let a user that may do so act as another one; each part is authorized by itself."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from minikube_py.apiserver.api import Attributes
from minikube_py.meta.errors import InternalError
from minikube_py.meta.user import ANONYMOUS, AUTHENTICATED_GROUP, UNAUTHENTICATED_GROUP, User

_EXTRA = "impersonate-extra-"
_SERVICE_ACCOUNT = "system:serviceaccount:"


def values(headers: Mapping[str, str], name: str) -> list[str]:
    """All values of a header that may be repeated."""
    getall = getattr(headers, "getall", None)
    if getall is not None:
        return list(getall(name, ()))
    value = headers.get(name)
    return [value] if value is not None else []


def wanted(headers: Mapping[str, str], requestor: User) -> tuple[User, list[Attributes]]:
    """The user that the headers ask for, and what the requestor must be allowed for it. Raises InternalError for an incomplete request."""
    name = headers.get("impersonate-user", "")
    groups = values(headers, "impersonate-group")
    uid = headers.get("impersonate-uid", "")
    extra: dict[str, tuple[str, ...]] = {}
    for header in dict.fromkeys(h.lower() for h in headers):
        if header.startswith(_EXTRA):
            extra[unquote(header[len(_EXTRA) :])] = tuple(values(headers, header))
    if not name:
        raise InternalError("Internal error occurred: requested impersonation without impersonating a user")

    def act(resource: str, named: str, *, group: str = "", subresource: str = "", namespace: str = "") -> Attributes:
        return Attributes(requestor, "impersonate", group, "v1", resource, subresource, namespace, named)

    needed = []
    user_groups = list(groups)
    if name.startswith(_SERVICE_ACCOUNT) and name.count(":") == 3:
        _, _, namespace, account = name.split(":")
        needed.append(act("serviceaccounts", account, namespace=namespace))
        if not groups:
            user_groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    else:
        needed.append(act("users", name))
    needed += [act("groups", group) for group in groups]
    if uid:
        needed.append(act("uids", uid, group="authentication.k8s.io"))
    for key, texts in extra.items():
        needed += [act("userextras", text, group="authentication.k8s.io", subresource=key) for text in texts]
    if AUTHENTICATED_GROUP not in user_groups and UNAUTHENTICATED_GROUP not in user_groups:
        user_groups.append(UNAUTHENTICATED_GROUP if name == ANONYMOUS else AUTHENTICATED_GROUP)
    return User(name, tuple(user_groups), uid, extra), needed
