"""The work queue's promises, as a worker sees them."""

import asyncio

import pytest

from minikube_py.control import WorkQueue


async def take(queue: WorkQueue, timeout: float = 1.0) -> str:
    return await asyncio.wait_for(queue.get(), timeout)


async def nothing(queue: WorkQueue) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await take(queue, 0.02)


async def test_a_key_waits_once() -> None:
    queue = WorkQueue()
    queue.add("a")
    queue.add("a")
    assert await take(queue) == "a"
    queue.done("a")
    await nothing(queue)


async def test_a_key_that_is_worked_on_is_given_to_nobody_else_and_comes_again() -> None:
    queue = WorkQueue()
    queue.add("a")
    await take(queue)
    queue.add("a")
    await nothing(queue)
    queue.done("a")
    assert await take(queue) == "a"


async def test_failures_come_back_later_each_time_and_forget_starts_over() -> None:
    queue = WorkQueue(first_backoff=0.01)
    loop = asyncio.get_running_loop()
    for least in (0.01, 0.02, 0.04, 0.08, 0.16, 0.32):
        before = loop.time()
        queue.retry("a")
        await take(queue)
        queue.done("a")
        assert loop.time() - before > least * 0.9
    queue.forget("a")
    before = loop.time()
    queue.retry("a")
    await take(queue)
    assert loop.time() - before < 0.64


async def test_of_several_delays_the_earliest_counts() -> None:
    queue = WorkQueue()
    queue.add_after("a", 5)
    queue.add_after("a", 0.01)
    queue.add_after("a", 10)
    assert await take(queue) == "a"
    queue.done("a")
    await nothing(queue)
    queue.close()


async def test_a_cancelled_worker_loses_no_key() -> None:
    queue = WorkQueue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "a"


async def test_many_workers_share_the_keys() -> None:
    queue = WorkQueue()
    seen: list[str] = []

    async def work() -> None:
        while True:
            key = await queue.get()
            seen.append(key)
            await asyncio.sleep(0)
            queue.done(key)

    workers = [asyncio.create_task(work()) for _ in range(5)]
    for i in range(100):
        queue.add(str(i))
    await asyncio.sleep(0.05)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert sorted(seen, key=int) == [str(i) for i in range(100)]
