"""Rotates container logs that have grown over their limit: the file is renamed, the runtime opens a new one, older ones are compressed.

Names as upstream's: 0.log, 0.log.<time>, 0.log.<time>.gz; at most the configured number of files a container, the current one included.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import shutil
import time
from pathlib import Path

from minikube_py.aio import Health
from minikube_py.cri import errors
from minikube_py.kubelet.pods import Pods
from minikube_py.kubelet.tools import Tools

log = logging.getLogger(__name__)

_EVERY = 10.0


class LogRotation:
    """Looks at the logs of the running containers now and then."""

    def __init__(self, tools: Tools, pods: Pods) -> None:
        self._tools, self._pods = tools, pods

    async def run(self, health: Health) -> None:
        """Rotate what is due, until cancelled."""
        health.well()
        while True:
            await asyncio.sleep(_EVERY)
            await self.rotate_due()

    async def rotate_due(self) -> None:
        """One look at all running containers."""
        limit = self._tools.options.container_log_max_size
        logs = {Path(c.log_path): c.id for w in self._pods.workers.values() for c in w.state.containers if c.running and c.log_path}
        for path in await asyncio.to_thread(_over, tuple(logs), limit):
            try:
                await self._rotate(path, logs[path])
            except (OSError, errors.CriError) as error:
                log.warning("log not rotated", extra={"path": str(path), "error": str(error)})

    async def _rotate(self, path: Path, container_id: str) -> None:
        rotated = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
        await asyncio.to_thread(_make_room, path, self._tools.options.container_log_max_files)
        path.rename(rotated)
        try:
            await self._tools.cri.reopen_container_log(container_id)
        except errors.CriError:
            rotated.rename(path)
            raise


def _over(paths: tuple[Path, ...], limit: int) -> list[Path]:
    found = []
    for path in paths:
        try:
            if os.stat(path).st_size > limit:
                found.append(path)
        except FileNotFoundError:
            continue
    return found


def _make_room(path: Path, most: int) -> None:
    """Compress what was rotated before, and remove the oldest so that one more fits."""
    rotated = sorted(p for p in path.parent.glob(f"{path.name}.*") if not p.name.endswith(".tmp"))
    for old in rotated[: max(0, len(rotated) - (most - 2))]:
        old.unlink(missing_ok=True)
    for old in rotated:
        if old.exists() and not old.name.endswith(".gz"):
            temporary = old.with_name(old.name + ".tmp")
            with open(old, "rb") as source, gzip.open(temporary, "wb") as target:
                shutil.copyfileobj(source, target)
            temporary.rename(old.with_name(old.name + ".gz"))
            old.unlink()
