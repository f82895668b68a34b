"""Our ends of the FIFOs on which a container's process has its standard streams, read and written on the loop.

Nothing here blocks: a read waits until the kernel says that there is something, a write until there is room, and who does not read holds up
who writes. That an output's FIFO has no writer yet is no end of it: the end is told only after there was one. Every read and every wait for
room gives the loop a turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

_CAPACITY: Final = 256 * 1024
"""Twice as fast as with the usual 64 KiB."""
_PIECE: Final = 64 * 1024
_LOOK_AGAIN: Final = 0.002


class Outputs:
    """The reading ends of several FIFOs, by a number each."""

    def __init__(self, paths: Mapping[int, Path]) -> None:
        """Open the FIFOs. Raises OSError."""
        self._ends: dict[int, int] = {}
        self._news: asyncio.Future[None] | None = None
        try:
            for number, path in paths.items():
                self._ends[number] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                _widen(self._ends[number])
        except OSError:
            self.close()
            raise

    async def read(self) -> AsyncIterator[tuple[int, bytes]]:
        """(number, bytes) as they come, until every FIFO has ended, or `close`."""
        while self._ends:
            for number in await self._ready():
                if (end := self._ends.get(number)) is None:
                    continue
                try:
                    data = os.read(end, _PIECE)
                except BlockingIOError:
                    continue
                if data:
                    yield number, data
                else:
                    del self._ends[number]
                    os.close(end)

    async def _ready(self) -> list[int]:
        """The FIFOs in which there is something, or that have ended."""
        loop = asyncio.get_running_loop()
        self._news = news = loop.create_future()
        found: dict[int, None] = {}

        def ready(number: int) -> None:
            found[number] = None
            if not news.done():
                news.set_result(None)

        for number, end in self._ends.items():
            loop.add_reader(end, ready, number)
        try:
            await news
        finally:
            for end in self._ends.values():
                loop.remove_reader(end)
        return list(found)

    def close(self) -> None:
        """Close what is open; who reads is told the end."""
        ends, self._ends = self._ends, {}
        for end in ends.values():
            if self._news is not None:
                self._news.get_loop().remove_reader(end)
            os.close(end)
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class Input:
    """The writing end of a FIFO, once somebody has opened it for reading."""

    def __init__(self, end: int) -> None:
        self._end = end

    @classmethod
    async def open(cls, path: Path) -> Input:
        """Wait until the FIFO has a reader. Raises OSError where it cannot be opened."""
        while True:
            try:
                made = cls(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                await asyncio.sleep(_LOOK_AGAIN)
            else:
                _widen(made._end)
                return made

    async def write(self, data: bytes) -> None:
        """Write all of it, as there is room. Raises BrokenPipeError once nobody reads any more."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._end, left) :]
            except BlockingIOError:
                await self._room()

    async def _room(self) -> None:
        loop = asyncio.get_running_loop()
        news: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._end, lambda: None if news.done() else news.set_result(None))
        try:
            await news
        finally:
            loop.remove_writer(self._end)

    def close(self) -> None:
        """Close it. Nobody may be writing."""
        if self._end >= 0:
            os.close(self._end)
            self._end = -1


def _widen(end: int) -> None:
    with contextlib.suppress(OSError):  # a kernel may allow less
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _CAPACITY)
