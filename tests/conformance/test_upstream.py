"""Upstream's own tests, those that have passed before and are quick: one that does not pass any more fails here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.build import NoToolchain, toolchain

ROOT = Path(__file__).parents[2]
_BUILD_AND_RUN = 2400


@pytest.mark.cluster
@pytest.mark.timeout(_BUILD_AND_RUN)
def test_what_has_passed_passes(tmp_path: Path) -> None:
    try:
        toolchain()
    except NoToolchain as error:
        pytest.skip(str(error))
    subprocess.run(["scripts/packages", "conformance"], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "tests.conformance", "--ci", "--procs", "4"]
    command += ["--report", str(tmp_path / "report.md"), "--logs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
