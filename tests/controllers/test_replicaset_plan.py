"""What a ReplicaSet creates and deletes, and what it says of itself."""

from __future__ import annotations

import random

import orjson

from minikube_py.controllers import replicaset
from minikube_py.controllers.claims import plan_claim
from minikube_py.controllers.pods import deletion_order, pod_body
from minikube_py.types.meta import Condition, LabelSelector
from tests.controllers.builders import LABELS, NOW, owner, pod, replica_set


def test_missing_pods_are_created_and_never_more_than_a_burst() -> None:
    assert replicaset.plan(replica_set(replicas=3), [pod("a")], (), NOW) == replicaset.Plan(2, ())
    assert replicaset.plan(replica_set(replicas=5000), [], (), NOW).create == replicaset.BURST


def test_ended_and_ending_pods_are_replaced() -> None:
    pods = [pod("a"), pod("b", phase="Failed"), pod("c", ending=True)]
    assert replicaset.plan(replica_set(replicas=3), pods, (), NOW).create == 2


def test_a_set_that_is_being_deleted_does_nothing() -> None:
    ending = replica_set(replicas=3, meta={"deletionTimestamp": "2023-01-01T00:00:00Z"})
    assert replicaset.plan(ending, [], (), NOW) == replicaset.Plan(0, ())


def test_surplus_pods_go_in_the_order_of_their_worth() -> None:
    """Each pod differs from the next one by exactly the rule that puts it in front."""
    crowd = [pod(f"crowd{i}", node="n2") for i in range(2)]
    ordered = [
        pod("unscheduled", node="", phase="Pending", ready=False),
        pod("pending", phase="Pending", ready=False),
        pod("unready", ready=False),
        pod("cheap", annotations={"controller.kubernetes.io/pod-deletion-cost": "-5"}),
        pod("crowded", node="n2"),
        pod("fresh", since=NOW - 10),
        pod("restarted", restarts=3),
        pod("young", created=NOW - 50),
        pod("old"),
    ]
    shuffled = ordered[:]
    random.Random(3).shuffle(shuffled)
    related = [*ordered, *crowd, *[pod(f"m{i}", node="n2") for i in range(5)]]
    assert [p.metadata.name for p in deletion_order(shuffled, related, NOW)] == [p.metadata.name for p in ordered]


def test_a_deletion_cost_that_is_no_number_counts_as_none() -> None:
    odd = pod("odd", annotations={"controller.kubernetes.io/pod-deletion-cost": "x"}, created=NOW - 10)
    assert deletion_order([pod("old"), odd], [], NOW)[0] is odd


def test_status_counts() -> None:
    made = replica_set(replicas=4, minReadySeconds=50)
    pods = [pod("a"), pod("b", since=NOW - 10), pod("c", ready=False), pod("d", ending=True), pod("e", phase="Succeeded")]
    status = replicaset.status(made, pods, None, NOW)
    assert (status.replicas, status.readyReplicas, status.availableReplicas, status.terminatingReplicas) == (3, 2, 1, 1)
    assert status.fullyLabeledReplicas == 3 and status.observedGeneration == 1


def test_a_failure_is_said_once_and_taken_back() -> None:
    failed = replicaset.status(replica_set(), [], ("FailedCreate", "quota"), NOW)
    assert failed.conditions == (
        Condition(type="ReplicaFailure", status="True", reason="FailedCreate", message="quota", lastTransitionTime="2023-11-14T22:13:20Z"),
    )
    again = replicaset.status(replica_set(status=failed), [], ("FailedCreate", "another"), NOW + 60)
    assert again.conditions == failed.conditions
    assert replicaset.status(replica_set(status=failed), [], None, NOW).conditions == ()


def test_counts_of_zero_are_taken_out_of_the_status() -> None:
    body = replicaset.status_json(replicaset.status(replica_set(), [], None, NOW))
    assert body["replicas"] == 0 and body["readyReplicas"] is None and body["conditions"] is None


def test_pods_are_made_from_the_whole_template() -> None:
    made = replica_set()
    body = orjson.loads(pod_body(made, made.spec.template))
    assert body["metadata"]["generateName"] == "web-" and body["metadata"]["labels"] == LABELS
    assert body["metadata"]["ownerReferences"][0]["uid"] == "uid-web"
    assert body["spec"] == {"containers": [{"name": "web", "image": "web:1"}]}


def test_claims() -> None:
    made = replica_set()
    selector = LabelSelector(matchLabels=LABELS)
    mine = pod("mine", owners=[owner("uid-web")])
    strayed = pod("strayed", owners=[owner("uid-web")], labels={"app": "other"})
    foreign = pod("foreign", owners=[owner("uid-other")])
    orphan, stranger, ending = pod("orphan"), pod("stranger", labels={}), pod("ending", ending=True)
    claim = plan_claim(made, selector, [mine, strayed, foreign, orphan, stranger, ending])
    assert claim == ((mine,), (orphan,), (strayed,))


def test_an_owner_that_is_being_deleted_claims_nothing_new() -> None:
    ending = replica_set(meta={"deletionTimestamp": "2023-01-01T00:00:00Z"})
    mine = pod("mine", owners=[owner("uid-web")])
    strayed = pod("strayed", owners=[owner("uid-web")], labels={})
    assert plan_claim(ending, LabelSelector(matchLabels=LABELS), [mine, strayed, pod("orphan")]) == ((mine,), (), ())
