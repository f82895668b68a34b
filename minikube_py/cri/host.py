"""What this machine can do, as far as a container runtime's configuration depends on it: probed once, kept as a value."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from minikube_py.cri.errors import RuntimeMissing

_CAP_SYS_RESOURCE: Final = 24
_CNI_PLUGINS: Final = ("bridge", "host-local", "loopback", "portmap")
_CNI_DIRS: Final = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
_HINT: Final = "apt-get install containerd runc containernetworking-plugins"


class Programs(msgspec.Struct, frozen=True):
    """Where the runtime's programs are, and which containerd it is."""

    containerd: Path
    runc: Path
    cni: Path
    version: tuple[int, int]


class HostFacts(msgspec.Struct, frozen=True):
    """What the kernel and our privileges allow."""

    cgroup_v2: bool
    apparmor: bool
    restrict_oom_score_adj: bool  # whether no process may get a lower oom_score_adj than ours
    overlayfs: bool


def find_programs(path: str | None = None) -> Programs:
    """Find the programs on PATH (or in `path`). Blocking. Raises RuntimeMissing with what to install."""
    search = path if path is not None else os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    found: dict[str, Path] = {}
    for name in ("containerd", "containerd-shim-runc-v2", "runc"):
        if (place := shutil.which(name, path=search)) is None:
            raise RuntimeMissing(f"{name} is not installed: {_HINT}")
        found[name] = Path(place).resolve()
    cni = next((Path(folder) for folder in _CNI_DIRS if all((Path(folder) / name).exists() for name in _CNI_PLUGINS)), None)
    if cni is None:
        raise RuntimeMissing(f"the CNI plugins {', '.join(_CNI_PLUGINS)} are not installed: {_HINT}")
    text = subprocess.run([found["containerd"], "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    match = re.search(r" v?(\d+)\.(\d+)", text)
    if match is None:
        raise RuntimeMissing(f"{found['containerd']} does not say its version: {_HINT}")
    return Programs(found["containerd"], found["runc"], cni, (int(match[1]), int(match[2])))


def probe(scratch: Path) -> HostFacts:
    """Look at the machine. Blocking. `scratch` lies on the file system that will hold the containers' layers."""
    return HostFacts(
        cgroup_v2=_text("/sys/fs/cgroup/cgroup.controllers").strip() != "",
        apparmor=_text("/sys/module/apparmor/parameters/enabled").startswith("Y")
        and shutil.which("apparmor_parser", path="/sbin:/usr/sbin") is not None,
        restrict_oom_score_adj=_in_user_namespace() or not _has_capability(_text("/proc/self/status"), _CAP_SYS_RESOURCE),
        overlayfs=_overlayfs(scratch),
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _has_capability(status: str, number: int) -> bool:
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return match is not None and bool(int(match[1], 16) >> number & 1)


def _in_user_namespace() -> bool:
    return _text("/proc/self/uid_map").split() != ["0", "0", "4294967295"]


def _overlayfs(scratch: Path) -> bool:
    """Whether an overlay can be mounted with its layers there: the one answer that holds for every kernel and file system."""
    scratch.mkdir(parents=True, exist_ok=True)
    if "overlay" not in _text("/proc/filesystems") and (modprobe := shutil.which("modprobe", path="/sbin:/usr/sbin")) is not None:
        subprocess.run([modprobe, "overlay"], capture_output=True, check=False)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="probe-") as folder:
        for name in ("lower", "upper", "work", "merged"):
            (Path(folder) / name).mkdir()
        layers = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        mounted = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, f"{folder}/merged"], capture_output=True, check=False)
        if mounted.returncode == 0:
            subprocess.run(["umount", f"{folder}/merged"], capture_output=True, check=True)
        return mounted.returncode == 0
