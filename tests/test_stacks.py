"""What is said of tasks and threads that wait, and the end of a process that does not end by itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator

from minikube_py import stacks
from minikube_py.aio import cancel


async def test_the_chain_of_what_a_task_awaits_is_told() -> None:
    never = asyncio.Event()

    async def innermost() -> None:
        await never.wait()

    async def events() -> AsyncIterator[int]:
        await innermost()
        yield 1

    async def outermost() -> None:
        async for _ in events():
            pass

    task = asyncio.create_task(outermost(), name="waits for ever")
    await asyncio.sleep(0)
    paragraph = next(text for text in stacks.report(asyncio.get_running_loop()).split("\n\n") if text.startswith("task waits for ever"))
    names = [line.rpartition(".")[2] for line in paragraph.splitlines() if " in " in line]
    assert names[:4] == ["outermost", "events", "innermost", "wait"], paragraph
    await cancel(task)


async def test_threads_are_told() -> None:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, name="waits too")
    thread.start()
    try:
        assert "thread waits too\n" in stacks.report(asyncio.get_running_loop())
    finally:
        ended.set()
        thread.join()


def test_an_end_that_takes_too_long_is_cut_short_and_told() -> None:
    program = """
import asyncio, time
from minikube_py import stacks
async def main():
    stacks.end_within(0.5, asyncio.get_running_loop())
    async def forever():
        try: await asyncio.Event().wait()
        finally: await asyncio.Event().wait()
    task = asyncio.create_task(forever(), name="clings")
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.to_thread(time.sleep, 60)
asyncio.run(main())
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert time.monotonic() - began < 15
    assert done.returncode == 1
    assert "task clings" in done.stderr
    assert "not ended within" in done.stderr
