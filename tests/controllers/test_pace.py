"""Looks at large objects: spread where they find nothing to do, at once where they lead to work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from minikube_py.aio import Health, SystemClock, cancel
from minikube_py.control import ControlLoop, Watch, WorkQueue
from minikube_py.controllers.base import Pace
from minikube_py.meta.errors import Forbidden
from tests.support.waiting import until


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def test_a_dear_look_is_not_repeated_at_once_unless_it_led_to_as_much_work() -> None:
    clock = _Clock()
    pace = Pace(clock)
    pace.took("small", 0.001)
    pace.took("idle", 0.05)
    pace.took("burst", 0.05, writes=500)
    pace.took("trickle", 0.05, writes=1)
    assert [round(pace.wait(key), 3) for key in ("small", "idle", "burst", "trickle")] == [0, 0.5, 0, 0.5]
    clock.now += 0.6
    assert pace.wait("idle") == 0


class _Refused:
    """Its looks are dear, and what they lead to is refused."""

    name = "refused"

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._pace = Pace(self._clock)
        self.looks: list[float] = []

    def watches(self) -> Sequence[Watch]:
        return ()

    async def reconcile(self, key: str) -> float | None:
        if wait := self._pace.wait(key):
            return wait
        self.looks.append(self._clock.monotonic())
        self._pace.took(key, 0.003)
        raise Forbidden("exceeded quota")


async def test_what_fails_comes_back_later_each_time_also_where_looks_are_paced() -> None:
    queue, reconciler = WorkQueue(), _Refused()
    queue.add("key")
    running = asyncio.create_task(ControlLoop(reconciler, 1, queue).run(Health()))
    await until(lambda: len(reconciler.looks) >= 8)
    await cancel(running)
    assert reconciler.looks[7] - reconciler.looks[6] > 0.2, "and not the 0.03 s of the pace"
