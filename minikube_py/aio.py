"""Supervision, backoff and the loop's lag probe: the asyncio machinery that every component runs in.

Why: a component that fails is restarted with backoff and shown as degraded in /readyz; it never takes the process down. Every task has
a name, an owner and an end. What flows through: component coroutines in, their health out.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol

log = logging.getLogger(__name__)


class Clock(Protocol):
    """Where the time comes from; tests pass their own."""

    def time(self) -> float:
        """Seconds since the epoch, as the wall clock has them."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""


class SystemClock:
    """The machine's clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class Backoff:
    """Exponential delays in seconds, from `first` to `limit`, each with up to a tenth of jitter."""

    def __init__(self, first: float = 0.2, limit: float = 30.0, factor: float = 2.0, random_: Callable[[], float] = random.random) -> None:
        self._first, self._limit, self._factor, self._random = first, limit, factor, random_
        self._next = first

    def reset(self) -> None:
        """Start over: what was tried has worked."""
        self._next = self._first

    def next(self) -> float:
        """The delay before the next try."""
        delay = self._next
        self._next = min(delay * self._factor, self._limit)
        return delay * (1 + self._random() / 10)


class Health:
    """What /readyz shows of one component: empty `problem` means well; `ready` turns true once, when it first serves."""

    __slots__ = ("problem", "ready", "restarts")

    def __init__(self) -> None:
        self.problem = "starting"
        self.ready = asyncio.Event()
        self.restarts = 0

    def well(self) -> None:
        """The component serves."""
        self.problem = ""
        self.ready.set()

    def degraded(self, problem: str) -> None:
        """The component does not serve now, and why."""
        self.problem = problem


Component = Callable[[Health], Coroutine[Any, Any, None]]


def well(work: Callable[[], Coroutine[Any, Any, None]]) -> Component:
    """A component of what knows nothing of health: it is well from its first moment."""

    async def component(health: Health) -> None:
        health.well()
        await work()

    return component


class Supervisor:
    """Runs named components until it is stopped; one that ends or raises is restarted with backoff."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._health: dict[str, Health] = {}

    @property
    def health(self) -> Mapping[str, Health]:
        """The health of every component, by name."""
        return self._health

    def start(self, name: str, component: Component) -> Health:
        """Run a component; it calls `health.well()` when it serves."""
        health = self._health[name] = Health()
        self._tasks[name] = asyncio.create_task(self._keep(name, component, health), name=name)
        return health

    async def _keep(self, name: str, component: Component, health: Health) -> None:
        backoff = Backoff()
        while True:
            started = time.monotonic()
            try:
                await component(health)
                health.degraded("ended")
                log.error("component ended, starting it again", extra={"component": name})
            except Exception as error:
                health.degraded(f"{type(error).__name__}: {error}")
                log.exception("component failed, starting it again", extra={"component": name})
            if time.monotonic() - started > 60:
                backoff.reset()
            health.restarts += 1
            await asyncio.sleep(backoff.next())

    async def stop(self, name: str) -> None:
        """End one component and wait for it."""
        task = self._tasks.pop(name, None)
        if task is not None:
            await cancel(task)

    async def close(self) -> None:
        """End all components, the last one started first."""
        for name in reversed(list(self._tasks)):
            await self.stop(name)


