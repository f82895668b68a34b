"""Transparent huge pages: not for this program, as the machine has it for what it starts for others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import Server, running

SCRIPT = """
import json, subprocess
from minikube_py import hugepages
def enabled(of):
    return next(line.split()[1] for line in of.splitlines() if line.startswith("THP_enabled"))
def both():
    return enabled(open("/proc/self/status").read()), enabled(subprocess.check_output(["cat", "/proc/self/status"], text=True))
seen = [both()]
hugepages.avoid()
seen.append(both())
with hugepages.left_to_children():
    seen.append(both())
seen.append(both())
print(json.dumps(seen))
"""


@pytest.mark.skipif("THP_enabled" not in Path("/proc/self/status").read_text(), reason="the kernel does not tell")
def test_they_are_avoided_and_left_to_children(tmp_path: Path) -> None:
    shown = subprocess.check_output([sys.executable, "-c", SCRIPT], text=True)
    assert json.loads(shown) == [["1", "1"], ["0", "0"], ["1", "1"], ["0", "0"]]
    with running(Server(tmp_path)) as server:
        assert server.process is not None
        assert "THP_enabled:\t0" in Path(f"/proc/{server.process.pid}/status").read_text()
