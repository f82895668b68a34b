"""Pods near and away from others, both ways, and what is said where that cannot be."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from minikube_py.scheduler.decide import Decider
from minikube_py.scheduler.nodeinfo import Cluster
from minikube_py.scheduler.objects import Objects
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.world import World
from minikube_py.types.core import Namespace
from minikube_py.types.meta import LabelSelector, LabelSelectorRequirement, ObjectMeta
from minikube_py.types.pod import Affinity, PodAffinity, PodAffinityTerm, WeightedPodAffinityTerm
from tests.scheduler.builders import cluster, info, node

TOO_FAR = "node(s) didn't match pod affinity rules"
TOO_NEAR = "node(s) didn't match pod anti-affinity rules"
UNWANTED = "node(s) didn't satisfy existing pods anti-affinity rules"


def term(labels: Mapping[str, str] | None, key: str = "zone", **more: Any) -> PodAffinityTerm:
    selector = LabelSelector(matchLabels=labels) if labels is not None else None
    return PodAffinityTerm(topologyKey=key, labelSelector=selector, **more)


def near(*terms: PodAffinityTerm) -> Affinity:
    return Affinity(podAffinity=PodAffinity(requiredDuringSchedulingIgnoredDuringExecution=terms))


def away(*terms: PodAffinityTerm) -> Affinity:
    return Affinity(podAntiAffinity=PodAffinity(requiredDuringSchedulingIgnoredDuringExecution=terms))


def prefers(weight: int, wanted: PodAffinityTerm, *, anti: bool = False) -> Affinity:
    side = PodAffinity(preferredDuringSchedulingIgnoredDuringExecution=(WeightedPodAffinityTerm(weight=weight, podAffinityTerm=wanted),))
    return Affinity(podAntiAffinity=side) if anti else Affinity(podAffinity=side)


def zones() -> Cluster:
    """Four nodes in two zones, and one in none."""
    made = [
        node(name, labels={"zone": zone, "kubernetes.io/hostname": name})
        for name, zone in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"))
    ]
    return cluster(*made, node("lost", labels={"kubernetes.io/hostname": "lost"}))


def decider(made: Cluster | World) -> Decider:
    return Decider(made, random.Random(3).random)


def where(made: Cluster | World, wanted: PodInfo) -> str | None:
    return decider(made).decide(wanted).node


def why(made: Cluster | World, wanted: PodInfo) -> str:
    decision = decider(made).decide(wanted)
    assert decision.node is None and decision.diagnosis is not None
    return decision.diagnosis.message


def test_a_pod_goes_where_those_that_it_needs_are() -> None:
    made = zones()
    made.place(info("db", labels={"app": "db"}), "b1")
    wanted = info("web", affinity=near(term({"app": "db"})))
    assert {Decider(made, random.Random(seed).random).decide(wanted).node for seed in range(8)} <= {"b1", "b2"}
    text = why(made, info("web", affinity=near(term({"app": "cache"}))))
    assert text.startswith(f"0/5 nodes are available: 5 {TOO_FAR}. ")
    assert text.endswith("0/5 nodes are available: 5 Preemption is not helpful for scheduling.")


def test_the_first_of_a_sort_that_wants_its_own_company_may_begin() -> None:
    made = zones()
    first = info("w1", labels={"app": "web"}, affinity=near(term({"app": "web"})))
    chosen = where(made, first)
    assert chosen is not None and chosen != "lost"
    made.place(first, chosen)
    second = where(made, info("w2", labels={"app": "web"}, affinity=near(term({"app": "web"}))))
    assert second is not None and second[0] == chosen[0]


def test_all_required_terms_must_be_met_by_the_same_pods() -> None:
    made = zones()
    made.place(info("x", labels={"app": "db"}), "a1")
    made.place(info("y", labels={"tier": "back"}), "a1")
    both = near(term({"app": "db"}), term({"tier": "back"}))
    assert where(made, info("w", affinity=both)) is None
    made.place(info("z", labels={"app": "db", "tier": "back"}), "b1")
    assert str(where(made, info("w", affinity=both)))[0] == "b"


def test_a_pod_keeps_away_and_is_kept_away() -> None:
    made = zones()
    made.place(info("db", labels={"app": "db"}, affinity=away(term({"noisy": "yes"}))), "a1")
    # its own rule
    assert where(made, info("w", affinity=away(term({"app": "db"}), term({"x": "y"}, "kubernetes.io/hostname")))) in ("b1", "b2", "lost")
    # the rule of a pod that is there
    noisy = info("n", labels={"noisy": "yes"})
    assert where(made, noisy) in ("b1", "b2", "lost")
    made.place(info("db2", labels={"app": "db"}, affinity=away(term({"noisy": "yes"}))), "b2")
    assert where(made, noisy) == "lost"
    made.remove_node("lost")
    assert why(made, noisy).startswith(f"0/4 nodes are available: 4 {UNWANTED}. ")
    assert why(made, info("w", affinity=away(term({"app": "db"})))).startswith(f"0/4 nodes are available: 4 {TOO_NEAR}. ")
    made.forget("db2")
    assert where(made, noisy) in ("b1", "b2")


def test_one_replica_a_host() -> None:
    made, deciding = zones(), None
    deciding = decider(made)
    seen = set()
    for index in range(5):
        pod = info(f"w{index}", labels={"app": "w"}, affinity=away(term({"app": "w"}, "kubernetes.io/hostname")))
        chosen = deciding.decide(pod).node
        assert chosen is not None
        seen.add(chosen)
        made.place(pod, chosen)
    assert len(seen) == 5
    assert deciding.decide(info("w9", labels={"app": "w"}, affinity=away(term({"app": "w"}, "kubernetes.io/hostname")))).node is None


@pytest.mark.parametrize(("anti", "expected"), [(False, "a"), (True, "b")])
def test_preferences_weigh(anti: bool, expected: str) -> None:
    made = zones()
    made.remove_node("lost")
    made.place(info("db", labels={"app": "db"}), "a1")
    chosen = where(made, info("w", affinity=prefers(100, term({"app": "db"}), anti=anti)))
    assert chosen is not None and chosen[0] == expected


def test_what_placed_pods_prefer_ranks_nodes_for_others() -> None:
    made = zones()
    made.place(info("db", affinity=prefers(50, term({"app": "w"}))), "b2")
    assert str(where(made, info("w", labels={"app": "w"})))[0] == "b"


def test_namespaces_named_and_chosen() -> None:
    objects = Objects()
    for name, labels in (("default", {}), ("other", {"team": "x"}), ("third", {})):
        objects.apply(None, Namespace(metadata=ObjectMeta(name=name, labels=labels)))
    made = zones()
    made.remove_node("lost")
    made.place(info("db", labels={"app": "db"}, namespace="other"), "a1")
    world = World(made, objects)
    anti = term({"app": "db"})
    assert where(world, info("here", affinity=near(anti))) is None
    assert str(where(world, info("named", affinity=near(term({"app": "db"}, namespaces=("other",))))))[0] == "a"
    chosen = LabelSelector(matchLabels={"team": "x"})
    assert str(where(world, info("chosen", affinity=near(term({"app": "db"}, namespaceSelector=chosen)))))[0] == "a"
    assert str(where(world, info("every", affinity=near(term({"app": "db"}, namespaceSelector=LabelSelector())))))[0] == "a"
    nobody = LabelSelector(matchExpressions=(LabelSelectorRequirement(key="team", operator="NotIn", values=("x",)),))
    assert where(world, info("nobody", affinity=near(term({"app": "db"}, namespaceSelector=nobody)))) is None
    # a namespace that gets the label counts from then on
    deciding = decider(world)
    later = info("later", affinity=near(term({"app": "late"}, namespaceSelector=chosen)))
    made.place(info("late", labels={"app": "late"}, namespace="third"), "b1")
    assert deciding.decide(later).node is None
    objects.apply(None, Namespace(metadata=ObjectMeta(name="third", labels={"team": "x"})))
    assert str(deciding.decide(later).node)[0] == "b"


def test_a_term_without_a_selector_means_nobody() -> None:
    made = zones()
    made.place(info("x"), "a1")
    assert where(made, info("w", affinity=near(term(None)))) is None
    assert where(made, info("w", affinity=away(term(None)))) is not None
