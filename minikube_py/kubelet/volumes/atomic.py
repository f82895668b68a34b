"""Replaces the files of a volume all at once, as the kubelet's atomic writer does, so that a reader never sees half of an update.

The files lie in a directory `..<time>`; `..data` is a link to the current one, replaced by rename; every top-level name is a link through
`..data`. What an update that was cut short has left is removed by the next one. Blocking: called in a thread.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from minikube_py.kubelet.volumes import ownership
from minikube_py.kubelet.volumes.content import File
from minikube_py.kubelet.volumes.removal import remove_tree

DATA = "..data"
_LONGEST_PATH, _LONGEST_NAME = 4096, 255


def write(directory: Path, files: Mapping[str, File], group: int | None = None) -> bool:
    """Make the directory hold exactly these files; whether anything changed. `group` is the fsGroup, which may then read them.

    Raises ValueError for a path that is none of the volume's, OSError."""
    files = {_clean(path): file for path, file in files.items()}
    current = _current(directory)
    if current is not None and _same(directory / current, files):
        _link_names(directory, files)
        return False
    fresh = directory / f"..{time.strftime('%Y_%m_%d_%H_%M_%S', time.gmtime())}.{time.time_ns() % 10**9:09d}"
    fresh.mkdir(mode=0o755)
    fresh.chmod(0o755)
    for path, file in files.items():
        target = fresh / path
        _make_directories(fresh, target.parent)
        _write(target, file)
    if group is not None:
        ownership.apply(fresh, group, read_only=True)
    temporary = directory / "..data_tmp"
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(fresh.name)
    temporary.rename(directory / DATA)
    _link_names(directory, files)
    for entry in os.scandir(directory):
        if entry.name.startswith("..") and entry.name not in (DATA, fresh.name) and entry.is_dir(follow_symlinks=False):
            remove_tree(directory / entry.name)
    return True


def _clean(path: str) -> str:
    """The path in its shortest form. Raises ValueError with upstream's words."""
    if not path:
        raise ValueError('invalid path: must not be empty: ""')
    if path.startswith("/"):
        raise ValueError(f"invalid path: must be relative path: {path}")
    if len(path) > _LONGEST_PATH:
        raise ValueError(f"invalid path: must be less than or equal to {_LONGEST_PATH} characters")
    parts = path.split("/")
    if ".." in parts:
        raise ValueError(f"invalid path: must not contain '..': {path}")
    if any(len(part) > _LONGEST_NAME for part in parts):
        raise ValueError(f"invalid path: filenames must be less than or equal to {_LONGEST_NAME} characters")
    if parts[0].startswith(".."):
        raise ValueError(f"invalid path: must not start with '..': {path}")
    return os.path.normpath(path)


def _make_directories(top: Path, directory: Path) -> None:
    """Directories between the volume and a file, open to everyone whatever this process's umask says."""
    missing = []
    while directory != top and not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for path in reversed(missing):
        path.mkdir()
        path.chmod(0o755)


def _write(target: Path, file: File) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as out:
            out.write(file.data)
        if file.uid is not None:
            os.fchown(descriptor, file.uid, -1)
        os.fchmod(descriptor, file.mode)
    finally:
        os.close(descriptor)


def _current(directory: Path) -> str | None:
    try:
        return os.readlink(directory / DATA)
    except FileNotFoundError:
        return None


def _same(current: Path, files: Mapping[str, File]) -> bool:
    found = {str(Path(parent, name).relative_to(current)) for parent, _, names in os.walk(current) for name in names}
    return found == set(files) and all((current / path).read_bytes() == file.data for path, file in files.items())


def _link_names(directory: Path, files: Mapping[str, File]) -> None:
    names = {Path(path).parts[0] for path in files}
    for name in names:
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA}/{name}")
    for entry in directory.iterdir():
        if not entry.name.startswith("..") and entry.name not in names and entry.is_symlink():
            entry.unlink()
