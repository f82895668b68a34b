"""What scripts/quickstart and scripts/packages do before anything of the package runs, with stand-ins for apt, dpkg and Python."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root only")


def script(name: str, *arguments: str, programs: Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script with `programs` before all others on PATH."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("MINIKUBE_PY_")}
    found |= {"PATH": f"{programs}:{os.environ['PATH']}", **(environment or {})}
    return subprocess.run([str(ROOT / "scripts" / name), *arguments], env=found, capture_output=True, text=True, timeout=30, check=False)


def program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A machine on which no package is installed, and an apt that notes what it is asked for. Who asks is root."""
    program(tmp_path, "dpkg-query", "exit 1")
    program(tmp_path, "id", "echo 0")
    program(tmp_path, "apt-get", f'echo "$@" >>{tmp_path}/asked')
    program(tmp_path, "containerd", "exit 0")
    program(tmp_path, "runc", "exit 0")
    return tmp_path


def test_a_containerd_of_another_origin_is_kept_and_nothing_is_ever_removed(programs: Path) -> None:
    if os.geteuid() != 0 and not Path("/usr/sbin/policy-rc.d").exists():
        pytest.skip("keeps services from starting, which only root can")
    done = script("packages", "node", programs=programs)
    assert (done.returncode, done.stderr) == (0, "")
    install = (programs / "asked").read_text().splitlines()[-1].split()
    assert "--no-remove" in install and "iptables" in install
    assert not {"containerd", "runc"} & set(install)


@as_root
def test_what_apt_says_is_one_line(programs: Path) -> None:
    policy = Path("/usr/sbin/policy-rc.d").exists()
    program(programs, "apt-get", "[ $1 = update ] || { echo 'W: one'; echo 'E: no such thing' >&2; echo 'E: again'; exit 100; }")
    done = script("packages", "node", programs=programs)
    assert done.returncode == 1
    assert done.stderr.startswith("scripts/packages: apt-get install ") and done.stderr.endswith(" failed: E: no such thing\n")
    assert Path("/usr/sbin/policy-rc.d").exists() == policy


def test_who_is_not_root_is_told_what_is_missing(programs: Path) -> None:
    program(programs, "id", "echo 1000")
    done = script("packages", "node", programs=programs)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "only root can install them: apt-get install containernetworking-plugins" in done.stderr
    done = script("quickstart", programs=programs)
    assert (done.returncode, done.stderr) == (1, "quickstart: a node needs root: run it with sudo\n")


def test_too_old_a_python_is_said_before_anything_is_installed(programs: Path, tmp_path: Path) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        program(programs, name, '[ "$1" = --version ] && echo Python 3.9.2 || exit 1')
    done = script("quickstart", programs=programs, environment={"MINIKUBE_PY_DATA_DIR": str(tmp_path / "data")})
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("quickstart: Python 3.11 or newer is needed") and done.stderr.endswith("here is Python 3.9.2\n")
    assert not (programs / "asked").exists() and not (tmp_path / "data").exists()


def test_stop_without_a_cluster_has_nothing_to_do(programs: Path, tmp_path: Path) -> None:
    done = script("quickstart", "--stop", programs=programs, environment={"MINIKUBE_PY_DATA_DIR": str(tmp_path / "data")})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nothing to stop")


def test_an_argument_that_there_is_not_is_wrong_usage(programs: Path) -> None:
    done = script("quickstart", "--halt", programs=programs)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1


def test_what_a_build_leaves_in_the_tree_does_not_make_the_second_run_install_again() -> None:
    artifacts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["artifacts"]
    text = (ROOT / "scripts" / "quickstart").read_text()
    assert [pattern for pattern in artifacts if f"-not -path '{pattern}'" not in text] == []
