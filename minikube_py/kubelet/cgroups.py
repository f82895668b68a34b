"""The cgroups of pods and of QoS classes: made, limited and removed here; those of containers are the runtime's.

Works on cgroup v1 (every hierarchy that is mounted) and v2. A cgroup is named by its path below the hierarchy, as CRI's cgroup_parent wants
it: <root>/kubepods[/burstable|/besteffort]/pod<uid>. Everything blocks and is called in threads. `slices` is the same where systemd makes
the cgroups.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from minikube_py.kubelet import resources
from minikube_py.kubelet.resources import PodLimits

_QOS_DIRECTORY = {resources.GUARANTEED: "", resources.BURSTABLE: "/burstable", resources.BEST_EFFORT: "/besteffort"}
CLASSES = tuple(_QOS_DIRECTORY)
_V1_CONTROLLERS = frozenset(
    {"cpu", "cpuacct", "cpuset", "memory", "pids", "hugetlb", "blkio", "devices", "freezer", "net_cls", "perf_event", "systemd"}
)
_UNLIMITED = 2**62
"""cgroup v1 shows no memory limit as a number close to the largest one."""
_V2_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "hugetlb", "io")
_PRESSURES = ("cpu", "memory", "io")
_TICK = 10**9 // os.sysconf("SC_CLK_TCK")


class AllPods(NamedTuple):
    """The working set of all pods together and its limit, in bytes; None for no limit."""

    memory: int
    limit: int | None


class Swap(NamedTuple):
    """Bytes that a cgroup has in swap, and how many it may have; None for no limit."""

    used: int
    limit: int | None = None


class Account(NamedTuple):
    """What a cgroup has used and may use. Times are nanoseconds of CPU, memory is bytes; None for no limit."""

    cpu: int
    user: int
    system: int
    periods: int
    throttled_periods: int
    throttled: int
    quota: int | None
    period: int | None
    """Microseconds, as the quota."""
    shares: int
    memory: int
    working_set: int
    rss: int
    cache: int
    mapped: int
    most: int
    swap: int
    limit: int | None
    oom_kills: int
    threads: int


class Stall(NamedTuple):
    """How long tasks have waited for a resource in all, in microseconds, and the share of the last 10, 60 and 300 seconds in percent."""

    total: int
    avg10: float
    avg60: float
    avg300: float


class Pressure(NamedTuple):
    """Pressure stall information of one resource: when all tasks waited that could do anything, and when some did."""

    full: Stall
    some: Stall


class Hierarchies(msgspec.Struct, frozen=True):
    """Where cgroups are mounted: v1 directories by controller, or the one v2 directory."""

    unified: Path | None
    controllers: Mapping[str, Path]
    others: Sequence[Path] = ()
    """Mounted too, and of no use here; the runtime makes its cgroups there all the same, below a pod's."""

    @property
    def directories(self) -> Sequence[Path]:
        """Every directory in which a cgroup has to be made."""
        return (self.unified,) if self.unified is not None else tuple(dict.fromkeys(self.controllers.values()))


def find(mountinfo: str = "/proc/self/mountinfo") -> Hierarchies:
    """Look where cgroups are mounted. Controllers on v1 win over a v2 hierarchy that has none."""
    unified: Path | None = None
    controllers: dict[str, Path] = {}
    mounted: dict[Path, None] = {}
    with open(mountinfo, encoding="utf-8") as table:
        for line in table:
            fields = line.split()
            separator = fields.index("-")
            kind, point, options = fields[separator + 1], Path(fields[4]), fields[separator + 3].split(",")
            if kind == "cgroup2":
                unified = point
                mounted[point] = None
            elif kind == "cgroup":
                mounted[point] = None
                for name in options:
                    if name in _V1_CONTROLLERS:
                        controllers.setdefault(name, point)
                    elif name == "name=systemd":
                        controllers.setdefault("systemd", point)
    if "memory" in controllers or "cpu" in controllers or unified is None:
        used = set(controllers.values())
        return Hierarchies(None, controllers, tuple(point for point in mounted if point not in used))
    return Hierarchies(unified, {})


