"""The kubelet's own /metrics: what it runs, its process, and how full the volumes behind claims are."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from minikube_py import ownprocess
from minikube_py.kubelet.admission import is_static
from minikube_py.kubelet.pods import Pods
from minikube_py.kubelet.tools import Tools
from minikube_py.kubelet.volumes.claims import claims_of
from minikube_py.kubelet.volumes.manager import volume_path
from minikube_py.meta.expfmt import Family, Sample


class VolumeStats(NamedTuple):
    """The file system of a claim's volume, in bytes and inodes."""

    namespace: str
    claim: str
    capacity: int
    available: int
    used: int
    inodes: int
    inodes_free: int
    inodes_used: int


async def metrics(tools: Tools, pods: Pods) -> Sequence[Family]:
    """The families of one node, as of now."""
    volumes: dict[Path, tuple[str, str]] = {}
    for worker in pods.workers.values():
        pod = worker.pod
        if pod is not None and worker.state.running:
            known = tools.claims.known(pod.metadata.uid)
            for name, claim, _ in claims_of(pod):
                if name in known:
                    volume = next(v for v in pod.spec.volumes if v.name == name)
                    path = volume_path(tools.options.pod_dir(pod.metadata.uid), volume, known[name])
                    volumes[path] = pod.metadata.namespace, claim
    stats = await asyncio.to_thread(lambda: [s for path, claim in volumes.items() if (s := _stats(path, *claim)) is not None])
    return [*_of_pods(tools.options.node_name, pods), *_of_volumes(stats), *ownprocess.metrics()]


def _of_pods(node: str, pods: Pods) -> Iterator[Family]:
    desired = {"": 0, "true": 0}
    running, states = 0, {"created": 0, "exited": 0, "running": 0}
    for worker in pods.workers.values():
        if worker.pod is not None:
            desired["true" if is_static(worker.pod) else ""] += 1
        running += bool(worker.state.sandbox is not None and worker.state.sandbox.ready)
        for container in worker.state.containers:
            state = container.state.name.lower()
            states[state] = states.get(state, 0) + 1
    yield Family("kubelet_node_name", "gauge", "[ALPHA] The node's name. The count is always 1.", [Sample(1, {"node": node})])
    words = "[ALPHA] The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver."
    yield Family("kubelet_desired_pods", "gauge", words, [Sample(number, {"static": static}) for static, number in desired.items()])
    yield Family("kubelet_running_pods", "gauge", "[ALPHA] Number of pods that have a running pod sandbox", [Sample(running)])
    samples = [Sample(number, {"container_state": state}) for state, number in sorted(states.items())]
    yield Family("kubelet_running_containers", "gauge", "[ALPHA] Number of containers currently running", samples)


def _of_volumes(stats: Sequence[VolumeStats]) -> Iterator[Family]:
    for name, (field, words) in _VOLUME_STATS.items():
        samples = [Sample(getattr(s, field), {"namespace": s.namespace, "persistentvolumeclaim": s.claim}) for s in stats]
        yield Family(f"kubelet_volume_stats_{name}", "gauge", f"[ALPHA] {words}", samples)


_VOLUME_STATS: Mapping[str, tuple[str, str]] = {
    "capacity_bytes": ("capacity", "Capacity in bytes of the volume"),
    "available_bytes": ("available", "Number of available bytes in the volume"),
    "used_bytes": ("used", "Number of used bytes in the volume"),
    "inodes": ("inodes", "Maximum number of inodes in the volume"),
    "inodes_free": ("inodes_free", "Number of free inodes in the volume"),
    "inodes_used": ("inodes_used", "Number of used inodes in the volume"),
}


def _stats(path: Path, namespace: str, claim: str) -> VolumeStats | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    size = found.f_frsize
    capacity, available, used = found.f_blocks * size, found.f_bavail * size, (found.f_blocks - found.f_bfree) * size
    return VolumeStats(namespace, claim, capacity, available, used, found.f_files, found.f_ffree, found.f_files - found.f_ffree)
