"""Where daemons belong, what a look creates and deletes, and how far an update goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
import pytest

from minikube_py.controllers import daemons
from minikube_py.controllers.history import HASH_LABEL
from minikube_py.types.core import Taint
from minikube_py.types.meta import LabelSelector, ObjectMeta
from minikube_py.types.pod import PodSpec
from minikube_py.types.workload import DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet
from tests.controllers.builders import LABELS, NOW, node, pod, template

NEW, OLD = {**LABELS, HASH_LABEL: "new"}, {**LABELS, HASH_LABEL: "old"}


def daemon_set(surge: int | str = 0, unavailable: int | str = 1, pod_spec: Mapping[str, Any] = {}, **spec: Any) -> DaemonSet:
    rolling = RollingUpdateDaemonSet(maxSurge=surge, maxUnavailable=unavailable)
    return DaemonSet(
        metadata=ObjectMeta(name="agent", namespace="default", uid="uid-agent", generation=1),
        spec=DaemonSetSpec(
            selector=LabelSelector(matchLabels=LABELS),
            template=template(**pod_spec),
            updateStrategy=DaemonSetUpdateStrategy(rollingUpdate=rolling),
            **spec,
        ),
    )


def spec(**fields: Any) -> PodSpec:
    return msgspec.convert(fields, PodSpec)


ZONE_A = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
        }
    }
}


@pytest.mark.parametrize(
    ("pod_spec", "labels", "taints", "expected"),
    [
        ({}, {}, (), (True, True)),
        ({"nodeSelector": {"zone": "a"}}, {"zone": "a"}, (), (True, True)),
        ({"nodeSelector": {"zone": "a"}}, {"zone": "b"}, (), (False, False)),
        ({"affinity": ZONE_A}, {"zone": "a"}, (), (True, True)),
        ({"affinity": ZONE_A}, {}, (), (False, False)),
        ({"nodeName": "n1"}, {}, (), (True, True)),
        ({"nodeName": "n2"}, {}, (), (False, False)),
        ({}, {}, (Taint(key="x", effect="NoSchedule"),), (False, True)),
        ({}, {}, (Taint(key="x", effect="NoExecute"),), (False, False)),
        ({}, {}, (Taint(key="x", effect="PreferNoSchedule"),), (True, True)),
        ({"tolerations": [{"operator": "Exists"}]}, {}, (Taint(key="x", effect="NoExecute"),), (True, True)),
        ({}, {}, (Taint(key="node.kubernetes.io/not-ready", effect="NoExecute"),), (True, True)),
        ({}, {}, (Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule"),), (True, True)),
        ({}, {}, (Taint(key="node.kubernetes.io/network-unavailable", effect="NoSchedule"),), (False, True)),
        ({"hostNetwork": True}, {}, (Taint(key="node.kubernetes.io/network-unavailable", effect="NoSchedule"),), (True, True)),
    ],
)
def test_where_a_daemon_belongs(pod_spec: dict[str, Any], labels: dict[str, str], taints: tuple[Taint, ...], expected: object) -> None:
    assert daemons.fit(spec(**pod_spec), node(labels=labels, taints=taints)) == expected


def test_a_daemon_names_its_node_before_it_is_bound() -> None:
    body = orjson.loads(daemons.pod_body(daemon_set(pod_spec={"affinity": ZONE_A}), "n7", "new"))
    made = pod("x", node="", **{"affinity": msgspec.convert(body, daemons.Pod).spec.affinity})
    assert daemons.target_node(made) == "n7"
    assert body["metadata"]["labels"][HASH_LABEL] == "new" and body["metadata"]["generateName"] == "agent-"
    assert {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"} in body["spec"]["tolerations"]
    assert len(body["spec"]["tolerations"]) == 6


def plan(made: DaemonSet, nodes: list[Any], pods: list[Any], waits: Mapping[str, float] = {}) -> tuple[list[str], list[str]]:
    step = daemons.plan(made, nodes, pods, "new", waits, NOW)
    return list(step.create), sorted(p.metadata.name for p in step.delete)


def test_one_a_node_the_oldest() -> None:
    nodes = [node("n1"), node("n2"), node("n3", taints=(Taint(key="x", effect="NoExecute"),))]
    pods = [pod("a", created=NOW - 5), pod("b", created=NOW - 9), pod("c", node="n3"), pod("lost", node="gone")]
    assert plan(daemon_set(), nodes, pods) == (["n2"], ["a", "c"])


def test_an_ending_daemon_is_waited_for() -> None:
    assert plan(daemon_set(), [node()], [pod("a", ending=True)]) == ([], [])
    assert plan(daemon_set(), [node()], [pod("a", ending=True, phase="Failed")]) == (["n1"], [])


def test_ended_daemons_go_and_failed_ones_not_too_often() -> None:
    assert plan(daemon_set(), [node()], [pod("a", phase="Failed")]) == ([], ["a"])
    assert plan(daemon_set(), [node()], [pod("a", phase="Succeeded")]) == ([], ["a"])
    step = daemons.plan(daemon_set(), [node()], [pod("a", phase="Failed")], "new", {"n1": 4.0}, NOW)
    assert (step.delete, step.again) == ((), 4.0)


def test_an_unbound_daemon_of_a_node_that_is_gone_goes() -> None:
    body = orjson.loads(daemons.pod_body(daemon_set(), "gone", "new"))
    waiting = pod("a", node="", affinity=msgspec.convert(body, daemons.Pod).spec.affinity)
    assert plan(daemon_set(), [node()], [waiting, pod("b")]) == ([], ["a"])


def test_an_update_takes_what_is_broken_first_and_no_more_than_it_may() -> None:
    nodes = [node(f"n{n}") for n in range(5)]
    pods = [pod(f"p{n}", node=f"n{n}", labels=OLD) for n in range(4)] + [pod("p4", node="n4", labels=OLD, ready=False)]
    step = daemons.rolling(daemon_set(unavailable=2), nodes, pods, "new", NOW)
    assert [p.metadata.name for p in step.delete] == ["p4", "p0"]
    step = daemons.rolling(daemon_set(unavailable="20%"), nodes, pods, "new", NOW)
    assert [p.metadata.name for p in step.delete] == ["p4"]
    starting = [*pods[:4], pod("p4", node="n4", labels=NEW, ready=False)]
    assert daemons.rolling(daemon_set(), nodes, starting, "new", NOW).delete == ()
    young = [*pods[:4], pod("p4", node="n4", labels=NEW, since=NOW - 3)]
    assert daemons.rolling(daemon_set(minReadySeconds=5), nodes, young, "new", NOW).delete == ()


def test_a_surge_starts_the_new_one_first() -> None:
    nodes = [node("n1"), node("n2"), node("n3")]
    pods = [pod(f"p{n}", node=f"n{n}", labels=OLD) for n in (1, 2, 3)]
    made = daemon_set(surge=1, unavailable=0)
    assert daemons.rolling(made, nodes, pods, "new", NOW).create == ("n1",)
    starting = [*pods, pod("new", node="n1", labels=NEW, ready=False)]
    assert daemons.rolling(made, nodes, starting, "new", NOW) == daemons.Plan()
    assert plan(made, nodes, starting) == ([], [])
    there = [*pods, pod("new", node="n1", labels=NEW)]
    assert [p.metadata.name for p in daemons.rolling(made, nodes, there, "new", NOW).delete] == ["p1"]
    assert plan(made, nodes, there) == ([], ["p1"])


def test_a_surge_starts_nothing_where_no_daemon_belongs_and_takes_that_one_last() -> None:
    nodes = [node("n1", taints=[Taint(key="x", effect="NoSchedule")]), node("n2")]
    made = daemon_set(surge=1, unavailable=0)
    left, old = pod("p1", node="n1", labels=OLD), pod("p2", node="n2", labels=OLD)
    assert daemons.rolling(made, nodes, [left], "new", NOW) == daemons.Plan()
    step = daemons.rolling(made, nodes, [left, old], "new", NOW)
    assert step.create == ("n2",) and step.delete == (left,)
    broken = pod("p1", node="n1", labels=OLD, ready=False)
    assert daemons.rolling(made, nodes, [broken], "new", NOW).delete == (broken,)


def test_status_counts() -> None:
    nodes = [node("n1"), node("n2"), node("n3"), node("n4", labels={"no": "x"}, taints=(Taint(key="x", effect="NoSchedule"),))]
    pods = [
        pod("a", labels=NEW),
        pod("b", node="n2", labels=OLD, since=NOW - 3),
        pod("c", node="n4", labels=NEW),
    ]
    status = daemons.status(daemon_set(minReadySeconds=5), nodes, pods, "new", 0, NOW)
    assert (status.desiredNumberScheduled, status.currentNumberScheduled, status.numberMisscheduled) == (3, 2, 1)
    assert (status.numberReady, status.numberAvailable, status.numberUnavailable, status.updatedNumberScheduled) == (2, 1, 2, 1)
