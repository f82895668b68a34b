"""Reads container logs in the CRI format: `<time> stdout|stderr P|F <text>`, one entry a line; P marks a line that goes on.

Following waits for the file system to tell of new text (inotify), never by looking again and again. Files are read in threads.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from signal import SIGURG
from time import monotonic, sleep
from typing import NamedTuple

from minikube_py.kubelet import inotify
from minikube_py.kubelet.inotify import DirectoryWatch
from minikube_py.types.meta import parse_timestamp

_CHUNK = 64 * 1024
_LEASE_INTERVAL = 0.002


class LogOptions(NamedTuple):
    """v1.PodLogOptions, as far as it is about reading. `since` is in seconds since the epoch."""

    follow: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: float | None = None
    timestamps: bool = False
    stream: str = "All"


class Filter:
    """Turns raw entries into what the reader asked for; holds what an incomplete line left behind."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._rest = b""
        self._at_line_start = True
        self._left = options.limit_bytes
        self.full = options.limit_bytes == 0

    def feed(self, chunk: bytes) -> bytes:
        """The text of the entries that are complete now."""
        *entries, self._rest = (self._rest + chunk).split(b"\n")
        out = b"".join(self._text(entry) for entry in entries)
        if self._left is not None:
            out = out[: self._left]
            self._left -= len(out)
            self.full = self._left <= 0
        return out

    def _text(self, entry: bytes) -> bytes:
        parts = entry.split(b" ", 3)
        if len(parts) < 3:
            return b""
        time, stream, tags = parts[:3]
        text = parts[3] if len(parts) > 3 else b""
        options = self._options
        if options.stream != "All" and stream != options.stream.lower().encode():
            return b""
        if options.since is not None:
            try:
                if _seconds(time) < options.since:
                    return b""
            except ValueError:
                return b""
        prefix = time + b" " if options.timestamps and self._at_line_start else b""
        whole = tags.split(b":")[0] != b"P"
        self._at_line_start = whole
        return prefix + text + (b"\n" if whole else b"")


async def read(path: Path, options: LogOptions, running: Callable[[], bool], changed: Callable[[], asyncio.Event]) -> AsyncIterator[bytes]:
    """The log's text. With `follow` it goes on while `running()` says so; `changed()` gives an event that is set when that may change.

    Raises FileNotFoundError.
    """
    file = await asyncio.to_thread(open, path, "rb", 0)
    watch = DirectoryWatch(path.parent, inotify.GROWTH) if options.follow else None
    signal = changed() if options.follow else None
    try:
        if options.tail_lines is not None:
            file.seek(await asyncio.to_thread(tail_offset, path, options.tail_lines))
        kept = Filter(options)
        while not kept.full:
            was_running = running()
            chunk = await asyncio.to_thread(file.read, _CHUNK)
            if chunk:
                if text := kept.feed(chunk):
                    yield text
                continue
            if watch is None or signal is None:
                return
            if await asyncio.to_thread(_replaced, path, file.fileno()):
                file.close()
                file = await asyncio.to_thread(open, path, "rb", 0)
                continue
            if not was_running:
                return
            await _either(watch.changed, signal)
    finally:
        file.close()
        if watch is not None:
            watch.close()


def tail_offset(path: Path, lines: int) -> int:
    """Where the last so many entries of a file begin."""
    with open(path, "rb") as file:
        end = at = file.seek(0, os.SEEK_END)
        if lines <= 0:
            return end
        wanted = lines
        first = True
        while at > 0:
            start = max(0, at - _CHUNK)
            file.seek(start)
            block = file.read(at - start)
            if first:
                first = False
                if block.endswith(b"\n"):
                    wanted += 1
            position = len(block)
            while wanted and (position := block.rfind(b"\n", 0, position)) >= 0:
                wanted -= 1
                if wanted == 0:
                    return start + position + 1
            at = start
        return 0


def wait_whole(path: Path, seconds: float) -> bool:
    """Wait until nobody has the file open for writing. Blocking.

    A runtime tells of a container's end while the last lines may still be on their way to its log; it closes the log behind them. The
    kernel grants a read lease (fcntl(2), F_SETLEASE) only on a file without writers, which is the question asked here.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, SIGURG)  # the lease is given back at once; should it break, nothing ends of it
        end = monotonic() + seconds
        while not _unwritten(descriptor):
            if monotonic() > end:
                return False
            sleep(_LEASE_INTERVAL)
        return True
    finally:
        os.close(descriptor)


def _unwritten(descriptor: int) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return False
    except OSError:  # a file system without leases cannot tell
        return True
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def tail_text(path: Path, limit: int, lines: int) -> str:
    """The end of a log as text: at most so many lines and bytes."""
    try:
        offset = tail_offset(path, lines)
        with open(path, "rb") as file:
            file.seek(offset)
            text = Filter(LogOptions()).feed(file.read())
    except OSError:
        return ""
    return text[-limit:].decode("utf-8", "replace")


def _seconds(time: bytes) -> float:
    text = time.decode("ascii", "replace")
    whole, dot, rest = text.partition(".")
    if not dot:
        return parse_timestamp(text)
    digits = 0
    while digits < len(rest) and rest[digits].isdigit():
        digits += 1
    return parse_timestamp(whole + rest[digits:]) + float("0." + (rest[:digits] or "0"))


def _replaced(path: Path, descriptor: int) -> bool:
    """Whether the file was rotated away: another one has its name now."""
    try:
        return os.stat(path).st_ino != os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


async def _either(first: asyncio.Event, second: asyncio.Event) -> None:
    """Wait for one of the events, and clear both."""
    waits = [asyncio.ensure_future(event.wait()) for event in (first, second)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    first.clear()
    second.clear()


def remove_pod_logs(directory: Path, uid: str) -> None:
    """All logs of a pod, whatever it was called. Blocking."""
    for found in _children(directory):
        if found.endswith(f"_{uid}"):
            shutil.rmtree(directory / found, ignore_errors=True)


def remove_logs(path: Path) -> None:
    """A container's log and what was rotated of it. Blocking."""
    for found in _children(path.parent):
        if found == path.name or found.startswith(f"{path.name}."):
            (path.parent / found).unlink(missing_ok=True)


def _children(directory: Path) -> list[str]:
    """Names in a directory. Not glob, which keeps a compiled expression for every pattern."""
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
