"""`minikube-py agent`: makes this machine a node of a cluster whose server runs elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from minikube_py.cli.imports import quick_imports
from minikube_py.cli.nodesettings import node_options, settings
from minikube_py.cli.options import config_option, option
from minikube_py.config import (
    DEFAULT_DATA_DIR,
    AgentConfig,
    ConfigError,
    parse_address,
    parse_label,
    parse_path,
    parse_server,
    parse_taint,
)


@click.command()
@config_option
@option("--server", "The server's URL: https://ADDRESS:6443.", metavar="URL")
@option("--token", "What 'minikube-py token create' printed on the server; needed to join, not afterwards.", metavar="TOKEN")
@option("--data-dir", "Where everything is kept.", default=str(DEFAULT_DATA_DIR), metavar="DIR")
@option("--node-name", "The name of this machine's node.  [default: the host name]", metavar="NAME")
@option("--node-ip", "The address of this machine's node.  [default: the one that the default route uses]", metavar="IP")
@option("--node-label", "A label for this machine's node (repeatable).", many=True, metavar="KEY=VALUE")
@option("--node-taint", "A taint for this machine's node (repeatable).", many=True, metavar="KEY=VALUE:EFFECT")
@option(
    "--container-runtime-endpoint", "The socket of a containerd of yours.  [default: one of the agent's own is started]", metavar="SOCKET"
)
@option(
    "--default-local-storage-path",
    "Where the volumes of the storage class local-path are kept.  [default: agent/storage in --data-dir]",
    metavar="DIR",
)
@option("--cgroup-root", "The cgroup under which the pods' cgroups are made.  [default: the top]", metavar="CGROUP")
@node_options
@option("--log-level", "What is logged.", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
@option("--log-format", "How it is logged.", default="text", type=click.Choice(["text", "json"]))
def agent(**options: Any) -> None:
    """Run a node of a cluster whose server is elsewhere.

    Every flag is also an environment variable and a key of the configuration file, as for the server. What the cluster decides
    (its networks, its DNS, the overlay), the server tells.
    """
    try:
        config = _config(options)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None

    with quick_imports():
        from minikube_py.agent import run
        from minikube_py.lifetime import StartError

    try:
        run(config)
    except StartError as error:
        raise click.ClickException(str(error)) from None


def _config(options: dict[str, Any]) -> AgentConfig:
    if not options["server"]:
        raise ConfigError("--server is needed: the URL of the server, https://ADDRESS:6443")
    return AgentConfig(
        server=parse_server("--server", options["server"]),
        token=options["token"] or "",
        data_dir=Path(options["data_dir"]).absolute(),
        node_name=(options["node_name"] or "").lower(),
        node_ip=parse_address("--node-ip", options["node_ip"]) if options["node_ip"] else None,
        node_label=dict(parse_label("--node-label", text) for text in options["node_label"]),
        node_taint=tuple(parse_taint("--node-taint", text) for text in options["node_taint"]),
        container_runtime_endpoint=options["container_runtime_endpoint"] or "",
        cgroup_root=options["cgroup_root"] or "",
        default_local_storage_path=parse_path(options["default_local_storage_path"]),
        node_settings=settings(options),
        log_level=options["log_level"],
        log_format=options["log_format"],
    )
