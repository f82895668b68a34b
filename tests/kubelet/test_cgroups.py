"""What is written to cgroup v2, and read from both versions: on a tree of plain files, since a machine has one version or the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikube_py.kubelet import machine, resources
from minikube_py.kubelet.cgroups import Cgroups, Hierarchies, find
from minikube_py.kubelet.options import KubeletOptions
from minikube_py.kubelet.resources import PodLimits
from minikube_py.nodesettings import NodeSettings

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


def test_all_pods_together_are_limited_to_what_is_not_reserved(unified: Path, tmp_path: Path) -> None:
    settings = NodeSettings(
        kube_reserved=(("cpu", "500m"), ("memory", "1Gi")), system_reserved=(("memory", "512Mi"), ("ephemeral-storage", "1Gi"))
    )
    options = KubeletOptions(node_name="n", node_ips=("10.0.0.1",), settings=settings)
    machine_ = machine.facts(tmp_path)._replace(cpus=2, memory=8 << 30, disk=100 << 30)
    assert machine.enforced(machine_, options) == (1500, (8 << 30) - 1536 * MIB)
    allocatable = machine.allocatable(machine_, options)
    assert (allocatable["cpu"], allocatable["memory"]) == ("1500m", f"{(8 << 20) - 1636 * 1024}Ki")
    assert int(allocatable["ephemeral-storage"]) == (89 << 30)
    Cgroups(Hierarchies(unified, {})).limit_pods(*machine.enforced(machine_, options))
    assert (unified / "kubepods/memory.max").read_text() == str((8 << 30) - 1536 * MIB)
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
