"""What mounts do to volumes and their removal, on the real kernel: no user's data is ever removed, no host's mount taken away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikube_py.kubelet.volumes import mounts, ownership, removal, subpath

pytestmark = pytest.mark.cluster

_SHARED = 1 << 20


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A file system of the host's, shared as systems with systemd have theirs, with a user's mount and file in it."""
    top = tmp_path / "host"
    top.mkdir()
    mounts.tmpfs(top)
    mounts.mount("", str(top), "", _SHARED)
    (top / "data" / "nas").mkdir(parents=True)
    mounts.tmpfs(top / "data" / "nas")
    (top / "data" / "nas" / "photo").write_text("irreplaceable")
    (top / "data" / "file").write_text("mine")
    yield top
    mounts.unmount_below(tmp_path)


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    directory = tmp_path / "kubelet" / "pods" / "uid"
    (directory / "volumes").mkdir(parents=True)
    return directory


@pytest.mark.parametrize("below", ["", "/a/b"])
def test_a_directory_is_not_removed_through_a_live_mount(host: Path, pod: Path, below: str) -> None:
    point = Path(f"{pod}/volumes/v{below}")
    point.mkdir(parents=True)
    (pod / "volumes" / "old").mkdir()
    (pod / "volumes" / "old" / "file").touch()
    mounts.bind(str(host / "data"), point)
    with pytest.raises(removal.StillMounted, match=str(point)):
        removal.remove_tree(pod)
    with pytest.raises(removal.StillMounted):
        removal.remove_tree(point)
    assert (host / "data" / "file").read_text() == "mine"
    mounts.unmount(point)
    removal.remove_tree(pod)
    assert not pod.exists() and (host / "data" / "file").read_text() == "mine"
    removal.remove_tree(pod)


def test_a_file_that_is_mounted_on_another_stays(host: Path, pod: Path) -> None:
    (pod / "etc-hosts").touch()
    mounts.bind(str(host / "data" / "file"), pod / "etc-hosts")
    with pytest.raises(removal.StillMounted):
        removal.remove_tree(pod)
    assert (host / "data" / "file").read_text() == "mine"


def test_a_bind_mount_of_the_same_file_system_is_a_mount_too(tmp_path: Path, pod: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_text("mine")
    mounts.bind(str(data), pod / "volumes")
    assert mounts.is_mount(pod / "volumes")
    with pytest.raises(removal.StillMounted):
        removal.remove_tree(pod)
    mounts.unmount_below(pod)
    removal.remove_tree(pod)
    assert (data / "file").read_text() == "mine"


def test_unmounting_a_pod_leaves_what_the_host_has_mounted_in_a_shared_volume(host: Path, pod: Path, tmp_path: Path) -> None:
    """Peers of a shared mount hear of every unmount below it."""
    recursive, late = pod / "volumes" / "r", pod / "volumes" / "späte daten"
    for point in (recursive, late):
        point.mkdir()
    mounts.mount(str(host / "data"), str(recursive), "", mounts.MS_BIND | mounts.MS_REC)
    mounts.bind(str(host / "data"), late)
    (host / "data" / "usb").mkdir()
    mounts.tmpfs(host / "data" / "usb")
    (host / "data" / "usb" / "letter").write_text("dear")
    assert (late / "usb" / "letter").read_text() == "dear", "the host's later mount is seen in the volume"
    (pod / "volumes" / "twice").mkdir()
    for _ in range(2):
        mounts.tmpfs(pod / "volumes" / "twice")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "kubelet")
    assert len(mounts.below(link / "pods" / "uid")) == 7
    mounts.unmount_below(link / "pods" / "uid")
    assert mounts.below(pod) == []
    assert (host / "data" / "nas" / "photo").read_text() == "irreplaceable"
    assert (host / "data" / "usb" / "letter").read_text() == "dear"
    removal.remove_tree(pod)