def has_swap_limits(hierarchies: Hierarchies, own: str = "/proc/self/cgroup") -> bool:
    """Whether cgroup v2 is in use and its kernel can keep a container from the machine's swap; `own` tells this process's cgroup."""
    if hierarchies.unified is None:
        return False
    # the topmost cgroup has no limits
    name = next((line[3:] for line in Path(own).read_text().splitlines() if line.startswith("0::")), "/")
    return (hierarchies.unified / name.strip("/") / "memory.swap.max").exists()


def has_hugepage_limits(hierarchies: Hierarchies) -> bool:
    """Whether the kernel can limit the huge pages of a cgroup."""
    if hierarchies.unified is None:
        return "hugetlb" in hierarchies.controllers
    return "hugetlb" in (hierarchies.unified / "cgroup.controllers").read_text().split()


class Cgroups:
    """Makes, limits and removes cgroups. Raises OSError."""

    def __init__(self, hierarchies: Hierarchies, root: str = "", pod_max_pids: int = -1) -> None:
        self._hierarchies, self._root, self.pod_max_pids = hierarchies, root.rstrip("/"), pod_max_pids

    @property
    def v2(self) -> bool:
        """Whether the unified hierarchy is in use."""
        return self._hierarchies.unified is not None

    def class_name(self, qos: str) -> str:
        """The name of the cgroup of a QoS class; that of the Guaranteed pods is the one of all pods."""
        return f"{self._root}/kubepods{_QOS_DIRECTORY[qos]}"

    def pod_name(self, qos: str, uid: str) -> str:
        """The name of a pod's cgroup."""
        return f"{self.class_name(qos)}/pod{uid}"

    def uid(self, directory: str) -> str | None:
        """Whose cgroup a directory of a class is; None for one that is no pod's."""
        return directory[3:] if directory.startswith("pod") else None

    def setup(self) -> None:
        """Make the cgroups of the QoS classes."""
        for qos in CLASSES:
            self.make(self.class_name(qos))
        self.set_cpu(self.class_name(resources.BEST_EFFORT), resources.MIN_SHARES, None)

    def limit_pods(self, milli_cpu: int, memory: int, pids: int | None = None) -> None:
        """Weigh all pods together by the CPU, and limit them to the memory and the processes, that the node has for them (Node
        Allocatable)."""
        name = self.class_name(resources.GUARANTEED)
        self.make(name)
        self.set_cpu(name, resources.cpu_shares(milli_cpu), None)
        self.set_memory(name, memory)
        if pids is not None:
            self.set_pids(name, pids)

    def set_burstable(self, milli_cpu: int) -> None:
        """Weigh the Burstable pods by what they ask for together."""
        self.set_cpu(self.class_name(resources.BURSTABLE), resources.cpu_shares(milli_cpu), None)

    def ensure_pod(self, qos: str, uid: str, limits: PodLimits) -> str:
        """Make a pod's cgroup and set its limits; its name."""
        name = self.pod_name(qos, uid)
        self.make(name)
        self.set_cpu(name, limits.shares, limits.quota)
        if limits.memory is not None:
            self.set_memory(name, limits.memory)
        if self.pod_max_pids > 0:
            self.set_pids(name, self.pod_max_pids)
        self.set_hugepages(name, limits.hugepages)
        return name

    def set_cpu(self, name: str, shares: int, quota: int | None) -> None:
        """Weigh a cgroup, and limit it where `quota` is given (microseconds in a period)."""
        if self.v2:
            self._write("cpu", name, "cpu.weight", str(resources.cpu_weight(shares)))
        else:
            self._write("cpu", name, "cpu.shares", str(shares))
        if quota is None:
            return
        if self.v2:
            self._write("cpu", name, "cpu.max", f"{quota} {resources.CPU_PERIOD}")
        else:
            self._write("cpu", name, "cpu.cfs_period_us", str(resources.CPU_PERIOD))
            self._write("cpu", name, "cpu.cfs_quota_us", str(quota))

    def set_memory(self, name: str, limit: int) -> None:
        """Limit a cgroup's memory, in bytes."""
        self._write("memory", name, "memory.max" if self.v2 else "memory.limit_in_bytes", str(limit))

    def set_pids(self, name: str, limit: int) -> None:
        """Limit the processes and threads in a cgroup."""
        self._write("pids", name, "pids.max", str(limit))

    def set_hugepages(self, name: str, limits: Mapping[int, int]) -> None:
        """Limit a cgroup's huge pages, and their reservations, in bytes by the pages' size; of a size that is not named it gets none."""
        directory = self._hierarchies.unified or self._hierarchies.controllers.get("hugetlb")
        if directory is None:
            return
        end = "max" if self.v2 else "limit_in_bytes"
        sizes = {resources.hugepage_text(size): limit for size, limit in limits.items()}
        for path in (directory / name.strip("/")).glob(f"hugetlb.*.{end}"):
            path.write_text(str(sizes.get(path.name.split(".")[1], 0)))

    def pod_now(self, qos: str, uid: str) -> tuple[PodLimits, int | None]:
        """(the limits that a pod's cgroup has, the memory that it uses); what cannot be read, and no limit, is None."""
        name = self.pod_name(qos, uid)
        if self.v2:
            quota, _, _ = self._read("cpu", name, "cpu.max").partition(" ")
            memory, usage = self._read("memory", name, "memory.max"), self._read("memory", name, "memory.current")
            shares = resources.shares_of_weight(_number(self._read("cpu", name, "cpu.weight")) or 1)
        else:
            quota = self._read("cpu", name, "cpu.cfs_quota_us")
            memory = self._read("memory", name, "memory.limit_in_bytes")
            usage = self._read("memory", name, "memory.usage_in_bytes")
            shares = _number(self._read("cpu", name, "cpu.shares")) or resources.MIN_SHARES
        limit = _number(memory)
        return PodLimits(shares, _number(quota), limit if limit is not None and limit < _UNLIMITED else None), _number(usage)

    def remove_pod(self, uid: str, timeout: float = 5.0) -> None:
        """Remove a pod's cgroup in whichever class it is, ending what is left in it. Raises OSError when it stays busy."""
        deadline = time.monotonic() + timeout
        for directory in (*self._hierarchies.directories, *self._hierarchies.others):
            for qos in CLASSES:
                path = directory / self.pod_name(qos, uid).lstrip("/")
                while path.exists():
                    try:
                        _remove_tree(path)
                    except OSError:
                        if time.monotonic() > deadline:
                            raise
                        _kill_all(path)
                        time.sleep(0.01)

    def usage(self, qos: str, uid: str) -> tuple[int, int]:
        """(working set in bytes, processes and threads) of a pod; 0 where its cgroup is gone."""
        name = self.pod_name(qos, uid)
        return self._working_set(name), _count(self._file("pids", name, "pids.current"))

    def container_name(self, qos: str, uid: str, id: str) -> str:
        """The name of a container's cgroup, which the runtime makes."""
        return f"{self.pod_name(qos, uid)}/{id}"

    def all_pods(self) -> AllPods:
        """What all pods together use and may use."""
        name = self.class_name(resources.GUARANTEED)
        limit = _number(self._read("memory", name, "memory.max" if self.v2 else "memory.limit_in_bytes"))
        return AllPods(self._working_set(name), limit if limit is not None and limit < _UNLIMITED else None)

    def swap(self, name: str) -> Swap | None:
        """What a cgroup has in swap; None where the kernel does not count it."""
        if not self.v2:
            stat = _table(self._file("memory", name, "memory.stat"))
            return Swap(stat["total_swap"]) if "total_swap" in stat else None
        used = _number(self._read("memory", name, "memory.swap.current"))
        return Swap(used, _number(self._read("memory", name, "memory.swap.max"))) if used is not None else None

    def pressure(self, name: str) -> dict[str, Pressure]:
        """How long the tasks of a cgroup have waited, by resource; on v2, where the kernel keeps such accounts."""
        found = {}
        for what in _PRESSURES if self.v2 else ():
            lines = self._read(what, name, f"{what}.pressure").splitlines()
            stalls = {kind: _stall(rest) for kind, _, rest in (line.partition(" ") for line in lines)}
            if "some" in stalls:
                # older kernels say nothing of a CPU for which all wait
                found[what] = Pressure(stalls.get("full", Stall(0, 0.0, 0.0, 0.0)), stalls["some"])
        return found

    def cpu_usage(self, name: str) -> int:
        """Nanoseconds of CPU that a cgroup has used so far; 0 where the kernel does not count them."""
        if self.v2:
            return _table(self._file("cpu", name, "cpu.stat")).get("usage_usec", 0) * 1000
        return _count(self._file("cpuacct", name, "cpuacct.usage"))

    def account(self, name: str) -> Account:
        """All that a cgroup has used, and what it is limited to; what the kernel does not count is 0."""
        stat = _table(self._file("memory", name, "memory.stat"))
        cpu = _table(self._file("cpu", name, "cpu.stat"))
        usage, working_set = _count(self._file("memory", name, self._usage_file)), self._working_set(name)
        threads = _count(self._file("pids", name, "pids.current"))
        if self.v2:
            if not name.strip("/"):  # of the topmost cgroup v2 keeps no sum
                usage, working_set = stat.get("anon", 0) + stat.get("file", 0), self.node_working_set() or 0
            quota, _, period = self._read("cpu", name, "cpu.max").partition(" ")
            return Account(
                cpu=cpu.get("usage_usec", 0) * 1000,
                user=cpu.get("user_usec", 0) * 1000,
                system=cpu.get("system_usec", 0) * 1000,
                periods=cpu.get("nr_periods", 0),
                throttled_periods=cpu.get("nr_throttled", 0),
                throttled=cpu.get("throttled_usec", 0) * 1000,
                quota=_number(quota),
                period=_number(period),
                shares=resources.shares_of_weight(_number(self._read("cpu", name, "cpu.weight")) or 1),
                memory=usage,
                working_set=working_set,
                rss=stat.get("anon", 0),
                cache=stat.get("file", 0),
                mapped=stat.get("file_mapped", 0),
                most=_count(self._file("memory", name, "memory.peak")),
                swap=_count(self._file("memory", name, "memory.swap.current")),
                limit=_number(self._read("memory", name, "memory.max")),
                oom_kills=_table(self._file("memory", name, "memory.events")).get("oom_kill", 0),
                threads=threads,
            )
        ticks = _table(self._file("cpuacct", name, "cpuacct.stat"))
        limit = _number(self._read("memory", name, "memory.limit_in_bytes"))
        return Account(
            cpu=_count(self._file("cpuacct", name, "cpuacct.usage")),
            user=ticks.get("user", 0) * _TICK,
            system=ticks.get("system", 0) * _TICK,
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled=cpu.get("throttled_time", 0),
            quota=_number(self._read("cpu", name, "cpu.cfs_quota_us")),
            period=_number(self._read("cpu", name, "cpu.cfs_period_us")),
            shares=_number(self._read("cpu", name, "cpu.shares")) or resources.MIN_SHARES,
            memory=usage,
            working_set=working_set,
            rss=stat.get("total_rss", 0),
            cache=stat.get("total_cache", 0),
            mapped=stat.get("total_mapped_file", 0),
            most=_count(self._file("memory", name, "memory.max_usage_in_bytes")),
            swap=stat.get("total_swap", 0),
            limit=limit if limit is not None and limit < _UNLIMITED else None,
            oom_kills=_table(self._file("memory", name, "memory.oom_control")).get("oom_kill", 0),
            threads=threads,
        )

    def processes(self, name: str) -> tuple[int, ...]:
        """The processes that are in a cgroup itself."""
        return tuple(int(pid) for pid in self._read("memory", name, "cgroup.procs").split())

    @property
    def _usage_file(self) -> str:
        return "memory.current" if self.v2 else "memory.usage_in_bytes"

    def node_working_set(self) -> int | None:
        """Bytes of memory that the machine cannot do without; None where the kernel does not count them."""
        if self.v2:
            # the topmost cgroup of v2 counts nothing but these
            stat = _table(self._file("memory", "", "memory.stat"))
            return stat["anon"] + stat["file"] - stat.get("inactive_file", 0) if "anon" in stat and "file" in stat else None
        return self._working_set("") or None

    def _working_set(self, name: str) -> int:
        """What is in use, without the files that the kernel would drop first."""
        used = _count(self._file("memory", name, self._usage_file))
        stat = _table(self._file("memory", name, "memory.stat"))
        return max(0, used - stat.get("inactive_file" if self.v2 else "total_inactive_file", 0))

    def pods(self) -> set[str]:
        """The UIDs of the pods that have a cgroup."""
        found: set[str] = set()
        for directory in self._hierarchies.directories:
            for qos in CLASSES:
                with contextlib.suppress(FileNotFoundError):
                    entries = os.scandir(directory / self.class_name(qos).lstrip("/"))
                    found.update(uid for entry in entries if (uid := self.uid(entry.name)) is not None and entry.is_dir())
        return found

    def make(self, name: str) -> None:
        """Make a cgroup, and those above it, so that it and its children can be limited."""
        for directory in self._hierarchies.directories:
            current = directory
            for part in name.strip("/").split("/"):
                if self.v2:
                    self._delegate(current)
                parent, current = current, current / part
                with contextlib.suppress(FileExistsError):
                    current.mkdir()
                    if directory == self._hierarchies.controllers.get("cpuset"):
                        _inherit_cpuset(parent, current)
        if self.v2 and self._hierarchies.unified is not None:
            self._delegate(self._hierarchies.unified / name.strip("/"))

    def _delegate(self, path: Path) -> None:
        """Let the children of a v2 cgroup be limited in what this one can limit."""
        self._enable(path, *_V2_CONTROLLERS)

    def _enable(self, path: Path, *controllers: str) -> None:
        available = (path / "cgroup.controllers").read_text().split()
        control = path / "cgroup.subtree_control"
        enabled = control.read_text().split()
        for controller in controllers:
            if controller in available and controller not in enabled:
                with contextlib.suppress(OSError):
                    control.write_text(f"+{controller}")

    def _read(self, controller: str, name: str, file: str) -> str:
        directory = self._hierarchies.unified or self._hierarchies.controllers.get(controller)
        try:
            return (directory / name.strip("/") / file).read_text().strip() if directory is not None else ""
        except OSError:
            return ""

    def _file(self, controller: str, name: str, file: str) -> Path | None:
        directory = self._hierarchies.unified or self._hierarchies.controllers.get(controller)
        return directory / name.strip("/") / file if directory is not None else None

    def _write(self, controller: str, name: str, file: str, value: str) -> None:
        path = self._file(controller, name, file)
        if path is not None:
            path.write_text(value)


def _count(path: Path | None) -> int:
    try:
        return int(path.read_text()) if path is not None else 0
    except (OSError, ValueError):
        return 0


def _table(path: Path | None) -> dict[str, int]:
    """The names and numbers of a file such as memory.stat; none where there is no such file."""
    try:
        lines = path.read_text().splitlines() if path is not None else []
    except OSError:
        return {}
    return {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _stall(text: str) -> Stall:
    """Of `avg10=0.00 avg60=0.00 avg300=0.00 total=0`."""
    fields = dict(part.split("=", 1) for part in text.split())
    return Stall(int(fields["total"]), float(fields["avg10"]), float(fields["avg60"]), float(fields["avg300"]))


def _inherit_cpuset(parent: Path, child: Path) -> None:
    """A v1 cpuset cgroup takes no process before it has CPUs and memory nodes."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        if not (child / file).read_text().strip():
            (child / file).write_text((parent / file).read_text())


def _remove_tree(path: Path) -> None:
    for parent, _, _ in os.walk(path, topdown=False):
        os.rmdir(parent)


def _kill_all(path: Path) -> None:
    for parent, _, _ in os.walk(path):
        with contextlib.suppress(FileNotFoundError):
            for pid in (Path(parent) / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
