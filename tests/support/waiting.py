"""Waiting for what becomes true in its own time, with an end."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable

PATIENCE = float(os.environ.get("MINIKUBE_PY_TEST_PATIENCE", "1"))
"""How many times longer than usual things may take: more than 1 on a machine that is emulated."""


async def until(condition: Callable[[], object | Awaitable[object]], timeout: float = 30.0, what: str = "") -> None:
    """Ask until the condition, plain or async, is true. Fails the test after `timeout` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout * PATIENCE
    while True:
        answer = condition()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        assert loop.time() < deadline, what or "what was waited for did not come"
        await asyncio.sleep(0.01)


def eventually(look: Callable[[], object], what: str, timeout: float = 20.0) -> None:
    """Ask until the answer is true, in a test that has no loop."""
    deadline = time.monotonic() + timeout * PATIENCE
    while not look():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)
