"""`minikube-py server`: the whole control plane, and a node unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from minikube_py.cli.imports import quick_imports
from minikube_py.cli.nodesettings import node_options, settings
from minikube_py.cli.options import config_option, option
from minikube_py.config import (
    COMPONENTS,
    DEFAULT_DATA_DIR,
    DEFAULT_KUBECONFIG,
    OVERLAYS,
    ConfigError,
    ServerConfig,
    parse_address,
    parse_domain,
    parse_duration,
    parse_label,
    parse_mode,
    parse_network,
    parse_path,
    parse_port_range,
    parse_taint,
)

T = TypeVar("T")


@click.command(short_help="Run the control plane and, on this machine, a node.")
@config_option
@option("--data-dir", "Where everything is kept.", default=str(DEFAULT_DATA_DIR), metavar="DIR")
@option("--bind-address", "The address that the API server listens on.", default="0.0.0.0", metavar="IP")
@option("--https-listen-port", "The port that the API server listens on.", default=6443, type=click.IntRange(1, 65535), metavar="PORT")
@option("--advertise-address", "The address that pods and agents reach the API server at.  [default: the node's]", metavar="IP")
@option("--tls-san", "A further name or address for the server's certificate (repeatable).", many=True, metavar="NAME")
@option("--token", "The shared secret that machines join with.", metavar="TOKEN")
@option("--write-kubeconfig", "Where the administrator's kubeconfig is written.", default=str(DEFAULT_KUBECONFIG), metavar="FILE")
@option("--write-kubeconfig-mode", "Its permissions.", default="0600", metavar="MODE")
@option("--cluster-cidr", "The network of the pods.", default="10.42.0.0/16", metavar="CIDR")
@option("--service-cidr", "The network of the services.", default="10.43.0.0/16", metavar="CIDR")
@option("--service-node-port-range", "The ports for NodePort services.", default="30000-32767", metavar="FIRST-LAST")
@option("--cluster-dns", "The address of the cluster's DNS.  [default: the tenth of --service-cidr]", metavar="IP")
@option("--cluster-domain", "The DNS domain of the cluster.", default="cluster.local", metavar="DOMAIN")
@option("--overlay", "How packets for the pods of other nodes travel.", default="vxlan", type=click.Choice(OVERLAYS))
@option("--node-name", "The name of this machine's node.  [default: the host name]", metavar="NAME")
@option("--node-ip", "The address of this machine's node.  [default: the one that the default route uses]", metavar="IP")
@option("--node-label", "A label for this machine's node (repeatable).", many=True, metavar="KEY=VALUE")
@option("--node-taint", "A taint for this machine's node (repeatable).", many=True, metavar="KEY=VALUE:EFFECT")
@option(
    "--container-runtime-endpoint", "The socket of a containerd of yours.  [default: one of the server's own is started]", metavar="SOCKET"
)
@option(
    "--default-local-storage-path",
    "Where the volumes of the storage class local-path are kept.  [default: agent/storage in --data-dir]",
    metavar="DIR",
)
@option("--cgroup-root", "The cgroup under which the pods' cgroups are made.  [default: the top]", metavar="CGROUP")
@option("--event-ttl", "How long events are kept.", default="1h", metavar="DURATION")
@option("--node-monitor-period", "How often the signs of life of all nodes are looked at.", default="5s", metavar="DURATION")
@option(
    "--node-monitor-grace-period",
    "How long a node may be silent before it counts as unreachable; the nodes report several times in this.",
    default="50s",
    metavar="DURATION",
)
@option(
    "--default-not-ready-toleration-seconds",
    "How long a pod that does not say so itself stays on a node that is not ready.",
    default=300,
    type=click.IntRange(0),
    metavar="SECONDS",
)
@option(
    "--default-unreachable-toleration-seconds",
    "How long a pod that does not say so itself stays on a node that is unreachable.",
    default=300,
    type=click.IntRange(0),
    metavar="SECONDS",
)
@node_options
@option("--disable-agent", "Run the control plane only, without a node.", is_flag=True, default=False, show_default=False)
@option("--disable", f"Leave a component out (repeatable): {', '.join(COMPONENTS)}.", many=True, metavar="NAME")
@option("--log-level", "What is logged.", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
@option("--log-format", "How it is logged.", default="text", type=click.Choice(["text", "json"]))
def server(**options: Any) -> None:
    """Run the control plane, and a node unless --disable-agent is given.

    Every flag is also an environment variable (MINIKUBE_PY_DATA_DIR, …) and a key of the configuration file; a flag weighs more than a
    variable, a variable more than the file.
    """
    try:
        config = _config(options)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None

    with quick_imports():
        from minikube_py.lifetime import StartError
        from minikube_py.server import load, run

        load(config)
    try:
        run(config)
    except StartError as error:
        raise click.ClickException(str(error)) from None


def _config(options: dict[str, Any]) -> ServerConfig:
    def given(key: str, parse: Callable[[str, str], T]) -> T | None:
        value = options[key]
        return parse("--" + key.replace("_", "-"), value) if value else None

    def all_of(key: str, parse: Callable[[str, str], T]) -> tuple[T, ...]:
        return tuple(parse("--" + key.replace("_", "-"), value) for value in options[key])

    service_cidr = parse_network("--service-cidr", options["service_cidr"])
    if service_cidr.num_addresses < 16 and not options["cluster_dns"]:
        raise ConfigError("--service-cidr has no tenth address: give --cluster-dns")
    return ServerConfig(
        data_dir=Path(options["data_dir"]).absolute(),
        bind_address=parse_address("--bind-address", options["bind_address"]),
        https_listen_port=options["https_listen_port"],
        advertise_address=given("advertise_address", parse_address),
        tls_san=tuple(options["tls_san"]),
        token=options["token"] or "",
        write_kubeconfig=Path(options["write_kubeconfig"]).absolute(),
        write_kubeconfig_mode=parse_mode("--write-kubeconfig-mode", options["write_kubeconfig_mode"]),
        cluster_cidr=parse_network("--cluster-cidr", options["cluster_cidr"]),
        service_cidr=service_cidr,
        service_node_port_range=parse_port_range("--service-node-port-range", options["service_node_port_range"]),
        cluster_dns=given("cluster_dns", parse_address) or service_cidr[10],
        cluster_domain=parse_domain("--cluster-domain", options["cluster_domain"]),
        overlay=options["overlay"],
        node_name=(options["node_name"] or "").lower(),
        node_ip=given("node_ip", parse_address),
        node_label=dict(all_of("node_label", parse_label)),
        node_taint=all_of("node_taint", parse_taint),
        container_runtime_endpoint=options["container_runtime_endpoint"] or "",
        cgroup_root=options["cgroup_root"] or "",
        default_local_storage_path=parse_path(options["default_local_storage_path"]),
        event_ttl=parse_duration("--event-ttl", options["event_ttl"]),
        node_monitor_period=parse_duration("--node-monitor-period", options["node_monitor_period"]),
        node_monitor_grace_period=parse_duration("--node-monitor-grace-period", options["node_monitor_grace_period"]),
        default_not_ready_toleration_seconds=options["default_not_ready_toleration_seconds"],
        default_unreachable_toleration_seconds=options["default_unreachable_toleration_seconds"],
        node_settings=settings(options),
        disable_agent=options["disable_agent"],
        disable=frozenset(options["disable"]),
        log_level=options["log_level"],
        log_format=options["log_format"],
    )
