"""Reads the files that env[].valueFrom.fileKeyRef names out of a pod's emptyDirs. Blocks: called in a thread.

What is in the volume is the pod's own doing, so no link is ever followed, neither in the path nor at its end.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from minikube_py.kubelet import nolinks
from minikube_py.types.pod import Container

_LIMIT = 1024 * 1024


def wanted(container: Container) -> frozenset[tuple[str, str]]:
    """The (volume, path) of the files that a container's environment comes from."""
    refs = (variable.valueFrom.fileKeyRef for variable in container.env if variable.valueFrom is not None)
    return frozenset((ref.volumeName, ref.path) for ref in refs if ref is not None)


def read(container: Container, volumes: Mapping[str, str]) -> dict[tuple[str, str], str | None]:
    """Their texts, by volume (whose host paths are given) and path; None for one that cannot be read."""
    return {(volume, path): _text(volumes.get(volume, ""), path) for volume, path in wanted(container)}


def _text(root: str, path: str) -> str | None:
    try:
        file = nolinks.open_below(root, [part for part in path.split("/") if part not in ("", ".")])
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return None  # a pipe has nothing to read as long as nobody writes
            with open(file, "rb", closefd=False) as opened:
                return opened.read(_LIMIT).decode("utf-8", "surrogateescape")
        finally:
            os.close(file)
    except OSError:
        return None
