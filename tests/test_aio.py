"""Supervision: a component that fails comes back, and is said to be degraded meanwhile."""

import asyncio
import time

import pytest

from minikube_py import aio
from minikube_py.aio import Backoff, Health, LagProbe, Supervisor, Tasks, Turns, cancel, wait_at_most


def test_backoff_doubles_up_to_its_limit_and_starts_over() -> None:
    backoff = Backoff(first=1, limit=5, random_=lambda: 0)
    assert [backoff.next() for _ in range(4)] == [1, 2, 4, 5]
    backoff.reset()
    assert backoff.next() == 1


async def test_an_event_is_waited_for_so_long_and_a_cancellation_is_never_lost() -> None:
    event = asyncio.Event()
    assert not await wait_at_most(event, 0.01)
    asyncio.get_running_loop().call_soon(event.set)
    assert await wait_at_most(event, None)
    event.clear()
    waiting = asyncio.create_task(wait_at_most(event, 10))
    await asyncio.sleep(0)
    event.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_failed_component_is_degraded_and_restarted() -> None:
    supervisor = Supervisor()
    runs = 0

    async def flaky(health: Health) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("no")
        health.well()
        await asyncio.Event().wait()

    health = supervisor.start("flaky", flaky)
    await asyncio.sleep(0.05)
    assert health.problem == "RuntimeError: no"
    await asyncio.wait_for(health.ready.wait(), 2)
    assert (health.problem, health.restarts) == ("", 1)
    await supervisor.close()


async def test_closing_ends_every_component() -> None:
    supervisor = Supervisor()
    ended = []

    def component(name: str):  # type: ignore[no-untyped-def]
        async def run(health: Health) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(name)

        return run

    supervisor.start("a", component("a"))
    supervisor.start("b", component("b"))
    await asyncio.sleep(0)
    await supervisor.close()
    assert ended == ["b", "a"]


async def test_a_task_that_fails_is_logged_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()

    async def fail() -> None:
        raise RuntimeError("no")

    tasks.spawn(fail(), "worker 7")
    await asyncio.sleep(0.01)
    assert len(tasks) == 0
    assert caplog.records[0].__dict__["task"] == "worker 7"


def test_the_lag_probe_gives_percentiles() -> None:
    probe = LagProbe()
    for _ in range(99):
        probe.record(0.0005)
    probe.record(0.3)
    assert probe.percentile(0.5) == 0.001
    assert probe.percentile(0.999) == 0.3


def test_waiting_for_a_processor_is_lag_and_no_blocked_loop() -> None:
    probe = LagProbe()
    probe.record(0.3, 0.2)
    probe.record(-0.001)
    assert probe.worst == 0.3 and probe.blocked == pytest.approx(0.1) and probe.total == 0.3


async def test_the_lag_probe_sees_a_blocked_loop() -> None:
    probe, tasks = LagProbe(0.02), Tasks()
    tasks.spawn(probe.run(), "probe")
    await asyncio.sleep(0.05)
    time.sleep(0.15)  # noqa: ASYNC251 - the loop is to be blocked
    await asyncio.sleep(0.05)
    assert probe.worst > 0.1
    await tasks.close()


async def test_the_lag_probe_rests_with_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio, "_RESTING", 0.2)  # a machine that has reclaimed memory takes some percent for waking up alone
    probe, restless, tasks = LagProbe(0.04, resting=0.2), LagProbe(0.04), Tasks()
    tasks.spawn(probe.run(), "probe")
    tasks.spawn(restless.run(), "restless probe")
    await asyncio.sleep(1)
    assert 3 <= sum(probe.counts) < sum(restless.counts)
    await tasks.close()


async def test_a_cancellation_that_comes_while_another_task_is_ended_is_not_lost() -> None:
    ending, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await go_on.wait()

    async def component() -> None:
        child = asyncio.create_task(slow())
        await asyncio.sleep(0)
        await cancel(child)
        assert child.done(), "it has ended first"
        await asyncio.Event().wait()

    task = asyncio.create_task(component())
    await ending.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done(), "what is ended is waited for"
    go_on.set()
    await asyncio.wait((task,), timeout=2)
    assert task.cancelled()


async def test_what_a_cancelled_task_raises_is_its_own_affair() -> None:
    async def fails() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await cancel(task)
    assert isinstance(task.exception(), ValueError)


async def test_a_crowd_goes_on_a_few_in_each_round_of_the_loop_and_in_order() -> None:
    turns, passed = Turns(at_once=3), []

    async def one(number: int) -> None:
        await turns.take()
        passed.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(10)]
    seen = []
    while len(passed) < 9:
        await asyncio.sleep(0)
        seen.append(len(passed))
        if len(seen) == 1:
            tasks[4].cancel()
    assert passed == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert all(after - before <= 3 for before, after in zip([0, *seen], seen, strict=False))


async def test_those_who_work_long_go_on_one_in_each_round_and_in_order() -> None:
    turns, passed = Turns(at_once=4, seconds=0.001), []

    async def one(number: int) -> None:
        await turns.take()
        passed.append(number)
        time.sleep(0.002)  # noqa: ASYNC251 - what holds the loop is the point

    tasks = [asyncio.create_task(one(number)) for number in range(10)]
    seen = []
    while len(passed) < 10:
        await asyncio.sleep(0)
        seen.append(len(passed))
    assert passed == list(range(10)) and all(task.done() for task in tasks)
    assert all(after - before <= 1 for before, after in zip([0, *seen], seen, strict=False))


async def test_who_was_made_late_goes_on_before_those_who_come_afterwards() -> None:
    turns, passed = Turns(at_once=4, seconds=0.001), []

    async def one(name: str) -> None:
        await turns.take()
        passed.append(name)
        time.sleep(0.002)  # noqa: ASYNC251 - what holds the loop is the point

    tasks = [asyncio.create_task(one("first")), asyncio.create_task(one("late"))]
    for _ in range(20):
        # one more in each round, as requests of others do
        tasks.append(asyncio.create_task(one("newcomer")))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert passed.index("late") <= 2


async def test_who_is_cancelled_in_the_moment_of_being_woken_holds_nobody_up() -> None:
    turns, passed = Turns(at_once=1), []

    async def one(number: int) -> None:
        await turns.take()
        passed.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(4)]
    asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(tasks[1].cancel))
    await asyncio.wait(tasks)
    assert tasks[1].cancelled()
    await one(4)
    assert passed == [0, 2, 3, 4]
