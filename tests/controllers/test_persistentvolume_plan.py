"""The binder's decisions, as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikube_py.controllers import local_path, pvc_protection
from minikube_py.controllers.persistentvolume_plan import ClaimPlan, Do, find_volume, plan_claim, plan_volume
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.meta import V
from minikube_py.types.pod import Pod
from minikube_py.types.storage import PersistentVolume, StorageClass, default_class


def _as(view: type[V], body: dict[str, Any]) -> V:
    return msgspec.json.decode(msgspec.json.encode(body), type=view)


def claim(
    name: str = "c", *, size: str = "1Gi", modes: tuple[str, ...] = ("ReadWriteOnce",), phase: str = "", **more: Any
) -> PersistentVolumeClaim:
    annotations, meta = more.pop("annotations", {}), more.pop("metadata", {})
    spec = {"accessModes": modes, "resources": {"requests": {"storage": size}}, "storageClassName": "", **more}
    spec = {k: v for k, v in spec.items() if v is not None}
    metadata = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "annotations": annotations, **meta}
    return _as(PersistentVolumeClaim, {"metadata": metadata, "spec": spec, "status": {"phase": phase}})


def volume(
    name: str = "v", *, size: str = "1Gi", modes: tuple[str, ...] = ("ReadWriteOnce",), phase: str = "Available", **more: Any
) -> PersistentVolume:
    annotations, meta = more.pop("annotations", {}), more.pop("metadata", {})
    spec = {"capacity": {"storage": size}, "accessModes": modes, **more}
    return _as(PersistentVolume, {"metadata": {"name": name, "annotations": annotations, **meta}, "spec": spec, "status": {"phase": phase}})


def reference(name: str = "c", uid: str | None = None) -> dict[str, str]:
    return {"namespace": "ns", "name": name, "uid": f"uid-{name}" if uid is None else uid}


def named(*volumes: PersistentVolume) -> dict[str, PersistentVolume]:
    return {v.metadata.name: v for v in volumes}


def storage_class(name: str, mode: str = "Immediate", provisioner: str = "example.com/p", **meta: Any) -> Mapping[str, StorageClass]:
    return {name: _as(StorageClass, {"metadata": {"name": name, **meta}, "provisioner": provisioner, "volumeBindingMode": mode})}


BOUND = {"pv.kubernetes.io/bind-completed": "yes"}
DEFAULT = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}


def outcome(plan: ClaimPlan) -> tuple[Any, ...]:
    return plan.do, plan.volume.metadata.name if plan.volume is not None else plan.name, plan.say.reason if plan.say is not None else ""


def test_the_smallest_of_the_least_capable_volumes_that_fit_is_chosen() -> None:
    volumes = [
        volume("many", size="2Gi", modes=("ReadWriteOnce", "ReadWriteMany")),
        volume("large", size="50Gi"),
        volume("fits", size="5Gi", metadata={"labels": {"disk": "ssd"}}),
        volume("small", size="1Gi"),
        volume("taken", size="3Gi", claimRef=reference("other")),
        volume("released", size="3Gi", phase="Released"),
        volume("going", size="3Gi", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        volume("block", size="3Gi", volumeMode="Block"),
        volume("classed", size="3Gi", storageClassName="fast"),
    ]

    def chosen(**wanted: Any) -> str:
        found = find_volume(claim(**wanted), volumes, delayed=False)
        return found.metadata.name if found is not None else ""

    assert chosen(size="3Gi") == "fits"
    assert chosen(size="6Gi") == "large"
    assert chosen(modes=("ReadWriteMany",)) == "many"
    assert chosen(size="3Gi", storageClassName="fast") == "classed"
    assert chosen(size="3Gi", volumeMode="Block") == "block"
    assert chosen(selector={"matchLabels": {"disk": "ssd"}}) == "fits"
    assert chosen(size="60Gi") == chosen(modes=("ReadOnlyMany",)) == chosen(storageClassName="none") == ""
    reserved = volume("reserved", size="90Gi", claimRef=reference(uid=""))
    assert find_volume(claim(), [*volumes, reserved], delayed=False) is reserved
    assert find_volume(claim(), volumes, delayed=True) is None
    assert find_volume(claim(), [*volumes, reserved], delayed=True) is reserved


def test_a_claim_without_a_volume_waits_for_what_its_class_says() -> None:
    waits, immediate = storage_class("late", "WaitForFirstConsumer"), storage_class("now")
    node = {"volume.kubernetes.io/selected-node": "n1"}
    assert outcome(plan_claim(claim(), {}, {})) == (Do.PEND, "", "FailedBinding")
    assert outcome(plan_claim(claim(storageClassName="gone"), {}, {})) == (Do.PEND, "", "ProvisioningFailed")
    assert outcome(plan_claim(claim(storageClassName="now"), {}, immediate)) == (Do.PROVISION, "example.com/p", "ExternalProvisioning")
    assert outcome(plan_claim(claim(storageClassName="late"), {}, waits)) == (Do.PEND, "", "WaitForFirstConsumer")
    assert outcome(plan_claim(claim(storageClassName="late"), {}, waits, ["p"])) == (Do.PEND, "", "WaitForPodScheduled")
    assert outcome(plan_claim(claim(storageClassName="late", annotations=node), {}, waits)) == (
        Do.PROVISION,
        "example.com/p",
        "ExternalProvisioning",
    )
    static = storage_class("static", provisioner="kubernetes.io/no-provisioner")
    assert outcome(plan_claim(claim(storageClassName="static"), {}, static)) == (Do.PEND, "", "ProvisioningFailed")
    default = storage_class("std", **DEFAULT)
    assert outcome(plan_claim(claim(storageClassName=None), {}, default)) == (Do.SET_CLASS, "std", "")
    assert outcome(plan_claim(claim(), {}, default)) == (Do.PEND, "", "FailedBinding"), "the empty class is a choice"
    assert outcome(plan_claim(claim(storageClassName=None), named(volume()), default)) == (Do.BIND, "v", ""), "a fitting volume comes first"


def test_of_several_default_classes_the_newest_counts() -> None:
    classes = [
        *storage_class("b", creationTimestamp="2026-01-01T00:00:00Z", **DEFAULT).values(),
        *storage_class("z", creationTimestamp="2026-01-02T00:00:00Z", **DEFAULT).values(),
        *storage_class("a", creationTimestamp="2026-01-02T00:00:00Z", **DEFAULT).values(),
        *storage_class("newest", creationTimestamp="2026-02-01T00:00:00Z").values(),
    ]
    found = default_class(classes)
    assert found is not None and found.metadata.name == "a"
    assert default_class(classes[-1:]) is None


def test_a_claim_that_names_its_volume_gets_it_or_waits() -> None:
    asks = claim(volumeName="v")
    assert outcome(plan_claim(asks, {}, {})) == (Do.PEND, "", "")
    assert outcome(plan_claim(asks, named(volume()), {})) == (Do.BIND, "v", "")
    assert outcome(plan_claim(asks, named(volume(claimRef=reference(uid=""))), {})) == (Do.BIND, "v", "")
    assert outcome(plan_claim(asks, named(volume(claimRef=reference("other"))), {})) == (Do.PEND, "", "FailedBinding")
    assert outcome(plan_claim(asks, named(volume(claimRef=reference(uid="old"))), {})) == (Do.PEND, "", "FailedBinding")
    for wrong, why in {"size": "requested PV is too small", "storageClassName": "storageClassName does not match"}.items():
        plan = plan_claim(asks, named(volume(**{wrong: "1Mi" if wrong == "size" else "x"})), {})
        assert plan.say is not None and plan.say.message == f'Cannot bind to requested volume "v": {why}'


def test_a_bound_claim_is_held_to_its_volume() -> None:
    bound = claim(volumeName="v", annotations=BOUND)
    assert outcome(plan_claim(bound, named(volume(claimRef=reference())), {})) == (Do.BIND, "v", "")
    assert outcome(plan_claim(bound, named(volume()), {})) == (Do.BIND, "v", "")
    assert outcome(plan_claim(bound, {}, {})) == (Do.LOSE, "", "ClaimLost")
    assert outcome(plan_claim(claim(annotations=BOUND), {}, {})) == (Do.LOSE, "", "ClaimLost")
    assert outcome(plan_claim(bound, named(volume(claimRef=reference("other"))), {})) == (Do.LOSE, "", "ClaimMisbound")


@pytest.mark.parametrize(
    ("given", "claimed", "phase", "unbind", "reclaim"),
    [
        (volume(), None, "Available", False, False),
        (volume(claimRef=reference(uid="")), None, "Available", False, False),
        (volume(claimRef=reference(), phase="Bound"), None, "Released", False, True),
        (volume(claimRef=reference(), phase="Failed"), None, "Failed", False, True),
        (volume(claimRef=reference(uid="old"), phase="Bound"), claim(), "Released", False, True),
        (volume(claimRef=reference()), claim(), "", False, False),
        (volume(claimRef=reference()), claim(volumeName="v"), "Bound", False, False),
        (volume(claimRef=reference()), claim(volumeName="other"), "Available", True, False),
        (
            volume(claimRef=reference(), annotations={"pv.kubernetes.io/provisioned-by": "p"}, persistentVolumeReclaimPolicy="Delete"),
            claim(volumeName="other"),
            "Released",
            False,
            True,
        ),
    ],
)
def test_a_volume_follows_its_claim(given: PersistentVolume, claimed: Any, phase: str, unbind: bool, reclaim: bool) -> None:
    plan = plan_volume(given, claimed)
    assert (plan.phase, plan.unbind, plan.reclaim) == (phase, unbind, reclaim)


@given(
    st.lists(st.tuples(st.sampled_from(["1Gi", "2Gi", "5Gi"]), st.booleans(), st.booleans()), max_size=6), st.sampled_from(["1Gi", "2Gi"])
)
def test_a_chosen_volume_always_satisfies_the_claim_and_is_nobody_elses(made: list[tuple[str, bool, bool]], asked: str) -> None:
    volumes = [
        volume(f"v{i}", size=size, claimRef=reference("other") if taken else None, phase="Bound" if bound else "Available")
        for i, (size, taken, bound) in enumerate(made)
    ]
    found = find_volume(claim(size=asked), volumes, delayed=False)
    fitting = [v for v, (size, taken, bound) in zip(volumes, made, strict=True) if not taken and not bound and size >= asked]
    assert (found in fitting) if fitting else found is None
    if found is not None:
        assert all(found.spec.capacity["storage"] <= v.spec.capacity["storage"] for v in fitting)


def test_what_is_in_use_is_protected() -> None:
    own = claim(
        "p-data",
        metadata={
            "finalizers": ["kubernetes.io/pvc-protection"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}],
        },
    )

    def pod(node: str = "n1", grace: int | None = None, **source: Any) -> Pod:
        ends = {} if grace is None else {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
        spec = {"nodeName": node, "containers": [], "volumes": [{"name": "data", **source}]}
        return _as(Pod, {"metadata": {"name": "p", "namespace": "ns", "uid": "u", **ends}, "spec": spec})

    named_claim = {"persistentVolumeClaim": {"claimName": "p-data"}}
    assert pvc_protection.uses(pod(**named_claim), own)
    assert not pvc_protection.uses(pod(node="", **named_claim), own)
    assert pvc_protection.uses(pod(grace=0, **named_claim), own)
    assert pvc_protection.uses(pod(ephemeral={}), own) and pvc_protection.uses(pod(grace=30, ephemeral={}), own)
    assert not pvc_protection.uses(pod(grace=0, ephemeral={}), own)
    assert not pvc_protection.uses(pod(ephemeral={}), claim("p-data")), "somebody else's claim of that name"
    going = msgspec.structs.replace(own.metadata, deletionTimestamp="2026-01-01T00:00:00Z")
    name = pvc_protection.CLAIM_FINALIZER
    assert pvc_protection.plan(own.metadata, name, used=True) == pvc_protection.plan(going, name, used=True) == ""
    assert pvc_protection.plan(going, name, used=False) == "remove"
    assert pvc_protection.plan(claim().metadata, name, used=False) == "add"


def test_a_directory_of_a_node_becomes_a_volume_reserved_for_its_claim() -> None:
    chosen = {"volume.kubernetes.io/selected-node": "n1", "volume.kubernetes.io/storage-provisioner": local_path.NAME}
    wanted = claim(storageClassName="local-path", size="3Gi", annotations=chosen)
    assert local_path.wants_volume(wanted) and local_path.check(wanted) == "n1"
    of_class = _as(StorageClass, {**local_path.storage_class(), "reclaimPolicy": "Retain"})
    made = _as(PersistentVolume, local_path.volume(wanted, of_class, "host-1", "/data/x"))
    assert made.metadata.name == "pvc-uid-c" and made.spec.local is not None and made.spec.local.path == "/data/x"
    assert (made.spec.persistentVolumeReclaimPolicy, made.spec.storageClassName) == ("Retain", "local-path")
    assert local_path.node_of(made) == "host-1"
    assert find_volume(wanted, [made], delayed=True) is made
    assert not local_path.wants_removal(msgspec.structs.replace(made, status=msgspec.structs.replace(made.status, phase="Released")))
    for wrong in ({"modes": ("ReadWriteMany",)}, {"volumeMode": "Block"}, {"selector": {}}, {"annotations": {}}):
        with pytest.raises(local_path.Unfit):
            local_path.check(claim(**{"annotations": chosen, **wrong}))
