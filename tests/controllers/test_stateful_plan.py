"""What a stateful set does next, what its pods and claims look like, and what it says of itself."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest

from minikube_py.controllers import history, stateful
from minikube_py.controllers.history import HASH_LABEL
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.meta import LabelSelector, ObjectMeta, OwnerReference
from minikube_py.types.pod import Pod
from minikube_py.types.workload import (
    ClaimRetentionPolicy,
    ControllerRevision,
    RollingUpdateStatefulSet,
    StatefulSet,
    StatefulSetOrdinals,
    StatefulSetSpec,
    StatefulSetStatus,
    StatefulSetUpdateStrategy,
)
from tests.controllers.builders import LABELS, NOW, pod, template

CLAIM = msgspec.Raw(orjson.dumps({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}))


def stateful_set(replicas: int = 3, *, rolling: dict[str, Any] | None = None, update: str = "RollingUpdate", **spec: Any) -> StatefulSet:
    given = RollingUpdateStatefulSet(**(rolling or {})) if update == "RollingUpdate" else None
    return StatefulSet(
        metadata=ObjectMeta(name="db", namespace="default", uid="uid-db", generation=2),
        spec=StatefulSetSpec(
            replicas=replicas,
            selector=LabelSelector(matchLabels=LABELS),
            template=template(),
            serviceName="db",
            updateStrategy=StatefulSetUpdateStrategy(type=update, rollingUpdate=given),
            **spec,
        ),
        status=StatefulSetStatus(currentRevision="db-old"),
    )


def member(ordinal: int, revision: str = "db-new", **fields: Any) -> Pod:
    name = f"db-{ordinal}"
    return pod(name, labels={**LABELS, **stateful.identity(name), HASH_LABEL: revision}, **fields)


def names(pods: Any) -> list[str]:
    return [p.metadata.name for p in pods]


def plan(made: StatefulSet, pods: list[Pod]) -> tuple[list[int], list[str]]:
    step = stateful.plan(made, "db-new", pods, NOW)
    return list(step.create), names(step.delete)


def test_one_at_a_time() -> None:
    assert plan(stateful_set(), []) == ([0], [])
    assert plan(stateful_set(), [member(0, ready=False)]) == ([], [])
    assert plan(stateful_set(), [member(0)]) == ([1], [])
    assert plan(stateful_set(), [member(0), member(2)]) == ([1], [])
    assert plan(stateful_set(minReadySeconds=10), [member(0, since=NOW - 5)]) == ([], [])
    assert plan(stateful_set(), [member(0, ending=True)]) == ([], [])


def test_all_at_once() -> None:
    parallel = stateful_set(podManagementPolicy="Parallel")
    assert plan(parallel, [member(1, ready=False)]) == ([0, 2], [])
    assert plan(parallel, [member(n) for n in range(6)]) == ([], ["db-5", "db-4", "db-3"])


def test_numbers_may_start_elsewhere() -> None:
    made = stateful_set(2, ordinals=StatefulSetOrdinals(start=5))
    assert plan(made, [member(5)]) == ([6], [])
    assert plan(made, [member(5), member(6), member(0)]) == ([], ["db-0"])


def test_scaling_down_takes_the_last_and_waits_for_the_unhealthy() -> None:
    pods = [member(n) for n in range(3)]
    assert plan(stateful_set(1), pods) == ([], ["db-2"])
    assert plan(stateful_set(1), [*pods[:2], member(2, ending=True)]) == ([], [])
    assert plan(stateful_set(1), [member(0), member(1, ready=False), member(2)]) == ([], ["db-2"])
    assert plan(stateful_set(1), [member(0), member(1), member(2, ready=False)]) == ([], ["db-2"])
    assert plan(stateful_set(1), [member(0), member(1, ready=False), member(2, ready=False)]) == ([], [])
    assert plan(stateful_set(1), [member(0, ready=False), member(1)]) == ([], [])


def test_what_has_ended_is_made_anew() -> None:
    assert plan(stateful_set(), [member(0, phase="Failed"), member(1)]) == ([], ["db-0"])
    assert plan(stateful_set(), [member(0, phase="Succeeded", ending=True), member(1)]) == ([], [])


def test_updates() -> None:
    old = [member(n, "db-old") for n in range(3)]
    assert plan(stateful_set(), old) == ([], ["db-2"])
    assert plan(stateful_set(rolling={"partition": 2}), [*old[:2], member(2)]) == ([], [])
    assert plan(stateful_set(update="OnDelete"), old) == ([], [])
    parallel = stateful_set(podManagementPolicy="Parallel")
    assert plan(parallel, [*old[:2], member(2, ready=False)]) == ([], [])
    # what is broken and old is no reason to wait
    broken = [member(0, "db-old"), member(1, "db-old", ready=False), member(2)]
    assert plan(parallel, broken) == ([], ["db-1"])
    assert plan(parallel, [member(0, "db-old", ready=False), member(1, "db-old"), member(2)]) == ([], ["db-1"])


@pytest.mark.parametrize(("partition", "expected"), [(0, [False, False]), (1, [True, False]), (5, [True, True])])
def test_below_the_partition_the_current_revision_is_made(partition: int, expected: list[bool]) -> None:
    made = stateful_set(rolling={"partition": partition})
    assert [stateful.takes_current(made, ordinal) for ordinal in (0, 1)] == expected


def test_identity_is_put_right_and_missing_claims_are_looked_for() -> None:
    step = stateful.plan(stateful_set(1), "db-new", [pod("db-0", labels={**LABELS, HASH_LABEL: "db-new"})], NOW)
    assert names(step.rename) == ["db-0"]
    assert names(stateful.plan(stateful_set(1), "db-new", [member(0, phase="Pending", ready=False)], NOW).claims) == ["db-0"]


def test_a_set_that_is_being_deleted_does_nothing() -> None:
    made = stateful_set()
    ending = msgspec.structs.replace(made, metadata=msgspec.structs.replace(made.metadata, deletionTimestamp="2024-01-01T00:00:00Z"))
    assert stateful.plan(ending, "db-new", [], NOW) == stateful.Plan()


def test_status() -> None:
    made = stateful_set()
    pods = [member(0), member(1, "db-old"), member(2, "db-old", ready=False)]
    status = stateful.status(made, pods, "db-old", "db-new", 0, NOW)
    assert (status.replicas, status.readyReplicas, status.availableReplicas) == (3, 2, 2)
    assert (status.currentReplicas, status.updatedReplicas, status.currentRevision) == (2, 1, "db-old")
    done = stateful.status(made, [member(n) for n in range(3)], "db-old", "db-new", 0, NOW)
    assert (done.currentReplicas, done.currentRevision, done.updateRevision) == (3, "db-new", "db-new")


def test_pods_and_claims_keep_their_names() -> None:
    made = stateful_set(volumeClaimTemplates=(CLAIM,), persistentVolumeClaimRetentionPolicy=ClaimRetentionPolicy(whenDeleted="Delete"))
    body = orjson.loads(stateful.pod_body(made, made.spec.template, 4, "db-new"))
    assert (body["metadata"]["name"], body["spec"]["hostname"], body["spec"]["subdomain"]) == ("db-4", "db-4", "db")
    assert body["spec"]["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-4"}}]
    (claim,) = stateful.claim_bodies(made, 4)
    assert claim["metadata"]["name"] == "data-db-4" and claim["metadata"]["labels"] == LABELS
    assert claim["metadata"]["ownerReferences"][0]["uid"] == "uid-db"


SET_REF = OwnerReference(apiVersion="apps/v1", kind="StatefulSet", name="db", uid="uid-db", controller=True)
CONFIG_REF = OwnerReference(apiVersion="v1", kind="ConfigMap", name="c", uid="c")
KEEP, DELETE = ClaimRetentionPolicy(), ClaimRetentionPolicy(whenDeleted="Delete", whenScaled="Delete")


def owners(policy: ClaimRetentionPolicy, ordinal: int, *refs: OwnerReference) -> list[str] | None:
    """The kinds of a claim's owners afterwards, None where they stay as they are."""
    made = stateful_set(1, volumeClaimTemplates=(CLAIM,), persistentVolumeClaimRetentionPolicy=policy)
    claim = PersistentVolumeClaim(metadata=ObjectMeta(name=f"data-db-{ordinal}", namespace="default", ownerReferences=refs))
    found = stateful.claim_owners(made, claim, member(ordinal))
    return None if found is None else [ref["kind"] for ref in found.applied(msgspec.to_builtins(refs))]


