"""That a write is on disk before it is acknowledged, seen from outside the process: the order of its system calls."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

_CALL = re.compile(r"^(?:\[pid +)?(\d+)\]? +(?:(<\.\.\. )?(\w+)(?:\(| resumed>))(.*)$")


def events(trace: str) -> list[tuple[str, str]]:
    """(what, which) in the order in which calls were over: 'sync' and 'write' of the write-ahead log, 'say' of a line on stdout."""
    found: list[tuple[str, str]] = []
    started: dict[tuple[str, str], str] = {}
    for line in trace.splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        pid, resumed, name, rest = match.groups()
        if "<unfinished ...>" in rest:
            started[pid, name] = rest
            if name == "write" and "<pipe:" in rest:
                # What is said counts from its beginning: whoever reads the pipe may have it before the call is over.
                found.append(("say", said(rest)))
            continue
        if resumed:
            rest = started.pop((pid, name), "") + rest
            if name == "write":
                continue
        if name in ("fdatasync", "fsync") and "log.db-wal>" in rest:
            assert rest.rstrip().endswith("= 0"), line
            found.append(("sync", ""))
        elif name == "pwrite64" and "log.db-wal>" in rest:
            found.append(("write", ""))
        elif name == "write" and "<pipe:" in rest:
            found.append(("say", said(rest)))
    return found


def said(rest: str) -> str:
    match = re.search(r'"((?:begin|done)-\w+-\d+|crowd)\\n"', rest)
    assert match is not None, rest
    return match.group(1)


def test_fdatasync_returns_before_each_acknowledgement(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-s", "64", "-e", "trace=fdatasync,fsync,pwrite64,write", "-o", str(trace)]
    command += [sys.executable, "-m", "tests.store.acknowledger", str(tmp_path / "data")]
    subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60)
    order = events(trace.read_text())
    calm, crowd = order[: order.index(("say", "crowd"))], order[order.index(("say", "crowd")) :]

    for number in range(20):
        between = window(calm, f"durable-{number}")
        assert ("write", "") in between
        assert between[-1] == ("sync", ""), f"write {number}: nothing may come between the sync and the acknowledgement"
    for number in range(1, 20):
        assert window(calm, f"relaxed-{number}") == [], "a relaxed write does not touch the disk"

    for number in range(100, 130):
        between = window(crowd, f"durable-{number}")
        assert ("sync", "") in between
        first_sync = between.index(("sync", ""))
        assert ("write", "") in between[:first_sync]
    syncs = sum(what == "sync" for what, _ in crowd)
    assert syncs <= 15, "thirty writers share their syncs"


def window(order: list[tuple[str, str]], name: str) -> list[tuple[str, str]]:
    """What happens between the beginning and the acknowledgement of one write."""
    return order[order.index(("say", f"begin-{name}")) + 1 : order.index(("say", f"done-{name}"))]
