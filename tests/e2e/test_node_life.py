"""A node's life as its users see it: drained under a budget, tainted, gone silent, given up, back again, deleted and joined anew."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.objects import pod, web
from tests.support.agents import Agent
from tests.support.cluster import Nodes, nodes
from tests.support.command import Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

GRACE, TOLERATED = 6, 2
FLAGS = (
    *("--node-monitor-period", "1s", "--node-monitor-grace-period", f"{GRACE}s"),
    *("--default-not-ready-toleration-seconds", str(TOLERATED), "--default-unreachable-toleration-seconds", str(TOLERATED)),
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    """A cluster of two nodes that gives a node up soon; every test leaves both Ready and without taints."""
    with nodes(2, FLAGS) as made:
        yield made


@pytest.fixture(scope="module")
def kubectl(cluster: Nodes) -> Kubectl:
    return cluster.server.kubectl()


@pytest.fixture
def agent(cluster: Nodes) -> Agent:
    return cluster.agents[0]


def eventually(look: Callable[[], object], what: str, timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def pods_of(kubectl: Kubectl, app: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = kubectl.get("pods", "-l", f"app={app}")["items"]
    return items


def on(kubectl: Kubectl, app: str, node: str) -> list[dict[str, Any]]:
    return [p for p in pods_of(kubectl, app) if p["spec"].get("nodeName") == node and "deletionTimestamp" not in p["metadata"]]


def taints(kubectl: Kubectl, node: str) -> set[tuple[str, str]]:
    found = json.loads(kubectl("get", "node", node, "-o", "json"))["spec"].get("taints") or ()
    return {(t["key"].removeprefix("node.kubernetes.io/"), t["effect"]) for t in found}


def budget(app: str, **spec: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app": app}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": app}, "spec": {"selector": selector, **spec}}


def test_a_node_is_drained_as_far_as_the_budget_allows(kubectl: Kubectl, cluster: Nodes, agent: Agent) -> None:
    here, there = cluster.names
    kubectl("cordon", here)
    assert ("unschedulable", "NoSchedule") in taints(kubectl, here)
    kubectl.apply(web("shop", 2), budget("shop", minAvailable=1))
    kubectl.wait("condition=Available", "deployment/shop")
    assert len(on(kubectl, "shop", there)) == 2
    kubectl.until("1", ".status.disruptionsAllowed", "pdb", "shop")
    refused = kubectl.fails("drain", there, "--ignore-daemonsets", "--timeout=3s")
    assert "Cannot evict pod as it would violate the pod's disruption budget." in refused
    # one was evicted, and has nowhere to go: the other one stays
    assert len(on(kubectl, "shop", there)) == 1
    kubectl("uncordon", here)
    drained = kubectl("drain", there, "--ignore-daemonsets", "--timeout=60s")
    assert f"node/{there} drained" in drained
    assert not on(kubectl, "shop", there)
    kubectl.until("2", ".status.availableReplicas", "deployment", "shop")
    kubectl("uncordon", there)
    eventually(lambda: not taints(kubectl, there), "the taint of the cordon stays")
    kubectl("delete", "deployment,pdb", "shop")


def test_a_taint_drives_out_what_does_not_tolerate_it(kubectl: Kubectl, agent: Agent) -> None:
    node = agent.namespace
    lasting = {"key": "repair", "operator": "Exists", "effect": "NoExecute"}
    kubectl.apply(
        pod("goes", nodeName=node),
        pod("lingers", nodeName=node, tolerations=[{**lasting, "tolerationSeconds": 3}]),
        pod("stays", nodeName=node, tolerations=[lasting]),
    )
    for name in ("goes", "lingers", "stays"):
        kubectl.wait("condition=Ready", f"pod/{name}")
    kubectl("taint", "node", node, "repair=now:NoExecute")
    kubectl.wait("delete", "pod/goes", timeout=10)
    assert kubectl.field(".metadata.deletionTimestamp", "pod", "lingers") == ""
    kubectl.wait("delete", "pod/lingers", timeout=10)
    kubectl("taint", "node", node, "repair-")
    assert kubectl.field(".status.phase", "pod", "stays") == "Running"
    events = kubectl("get", "events", "--field-selector=reason=TaintManagerEviction")
    assert "Marking for deletion Pod default/goes" in events and "default/stays" not in events
    kubectl("delete", "pod", "stays")


def test_a_node_that_dies_is_given_up_and_comes_back(kubectl: Kubectl, cluster: Nodes, agent: Agent) -> None:
    here, there = cluster.names
    kubectl("cordon", here)
    moved = web("moved")
    moved["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 3
    kubectl.apply(moved, pod("bound", nodeName=there, terminationGracePeriodSeconds=3))
    kubectl.wait("condition=Available", "deployment/moved")
    kubectl.wait("condition=Ready", "pod/bound")
    kubectl("uncordon", here)
    (old,) = on(kubectl, "moved", there)
    agent.stop(signal.SIGKILL)
    kubectl.until("Unknown", '.status.conditions[?(@.type=="Ready")].status', "node", there, timeout=GRACE + 10)
    eventually(lambda: {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")} <= taints(kubectl, there), "no taints")
    kubectl.until("False", '.status.conditions[?(@.type=="Ready")].status', "pod", old["metadata"]["name"], timeout=5)
    # the pods have tolerated it for as long as they do: others take their place, they themselves wait for their kubelet
    eventually(lambda: on(kubectl, "moved", here), "the pod was not moved", TOLERATED + 10)
    kubectl.wait("condition=Available", "deployment/moved")
    assert kubectl.field(".metadata.deletionTimestamp", "pod", "bound")
    # who knows that the machine is off says so: then nobody waits for it any more
    kubectl("taint", "node", there, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
    kubectl.wait("delete", "pod/bound", f"pod/{old['metadata']['name']}", timeout=15)
    agent.start()
    kubectl.wait("condition=Ready", f"node/{there}", timeout=30)
    kubectl("taint", "node", there, "node.kubernetes.io/out-of-service-")
    eventually(lambda: not taints(kubectl, there), "the node is back, its taints stay")
    uid = old["metadata"]["uid"]
    eventually(lambda: not left_of(agent, uid), "the node still has the cgroups of a pod that was given up", 40)
    kubectl("delete", "deployment", "moved")


def left_of(agent: Agent, uid: str) -> list[Path]:
    """The cgroups of a pod on the agent's machine."""
    return [path for top in Path("/sys/fs/cgroup").glob(f"*{agent.cgroup}") for path in top.rglob(f"*{uid}*")]


def test_a_node_is_deleted_and_joins_again(kubectl: Kubectl, agent: Agent) -> None:
    node = agent.namespace
    before = kubectl.field(".metadata.uid", "node", node)
    kubectl("delete", "node", node)
    eventually(lambda: kubectl.result("get", "node", node).returncode == 0, "the node has not registered again")
    assert kubectl.field(".metadata.uid", "node", node) != before
    kubectl.wait("condition=Ready", f"node/{node}")
    eventually(lambda: not taints(kubectl, node), "taints of a new node stay")
    kubectl.apply(pod("again", nodeName=node))
    kubectl.wait("condition=Ready", "pod/again")
    kubectl("delete", "pod", "again")
    events = kubectl("get", "events", "--field-selector=involvedObject.kind=Node")
    assert f"Removing Node {node} from Controller" in events
