"""The units in systemd/: systemd finds nothing wrong with them, and what a service tells it arrives."""

from __future__ import annotations

import configparser
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from minikube_py.cli.main import main
from minikube_py.systemd import notify
from tests.support.server import Server

UNITS = sorted((Path(__file__).parents[2] / "systemd").glob("*.service"))


def service(unit: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return dict(parser["Service"])


def test_there_is_one_for_the_server_and_one_for_the_agent() -> None:
    assert [unit.name for unit in UNITS] == ["minikube-py-agent.service", "minikube-py.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_starts_a_command_that_there_is_and_leaves_pods_alone(unit: Path) -> None:
    settings = service(unit)
    program, command = shlex.split(settings["ExecStart"])
    assert program == "/opt/minikube-py/bin/minikube-py" and command in main.commands
    stop = settings["ExecStop"]
    assert "minikube-py/bin/minikube-py shutdown" in stop and "shutdown" in main.commands
    assert (settings["Type"], settings["KillMode"], settings["Delegate"]) == ("notify", "process", "yes")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_accepts_it(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/minikube-py/bin/minikube-py", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if unit.stem in line]
    assert done.returncode == 0 and complaints == [], done.stderr
    copy.write_text(copy.read_text().replace("KillMode=process", "KilMode=process"))
    wrong = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    assert "KilMode" in wrong.stderr, "this check finds nothing"


@pytest.mark.parametrize("abstract", [False, True])
def test_what_is_notified_arrives(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"minikube-py-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", ("@" if abstract else "") + name)
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


def test_a_server_says_that_it_is_ready_when_it_is(tmp_path: Path) -> None:
    server = Server(tmp_path, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        server.start()
        try:
            assert manager.recv(100) == b"READY=1"
            assert server.is_ready()
        finally:
            server.stop()
        assert manager.recv(100) == b"STOPPING=1"