def test_whose_a_claim_is() -> None:
    assert owners(KEEP, 0) is None and owners(KEEP, 0, SET_REF) == []
    assert owners(DELETE, 0) == ["StatefulSet"] and owners(DELETE, 0, SET_REF) is None
    assert owners(DELETE, 1, SET_REF) == ["Pod"]
    assert owners(ClaimRetentionPolicy(whenScaled="Delete"), 0) is None
    assert owners(DELETE, 0, CONFIG_REF) == ["ConfigMap", "StatefulSet"]


def test_a_set_that_owns_a_claim_is_its_controller() -> None:
    assert owners(DELETE, 0, msgspec.structs.replace(SET_REF, controller=False)) == ["StatefulSet"]
    assert owners(KEEP, 0, msgspec.structs.replace(SET_REF, controller=False)) == []


@pytest.mark.parametrize("policy", [KEEP, DELETE])
def test_a_claim_of_an_earlier_set_or_pod_of_the_name_is_left_alone(policy: ClaimRetentionPolicy) -> None:
    assert owners(policy, 0, msgspec.structs.replace(SET_REF, uid="earlier")) is None
    assert owners(policy, 0, OwnerReference(apiVersion="v1", kind="Pod", name="db-0", uid="earlier", controller=True)) is None


def test_a_claim_that_another_controller_has_gets_no_owner_of_ours() -> None:
    other = OwnerReference(apiVersion="apps/v1", kind="StatefulSet", name="unknown", uid="u", controller=True)
    assert owners(DELETE, 0, other) is None and owners(DELETE, 0, other, SET_REF) == ["StatefulSet"]
    assert owners(KEEP, 0, other) is None and owners(KEEP, 0, other, SET_REF) == ["StatefulSet"]


