"""What can go wrong with the container runtime, as one tree.

gRPC statuses end at this package's border: callers see these errors, each chained from the `grpc.aio.AioRpcError` that caused it.
`str(error)` is the runtime's own message, which Kubernetes shows to users in events and waiting reasons.
"""

from __future__ import annotations


class CriError(Exception):
    """Any failure of the container runtime. Raised itself for statuses that need no telling apart."""

    code = "Unknown"
    """The status as gRPC's Go library spells it."""

    @property
    def status_text(self) -> str:
        """Code and message, as a kubelet shows them to users: its errors are gRPC's own."""
        return f"rpc error: code = {self.code} desc = {self}"


class NotFound(CriError):
    """The sandbox, container or image does not exist (any more)."""


class AlreadyExists(CriError):
    """A sandbox or container of that name, uid and attempt exists or is being created."""


class InvalidArgument(CriError):
    """The runtime refuses what it was asked for; asking again will not help."""


class FailedPrecondition(CriError):
    """The thing is not in the state that the call needs."""


class DeadlineExceeded(CriError, TimeoutError):
    """The call did not end in its time; what it began may still happen."""


class Unavailable(CriError):
    """The runtime does not answer: it is starting, has ended, or its socket is missing."""


class Unimplemented(CriError):
    """This version of the runtime does not have the call."""


class Exhausted(CriError):
    """The runtime is out of a resource, or a message is larger than it takes."""


class RuntimeMissing(CriError):
    """A program that the node needs is not installed; the message says how to get it."""


class RuntimeFailed(CriError):
    """The supervised runtime did not come up; the message holds the end of its log."""


class ArchiveInvalid(CriError):
    """A file is not an image archive, or a damaged one."""
