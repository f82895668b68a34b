#!/usr/bin/env python3
"""Durable puts of 5.6 KB: the embedded log beside Debian's etcd, in one run, on one disk; and what the cache costs in memory.

    scripts/bench/store.py [--seconds 3] [--rounds 3] [--directory /var/tmp]

Both are asked for the same: every put is on disk before it is acknowledged. etcd is driven over its own gRPC by client processes of its
own (as many as gain something), the log from the process that it lives in: that is how each is used by an API server. The first line is
what the disk itself gives: one write of that size and one fdatasync, again and again. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

SIZE = 5600
WRITERS = (1, 10, 100)


class Result(NamedTuple):
    """Puts a second, and how long one took (ms)."""

    rate: float
    median: float
    p99: float


def summary(times: list[float], seconds: float) -> Result:
    times.sort()
    return Result(len(times) / seconds, times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000)


async def hammer(put: Callable[[str, bytes], Awaitable[object]], writers: int, seconds: float, prefix: str) -> list[float]:
    """Put new keys from so many tasks; the time that each took."""
    value = os.urandom(SIZE // 2).hex().encode()
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def write(number: int) -> None:
        count = 0
        while (before := time.perf_counter()) < end:
            await put(f"/registry/{prefix}/{number}/{count}", value)
            times.append(time.perf_counter() - before)
            count += 1

    await asyncio.gather(*(write(number) for number in range(writers)))
    return times


def disk(directory: Path, seconds: float) -> Result:
    """A write and an fdatasync at a time."""
    path = directory / "probe"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    data, times = os.urandom(SIZE), []
    os.pwrite(descriptor, b"\0" * (SIZE * 4000), 0)
    os.fsync(descriptor)
    end = time.perf_counter() + seconds
    while (before := time.perf_counter()) < end:
        os.pwrite(descriptor, data, len(times) % 4000 * SIZE)
        os.fdatasync(descriptor)
        times.append(time.perf_counter() - before)
    os.close(descriptor)
    path.unlink()
    return summary(times, seconds)


def ours(directory: Path, writers: int, seconds: float) -> Result:
    """The embedded log, in a new directory."""
    import uvloop

    from minikube_py.store.api import Write
    from minikube_py.store.sqlite import open_sqlite

    async def run() -> Result:
        store = await open_sqlite(directory / "log")
        times = await hammer(lambda key, value: store.commit(Write(key, 0, value, "bench")), writers, seconds, "ours")
        await store.close()
        return summary(times, seconds)

    result = uvloop.run(run())
    shutil.rmtree(directory / "log")
    return result


def varint(number: int) -> bytes:
    """A protobuf varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def etcd_client(port: int, writers: int, seconds: float, prefix: str) -> list[float]:
    """One client process: etcdserverpb.KV/Put, whose request is two fields: key = 1, value = 2."""
    import grpc
    import grpc.aio

    def encode(request: tuple[bytes, bytes]) -> bytes:
        key, value = request
        return b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(value)) + value

    async def run() -> list[float]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            put = channel.unary_unary("/etcdserverpb.KV/Put", request_serializer=encode, response_deserializer=bytes)
            return await hammer(lambda key, value: put((key.encode(), value)), writers, seconds, prefix)

    return asyncio.run(run())


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def etcd(directory: Path, writers: int, seconds: float, processes: int) -> Result:
    """A new etcd with its default durability."""
    client, peer = free_port(), free_port()
    command = ["etcd", "--data-dir", str(directory / "etcd"), "--log-level", "error"]
    command += ["--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls", f"http://127.0.0.1:{client}"]
    command += ["--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"]
    command += ["--initial-cluster", f"default=http://127.0.0.1:{peer}"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(("127.0.0.1", client), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise
                time.sleep(0.05)
        time.sleep(0.5)
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            jobs = [(client, writers // processes or 1, seconds, f"etcd{number}") for number in range(processes)]
            times = [t for part in pool.starmap(etcd_client, jobs, chunksize=1) for t in part]
        return summary(times, seconds)
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(directory / "etcd", ignore_errors=True)


def memory(objects: int) -> tuple[float, float]:
    """Bytes of one cached pod, and what the cache takes beside them."""
    import gc

    from minikube_py.apiserver.cache import Bounds, ResourceCache
    from minikube_py.resources.api import Columns, Resource, Strategy
    from minikube_py.store.api import Record
    from minikube_py.types.meta import ResourceRef

    pods = Resource(ResourceRef("", "v1", "pods", "Pod"), Strategy(), "pod", Columns((), lambda obj, now: ()))
    pad = "x" * 1800

    def records() -> list[Record]:
        found = []
        for number in range(objects):
            name = f"web-{number:08d}"
            value = f'{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","uid":"{number}","labels":{{"app":"web"}}}},'
            value += f'"spec":{{"nodeName":"node-{number % 50}","pad":"{pad}"}}}}'
            found.append(Record(pods.key("default", name), number + 1, number + 1, 0, False, value.encode()))
        return found

    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    loaded = [ResourceCache(pods, records(), objects, Bounds())]
    values = sum(len(entry.value) for entry in loaded[0].entries())
    for entry in loaded[0].entries():
        assert entry.labels
    return values / objects, (resident() - before - values) / objects


def print_row(name: str, results: list[Result], against: float = 0.0) -> float:
    rate, median, p99 = (statistics.median(column) for column in zip(*results, strict=True))
    ratio = f"{rate / against:10.1f}x" if against else ""
    print(f"{name:34}{rate:10,.0f}{median:10.2f}{p99:10.2f}{ratio}", flush=True)
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", default="/var/tmp", help="on the disk that is to be measured")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bench-store-", dir=options.directory))
    try:
        print(f"{'puts of 5.6 KB':34}{'puts/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'to etcd':>11}")
        print_row("write + fdatasync", [disk(directory, options.seconds) for _ in range(options.rounds)])
        for writers in WRITERS:
            mine: list[Result] = []
            peers: dict[int, list[Result]] = {processes: [] for processes in (1, 2) if processes <= writers}
            for _ in range(options.rounds):
                mine.append(ours(directory, writers, options.seconds))
                for processes, results in peers.items():
                    if shutil.which("etcd"):
                        results.append(etcd(directory, writers, options.seconds, processes))
            best = 0.0
            for processes, results in peers.items():
                if results:
                    best = max(best, print_row(f"etcd, {writers} writers, {processes} client processes", results))
            print_row(f"minikube_py, {writers} writers", mine, best)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        size, overhead = pool.apply(memory, (20_000,))
    print(f"\ncache: {overhead:,.0f} bytes an object beside its own {size:,.0f}")


if __name__ == "__main__":
    main()
