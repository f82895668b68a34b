"""How many scheduling decisions a second one core makes, without the API: 5,000 pods on 1,000 nodes.

Loads of pods that look at nodes alone: of one deployment (one signature), all different, of ten deployments with preferred node affinity.
Loads of pods that look at one another: of one replica set, which is spread by default, one a host, and evenly over zones.
"""

from __future__ import annotations

import argparse
import random
import time

from minikube_py.scheduler.decide import Decider
from minikube_py.scheduler.nodeinfo import Cluster
from minikube_py.scheduler.objects import Objects
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.world import World
from minikube_py.types.core import Node, NodeStatus
from minikube_py.types.meta import LabelSelector, ObjectMeta, OwnerReference
from minikube_py.types.pod import (
    Affinity,
    Container,
    NodeAffinity,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    Pod,
    PodAffinity,
    PodAffinityTerm,
    PodSpec,
    PreferredSchedulingTerm,
    ResourceRequirements,
    TopologySpreadConstraint,
)
from minikube_py.types.workload import ReplicaSet, ReplicaSetSpec

ALIKE = LabelSelector(matchLabels={"app": "web"})


def node(index: int) -> Node:
    """A node of 8 cores and 32 GiB in one of three zones."""
    name = f"node-{index:05d}"
    return Node(
        metadata=ObjectMeta(
            name=name,
            uid=name,
            labels={"kubernetes.io/hostname": name, "zone": f"z{index % 3}", "topology.kubernetes.io/zone": f"z{index % 3}"},
        ),
        status=NodeStatus(allocatable={"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}),
    )


def pod(index: int, cpu: int, memory: int, affinity: Affinity | None = None) -> Pod:
    """A pod of one container."""
    name = f"pod-{index:06d}"
    requests = {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}
    spec = PodSpec(containers=(Container(name="main", resources=ResourceRequirements(requests=requests)),), affinity=affinity)
    return Pod(metadata=ObjectMeta(name=name, namespace="default", uid=name), spec=spec)


def alike(index: int, *, owned: bool = False, affinity: Affinity | None = None, spread: tuple[TopologySpreadConstraint, ...] = ()) -> Pod:
    """A pod with the labels of all its like."""
    name = f"pod-{index:06d}"
    resources = ResourceRequirements(requests={"cpu": "50m", "memory": "64Mi"})
    owners = (OwnerReference(kind="ReplicaSet", name="web", uid="web", controller=True),) if owned else ()
    meta = ObjectMeta(name=name, namespace="default", uid=name, labels=dict(ALIKE.matchLabels), ownerReferences=owners)
    container = Container(name="main", resources=resources)
    return Pod(metadata=meta, spec=PodSpec(containers=(container,), affinity=affinity, topologySpreadConstraints=spread))


def prefers(zone: str) -> Affinity:
    """A preference for a zone."""
    term = NodeSelectorTerm(matchExpressions=(NodeSelectorRequirement(key="zone", operator="In", values=(zone,)),))
    preferred = (PreferredSchedulingTerm(weight=50, preference=term),)
    return Affinity(nodeAffinity=NodeAffinity(preferredDuringSchedulingIgnoredDuringExecution=preferred))


def run(pods: list[Pod], nodes: int) -> tuple[float, float, int]:
    """(decisions a second, the same with the reading of the pods, pods placed)."""
    cluster = Cluster()
    for index in range(nodes):
        cluster.set_node(node(index))
    objects = Objects()
    objects.apply(None, ReplicaSet(metadata=ObjectMeta(name="web", namespace="default"), spec=ReplicaSetSpec(selector=ALIKE)))
    decider = Decider(World(cluster, objects), random.Random(1).random)
    started = time.perf_counter()
    infos = [PodInfo(p) for p in pods]
    decided = time.perf_counter()
    placed = 0
    for info in infos:
        decision = decider.decide(info)
        if decision.node is not None:
            cluster.place(info, decision.node)
            placed += 1
    ended = time.perf_counter()
    return len(pods) / (ended - decided), len(pods) / (ended - started), placed


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=5000)
    options = parser.parse_args()
    term = PodAffinityTerm(topologyKey="kubernetes.io/hostname", labelSelector=ALIKE)
    apart = Affinity(podAntiAffinity=PodAffinity(requiredDuringSchedulingIgnoredDuringExecution=(term,)))
    even = (TopologySpreadConstraint(maxSkew=1, topologyKey="zone", labelSelector=ALIKE),)
    loads = {
        "one deployment": [pod(i, 100, 128) for i in range(options.pods)],
        "all different": [pod(i, 50 + i % 97, 64 + i) for i in range(options.pods)],
        "ten deployments, preferred affinity": [pod(i, 100 + i % 10, 128, prefers(f"z{i % 3}")) for i in range(options.pods)],
        "one replica set, spread by default": [alike(i, owned=True) for i in range(options.pods)],
        "one a host (required anti-affinity)": [alike(i, affinity=apart) for i in range(min(options.pods, options.nodes))],
        "even over zones (required)": [alike(i, spread=even) for i in range(options.pods)],
    }
    print(f"{'load':<40}{'decisions/s':>12}{'with reading':>14}{'placed':>8}")
    for name, pods in loads.items():
        decisions, whole, placed = run(pods, options.nodes)
        print(f"{name:<40}{decisions:>12,.0f}{whole:>14,.0f}{placed:>8}")


if __name__ == "__main__":
    main()
