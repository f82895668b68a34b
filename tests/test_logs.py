"""Log lines on the systemd journal's stream bear their priority; elsewhere they are what they were."""

from __future__ import annotations

import subprocess
import sys
import tempfile

LINES = """
import logging, os
from minikube_py.logs import configure
if os.environ.get("WITH"):
    found = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
configure("info", os.environ["STYLE"])
logging.getLogger("minikube_py.x").warning("careful", extra={"n": 1})
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("minikube_py.x").exception("broken")
"""


def logged(style: str, **environment: str) -> list[str]:
    with tempfile.TemporaryFile("w+") as output:
        subprocess.run([sys.executable, "-c", LINES], check=True, stderr=output, env={"STYLE": style, **environment}, timeout=30)
        output.seek(0)
        return output.read().splitlines()


def test_every_line_for_the_journal_begins_with_its_priority() -> None:
    careful, broken, *rest = logged("text", WITH="1")
    assert careful.startswith("<4>2") and careful.endswith("Z WARNING x: careful n=1")
    assert broken.startswith("<3>") and rest and all(line.startswith("<3>") for line in rest)
    assert logged("json", WITH="1")[0].startswith('<4>{"time"')


def test_a_stream_that_is_not_the_journals_gets_none() -> None:
    assert not any(line.startswith("<") for line in (*logged("text"), *logged("text", JOURNAL_STREAM="8:1")))
