"""What the node and its pods use, for those who ask its endpoint: the Summary API (/stats/summary) and /metrics/resource.

Numbers of containers are the runtime's, those of pods and of the node their cgroups'. Everything is read when it is asked for, at once; a
rate of CPU is told from the second time on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from minikube_py.cri.v1 import api_pb2 as v1
from minikube_py.kubelet import claimstats, machine, resources, state
from minikube_py.kubelet.cgroups import Cgroups, Pressure, Swap
from minikube_py.kubelet.eviction import Observation
from minikube_py.kubelet.measure import Measure
from minikube_py.kubelet.pods import Pods
from minikube_py.kubelet.state import ContainerRecord
from minikube_py.kubelet.tools import Tools
from minikube_py.kubelet.usage import Disk, PodUsage
from minikube_py.meta import thresholds
from minikube_py.types.meta import timestamp
from minikube_py.types.pod import Pod

Obj = dict[str, Any]
_NANO = 1e9


class Reading(NamedTuple):
    """CPU used so far in nanoseconds, the working set in bytes, swap and pressure, at a time in seconds since the epoch."""

    time: float
    cpu: int
    memory: int
    swap: Swap | None = None
    pressure: Mapping[str, Pressure] = {}


class ContainerReading(NamedTuple):
    """A container that runs."""

    name: str
    started: float
    reading: Reading
    stats: v1.ContainerStats


class PodReading(NamedTuple):
    """A pod whose containers run, or have run."""

    pod: Pod
    reading: Reading
    containers: tuple[ContainerReading, ...]


class NodeStats:
    """Reads one node. Raises CriError, OSError."""

    def __init__(self, tools: Tools, pods: Pods) -> None:
        self._tools, self._pods = tools, pods
        self._measure = Measure(tools.cri, tools.cgroups, tools.options)
        self._rates: dict[str, tuple[Reading, int]] = {}

    async def resource_metrics(self) -> str:
        """/metrics/resource in Prometheus's text format."""
        node, pods = await self._read()
        return resource_metrics(node, pods)

    async def summary(self) -> Obj:
        """statsapi.Summary."""
        node, pods = await self._read()
        left = await self._measure.node()
        usage = await self._measure.pods(item.pod for item in pods)
        claims = await claimstats.read(self._tools, (item.pod for item in pods))
        before, self._rates = self._rates, {}

        def cpu(key: str, reading: Reading) -> Obj:
            rate = self._rate(before, key, reading)
            shown: Obj = {"time": timestamp(reading.time), "usageCoreNanoSeconds": reading.cpu}
            return (shown if rate is None else {**shown, "usageNanoCores": rate}) | _pressure(reading, "cpu")

        memory = left[thresholds.MEMORY]
        running, most = machine.processes()
        now = timestamp(node.time)
        made = {
            "nodeName": self._tools.options.node_name,
            "startTime": timestamp(machine.boot_time()),
            "cpu": cpu("", node),
            "memory": {"time": now, "workingSetBytes": node.memory, "availableBytes": memory.available} | _pressure(node, "memory"),
            **_further(node),
            "network": {"time": now, **_network(machine.interfaces())},
            "fs": _file_system(now, left, thresholds.NODEFS, thresholds.NODEFS_INODES),
            "rlimit": {"time": now, "maxpid": most, "curproc": running},
        }
        if thresholds.IMAGEFS in left:
            made["runtime"] = {"imageFs": _file_system(now, left, thresholds.IMAGEFS, thresholds.IMAGEFS_INODES)}
        shown = []
        for item in pods:
            meta, used = item.pod.metadata, usage.get(item.pod.metadata.uid, PodUsage())
            shown.append(
                {
                    "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
                    "startTime": item.pod.status.startTime or meta.creationTimestamp,
                    "containers": [_container(one, used, cpu(one.stats.attributes.id, one.reading)) for one in item.containers],
                    "cpu": cpu(meta.uid, item.reading),
                    "memory": {"time": timestamp(item.reading.time), "workingSetBytes": item.reading.memory}
                    | _pressure(item.reading, "memory"),
                    **_further(item.reading),
                    "volume": [
                        *({"name": name, **_used(now, disk)} for name, disk in used.volumes.items()),
                        *(claimstats.summary(reading, now) for reading in claims.get(meta.uid, ())),
                    ],
                    "ephemeral-storage": {"time": now, "usedBytes": used.storage},
                    "process_stats": {"process_count": used.processes},
                }
            )
        return {"node": made, "pods": shown}

    async def _read(self) -> tuple[Reading, Sequence[PodReading]]:
        stats = {each.attributes.id: each for each in await self._tools.cri.list_container_stats()}
        wanted: list[tuple[Pod, str, tuple[ContainerReading, ...]]] = []
        for uid, worker in self._pods.workers.items():
            if worker.pod is not None and worker.state.sandbox is not None:
                containers = tuple(
                    _reading(record, stats[record.id]) for record in worker.state.containers if record.running and record.id in stats
                )
                wanted.append((worker.pod, uid, containers))
        return await asyncio.to_thread(_cgroup_readings, self._tools.cgroups, self._tools.clock.time(), wanted)

    def _rate(self, before: Mapping[str, tuple[Reading, int]], key: str, reading: Reading) -> int | None:
        """Nanoseconds of CPU a second since the last look; what was known then where that is less than a second ago."""
        known = before.get(key)
        if known is None:
            self._rates[key] = reading, -1
            return None
        last, rate = known
        if reading.time - last.time >= 1 and reading.cpu >= last.cpu:
            rate = int((reading.cpu - last.cpu) / (reading.time - last.time))
            last = reading
        self._rates[key] = last, rate
        return rate if rate >= 0 else None


