"""What every test runs under: the lag probe. A test whose event loop was blocked for a quarter of a second has failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

BLOCKED = 0.25
_INTERVAL = 0.02


def _run_delay() -> float:
    """Seconds that this thread was ready to run and the machine was busy with others."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


@pytest.fixture(autouse=True)
async def _unblocked_loop() -> AsyncIterator[None]:
    worst = 0.0

    async def probe() -> None:
        nonlocal worst
        while True:
            before, delayed = time.perf_counter(), _run_delay()
            await asyncio.sleep(_INTERVAL)
            lag = time.perf_counter() - before - _INTERVAL - (_run_delay() - delayed)
            worst = max(worst, lag)

    task = asyncio.create_task(probe(), name="lag probe")
    yield
    task.cancel()
    assert worst < BLOCKED, f"the event loop was blocked for {worst * 1000:.0f} ms"