def test_owner_references_of_others_stay_as_they_were_sent() -> None:
    change = stateful.ClaimOwners(frozenset({("apps/v1", "StatefulSet", "db")}), ())
    others = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c"}
    assert change.applied([others, {**others, "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"}]) == [others]


def revision(name: str, number: int, image: str) -> ControllerRevision:
    data = {"spec": {"template": {**msgspec.json.decode(template(image)), "$patch": "replace"}}}
    return ControllerRevision(metadata=ObjectMeta(name=name, uid=name), data=msgspec.Raw(orjson.dumps(data)), revision=number)


def test_a_template_that_is_taken_up_again_gets_a_new_number() -> None:
    revisions = [revision("b", 2, "web:2"), revision("a", 1, "web:1")]
    assert history.present(template("web:2"), revisions).number == 2
    again = history.present(template("web:1"), revisions)
    assert (names(again.equal), again.number) == (["a"], 3)
    assert history.present(template("web:3"), revisions) == ((), 3)


def test_only_idle_revisions_beyond_the_limit_go() -> None:
    revisions = [revision(name, n, f"web:{n}") for n, name in enumerate("abcd")]
    assert names(history.surplus(revisions, {"a", "d"}, 1)) == ["b"]
    assert names(history.surplus(revisions, {"a", "d"}, 0)) == ["b", "c"]


def test_a_revisions_data_is_written_as_go_writes_it() -> None:
    """Clients compare the bytes with those that they make of the template themselves: the names in every object are in order."""
    owner_set = stateful_set()
    body = history.body(owner_set, template("web:1", terminationGracePeriodSeconds=1, hostNetwork=True), 1, 0, HASH_LABEL)

    def in_order(value: Any) -> bool:
        if isinstance(value, dict):
            return list(value) == sorted(value) and all(in_order(v) for v in value.values())
        return all(in_order(v) for v in value) if isinstance(value, list) else True

    assert in_order(body["data"]) and body["data"]["spec"]["template"]["$patch"] == "replace"
