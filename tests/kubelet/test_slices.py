"""The names of pods' slices, and what systemd is asked for; tests/guest has a real one make them."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikube_py.kubelet import resources, slices
from minikube_py.kubelet.cgroups import Hierarchies
from minikube_py.kubelet.resources import PodLimits
from minikube_py.kubelet.slices import Slices

UID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What systemd was asked for; it has made the directory of every slice."""
    calls: list[tuple[str, ...]] = []

    def call(method: str, signature: str, *arguments: str) -> None:
        calls.append((method, *arguments))
        if method == "StartTransientUnit":
            made = tmp_path / _path(arguments[0])
            made.mkdir(parents=True)
            for directory in (made, *made.parents):
                (directory / "cgroup.controllers").write_text("cpu memory hugetlb")
                (directory / "cgroup.subtree_control").write_text("cpu memory")
                if directory == tmp_path:
                    break
            (made / "hugetlb.2MB.max").write_text("max")

    monkeypatch.setattr(slices, "_call", call)
    return calls


def _path(unit: str) -> str:
    parts = unit.removesuffix(".slice").split("-")
    return "/".join(f"{'-'.join(parts[: n + 1])}.slice" for n in range(len(parts)))


@pytest.mark.parametrize("qos", [resources.GUARANTEED, resources.BURSTABLE, resources.BEST_EFFORT])
def test_a_slice_lies_where_systemd_puts_one_of_its_name(qos: str, tmp_path: Path) -> None:
    made = Slices(Hierarchies(tmp_path, {}))
    name = made.pod_name(qos, UID)
    unit = name.rpartition("/")[2]
    assert name == "/" + _path(unit) and unit.count("-") == (1 if qos == resources.GUARANTEED else 2)
    assert made.uid(unit) == UID
    assert made.uid("kubepods-burstable.slice") is None and made.uid("cpu.max") is None and made.uid("system.slice") is None


def test_limits_are_properties(tmp_path: Path, asked: list[tuple[str, ...]]) -> None:
    made = Slices(Hierarchies(tmp_path, {}), "", 100)
    name = made.ensure_pod(resources.BURSTABLE, UID, PodLimits(1024, 50_000, 64 << 20))
    unit = name.rpartition("/")[2]
    assert [call[:3] for call in asked] == [("StartTransientUnit", unit, "replace")]
    text = " ".join(asked[0])
    assert "CPUWeight t 39 CPUQuotaPeriodUSec t 100000 CPUQuotaPerSecUSec t 500000 MemoryMax t 67108864 TasksMax t 100 0" in text
    assert made.pods() == {UID}
    # of huge pages systemd knows nothing: the controller is passed on to the pod, and limits nobody but the pod
    pod = tmp_path / name.strip("/")
    passed = [(directory / "cgroup.subtree_control").read_text() for directory in (tmp_path, *list(pod.parents)[:2], pod)]
    assert passed == ["+hugetlb", "+hugetlb", "+hugetlb", "cpu memory"] and (pod / "hugetlb.2MB.max").read_text() == "0"
    made.set_memory(name, 32 << 20)
    assert asked[-1] == ("SetUnitProperties", unit, "true", "1", "MemoryMax", "t", str(32 << 20))
    made.set_pids(name, 50)
    assert asked[-1] == ("SetUnitProperties", unit, "true", "1", "TasksMax", "t", "50")
    assert made.container_name(resources.BURSTABLE, UID, "abc") == f"{name}/cri-containerd-abc.scope"
    # the same pod once more, after a restart
    made.ensure_pod(resources.BURSTABLE, UID, PodLimits(2, None, None))
    assert asked[-1] == ("SetUnitProperties", unit, "true", "2", "CPUWeight", "t", "1", "TasksMax", "t", "100")
