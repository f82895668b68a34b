"""Resizing pods in place: what is granted, in which order it is done, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from minikube_py.kubelet import plan, resize
from minikube_py.kubelet.resources import Amounts, PodLimits
from minikube_py.kubelet.restarts import BackoffTable
from minikube_py.kubelet.state import ContainerRecord, PodState
from minikube_py.types.pod import Pod, ResourceRequirements
from tests.kubelet.values import NOW, container, pod, state

SMALL: dict[str, Any] = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}
LARGE: dict[str, Any] = {"requests": {"cpu": "200m", "memory": "128Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}}
MI = 1024 * 1024


def has(amounts: Amounts) -> resize.Actuated:
    return lambda _: amounts


def computed(of: Pod, found: PodState, actuated: Amounts) -> resize.Resize:
    return resize.compute(of, found, has(actuated), of.spec.resources)


def test_the_pod_is_the_spec_until_they_differ_in_amount() -> None:
    small, large = pod({"resources": SMALL}), pod({"resources": LARGE})
    granted = resize.allocation_of(small)
    assert resize.allocated(small, granted) is small
    same = pod({"resources": {"requests": {"cpu": "0.1", "memory": "65536Ki"}, "limits": SMALL["limits"]}})
    assert resize.allocated(same, granted) is same
    assert resize.allocated(large, granted).spec.containers[0].resources == small.spec.containers[0].resources


def test_what_runs_is_updated_and_what_does_not_is_left() -> None:
    large = pod({"resources": LARGE})
    old = Amounts(100, 100, 64 * MI, 64 * MI)
    made = computed(large, state(container(large)), old)
    assert [(u.before, u.after) for u in made.updates] == [(old, Amounts(200, 200, 128 * MI, 128 * MI))]
    assert not computed(large, state(), old).due
    assert not computed(large, state(container(large)), Amounts(200, 200, 128 * MI, 128 * MI)).due
    assert not resize.compute(large, state(container(large)), lambda _: None, None).due


@pytest.mark.parametrize(
    ("policy", "wanted", "restarts"),
    [
        ([], LARGE, False),
        ([{"resourceName": "memory", "restartPolicy": "RestartContainer"}], LARGE, True),
        ([{"resourceName": "cpu", "restartPolicy": "NotRequired"}], LARGE, False),
        ([{"resourceName": "memory", "restartPolicy": "RestartContainer"}], {**SMALL, "limits": {"cpu": "1", "memory": "64Mi"}}, False),
    ],
)
def test_the_resize_policy(policy: list[dict[str, str]], wanted: dict[str, Any], restarts: bool) -> None:
    of = pod({"resources": wanted, "resizePolicy": policy})
    found = state(container(of))
    made = computed(of, found, Amounts(100, 100, 64 * MI, 64 * MI))
    whole = plan.compute(of, found, plan.Verdicts(), BackoffTable(), NOW, made)
    assert [c.name for c in whole.start] == (["main"] if restarts else [])
    assert [k.message for k in whole.kills] == (["Container main resize requires restart"] if restarts else [])
    assert bool(whole.resize.updates) is not restarts and not whole.idle


def test_what_shrinks_comes_before_what_grows() -> None:
    of = pod(*({"name": name, "resources": SMALL} for name in ("a", "b", "c")))

    def update(number: int, before: int, after: int) -> resize.Update:
        spec = of.spec.containers[number]
        record: ContainerRecord = container(of, spec.name)
        return resize.Update(spec, record, Amounts(before, before, before, before), Amounts(after, after, after, after))

    updates = [update(0, 10, 20), update(1, 20, 10), update(2, 10, 10)]
    assert [u.container.name for u in resize.memory_order(updates)] == ["b", "a"]
    assert [u.container.name for u in resize.cpu_order(updates)] == ["b", "a"]


def test_memory_limits_stay_above_what_is_used() -> None:
    of = pod({"resources": SMALL})
    record = container(of)
    wanted = computed(of, state(record), Amounts(100, 100, 128 * MI, 128 * MI))
    limits, before = PodLimits(102, 10_000, 64 * MI), PodLimits(102, 10_000, 128 * MI)
    assert resize.too_small(wanted, limits, before, {record.id: 10 * MI}, 12 * MI) == ""
    said = resize.too_small(wanted, limits, before, {record.id: 80 * MI}, 81 * MI)
    assert "attempting to set pod memory limit (67108864) below current usage (84934656)" in said
    assert 'attempting to set container "main" memory limit (67108864) below current usage (83886080)' in said
    grows = computed(of, state(record), Amounts(100, 100, 32 * MI, 32 * MI))
    assert resize.too_small(grows, limits, limits, {}, None) == ""


def test_status_shows_what_a_container_has() -> None:
    given = pod({"resources": LARGE}).spec.containers[0].resources
    assert resize.actual(given, Amounts(200, 200, 128 * MI, 128 * MI), None) == LARGE
    assert resize.actual(given, Amounts(100, 150, 64 * MI, 0), None) == {
        "limits": {"cpu": "150m"},
        "requests": {"cpu": "100m", "memory": "64Mi"},
    }


def test_a_pod_s_own_limits_hold_for_containers_without() -> None:
    of = pod({"resources": {"requests": {"cpu": "100m"}}}, resources={"requests": {"cpu": "300m"}, "limits": {"cpu": "1", "memory": "1Gi"}})
    made = computed(of, state(container(of)), Amounts(100, 500, 0, 1024 * MI))
    assert [u.after for u in made.updates] == [Amounts(100, 1000, 0, 1024 * MI)]
    assert resize.of_the_whole(of) == {
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "300m"}},
        "allocatedResources": {"cpu": "300m"},
    }
    before = ResourceRequirements(requests={"cpu": "200m"}, limits={"cpu": "500m", "memory": "2Gi"})
    assert resize.of_the_whole(of, before) == {
        "resources": {"limits": {"cpu": "500m", "memory": "2Gi"}, "requests": {"cpu": "200m"}},
        "allocatedResources": {"cpu": "300m"},
    }
