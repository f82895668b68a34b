"""What is open for a reader of the node's logs is closed, whenever he goes away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

from aiohttp.test_utils import make_mocked_request

from minikube_py.aio import cancel
from minikube_py.kubelet import nodelogs


def opened(directory: Path) -> int:
    """How many descriptors of this process name what lies there."""
    count = 0
    for entry in os.scandir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(entry.path).startswith(str(directory))
    return count


def hold_until_opened(directory: Path) -> None:
    """Until another thread has something open there; the loop does not hear of it yet."""
    deadline = time.monotonic() + 0.2
    while not opened(directory):
        assert time.monotonic() < deadline
        time.sleep(0.001)


async def test_nothing_stays_open_when_the_reader_goes_while_the_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("line\n")
    reading = asyncio.create_task(nodelogs.serve(make_mocked_request("GET", "/logs/log"), tmp_path))
    for _ in range(3):
        await asyncio.sleep(0)
    hold_until_opened(tmp_path)
    await cancel(reading)
    await asyncio.sleep(0.05)
    assert opened(tmp_path) == 0
