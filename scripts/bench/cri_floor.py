"""The floor under every pod start: containerd driven directly over CRI, with nothing of a kubelet around it.

    python scripts/bench/cri_floor.py [--socket PATH] [--count N]

Without a socket it starts a node of its own in a network namespace (root). `measure` is for other benchmarks, which compare with it in
one run.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from minikube_py.cri.client import CriClient  # noqa: E402
from tests.support.images import BUSYBOX  # noqa: E402
from tests.support.sandboxes import container_config, sandbox_config  # noqa: E402


@dataclass
class Floor:
    """Durations in seconds, one a pod."""

    sandbox: list[float] = field(default_factory=list)
    create: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    up: list[float] = field(default_factory=list)
    down: list[float] = field(default_factory=list)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share (0..1) of all lies."""
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1)))]


async def measure(client: CriClient, count: int, *, at_once: int = 1, image: str = BUSYBOX, cgroup: str = "") -> Floor:
    """Start and remove `count` pods of one container, `at_once` at a time; where that is all of them, none goes before all are up."""
    floor = Floor()
    turn = asyncio.Semaphore(at_once)
    all_up = asyncio.Barrier(count if at_once >= count else 1)

    async def one(number: int) -> None:
        async with turn:
            sandbox = sandbox_config(f"floor-{number}", cgroup)
            began = time.perf_counter()
            sandbox_id = await _timed(floor.sandbox, client.run_pod_sandbox(sandbox))
            container_id = await _timed(floor.create, client.create_container(sandbox_id, container_config("main", image=image), sandbox))
            await _timed(floor.start, client.start_container(container_id))
            floor.up.append(time.perf_counter() - began)
            await all_up.wait()
            began = time.perf_counter()
            await client.stop_container(container_id, 0)
            await client.stop_pod_sandbox(sandbox_id)
            await client.remove_pod_sandbox(sandbox_id)
            floor.down.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number), name=f"pod {number}")
    return floor


async def _timed(durations: list[float], call: Awaitable[str] | Awaitable[None]) -> str:
    began = time.perf_counter()
    result = await call
    durations.append(time.perf_counter() - began)
    return result or ""


def table(title: str, floor: Floor) -> None:
    """Print medians and 95th percentiles in milliseconds."""
    print(f"{title:<24}{'p50 ms':>8}{'p95 ms':>8}")
    for name in ("sandbox", "create", "start", "up", "down"):
        durations = getattr(floor, name)
        print(f"  {name:<22}{statistics.median(durations) * 1000:>8.0f}{percentile(durations, 0.95) * 1000:>8.0f}")


async def _run(client: CriClient, count: int, cgroup: str) -> None:
    version = await client.version()
    print(f"{version.runtime_name} {version.runtime_version}")
    await measure(client, 1, cgroup=cgroup)  # unpacks the image
    table(f"{count} pods in a row", await measure(client, count, cgroup=cgroup))
    began = time.perf_counter()
    floor = await measure(client, count, at_once=10, cgroup=cgroup)
    table(f"{count} pods, 10 at once", floor)
    print(f"  {count / (time.perf_counter() - began):.1f} pods a second, started and removed")


async def _main(socket: Path | None, count: int) -> None:
    if socket is not None:
        async with CriClient(socket) as client:
            await _run(client, count, "")
        return
    from tests.support.nodes import runtime_node

    async with runtime_node("floor") as node, node.client() as client:
        await _run(client, count, node.cgroup)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", type=Path, help="a containerd that runs already and has the test image")
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    asyncio.run(_main(options.socket, options.count))
