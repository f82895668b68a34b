"""How a remote command ended, as clients are told it: the documents of the status channel, in the words of upstream's streaming servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson


def exited(command: Sequence[str], code: int) -> bytes:
    """The command ran and ended with this code."""
    if code == 0:
        return orjson.dumps({"metadata": {}, "status": "Success"})
    return _failure(
        message=f"command terminated with non-zero exit code: error executing command [{' '.join(command)}], exit code {code}",
        reason="NonZeroExitCode",
        details={"causes": [{"reason": "ExitCode", "message": str(code)}]},
    )


def not_executed(problem: str) -> bytes:
    """The command did not run, or nobody knows how it ended."""
    return internal_error(f"error executing command in container: failed to exec in container: {problem}")


def internal_error(problem: str) -> bytes:
    """An InternalError, as upstream's API machinery makes one."""
    return _failure(
        message=f"Internal error occurred: {problem}", reason="InternalError", details={"causes": [{"message": problem}]}, code=500
    )


def _failure(**fields: Any) -> bytes:
    return orjson.dumps({"metadata": {}, "status": "Failure", **fields})