def test_a_tree_that_is_deeper_than_any_stack_is_removed(pod: Path) -> None:
    current = os.open(pod, os.O_RDONLY)
    for depth in range(3000):
        os.mkdir("d", dir_fd=current)
        os.symlink("/", f"l{depth}", dir_fd=current)
        following = os.open("d", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = following
    os.close(current)
    removal.remove_tree(pod)
    assert not pod.exists() and os.path.isdir("/etc")


def test_a_sub_path_leads_to_where_its_volume_leads_now(host: Path, pod: Path) -> None:
    """An updated volume has its files elsewhere; a container that starts again gets the new one."""
    volume, target = host / "volume", pod / "volume-subpaths" / "v" / "c" / "0"
    for name in ("one", "two"):
        (volume / name).mkdir(parents=True)
        (volume / name / "key").write_text(name)
    (volume / "..data").symlink_to("one")
    (volume / "key").symlink_to("..data/key")
    subpath.prepare(volume, "key", target)
    subpath.prepare(volume, "key", target)
    assert target.read_text() == "one" and len(mounts.below(target)) == 1
    (volume / "..data").unlink()
    (volume / "..data").symlink_to("two")
    subpath.prepare(volume, "key", target)
    assert target.read_text() == "two" and len(mounts.below(target)) == 1
    subpath.prepare(volume, "one", target)
    assert (target / "key").read_text() == "one", "a directory instead of a file"
    volume.chmod(0o2770)
    subpath.prepare(volume, "made/deep", pod / "volume-subpaths" / "v" / "c" / "1")
    assert (volume / "made" / "deep").stat().st_mode & 0o7777 == 0o2770
    with pytest.raises(FileNotFoundError):
        subpath.prepare(volume, "none", target, create=False)
    with pytest.raises(subpath.SubPathError, match="only directory subpath is supported"):
        subpath.prepare(volume, "one/key", target, create=False)
    mounts.unmount_below(pod)


def test_a_group_gets_a_tree_without_getting_what_links_lead_to(host: Path, tmp_path: Path) -> None:
    outside, volume = tmp_path / "outside", host / "volume"
    outside.write_text("root's")
    outside.chmod(0o600)
    (volume / "deep").mkdir(parents=True, mode=0o700)
    (volume / "deep" / "file").write_text("x")
    (volume / "deep" / "file").chmod(0o600)
    (volume / "link").symlink_to(outside)
    (volume / "directory").symlink_to("deep")
    os.mkfifo(volume / "fifo")
    ownership.apply(volume, 4242)
    assert outside.stat().st_gid == 0 and outside.stat().st_mode & 0o7777 == 0o600
    for name, mode in {"": 0o2775, "deep": 0o2770, "deep/file": 0o660}.items():
        found = (volume / name).stat()
        assert (found.st_gid, oct(found.st_mode & 0o7777)) == (4242, oct(mode)), name
    assert all((volume / name).lstat().st_gid == 4242 for name in ("link", "directory", "fifo"))
    (volume / "deep" / "file").chmod(0o600)
    ownership.apply(volume, 4242, "OnRootMismatch")
    assert (volume / "deep" / "file").stat().st_mode & 0o777 == 0o600, "the top looks right, so nothing is walked"
    ownership.apply(volume, 4243, "OnRootMismatch")
    assert (volume / "deep" / "file").stat().st_mode & 0o777 == 0o660
    (volume / "deep" / "file").chmod(0o400)
    ownership.apply(volume, 4243, read_only=True)
    assert (volume / "deep" / "file").stat().st_mode & 0o777 == 0o440


def test_where_a_directory_is_shown_is_found_whatever_leads_to_it(host: Path, pod: Path, tmp_path: Path) -> None:
    whole, part, link = pod / "volumes" / "whole", pod / "volumes" / "part", tmp_path / "link"
    for point in (whole, part):
        point.mkdir()
    link.symlink_to(host / "data")
    assert mounts.showing(host / "data") == []
    mounts.bind(str(host / "data"), whole)
    (host / "data" / "sub").mkdir()
    mounts.bind(str(host / "data" / "sub"), part)
    assert mounts.showing(host / "data") == mounts.showing(link) == [whole]
    assert mounts.showing(host / "data" / "nas") == []
    mounts.unmount_below(pod)