def resource_metrics(node: Reading, pods: Iterable[PodReading]) -> str:
    """The text that metrics-server reads, with upstream's names."""
    families: dict[str, list[str]] = {name: [] for name in _FAMILIES}

    def add(name: str, labels: str, value: float, reading: Reading | None = None) -> None:
        when = f" {int(reading.time * 1000)}" if reading is not None else ""
        families[name].append(f"{name}{labels} {value:.10g}{when}\n")

    def swap(of: str, labels: str, reading: Reading) -> None:
        if reading.swap is not None:
            add(f"{of}_swap_usage_bytes", labels, reading.swap.used, reading)
            if of == "container" and reading.swap.limit is not None:
                add("container_swap_limit_bytes", labels, reading.swap.limit, reading)

    add("node_cpu_usage_seconds_total", "", node.cpu / _NANO, node)
    add("node_memory_working_set_bytes", "", node.memory, node)
    swap("node", "", node)
    for item in pods:
        where = f'namespace="{item.pod.metadata.namespace}",pod="{item.pod.metadata.name}"'
        add("pod_cpu_usage_seconds_total", f"{{{where}}}", item.reading.cpu / _NANO, item.reading)
        add("pod_memory_working_set_bytes", f"{{{where}}}", item.reading.memory, item.reading)
        swap("pod", f"{{{where}}}", item.reading)
        for one in item.containers:
            labels = f'{{container="{one.name}",{where}}}'
            add("container_cpu_usage_seconds_total", labels, one.reading.cpu / _NANO, one.reading)
            add("container_memory_working_set_bytes", labels, one.reading.memory, one.reading)
            swap("container", labels, one.reading)
            add("container_start_time_seconds", labels, one.started)
    add("resource_scrape_error", "", 0)
    return "".join(
        f"# HELP {name} [{'ALPHA' if '_swap_' in name else 'STABLE'}] {text}\n# TYPE {name} {kind}\n" + "".join(families[name])
        for name, (kind, text) in _FAMILIES.items()
        if families[name]
    )


_FAMILIES = {
    "container_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the container in core-seconds"),
    "container_memory_working_set_bytes": ("gauge", "Current working set of the container in bytes"),
    "container_swap_usage_bytes": (
        "gauge",
        "Current amount of the container swap usage in bytes. Reported only on non-windows systems",
    ),
    "container_swap_limit_bytes": (
        "gauge",
        "Current amount of the container swap limit in bytes. Reported only on non-windows systems",
    ),
    "container_start_time_seconds": ("gauge", "Start time of the container since unix epoch in seconds"),
    "node_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the node in core-seconds"),
    "node_memory_working_set_bytes": ("gauge", "Current working set of the node in bytes"),
    "node_swap_usage_bytes": ("gauge", "Current swap usage of the node in bytes. Reported only on non-windows systems"),
    "pod_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the pod in core-seconds"),
    "pod_memory_working_set_bytes": ("gauge", "Current working set of the pod in bytes"),
    "pod_swap_usage_bytes": ("gauge", "Current amount of the pod swap usage in bytes. Reported only on non-windows systems"),
    "resource_scrape_error": ("gauge", "1 if there was an error while getting container metrics, 0 otherwise"),
}


