"""Pods that are spread over zones and hosts: what must be even, what should be, and what counts."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from minikube_py.scheduler.decide import Decider
from minikube_py.scheduler.nodeinfo import Cluster
from minikube_py.scheduler.objects import Objects
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.world import World
from minikube_py.types.core import Taint
from minikube_py.types.meta import LabelSelector, ObjectMeta, OwnerReference
from minikube_py.types.network import Service, ServiceSpec
from minikube_py.types.pod import Toleration, TopologySpreadConstraint
from minikube_py.types.workload import ReplicaSet, ReplicaSetSpec
from tests.scheduler.builders import cluster, info, node

UNEVEN = "node(s) didn't match pod topology spread constraints"
WEB = LabelSelector(matchLabels={"app": "web"})


def constraint(key: str = "zone", skew: int = 1, **more: Any) -> TopologySpreadConstraint:
    return TopologySpreadConstraint(maxSkew=skew, topologyKey=key, labelSelector=WEB, **more)


def web(name: str, *constraints: TopologySpreadConstraint, **more: Any) -> PodInfo:
    return info(name, labels={"app": "web"}, topologySpreadConstraints=constraints, **more)


def zones(*layout: str, **more: Any) -> Cluster:
    """Nodes named after their zones: a1, a2, b1."""
    return cluster(*(node(name, labels={"zone": name[0], "kubernetes.io/hostname": name}, **more) for name in layout))


def decider(made: Cluster | World, seed: int = 5) -> Decider:
    return Decider(made, random.Random(seed).random)


def fill(made: Cluster, deciding: Decider, count: int, *constraints: TopologySpreadConstraint) -> Counter[str]:
    placed: Counter[str] = Counter()
    for index in range(count):
        pod = web(f"w{index}", *constraints)
        chosen = deciding.decide(pod).node
        if chosen is None:
            break
        made.place(pod, chosen)
        placed[chosen] += 1
    return placed


def test_zones_stay_even_whatever_else_speaks_for_a_node() -> None:
    made = cluster(
        node("a1", cpu="64", labels={"zone": "a"}),
        node("b1", labels={"zone": "b"}),
        node("b2", labels={"zone": "b"}),
        node("c1", labels={"zone": "c"}),
    )
    placed = fill(made, decider(made), 9, constraint())
    assert placed["a1"] == 3 and placed["b1"] + placed["b2"] == 3 and placed["c1"] == 3


def test_a_full_zone_stops_the_others_and_the_message_says_so() -> None:
    made = cluster(node("a1", pods="1", labels={"zone": "a"}), node("b1", labels={"zone": "b"}), node("x"))
    deciding = decider(made)
    assert fill(made, deciding, 9, constraint()) == {"a1": 1, "b1": 2}
    diagnosis = deciding.decide(web("next", constraint())).diagnosis
    assert diagnosis is not None
    assert diagnosis.message.startswith(f"0/3 nodes are available: 1 Too many pods, 1 {UNEVEN}, 1 {UNEVEN} (missing required label). ")
    # a pod that goes, goes from everybody's sum
    made.forget("w0" if made.node_of("w0") == "b1" else "w1")
    assert deciding.decide(web("next", constraint())).node == "b1"


def test_hosts_and_zones_at_once() -> None:
    made = zones("a1", "a2", "b1", "b2")
    placed = fill(made, decider(made), 8, constraint(), constraint("kubernetes.io/hostname"))
    assert placed == {"a1": 2, "a2": 2, "b1": 2, "b2": 2}


def test_fewer_domains_than_asked_for_count_as_empty_ones() -> None:
    made = zones("a1", "b1")
    assert fill(made, decider(made), 9, constraint(minDomains=3)) == {"a1": 1, "b1": 1}


def test_nodes_that_the_pod_cannot_go_to_count_as_the_policies_say() -> None:
    labels = {"zone": "b", "disk": "hdd"}
    made = cluster(node("a1", labels={"zone": "a", "disk": "ssd"}), node("b1", labels=labels))
    only = {"nodeSelector": {"disk": "ssd"}}
    made.place(web("first", **only), "a1")
    assert decider(made).decide(web("w", constraint(), **only)).node == "a1"
    assert decider(made).decide(web("w", constraint(nodeAffinityPolicy="Ignore"), **only)).node is None
    tainted = cluster(node("a1", labels={"zone": "a"}), node("b1", labels={"zone": "b"}, taints=[Taint(key="k", effect="NoSchedule")]))
    tainted.place(web("first"), "a1")
    assert decider(tainted).decide(web("w", constraint())).node is None
    assert decider(tainted).decide(web("w", constraint(nodeTaintsPolicy="Honor"))).node == "a1"
    tolerant = web("w", constraint(nodeTaintsPolicy="Honor"), tolerations=(Toleration(key="k", operator="Exists"),))
    assert decider(tainted).decide(tolerant).node == "b1"


def test_pods_on_their_way_out_and_of_other_namespaces_do_not_count() -> None:
    made = zones("a1", "b1")
    made.place(info("ending", labels={"app": "web"}, deletionTimestamp="2026-01-01T00:00:00Z"), "a1")
    made.place(info("foreign", labels={"app": "web"}, namespace="other"), "a1")
    made.place(web("w0"), "b1")
    assert decider(made).decide(web("w", constraint())).node == "a1"


def test_schedule_anyway_only_ranks() -> None:
    made = zones("a1", "b1", "b2", cpu="64", memory="64Gi")
    soft = constraint(whenUnsatisfiable="ScheduleAnyway")
    placed = fill(made, decider(made), 6, soft)
    assert placed["a1"] == 3
    made.remove_node("a1")
    assert decider(made).decide(web("w9", soft)).node in ("b1", "b2")


def owned(name: str) -> PodInfo:
    owner = OwnerReference(kind="ReplicaSet", name="web", uid="u", controller=True)
    return info(name, labels={"app": "web"}, ownerReferences=(owner,))


@pytest.mark.parametrize("by_service", [False, True])
def test_pods_of_one_workload_or_service_are_spread_by_default(by_service: bool) -> None:
    objects = Objects()
    if by_service:
        objects.apply(None, Service(metadata=ObjectMeta(name="s", namespace="default"), spec=ServiceSpec(selector={"app": "web"})))
    else:
        objects.apply(None, ReplicaSet(metadata=ObjectMeta(name="web", namespace="default"), spec=ReplicaSetSpec(selector=WEB)))
    # one node is so much larger that it would get all pods
    made = cluster(
        node("a1", cpu="256", memory="512Gi", labels={"topology.kubernetes.io/zone": "a", "kubernetes.io/hostname": "a1"}),
        node("b1", labels={"topology.kubernetes.io/zone": "b", "kubernetes.io/hostname": "b1"}),
    )
    deciding = decider(World(made, objects))
    placed: Counter[str] = Counter()
    for index in range(8):
        pod = info(f"w{index}", labels={"app": "web"}) if by_service else owned(f"w{index}")
        chosen = deciding.decide(pod).node
        assert chosen is not None
        made.place(pod, chosen)
        placed[chosen] += 1
    assert placed["b1"] >= 3
