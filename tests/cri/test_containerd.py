"""The supervised containerd: started, adopted, restarted under running pods, missing, and taken away without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from minikube_py.aio import Health, Supervisor
from minikube_py.cri import errors, pause
from minikube_py.cri.client import CriClient
from minikube_py.cri.containerd import Containerd, ContainerdOptions
from minikube_py.cri.process import Daemon
from minikube_py.cri.teardown import remains, stop_all
from minikube_py.cri.v1 import api_pb2 as v1
from tests.support.nodes import RuntimeNode, runtime_node
from tests.support.sandboxes import container_config, run_container, sandbox_config
from tests.support.waiting import until

pytestmark = pytest.mark.cluster


@pytest.fixture
async def node() -> AsyncIterator[RuntimeNode]:
    async with runtime_node() as running:
        yield running


async def test_a_new_server_adopts_the_running_one(node: RuntimeNode) -> None:
    pid = node.containerd.pid
    node.containerd.release()
    again = Containerd(node.containerd.options)
    await again.start()
    assert again.adopted
    assert again.pid == pid
    again.release()


async def test_a_changed_configuration_restarts_it_and_pods_live_on(node: RuntimeNode) -> None:
    async with node.client() as client:
        _, container_id = await run_container(client, sandbox_config("pod", node.cgroup), container_config("main"))
        started = (await client.container_status(container_id)).started_at
        pid = node.containerd.pid
        node.containerd.release()
        with node.containerd.layout.config.open("a") as config:
            config.write("# of an older version\n")
        again = Containerd(node.containerd.options)
        await again.start()
        assert not again.adopted
        assert again.pid != pid
        status = await client.container_status(container_id)
        assert (status.state, status.started_at) == (v1.CONTAINER_RUNNING, started)
        again.release()


async def test_it_tells_whether_systemd_makes_its_cgroups(node: RuntimeNode) -> None:
    async with node.client() as client:
        assert not await client.systemd_cgroups()
        node.containerd.release()
        again = Containerd(msgspec.structs.replace(node.containerd.options, systemd_cgroup=True))
        await again.start()
        assert await client.systemd_cgroups()
        again.release()


async def test_killed_under_running_pods_it_comes_back_and_they_live_on(node: RuntimeNode) -> None:
    supervisor = Supervisor()
    health = supervisor.start("containerd", node.containerd.run)
    try:
        await asyncio.wait_for(health.ready.wait(), 10)
        async with node.client() as client:
            sandbox = sandbox_config("pod", node.cgroup)
            sandbox_id, container_id = await run_container(client, sandbox, container_config("main"))
            address = (await client.pod_sandbox_status(sandbox_id)).status.network.ip
            before = (await client.exec_sync(container_id, ["cat", "/proc/1/stat"], timeout=5)).stdout.split()[21]
            pid = node.containerd.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda: health.restarts == 1 and not health.problem)
            assert node.containerd.pid not in (None, pid)
            after = (await client.exec_sync(container_id, ["cat", "/proc/1/stat"], timeout=5)).stdout.split()[21]
            assert after == before, "the container was started anew"
            assert (await client.pod_sandbox_status(sandbox_id)).status.network.ip == address
            another = await client.create_container(sandbox_id, container_config("second"), sandbox)
            await client.start_container(another)
    finally:
        await supervisor.close()


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1, 0.2])
async def test_killed_while_it_starts_it_is_not_waited_for(node: RuntimeNode, after: float) -> None:
    await node.containerd.stop()
    starting = asyncio.create_task(node.containerd.start())
    await until(node.containerd.layout.socket.exists)
    await asyncio.sleep(after)
    daemon = Daemon(int(node.containerd.layout.pid.read_text()))
    async with asyncio.timeout(5):
        await daemon.terminate(0)
        daemon.close()
        with contextlib.suppress(errors.CriError):  # it had started just before
            await starting
        await node.containerd.start()
    async with node.client() as client:
        assert (await client.status()).status.conditions


async def test_one_whose_starter_was_killed_before_it_wrote_the_number_is_found(node: RuntimeNode) -> None:
    pid = node.containerd.pid
    node.containerd.release()
    for number in ("", "1\n"):
        node.containerd.layout.pid.write_text(number)
        again = Containerd(node.containerd.options)
        await again.start()
        assert (again.adopted, again.pid) == (True, pid)
        assert node.containerd.layout.pid.read_text() == f"{pid}\n"
        again.release()


async def test_one_that_is_stuck_is_replaced(node: RuntimeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minikube_py.cri.containerd._STOP_SECONDS", 1.0)
    pid = node.containerd.pid
    assert pid is not None
    node.containerd.release()
    os.kill(pid, signal.SIGSTOP)
    again = Containerd(node.containerd.options)
    await again.start()
    assert (again.adopted, again.pid == pid) == (False, False)
    again.release()


async def test_the_supervisors_end_is_not_containerds(node: RuntimeNode) -> None:
    supervisor = Supervisor()
    health = supervisor.start("containerd", node.containerd.run)
    await asyncio.wait_for(health.ready.wait(), 10)
    await supervisor.close()
    async with node.client() as client:
        assert (await client.version()).runtime_name == "containerd"


async def test_stop_all_leaves_nothing(node: RuntimeNode) -> None:
    layout, cgroup = node.containerd.layout, node.cgroup
    async with node.client() as client:
        for number in range(3):
            await run_container(client, sandbox_config(f"pod{number}", cgroup), container_config("main"))
        assert len(remains(layout, cgroup, (node.directory,))) > 6
    cables = node.run("ip", "link").count("veth")
    assert cables == 3
    await stop_all(node.containerd, cgroup=cgroup, directories=(node.directory,))
    assert remains(layout, cgroup, (node.directory,)) == []
    assert "veth" not in node.run("ip", "link")
    assert (layout.root / "io.containerd.content.v1.content").exists(), "images stay"


async def test_stop_all_ends_pods_whose_containerd_was_killed_and_cannot_start(node: RuntimeNode) -> None:
    layout, cgroup = node.containerd.layout, node.cgroup
    async with node.client() as client:
        await run_container(client, sandbox_config("pod", cgroup), container_config("main"))
    assert node.containerd.pid is not None
    os.kill(node.containerd.pid, signal.SIGKILL)
    await node.containerd.wait()
    node.containerd.release()
    broken = Containerd(msgspec.structs.replace(node.containerd.options, path="/nonexistent"))
    await stop_all(broken, cgroup=cgroup, directories=(node.directory,))
    assert remains(layout, cgroup, (node.directory,)) == []


async def test_stop_all_wants_the_pods_cgroup_named(node: RuntimeNode) -> None:
    for cgroup in ("", "/"):
        with pytest.raises(ValueError, match="cgroup"):
            await stop_all(node.containerd, cgroup=cgroup)


@pytest.mark.parametrize("missing", ["containerd", "containerd-shim-runc-v2", "runc"])
async def test_a_missing_program_says_what_to_install(tmp_path: Path, missing: str) -> None:
    for name in {"containerd", "containerd-shim-runc-v2", "runc"} - {missing}:
        found = shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin")
        assert found is not None
        (tmp_path / name).symlink_to(found)
    with pytest.raises(errors.RuntimeMissing, match=f"{missing} is not installed: apt-get install .*containerd"):
        await Containerd(ContainerdOptions(data_dir=tmp_path / "data", path=str(tmp_path))).start()


async def test_one_that_does_not_come_up_shows_its_last_words(tmp_path: Path) -> None:
    run_dir = Path(tempfile.mkdtemp(prefix="mkpy-"))
    containerd = Containerd(ContainerdOptions(data_dir=tmp_path, run_dir=run_dir, log_level="nonsense"))
    with pytest.raises(errors.RuntimeFailed, match=r"nonsense.*containerd\.log"):
        await containerd.start()
    shutil.rmtree(run_dir)


async def test_health_is_degraded_while_it_cannot_start(tmp_path: Path) -> None:
    supervisor = Supervisor()
    health: Health = supervisor.start("containerd", Containerd(ContainerdOptions(data_dir=tmp_path, path="/nonexistent")).run)
    await until(lambda: "apt-get install" in health.problem)
    await supervisor.close()


async def test_the_sandboxes_image_needs_no_registry_and_is_put_back(node: RuntimeNode) -> None:
    async with node.client() as client:
        await client.remove_image(pause.IMAGE)
        node.containerd.release()
        await node.containerd.start()
        assert await client.image_status(pause.IMAGE) is not None
        await run_container(client, sandbox_config("pod", node.cgroup), container_config("main"))


async def test_a_runtime_that_has_no_processor_for_a_moment_is_not_away(node: RuntimeNode) -> None:
    pid = node.containerd.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    async with node.client() as client:
        try:
            asked = asyncio.create_task(client.version(timeout=10))
            await asyncio.sleep(1)
            assert not asked.done(), "it is asked until it answers"
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (await asked).runtime_name == "containerd"


async def test_the_client_says_unavailable_where_nobody_listens(tmp_path: Path) -> None:
    async with CriClient(tmp_path / "absent.sock") as client:
        with pytest.raises(errors.Unavailable):
            await client.version()
