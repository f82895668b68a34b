"""Pods with volume claims: they wait until their claims are bound, and go where their volumes are."""

from __future__ import annotations

import random
from typing import Any

import pytest

from minikube_py.scheduler import volumes
from minikube_py.scheduler.decide import Decider
from minikube_py.scheduler.objects import Objects
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.world import World
from minikube_py.types.core import PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus
from minikube_py.types.meta import ObjectMeta, ObjectReference
from minikube_py.types.pod import (
    ClaimSource,
    EphemeralSource,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    ResourceRequirements,
    Volume,
)
from minikube_py.types.storage import PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus, StorageClass, VolumeNodeAffinity
from tests.scheduler.builders import cluster, info, node

ZONE = "topology.kubernetes.io/zone"


def world() -> World:
    return World(cluster(node("a", labels={ZONE: "a"}), node("b", labels={ZONE: "b"})))


def claim(
    name: str, volume: str = "", *, storage: str | None = None, modes: tuple[str, ...] = ("ReadWriteOnce",), **more: Any
) -> PersistentVolumeClaim:
    annotations = {volumes.BIND_COMPLETED: "yes"} if volume else {}
    return PersistentVolumeClaim(
        metadata=ObjectMeta(name=name, namespace="default", uid=name, annotations=more.pop("annotations", annotations), **more),
        spec=PersistentVolumeClaimSpec(
            volumeName=volume, accessModes=modes, storageClassName=storage, resources=ResourceRequirements(requests={"storage": "1Gi"})
        ),
        status=PersistentVolumeClaimStatus(phase="Bound" if volume else "Pending"),
    )


def on(*names: str) -> VolumeNodeAffinity:
    wanted = NodeSelectorTerm(matchFields=(NodeSelectorRequirement(key="metadata.name", operator="In", values=names),))
    return VolumeNodeAffinity(required=NodeSelector(nodeSelectorTerms=(wanted,)))


def volume(name: str, size: str = "1Gi", *, storage: str = "", at: VolumeNodeAffinity | None = None, **labels: str) -> PersistentVolume:
    return PersistentVolume(
        metadata=ObjectMeta(name=name, labels=labels),
        spec=PersistentVolumeSpec(capacity={"storage": size}, accessModes=("ReadWriteOnce",), storageClassName=storage, nodeAffinity=at),
        status=PersistentVolumeStatus(phase="Available"),
    )


def with_claim(name: str, *claims: str) -> PodInfo:
    return info(name, volumes=tuple(Volume(name=c, persistentVolumeClaim=ClaimSource(claimName=c)) for c in claims))


def apply(objects: Objects, *made: Any) -> None:
    for each in made:
        objects.apply(None, each)


def decider(made: World) -> Decider:
    return Decider(made, random.Random(1).random)


def why(made: World, wanted: PodInfo) -> str:
    decision = decider(made).decide(wanted)
    assert decision.node is None and decision.diagnosis is not None
    return decision.diagnosis.message


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ([], 'persistentvolumeclaim "data" not found'),
        ([claim("data")], "pod has unbound immediate PersistentVolumeClaims"),
        ([claim("data", "v", deletionTimestamp="2026-01-01T00:00:00Z")], 'persistentvolumeclaim "data" is being deleted'),
    ],
)
def test_a_pod_waits_for_its_claims(claims: list[PersistentVolumeClaim], said: str) -> None:
    made = world()
    apply(made.objects, *claims)
    assert why(made, with_claim("p", "data")) == f"0/2 nodes are available: {said}. not found"


def test_a_claim_of_the_pods_own_is_waited_for() -> None:
    made = world()
    pod = info("p", volumes=(Volume(name="scratch", ephemeral=EphemeralSource()),))
    waiting = 'waiting for ephemeral volume controller to create the persistentvolumeclaim "p-scratch"'
    assert why(made, pod) == f"0/2 nodes are available: {waiting}. not found"
    apply(made.objects, claim("p-scratch"))
    assert "PVC default/p-scratch was not created for pod default/p (pod is not owner)" in why(made, pod)


