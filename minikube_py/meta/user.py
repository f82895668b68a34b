"""Who asks: the identity that authentication gives and authorization, admission and the log's actor column use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

ANONYMOUS = "system:anonymous"
AUTHENTICATED_GROUP = "system:authenticated"
UNAUTHENTICATED_GROUP = "system:unauthenticated"
MASTERS_GROUP = "system:masters"
NODES_GROUP = "system:nodes"


class User(NamedTuple):
    """A name, its groups, its uid and extra attributes (authentication.k8s.io/v1 UserInfo)."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = {}


def authenticated(user: User) -> User:
    """The user with the group that everybody with an identity is in."""
    if user.name == ANONYMOUS or AUTHENTICATED_GROUP in user.groups or UNAUTHENTICATED_GROUP in user.groups:
        return user
    return user._replace(groups=(*user.groups, AUTHENTICATED_GROUP))
