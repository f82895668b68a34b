"""Rollouts, step by step, on values: a small world plays the API server, the ReplicaSet controller and the kubelet."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikube_py.controllers import deployment as controller
from minikube_py.controllers import deployment_status, rollout
from minikube_py.types.meta import Condition, ObjectMeta, timestamp
from minikube_py.types.workload import Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus
from tests.controllers.builders import LABELS, NOW, deployment, owner, pod, replica_set, template

replace = msgspec.structs.replace


class World:
    """Applies plans to values."""

    def __init__(self, made: Deployment) -> None:
        self.deployment = made
        self.sets: dict[str, ReplicaSet] = {}
        self.now = NOW

    def update(self, made: Deployment) -> None:
        generation = self.deployment.metadata.generation + 1
        meta = replace(made.metadata, generation=generation, annotations=self.deployment.metadata.annotations)
        self.deployment = replace(made, metadata=meta, status=self.deployment.status)

    def step(self) -> controller.Plan:
        plan = controller.plan(self.deployment, list(self.sets.values()))
        conditions = self.deployment.status.conditions
        if plan.new is not None and plan.revision:
            annotations = rollout.set_annotations(self.deployment, plan.new, plan.revision)
            self._put(plan.new.metadata.name, annotations=annotations)
            conditions = deployment_status.found_new(self.deployment, conditions, plan.new, self.now)
        if plan.create is not None:
            body = controller.new_set_body(self.deployment, plan.create, plan.revision)
            name = body["metadata"]["name"]
            self.now += 1
            self.sets[name] = ReplicaSet(
                metadata=ObjectMeta(
                    name=name,
                    namespace="default",
                    uid=f"uid-{name}",
                    annotations=body["metadata"]["annotations"],
                    generation=1,
                    creationTimestamp=timestamp(self.now),
                ),
                spec=ReplicaSetSpec(replicas=plan.create, template=msgspec.Raw(orjson.dumps(body["spec"]["template"]))),
            )
            conditions = deployment_status.created_new(self.deployment, conditions, self.sets[name], self.now)
        for scale in plan.scale:
            old = self.sets[scale.replica_set.metadata.name]
            self._put(old.metadata.name, {**old.metadata.annotations, **rollout.size_annotations(self.deployment)}, scale.replicas)
        for gone in plan.delete:
            del self.sets[gone.metadata.name]
        sets = list(self.sets.values())
        new = rollout.find_new(self.deployment, sets)
        status = deployment_status.calculate(self.deployment, sets, new, conditions, self.now, judged=plan.judged)
        self.deployment = replace(self.deployment, status=status)
        return plan

    def _put(self, name: str, annotations: dict[str, str], replicas: int | None = None) -> None:
        old = self.sets[name]
        size = old.spec.replicas if replicas is None else replicas
        generation = old.metadata.generation + (size != old.spec.replicas)
        meta = replace(old.metadata, annotations=annotations, generation=generation)
        self.sets[name] = replace(old, metadata=meta, spec=replace(old.spec, replicas=size))

    def settle_pods(self, choose: random.Random | None = None, only: str = "") -> None:
        """Pods come and go as their sets say; with `choose` only some of the new ones are available yet,
        with `only` those of one set alone ever are."""
        for name, each in self.sets.items():
            size, available = each.spec.replicas, min(each.status.availableReplicas, each.spec.replicas)
            if only in ("", name):
                missing = size - available
                available += missing if choose is None else choose.randint(0, missing)
            status = ReplicaSetStatus(
                replicas=size,
                fullyLabeledReplicas=size,
                readyReplicas=available,
                availableReplicas=available,
                terminatingReplicas=0,
                observedGeneration=each.metadata.generation,
            )
            self.sets[name] = replace(each, status=status)

    def settle(self, rounds: int = 60) -> None:
        for _ in range(rounds):
            self.step()
            self.settle_pods()

    def sizes(self) -> dict[str, int]:
        """Sizes by image."""
        return {
            msgspec.json.decode(each.spec.template)["spec"]["containers"][0]["image"]: each.spec.replicas for each in self.sets.values()
        }


def condition(made: Deployment, type_: str) -> Condition:
    return next(c for c in made.status.conditions if c.type == type_)


def test_a_new_deployment_makes_one_set_of_full_size() -> None:
    world = World(deployment(3))
    plan = world.step()
    assert plan.create == 3 and plan.revision == 1
    (made,) = world.sets.values()
    assert made.metadata.annotations == {rollout.REVISION: "1", rollout.DESIRED_REPLICAS: "3", rollout.MAX_REPLICAS: "4"}
    assert condition(world.deployment, "Available").status == "False"
    world.settle()
    assert condition(world.deployment, "Available").status == "True"
    progressing = condition(world.deployment, "Progressing")
    assert progressing.reason == "NewReplicaSetAvailable"
    assert progressing.message == f'ReplicaSet "{made.metadata.name}" has successfully progressed.'
    assert len(world.sets) == 1 and world.deployment.status.updatedReplicas == 3


def test_the_name_ends_in_the_template_hash_which_selector_and_labels_bear() -> None:
    made = deployment()
    body = controller.new_set_body(made, 3, 1)
    digest = rollout.template_hash(made.spec.template, 0)
    assert body["metadata"]["name"] == f"web-{digest}" and digest.isalnum()
    assert body["spec"]["selector"]["matchLabels"] == {**LABELS, "pod-template-hash": digest}
    assert body["spec"]["template"]["metadata"]["labels"] == {**LABELS, "pod-template-hash": digest}
    assert body["metadata"]["labels"] == {**LABELS, "pod-template-hash": digest}


def raw(text: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(orjson.dumps(text))


def test_equal_templates_have_equal_hashes() -> None:
    one = raw(
        {"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [{"name": "x", "resources": {"limits": {"cpu": "1000m"}}}]}}
    )
    two = raw(
        {
            "spec": {"containers": [{"resources": {"limits": {"cpu": "1"}}, "name": "x", "env": []}], "nodeSelector": {}},
            "metadata": {"labels": {"b": "2", "a": "1", "pod-template-hash": "zzz"}, "annotations": {}},
        }
    )
    assert rollout.template_hash(one, 0) == rollout.template_hash(two, 0)
    assert rollout.template_hash(one, 0) != rollout.template_hash(one, 1)
    assert rollout.template_hash(one, 0) != rollout.template_hash(raw({"spec": {"containers": [{"name": "y"}]}}), 0)


def test_the_hash_is_the_same_in_every_process() -> None:
    assert rollout.template_hash(template("web:1"), 0) == "86dc798699"


def test_an_empty_struct_is_not_an_absent_one() -> None:
    one = raw({"spec": {"volumes": [{"name": "x", "emptyDir": {}}]}})
    two = raw({"spec": {"volumes": [{"name": "x"}]}})
    assert rollout.template_hash(one, 0) != rollout.template_hash(two, 0)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 12),
    st.sampled_from([0, 1, 3, "25%", "50%", "100%"]),
    st.sampled_from([0, 1, 3, "25%", "50%", "100%"]),
    st.randoms(use_true_random=False),
)
def test_a_rolling_update_keeps_its_bounds_and_arrives(
    replicas: int, surge: int | str, unavailable: int | str, choose: random.Random
) -> None:
    world = World(deployment(replicas, surge=surge, unavailable=unavailable))
    world.settle(10)
    world.update(deployment(replicas, "web:2", surge=surge, unavailable=unavailable))
    least = replicas - rollout.max_unavailable(world.deployment)
    most = replicas + rollout.max_surge(world.deployment)
    for _ in range(200):
        world.step()
        assert rollout.total(world.sets.values()) <= most
        world.settle_pods(choose)
        assert rollout.total_available(world.sets.values()) >= least
        if world.sizes() == {"web:1": 0, "web:2": replicas}:
            break
    world.settle(30)
    assert world.sizes() == {"web:1": 0, "web:2": replicas}
    assert deployment_status.is_complete(world.deployment, world.deployment.status)
    assert world.deployment.status.conditions and condition(world.deployment, "Progressing").reason == "NewReplicaSetAvailable"


def test_a_broken_new_template_leaves_the_old_pods_serving_and_times_out() -> None:
    world = World(deployment(4, progressDeadlineSeconds=10))
    world.settle()
    world.update(deployment(4, "broken:1", progressDeadlineSeconds=10))
    old = next(iter(world.sets))
    for _ in range(20):
        world.step()
        world.settle_pods(only=old)
        world.now += 1
    assert world.sizes() == {"web:1": 3, "broken:1": 2}
    assert condition(world.deployment, "Available").status == "True"
    progressing = condition(world.deployment, "Progressing")
    assert (progressing.status, progressing.reason) == ("False", "ProgressDeadlineExceeded")
    assert "has timed out progressing." in progressing.message


def test_going_back_reuses_the_old_set_and_raises_its_revision() -> None:
    world = World(deployment(2))
    world.settle()
    world.update(deployment(2, "web:2"))
    world.settle()
    world.update(deployment(2, "web:1"))
    world.settle()
    assert world.sizes() == {"web:1": 2, "web:2": 0}
    first = next(s for s in world.sets.values() if s.spec.replicas == 2)
    assert first.metadata.annotations[rollout.REVISION] == "3"
    assert first.metadata.annotations[rollout.REVISION_HISTORY] == "1"


def test_history_is_trimmed_to_its_limit_lowest_revisions_first() -> None:
    world = World(deployment(1, revisionHistoryLimit=2))
    for version in range(1, 7):
        world.update(deployment(1, f"web:{version}", revisionHistoryLimit=2))
        world.settle(20)
    assert world.sizes() == {"web:4": 0, "web:5": 0, "web:6": 1}


def test_scaling_outside_a_rollout_goes_at_once() -> None:
    world = World(deployment(2))
    world.settle()
    world.update(deployment(50))
    plan = world.step()
    assert [s.replicas for s in plan.scale] == [50] and plan.create is None


def test_scaling_in_a_rollout_is_shared_by_size() -> None:
    made = deployment(15, "web:2", surge=3, unavailable=2)
    sizes = {rollout.DESIRED_REPLICAS: "10", rollout.MAX_REPLICAS: "13"}
    old = replica_set("old", 8, meta={"annotations": sizes, "creationTimestamp": timestamp(NOW - 10)})
    new = replica_set("new", 5, image="web:2", meta={"annotations": sizes, "creationTimestamp": timestamp(NOW)})
    plan = controller.plan(made, [old, new])
    assert {s.replica_set.metadata.name: s.replicas for s in plan.scale} == {"old": 11, "new": 7}
    assert not plan.judged


def test_a_paused_deployment_scales_but_rolls_nothing_out() -> None:
    world = World(deployment(2))
    world.settle()
    world.update(deployment(2, "web:2", paused=True))
    noted = deployment_status.pause_conditions(world.deployment, world.now)
    assert (
        noted is not None
        and condition(replace(world.deployment, status=DeploymentStatus(conditions=noted)), "Progressing").reason == "DeploymentPaused"
    )
    assert world.step().create is None and world.sizes() == {"web:1": 2}
    world.update(deployment(5, "web:2", paused=True))
    world.settle()
    assert world.sizes() == {"web:1": 5}
    world.update(deployment(5, "web:2"))
    world.settle()
    assert world.sizes() == {"web:1": 0, "web:2": 5}


def test_recreate_waits_for_the_last_old_pod() -> None:
    made = deployment(2, "web:2", strategy="Recreate")
    old = replica_set("old", 2, meta={"creationTimestamp": timestamp(NOW)})
    plan = controller.plan(made, [old])
    assert [s.replicas for s in plan.scale] == [0] and plan.create is None
    emptied = replace(old, spec=replace(old.spec, replicas=0))
    ending = pod("a", owners=[owner("uid-old")], ending=True)
    assert controller.plan(made, [emptied], [ending]).create is None
    assert controller.plan(made, [emptied], [pod("a", phase="Failed", owners=[owner("uid-old")])]).create == 2


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [(10, "25%", "25%", (3, 2)), (1, "25%", "25%", (1, 0)), (10, 0, 0, (0, 1)), (10, 2, "50%", (2, 5)), (4, "0%", "10%", (0, 1))],
)
def test_fenceposts(replicas: int, surge: int | str, unavailable: int | str, expected: tuple[int, int]) -> None:
    assert rollout.fenceposts(deployment(replicas, surge=surge, unavailable=unavailable)) == expected


def test_no_deadline_no_progress_condition() -> None:
    world = World(deployment(1, progressDeadlineSeconds=deployment_status.NO_DEADLINE))
    world.settle()
    assert [c.type for c in world.deployment.status.conditions] == ["Available"]


def test_a_deployment_that_is_being_deleted_changes_nothing() -> None:
    plan = controller.plan(deployment(meta={"deletionTimestamp": timestamp(NOW)}), [])
    assert plan == controller.Plan((), None)
