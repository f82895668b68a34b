"""Whose place a pod takes: as few and as unimportant as can be, within the budgets; and what is said where that does not help."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from minikube_py.scheduler.decide import Decider, Decision
from minikube_py.scheduler.nodeinfo import Cluster
from minikube_py.scheduler.objects import Objects
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.world import World
from minikube_py.types.meta import Condition, LabelSelector, ObjectMeta
from minikube_py.types.pod import Affinity, PodAffinity, PodAffinityTerm, PodStatus
from minikube_py.types.policy import PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus
from tests.scheduler.builders import cluster, info, node


def decide(made: Cluster, wanted: PodInfo, budgets: Sequence[PodDisruptionBudget] = ()) -> Decision:
    objects = Objects()
    for budget in budgets:
        objects.apply(None, budget)
    return Decider(World(made, objects), random.Random(1).random).decide(wanted)


def victims(decision: Decision) -> tuple[str, list[str]]:
    assert decision.node is None and decision.preemption is not None
    return decision.preemption.node, [v.uid for v in decision.preemption.victims]


def low(name: str, cpu: str = "1", priority: int = 1, started: int = 0, **more: Any) -> PodInfo:
    return info(name, cpu=cpu, priority=priority, status=PodStatus(startTime=f"2026-01-01T00:00:{started:02}Z"), **more)


def high(name: str = "high", cpu: str = "1", **more: Any) -> PodInfo:
    return info(name, cpu=cpu, priority=1000, **more)


def budget(app: str, allowed: int) -> PodDisruptionBudget:
    return PodDisruptionBudget(
        metadata=ObjectMeta(name=app, namespace="default"),
        spec=PodDisruptionBudgetSpec(selector=LabelSelector(matchLabels={"app": app})),
        status=PodDisruptionBudgetStatus(disruptionsAllowed=allowed),
    )


def test_the_fewest_victims_go_and_the_event_says_nothing_of_preemption() -> None:
    made = cluster(node("n", cpu="3"))
    for name, priority in (("a", 5), ("b", 1), ("c", 3)):
        made.place(low(name, priority=priority), "n")
    decision = decide(made, high())
    assert victims(decision) == ("n", ["b"])
    assert decision.diagnosis is not None and decision.diagnosis.message == "0/1 nodes are available: 1 Insufficient cpu."
    assert victims(decide(made, high(cpu="2"))) == ("n", ["c", "b"])


def test_of_equals_the_youngest_goes() -> None:
    made = cluster(node("n", cpu="2"))
    made.place(low("old", started=1), "n")
    made.place(low("young", started=9), "n")
    assert victims(decide(made, high()))[1] == ["young"]


def test_the_node_whose_victims_matter_least_is_taken() -> None:
    made = cluster(*(node(name, cpu="2") for name in "abc"))
    made.place(low("a", cpu="2", priority=10), "a")
    made.place(low("b1", priority=5), "b")
    made.place(low("b2", priority=5), "b")
    made.place(low("c", cpu="2", priority=5), "c")
    assert victims(decide(made, high(cpu="2"))) == ("c", ["c"])


def test_pods_of_the_same_priority_stay() -> None:
    made = cluster(node("n", cpu="1"))
    made.place(low("a", priority=1000), "n")
    decision = decide(made, high())
    assert decision.preemption is None and decision.diagnosis is not None
    assert decision.diagnosis.message == (
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: "
        "0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )


def test_victims_that_would_not_be_enough_are_spared() -> None:
    made = cluster(node("n", cpu="2"))
    made.place(low("low"), "n")
    made.place(low("other", priority=2000), "n")
    decision = decide(made, high(cpu="2"))
    assert decision.preemption is None and decision.diagnosis is not None
    assert decision.diagnosis.message.endswith("preemption: 0/1 nodes are available: 1 Insufficient cpu.")


def test_extended_resources_are_taken_too() -> None:
    made = cluster(node("n", extra={"example.com/foo": "5"}))
    made.place(info("a", requests={"example.com/foo": "3"}, priority=1), "n")
    made.place(info("b", requests={"example.com/foo": "2"}, priority=2), "n")
    assert victims(decide(made, info("h", requests={"example.com/foo": "2"}, priority=9)))[1] == ["a"]


def test_budgets_are_kept_where_they_can_be() -> None:
    made = cluster(node("a", cpu="1"), node("b", cpu="1"))
    made.place(low("protected", priority=1, labels={"app": "x"}), "a")
    made.place(low("free", priority=50), "b")
    assert victims(decide(made, high(), [budget("x", 0)])) == ("b", ["free"])
    assert victims(decide(made, high(), [budget("x", 1)])) == ("a", ["protected"])
    made.remove_node("b")
    # a budget does not stop a more important pod where nothing else is left
    decision = decide(made, high(), [budget("x", 0)])
    assert victims(decision) == ("a", ["protected"]) and decision.preemption is not None and decision.preemption.violations == 1


def test_on_a_node_protected_pods_are_put_back_first() -> None:
    made = cluster(node("n", cpu="2"))
    made.place(low("protected", priority=1, labels={"app": "x"}), "n")
    made.place(low("free", priority=50), "n")
    assert victims(decide(made, high(), [budget("x", 0)]))[1] == ["free"]


def test_never_means_never() -> None:
    made = cluster(node("n", cpu="1"))
    made.place(low("a"), "n")
    decision = decide(made, high(preemptionPolicy="Never"))
    assert decision.preemption is None and decision.diagnosis is not None
    assert decision.diagnosis.message.endswith("no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never.")


def test_room_that_is_kept_is_not_given_away_to_less_important_pods() -> None:
    made = cluster(node("n", cpu="2"))
    deciding = Decider(made, random.Random(1).random)
    first = high("first")
    assert deciding.decide(low("before")).node == "n"
    made.nominate(first, "n")
    assert deciding.decide(low("x")).node == "n"
    made.place(low("x"), "n")
    assert deciding.decide(low("y")).node is None
    assert deciding.decide(high("as important")).node is None
    assert deciding.decide(info("more important", cpu="1", priority=2000)).node == "n"
    assert deciding.decide(first).node == "n"
    made.place(first, "n")
    assert made.nomination("first") == "" and deciding.decide(info("z", priority=2000, cpu="1")).preemption is not None


def test_a_pod_whose_victims_are_going_waits_for_them() -> None:
    made = cluster(node("n", cpu="1"))
    going = (Condition(type="DisruptionTarget", status="True", reason="PreemptionByScheduler"),)
    made.place(info("v", cpu="1", priority=1, deletionTimestamp="2026-01-01T00:00:00Z", status=PodStatus(conditions=going)), "n")
    wanted = high()
    made.nominate(wanted, "n")
    decision = decide(made, wanted)
    assert decision.preemption is None and not decision.hopeless and decision.diagnosis is not None
    assert decision.diagnosis.message.endswith("preemption: not eligible due to a terminating pod on the nominated node.")
    made.forget("v")
    assert decide(made, wanted).node == "n"


@pytest.mark.parametrize("key", ["zone", "kubernetes.io/hostname"])
def test_a_pod_that_keeps_others_away_is_a_victim_where_it_stands(key: str) -> None:
    selector = LabelSelector(matchLabels={"app": "web"})
    term = PodAffinityTerm(topologyKey=key, labelSelector=selector)
    anti = Affinity(podAntiAffinity=PodAffinity(requiredDuringSchedulingIgnoredDuringExecution=(term,)))
    made = cluster(node("n", labels={"zone": "a", "kubernetes.io/hostname": "n"}))
    made.place(low("hermit", affinity=anti), "n")
    made.place(low("bystander"), "n")
    deciding = Decider(made, random.Random(1).random)
    assert victims(deciding.decide(high(labels={"app": "web"}))) == ("n", ["hermit"])
    # what was tried left no trace in the running totals
    assert victims(deciding.decide(high("again", labels={"app": "web"}))) == ("n", ["hermit"])
    made.forget("hermit")
    assert deciding.decide(high("again", labels={"app": "web"})).node == "n"
