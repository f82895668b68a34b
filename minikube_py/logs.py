"""Logging: one line a record, to standard error, as text or JSON; constant messages with key=value pairs after them.

The standard library's logging does it all; what a caller passes as `extra` becomes the pairs. Where standard error is the journal's, every
line begins with its priority, which the journal takes off again: so `journalctl -p warning` finds what it should.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _when(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """2026-01-01T00:00:00.000Z INFO kubelet.worker: pod started pod=default/web"""

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("minikube_py.")
        pairs = "".join(f" {key}={_quoted(value)}" for key, value in _extras(record).items())
        line = f"{_when(record)} {record.levelname} {name}: {record.getMessage()}{pairs}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """The same as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _when(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(_extras(record))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class JournalFormatter(logging.Formatter):
    """What another formatter makes, with syslog's priority before each line."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in self._inner.format(record).split("\n"))


def to_journal(descriptor: int = 2) -> bool:
    """Whether a descriptor is the stream to the journal that systemd has opened for this process."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text) if not text or any(c in text for c in ' "=\n\t') else text


def configure(level: str, style: str) -> None:
    """Send every logger's records to standard error. `level` is a key of LEVELS, `style` "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = JsonFormatter() if style == "json" else TextFormatter()
    handler.setFormatter(JournalFormatter(formatter) if to_journal() else formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    for noisy in ("aiohttp.access", "aiosqlite", "asyncio"):
        logging.getLogger(noisy).setLevel(max(LEVELS[level], logging.WARNING))
