"""What the machine is: CPUs, memory, disk, kernel, operating system. Read from /proc, /sys and /etc: blocks for microseconds."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import NamedTuple

from minikube_py.kubelet.options import KubeletOptions
from minikube_py.meta import quantity, thresholds

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}


class Facts(NamedTuple):
    """The machine's size (memory and disk in bytes) and identity."""

    cpus: int
    memory: int
    swap: int
    disk: int
    pids: int
    """Processes and threads that there can be; 0 where the kernel does not say."""
    hugepages: tuple[tuple[str, int], ...]
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel: str
    os_image: str
    architecture: str


def facts(root: Path) -> Facts:
    """Look at the machine; `root` is where the node's storage lies."""
    memory = meminfo()
    disk = os.statvfs(existing(root))
    return Facts(
        cpus=len(os.sched_getaffinity(0)),
        memory=memory.get("MemTotal", 0),
        swap=memory.get("SwapTotal", 0),
        disk=disk.f_blocks * disk.f_frsize,
        pids=processes()[1],
        hugepages=_hugepages(),
        machine_id=_read("/etc/machine-id") or _read("/var/lib/dbus/machine-id"),
        system_uuid=_read("/sys/class/dmi/id/product_uuid").lower() or _read("/etc/machine-id"),
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
        kernel=os.uname().release,
        os_image=_os_image(),
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
    )


def processes() -> tuple[int, int]:
    """(how many processes and threads there are, how many there can be); zeros where the kernel does not say."""
    load = _read("/proc/loadavg").split()
    limits = [int(text) for name in ("pid_max", "threads-max") if (text := _read(f"/proc/sys/kernel/{name}"))]
    return int(load[3].partition("/")[2]) if len(load) > 3 else 0, min(limits, default=0)


def meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    out = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        out[name] = int(fields[0]) * (1024 if len(fields) > 1 else 1)
    return out


class Interface(NamedTuple):
    """What went through a network interface, in bytes and in packets, and the packets that were damaged or dropped."""

    name: str
    rxBytes: int
    rxPackets: int
    rxErrors: int
    rxDropped: int
    txBytes: int
    txPackets: int
    txErrors: int
    txDropped: int


def interfaces(process: str = "self") -> tuple[Interface, ...]:
    """The network interfaces that a process sees but loopback, that of the default route first."""
    routes = [line.split() for line in _read(f"/proc/{process}/net/route").splitlines()[1:]]
    default = next((fields[0] for fields in routes if fields[1] == "00000000"), "")
    found = []
    for line in _read(f"/proc/{process}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = [int(field) for field in rest.split()]
        if name.strip() != "lo":
            found.append(Interface(name.strip(), *fields[0:4], *fields[8:12]))
    return tuple(sorted(found, key=lambda i: i.name != default))


def boot_time() -> float:
    """When the machine was started, in seconds since the epoch."""
    return next((float(line.split()[1]) for line in _read("/proc/stat").splitlines() if line.startswith("btime ")), 0.0)


def capacity(machine: Facts, options: KubeletOptions) -> dict[str, str]:
    """The node's capacity."""
    return {
        "cpu": str(machine.cpus),
        "memory": f"{machine.memory // 1024}Ki",
        "ephemeral-storage": f"{machine.disk // 1024}Ki",
        "pods": str(options.settings.max_pods),
        **{f"hugepages-{size}": str(quantity.of_value(amount, quantity.Format.BINARY_SI)) for size, amount in machine.hugepages},
    }


def allocatable(machine: Facts, options: KubeletOptions) -> dict[str, str]:
    """What of it pods can have: less what is reserved, and what eviction keeps free."""
    out, eviction = capacity(machine, options), options.settings.eviction
    pods = enforced(machine, options)
    out["cpu"] = str(quantity.of_milli(pods.milli_cpu))
    out["memory"] = f"{max(pods.memory - thresholds.hard_memory(eviction, machine.memory), 0) // 1024}Ki"
    disk = machine.disk - thresholds.hard_disk(eviction, machine.disk) - _reserved(options, "ephemeral-storage") // 1000
    out["ephemeral-storage"] = str(max(disk, 0))
    return out


class Allocatable(NamedTuple):
    """What all pods together can have: thousandths of a core, bytes of memory, processes and threads (None where nobody knows)."""

    milli_cpu: int
    memory: int
    pids: int | None = None


def enforced(machine: Facts, options: KubeletOptions) -> Allocatable:
    """What the machine has, less what is reserved: the limits of the pods' common cgroup."""
    memory = machine.memory - _reserved(options, "memory") // 1000
    pids = max(machine.pids - _reserved(options, "pid") // 1000, 0) if machine.pids else None
    return Allocatable(max(machine.cpus * 1000 - _reserved(options, "cpu"), 0), max(memory, 0), pids)


def _reserved(options: KubeletOptions, resource: str) -> int:
    """In thousandths."""
    settings = options.settings
    return sum(quantity.parse(value).milli() for name, value in (*settings.kube_reserved, *settings.system_reserved) if name == resource)


def hugepage_sizes(machine: Facts) -> tuple[int, ...]:
    """The sizes of the machine's huge pages in bytes, whether there are any of a size or not."""
    return tuple(quantity.parse(size).value() for size, _ in machine.hugepages)


def _hugepages() -> tuple[tuple[str, int], ...]:
    found = []
    directory = Path("/sys/kernel/mm/hugepages")
    if directory.is_dir():
        for entry in sorted(directory.iterdir()):
            kilobytes = int(entry.name.removeprefix("hugepages-").removesuffix("kB"))
            number = int(_read(str(entry / "nr_hugepages")) or 0)
            found.append((str(quantity.of_value(kilobytes * 1024, quantity.Format.BINARY_SI)), number * kilobytes * 1024))
    return tuple(found)


def _os_image() -> str:
    for line in _read("/etc/os-release").splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip().strip('"')
    return "Linux"


def existing(path: Path) -> Path:
    """The path, or the closest directory above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
