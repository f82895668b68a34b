"""Who is evicted, when, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from minikube_py.kubelet import eviction
from minikube_py.kubelet.eviction import Memory, Observation, decide, met
from minikube_py.kubelet.usage import ContainerUsage, Disk, PodUsage
from minikube_py.meta import thresholds
from minikube_py.types.pod import Pod
from tests.kubelet.values import pod

MIB = 1 << 20
PERIOD = 300.0
DEFAULTS = thresholds.parse(thresholds.DEFAULT_HARD)


def seen(**left: tuple[int, int]) -> dict[str, Observation]:
    names = {"memory": thresholds.MEMORY, "nodefs": thresholds.NODEFS, "imagefs": thresholds.IMAGEFS, "pid": thresholds.PIDS}
    return {names[name]: Observation(*values) for name, values in left.items()}


def named(name: str, *containers: dict[str, Any], **spec: Any) -> Pod:
    return pod(*containers, metadata={"name": name, "uid": name}, **spec)


def test_the_defaults_are_upstreams() -> None:
    amounts = {t.signal: t.amount for t in DEFAULTS}
    assert amounts[thresholds.MEMORY].fixed == 100 * MIB and amounts[thresholds.IMAGEFS].share == 0.15
    assert amounts[thresholds.NODEFS].of(1000) == 100 and amounts[thresholds.NODEFS_INODES].of(1000) == 50
    assert all(t.hard for t in DEFAULTS) and thresholds.hard_memory(DEFAULTS, 1 << 30) == 100 * MIB


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (["memory.available"], "must be SIGNAL<AMOUNT"),
        (["cpu.available<10%"], "is not a signal"),
        (["nodefs.available<101%"], "more than 100%"),
        (["memory.available<-5Mi"], "positive amount"),
        (["memory.available<lots"], "positive amount"),
    ],
)
def test_what_is_no_threshold_is_refused(statements: list[str], problem: str) -> None:
    with pytest.raises(thresholds.ThresholdError, match=problem):
        thresholds.parse(statements)


def test_a_soft_threshold_needs_a_grace_period_and_zero_percent_is_off() -> None:
    with pytest.raises(thresholds.ThresholdError, match="grace period must be specified"):
        thresholds.parse([], ["memory.available<1Gi"])
    assert thresholds.parse(["nodefs.available<0%", "imagefs.available<100%"]) == ()


def test_a_hard_threshold_counts_at_once_and_its_condition_stays_for_the_transition_period() -> None:
    decision = decide(DEFAULTS, seen(memory=(99 * MIB, 1 << 30)), Memory(), PERIOD, 1000.0)
    assert decision.conditions == ("MemoryPressure",) and [t.signal for t in decision.starved] == [thresholds.MEMORY]
    after = decide(DEFAULTS, seen(memory=(500 * MIB, 1 << 30)), decision.memory, PERIOD, 1299.0)
    assert after.conditions == ("MemoryPressure",) and not after.starved
    assert decide(DEFAULTS, seen(memory=(500 * MIB, 1 << 30)), after.memory, PERIOD, 1301.0).conditions == ()


def test_a_soft_threshold_counts_after_its_grace_period_and_only_while_it_is_met() -> None:
    soft = thresholds.parse([], ["memory.available<1Gi"], {thresholds.MEMORY: 60.0})
    short, plenty = seen(memory=(512 * MIB, 4 << 30)), seen(memory=(2 << 30, 4 << 30))
    first = decide(soft, short, Memory(), PERIOD, 0.0)
    assert first.conditions == ("MemoryPressure",) and not first.starved
    assert decide(soft, short, first.memory, PERIOD, 61.0).starved == soft
    relieved = decide(soft, plenty, first.memory, PERIOD, 30.0)
    assert not decide(soft, short, relieved.memory, PERIOD, 61.0).starved


def test_a_crossed_threshold_counts_until_its_minimum_reclaim_is_won_back() -> None:
    configured = thresholds.parse(["nodefs.available<10%"], reclaims=["nodefs.available=5%"])
    crossed = decide(configured, seen(nodefs=(9, 100)), Memory(), PERIOD, 0.0)
    assert decide(configured, seen(nodefs=(14, 100)), crossed.memory, PERIOD, 10.0).starved == configured
    assert not decide(configured, seen(nodefs=(15, 100)), crossed.memory, PERIOD, 10.0).starved
    assert not decide(configured, seen(nodefs=(14, 100)), Memory(), PERIOD, 0.0).starved
    assert met(configured, seen(nodefs=(14, 100)), reclaim=True) and not met(configured, {})


def test_memory_is_won_back_before_disk() -> None:
    decision = decide(DEFAULTS, seen(nodefs=(1, 100), memory=(1, 1 << 30)), Memory(), PERIOD, 0.0)
    assert decision.resource == "memory" and decision.conditions == ("MemoryPressure", "DiskPressure")


def test_what_all_pods_may_take_has_the_hard_threshold_of_memory_too() -> None:
    soft = thresholds.parse(["memory.available<100Mi", "nodefs.available<10%"], ["memory.available<200Mi"], {"memory.available": 30.0})
    given = thresholds.with_allocatable(soft)
    assert given[:-1] == soft and given[-1] == soft[0]._replace(signal=thresholds.ALLOCATABLE_MEMORY)
    left = {
        **seen(memory=(4 << 30, 8 << 30), nodefs=(1, 100)),
        thresholds.ALLOCATABLE_MEMORY: Observation(60 * MIB, 1 << 30),
    }
    decision = decide(given, left, Memory(), PERIOD, 0.0)
    assert decision.conditions == ("MemoryPressure", "DiskPressure") and decision.resource == "memory"
    assert [t.signal for t in decision.starved] == [thresholds.ALLOCATABLE_MEMORY, thresholds.NODEFS]
    greedy, modest = (named(name, {"name": "a"}) for name in ("greedy", "modest"))
    usage = {"greedy": PodUsage(memory=900 * MIB), "modest": PodUsage(memory=40 * MIB)}
    assert eviction.rank(thresholds.ALLOCATABLE_MEMORY, [modest, greedy], usage, False) == [greedy, modest]
    assert "low on resource: memory" in eviction.pressure_message(decision, left, greedy, None)


def test_who_uses_more_than_it_asked_for_goes_first_then_the_lower_priority_then_the_greater_use() -> None:
    requests = {"resources": {"requests": {"memory": "100Mi"}}}
    modest, greedy = named("modest", requests), named("greedy", requests)
    important = named("important", priority=1000)
    small, large, unknown = named("small"), named("large"), named("unknown")
    usage = {
        "modest": PodUsage(90 * MIB),
        "greedy": PodUsage(120 * MIB),
        "important": PodUsage(900 * MIB),
        "small": PodUsage(30 * MIB),
        "large": PodUsage(300 * MIB),
    }
    order = eviction.rank(thresholds.MEMORY, [important, modest, small, greedy, large, unknown], usage, image_fs=False)
    assert [p.metadata.name for p in order] == ["unknown", "large", "small", "greedy", "important", "modest"]


def test_pids_go_by_priority_and_processes() -> None:
    pods = [named("few"), named("many"), named("important", priority=5)]
    usage = {"few": PodUsage(processes=2), "many": PodUsage(processes=500), "important": PodUsage(processes=900)}
    assert [p.metadata.name for p in eviction.rank(thresholds.PIDS, pods, usage, False)] == ["many", "few", "important"]


def test_what_counts_as_disk_depends_on_where_the_images_are() -> None:
    logger, writer = named("logger"), named("writer", volumes=[{"name": "v", "emptyDir": {}}])
    usage = {
        "logger": PodUsage(containers=(ContainerUsage("main", 0, Disk(500, 1), Disk(10, 1)),)),
        "writer": PodUsage(volumes={"v": Disk(100, 1)}),
    }

    def first(signal: str, image_fs: bool) -> str:
        return eviction.rank(signal, [logger, writer], usage, image_fs)[0].metadata.name

    assert first(thresholds.NODEFS, image_fs=False) == "logger" == first(thresholds.IMAGEFS, image_fs=True)
    assert first(thresholds.NODEFS, image_fs=True) == "writer"
    assert eviction.reclaims_images(thresholds.NODEFS, image_fs=False) and not eviction.reclaims_images(thresholds.NODEFS, image_fs=True)
    assert eviction.reclaims_images(thresholds.IMAGEFS, image_fs=True) and not eviction.reclaims_images(thresholds.MEMORY, image_fs=False)


def test_critical_pods_stay() -> None:
    assert eviction.is_critical(named("p", priority=2_000_000_000)) and not eviction.is_critical(named("p", priority=1_000_000_000))
    assert eviction.is_critical(pod(metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}))


def test_the_message_says_what_was_short_and_which_containers_used_more_than_they_asked_for() -> None:
    one = named("p", {"name": "a", "resources": {"requests": {"memory": "10Mi"}}}, {"name": "b"}, {"name": "c"})
    usage = PodUsage(containers=(ContainerUsage("a", 20 * MIB), ContainerUsage("b", MIB), ContainerUsage("c", 0)))
    left = seen(memory=(50 * MIB, 1 << 30))
    decision = decide(DEFAULTS, left, Memory(), PERIOD, 0.0)
    assert eviction.pressure_message(decision, left, one, usage) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container a was using 20Mi, request is 10Mi, has larger consumption of memory. "
        "Container b was using 1Mi, request is 0, has larger consumption of memory. "
    )


def test_local_storage_has_limits_of_its_own() -> None:
    limited = {"resources": {"limits": {"ephemeral-storage": "1Mi"}}}
    volumes = [{"name": "cache", "emptyDir": {"sizeLimit": "2Mi"}}]
    both = named("p", {"name": "a", **limited}, {"name": "b", **limited}, volumes=volumes)
    assert eviction.has_local_limits(both) and not eviction.has_local_limits(named("p", volumes=[{"name": "v", "emptyDir": {}}]))

    def said(cache: int = 0, a: int = 0, b: int = 0, rootfs: int = 0, image_fs: bool = False) -> str:
        containers = (ContainerUsage("a", 0, Disk(rootfs), Disk(a)), ContainerUsage("b", 0, Disk(), Disk(b)))
        excess = eviction.local_excess(both, PodUsage(containers=containers, volumes={"cache": Disk(cache)}), image_fs)
        return "" if excess is None else f"{excess.signal}: {excess.message}"

    assert said(MIB, MIB // 2, MIB // 2) == ""
    assert said(cache=2 * MIB + 1) == 'emptydirfs.limit: Usage of EmptyDir volume "cache" exceeds the limit "2Mi". '
    assert said(MIB, MIB, 1) == "ephemeralpodfs.limit: Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "
    assert said(a=MIB + 1) == 'ephemeralcontainerfs.limit: Container a exceeded its local ephemeral storage limit "1Mi". '
    assert said(rootfs=MIB + 1) and not said(rootfs=MIB + 1, image_fs=True)


def test_a_node_under_pressure_refuses_pods() -> None:
    burstable = named("p", {"resources": {"requests": {"memory": "1Mi"}}})
    assert eviction.refusal((), named("p")) == ""
    assert eviction.refusal(("MemoryPressure",), named("p")) == "The node had condition: [MemoryPressure]. "
    assert eviction.refusal(("MemoryPressure",), burstable) == ""
    tolerant = named("p", tolerations=[{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}])
    assert eviction.refusal(("MemoryPressure",), tolerant) == ""
    assert eviction.refusal(("MemoryPressure", "DiskPressure"), tolerant) == "The node had condition: [MemoryPressure DiskPressure]. "
    assert eviction.refusal(("DiskPressure",), named("p", priority=2_000_001_000)) == ""
