"""What this process asks of the kernel for itself, and does not pass on to the programs that it starts for others.

Processor time before the pods': a control plane that waits behind its workloads answers late, and its node stops saying that it is alive
just when somebody needs to look. It needs little, so that they lose little. To be the last that goes when memory is out, as kubelet is.

No transparent huge pages: where the machine's default is `always`, the kernel backs every heap with pages of 2 MiB, and an interpreter's,
which is full of small holes, takes a fifth more memory for it.

All of that is inherited by threads and children. Who has set another priority or score already, by a unit's settings say, keeps it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from minikube_py.meta.expfmt import Family, Sample

_PR_SET_THP_DISABLE, _PR_GET_THP_DISABLE = 41, 42

_NICE = -10
_OOM_SCORE_ADJUST = -999
"""The kubelet's `--oom-score-adj`."""
_TIDY_SECONDS = 60.0


def settle() -> None:
    """Ask for it, before any thread is started. What the process has no right to or the kernel no notion of is left as it is."""
    _disable_huge_pages(1)
    _adjust_oom_score()
    if _niceness() == 0:
        _be_nice(_NICE)
        _lift_session()


async def keep_small() -> None:
    """Every minute, let go of the memory that nobody uses, until cancelled.

    The interpreter looks for cycles when it has many new objects, however large a few are: connections and pipes that have ended would be
    kept for hours. The C library keeps what was freed for the next time, which after a burst may be half of all."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    while True:
        await asyncio.sleep(_TIDY_SECONDS)
        gc.collect(1)
        if trim is not None:
            trim(0)


def metrics() -> Iterator[Family]:
    """What every Prometheus client library tells of its process."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    booted = next(float(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    cpu, started = (int(fields[11]) + int(fields[12])) / ticks, booted + int(fields[19]) / ticks
    yield Family("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", [Sample(cpu)])
    yield Family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", [Sample(int(fields[21]) * page)])
    yield Family("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", [Sample(int(fields[20]))])
    yield Family("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", [Sample(started)])
    yield Family("process_open_fds", "gauge", "Number of open file descriptors.", [Sample(len(os.listdir("/proc/self/fd")))])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield Family("process_max_fds", "gauge", "Maximum number of open file descriptors.", [Sample(most)])


@contextlib.contextmanager
def left_to_children() -> Iterator[None]:
    """What this thread starts within this context, in a session of its own, has the machine's defaults for pages and processor time."""
    disabled, niceness = ctypes.CDLL(None).prctl(_PR_GET_THP_DISABLE, 0, 0, 0, 0), _niceness()
    _disable_huge_pages(0)
    _be_nice(max(niceness, 0))
    try:
        yield
    finally:
        _be_nice(niceness)
        _disable_huge_pages(max(disabled, 0))


def _disable_huge_pages(disabled: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, disabled, 0, 0, 0)


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def _be_nice(niceness: int) -> None:
    """Of the calling thread alone."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)


def _lift_session() -> None:
    """Where the kernel shares processors out by session, as it does outside of cgroups, a process's priority counts within its own only."""
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(_NICE))


def _adjust_oom_score() -> None:
    with contextlib.suppress(OSError):
        own = Path("/proc/self/oom_score_adj")
        if int(own.read_text()) == 0:
            own.write_text(str(_OOM_SCORE_ADJUST))
