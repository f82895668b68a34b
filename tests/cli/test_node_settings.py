"""The settings of a node's agent: the same for the server and the agent, and one frozen value."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from minikube_py.cli.main import main
from minikube_py.config import AgentConfig
from minikube_py.meta import thresholds
from minikube_py.meta.thresholds import Amount, Threshold
from minikube_py.nodesettings import NodeSettings

SERVER = ("--server", "https://10.0.0.1")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[AgentConfig]:
    """What the command would have run with."""
    import minikube_py.agent

    configs: list[AgentConfig] = []
    monkeypatch.setattr(minikube_py.agent, "run", configs.append)
    return configs


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["agent", *SERVER, *arguments])


def test_without_any_the_defaults_are_the_kubelets(started: list[AgentConfig]) -> None:
    assert invoke().exit_code == 0
    assert started[0].node_settings == NodeSettings()
    assert started[0].node_settings.eviction == thresholds.parse(thresholds.DEFAULT_HARD)


def test_thresholds_times_and_numbers(started: list[AgentConfig], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("eviction-hard: ['memory.available<1Gi', 'nodefs.available<5%']\npod-max-pids: 512\n")
    soft = ("--eviction-soft", "memory.available<2Gi", "--eviction-soft-grace-period", "memory.available=1m30s")
    times = ("--shutdown-grace-period", "1m", "--shutdown-grace-period-critical-pods", "20s", "--minimum-image-ttl-duration", "1h")
    reserved = ("--kube-reserved", "cpu=100m,memory=200Mi", "--kube-reserved", "ephemeral-storage=1Gi,pid=500")
    sysctls = ("--allowed-unsafe-sysctls", "net/core/somaxconn,kernel.msg*")
    result = invoke("--config", str(file), *soft, *times, *reserved, *sysctls, "--eviction-minimum-reclaim", "nodefs.available=1Gi")
    assert result.exit_code == 0, result.output
    settings = started[0].node_settings
    assert settings.eviction == (
        Threshold("memory.available", Amount(1 << 30)),
        Threshold("nodefs.available", Amount(share=0.05), 0.0, Amount(1 << 30)),
        Threshold("memory.available", Amount(2 << 30), 90.0),
    )
    assert (settings.pod_max_pids, settings.shutdown_grace_period, settings.shutdown_grace_period_critical_pods) == (512, 60.0, 20.0)
    assert settings.minimum_image_ttl == 3600.0
    assert settings.allowed_unsafe_sysctls == ("net.core.somaxconn", "kernel.msg*")
    assert (
        settings.kube_reserved == (("cpu", "100m"), ("memory", "200Mi"), ("ephemeral-storage", "1Gi"), ("pid", "500"))
        and not settings.system_reserved
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--eviction-hard", "memory.available=1Gi"], "must be SIGNAL<AMOUNT"),
        (["--eviction-hard", "cpu.available<1"], "is not a signal"),
        (["--eviction-soft", "memory.available<1Gi"], "grace period must be specified"),
        (["--image-gc-low-threshold", "90"], "must not be above --image-gc-high-threshold 85"),
        (["--shutdown-grace-period-critical-pods", "5s"], "must not be longer"),
        (["--pod-max-pids", "0"], "or -1 for no limit"),
        (["--allowed-unsafe-sysctls", "vm.swappiness"], "the whole machine's"),
        (["--allowed-unsafe-sysctls", "net.core.*.x"], "is not the name of a kernel parameter"),
        (["--kube-reserved", "pods=3"], "cannot reserve 'pods', only cpu, memory, ephemeral-storage, pid"),
        (["--system-reserved", "memory=much"], "quantities must match the regular expression"),
        (["--system-reserved", "cpu=-1"], "must not be negative"),
        (["--image-credential-verification", "Sometimes"], "is not one of"),
    ],
)
def test_wrong_ones_are_usage_errors(started: list[AgentConfig], arguments: list[str], words: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2 and words in result.output and not started


def test_shutdown_waits_until_the_node_says_that_its_pods_have_ended(tmp_path: Path) -> None:
    state = tmp_path / "agent" / "kubelet" / "graceful_node_shutdown_state"
    state.parent.mkdir(parents=True)
    answer = {"startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-01T00:00:01Z"}
    script = (
        "import pathlib, signal, sys\n"
        f"state, half = pathlib.Path({str(state)!r}), pathlib.Path({str(tmp_path / 'half')!r})\n"
        "def end(*_):\n"
        f"    half.write_text({json.dumps(answer)!r})\n"
        "    half.rename(state)\n"  # at once, as the node does it
        "signal.signal(signal.SIGPWR, end)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None and node.stdout.readline() == "ready\n"
        command = ["shutdown", "--data-dir", str(tmp_path), "--pid", str(node.pid), "--timeout", "20"]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
        assert node.stdin is not None
        node.stdin.close()
        node.wait(10)
    gone = CliRunner().invoke(main, command)
    assert gone.exit_code == 1 and "there is no process" in str(gone.output) + str(gone.exception)
