"""Sandboxes and containers on a real containerd: made, run, looked at, stopped, removed."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path

import pytest

from minikube_py.cri import errors
from minikube_py.cri.client import CriClient
from minikube_py.cri.v1 import api_pb2 as v1
from tests.support.images import WEB
from tests.support.nodes import RuntimeNode
from tests.support.sandboxes import container_config, run_container, sandbox_config

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]


async def test_runtime_and_network_are_ready(client: CriClient) -> None:
    version = await client.version()
    assert version.runtime_name == "containerd"
    conditions = {condition.type: condition.status for condition in (await client.status()).status.conditions}
    assert all(conditions.values()), conditions
    assert {"RuntimeReady", "NetworkReady"} <= set(conditions)


async def test_a_pod_serves_on_its_own_address_and_ends_without_a_trace(client: CriClient, node: RuntimeNode) -> None:
    sandbox, cables = sandbox_config("web", node.cgroup), node.run("ip", "link").count("veth")
    sandbox_id, container_id = await run_container(client, sandbox, container_config("web", (), WEB))
    address = (await client.pod_sandbox_status(sandbox_id)).status.network.ip
    assert address.startswith("10.214.")
    assert await _get(f"http://{address}:8080/") == "web\n"
    status = await client.container_status(container_id)
    assert status.state == v1.CONTAINER_RUNNING
    assert status.started_at > status.created_at > 0
    assert [item.id for item in await client.list_containers(v1.ContainerFilter(pod_sandbox_id=sandbox_id))] == [container_id]

    await client.stop_pod_sandbox(sandbox_id)
    assert (await client.container_status(container_id)).state == v1.CONTAINER_EXITED
    await client.remove_pod_sandbox(sandbox_id)
    await client.stop_pod_sandbox(sandbox_id)
    await client.remove_pod_sandbox(sandbox_id)
    with pytest.raises(errors.NotFound):
        await client.container_status(container_id)
    with pytest.raises(errors.NotFound):
        await client.pod_sandbox_status(sandbox_id)
    assert node.run("ip", "link").count("veth") == cables


async def test_a_host_port_leads_to_the_pod(client: CriClient, node: RuntimeNode) -> None:
    port = v1.PortMapping(protocol=v1.TCP, container_port=8080, host_port=18080)
    sandbox_id, _ = await run_container(client, sandbox_config("hostport", node.cgroup, ports=[port]), container_config("web", (), WEB))
    assert await _get(f"http://{node.ip}:18080/") == "hostport\n"
    assert "CNI-HOSTPORT" in node.run("iptables-legacy-save", "-t", "nat")
    await client.remove_pod_sandbox(sandbox_id)
    assert "18080" not in node.run("iptables-legacy-save", "-t", "nat")


async def test_output_exit_code_and_logs(client: CriClient, node: RuntimeNode, tmp_path: Path) -> None:
    sandbox = sandbox_config("job", node.cgroup, tmp_path)
    sandbox_id, container_id = await run_container(client, sandbox, container_config("job", ("sh", "-c", "echo out; echo err >&2; exit 7")))
    for _ in range(200):
        status = await client.container_status(container_id)
        if status.state == v1.CONTAINER_EXITED:
            break
        await asyncio.sleep(0.02)
    assert (status.state, status.exit_code, status.reason) == (v1.CONTAINER_EXITED, 7, "Error")
    lines = [line.split(" ", 1)[1] for line in (tmp_path / "job.log").read_text().splitlines()]
    assert sorted(lines) == ["stderr F err", "stdout F out"]
    await client.remove_pod_sandbox(sandbox_id)


async def test_exec_sync(client: CriClient, node: RuntimeNode) -> None:
    sandbox_id, container_id = await run_container(client, sandbox_config("exec", node.cgroup), container_config("main"))
    result = await client.exec_sync(container_id, ["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=10)
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 3)
    with pytest.raises(errors.DeadlineExceeded):
        await client.exec_sync(container_id, ["sleep", "60"], timeout=1)
    with pytest.raises(errors.CriError, match="no such file"):
        await client.exec_sync(container_id, ["/missing"], timeout=5)
    with pytest.raises(errors.NotFound):
        await client.exec_sync("0" * 64, ["true"], timeout=5)
    await client.remove_pod_sandbox(sandbox_id)


async def test_limits_reach_the_kernel_and_change_while_it_runs(client: CriClient, node: RuntimeNode) -> None:
    config = container_config("limited")
    config.linux.resources.memory_limit_in_bytes = 32 << 20
    sandbox_id, container_id = await run_container(client, sandbox_config("limited", node.cgroup), config)
    read = (
        ["cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        if Path("/sys/fs/cgroup/memory").exists()
        else ["cat", "/sys/fs/cgroup/memory.max"]
    )
    assert (await client.exec_sync(container_id, read, timeout=5)).stdout.strip() == str(32 << 20).encode()
    await client.update_container_resources(container_id, v1.LinuxContainerResources(memory_limit_in_bytes=48 << 20))
    assert (await client.exec_sync(container_id, read, timeout=5)).stdout.strip() == str(48 << 20).encode()
    stats = await client.container_stats(container_id)
    assert 0 < stats.memory.working_set_bytes.value < 48 << 20
    await client.remove_pod_sandbox(sandbox_id)


async def test_errors_say_what_was_wrong(client: CriClient, node: RuntimeNode) -> None:
    sandbox = sandbox_config("bad", node.cgroup)
    sandbox_id = await client.run_pod_sandbox(sandbox)
    with pytest.raises(errors.NotFound, match="not found"):
        await client.create_container(sandbox_id, container_config("main", image="docker.io/library/absent:1"), sandbox)
    with pytest.raises(errors.CriError, match="reserved"):
        await client.run_pod_sandbox(sandbox)
    container_id = await client.create_container(sandbox_id, container_config("main", ("/absent",)), sandbox)
    with pytest.raises(errors.CriError, match="no such file or directory"):
        await client.start_container(container_id)
    assert await client.image_status("docker.io/library/absent:1") is None
    await client.remove_pod_sandbox(sandbox_id)


async def _get(url: str) -> str:
    """An HTTP GET with a few tries: the server inside has just been started."""

    def get() -> str:
        with urllib.request.urlopen(url, timeout=5) as response:
            return str(response.read().decode())

    for _ in range(50):
        try:
            return await asyncio.to_thread(get)
        except OSError:
            await asyncio.sleep(0.05)
    return await asyncio.to_thread(get)