def _reading(record: ContainerRecord, stats: v1.ContainerStats) -> ContainerReading:
    cpu = stats.cpu
    reading = Reading(cpu.timestamp / _NANO, cpu.usage_core_nano_seconds.value, stats.memory.working_set_bytes.value)
    return ContainerReading(record.name, record.started_at, reading, stats)


def _cgroup_readings(
    cgroups: Cgroups, now: float, wanted: Iterable[tuple[Pod, str, tuple[ContainerReading, ...]]]
) -> tuple[Reading, Sequence[PodReading]]:
    pods = []
    for pod, uid, containers in wanted:
        qos = resources.qos_class(pod)
        memory, _ = cgroups.usage(qos, uid)
        name = cgroups.pod_name(qos, uid)
        reading = Reading(now, cgroups.cpu_usage(name), memory, cgroups.swap(name), cgroups.pressure(name))
        pods.append(PodReading(pod, reading, tuple(_with_cgroup(cgroups, qos, uid, one) for one in containers)))
    found = machine.meminfo()
    swap = Swap(found.get("SwapTotal", 0) - found.get("SwapFree", 0), found.get("SwapTotal", 0))
    return Reading(now, cgroups.cpu_usage(""), cgroups.node_working_set() or 0, swap, cgroups.pressure("")), pods


def _with_cgroup(cgroups: Cgroups, qos: str, uid: str, one: ContainerReading) -> ContainerReading:
    """With what the runtime does not tell of a container."""
    name = cgroups.container_name(qos, uid, one.stats.attributes.id)
    return one._replace(reading=one.reading._replace(swap=cgroups.swap(name), pressure=cgroups.pressure(name)))


def _further(reading: Reading) -> Obj:
    """What the node, a pod and a container have beside CPU and memory."""
    out: Obj = {}
    if reading.swap is not None:
        used, limit = reading.swap
        left = {"swapAvailableBytes": max(0, limit - used)} if limit is not None else {}
        out["swap"] = {"time": timestamp(reading.time), "swapUsageBytes": used, **left}
    if waited := _pressure(reading, "io"):
        out["io"] = {"time": timestamp(reading.time), **waited}
    return out


def _pressure(reading: Reading, resource: str) -> Obj:
    """A resource's pressure; the totals are the kernel's microseconds, as they are upstream, whatever the API's description says."""
    found = reading.pressure.get(resource)
    return {"psi": {"full": found.full._asdict(), "some": found.some._asdict()}} if found is not None else {}


def _container(one: ContainerReading, used: PodUsage, cpu: Obj) -> Obj:
    memory, now = one.stats.memory, timestamp(one.reading.time)
    disks = next((c for c in used.containers if c.name == one.name), None)
    shown: Obj = {"time": now, "workingSetBytes": one.reading.memory}
    for name, amount in (("usageBytes", memory.usage_bytes), ("rssBytes", memory.rss_bytes), ("pageFaults", memory.page_faults)):
        if amount.value:
            shown[name] = amount.value
    shown |= _pressure(one.reading, "memory")
    out: Obj = {"name": one.name, "startTime": timestamp(one.started), "cpu": cpu, "memory": shown, **_further(one.reading)}
    return out if disks is None else {**out, "rootfs": _used(now, disks.rootfs), "logs": _used(now, disks.logs)}


def _used(now: str, disk: Disk) -> Obj:
    return {"time": now, "usedBytes": disk.bytes, "inodesUsed": disk.inodes}


def _file_system(now: str, left: Mapping[str, Observation], space: str, inodes: str) -> Obj:
    bytes_left, bytes_in_all = left[space]
    out = {"time": now, "availableBytes": bytes_left, "capacityBytes": bytes_in_all, "usedBytes": bytes_in_all - bytes_left}
    if inodes in left:
        free, number = left[inodes]
        out |= {"inodesFree": free, "inodes": number, "inodesUsed": number - free}
    return out


def _network(interfaces: Sequence[machine.Interface]) -> Obj:
    shown = [i._asdict() for i in interfaces]
    return {**(shown[0] if shown else {"name": ""}), "interfaces": shown}


def running_pods(pods: Pods) -> Obj:
    """The pods that the runtime runs, as /runningpods/ tells them: names and images alone."""
    items = []
    for worker in pods.workers.values():
        found: state.PodState = worker.state
        if found.running or (found.sandbox is not None and found.sandbox.ready):
            containers = [{"name": c.name, "image": c.image, "resources": {}} for c in found.running]
            meta = {"name": found.name, "namespace": found.namespace, "uid": found.uid, "creationTimestamp": None}
            items.append({"metadata": meta, "spec": {"containers": containers}, "status": {}})
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
