"""What the benchmarks count of a process tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scripts.bench import tree

CHILD = """
import os, sys, time
end = time.process_time() + 0.3
while time.process_time() < end: pass
ballast = bytearray(b"x") * (20 << 20)
with open(sys.argv[1], "wb") as file:
    file.write(b"x" * (1 << 20)); file.flush(); os.fsync(file.fileno())
for _ in range(20): time.sleep(0.001)
print("done", flush=True)
sys.stdin.read()
"""


def test_a_child_counts(tmp_path: Path) -> None:
    root = os.getpid()
    before = tree.usage(root)
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "file")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        after = tree.usage(root)
        memory = tree.memory(root)
        assert child.stdin is not None
        child.stdin.close()
    assert after.cpu - before.cpu >= 0.2
    assert after.wakeups - before.wakeups >= 20
    assert memory[child.pid] > 20 * tree.MIB
    assert tree.rates(before, after).cpu > 0
    assert child.pid not in tree.memory(root)
