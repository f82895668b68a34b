"""What a node costs that an agent makes: seconds from exec to Ready, and the memory of the agent's process tree with five pods.

    python scripts/bench/agent.py [--runs 5]        as root; every node is a network namespace of its own

A first start joins (token, certificates) and starts containerd; a later one finds both. The node's object is removed before either.
containerd and the pods are not the agent's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import tree
from tests.support.cluster import Nodes, nodes
from tests.support.images import BUSYBOX
from tests.support.members import Agent

TIMEOUT = 60.0
PODS = 5
SETTLE = 10.0


def until_ready(cluster: Nodes, agent: Agent) -> tuple[float, float]:
    """Seconds from exec to a Ready node, and of processor time until then; the node's object is
    removed before, so that an old word does not count."""
    cluster.server.request("DELETE", f"/api/v1/nodes/{agent.namespace}")
    began = time.perf_counter()
    agent.start()
    while not cluster.is_ready(agent.namespace):
        if time.perf_counter() - began > TIMEOUT:
            raise SystemExit("the node did not get ready:\n" + agent.log()[-2000:])
        time.sleep(0.01)
    took = time.perf_counter() - began
    assert agent.process is not None
    return took, tree.usage(agent.process.pid).cpu


def forget(agent: Agent) -> None:
    """Leave a machine that has never joined, with its images, and no containerd that runs."""
    asyncio.run(agent.containerd().stop())
    directory = agent.data / "agent"
    for name in ("pki", "checkpoint"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in ("server-ca.crt", "cluster.json"):
        (directory / name).unlink(missing_ok=True)


def memory(cluster: Nodes, agent: Agent) -> int:
    """PSS in bytes of the agent and what it has started, with five pods on its node."""
    for number in range(PODS):
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"bench-{number}"},
            "spec": {"nodeName": agent.namespace, "containers": [{"name": "main", "image": BUSYBOX, "command": ["sleep", "1000"]}]},
        }
        cluster.server.create("/api/v1/namespaces/default/pods", body)
    deadline = time.monotonic() + TIMEOUT
    while any(pod["status"].get("phase") != "Running" for pod in cluster.server.get("/api/v1/namespaces/default/pods")["items"]):
        if time.monotonic() > deadline:
            raise SystemExit("the pods did not start:\n" + agent.log()[-2000:])
        time.sleep(0.1)
    time.sleep(SETTLE)
    assert agent.process is not None
    return sum(tree.memory(agent.process.pid).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with nodes(2) as cluster:
        agent = cluster.agents[0]
        taken = memory(cluster, agent)
        for number in range(PODS):
            cluster.server.request("DELETE", f"/api/v1/namespaces/default/pods/bench-{number}?gracePeriodSeconds=0")
        first, later = [], []
        for _ in range(runs):
            agent.stop()
            later.append(until_ready(cluster, agent))
            agent.stop()
            forget(agent)
            first.append(until_ready(cluster, agent))
    print("| an agent | median | worst | processor time, median |\n|---|---|---|---|")
    for name, starts in (("joins, starts containerd", first), ("has joined, containerd runs", later)):
        walls, cpus = zip(*starts, strict=True)
        print(f"| exec → Node Ready, {name} | {statistics.median(walls):.2f} s | {max(walls):.2f} s | {statistics.median(cpus):.2f} s |")
    print(f"| memory with {PODS} pods, without containerd (PSS) | {taken / tree.MIB:.1f} MiB | | |")


if __name__ == "__main__":
    main()
