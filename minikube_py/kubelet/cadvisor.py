"""/metrics/cadvisor: what the machine's and the pods' cgroups have used, with the names and labels of upstream's cAdvisor, which dashboards
ask for.

What flows through: the pods that run in, their cgroups' accounts and network interfaces read in a thread, families of samples out. A pod's
interfaces are those that its first process sees.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from minikube_py.kubelet import machine, resources
from minikube_py.kubelet.cgroups import CLASSES, Account, Cgroups
from minikube_py.kubelet.pods import Pods
from minikube_py.kubelet.tools import Tools
from minikube_py.meta.expfmt import Family, Sample
from minikube_py.types.pod import Pod

_SECOND = 1e9


class Group(NamedTuple):
    """One cgroup: its labels, its account, when it began (seconds since the epoch, 0: not known), the interfaces that are its own."""

    labels: Mapping[str, str]
    account: Account
    started: float = 0.0
    interfaces: Sequence[machine.Interface] = ()


class Container(NamedTuple):
    """A container that runs, as its labels tell of it."""

    name: str
    id: str
    image: str
    started: float


async def metrics(tools: Tools, pods: Pods) -> Sequence[Family]:
    """The families of one node, as of now."""
    wanted = []
    for worker in pods.workers.values():
        if worker.pod is not None and worker.state.sandbox is not None:
            running = tuple(Container(c.name, c.id, c.image, c.started_at) for c in worker.state.containers if c.running)
            wanted.append((worker.pod, worker.state.sandbox.id, running))
    facts, groups = await asyncio.to_thread(lambda: (machine.facts(tools.options.root_dir), _groups(tools.cgroups, wanted)))
    return families(facts, groups, tools.clock.time())


def families(facts: machine.Facts, groups: Sequence[Group], now: float) -> Sequence[Family]:
    """What the accounts say. `now` is the time of the samples."""
    of_machine = {"boot_id": facts.boot_id, "machine_id": facts.machine_id, "system_uuid": facts.system_uuid}
    found = [
        Family("machine_cpu_cores", "gauge", "Number of logical CPU cores.", [Sample(facts.cpus, of_machine)]),
        Family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.", [Sample(facts.memory, of_machine)]),
        Family("machine_swap_bytes", "gauge", "Amount of swap memory available on the machine.", [Sample(facts.swap, of_machine)]),
    ]
    for name, kind, words, value in _OF_ACCOUNT:
        samples = []
        for group in groups:
            number = value(group.account)
            if number is not None:
                labels = {**group.labels, "cpu": "total"} if name == "container_cpu_usage_seconds_total" else group.labels
                samples.append(Sample(number, labels, None if name.startswith("container_spec_") else now))
        found.append(Family(name, kind, words, samples))
    started = [Sample(group.started, group.labels) for group in groups if group.started]
    found.append(Family("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds.", started))
    seen = [Sample(int(now), group.labels, now) for group in groups]
    found.append(Family("container_last_seen", "gauge", "Last time a container was seen by the exporter", seen))
    for name, words, amount in _OF_INTERFACE:
        samples = [
            Sample(amount(interface), {**group.labels, "interface": interface.name}, now)
            for group in groups
            for interface in group.interfaces
        ]
        found.append(Family(f"container_network_{name}_total", "counter", words, samples))
    words = "1 if there was an error while getting container metrics, 0 otherwise"
    return [*found, Family("container_scrape_error", "gauge", words, [Sample(0)])]


_OF_ACCOUNT: tuple[tuple[str, str, str, Callable[[Account], float | None]], ...] = (
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", lambda a: a.cpu / _SECOND),
    ("container_cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds.", lambda a: a.user / _SECOND),
    ("container_cpu_system_seconds_total", "counter", "Cumulative system cpu time consumed in seconds.", lambda a: a.system / _SECOND),
    (
        "container_cpu_cfs_periods_total",
        "counter",
        "Number of elapsed enforcement period intervals.",
        lambda a: a.periods if a.quota else None,
    ),
    (
        "container_cpu_cfs_throttled_periods_total",
        "counter",
        "Number of throttled period intervals.",
        lambda a: a.throttled_periods if a.quota else None,
    ),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Total time duration the container has been throttled.",
        lambda a: a.throttled / _SECOND if a.quota else None,
    ),
    ("container_memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory.", lambda a: a.memory),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", lambda a: a.working_set),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", lambda a: a.rss),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory.", lambda a: a.cache),
    ("container_memory_mapped_file", "gauge", "Size of memory mapped files in bytes.", lambda a: a.mapped),
    ("container_memory_swap", "gauge", "Container swap usage in bytes.", lambda a: a.swap),
    ("container_memory_max_usage_bytes", "gauge", "Maximum memory usage recorded in bytes.", lambda a: a.most),
    ("container_oom_events_total", "counter", "Count of out of memory events observed for the container.", lambda a: a.oom_kills),
    ("container_threads", "gauge", "Number of threads running inside the container.", lambda a: a.threads),
    ("container_spec_cpu_period", "gauge", "CPU period of the container.", lambda a: a.period),
    ("container_spec_cpu_quota", "gauge", "CPU quota of the container.", lambda a: a.quota),
    ("container_spec_cpu_shares", "gauge", "CPU share of the container.", lambda a: a.shares),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", lambda a: a.limit or 0),
)
"""By name: kind, help, and the number, None where there is none to tell."""

_OF_INTERFACE: tuple[tuple[str, str, Callable[[machine.Interface], int]], ...] = (
    ("receive_bytes", "Cumulative count of bytes received", lambda i: i.rxBytes),
    ("receive_packets", "Cumulative count of packets received", lambda i: i.rxPackets),
    ("receive_errors", "Cumulative count of errors encountered while receiving", lambda i: i.rxErrors),
    ("receive_packets_dropped", "Cumulative count of packets dropped while receiving", lambda i: i.rxDropped),
    ("transmit_bytes", "Cumulative count of bytes transmitted", lambda i: i.txBytes),
    ("transmit_packets", "Cumulative count of packets transmitted", lambda i: i.txPackets),
    ("transmit_errors", "Cumulative count of errors encountered while transmitting", lambda i: i.txErrors),
    ("transmit_packets_dropped", "Cumulative count of packets dropped while transmitting", lambda i: i.txDropped),
)


def _groups(cgroups: Cgroups, pods: Iterable[tuple[Pod, str, Sequence[Container]]]) -> list[Group]:
    """The machine, the QoS classes, the pods that run and their containers."""
    found = [Group(_labels("/"), cgroups.account(""), machine.boot_time(), machine.interfaces())]
    found += [Group(_labels(name), cgroups.account(name)) for name in map(cgroups.class_name, CLASSES)]
    for pod, sandbox, containers in pods:
        qos, uid = resources.qos_class(pod), pod.metadata.uid
        where = {"namespace": pod.metadata.namespace, "pod": pod.metadata.name}
        name, begun = cgroups.pod_name(qos, uid), min((c.started for c in containers), default=0.0)
        interfaces: Sequence[machine.Interface] = ()
        if not pod.spec.hostNetwork:
            processes = cgroups.processes(cgroups.container_name(qos, uid, sandbox))
            interfaces = machine.interfaces(str(processes[0])) if processes else ()
        found.append(Group({**_labels(name), **where}, cgroups.account(name), begun, interfaces))
        for one in containers:
            inner = cgroups.container_name(qos, uid, one.id)
            labels = {**_labels(inner), **where, "container": one.name, "image": one.image, "name": one.id}
            found.append(Group(labels, cgroups.account(inner), one.started))
    return found


def _labels(id: str) -> dict[str, str]:
    return {"container": "", "id": id, "image": "", "name": "", "namespace": "", "pod": ""}
