"""containerd's configuration as a function: what each release is told, and what the machine's limits change."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from minikube_py.cri.containerd import ContainerdOptions
from minikube_py.cri.host import HostFacts, Programs
from minikube_py.cri.runtimeconfig import render, uses_systemd

LAYOUT = ContainerdOptions(data_dir=Path('/data/with "quotes"'), run_dir=Path("/run/one")).layout()


def config(version: tuple[int, int], *, restricted: bool = False, overlayfs: bool = True, apparmor: bool = True) -> dict[str, Any]:
    programs = Programs(Path("/usr/bin/containerd"), Path("/usr/sbin/runc"), Path("/usr/lib/cni"), version)
    facts = HostFacts(cgroup_v2=True, apparmor=apparmor, restrict_oom_score_adj=restricted, overlayfs=overlayfs)
    return tomllib.loads(render(LAYOUT, programs, facts, "pause:1", systemd_cgroup=False))


@pytest.mark.parametrize("version", [(1, 6), (1, 7)])
def test_the_first_generation_has_one_cri_plugin(version: tuple[int, int]) -> None:
    made = config(version)
    assert made["version"] == 2
    cri = made["plugins"]["io.containerd.grpc.v1.cri"]
    assert (cri["sandbox_image"], cri["containerd"]["snapshotter"], cri["cni"]["bin_dir"]) == ("pause:1", "overlayfs", "/usr/lib/cni")
    assert (cri["restrict_oom_score_adj"], cri["disable_apparmor"]) == (False, False)


@pytest.mark.parametrize(("version", "cni"), [((2, 0), {"bin_dir": "/usr/lib/cni"}), ((2, 1), {"bin_dirs": ["/usr/lib/cni"]})])
def test_the_second_generation_has_two(version: tuple[int, int], cni: dict[str, Any]) -> None:
    made = config(version)
    assert made["version"] == 3
    assert made["plugins"]["io.containerd.cri.v1.images"]["pinned_images"] == {"sandbox": "pause:1"}
    assert made["plugins"]["io.containerd.cri.v1.runtime"]["cni"] == {**cni, "conf_dir": str(LAYOUT.cni_conf)}


@pytest.mark.parametrize("version", [(1, 6), (2, 1)])
def test_a_poor_machine_gets_what_it_can_do(version: tuple[int, int]) -> None:
    made = config(version, restricted=True, overlayfs=False, apparmor=False)["plugins"]
    runtime = made.get("io.containerd.cri.v1.runtime") or made["io.containerd.grpc.v1.cri"]
    assert (runtime["restrict_oom_score_adj"], runtime["disable_apparmor"]) == (True, True)
    assert (made.get("io.containerd.cri.v1.images") or runtime["containerd"])["snapshotter"] == "native"


def test_two_nodes_share_no_place() -> None:
    one, two = (ContainerdOptions(data_dir=Path(name)).layout() for name in ("/one", "/two"))
    assert not {str(value) for value in _places(one)} & {str(value) for value in _places(two)}


def _places(layout: Any) -> list[Path]:
    return [getattr(layout, name) for name in layout.__struct_fields__]


@pytest.mark.parametrize("systemd", [True, False])
def test_a_containerd_before_2_tells_whether_systemd_makes_its_cgroups(systemd: bool) -> None:
    handlers = {
        "runc": {"options": {"SystemdCgroup": systemd}},
        "other": {"options": {"SystemdCgroup": not systemd}},
        "bare": {"options": None},
    }
    assert uses_systemd(json.dumps({"containerd": {"defaultRuntimeName": "runc", "runtimes": handlers}})) is systemd
    assert not uses_systemd(json.dumps({"containerd": {"defaultRuntimeName": "bare", "runtimes": handlers}}))
    assert not uses_systemd("") and not uses_systemd("{}") and not uses_systemd("[]")
