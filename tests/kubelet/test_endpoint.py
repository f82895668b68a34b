"""The kubelet's HTTPS endpoint as the API server uses it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from minikube_py import pki
from tests.kubelet.agent import Agent, status
from tests.support.api import unverified
from tests.support.waiting import until

pytestmark = pytest.mark.cluster

LINES = "for i in 1 2 3; do echo line $i; done; echo oops >&2; exec sleep 1000"


def _context(node: Agent) -> ssl.SSLContext:
    context = node.api.keys.client_context(pki.KUBELET_CLIENT)
    context.check_hostname = False
    return context


async def _get(node: Agent, path: str, **more: object) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session:
        url = f"https://127.0.0.1:{node.options.port}{path}"
        async with session.get(url, **{"ssl": _context(node), **more}) as answer:
            return answer.status, await answer.text()


async def test_logs(node: Agent) -> None:
    await node.create("web", {"command": ["sh", "-c", LINES]})
    await node.running("web")
    path = "/containerLogs/default/web/main"
    for _ in range(100):
        if (await _get(node, path))[1].count("\n") == 4:
            break
        await asyncio.sleep(0.02)
    code, text = await _get(node, path)
    assert (code, sorted(text.splitlines())) == (200, ["line 1", "line 2", "line 3", "oops"])
    assert len((await _get(node, path + "?tailLines=2"))[1].splitlines()) == 2
    assert (await _get(node, path + "?limitBytes=6"))[1] == text[:6]
    assert (await _get(node, path + "?sinceTime=2100-01-01T00:00:00Z"))[1] == ""
    stamped = (await _get(node, path + "?timestamps=true&tailLines=1"))[1]
    assert stamped[:2] == "20" and "Z " in stamped
    assert await _get(node, path + "?previous=true") == (400, 'previous terminated container "main" in pod "web" not found')
    assert (await _get(node, "/containerLogs/default/none/main"))[0] == 404
    assert (await _get(node, "/containerLogs/default/web/none"))[0] == 404


async def test_following_ends_with_the_container(node: Agent) -> None:
    script = "echo one; while ! test -f /tmp/go; do sleep 0.05; done; echo two"
    await node.create("job", {"command": ["sh", "-c", script]}, restartPolicy="Never")
    pod = await node.wait("job", lambda p: p.status.containerStatuses and p.status.containerStatuses[0].state.running)
    async with aiohttp.ClientSession() as session:
        url = f"https://127.0.0.1:{node.options.port}/containerLogs/default/job/main?follow=true"
        async with session.get(url, ssl=_context(node)) as answer:
            assert await asyncio.wait_for(answer.content.readline(), 5) == b"one\n"
            await node.exec(pod, "touch", "/tmp/go")
            assert await asyncio.wait_for(answer.content.readline(), 5) == b"two\n"
            assert await asyncio.wait_for(answer.content.read(), 5) == b""


async def test_logs_of_the_container_before(node: Agent) -> None:
    await node.create("bad", {"command": ["sh", "-c", "echo run; test -f /nowhere"]})
    await node.wait("bad", lambda p: p.status.containerStatuses and status(p).restartCount == 1 and status(p).state.waiting)
    assert await _get(node, "/containerLogs/default/bad/main?previous=true") == (200, "run\n")


async def test_a_container_that_waits_has_no_log(node: Agent) -> None:
    await node.create("none", {"command": ["true"], "image": "example.invalid/none:1", "imagePullPolicy": "Never"})
    await node.wait("none", lambda p: p.status.containerStatuses and status(p).state.waiting.reason == "ErrImageNeverPull")
    code, text = await _get(node, "/containerLogs/default/none/main")
    assert (code, text) == (400, 'container "main" in pod "none" is waiting to start: ErrImageNeverPull')


async def test_exec_over_a_websocket(node: Agent) -> None:
    await node.create("web", {"command": ["sleep", "1000"]})
    await node.running("web")
    query = "command=sh&command=-c&command=echo+out;echo+err+>%262;exit+3&output=1&error=1"
    url = f"https://127.0.0.1:{node.options.port}/exec/default/web/main?{query}"
    seen: dict[int, bytes] = {}
    async with aiohttp.ClientSession() as session, session.ws_connect(url, ssl=_context(node), protocols=("v4.channel.k8s.io",)) as ws:
        async for message in ws:
            seen[message.data[0]] = seen.get(message.data[0], b"") + message.data[1:]
    assert seen[1] == b"out\n" and seen[2] == b"err\n"
    assert b'"ExitCode"' in seen[3] and b'"3"' in seen[3]


async def test_an_spdy_upgrade_reaches_the_runtime(node: Agent) -> None:
    await node.create("web", {"command": ["sleep", "1000"]})
    await node.running("web")
    reader, writer = await asyncio.open_connection("127.0.0.1", node.options.port, ssl=_context(node))
    writer.write(
        b"POST /attach/default/web/main?output=1 HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 101 ") and b"SPDY/3.1" in head
    # A PING frame of SPDY: the runtime answers it as it came.
    ping = bytes.fromhex("800300060000000400000001")
    writer.write(ping)
    assert await asyncio.wait_for(reader.readexactly(12), 5) == ping
    writer.close()


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", bytes.fromhex("8003000100000010") + b"not a stream's headers", b""])
async def test_an_spdy_client_that_makes_no_sense_starts_nothing(node: Agent, said: bytes) -> None:
    await node.create("web", {"command": ["sleep", "1000"]})
    await node.running("web")
    reader, writer = await asyncio.open_connection("127.0.0.1", node.options.port, ssl=_context(node))
    writer.write(
        b"POST /exec/default/web/main?command=sleep&command=77&output=1 HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\n"
        b"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
    )
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 101 ")
    writer.write(said)
    if said:
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await asyncio.sleep(0.2)
    assert "sleep 77" not in await node.exec(await node.pod("web"), "ps")
    assert (await _get(node, "/healthz"))[0] == 200


async def test_only_the_api_server_gets_in(node: Agent) -> None:
    assert (await _get(node, "/healthz"))[1] == "ok"
    assert (await _get(node, "/pods"))[0] == 200
    assert (await _get(node, "/healthz", ssl=unverified())) == (401, "Unauthorized")
    assert (await _get(node, "/healthz", ssl=unverified(), headers={"Authorization": "Bearer wrong"}))[0] == 401
    good = {"Authorization": f"Bearer {node.api.token}"}
    assert (await _get(node, "/healthz", ssl=unverified(), headers=good)) == (200, "ok")


async def test_what_the_node_and_its_pods_use(node: Agent) -> None:
    await node.create("busy", {"command": ["sh", "-c", "while :; do :; done"]}, volumes=[{"name": "scratch", "emptyDir": {}}])
    pod = await node.running("busy")
    before = time.time()

    async def seconds() -> float:
        code, text = await _get(node, "/metrics/resource")
        assert code == 200 and "\nresource_scrape_error 0\n" in text
        labels = '{container="main",namespace="default",pod="busy"}'
        values = {line.split()[0]: line.split()[1:] for line in text.splitlines() if not line.startswith("#")}
        assert abs(float(values[f"container_start_time_seconds{labels}"][0]) - before) < 60
        assert float(values[f"container_memory_working_set_bytes{labels}"][0]) > 0 < float(values["node_cpu_usage_seconds_total"][0])
        spent, when = values[f"container_cpu_usage_seconds_total{labels}"]
        assert abs(float(when) / 1000 - time.time()) < 60
        return float(spent)

    first = await seconds()
    await until(lambda: _more(seconds, first + 0.3))
    await _get(node, "/stats/summary")
    await asyncio.sleep(1.2)
    summary = json.loads((await _get(node, "/stats/summary"))[1])
    (shown,) = (p for p in summary["pods"] if p["podRef"]["name"] == "busy")
    assert shown["podRef"] == {"name": "busy", "namespace": "default", "uid": pod.metadata.uid}
    assert shown["volume"][0]["name"] == "scratch" and shown["process_stats"]["process_count"] >= 1
    assert [c["name"] for c in shown["containers"]] == ["main"]
    whole = summary["node"]
    assert 0 < shown["containers"][0]["cpu"]["usageNanoCores"] <= 1.5e9
    assert 0 < shown["cpu"]["usageNanoCores"] <= 1.5e9 and whole["cpu"]["usageNanoCores"] > 0
    assert 0 < shown["memory"]["workingSetBytes"] < whole["memory"]["workingSetBytes"]
    assert whole["nodeName"] == node.options.node_name and 0 < whole["fs"]["availableBytes"] < whole["fs"]["capacityBytes"]
    listed = json.loads((await _get(node, "/runningpods/"))[1])["items"]
    assert ("NodeAllocatableEnforced", "Updated Node Allocatable limit across pods") in await node.events(node.options.node_name)
    assert [c["name"] for p in listed if p["metadata"]["name"] == "busy" for c in p["spec"]["containers"]] == ["main"]


async def _more(read: Callable[[], Awaitable[float]], than: float) -> bool:
    return await read() > than


async def test_the_node_s_logs(node: Agent) -> None:
    logs = node.options.system_log_dir
    (logs / "pods").mkdir(parents=True)
    (logs / "daemon.log").write_text("it began\n")
    (logs / "out").symlink_to("/etc/hostname")
    code, text = await _get(node, "/logs/")
    assert code == 200 and '<a href="daemon.log">daemon.log</a>' in text and '<a href="pods/">pods/</a>' in text
    assert await _get(node, "/logs/daemon.log") == (200, "it began\n")
    assert (await _get(node, "/logs", allow_redirects=False))[0] == 301
    for path in ("out", "..%2f..%2fetc%2fhostname", "%2fetc%2fhostname", "none"):
        assert (await _get(node, f"/logs/{path}"))[0] == 404


async def test_what_the_agent_has_done(node: Agent) -> None:
    async def says(path: str, *lines: str) -> bool:
        code, text = await _get(node, path)
        return code == 200 and {*lines} <= {*text.splitlines()}

    assert await says("/metrics", f'kubelet_node_name{{node="{node.options.node_name}"}} 1', "kubelet_started_pods_total 0")
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    await node.create("web", {"command": ["sleep", "1000"], "readinessProbe": probe})
    pod = await node.running("web")
    await node.create("bad", {"command": ["sh", "-c", "exit 139"]}, restartPolicy="Never")
    await node.wait("bad", lambda p: p.status.phase == "Failed")
    await node.create("large", {"command": ["true"], "resources": {"requests": {"cpu": "1000000"}}})
    await node.wait("large", lambda p: p.status.reason == "OutOfcpu")
    expected = (
        "kubelet_started_pods_total 2",
        "kubelet_started_pods_errors_total 0",
        'kubelet_started_containers_total{container_type="container"} 2',
        'kubelet_terminated_containers_total{container_type="container",exit_code="139",reason="Error"} 1',
        'kubelet_admission_rejections_total{reason="OutOfcpu"} 1',
        'kubelet_run_podsandbox_duration_seconds_count{runtime_handler=""} 2',
        'kubelet_running_containers{container_state="running"} 1',
        'kubelet_active_pods{static=""} 1',
    )
    await until(lambda: says("/metrics", *expected))
    whom = f'container="main",namespace="default",pod="web",pod_uid="{pod.metadata.uid}",probe_type="Readiness",result="successful"'
    await until(lambda: says("/metrics/probes", f"prober_probe_total{{{whom}}} 2"))
