"""The cgroups of pods where systemd makes them: for a runtime whose cgroup driver is systemd.

A pod's cgroup is a slice, kubepods[-burstable|-besteffort]-pod<uid>.slice, and the runtime puts a scope for each container into it. systemd
owns what such cgroups are set to and would write over anything else, so limits are properties that it is told over D-Bus, by its own
busctl. What is read is read from the files, as everywhere. On cgroup v2 only.
"""

from __future__ import annotations

import contextlib
import errno
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from minikube_py.kubelet import resources
from minikube_py.kubelet.cgroups import CLASSES, Cgroups
from minikube_py.kubelet.resources import PodLimits

_CLASS = {resources.GUARANTEED: "", resources.BURSTABLE: "-burstable", resources.BEST_EFFORT: "-besteffort"}
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_CALL_SECONDS = 30.0
_MADE_SECONDS = 10.0
_EXISTS = ("already exists", "already loaded", "has a fragment file")


class Property(NamedTuple):
    """A property of a unit: its name, its D-Bus type, its value as busctl reads it."""

    name: str
    type: str
    value: str


class Slices(Cgroups):
    """Makes, limits and removes the slices of pods. Raises OSError with what systemd says."""

    def class_name(self, qos: str) -> str:
        """The path of the slice of a QoS class."""
        return f"/kubepods.slice/kubepods{_CLASS[qos]}.slice" if _CLASS[qos] else "/kubepods.slice"

    def pod_name(self, qos: str, uid: str) -> str:
        """The path of a pod's slice; a dash would mean a slice in a slice."""
        return f"{self.class_name(qos)}/kubepods{_CLASS[qos]}-pod{uid.replace('-', '_')}.slice"

    def container_name(self, qos: str, uid: str, id: str) -> str:
        """The path of the scope that containerd has systemd make for a container."""
        return f"{self.pod_name(qos, uid)}/cri-containerd-{id}.scope"

    def uid(self, directory: str) -> str | None:
        """Whose slice a directory is."""
        _, found, uid = directory.removesuffix(".slice").partition("-pod")
        return uid.replace("_", "-") if found and directory.startswith("kubepods") and directory.endswith(".slice") else None

    def ensure_pod(self, qos: str, uid: str, limits: PodLimits) -> str:
        """Make a pod's slice with its limits; its path."""
        name = self.pod_name(qos, uid)
        settings = _cpu(limits.shares, limits.quota)
        if limits.memory is not None:
            settings.append(Property("MemoryMax", "t", str(limits.memory)))
        if self.pod_max_pids > 0:
            settings.append(Property("TasksMax", "t", str(self.pod_max_pids)))
        self._make(name, settings)
        # systemd knows nothing of these, and leaves them alone
        for parent in reversed(self._directory(name).relative_to(self._directory("")).parents):
            self._enable(self._directory("") / parent, "hugetlb")
        self.set_hugepages(name, limits.hugepages)
        return name

    def make(self, name: str) -> None:
        """Make a slice."""
        self._make(name, ())

    def set_cpu(self, name: str, shares: int, quota: int | None) -> None:
        """Weigh a slice, and limit it where `quota` is given."""
        self._set(name, _cpu(shares, quota))

    def set_memory(self, name: str, limit: int) -> None:
        """Limit a slice's memory, in bytes."""
        self._set(name, (Property("MemoryMax", "t", str(limit)),))

    def set_pids(self, name: str, limit: int) -> None:
        """Limit the processes and threads in a slice."""
        self._set(name, (Property("TasksMax", "t", str(limit)),))

    def remove_pod(self, uid: str, timeout: float = 5.0) -> None:
        """End what is left in a pod's slice, and have systemd forget it. Raises OSError when it stays busy."""
        for qos in CLASSES:
            path = self._directory(self.pod_name(qos, uid))
            if path.exists():
                with contextlib.suppress(OSError):
                    (path / "cgroup.kill").write_text("1")
                with contextlib.suppress(OSError):  # systemd forgets an empty slice by itself
                    _call("StopUnit", "ss", path.name, "replace")
        super().remove_pod(uid, timeout)

    def _make(self, name: str, settings: Sequence[Property]) -> None:
        path = self._directory(name)
        accounting = [Property(f"{what}Accounting", "b", "true") for what in ("CPU", "Memory", "Tasks", "IO")]
        given = [Property("DefaultDependencies", "b", "false"), *accounting, *settings]
        if path.exists():
            self._set(name, settings)
            return
        try:
            _call("StartTransientUnit", "ssa(sv)a(sa(sv))", path.name, "replace", *_array(given), "0")
        except OSError as error:
            if not any(text in str(error) for text in _EXISTS):
                raise
            # systemd knows it, and removed its cgroup when it was empty
            _call("StartUnit", "ss", path.name, "replace")
            self._set(name, settings)
        deadline = time.monotonic() + _MADE_SECONDS
        while not path.exists():
            if time.monotonic() > deadline:
                raise OSError(errno.EIO, f"systemd has not made {path.name} within {_MADE_SECONDS:.0f} s")
            time.sleep(0.005)

    def _set(self, name: str, settings: Sequence[Property]) -> None:
        if settings:
            _call("SetUnitProperties", "sba(sv)", self._directory(name).name, "true", *_array(settings))

    def _directory(self, name: str) -> Path:
        unified = self._hierarchies.unified
        assert unified is not None, "systemd's slices are for cgroup v2"
        return unified / name.lstrip("/")


def _cpu(shares: int, quota: int | None) -> list[Property]:
    made = [Property("CPUWeight", "t", str(resources.cpu_weight(shares)))]
    if quota is not None:
        a_second = -(-quota * 1_000_000 // resources.CPU_PERIOD)
        made.append(Property("CPUQuotaPeriodUSec", "t", str(resources.CPU_PERIOD)))
        made.append(Property("CPUQuotaPerSecUSec", "t", str(a_second)))
    return made


def _array(properties: Sequence[Property]) -> list[str]:
    """Properties as busctl wants an a(sv): their number, then each."""
    return [str(len(properties)), *(part for given in properties for part in given)]


def _call(method: str, signature: str, *arguments: str) -> None:
    command = ["busctl", "--system", "call", *_MANAGER, method, signature, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.EIO, f"systemd does not answer {method} within {_CALL_SECONDS:.0f} s") from error
    if done.returncode != 0:
        raise OSError(errno.EIO, f"systemd refuses {method} of {arguments[0]}: {done.stderr.strip()}")
