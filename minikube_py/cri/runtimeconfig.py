"""containerd's configuration file as a function of what the node wants and the machine can. Pure.

Two dialects: version 2 for containerd 1.6 and 1.7, where CRI is one plugin, and version 3 for containerd 2, where it is two. What is not
named here keeps containerd's default.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from minikube_py.cri.host import HostFacts, Programs

# Plugins that a Kubernetes node never uses. Without them containerd starts sooner and says less.
_DISABLED: Final = (
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.internal.v1.tracing",
    "io.containerd.nri.v1.nri",
)


class Layout(msgspec.Struct, frozen=True):
    """Where one containerd keeps its things. No two share any of these."""

    root: Path  # layers, images and metadata: survives a reboot
    state: Path  # sockets, mounts and FIFOs of what runs: on a tmpfs
    socket: Path
    config: Path
    log: Path
    pid: Path
    registries: Path  # certs.d: one hosts.toml a registry
    cni_conf: Path
    tools: Path  # first on containerd's PATH


def render(layout: Layout, programs: Programs, facts: HostFacts, sandbox_image: str, systemd_cgroup: bool) -> str:
    """The text of the configuration file."""
    three = programs.version >= (2, 0)
    plugins_at = {"bin_dirs": [str(programs.cni)]} if programs.version >= (2, 1) else {"bin_dir": str(programs.cni)}
    runtime: dict[str, Any] = {
        "disable_apparmor": not facts.apparmor,
        "restrict_oom_score_adj": facts.restrict_oom_score_adj,
        "netns_mounts_under_state_dir": True,
        "tolerate_missing_hugetlb_controller": True,
        "enable_unprivileged_ports": True,
        "enable_unprivileged_icmp": True,
        "cni": {**plugins_at, "conf_dir": str(layout.cni_conf)},
    }
    containerd: dict[str, Any] = {
        "default_runtime_name": "runc",
        "runtimes": {
            "runc": {
                "runtime_type": "io.containerd.runc.v2",
                "options": {"BinaryName": str(programs.runc), "Root": str(layout.state / "runc"), "SystemdCgroup": systemd_cgroup},
            }
        },
    }
    streams = {"stream_server_address": "127.0.0.1", "stream_server_port": "0"}
    snapshotter = "overlayfs" if facts.overlayfs else "native"
    registry = {"config_path": str(layout.registries)}
    plugins: dict[str, Any] = {"io.containerd.internal.v1.opt": {"path": str(layout.root / "opt")}}
    if three:
        plugins["io.containerd.cri.v1.runtime"] = {**runtime, "containerd": containerd}
        plugins["io.containerd.cri.v1.images"] = {
            "snapshotter": snapshotter,
            "pinned_images": {"sandbox": sandbox_image},
            "registry": registry,
        }
        plugins["io.containerd.grpc.v1.cri"] = streams
    else:
        plugins["io.containerd.grpc.v1.cri"] = {
            **runtime,
            **streams,
            "sandbox_image": sandbox_image,
            "containerd": {**containerd, "snapshotter": snapshotter},
            "registry": registry,
        }
    document = {
        "version": 3 if three else 2,
        "root": str(layout.root),
        "state": str(layout.state),
        "disabled_plugins": list(_DISABLED),
        "grpc": {"address": str(layout.socket)},
        "plugins": plugins,
    }
    return "# Written at every start; changes are lost.\n" + "\n".join(_toml(document)) + "\n"


def uses_systemd(shown: str) -> bool:
    """Whether a containerd that shows this configuration (JSON, in its status) has its default runtime go by systemd's cgroups."""
    try:
        containerd = json.loads(shown)["containerd"]
        options = containerd["runtimes"][containerd["defaultRuntimeName"]]["options"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(options, dict) and options.get("SystemdCgroup") is True


def _toml(table: dict[str, Any], path: str = "") -> list[str]:
    """TOML of a nested dictionary: values first, then its tables."""
    lines = [f"[{path}]"] if path else []
    lines += [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _toml(value, f"{path}.{json.dumps(key)}" if path else json.dumps(key))
    return lines
