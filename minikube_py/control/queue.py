"""A work queue of keys: each waits at most once, is worked on by one worker at a time, and comes back with backoff after a failure.

The rules are client-go's (util/workqueue): a key added while it is being worked on is worked on again afterwards.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque

from minikube_py.aio import Clock, SystemClock


class WorkQueue:
    """Keys to be reconciled. Delays are in seconds."""

    def __init__(self, first_backoff: float = 0.005, limit: float = 1000.0, clock: Clock | None = None) -> None:
        self._first, self._limit, self._clock = first_backoff, limit, clock or SystemClock()
        self._ready: deque[str] = deque()
        self._queued: set[str] = set()
        self._working: set[str] = set()
        self._failures: dict[str, int] = {}
        self._delayed: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: str) -> None:
        """Have the key worked on as soon as possible."""
        if key in self._queued:
            return
        self._queued.add(key)
        if key not in self._working:
            self._ready.append(key)
            self._wake()

    def add_after(self, key: str, delay: float) -> None:
        """Have the key worked on after a delay; of several delays the earliest counts."""
        if delay <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + delay
        if self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._delayed, (due, key))
        self._arm()

    def retry(self, key: str) -> None:
        """Have a failed key worked on again, later each time."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.add_after(key, min(self._first * 2 ** min(failures, 30), self._limit))

    def forget(self, key: str) -> None:
        """The key has worked: its next failure starts with the shortest delay."""
        self._failures.pop(key, None)

    async def get(self) -> str:
        """The next key; `done` must be called for it."""
        while not self._ready:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                # the wake-up may have been meant for somebody who still wants it
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                raise
        key = self._ready.popleft()
        self._queued.discard(key)
        self._working.add(key)
        return key

    def done(self, key: str) -> None:
        """The worker has let go of the key."""
        self._working.discard(key)
        if key in self._queued:
            self._ready.append(key)
            self._wake()

    def close(self) -> None:
        """Drop the timer; workers are their owner's to cancel."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._delayed:
            delay = max(0.0, self._delayed[0][0] - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._delayed and self._delayed[0][0] <= now + 0.001:
            due, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        self._arm()
