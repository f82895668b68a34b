"""Flag before variable before file; wrong settings are one line that says what to do."""

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from minikube_py.cli import server as server_command
from minikube_py.cli.main import main
from minikube_py.config import ServerConfig, Taint


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `server` with arguments up to the point where the server would start, and gives the configuration."""

    def run(*arguments: str, env: dict[str, str] | None = None) -> ServerConfig:
        context = server_command.server.make_context("server", list(arguments))
        return server_command._config(context.params)

    def with_environment(*arguments: str, env: dict[str, str] | None = None) -> ServerConfig:
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        return run(*arguments)

    return with_environment


def test_the_defaults(configured: Any) -> None:
    config = configured()
    assert config.https_listen_port == 6443
    assert config.cluster_dns == ip_address("10.43.0.10")
    assert config.api_service_ip == ip_address("10.43.0.1")
    assert config.service_node_port_range == range(30000, 32768)


def test_a_flag_weighs_more_than_a_variable_and_a_variable_more_than_the_file(configured: Any, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("https-listen-port: 7001\nnode-label: [a=b, c=d]\ncluster-domain: x.test\nlog-level: error\n")
    config = configured(
        "--config", str(file), "--log-level", "debug", env={"MINIKUBE_PY_HTTPS_LISTEN_PORT": "7002", "MINIKUBE_PY_LOG_LEVEL": "warning"}
    )
    assert (config.https_listen_port, config.log_level, config.cluster_domain) == (7002, "debug", "x.test")
    assert config.node_label == {"a": "b", "c": "d"}


def test_lists_may_be_repeated_or_separated_by_commas(configured: Any) -> None:
    config = configured("--tls-san", "a,b", "--tls-san", "c", "--node-taint", "k=v:NoSchedule", env={"MINIKUBE_PY_DISABLE": "dns,proxy"})
    assert config.tls_san == ("a", "b", "c")
    assert config.node_taint == (Taint("k", "v", "NoSchedule"),)
    assert config.disable == {"dns", "proxy"}


def test_the_dns_address_follows_the_service_range(configured: Any) -> None:
    config = configured("--service-cidr", "10.99.0.0/20")
    assert config.service_cidr == ip_network("10.99.0.0/20")
    assert config.cluster_dns == ip_address("10.99.0.10")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cluster-cidr", "10.42.0.0"], None),
        (["--cluster-cidr", "10.42.0.1/16"], "--cluster-cidr must be a network like 10.42.0.0/16"),
        (["--service-node-port-range", "80"], "--service-node-port-range must be a range of ports"),
        (["--write-kubeconfig-mode", "rw"], "--write-kubeconfig-mode must be permissions in octal"),
        (["--node-taint", "x:Sometimes"], "--node-taint must be KEY=VALUE:EFFECT"),
        (["--node-label", "x"], "--node-label must be KEY=VALUE"),
        (["--disable", "etcd"], "--disable takes controllers, dns, local-storage, proxy, scheduler, not etcd"),
        (["--cluster-dns", "192.0.2.1"], "--cluster-dns 192.0.2.1 is not in --service-cidr"),
        (["--cluster-cidr", "10.43.0.0/16"], "overlap"),
        (["--https-listen-port", "0"], "--https-listen-port"),
        (["--cluster-domain", "cluster_local"], "--cluster-domain must be a DNS domain"),
        (["--no-such-flag"], "--no-such-flag"),
        (["--config", "/nonexistent/config.yaml"], "cannot read the configuration file /nonexistent/config.yaml"),
    ],
)
def test_wrong_settings_are_usage_errors(arguments: list[str], words: str | None) -> None:
    result = CliRunner().invoke(main, ["server", *arguments, "--disable", "nothing"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1 and result.stderr.endswith("(see main server --help)\n")
    if words:
        assert words in result.output


def test_without_a_command_there_is_help() -> None:
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2 and "Commands:" in result.output and "Error" not in result.output


def test_an_unknown_key_in_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("https-listen-prot: 1\n")
    result = CliRunner().invoke(main, ["server", "--config", str(file)])
    assert result.exit_code == 2
    assert "unknown key: https-listen-prot" in result.output


def test_kubeconfig_says_what_to_do_where_there_is_no_server(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["kubeconfig", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "start one with 'minikube-py server" in result.output


def test_every_command_has_help() -> None:
    commands = [main, *main.commands.values()]
    assert all(isinstance(c, click.Command) and c.help for c in commands)
    for name in ("server", "kubeconfig", "version"):
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0
