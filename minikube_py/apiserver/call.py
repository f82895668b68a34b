"""One request for a resource, resolved: what every verb's handler is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from minikube_py.apiserver.api import Request, Response
from minikube_py.apiserver.negotiate import PLAIN, Output
from minikube_py.apiserver.requestinfo import RequestInfo
from minikube_py.meta.errors import NotFound, not_found
from minikube_py.resources.api import Resource
from minikube_py.types.meta import ResourceRef


class Call(msgspec.Struct):
    """`ref` is the served version that was asked for (the hub, or one that is converted); `warnings` collects what the answer warns of.

    `committing` tells that a write was handed to the log: it is made even if the request is cancelled from then on.
    """

    request: Request
    info: RequestInfo
    resource: Resource
    ref: ResourceRef
    output: Output = PLAIN
    warnings: list[str] = msgspec.field(default_factory=list)
    committing: bool = False

    @property
    def user_agent(self) -> str:
        return self.request.headers.get("user-agent", "")

    @property
    def actor(self) -> str:
        """Who writes, for the log: user name and user agent."""
        return f"{self.request.user.name}|{self.user_agent}"

    @property
    def key(self) -> str:
        """The key of the named object in the log."""
        return self.resource.key(self.info.namespace, self.info.name)

    def missing(self) -> NotFound:
        """The error for a named object that is not there."""
        return not_found(self.ref.plural, self.info.name, self.ref.group)


Handler = Callable[[Request, Resource, str, str], Awaitable[Response]]
"""A special endpoint: (request, resource, namespace, name)."""


class SubresourceHandler(Protocol):
    """A subresource that the generic verbs do not serve."""

    async def __call__(self, call: Call) -> Response:
        """The answer; StatusErrors are raised."""
