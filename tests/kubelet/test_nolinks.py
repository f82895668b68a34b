"""No symbolic link below the directory is ever followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minikube_py.kubelet import nolinks


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_there_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("inside")
    os.mkfifo(tmp_path / "pipe")
    before = descriptors()
    with open(nolinks.open_below(tmp_path, ["a", "b", "file"])) as file:
        assert file.read() == "inside"
    for parts in ([], ["a"], ["pipe"]):
        os.close(nolinks.open_below(tmp_path, parts))
    assert descriptors() == before


@pytest.mark.parametrize("parts", [["link"], ["linked", "file"], ["a", "link"], ["linked"], ["none"], ["file", "below"]])
def test_links_and_what_is_not_there_are_refused(tmp_path: Path, parts: list[str]) -> None:
    (tmp_path / "a").mkdir()
    for name in ("file", "a/file"):
        (tmp_path / name).write_text("inside")
    for link, target in (("link", "file"), ("linked", "a"), ("a/link", "../file")):
        (tmp_path / link).symlink_to(target)
    before = descriptors()
    with pytest.raises(OSError):
        nolinks.open_below(tmp_path, parts)
    assert descriptors() == before
