"""What passes between the steps of a request: the request itself, its attributes, its answer, and the interfaces of the deciding steps."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from minikube_py.meta.user import User
from minikube_py.resources.api import Obj, Resource


class Request(msgspec.Struct):
    """One request, whichever transport brought it. Header names are lower-case; `query` keeps the last value of a repeated key; what may be
    repeated (exec's `command`) is read from `raw_query`."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    user: User
    raw_query: str = ""
    upgrade: Any = None
    """The transport's own handle for a connection that is to become a byte tunnel (exec, logs by WebSocket); None in-process."""


class Response(msgspec.Struct):
    """An answer: `body` whole, or `stream` in chunks. A stream is a watch, told as it comes, unless it is `finite`: a long document, which
    may as well be compressed on its way. `over` says whether a client that takes nothing of it need not be waited for any longer."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    stream: AsyncIterator[bytes | Sequence[bytes]] | None = None
    finite: bool = False
    over: Callable[[], bool] | None = None


class Attributes(NamedTuple):
    """What authorization decides on (SubjectAccessReview's words)."""

    user: User
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    """Set for what is not a resource (/healthz); then the fields from group to name are empty."""
    field_selector: tuple[tuple[str, str, str], ...] = ()
    """A list's or watch's field selector as (field, "=" or "!=", value): a node may list the pods bound to it and no others."""


class Decision(NamedTuple):
    """allowed, and why (RBAC names the binding)."""

    allowed: bool
    reason: str = ""


class Authenticator(Protocol):
    """Finds who asks. Raises Unauthorized for credentials that are wrong; no credentials at all is system:anonymous."""

    async def authenticate(self, headers: Mapping[str, str], peer_certificate: bytes | None) -> User:
        """The user of a request with these (lower-case) headers, over a connection whose client showed this DER certificate, if any."""


class Authorizer(Protocol):
    """Decides whether attributes are allowed. Synchronous: everything it needs is in memory."""

    def authorize(self, attributes: Attributes) -> Decision:
        """The decision; a repeated one is cached until a role or binding changes."""


class Operation(enum.Enum):
    """What an admission request is about."""

    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    CONNECT = "CONNECT"


class AdmissionRequest(msgspec.Struct):
    """One write on its way: plugins may change `object` in place while admitting; `old` is the stored object, never to be changed."""

    operation: Operation
    resource: Resource
    subresource: str
    namespace: str
    name: str
    object: Obj | None
    old: Obj | None
    user: User
    dry_run: bool = False
    options: Obj = msgspec.field(default_factory=dict)
    warnings: list[str] = msgspec.field(default_factory=list)
    undos: list[Undo] = msgspec.field(default_factory=list)
    """What plugins have to take back if the write fails after all."""


class AdmissionPlugin(Protocol):
    """One step of admission. Raises a StatusError (Forbidden, usually) to refuse."""

    name: str

    async def admit(self, request: AdmissionRequest) -> None:
        """Mutating phase."""

    async def validate(self, request: AdmissionRequest) -> None:
        """Validating phase; changes nothing."""


Undo = Callable[[], Awaitable[None]]
"""Gives back something that was allocated for a write that did not happen."""


class Allocator(Protocol):
    """Hands out what a kind's objects need exclusively (a Service's addresses and ports) and takes it back."""

    async def allocate(self, new: Obj, old: Obj | None, dry_run: bool) -> list[Undo]:
        """Complete `new` in place with what it needs, before its strategy and validation see it; `old` is the stored object of an update,
        None for a create. The undos are called if the write fails afterwards, whatever the reason. Raises StatusErrors (then nothing stays
        allocated)."""

    async def release(self, old: Obj, new: Obj | None = None) -> None:
        """Take back what the stored object held and its successor does not: after an update that went through, or (without `new`) after
        the object is gone. Never called for a dry run."""
