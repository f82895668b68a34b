"""What every test runs under: the lag probe. A test whose event loop was blocked for a quarter of a second has failed.

Only what the loop's own thread did counts: the time that it waited for a processor is taken off, and the time in which nothing on the
machine ran (a second thread that only sleeps was late too), unless the loop's thread was computing meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.waiting import PATIENCE

settings.register_profile("tests", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("tests")

BLOCKED = 0.25 * PATIENCE
_INTERVAL = 0.02


class _Stalls:
    """A thread that sleeps and notes how late it wakes: what the machine, not the loop, held up."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=1000)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stall probe", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            before = time.perf_counter()
            time.sleep(_INTERVAL)
            now = time.perf_counter()
            if now - before > 2 * _INTERVAL:
                self._late.append((now, now - before - _INTERVAL))

    def since(self, moment: float) -> float:
        """Seconds of lateness noted after a moment."""
        return sum(late for at, late in self._late if at > moment)

    def close(self) -> None:
        self._end.set()
        self._thread.join()


@pytest.fixture(scope="session")
def _stalls() -> Iterator[_Stalls]:
    stalls = _Stalls()
    yield stalls
    stalls.close()


@pytest.fixture(scope="module", autouse=True)
def _settled() -> None:
    """What earlier modules left is collected between the tests, and set aside: a whole collection in a process of a thousand tests' objects
    takes longer than a loop may be blocked, and says nothing of the product."""
    gc.collect()
    gc.freeze()


def _run_delay() -> float:
    """Seconds that this thread was ready to run and the machine was busy with others."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


@pytest.fixture(autouse=True)
async def _unblocked_loop(_stalls: _Stalls) -> AsyncIterator[None]:
    worst = 0.0

    async def probe() -> None:
        nonlocal worst
        while True:
            before, delayed, computed = time.perf_counter(), _run_delay(), time.thread_time()
            await asyncio.sleep(_INTERVAL)
            lag = time.perf_counter() - before - _INTERVAL - (_run_delay() - delayed)
            if lag > BLOCKED:
                lag = max(time.thread_time() - computed, lag - _stalls.since(before))
            worst = max(worst, lag)

    task = asyncio.create_task(probe(), name="lag probe")
    yield
    task.cancel()
    assert worst < BLOCKED, f"the event loop was blocked for {worst * 1000:.0f} ms"
