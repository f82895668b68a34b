"""scripts/quickstart as a user runs it, on a machine of its own: up, again, down to nothing, and up again with the same data."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kubectl import kubectl
from tests.support.lan import Lan
from tests.support.machine import Machine, machine
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = ("env", f"MINIKUBE_PY_VENV={sys.prefix}", f"PYTHONPATH={ROOT}")


@pytest.fixture
def host() -> Iterator[Machine]:
    with Lan() as lan, machine(lan, "fresh") as made:
        yield made


def quickstart(host: Machine, *arguments: str) -> str:
    done = host.run(*ENVIRONMENT, str(ROOT / "scripts" / "quickstart"), *arguments, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + _log(host)
    assert done.stderr == ""
    return done.stdout


def _log(host: Machine) -> str:
    log = host.inside("/var/lib/minikube-py/server.log")
    return log.read_text()[-3000:] if log.exists() else ""


def _pids(host: Machine) -> set[str]:
    """The processes of the server, containerd and the demo's pods that stay: a web server's child for one request does not."""

    def now() -> set[str]:
        return set(host.run("pgrep", "-f", "minikube_py server|containerd --config|httpd").stdout.split())

    first = now()
    time.sleep(1)
    return first & now()


def _left(before: dict[str, str], after: dict[str, str]) -> dict[str, list[str]]:
    """The lines that are new, by what they are."""
    new = {name: sorted(set(after[name].splitlines()) - set(before[name].splitlines())) for name in before}
    return {name: lines for name, lines in new.items() if lines}


def _state(host: Machine) -> dict[str, str]:
    """Everything that a node could leave behind."""
    commands = {
        "processes": "ps -eo comm= | grep -vE '^(sh|sleep|ps|grep|sort|sed)$' | sort",
        "mounts": r"sed -E 's/^[0-9]+ [0-9]+ //' /proc/self/mountinfo | sort",
        "cgroups": "find /sys/fs/cgroup -type d | sort",
        "links": "ip -o link | sed -E 's/^[0-9]+: //' | sort",
        "routes": "ip -4 route show table all | sort",
        "rules": "iptables-legacy-save | grep -E '^-A|^:[A-Z-]+ -' ; iptables-nft-save | grep -E '^-A|^:[A-Z-]+ -'",
        "namespaces": "ls /run/netns 2>/dev/null",
        "sockets": "find /run -type s | sort",
    }
    return {name: host.run("sh", "-c", command, check=False).stdout for name, command in commands.items()}


def test_up_again_down_and_up_with_the_same_data(host: Machine) -> None:
    before = _state(host)

    first = quickstart(host)
    assert len(re.findall(r"^ +hello from hello-", first, re.MULTILINE)) == 3, first
    assert "export KUBECONFIG=/etc/minikube-py/kubeconfig.yaml" in first
    pids = _pids(host)
    assert len(pids) >= 4

    second = quickstart(host)
    assert len(re.findall(r"^ +hello from hello-", second, re.MULTILINE)) == 3, second
    assert _pids(host) == pids, "a second run starts nothing anew"

    client = (str(kubectl()), "--kubeconfig=/etc/minikube-py/kubeconfig.yaml")
    host.run(*client, "scale", "deployment/hello", "--replicas=1")
    quickstart(host)
    assert host.run(*client, "get", "deployment/hello", "-o", "jsonpath={.spec.replicas}").stdout == "1", "it is as large as the user wants"

    quickstart(host, "--stop")
    assert _left(before, _state(host)) == {}
    quickstart(host, "--stop")

    third = quickstart(host)
    assert len(re.findall(r"^ +hello from hello-", third, re.MULTILINE)) == 3, third
    quickstart(host, "--stop")
    assert _left(before, _state(host)) == {}


def test_a_server_that_cannot_start_says_why(host: Machine) -> None:
    done = host.run(*ENVIRONMENT, "MINIKUBE_PY_SERVICE_CIDR=nonsense", str(ROOT / "scripts" / "quickstart"), timeout=60, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"quickstart: the server has ended: --service-cidr must be .*\n", done.stderr)


def test_a_port_in_use_is_said_soon_even_when_who_listens_is_silent(host: Machine) -> None:
    listen = "import socket, time; s = socket.create_server(('0.0.0.0', 6443)); print(flush=True); time.sleep(60)"
    host.start(sys.executable, "-c", listen, log=host.directory / "listener.log")
    asyncio.run(until((host.directory / "listener.log").read_text))
    began = time.monotonic()
    done = host.run(*ENVIRONMENT, str(ROOT / "scripts" / "quickstart"), timeout=60, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"quickstart: the server has ended: port 6443 is in use: .*\n", done.stderr)
    assert time.monotonic() - began < 20


def test_stop_leaves_a_server_alone_that_somebody_else_has_started(host: Machine) -> None:
    database = host.inside("/var/lib/minikube-py/server/db")
    database.mkdir(parents=True)
    (database / "lock").write_text("1\n")
    host.start("flock", "/var/lib/minikube-py/server/db/lock", "sh", "-c", "echo; sleep 60", log=host.directory / "holder.log")
    asyncio.run(until((host.directory / "holder.log").read_text))
    done = host.run(*ENVIRONMENT, str(ROOT / "scripts" / "quickstart"), "--stop", timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == "quickstart: a server that this script has not started uses /var/lib/minikube-py (pid 1): stop it first\n"
