"""What the node agent is told at its start, and where it keeps things."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from minikube_py.meta.version import KUBERNETES_VERSION
from minikube_py.nodesettings import NodeSettings
from minikube_py.types.core import Taint


class KubeletOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one node. Names follow KubeletConfiguration where it has the thing."""

    node_name: str
    node_ips: tuple[str, ...]
    """The node's addresses; the first is its primary one, of either family."""
    root_dir: Path = Path("/var/lib/kubelet")
    """Pod directories (volumes, hosts files, termination messages). Must be visible to the runtime under the same path."""
    log_dir: Path = Path("/var/log/pods")
    system_log_dir: Path = Path("/var/log")
    """What the endpoint shows of the machine's own logs, to those who may read nodes/log."""
    storage_dir: Path = Path("/var/lib/minikube-py/agent/storage")
    """Where the volumes of the built-in storage class are, a directory each: users' data."""
    static_pod_path: Path | None = None
    """Where the manifests of static pods lie; None for a node that has none."""
    cluster_domain: str = "cluster.local"
    cluster_dns: tuple[str, ...] = ()
    resolv_conf: Path = Path("/etc/resolv.conf")
    cgroup_root: str = ""
    """The cgroup under which `kubepods` is made; "" is the root of the hierarchy, "/nodeX" keeps the nodes of one machine apart."""
    systemd_cgroups: bool = False
    """Whether systemd makes the cgroups: where the runtime has it make those of containers."""
    settings: NodeSettings = msgspec.field(default_factory=NodeSettings)
    port: int = 10250
    address: str = "0.0.0.0"
    node_labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    node_annotations: Mapping[str, str] = msgspec.field(default_factory=dict)
    register_with_taints: tuple[Taint, ...] = ()
    provider_id: str = ""
    version: str = KUBERNETES_VERSION
    container_log_max_size: int = 10 * 1024 * 1024
    container_log_max_files: int = 5
    restrict_oom_score_adj: bool = False
    """Never ask for an oom_score_adj below 0: for machines where this process lacks CAP_SYS_RESOURCE."""
    node_status_check_seconds: float = 10.0
    node_status_report_seconds: float = 300.0
    node_lease_duration_seconds: int = 40
    relist_seconds: float = 300.0
    housekeeping_seconds: float = 10.0
    """How often thresholds and local storage limits are looked at."""
    image_gc_seconds: float = 300.0

    def pod_dir(self, uid: str) -> Path:
        """Everything that the agent keeps on disk for one pod."""
        return self.root_dir / "pods" / uid

    def pod_log_dir(self, namespace: str, name: str, uid: str) -> Path:
        """Where a pod's containers log, one directory a container below it."""
        return self.log_dir / f"{namespace}_{name}_{uid}"
