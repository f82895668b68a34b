"""The configuration of a server as one frozen value, checked once: what the command line, the environment and the file agree on.

Flag names are K3s's wherever K3s has the thing. Nothing below this module reads flags, environment variables or the configuration file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from minikube_py.nodesettings import NodeSettings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_CONFIG_FILE = Path("/etc/minikube-py/config.yaml")
DEFAULT_KUBECONFIG = Path("/etc/minikube-py/kubeconfig.yaml")
DEFAULT_DATA_DIR = Path("/var/lib/minikube-py")

COMPONENTS = ("controllers", "dns", "local-storage", "proxy", "scheduler")
"""What --disable takes."""

OVERLAYS = ("vxlan", "host-gw", "none")
"""What --overlay takes: how packets for another node's pods travel."""

TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


class ConfigError(Exception):
    """A setting is wrong; the message says which one and what it must be."""


class Taint(msgspec.Struct, frozen=True):
    """A taint that the node registers with."""

    key: str
    value: str
    effect: str


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What every machine can be told of itself."""

    data_dir: Path = DEFAULT_DATA_DIR
    token: str = ""
    node_name: str = ""
    node_ip: Address | None = None
    node_label: Mapping[str, str] = msgspec.field(default_factory=dict)
    node_taint: tuple[Taint, ...] = ()
    container_runtime_endpoint: str = ""
    cgroup_root: str = ""
    default_local_storage_path: Path | None = None
    node_settings: NodeSettings = msgspec.field(default_factory=NodeSettings)
    log_level: str = "info"
    log_format: str = "text"


class ServerConfig(NodeConfig, frozen=True, kw_only=True):
    """Everything that `minikube-py server` can be told."""

    bind_address: Address = ipaddress.IPv4Address("0.0.0.0")
    https_listen_port: int = 6443
    advertise_address: Address | None = None
    tls_san: tuple[str, ...] = ()
    write_kubeconfig: Path = DEFAULT_KUBECONFIG
    write_kubeconfig_mode: int = 0o600
    cluster_cidr: Network = ipaddress.IPv4Network("10.42.0.0/16")
    service_cidr: Network = ipaddress.IPv4Network("10.43.0.0/16")
    service_node_port_range: range = range(30000, 32768)
    cluster_dns: Address = ipaddress.IPv4Address("10.43.0.10")
    cluster_domain: str = "cluster.local"
    overlay: str = "vxlan"
    event_ttl: float = 3600.0
    node_monitor_period: float = 5.0
    node_monitor_grace_period: float = 50.0
    default_not_ready_toleration_seconds: int = 300
    default_unreachable_toleration_seconds: int = 300
    disable_agent: bool = False
    disable: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.cluster_dns not in self.service_cidr:
            raise ConfigError(f"--cluster-dns {self.cluster_dns} is not in --service-cidr {self.service_cidr}")
        if self.cluster_cidr.overlaps(self.service_cidr):
            raise ConfigError(f"--cluster-cidr {self.cluster_cidr} and --service-cidr {self.service_cidr} overlap")
        if self.service_cidr.num_addresses < 8:
            raise ConfigError(f"--service-cidr {self.service_cidr} is too small: it must hold at least 8 addresses")
        if self.cluster_cidr.version == 4 and self.cluster_cidr.prefixlen > 24:
            raise ConfigError(f"--cluster-cidr {self.cluster_cidr} is too small: each node takes a /24 of it")
        if unknown := self.disable - set(COMPONENTS):
            raise ConfigError(f"--disable takes {', '.join(COMPONENTS)}, not {', '.join(sorted(unknown))}")

        if self.event_ttl <= 0:
            raise ConfigError("--event-ttl must be above 0")
        if not 0 < self.node_monitor_period <= self.node_monitor_grace_period:
            raise ConfigError("--node-monitor-period must be above 0 and at most --node-monitor-grace-period")

    @property
    def node_lease_duration(self) -> int:
        """Seconds of the nodes' leases, renewed four times in this: upstream's 40, less where a silent node is to be noticed sooner."""
        return max(1, min(40, int(self.node_monitor_grace_period * 0.8)))

    @property
    def api_service_ip(self) -> Address:
        """The ClusterIP of the `kubernetes` Service: the first of the range."""
        return self.service_cidr[1]


class AgentConfig(NodeConfig, frozen=True, kw_only=True):
    """Everything that `minikube-py agent` can be told; what the cluster decides, the server tells."""

    server: str


def parse_path(text: str | None) -> Path | None:
    """A directory, as it is named from anywhere; None where none is given."""
    return Path(text).absolute() if text else None


def parse_server(name: str, text: str) -> str:
    """An https URL of a server, without a path. Raises ConfigError."""
    if match := re.fullmatch(r"(https://(\[[0-9a-fA-F:]+\]|[^/:\[\]]+)(:\d+)?)/?", text):
        return match[1] if match[3] else f"{match[1]}:6443"
    raise ConfigError(f"{name} must be the URL of a server like https://192.168.1.10:6443, is {text!r}")


def parse_duration(name: str, text: str) -> float:
    """Seconds of a duration like 2h30m or 90s; 0 for "0". Raises ConfigError."""
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if text == "0":
        return 0.0
    if text and match:
        return sum(int(part or 0) * size for part, size in zip(match.groups(), (86400, 3600, 60, 1), strict=True))
    raise ConfigError(f"{name} must be a duration like 24h or 2h30m, is {text!r}")


def parse_address(name: str, text: str) -> Address:
    """An IP address. Raises ConfigError."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(f"{name} must be an IP address, is {text!r}") from None


def parse_domain(name: str, text: str) -> str:
    """A DNS domain, in lower case. Raises ConfigError."""
    if re.fullmatch(r"(?=.{1,253}$)([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text):
        return text
    raise ConfigError(f"{name} must be a DNS domain in lower case like cluster.local, is {text!r}")


def parse_network(name: str, text: str) -> Network:
    """A network in CIDR form. Raises ConfigError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(f"{name} must be a network like 10.42.0.0/16, is {text!r}: {error}") from None


def parse_port_range(name: str, text: str) -> range:
    """FIRST-LAST, both included, within 1 to 65535. Raises ConfigError."""
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    if match and 0 < int(match[1]) <= int(match[2]) < 65536:
        return range(int(match[1]), int(match[2]) + 1)
    raise ConfigError(f"{name} must be a range of ports like 30000-32767, is {text!r}")


def parse_mode(name: str, text: str) -> int:
    """File permissions in octal. Raises ConfigError."""
    if re.fullmatch(r"0?[0-7]{3}", text):
        return int(text, 8)
    raise ConfigError(f"{name} must be permissions in octal like 0640, is {text!r}")


def parse_label(name: str, text: str) -> tuple[str, str]:
    """KEY=VALUE. Raises ConfigError."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"{name} must be KEY=VALUE, is {text!r}")
    return key, value


def parse_taint(name: str, text: str) -> Taint:
    """KEY=VALUE:EFFECT or KEY:EFFECT. Raises ConfigError."""
    front, colon, effect = text.rpartition(":")
    key, _, value = front.partition("=")
    if not colon or not key or effect not in TAINT_EFFECTS:
        raise ConfigError(f"{name} must be KEY=VALUE:EFFECT with EFFECT one of {', '.join(TAINT_EFFECTS)}, is {text!r}")
    return Taint(key, value, effect)
