"""Takes a node's containerd away with everything that it made: pods, shims, mounts, cgroups, sockets.

The gentle way first, over CRI, so that networks are taken down by their plugins; then by id whatever is left, in the order that works:
containers, shims (ending a shim first would orphan its containers), mounts, cgroups, directories. Only what bears this containerd's
socket, state directory or cgroup is ever touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import logging
import os
import re
import select
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from minikube_py.cri import errors
from minikube_py.cri.client import CriClient
from minikube_py.cri.containerd import Containerd
from minikube_py.cri.process import Daemon, command_line
from minikube_py.cri.runtimeconfig import Layout

log = logging.getLogger(__name__)

_MNT_DETACH: Final = 2
_MS_PRIVATE: Final = 1 << 18
_AT_ONCE: Final = 8
_CRI_SECONDS: Final = 60.0
_END_SECONDS: Final = 10.0
_SHIM: Final = "containerd-shim"
_SHIM_SOCKETS: Final = Path("/run/containerd/s")


async def stop_all(containerd: Containerd, *, cgroup: str, directories: Sequence[Path] = ()) -> None:
    """End every pod and containerd itself; images and other data stay.

    `cgroup` is the parent of the pods' cgroups ("/kubepods"), never the root. `directories` are further places below which mounts of pods
    lie. Raises ValueError for a root cgroup, CriError with what is left when something resists.
    """
    if not cgroup.strip("/"):
        raise ValueError("the cgroup of the pods must be named: everything in it is ended")
    sandboxes = await _stop_sandboxes(containerd)
    await containerd.stop()
    layout = containerd.layout
    await asyncio.to_thread(_finish, layout, cgroup, (layout.state, layout.root, *directories), sandboxes)
    left = await asyncio.to_thread(remains, layout, cgroup, directories)
    if left:
        raise errors.CriError(f"could not be removed: {', '.join(left)}")


def remains(layout: Layout, cgroup: str, directories: Sequence[Path] = ()) -> list[str]:
    """What is still there of a containerd and its pods, as texts. Blocking."""
    found = [f"process {pid} ({' '.join(command_line(pid))[:80]})" for pid in (*_shims(layout), *_members(cgroup))]
    found += [f"mount {mount}" for mount in _mounts((layout.state, layout.root, *directories))]
    found += [f"cgroup {path}" for path in _cgroups(cgroup)]
    if layout.state.exists():
        found.append(f"directory {layout.state}")
    if (daemon := Daemon.find(layout.pid, str(layout.config))) is not None:
        found.append(f"process {daemon.pid} (containerd)")
        daemon.close()
    return found


async def remove_sandboxes(client: CriClient) -> list[str]:
    """Stop and remove every pod that a runtime has; their ids. One that resists is logged. Raises CriError, TimeoutError."""
    ids = [sandbox.id for sandbox in await client.list_pod_sandboxes()]
    limit = asyncio.Semaphore(_AT_ONCE)

    async def remove(sandbox_id: str) -> None:
        async with limit:
            try:
                await client.stop_pod_sandbox(sandbox_id)
                await client.remove_pod_sandbox(sandbox_id)
            except errors.CriError as error:
                log.warning("a sandbox is taken away by force", extra={"sandbox": sandbox_id, "error": str(error)})

    async with asyncio.timeout(_CRI_SECONDS), asyncio.TaskGroup() as group:
        for sandbox_id in ids:
            group.create_task(remove(sandbox_id), name=f"remove sandbox {sandbox_id}")
    return ids


async def _stop_sandboxes(containerd: Containerd) -> list[str]:
    """Stop and remove all sandboxes over CRI, starting containerd for it if need be; their ids."""
    if not containerd.layout.root.exists():
        return []
    try:
        await containerd.start()
        async with CriClient(containerd.socket) as client:
            return await remove_sandboxes(client)
    except (errors.CriError, TimeoutError) as error:
        log.warning("the pods are taken away by force", extra={"error": str(error)})
        return []


def _finish(layout: Layout, cgroup: str, directories: Sequence[Path], sandboxes: Sequence[str]) -> None:
    """What CRI left. Blocking."""
    bundles = layout.state / "io.containerd.runtime.v2.task" / "k8s.io"
    ids = {*sandboxes, *(path.name for path in bundles.glob("*"))}
    shims = list(_shims(layout))
    _end([*_members(cgroup), *(child for shim in shims for child in _children(shim))])
    _end(list(_shims(layout)))
    mounts = _mounts(directories)
    for mount in mounts:
        _make_private(mount)
    for mount in mounts:
        _unmount(mount)
    for path in _cgroups(cgroup):
        _remove_cgroup(path)
    for id in ids:
        digest = hashlib.sha256(f"{layout.socket}/k8s.io/{id}".encode()).hexdigest()
        (_SHIM_SOCKETS / digest).unlink(missing_ok=True)
    if not _mounts((layout.state,)):  # nothing is removed through a mount that resists
        shutil.rmtree(layout.state, ignore_errors=True)
    with contextlib.suppress(OSError):  # the others' directories are there too
        layout.state.parent.rmdir()


# Processes.


def _shims(layout: Layout) -> Iterator[int]:
    """The shims that serve this containerd: its socket is their -address."""
    for pid in _pids():
        arguments = command_line(pid)
        if arguments and _SHIM in arguments[0] and str(layout.socket) in arguments:
            yield pid


def _children(parent: int) -> Iterator[int]:
    for pid in _pids():
        with contextlib.suppress(OSError):
            if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == parent:
                yield pid


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _end(pids: Sequence[int]) -> None:
    """Kill processes and wait until they have ended."""
    descriptors = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptors.append(os.pidfd_open(pid))
    for descriptor in descriptors:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    for descriptor in descriptors:
        select.select([descriptor], [], [], _END_SECONDS)
        os.close(descriptor)


# Mounts.


def _mounts(directories: Sequence[Path]) -> list[Path]:
    """The mount points below some directories, the innermost first."""
    directories = [directory.resolve() for directory in directories]  # the table has no links
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        mount = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split(" ")[4]))
        if any(mount.is_relative_to(directory) for directory in directories):
            found.append(mount)
    return found[::-1]


def _make_private(path: Path) -> None:
    """A pod's mount of what the host shares is its peer: what is unmounted below it would be unmounted on the host too."""
    ctypes.CDLL(None, use_errno=True).mount(None, os.fsencode(path), None, _MS_PRIVATE, None)


def _unmount(path: Path) -> None:
    """Detach a mount, however busy it is. One that is gone already is fine; others show up in `remains`."""
    ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(path), _MNT_DETACH)


# Cgroups.


def _cgroups(cgroup: str) -> list[Path]:
    """The directories of a cgroup in every hierarchy that has it, each hierarchy once."""
    top = Path("/sys/fs/cgroup")
    hierarchies = [top] if (top / "cgroup.controllers").exists() else [path for path in top.glob("*") if not path.is_symlink()]
    return sorted(path for place in hierarchies if (path := place / cgroup.strip("/")).is_dir())


def _members(cgroup: str) -> Iterator[int]:
    for top in _cgroups(cgroup):
        for procs in top.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                yield from (int(pid) for pid in procs.read_text().split() if pid != "0")


def _remove_cgroup(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
