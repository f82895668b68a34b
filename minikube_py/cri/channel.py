"""The gRPC channel to a runtime's Unix socket, and the one place where gRPC statuses become errors of ours."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Final, TypeVar

import grpc
import grpc.aio

from minikube_py.cri import errors

T = TypeVar("T")

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    # The runtime is on this machine: look for it often enough to be back within a second of it.
    ("grpc.initial_reconnect_backoff_ms", 50),
    # How long making a connection may take, whatever the name says: a runtime that has no processor for a moment is not away.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
_STARTING: Final = "server is not initialized yet"  # containerd's CRI, between listening and serving
_ERRORS: Final[dict[grpc.StatusCode, type[errors.CriError]]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgument,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unimplemented,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Exhausted,
}


def open_channel(socket: Path) -> grpc.aio.Channel:
    """A channel to a runtime's socket; it connects at its first call, and again by itself after every loss."""
    return grpc.aio.insecure_channel(f"unix:{socket.absolute()}", options=_OPTIONS)


def translate(error: grpc.aio.AioRpcError) -> errors.CriError:
    """The error of ours that stands for a gRPC status."""
    if error.code() is grpc.StatusCode.UNKNOWN and error.details() == _STARTING:
        return errors.Unavailable(_STARTING)
    made = _ERRORS.get(error.code(), errors.CriError)(error.details() or error.code().name)
    made.code = error.code().name.title().replace("_", "")
    return made


async def answer(call: Awaitable[T]) -> T:
    """Await a call; a gRPC error becomes one of ours."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise translate(error) from error
