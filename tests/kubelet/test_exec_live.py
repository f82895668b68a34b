"""exec as clients see it at the node's endpoint: nothing of its input and output is lost, and every command has an end that is told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from minikube_py.cri.client import CriClient
from minikube_py.cri.v1 import api_pb2 as v1
from minikube_py.kubelet import nativecommand, spdycommand
from minikube_py.kubelet.nativecommand import Commands
from minikube_py.kubelet.remotecommand import Streams
from tests.kubelet.agent import Agent, status
from tests.kubelet.remote import RESIZE, STDERR, V4, V4_BASE64, remote, run
from tests.support.netns import entered

pytestmark = pytest.mark.cluster

EVERYTHING = Streams(stdin=False, stdout=True, stderr=True, tty=False)


@pytest.fixture
async def web(node: Agent) -> Agent:
    """The node with a pod `web` that sleeps."""
    await node.create("web", {"command": ["sleep", "1000"], "env": [{"name": "TERM", "value": "dumb"}, {"name": "Z", "value": "z"}]})
    await node.running("web")
    return node


async def shell(node: Agent, script: str) -> str:
    return await node.exec(await node.pod("web"), "sh", "-c", script)


async def gone(node: Agent, timeout: float = 10.0) -> None:
    """Wait until nothing is left of any command."""
    directory, deadline = node.options.root_dir / "commands", time.monotonic() + timeout
    while left := list(directory.iterdir()):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.02)


def _descriptors() -> int:
    return sum(1 for link in Path("/proc/self/fd").iterdir() if _fifo(link))


def _fifo(link: Path) -> bool:
    try:
        return "/commands/" in os.readlink(link)
    except OSError:
        return False


@pytest.mark.parametrize("script", ["cat > /tmp/f", "exec cat > /tmp/f", "cat > /tmp/f; exit 0", "exec >&- 2>&-; cat > /tmp/f"])
async def test_a_command_that_closes_its_output_gets_all_of_its_input(web: Agent, script: str) -> None:
    data = os.urandom(8_000_000)
    _, told = await run(web, "web", "sh", "-c", script, stdin=data)
    assert told["status"] == "Success"
    assert (await shell(web, "sha256sum < /tmp/f")).split()[0] == hashlib.sha256(data).hexdigest()


async def test_a_command_that_ends_before_its_input_ends_at_once(web: Agent) -> None:
    start = time.monotonic()
    command, told = await run(web, "web", "head", "-c", "10", stdin=b"0123456789" * 2_000_000)
    assert (command.out, told["status"]) == (b"0123456789", "Success")
    _, told = await run(web, "web", "sh", "-c", "exit 4", stdin=b"x" * 20_000_000)
    assert told["details"]["causes"] == [{"reason": "ExitCode", "message": "4"}]
    assert time.monotonic() - start < 5
    await gone(web)


async def test_both_outputs_arrive_whole_and_input_is_half_closed(web: Agent) -> None:
    script = "cat > /tmp/in; head -c 6000000 /tmp/in & tail -c 6000000 /tmp/in >&2; wait; exit 9"
    data = os.urandom(12_000_000)
    command, told = await run(web, "web", "sh", "-c", script, stdin=data)
    assert command.out == data[:6_000_000] and command.seen[STDERR] == data[6_000_000:]
    assert told["details"]["causes"] == [{"reason": "ExitCode", "message": "9"}]


async def test_a_command_may_be_as_long_as_an_argument_of_linux(web: Agent) -> None:
    long = "x" * 100_000
    command, told = await run(web, "web", "echo", long)
    assert (command.out, told["status"]) == (long.encode() + b"\n", "Success")


async def test_a_command_is_taken_as_it_is_written(web: Agent) -> None:
    words = ("50%25", "a%20b", "a+b&command=c;d", "%", "ä")
    command, told = await run(web, "web", "echo", *words)
    assert (command.out.decode(), told["status"]) == (" ".join(words) + "\n", "Success")


async def test_a_client_that_reads_late_misses_nothing(web: Agent) -> None:
    async with remote(web, "web", "sh", "-c", "seq 3000000; echo done >&2", output=True, error=True) as command:
        await asyncio.sleep(1)
        assert (await command.ended())["status"] == "Success"
        wanted = (await shell(web, "seq 3000000 | sha256sum")).split()[0]
        assert hashlib.sha256(command.out).hexdigest() == wanted and command.seen[STDERR] == b"done\n"


async def test_output_of_what_a_command_leaves_behind_is_waited_for(web: Agent) -> None:
    command, told = await run(web, "web", "sh", "-c", "(sleep 1; echo late) & echo early; exit 3")
    assert (command.out, told["reason"]) == (b"early\nlate\n", "NonZeroExitCode")


async def test_older_protocols(web: Agent) -> None:
    async with remote(web, "web", "head", "-n", "1", protocol=V4, input=True, output=True) as command:
        await command.send(b"line\nmore\n")
        assert (await command.ended(), command.out) == ({"metadata": {}, "status": "Success"}, b"line\n")
    async with remote(web, "web", "sh", "-c", "head -n 1; exit 2", protocol=V4_BASE64, input=True, output=True) as command:
        await command.socket.send_str("0" + base64.b64encode(b"line\nmore\n").decode())
        seen: dict[str, bytes] = {}
        async for message in command.socket:
            seen[message.data[0]] = seen.get(message.data[0], b"") + base64.b64decode(message.data[1:])
        assert seen["1"] == b"line\n" and json.loads(seen["3"])["reason"] == "NonZeroExitCode"


async def test_a_terminal(web: Agent) -> None:
    async with remote(web, "web", "sh", input=True, output=True, tty=True) as command:
        await command.send(b'{"Width":91,"Height":17}', RESIZE)
        await command.shows(b"# ")
        await command.send(b"stty size; tty; echo $TERM$Z\n")
        await command.shows(b"xtermz\r\n")
        assert b"17 91\r\n/dev/pts/" in command.out
        await command.send(b'{"Width":80,"Height":24}', RESIZE)
        await command.send(b"not json", RESIZE)
        await command.send(b"stty size; exit 6\n")
        assert (await command.ended())["details"]["causes"] == [{"reason": "ExitCode", "message": "6"}]
        assert b"24 80\r\n" in command.out
    await gone(web)


async def _by_the_runtimes_server(node: Agent, *command: str, tty: bool) -> tuple[bytes, bytes, dict[str, Any]]:
    """The same command through containerd's own server."""
    id = status(await node.pod("web")).containerID.removeprefix("containerd://")
    streams = EVERYTHING._replace(stderr=not tty, tty=tty)

    async def connect(factory: Any, host: str, port: int) -> None:
        with entered(node.node.namespace):
            await asyncio.get_running_loop().create_connection(factory, host, port)

    url = await node.cri.exec(v1.ExecRequest(container_id=id, cmd=command, **streams._asdict()))
    runtime, seen = await spdycommand.connect(url, streams, connect), {1: b"", 2: b"", 3: b""}
    try:
        async for channel, data in runtime.output():
            seen[channel] += data
    finally:
        runtime.close()
    return seen[1], seen[2], json.loads(re.sub(rb"[0-9a-f]{64}", b"ID", seen[3]))


