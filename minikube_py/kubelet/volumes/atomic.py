"""Replaces the files of a volume all at once, as the kubelet's atomic writer does, so that a reader never sees half of an update.

The files lie in a directory `..<time>`; `..data` is a link to the current one, replaced by rename; every top-level name is a link through
`..data`. Blocking: called in a thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from minikube_py.kubelet.volumes.content import File

DATA = "..data"


def write(directory: Path, files: Mapping[str, File], group: int | None = None) -> bool:
    """Make the directory hold exactly these files; whether anything changed. `group` is the fsGroup, which may then read them."""
    current = _current(directory)
    if current is not None and _same(current, files):
        _link_names(directory, files)
        return False
    fresh = directory / f"..{time.strftime('%Y_%m_%d_%H_%M_%S', time.gmtime())}.{time.time_ns() % 10**9:09d}"
    fresh.mkdir(mode=0o755)
    fresh.chmod(0o755)
    for path, file in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        _write(target, file, group)
    if group is not None:
        for parent, _, _ in os.walk(fresh):
            os.chown(parent, -1, group)
            os.chmod(parent, 0o2775)
    temporary = directory / "..data_tmp"
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(fresh.name)
    temporary.rename(directory / DATA)
    _link_names(directory, files)
    if current is not None:
        shutil.rmtree(current, ignore_errors=True)
    return True


def _write(target: Path, file: File, group: int | None) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as out:
            out.write(file.data)
        if file.uid is not None or group is not None:
            os.fchown(descriptor, -1 if file.uid is None else file.uid, -1 if group is None else group)
        os.fchmod(descriptor, file.mode | (0o440 if group is not None else 0))
    finally:
        os.close(descriptor)


def _current(directory: Path) -> Path | None:
    try:
        return directory / os.readlink(directory / DATA)
    except FileNotFoundError:
        return None


def _same(current: Path, files: Mapping[str, File]) -> bool:
    found = {str(Path(parent, name).relative_to(current)) for parent, _, names in os.walk(current) for name in names}
    if found != {os.path.normpath(path) for path in files}:
        return False
    return all((current / path).read_bytes() == file.data for path, file in files.items())


def _link_names(directory: Path, files: Mapping[str, File]) -> None:
    names = {Path(path).parts[0] for path in files}
    for name in names:
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA}/{name}")
    for entry in directory.iterdir():
        if not entry.name.startswith("..") and entry.name not in names and entry.is_symlink():
            entry.unlink()
