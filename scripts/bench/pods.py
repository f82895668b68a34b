"""From the creation of a pod to Running, image present, one pod after the other, and ten at once; beside the floor: containerd driven
directly.

    python scripts/bench/pods.py [--count 20] [--rounds 3]        as root; the node is a network namespace of its own

Both are measured in one run, on one containerd, the floor before and after: what else the machine does hits both.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from minikube_py.cri.client import CriClient
from scripts.bench.cri_floor import measure, percentile
from scripts.bench.kube import Connection, Obj, bound_account
from tests.support.cluster import Cluster, cluster
from tests.support.images import BUSYBOX

PODS = "/api/v1/namespaces/default/pods"


def pod(name: str) -> Obj:
    """A pod that sleeps, and ends when it is told to."""
    command = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": BUSYBOX, "command": command}], "terminationGracePeriodSeconds": 5},
    }


def starts(made: Cluster, token: str, count: int) -> list[float]:
    """Seconds from each creation to Running; a pod is gone before the next is made."""
    durations = []
    with Connection(made, token) as connection, Connection(made, token) as watcher:
        revision = connection.request("GET", f"{PODS}?limit=1")["metadata"]["resourceVersion"]
        events = watcher.watch(f"{PODS}?watch=1&resourceVersion={revision}")
        for number in range(count):
            name = f"bench-{time.monotonic_ns()}-{number}"
            began = time.perf_counter()
            connection.request("POST", PODS, pod(name))
            for kind, found in events:
                if found["metadata"]["name"] == name and found.get("status", {}).get("phase") == "Running":
                    durations.append(time.perf_counter() - began)
                    break
                assert kind != "ERROR", found
            connection.request("DELETE", f"{PODS}/{name}")
            for kind, found in events:
                if found["metadata"]["name"] == name and kind == "DELETED":
                    break
    return durations


async def floor(made: Cluster, count: int) -> list[float]:
    """Seconds that containerd takes for the same, with nothing around it."""
    async with CriClient(made.containerd().socket) as client:
        return (await measure(client, count, cgroup=f"{made.cgroup}/floor")).up


AT_ONCE = 10


def burst(made: Cluster, token: str) -> float:
    """Seconds from the creation of the first of ten pods until the last is Running."""
    with Connection(made, token) as connection, Connection(made, token) as watcher:
        revision = connection.request("GET", f"{PODS}?limit=1")["metadata"]["resourceVersion"]
        events = watcher.watch(f"{PODS}?watch=1&resourceVersion={revision}")
        names = {f"burst-{time.monotonic_ns()}-{number}" for number in range(AT_ONCE)}
        began = time.perf_counter()
        for name in names:
            connection.request("POST", PODS, pod(name))
        waiting = set(names)
        for _, found in events:
            if found.get("status", {}).get("phase") == "Running":
                waiting.discard(found["metadata"]["name"])
            if not waiting:
                break
        took = time.perf_counter() - began
        for name in names:
            connection.request("DELETE", f"{PODS}/{name}")
        for kind, found in events:
            if kind == "DELETED":
                names.discard(found["metadata"]["name"])
            if not names:
                return took
    raise SystemExit("the watch ended before the pods were gone")


async def burst_floor(made: Cluster) -> float:
    """The same of containerd alone."""
    async with CriClient(made.containerd().socket) as client:
        return max((await measure(client, AT_ONCE, at_once=AT_ONCE, cgroup=f"{made.cgroup}/floor")).up)


def row(name: str, durations: Sequence[float], against: float) -> None:
    median = statistics.median(durations)
    print(f"| {name} | {median * 1000:.0f} ms | {percentile(durations, 0.95) * 1000:.0f} ms | {median / against:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    count = options.count
    with cluster() as made:
        token = bound_account(made, "default", "pods")
        starts(made, token, 2)  # the image is unpacked, the bridge is made
        floors = asyncio.run(floor(made, count - count // 2))
        durations = starts(made, token, count)
        floors += asyncio.run(floor(made, count // 2))
        bursts, burst_floors = [], []
        for _ in range(options.rounds):
            burst_floors.append(asyncio.run(burst_floor(made)))
            bursts.append(burst(made, token))
    print(f"| {count} pods in a row | median | p95 | to the floor |\n|---|---|---|---|")
    row("containerd alone: sandbox, create, start", floors, statistics.median(floors))
    row("pod created → Running", durations, statistics.median(floors))
    if bursts:
        ours, theirs = statistics.median(bursts), statistics.median(burst_floors)
        print(
            f"\n| {AT_ONCE} pods at once, until the last runs, {len(bursts)} rounds | median | pods/s | to the floor |\n|---|---|---|---|"
        )
        print(f"| containerd alone | {theirs * 1000:.0f} ms | {AT_ONCE / theirs:.1f} | 1.00 |")
        print(f"| pods created → Running | {ours * 1000:.0f} ms | {AT_ONCE / ours:.1f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