async def wait_at_most(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait for an event, at most so long (None: for ever); whether it has come.

    Not asyncio.wait_for: in Python 3.11 it loses a cancellation that comes with the event, and whoever waits would never end.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until all have ended, whatever they raise in ending. Whoever is cancelled while it waits here hears of it then:
    a component that did not would never end."""
    for task in tasks:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while left := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as error:
            cancelled = error
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen
    if cancelled is not None:
        raise cancelled


class Tasks:
    """A set of named background tasks with one owner: an unexpected end is logged, `close` cancels and awaits all of them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a task that this set owns."""
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", exc_info=error, extra={"task": task.get_name()})

    async def close(self) -> None:
        """Cancel every task and wait for it."""
        await cancel(*self._tasks)


class Turns:
    """Turns of the loop for those who come in crowds: some go on in a round of it, the others in the following ones, in order.

    What a hundred tasks do that one commit, or one packet, has woken together is short in each of them and holds the loop in all: timers
    and sockets would have to wait for the last of them. One at least goes on in a round; then as many as `at_once`, or as `seconds` of
    their work leave time for. A turn is nothing to be given back.
    """

    def __init__(self, at_once: int = 64, seconds: float = 0.004) -> None:
        self._at_once, self._seconds = at_once, seconds
        self._passed = 0
        self._until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._late: deque[asyncio.Future[None]] = deque()
        self._woken = 0
        """Those whom a round has woken and who have not gone on yet: who comes now stays behind them."""
        self._in_round = False

    async def take(self) -> None:
        """Go on at once, or when those who came before have had their turn."""
        loop = asyncio.get_running_loop()
        if not self._in_round:
            self._in_round = True
            loop.call_soon(self._next_round)
        if not (self._waiting or self._woken) and self._may_pass():
            return
        await self._wait(self._waiting)
        while not self._may_pass():
            await self._wait(self._late)

    async def _wait(self, queue: deque[asyncio.Future[None]]) -> None:
        waiter = asyncio.get_running_loop().create_future()
        queue.append(waiter)
        try:
            await waiter
        finally:
            if not waiter.cancelled():
                self._woken -= 1

    def _may_pass(self) -> bool:
        now = time.perf_counter()
        if not self._passed:
            self._until = now + self._seconds
        elif self._passed >= self._at_once or now > self._until:
            return False
        self._passed += 1
        return True

    def _next_round(self) -> None:
        self._passed = 0
        self._waiting.extendleft(reversed(self._late))
        self._late.clear()
        while self._waiting and self._woken < self._at_once:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._woken += 1
        self._in_round = bool(self._woken)
        if self._in_round:
            # behind those who have just been woken: the loop looks at timers and sockets between two rounds
            asyncio.get_running_loop().call_soon(self._next_round)


_RESTING = 0.02
"""A thread that works for less than this share of the time is resting."""


class LagProbe:
    """Measures how late the loop runs a timer: the one number that shows a blocked loop under uvloop.

    Lags are kept in seconds as counts per bucket, so that a percentile costs no memory. What is late because the machine's processors
    were busy with others counts as lag, and not as `blocked`: that is the loop's own doing alone.
    """

    BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, float("inf"))

    def __init__(self, interval: float = 0.05, resting: float | None = None) -> None:
        """Probe every `interval` seconds, and every `resting` while the thread has next to nothing to do: the probe shall not be what
        keeps an idle process awake."""
        self._interval, self._resting = interval, interval if resting is None else resting
        self.counts = [0] * len(self.BUCKETS)
        self.total = 0.0
        self.worst = 0.0
        self.blocked = 0.0

    async def run(self) -> None:
        """Probe until cancelled."""
        with RunDelay() as run_delay:
            interval = self._interval
            before, worked, waited = time.perf_counter(), time.thread_time(), run_delay.seconds()
            while True:
                await asyncio.sleep(interval)
                now, worked_now, waited_now = time.perf_counter(), time.thread_time(), run_delay.seconds()
                self.record(now - before - interval, waited_now - waited)
                interval = self._resting if worked_now - worked < _RESTING * (now - before) else self._interval
                before, worked, waited = now, worked_now, waited_now

    def record(self, lag: float, waited: float = 0.0) -> None:
        """Count one lag; `waited` seconds of it the thread could run and had no processor."""
        lag = max(lag, 0.0)
        self.total += lag
        self.worst = max(self.worst, lag)
        self.blocked = max(self.blocked, lag - waited)
        for index, bound in enumerate(self.BUCKETS):
            if lag <= bound:
                self.counts[index] += 1
                return

    def percentile(self, share: float) -> float:
        """The upper bound of the bucket in which the given share (0..1) of all probes lies."""
        wanted = sum(self.counts) * share
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if seen >= wanted:
                return min(self.BUCKETS[index], self.worst) if self.worst else self.BUCKETS[index]
        return self.worst


class RunDelay:
    """How long this thread was ready to run and had no processor; 0 where the kernel does not say. Use as a context manager."""

    def __enter__(self) -> RunDelay:
        try:
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)

    def seconds(self) -> float:
        """Since the thread began."""
        return int(os.pread(self._file, 100, 0).split()[1]) / 1e9 if self._file >= 0 else 0.0


def settle() -> None:
    """The process has started: what is loaded by now stays for good, and the garbage collector need not look at it again.

    From here on it looks more rarely than Python's default has it, and at so few objects at a time that this takes a few milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 100)


async def retry(
    what: Callable[[], Awaitable[Any]], errors: type[Exception] | tuple[type[Exception], ...], attempts: int, backoff: Backoff
) -> Any:
    """Call until it works, at most `attempts` times; the last error is raised."""
    for attempt in range(1, attempts + 1):
        try:
            return await what()
        except errors:
            if attempt == attempts:
                raise
            await asyncio.sleep(backoff.next())
    raise AssertionError("attempts must be at least 1")
