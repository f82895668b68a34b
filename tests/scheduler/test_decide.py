"""Where a pod goes, and what is said where it goes nowhere."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikube_py.scheduler.bench import Bench, demands_of
from minikube_py.scheduler.decide import Decider
from minikube_py.scheduler.nodeinfo import Cluster, NodeInfo
from minikube_py.scheduler.plugins import PLUGINS, Refusal
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.profile import DEFAULT, Profile
from minikube_py.scheduler.table import sample_size
from minikube_py.scheduler.world import World
from minikube_py.types.core import ContainerImage, Taint
from minikube_py.types.meta import LabelSelector
from minikube_py.types.pod import (
    Affinity,
    Container,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodAffinity,
    PodAffinityTerm,
    PreferredSchedulingTerm,
    ResourceRequirements,
    Toleration,
    TopologySpreadConstraint,
    WeightedPodAffinityTerm,
)
from tests.scheduler.builders import cluster, info, node, pod

NOT_HELPFUL = "1 Preemption is not helpful for scheduling."
NO_VICTIMS = "1 No preemption victims found for incoming pod."


def message(reasons: str, preemption: str, total: int = 1) -> str:
    return f"0/{total} nodes are available: {reasons} no new claims to deallocate, preemption: 0/{total} nodes are available: {preemption}"


def decider(made: object, seed: int = 1) -> Decider:
    return Decider(made, random.Random(seed).random)  # type: ignore[arg-type]


def why(made: object, wanted: PodInfo) -> str:
    decision = decider(made).decide(wanted)
    assert decision.node is None and decision.diagnosis is not None
    return decision.diagnosis.message


def test_no_node() -> None:
    assert why(cluster(), info("a")) == "no nodes available to schedule pods"


def test_more_than_any_node_has_is_beyond_preemption() -> None:
    assert why(cluster(node("n", cpu="1")), info("a", cpu="2")) == message("1 Insufficient cpu.", NOT_HELPFUL)


def test_a_full_node_could_be_helped_by_preemption_but_has_no_victims() -> None:
    made = cluster(node("n", cpu="1"))
    made.place(info("first", cpu="800m"), "n")
    assert why(made, info("a", cpu="500m")) == message("1 Insufficient cpu.", NO_VICTIMS)


def test_reasons_are_counted_and_sorted() -> None:
    made = cluster(
        node("a", cpu="1", memory="1Gi"),
        node("b", unschedulable=True),
        node("c", taints=[Taint(key="k", effect="NoSchedule")]),
        node("d", cpu="1"),
    )
    reasons = "1 Insufficient memory, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 2 Insufficient cpu."
    assert why(made, info("a", cpu="2", memory="2Gi")) == message(reasons, "4 Preemption is not helpful for scheduling.", 4)


def test_a_pod_that_may_not_preempt_is_told_so() -> None:
    text = why(cluster(node("n", cpu="1")), info("a", cpu="2", preemptionPolicy="Never"))
    assert text.endswith("preemption: not eligible due to preemptionPolicy=Never.")


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (info("a", nodeSelector={"disk": "ssd"}), "1 node(s) didn't match Pod's node affinity/selector."),
        (info("a", requests={"example.com/gpu": "1"}), "1 Insufficient example.com/gpu."),
        (info("a", requests={"hugepages-2Mi": "4Mi"}), "1 Insufficient hugepages-2Mi."),
    ],
)
def test_single_reasons(wanted: PodInfo, reason: str) -> None:
    assert why(cluster(node("n")), wanted) == message(reason, NOT_HELPFUL)


def test_too_many_pods() -> None:
    made = cluster(node("n", pods="1"))
    made.place(info("first"), "n")
    assert why(made, info("a")) == message("1 Too many pods.", NO_VICTIMS)


def test_host_ports_clash() -> None:
    made = cluster(node("n"))
    made.place(info("first", ports=[80]), "n")
    assert why(made, info("a", ports=[80])) == message("1 node(s) didn't have free ports for the requested pod ports.", NO_VICTIMS)
    assert decider(made).decide(info("b", ports=[81])).node == "n"
    made.forget("first")
    assert decider(made).decide(info("a", ports=[80])).node == "n"


def test_tolerations_open_tainted_and_cordoned_nodes() -> None:
    made = cluster(node("n", taints=[Taint(key="k", effect="NoSchedule", value="v")]))
    assert decider(made).decide(info("a", tolerations=(Toleration(key="k", value="v", effect="NoSchedule"),))).node == "n"
    assert decider(made).decide(info("b", tolerations=(Toleration(key="k", value="w"),))).node is None
    cordoned = cluster(node("n", unschedulable=True))
    tolerates = Toleration(key="node.kubernetes.io/unschedulable", operator="Exists", effect="NoSchedule")
    assert decider(cordoned).decide(info("a", tolerations=(tolerates,))).node == "n"


def test_the_emptier_node_wins() -> None:
    made = cluster(node("a"), node("b"))
    made.place(info("first", cpu="2", memory="2Gi"), "a")
    assert decider(made).decide(info("x", cpu="1", memory="1Gi")).node == "b"


def test_a_prefer_no_schedule_taint_makes_a_node_worse() -> None:
    made = cluster(node("a", taints=[Taint(key="k", effect="PreferNoSchedule")]), node("b", cpu="2"))
    assert {decider(made, seed).decide(info("x", cpu="1")).node for seed in range(5)} == {"b"}


def test_a_preferred_label_outweighs_room() -> None:
    term = NodeSelectorTerm(matchExpressions=(NodeSelectorRequirement(key="zone", operator="In", values=("z",)),))
    preferred = (PreferredSchedulingTerm(weight=100, preference=term),)
    affinity = Affinity(nodeAffinity=NodeAffinity(preferredDuringSchedulingIgnoredDuringExecution=preferred))
    made = cluster(node("a", labels={"zone": "z"}), node("b"))
    made.place(info("first", cpu="2", memory="4Gi"), "a")
    assert decider(made).decide(info("x", cpu="1", affinity=affinity)).node == "a"


def by_name(*names: str) -> Affinity:
    fields = (NodeSelectorRequirement(key="metadata.name", operator="In", values=names),)
    required = NodeSelector(nodeSelectorTerms=(NodeSelectorTerm(matchFields=fields),))
    return Affinity(nodeAffinity=NodeAffinity(requiredDuringSchedulingIgnoredDuringExecution=required))


def test_a_node_of_two_names_is_none() -> None:
    fields = tuple(NodeSelectorRequirement(key="metadata.name", operator="In", values=(name,)) for name in "ab")
    required = NodeSelector(nodeSelectorTerms=(NodeSelectorTerm(matchFields=fields),))
    affinity = Affinity(nodeAffinity=NodeAffinity(requiredDuringSchedulingIgnoredDuringExecution=required))
    assert why(cluster(node("a"), node("b")), info("x", affinity=affinity)) == (
        "0/2 nodes are available: pod affinity terms conflict. not found"
    )


def test_a_node_asked_for_by_name() -> None:
    made = cluster(node("a"), node("b"))
    assert decider(made).decide(info("x", affinity=by_name("b"))).node == "b"
    made = cluster(node("a"), node("b", cpu="1"))
    reasons = "1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    assert why(made, info("x", cpu="2", affinity=by_name("b"))) == message(reasons, "2 Preemption is not helpful for scheduling.", 2)


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [
        ("In", ("4",), True),
        ("NotIn", ("4",), False),
        ("Exists", (), True),
        ("DoesNotExist", (), False),
        ("Gt", ("3",), True),
        ("Gt", ("4",), False),
        ("Lt", ("5",), True),
        ("Lt", ("x",), False),
    ],
)
def test_operators_of_required_terms(operator: str, values: tuple[str, ...], fits: bool) -> None:
    term = NodeSelectorTerm(matchExpressions=(NodeSelectorRequirement(key="cores", operator=operator, values=values),))
    required = NodeSelector(nodeSelectorTerms=(term,))
    affinity = Affinity(nodeAffinity=NodeAffinity(requiredDuringSchedulingIgnoredDuringExecution=required))
    made = cluster(node("n", labels={"cores": "4"}))
    assert (decider(made).decide(info("x", affinity=affinity)).node == "n") is fits


def container(cpu: str, restart: str = "") -> Container:
    return Container(name="c", resources=ResourceRequirements(requests={"cpu": cpu}), restartPolicy=restart)


def test_requests_of_init_containers_sidecars_and_overhead() -> None:
    made = pod(
        "a",
        containers=(container("100m"), container("200m")),
        initContainers=(container("50m", "Always"), container("900m"), container("25m", "Always")),
        overhead={"cpu": "10m"},
    )
    # the init step: 900m beside the first sidecar's 50m; running: 300m + 75m of sidecars
    assert PodInfo(made).cpu == 960


def test_sampling_keeps_small_clusters_whole() -> None:
    assert [sample_size(n) for n in (1, 100, 101, 1000, 5000, 10000)] == [1, 100, 100, 420, 500, 500]


def brute_force(made: object, wanted: PodInfo) -> set[str]:
    """The nodes with the best score, without tables, samples or heaps."""
    nodes = [n for n in made.nodes.values() if all(f.filter(wanted, n) is None for f in DEFAULT.filters if f.applies(wanted))]  # type: ignore[attr-defined]
    totals = {n.name: 0 for n in nodes}
    for plugin in DEFAULT.scores:
        if not plugin.ranks(wanted):
            continue
        values = {n.name: plugin.score(wanted, n) for n in nodes}
        top = max(values.values(), default=0)
        for name, value in values.items():
            if plugin.normalize:
                value = value * 100 // top if top else 0
                value = 100 - value if plugin.normalize == "reverse" else value
            totals[name] += plugin.weight * value
    best = max(totals.values(), default=None)
    return {name for name, total in totals.items() if total == best}


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_incremental_decisions_equal_decisions_from_scratch(source: random.Random) -> None:
    """Whatever happens to nodes and pods, the kept tables give a best node, and none only where there is none."""
    made = cluster()
    deciding = Decider(made, source.random)
    placed: list[str] = []
    for step in range(80):
        event = source.random()
        if event < 0.15 or not made.nodes:
            taints = [Taint(key="k", effect=source.choice(["NoSchedule", "PreferNoSchedule"]))] if source.random() < 0.3 else []
            name = f"n{source.randrange(12)}"
            made.set_node(node(name, cpu=str(source.randrange(1, 5)), labels={"zone": source.choice("ab")}, taints=taints))
        elif event < 0.2:
            made.remove_node(source.choice(sorted(made.nodes)))
        elif event < 0.4 and placed:
            made.forget(placed.pop(source.randrange(len(placed))))
        else:
            term = NodeSelectorTerm(matchExpressions=(NodeSelectorRequirement(key="zone", operator="In", values=("a",)),))
            preferred = (PreferredSchedulingTerm(weight=10, preference=term),)
            affinity = Affinity(nodeAffinity=NodeAffinity(preferredDuringSchedulingIgnoredDuringExecution=preferred))
            tolerations = (Toleration(key="k", operator="Exists"),) if source.random() < 0.3 else ()
            wanted = info(
                f"p{step}",
                cpu=source.choice(["100m", "1"]),
                affinity=affinity if source.random() < 0.5 else None,
                tolerations=tolerations,
            )
            best = brute_force(made, wanted)
            chosen = deciding.decide(wanted).node
            assert chosen in best if best else chosen is None
            if chosen is not None:
                made.place(wanted, chosen)
                placed.append(wanted.uid)


def neighbourly(source: random.Random, name: str) -> PodInfo:
    """A pod of one of two sorts that asks for company, for distance, for evenness, or for nothing."""
    sort = source.choice(["web", "db"])
    selector = LabelSelector(matchLabels={"app": source.choice(["web", "db"])})
    key = source.choice(["zone", "kubernetes.io/hostname"])
    term = PodAffinityTerm(topologyKey=key, labelSelector=selector)
    required = PodAffinity(requiredDuringSchedulingIgnoredDuringExecution=(term,))
    wish = WeightedPodAffinityTerm(weight=source.randrange(1, 100), podAffinityTerm=term)
    preferred = PodAffinity(preferredDuringSchedulingIgnoredDuringExecution=(wish,))
    spec: dict[str, object] = source.choice(
        [
            {},
            {"affinity": Affinity(podAffinity=required)},
            {"affinity": Affinity(podAntiAffinity=required)},
            {"affinity": Affinity(podAffinity=preferred)},
            {"affinity": Affinity(podAntiAffinity=preferred)},
            {"topologySpreadConstraints": (TopologySpreadConstraint(maxSkew=1, topologyKey=key, labelSelector=selector),)},
            {
                "topologySpreadConstraints": (
                    TopologySpreadConstraint(maxSkew=2, topologyKey=key, labelSelector=selector, whenUnsatisfiable="ScheduleAnyway"),
                )
            },
        ]
    )
    return info(name, cpu="100m", labels={"app": sort}, priority=source.randrange(3), **spec)


def possible_nodes(made: Cluster, wanted: PodInfo) -> set[str]:
    """The possible nodes, from totals that were counted just now."""
    world = World(made)
    demands = demands_of(wanted, DEFAULT, world)
    assert not isinstance(demands, Refusal)
    bench = Bench(wanted, DEFAULT, demands, world)
    return {name for name, each in made.nodes.items() if bench.fits(each) is None}


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_running_totals_equal_totals_from_scratch(source: random.Random) -> None:
    """Pods that look at one another get a possible node where there is one, whatever came, went, changed zones or was tried before."""
    made = cluster()
    deciding = Decider(made, source.random)
    placed: list[str] = []
    for step in range(60):
        event = source.random()
        if event < 0.15 or not made.nodes:
            name = f"n{source.randrange(8)}"
            labels = {"kubernetes.io/hostname": name, **({"zone": source.choice("ab")} if source.random() < 0.8 else {})}
            made.set_node(node(name, cpu="300m", labels=labels))
        elif event < 0.2:
            made.remove_node(source.choice(sorted(made.nodes)))
        elif event < 0.35 and placed:
            made.forget(placed.pop(source.randrange(len(placed))))
        elif event < 0.4:
            made.nominate(neighbourly(source, f"hope{step}"), source.choice(sorted(made.nodes)))
        else:
            wanted = neighbourly(source, f"p{step}")
            possible = possible_nodes(made, wanted)
            decision = deciding.decide(wanted)
            if decision.node is None and possible:
                # room that is kept is judged when its node is looked at, and not again until the node changes
                assert any(each.nominated for each in made.nodes.values())
            else:
                assert decision.node in possible if possible else decision.node is None
            assert deciding.possible(wanted) is (decision.node is not None)
            if decision.node is not None:
                made.place(wanted, decision.node)
                placed.append(wanted.uid)
            elif decision.preemption is not None:
                for victim in decision.preemption.victims:
                    made.forget(victim.uid)
                    placed.remove(victim.uid)
                assert decision.preemption.node in possible_nodes(made, wanted)


def test_images_draw_pods_the_more_nodes_have_them() -> None:
    big = (ContainerImage(names=("example.com/app:1",), sizeBytes=900 * 2**20),)
    made = cluster(node("a", images=big), node("b"))
    container = Container(name="c", image="example.com/app:1")
    assert {decider(made, seed).decide(info("x", containers=(container,))).node for seed in range(6)} == {"a"}
    made.set_node(node("a"))
    assert {decider(made, seed).decide(info("x", containers=(container,))).node for seed in range(12)} == {"a", "b"}


def test_plugins_of_a_profile_decide_alone() -> None:
    profile = Profile("lenient", tuple(plugin for plugin in PLUGINS if plugin.name != "TaintToleration"), preempts=False)
    made = cluster(node("n", taints=[Taint(key="k", effect="NoSchedule")]))
    assert decider(made).decide(info("a")).node is None
    assert Decider(made, random.Random(1).random, profile).decide(info("a")).node == "n"
    made.place(info("x", priority=-5), "n")
    decision = Decider(made, random.Random(1).random, profile).decide(info("a", cpu="9"))
    assert decision.preemption is None and decision.diagnosis is not None
    assert decision.diagnosis.message == "0/1 nodes are available: 1 Insufficient cpu."


def test_a_placed_pod_with_other_labels_is_counted_as_one_that_was_placed_with_them() -> None:
    before = pod("a", "1", "1Gi", labels={"app": "web"}, ports=(80,), priority=7)
    after = msgspec.structs.replace(before, metadata=msgspec.structs.replace(before.metadata, labels={"app": "db"}, deletionTimestamp="x"))
    made, wanted = cluster(node("n")), cluster(node("n"))
    made.place(PodInfo(before), "n")
    generation = made.generation
    made.relabel(PodInfo(before).relabelled(after))
    wanted.place(PodInfo(after), "n")
    assert made.generation > generation and made.node_of("a") == "n"
    for name in NodeInfo.__slots__:
        if name not in ("generation", "pods", "node"):
            assert getattr(made.nodes["n"], name) == getattr(wanted.nodes["n"], name)
    counted, fresh = made.nodes["n"].pods["a"], wanted.nodes["n"].pods["a"]
    assert all(getattr(counted, name) == getattr(fresh, name) for name in PodInfo.__slots__)
