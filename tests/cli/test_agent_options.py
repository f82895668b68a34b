"""How `minikube-py agent` takes its settings, and the file that all commands share."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from minikube_py.cli.main import main
from minikube_py.config import AgentConfig, ConfigError, Taint, parse_duration, parse_server


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[AgentConfig]:
    """What the command would have run with."""
    import minikube_py.agent

    configs: list[AgentConfig] = []
    monkeypatch.setattr(minikube_py.agent, "run", configs.append)
    return configs


def invoke(*arguments: str, environment: dict[str, str] | None = None) -> Any:
    return CliRunner().invoke(main, ["agent", *arguments], env=environment)


def test_flags_variables_and_the_file_in_this_order(started: list[AgentConfig], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "server: https://10.0.0.1\ntoken: from-the-file\nnode-name: FILE\nnode-taint: [a=b:NoSchedule]\ncluster-cidr: 10.9.0.0/16\n"
    )
    result = invoke("--config", str(file), "--node-ip", "10.0.0.7", environment={"MINIKUBE_PY_TOKEN": "from-the-environment"})
    assert result.exit_code == 0, result.output
    (config,) = started
    assert (config.server, config.token, config.node_name) == ("https://10.0.0.1:6443", "from-the-environment", "file")
    assert (config.node_ip, config.node_taint) == (ip_address("10.0.0.7"), (Taint("a", "b", "NoSchedule"),))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--server is needed"),
        (["--server", "10.0.0.1"], "--server must be the URL of a server like https://"),
        (["--server", "https://a/b"], "--server must be the URL"),
        (["--server", "https://a", "--node-ip", "x"], "--node-ip must be an IP address"),
    ],
)
def test_wrong_settings_are_usage_errors(started: list[AgentConfig], arguments: list[str], words: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2 and words in result.output and not started


def test_a_file_for_the_server_does_not_disturb_other_commands(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"data-dir: {tmp_path}\nhttps-listen-port: 6444\n")
    for command in (["kubeconfig"], ["token", "list"]):
        result = CliRunner().invoke(main, [*command, "--config", str(file)])
        assert result.exit_code == 1 and "there is no server in" in result.output and str(tmp_path) in result.output
    file.write_text("nothing-knows-this: 1\n")
    result = CliRunner().invoke(main, ["token", "list", "--config", str(file)])
    assert result.exit_code == 2 and "unknown key: nothing-knows-this" in result.output


def test_servers_and_durations() -> None:
    assert [parse_server("--server", f"https://{text}") for text in ("a", "a:1/", "[fd00::1]", "[fd00::1]:7")] == [
        "https://a:6443", "https://a:1", "https://[fd00::1]:6443", "https://[fd00::1]:7",
    ]  # fmt: skip
    assert [parse_duration("--ttl", text) for text in ("0", "90s", "2h30m", "7d")] == [0, 90, 9000, 604800]
    for wrong in ("", "h", "1", "-1h", "1h1h", "1.5h"):
        with pytest.raises(ConfigError):
            parse_duration("--ttl", wrong)
