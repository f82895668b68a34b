"""Faults that a server under load meets: a slow disk, a full one, a crowd of watchers, some that never read.

Nothing that was acknowledged is lost, and whoever has nothing to do with the fault notices nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.objects import config_map
from tests.support.load import Writers, repeating
from tests.support.server import Server, running

pytestmark = pytest.mark.cluster

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _unblocked_loop() -> None:
    """The loops here are crowds of clients: the server's own is measured, by the server."""


def resident(server: Server) -> int:
    """The server's memory in bytes."""
    assert server.process is not None
    line = next(text for text in Path(f"/proc/{server.process.pid}/status").read_text().splitlines() if text.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def processor(server: Server) -> float:
    """Seconds of processor time that the server has taken."""
    assert server.process is not None
    return sum(map(int, Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / 100


def until(what: str, look: Any, timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not look():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)


def reading(server: Server, path: str) -> Any:
    """Reads an object ten times a second."""
    return repeating(lambda: server.get(path), 0.1)


# The disk


def test_a_disk_on_which_every_fsync_takes_200_ms(tmp_path: Path) -> None:
    shim = tmp_path / "fsync.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, Path(__file__).parents[1] / "support" / "fsync.c", "-ldl"], check=True)
    server = Server(tmp_path)
    with running(server):  # what a first start writes is another matter
        server.stop()
        server.environment = {"LD_PRELOAD": str(shim), "FSYNC_MS": "200"}
        server.start()
        server.ready()
        began = time.monotonic()
        server.create(CONFIG_MAPS, config_map("lone"))
        assert time.monotonic() - began >= 0.2, "the disk is not slow"
        blocked = server.metric("minikube_py_event_loop_blocked_seconds_max")
        with reading(server, f"{CONFIG_MAPS}/lone") as probe, Writers(server, threads=32, rate=1000) as writers:
            began = time.monotonic()
            writers.go_on(150)
            took = time.monotonic() - began
        # one after the other they would take half a minute: they share their fsyncs
        assert took < 12, f"150 writes took {took:.1f} s"
        assert not writers.refused
        probe.sound()
        assert probe.longest < 1, f"a read took {probe.longest:.2f} s"
        assert server.metric("minikube_py_event_loop_blocked_seconds_max") <= max(blocked, 0.2), "the loop waited for the disk"
        server.stop(signal.SIGKILL)
        server.environment = {}
        server.start()
        server.ready()
        assert writers.verify() > 50


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", mount], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_disk_that_is_full_and_writable_again_three_times(small_disk: Path) -> None:
    server = Server(small_disk)
    with running(server):
        made = server.create(CONFIG_MAPS, config_map("read"))
        with reading(server, f"{CONFIG_MAPS}/read") as probe, Writers(server, threads=8, rate=20, size=20_000) as writers:
            for _ in range(3):
                filler = fill_up(small_disk)
                before = len(writers.refused)
                until("writes are refused", lambda before=before: len(writers.refused) > before + 10)
                filler.unlink()
                writers.go_on(10)
                writers.verify()
        probe.sound(3)
        for status, message in writers.refused:
            assert status in (500, 507) and "space" in message, (status, message)
        assert server.get(f"{CONFIG_MAPS}/read") == made
        server.stop(signal.SIGKILL)
        server.start()
        server.ready()
        writers.verify()


def fill_up(directory: Path) -> Path:
    """Take all the space that is left."""
    path = directory / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    return path


# Watchers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A control plane without a node."""
    with running(Server(tmp_path_factory.mktemp("server"))) as made:
        yield made


def tls(server: Server) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(server.directory / "admin.pem")
    return context


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def test_a_thousand_idle_watchers(server: Server) -> None:
    context, loop = tls(server), asyncio.get_running_loop()
    await asyncio.to_thread(server.request, "POST", CONFIG_MAPS, config_map("watched"))
    version = (await asyncio.to_thread(server.get, CONFIG_MAPS))["metadata"]["resourceVersion"]
    before, limit = resident(server), asyncio.Semaphore(20)
    watch = request(f"{CONFIG_MAPS}?watch=1&resourceVersion={version}")

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with limit:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, limit=1 << 14)
            writer.write(watch)
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            return reader, writer

    watchers = await asyncio.gather(*(connect() for _ in range(1000)))
    try:
        grown = (resident(server) - before) / 1000
        began, took = loop.time(), processor(server)
        await asyncio.sleep(2)
        idle = (processor(server) - took) / (loop.time() - began)
        await asyncio.to_thread(server.create, CONFIG_MAPS, config_map("told"))
        told = await asyncio.wait_for(asyncio.gather(*(reader.readuntil(b'"told"') for reader, _ in watchers)), 10)
        assert len(told) == 1000
        print(f"a watcher takes {grown / 1024:.0f} KiB; a thousand of them {idle * 100:.1f} % of a core")
        assert grown < 150 * 1024, f"a watcher takes {grown / 1024:.0f} KiB"
        assert idle < 0.2, f"a thousand idle watchers take {idle * 100:.0f} % of a core"
    finally:
        for _, writer in watchers:
            writer.transport.abort()
    await asyncio.to_thread(until, "the watchers are forgotten", lambda: descriptors(server) < 200)


def descriptors(server: Server) -> int:
    assert server.process is not None
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def test_a_watcher_that_never_reads_is_let_go(server: Server) -> None:
    """The one who reads hears of everything meanwhile, and the server keeps no more for the other than its bounds."""
    version = server.get(CONFIG_MAPS)["metadata"]["resourceVersion"]
    watch = request(f"{CONFIG_MAPS}?watch=1&resourceVersion={version}")
    context = tls(server)

    def connect(buffer: int) -> ssl.SSLSocket:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        plain.connect(("127.0.0.1", server.port))
        secured = context.wrap_socket(plain)
        secured.settimeout(20)
        secured.sendall(watch)
        return secured

    before, open_before, writes = resident(server), descriptors(server), 150
    deaf = [connect(4096) for _ in range(20)]
    with contextlib.ExitStack() as stack:
        for one in deaf:
            stack.enter_context(one)
        reader = stack.enter_context(connect(1 << 20))
        heard = stack.enter_context(ThreadPoolExecutor(1)).submit(events, reader, writes)
        probe = stack.enter_context(reading(server, "/api/v1/namespaces/default"))
        made = server.create(CONFIG_MAPS, config_map("grows", text="x" * 100_000))
        for number in range(1, writes):
            answer = server.request("PUT", f"{CONFIG_MAPS}/grows", {**made, "data": {**made["data"], "number": str(number)}})
            assert answer.status == 200
            made = answer.body
        assert heard.result(30) == writes
        probe.sound(1)
        peak = resident(server) - before
        assert peak < 60 * MIB, f"20 watchers that do not read hold {peak / MIB:.0f} MiB"
        until("those who do not read are let go", lambda: descriptors(server) <= open_before + 2)


def events(watcher: ssl.SSLSocket, count: int) -> int:
    """Read so many events; how many were there before the end."""
    found = 0
    while found < count and (data := watcher.recv(1 << 20)):
        found += data.count(b'{"type":')
    return found