@pytest.mark.parametrize("tty", [False, True])
async def test_what_is_told_is_what_the_runtimes_server_tells(web: Agent, tty: bool) -> None:
    facts = "id; pwd; env; ulimit -a; umask; grep -E 'Cap|Priv|Sec|SigIgn|SigBlk|Groups' /proc/self/status; cat /proc/self/oom_score_adj"
    for words in (
        ("true",),
        ("sh", "-c", "echo out; echo err >&2; exit 3"),
        ("sh", "-c", "kill -9 $$"),
        ("sh", "-c", "exit 127"),
        ("nope",),
        ("/none/at/all",),
        ("/etc/passwd",),
        ("/tmp",),
        ("",),
        ("sh", "-c", facts),
    ):
        command, told = await run(web, "web", *words, tty=tty)
        ours = (command.out, command.seen.get(STDERR, b""), json.loads(re.sub(r"[0-9a-f]{64}", "ID", json.dumps(told))))
        assert ours == await _by_the_runtimes_server(web, *words, tty=tty)
    await gone(web)


async def test_a_client_that_goes_leaves_the_command_running_until_it_ends(web: Agent) -> None:
    async with remote(
        web, "web", "sh", "-c", "cat; touch /tmp/ended; while ! test -f /tmp/go; do sleep 0.05; done", input=True, output=True
    ) as one:
        await one.send(b"hello")
        await one.shows(b"hello")
    async with remote(web, "web", "sh", "-c", "echo $$ > /tmp/pid; while true; do echo loud; done", output=True) as other:
        await other.shows(b"loud")
    await shell(web, "while ! test -f /tmp/ended; do sleep 0.05; done")  # the end of the connection was the end of its input
    await asyncio.sleep(0.3)
    assert _descriptors() == 0
    assert len(list((web.options.root_dir / "commands").iterdir())) == 2
    # who still writes for a client that has gone is held up, as by CRI's server
    await shell(web, "touch /tmp/go; kill -9 $(cat /tmp/pid)")
    await gone(web)