def test_a_pod_goes_where_its_volume_can_be_used() -> None:
    made = world()
    apply(made.objects, claim("data", "v"), volume("v", at=on("b")))
    assert decider(made).decide(with_claim("p", "data")).node == "b"
    apply(made.objects, volume("v", at=on("elsewhere")))
    assert why(made, with_claim("p", "data")).startswith(
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity. "
    )
    made.objects.apply(volume("v"), None)
    assert why(made, with_claim("p", "data")) == '0/2 nodes are available: persistentvolume "v" not found. not found'


def test_a_volumes_zone_is_its_pods_zone() -> None:
    made = world()
    apply(made.objects, claim("data", "v"), volume("v", **{ZONE: "b"}))
    assert decider(made).decide(with_claim("p", "data")).node == "b"
    apply(made.objects, volume("v", **{"failure-domain.beta.kubernetes.io/zone": "x__y"}))
    assert "2 node(s) had no available volume zone." in why(made, with_claim("p", "data"))


def test_a_claim_for_one_pod_serves_one_pod() -> None:
    made = world()
    apply(made.objects, claim("data", "v", modes=("ReadWriteOncePod",)), volume("v"))
    deciding = decider(made)
    first = with_claim("first", "data")
    chosen = deciding.decide(first).node
    assert chosen is not None
    made.cluster.place(first, chosen)
    text = why(made, with_claim("second", "data"))
    assert "2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod." in text
    made.cluster.forget("first")
    assert deciding.decide(with_claim("second", "data")).node is not None


def test_claims_that_wait_for_their_consumer_get_the_smallest_volume_that_the_node_reaches() -> None:
    made = world()
    late = StorageClass(
        metadata=ObjectMeta(name="local"), provisioner="kubernetes.io/no-provisioner", volumeBindingMode="WaitForFirstConsumer"
    )
    apply(made.objects, late, claim("data", storage="local"))
    assert "2 node(s) didn't find available persistent volumes to bind." in why(made, with_claim("p", "data"))
    apply(made.objects, volume("big", "9Gi", storage="local", at=on("b")), volume("fit", "2Gi", storage="local", at=on("b")))
    apply(made.objects, volume("small", "1Mi", storage="local", at=on("a")))
    pod = with_claim("p", "data")
    assert decider(made).decide(pod).node == "b"
    found = volumes.find(volumes.claims_of(pod, made.objects).delayed, made.cluster.nodes["b"], made.objects)
    assert found is not None and [v.metadata.name for _, v in found.matched] == ["fit"]
    # a volume that was just picked for another pod is taken, as is one that the API has reserved
    made.objects.take("default/other", "b", "fit")
    assert decider(made).decide(pod).node == "b"
    reserved = PersistentVolumeSpec(claimRef=ObjectReference(namespace="default", name="other"), capacity={"storage": "9Gi"})
    apply(made.objects, PersistentVolume(metadata=ObjectMeta(name="big"), spec=reserved))
    assert decider(made).decide(pod).node is None


def test_new_volumes_are_asked_for_on_the_chosen_node() -> None:
    made = world()
    apply(made.objects, StorageClass(metadata=ObjectMeta(name="fast"), provisioner="x", volumeBindingMode="WaitForFirstConsumer"))
    apply(made.objects, claim("data", storage="fast"))
    assert decider(made).decide(with_claim("p", "data")).node in ("a", "b")
    # a node that was just picked for the claim binds its other pods too, until the API says so or it comes to nothing
    made.objects.take("default/data", "a")
    assert decider(made).decide(with_claim("p", "data")).node == "a"
    made.objects.give_back("default/data")
    apply(made.objects, claim("data", storage="fast", annotations={volumes.SELECTED_NODE: "b"}))
    assert decider(made).decide(with_claim("p", "data")).node == "b"
