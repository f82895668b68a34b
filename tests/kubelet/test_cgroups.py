"""What is written to cgroup v2, and read from both versions: on a tree of plain files, since a machine has one version or the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikube_py.kubelet import machine, resources
from minikube_py.kubelet.cgroups import Cgroups, Hierarchies, find, has_hugepage_limits, has_swap_limits
from minikube_py.kubelet.measure import Measure
from minikube_py.kubelet.options import KubeletOptions
from minikube_py.kubelet.resources import PodLimits
from minikube_py.meta import thresholds
from minikube_py.nodesettings import NodeSettings
from tests.kubelet.values import pod

MIB = 1 << 20
UID = "u"


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """The cgroups of one Burstable pod, as the kernel would make them."""
    for place in ("", "kubepods", "kubepods/besteffort", "kubepods/burstable", f"kubepods/burstable/pod{UID}"):
        directory = tmp_path / place
        directory.mkdir(exist_ok=True)
        (directory / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        (directory / "cgroup.subtree_control").write_text("")
    return tmp_path


def test_a_pods_limits_on_v2(unified: Path) -> None:
    made = Cgroups(Hierarchies(unified, {}), "", 100)
    name = made.ensure_pod(resources.BURSTABLE, UID, PodLimits(1024, 50_000, 64 * MIB))
    pod = unified / name.strip("/")
    assert name == f"/kubepods/burstable/pod{UID}"
    assert (pod / "cpu.weight").read_text() == "39" and (pod / "cpu.max").read_text() == "50000 100000"
    assert (pod / "memory.max").read_text() == str(64 * MIB) and (pod / "pids.max").read_text() == "100"
    assert made.v2 and made.pods() == {UID}


def test_without_a_limit_of_processes_none_is_written(unified: Path) -> None:
    name = Cgroups(Hierarchies(unified, {})).ensure_pod(resources.BURSTABLE, UID, PodLimits(2, None, None))
    pod = unified / name.strip("/")
    assert not any((pod / file).exists() for file in ("pids.max", "memory.max", "cpu.max"))


def test_huge_pages_that_a_pod_does_not_ask_for_it_does_not_get(unified: Path) -> None:
    pod_dir = unified / f"kubepods/burstable/pod{UID}"
    files = [f"hugetlb.{size}.{kind}" for size in ("64KB", "2MB", "1GB") for kind in ("max", "rsvd.max")]
    for file in (*files, "hugetlb.2MB.current", "hugetlb.2MB.events"):
        (pod_dir / file).write_text("max")
    asks = {"requests": {"cpu": "1"}, "limits": {"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"}}
    wanted = resources.pod_limits(pod({"resources": asks}, {"resources": {"limits": {"hugepages-2Mi": "2Mi"}}}))
    assert wanted.hugepages == {2 * MIB: 6 * MIB, 1 << 30: 1 << 30}
    Cgroups(Hierarchies(unified, {})).ensure_pod(resources.BURSTABLE, UID, wanted)
    expected = {"64KB": "0", "2MB": str(6 * MIB), "1GB": str(1 << 30)}
    assert {file: (pod_dir / file).read_text() for file in files} == {file: expected[file.split(".")[1]] for file in files}
    assert (pod_dir / "hugetlb.2MB.current").read_text() == (pod_dir / "hugetlb.2MB.events").read_text() == "max"
    assert not has_hugepage_limits(Hierarchies(unified, {}))
    (unified / "cgroup.controllers").write_text("cpu memory hugetlb\n")
    assert has_hugepage_limits(Hierarchies(unified, {})) and has_hugepage_limits(Hierarchies(None, {"hugetlb": unified}))

    old = unified / f"hugetlb/kubepods/pod{UID}"
    old.mkdir(parents=True)
    (old / "hugetlb.2MB.limit_in_bytes").write_text("9223372036852678656")
    v1 = Cgroups(Hierarchies(None, {"hugetlb": unified / "hugetlb"}))
    v1.ensure_pod(resources.GUARANTEED, UID, PodLimits(2, None, None))
    assert (old / "hugetlb.2MB.limit_in_bytes").read_text() == "0"


def test_all_pods_together_are_limited_to_what_is_not_reserved(unified: Path, tmp_path: Path) -> None:
    settings = NodeSettings(
        kube_reserved=(("cpu", "500m"), ("memory", "1Gi"), ("pid", "1k")),
        system_reserved=(("memory", "512Mi"), ("ephemeral-storage", "1Gi")),
    )
    options = KubeletOptions(node_name="n", node_ips=("10.0.0.1",), settings=settings)
    machine_ = machine.facts(tmp_path)._replace(cpus=2, memory=8 << 30, disk=100 << 30, pids=32768)
    assert machine.enforced(machine_, options) == (1500, (8 << 30) - 1536 * MIB, 31768)
    assert machine.enforced(machine_._replace(pids=0), options).pids is None
    allocatable = machine.allocatable(machine_, options)
    assert (allocatable["cpu"], allocatable["memory"]) == ("1500m", f"{(8 << 20) - 1636 * 1024}Ki")
    assert int(allocatable["ephemeral-storage"]) == (89 << 30)
    Cgroups(Hierarchies(unified, {})).limit_pods(*machine.enforced(machine_, options))
    assert (unified / "kubepods/memory.max").read_text() == str((8 << 30) - 1536 * MIB)
    assert (unified / "kubepods/pids.max").read_text() == "31768"
    assert (unified / "kubepods/cpu.weight").read_text() == str(resources.cpu_weight(1536))


def test_what_a_pod_and_the_machine_use_on_v2(unified: Path) -> None:
    pod = unified / f"kubepods/burstable/pod{UID}"
    (pod / "memory.current").write_text(f"{50 * MIB}\n")
    (pod / "memory.stat").write_text(f"anon {20 * MIB}\nfile {30 * MIB}\ninactive_file {10 * MIB}\n")
    (pod / "pids.current").write_text("7\n")
    (unified / "memory.stat").write_text(f"anon {100 * MIB}\nfile {80 * MIB}\ninactive_file {30 * MIB}\n")
    made = Cgroups(Hierarchies(unified, {}))
    assert made.usage(resources.BURSTABLE, UID) == (40 * MIB, 7)
    assert made.node_working_set() == 150 * MIB
    assert made.usage(resources.BURSTABLE, "gone") == (0, 0)
    (unified / "memory.stat").write_text("slab 5\n")
    assert made.node_working_set() is None


def test_what_a_pod_and_the_machine_use_on_v1(tmp_path: Path) -> None:
    memory, pids = tmp_path / "memory", tmp_path / "pids"
    for directory, file, text in (
        (memory / f"kubepods/pod{UID}", "memory.usage_in_bytes", str(50 * MIB)),
        (memory / f"kubepods/pod{UID}", "memory.stat", f"cache 1\ntotal_inactive_file {10 * MIB}\n"),
        (pids / f"kubepods/pod{UID}", "pids.current", "7"),
        (memory, "memory.usage_in_bytes", str(200 * MIB)),
        (memory, "memory.stat", f"total_inactive_file {50 * MIB}\n"),
    ):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / file).write_text(text)
    made = Cgroups(Hierarchies(None, {"memory": memory, "pids": pids}))
    assert not made.v2 and made.usage(resources.GUARANTEED, UID) == (40 * MIB, 7)
    assert made.node_working_set() == 150 * MIB


def test_what_all_pods_may_still_take(unified: Path, tmp_path: Path) -> None:
    pods = unified / "kubepods"
    (pods / "memory.current").write_text(f"{70 * MIB}\n")
    (pods / "memory.stat").write_text(f"inactive_file {10 * MIB}\n")
    (pods / "memory.max").write_text("max\n")
    options = KubeletOptions(node_name="n", node_ips=("10.0.0.1",), root_dir=tmp_path)
    made = Cgroups(Hierarchies(unified, {}))
    assert made.all_pods() == (60 * MIB, None)
    measure = Measure(None, made, options)  # type: ignore[arg-type] # the runtime is not asked
    assert thresholds.ALLOCATABLE_MEMORY not in measure._node(None)
    (pods / "memory.max").write_text(f"{100 * MIB}\n")
    assert measure._node(None)[thresholds.ALLOCATABLE_MEMORY] == (40 * MIB, 100 * MIB)

    memory = tmp_path / "memory"
    (memory / "kubepods").mkdir(parents=True)
    (memory / "kubepods/memory.usage_in_bytes").write_text(str(70 * MIB))
    (memory / "kubepods/memory.stat").write_text(f"total_inactive_file {10 * MIB}\n")
    (memory / "kubepods/memory.limit_in_bytes").write_text("9223372036854771712\n")
    old = Cgroups(Hierarchies(None, {"memory": memory}))
    assert old.all_pods() == (60 * MIB, None)
    (memory / "kubepods/memory.limit_in_bytes").write_text(str(100 * MIB))
    assert old.all_pods() == (60 * MIB, 100 * MIB)


def test_the_account_on_v2(unified: Path) -> None:
    pod = unified / f"kubepods/burstable/pod{UID}"
    for file, text in {
        "cpu.stat": "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 500000\n",
        "cpu.max": "20000 100000\n",
        "cpu.weight": f"{resources.cpu_weight(1024)}\n",
        "memory.current": f"{50 * MIB}\n",
        "memory.peak": f"{60 * MIB}\n",
        "memory.max": f"{64 * MIB}\n",
        "memory.stat": f"anon {20 * MIB}\nfile {30 * MIB}\nfile_mapped 5\ninactive_file {10 * MIB}\n",
        "memory.events": "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\n",
        "memory.swap.current": "4096\n",
        "pids.current": "7\n",
    }.items():
        (pod / file).write_text(text)
    made = Cgroups(Hierarchies(unified, {}))
    found = made.account(made.pod_name(resources.BURSTABLE, UID))
    assert (found.cpu, found.user, found.system) == (3 * 10**9, 2 * 10**9, 10**9)
    assert (found.periods, found.throttled_periods, found.throttled) == (10, 4, 5 * 10**8)
    assert (found.quota, found.period, found.threads, found.oom_kills) == (20000, 100000, 7, 1)
    assert abs(found.shares - 1024) <= 32, "a weight is coarser than shares"
    assert (found.memory, found.working_set, found.rss, found.cache, found.mapped) == (50 * MIB, 40 * MIB, 20 * MIB, 30 * MIB, 5)
    assert (found.most, found.limit, found.swap) == (60 * MIB, 64 * MIB, 4096)
    (pod / "cpu.max").write_text("max 100000\n")
    (pod / "memory.max").write_text("max\n")
    unlimited = made.account(made.pod_name(resources.BURSTABLE, UID))
    assert (unlimited.quota, unlimited.limit) == (None, None)
    (unified / "memory.stat").write_text(f"anon {100 * MIB}\nfile {80 * MIB}\ninactive_file {30 * MIB}\n")
    assert made.account("")[9:11] == (180 * MIB, 150 * MIB)


def test_swap_and_pressure_on_v2(unified: Path) -> None:
    pod = unified / f"kubepods/burstable/pod{UID}"
    made = Cgroups(Hierarchies(unified, {}))
    name = made.pod_name(resources.BURSTABLE, UID)
    assert made.swap(name) is None and made.pressure(name) == {}
    (pod / "memory.swap.current").write_text("4096\n")
    (pod / "memory.swap.max").write_text("max\n")
    assert made.swap(name) == (4096, None)
    (pod / "memory.swap.max").write_text("8192\n")
    assert made.swap(name) == (4096, 8192)
    (pod / "io.pressure").write_text(
        "some avg10=12.50 avg60=1.00 avg300=0.25 total=2000001\nfull avg10=2.00 avg60=0.50 avg300=0.00 total=70\n"
    )
    # before Linux 5.13 there is no second line for the CPU; where the accounts are off, no line at all
    (pod / "cpu.pressure").write_text("some avg10=1.00 avg60=0.00 avg300=0.00 total=5\n")
    (pod / "memory.pressure").write_text("")
    assert made.pressure(name) == {
        "cpu": ((0, 0.0, 0.0, 0.0), (5, 1.0, 0.0, 0.0)),
        "io": ((70, 2.0, 0.5, 0.0), (2000001, 12.5, 1.0, 0.25)),
    }


def test_swap_on_v1(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    (memory / f"kubepods/pod{UID}").mkdir(parents=True)
    made = Cgroups(Hierarchies(None, {"memory": memory}))
    name = made.pod_name(resources.GUARANTEED, UID)
    assert made.swap(name) is None
    (memory / f"kubepods/pod{UID}/memory.stat").write_text("swap 1\ntotal_swap 4096\n")
    assert made.swap(name) == (4096, None)
    (memory / f"kubepods/pod{UID}/cpu.pressure").write_text("some avg10=1.00 avg60=0.00 avg300=0.00 total=5\n")
    assert made.pressure(name) == {}


def test_whether_containers_can_be_kept_from_swap(unified: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/system.slice/minikube-py.service\n")
    assert not has_swap_limits(Hierarchies(unified, {}), str(own))
    service = unified / "system.slice/minikube-py.service"
    service.mkdir(parents=True)
    (service / "memory.swap.max").write_text("max\n")
    assert has_swap_limits(Hierarchies(unified, {}), str(own))
    assert not has_swap_limits(Hierarchies(None, {"memory": unified}), str(own))


def table(root: Path, *mounts: tuple[str, str]) -> str:
    """A mountinfo of cgroup mounts, by kind and options; each lies in a directory of its own."""
    path = root / "mountinfo"
    path.write_text(
        "".join(f"{n} 1 0:{n} / {root / options} rw - {kind} cgroup rw,{options}\n" for n, (kind, options) in enumerate(mounts))
    )
    return str(path)


def test_a_pod_is_removed_from_hierarchies_that_only_the_runtime_uses(tmp_path: Path) -> None:
    found = find(table(tmp_path, ("cgroup", "cpu"), ("cgroup", "net_prio"), ("cgroup", "memory"), ("cgroup2", "nsdelegate")))
    assert found.unified is None and list(found.directories) == [tmp_path / "cpu", tmp_path / "memory"]
    assert list(found.others) == [tmp_path / "net_prio", tmp_path / "nsdelegate"]
    left = [tmp_path / name / "n1/kubepods/besteffort/poduid" for name in ("cpu", "net_prio", "memory", "nsdelegate")]
    for directory in left:
        directory.mkdir(parents=True)
    Cgroups(found, "/n1").remove_pod("uid")
    assert not any(directory.exists() for directory in left)


def test_one_unified_hierarchy_is_all_there_is(tmp_path: Path) -> None:
    found = find(table(tmp_path, ("cgroup2", "nsdelegate")))
    assert list(found.directories) == [tmp_path / "nsdelegate"] and not found.others