async def test_a_restart_of_the_agent_ends_the_stream_and_not_the_command(web: Agent) -> None:
    script = "cat; while ! test -f /tmp/go; do sleep 0.05; done; touch /tmp/ended"
    async with remote(web, "web", "sh", "-c", script, input=True, output=True) as command:
        await command.send(b"hello")
        await command.shows(b"hello")
        start = time.monotonic()
        stopping = asyncio.create_task(web.stop())
        told = await command.ended(timeout=5)
        assert told["status"] == "Failure" and "the command may still be running" in told["message"]
        await stopping
        assert time.monotonic() - start < 5
    web._start()
    await web.running("web")
    assert status(await web.pod("web")).restartCount == 0
    await shell(web, "test ! -f /tmp/ended; touch /tmp/go")
    await gone(web)
    await shell(web, "test -f /tmp/ended")


async def test_a_restart_of_the_runtime_is_not_noticed(web: Agent) -> None:
    async with remote(web, "web", "sh", "-c", "cat; exit 8", input=True, output=True) as command:
        await command.send(b"before ")
        await command.shows(b"before ")
        await web.node.containerd.stop()
        await command.send(b"between ")
        await command.shows(b"between ")
        await web.node.containerd.start()
        await command.send(b"after")
        await command.end()
        assert (await command.ended())["details"]["causes"] == [{"reason": "ExitCode", "message": "8"}]
        assert command.out == b"before between after"
    await gone(web)


async def test_a_runtime_that_stays_away_is_a_failure(web: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nativecommand, "_AWAY", 1.0)
    async with remote(web, "web", "cat", input=True, output=True) as command:
        await command.send(b"x")
        await command.shows(b"x")
        await web.node.containerd.stop()
        told = await command.ended(timeout=10)
    assert (told["status"], told["reason"]) == ("Failure", "InternalError")
    await web.node.containerd.start()


async def test_a_container_that_ends_ends_its_commands(web: Agent) -> None:
    async with remote(web, "web", "sh", "-c", "echo on; sleep 1000", output=True) as command:
        await command.shows(b"on\n")
        await web.delete("web", grace=0)
        assert (await command.ended())["details"]["causes"] == [{"reason": "ExitCode", "message": "137"}]
    await web.gone("web")
    await gone(web)


async def test_many_commands_at_once(web: Agent) -> None:
    data = [os.urandom(200_000) for _ in range(12)]
    done = await asyncio.gather(*(run(web, "web", "cat", stdin=piece) for piece in data))
    assert [command.out for command, _ in done] == data
    assert all(told["status"] == "Success" for _, told in done)
    await gone(web)
    assert _descriptors() == 0


async def test_a_runtime_without_native_tasks_is_asked_by_cri(web: Agent, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = grpc.aio.server()
        server.add_insecure_port(f"unix:{tmp_path}/socket")  # serves nothing: every call is UNIMPLEMENTED
        await server.start()
        stack.push_async_callback(server.stop, 0)
        other = CriClient(tmp_path / "socket")
        stack.push_async_callback(other.close)
        assert await Commands(other, tmp_path).prepare("id", ["true"], EVERYTHING) is None
    assert await Commands(web.cri, tmp_path).prepare("none", ["true"], EVERYTHING) is None
