"""What the program asks of the kernel for itself: it has it, and what it starts for others has the machine's defaults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import Server, running

SCRIPT = """
import json, subprocess, sys, threading
from minikube_py import ownprocess
LOOK = '''
import os
status = open("/proc/self/status").read()
print([line.split()[1] for line in status.splitlines() if line.startswith("THP_enabled")], os.getpriority(os.PRIO_PROCESS, 0))
'''
def of_child():
    return subprocess.check_output([sys.executable, "-c", LOOK], text=True, start_new_session=True).strip()
def of_thread():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(of_child()))
    thread.start()
    thread.join()
    return seen[0]
seen = [of_child()]
ownprocess.settle()
seen.append(of_child())
seen.append(of_thread())
with ownprocess.left_to_children():
    seen.append(of_child())
seen.append(of_child())
print(json.dumps(seen))
"""

SMALL = """
import asyncio, gc, weakref
from minikube_py import ownprocess
def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
class Node:
    pass
async def main():
    ownprocess._TIDY_SECONDS = 0.2
    keeping = asyncio.create_task(ownprocess.keep_small())
    await asyncio.sleep(0)
    before = resident()
    blocks = [bytes(2000) for _ in range(40_000)]
    kept = blocks[::400]
    node = Node()
    node.itself, node.large = node, blocks
    known = weakref.ref(node)
    del node, blocks
    most = resident()
    await asyncio.sleep(0.5)
    print(known() is None, (most - before) // 1024 > 60, (resident() - before) // 1024 < 20)
asyncio.run(main())
"""

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may ask for priority")


def looks(*before: str, niceness: int = 0) -> list[str]:
    """What children of a process of that niceness show: before, after, from a thread, within the context, after it."""
    given = ["nice", "-n", str(niceness - os.getpriority(os.PRIO_PROCESS, 0))]
    shown: list[str] = json.loads(subprocess.check_output([*given, *before, sys.executable, "-c", SCRIPT], text=True))
    return shown


@root
@pytest.mark.skipif("THP_enabled" not in Path("/proc/self/status").read_text(), reason="the kernel does not tell")
def test_it_is_inherited_and_kept_from_those_started_for_others() -> None:
    defaults, own = "['1'] 0", "['0'] -10"
    assert looks() == [defaults, own, own, defaults, own]


@root
def test_a_priority_that_was_given_is_kept() -> None:
    assert [shown.split()[1] for shown in looks(niceness=5)] == ["5"] * 5
    assert [shown.split()[1] for shown in looks(niceness=-3)] == ["-3", "-3", "-3", "0", "-3"]


def test_what_is_not_used_any_more_is_given_back() -> None:
    assert subprocess.check_output([sys.executable, "-c", SMALL], text=True).split() == ["True"] * 3


@root
def test_a_server_goes_before_its_workloads_and_dies_after_them(tmp_path: Path) -> None:
    with running(Server(tmp_path)) as server:
        assert server.process is not None
        own = Path(f"/proc/{server.process.pid}")
        wanted = os.getpriority(os.PRIO_PROCESS, 0) or -10
        assert {os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in (own / "task").iterdir()} == {wanted}
        of_this_machine = "{ echo -999 > /proc/self/oom_score_adj; } 2>&-; cat /proc/self/oom_score_adj"
        assert (own / "oom_score_adj").read_text() == subprocess.check_output(["bash", "-c", of_this_machine], text=True)


def test_without_the_right_to_it_nothing_changes() -> None:
    without = [] if os.geteuid() else ["setpriv", "--bounding-set=-sys_nice,-sys_resource", "--inh-caps=-sys_nice,-sys_resource"]
    assert [shown.split()[1] for shown in looks(*without)] == ["0"] * 5
