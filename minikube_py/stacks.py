"""Where every task and thread of the process is right now: SIGUSR1 has it logged, for the process that serves on but waits somewhere. So
does an end that takes too long, which is then cut short.

A suspended coroutine knows only its own frame, so the chain of what it awaits is followed; the last line is where a task waits.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType
from typing import Any

log = logging.getLogger(__name__)

STOP_SECONDS = 8.0
"""What an end may take: its steps are made to need five at most."""


def log_on_signal(loop: asyncio.AbstractEventLoop) -> None:
    """Log them whenever SIGUSR1 comes."""
    loop.add_signal_handler(signal.SIGUSR1, lambda: log.warning("tasks and threads, as asked by SIGUSR1\n%s", report(loop)))


def end_within(seconds: float, loop: asyncio.AbstractEventLoop) -> None:
    """The process ends after so many seconds at the latest, with status 1, whatever its tasks and threads still wait for: nothing is lost
    by that which a power cut would not lose too."""

    def cut_short() -> None:
        time.sleep(seconds)
        log.error("not ended within %.0f s, cut short\n%s", seconds, report(loop))
        os._exit(1)

    threading.Thread(target=cut_short, name="end", daemon=True).start()


def report(loop: asyncio.AbstractEventLoop) -> str:
    """All tasks of a loop, then all other threads, a paragraph each."""
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    paragraphs = ["\n".join((f"task {task.get_name()}", *_awaits(task.get_coro()))) for task in tasks]
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            lines = (f"  {_place(part.filename, part.lineno)} in {part.name}" for part in traceback.extract_stack(frame))
            paragraphs.append("\n".join((f"thread {names.get(ident, ident)}", *lines)))
    return "\n\n".join(paragraphs)


def _awaits(awaited: Any) -> Iterator[str]:
    """The frames of a coroutine (or generator, or one that is asynchronous) and of what it awaits, outermost first."""
    while awaited is not None:
        for kind in ("cr", "gi", "ag"):
            code: CodeType | None = getattr(awaited, f"{kind}_code", None)
            if code is not None:
                frame = getattr(awaited, f"{kind}_frame")
                yield f"  {_place(code.co_filename, frame.f_lineno if frame is not None else None)} in {code.co_qualname}"
                awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:
            # a step of an asynchronous generator does not say of which
            generator = next((held for held in gc.get_referents(awaited) if isinstance(held, AsyncGeneratorType | CoroutineType)), None)
            if generator is None:
                yield f"  {awaited!r}"
            awaited = generator


def _place(file: str, line: int | None) -> str:
    return f"{'/'.join(file.rsplit('/', 3)[1:])}:{line}"
