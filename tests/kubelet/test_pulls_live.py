"""Images from a real registry that wants a password: pull secrets, policies, back-off, and who may use what another pod has pulled."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest

from minikube_py.types.core import Secret
from minikube_py.types.pod import Pod
from tests.kubelet.agent import Agent, agent, status
from tests.support import cgroups
from tests.support.images import write_archives
from tests.support.registry import PORT, Registry, use

pytestmark = pytest.mark.cluster

SLEEP = {"command": ["sleep", "1000"]}
USERS = "user:$2b$04$/Fm7K2K/3v.jRsi3T9zdwuDLe4FxIKy5s7E7E.9eMXkPFmMfpphX.\n"
"""The password is `secret`."""


def waits(*reasons: str) -> object:
    def condition(pod: Pod) -> bool:
        waiting = status(pod).state.waiting if pod.status.containerStatuses else None
        return waiting is not None and waiting.reason in reasons

    return condition


async def pull_secret(node: Agent, name: str, registry: str, password: str) -> None:
    auth = base64.b64encode(f"user:{password}".encode()).decode()
    data = {".dockerconfigjson": base64.b64encode(json.dumps({"auths": {registry: {"auth": auth}}}).encode()).decode()}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/dockerconfigjson", "data": data}
    await node.client.create(Secret, body, "default")


async def test_a_registry_with_a_password_opens_to_those_who_have_it(tmp_path: Path) -> None:
    async with agent(tmp_path) as node:
        directory = tmp_path / "registry"
        directory.mkdir()
        registry = Registry(directory=directory, namespace=node.node.namespace, ip=node.node.ip, users=USERS)
        host = f"{node.node.ip}:{PORT}"
        image = f"{host}/library/busybox:test"
        await asyncio.to_thread(registry.serve, write_archives(tmp_path / "archives"))
        try:
            use(registry.url, node.node.containerd.layout.registries)
            await pull_secret(node, "good", host, "secret")
            await pull_secret(node, "wrong", host, "guess")
            await node.create("closed", {**SLEEP, "image": image}, imagePullSecrets=[{"name": "wrong"}])
            closed = await node.wait("closed", waits("ErrImagePull"))
            assert "rpc error: code = " in status(closed).state.waiting.message and image in status(closed).state.waiting.message
            await node.create("open", {**SLEEP, "image": image}, imagePullSecrets=[{"name": "wrong"}, {"name": "good"}])
            await node.running("open")
            said = dict(await node.events("open"))
            assert said["Pulling"] == f'Pulling image "{image}"'
            assert (
                said["Pulled"].startswith(f'Successfully pulled image "{image}" in ')
                and " including waiting). Image size: " in said["Pulled"]
            )
            closed = await node.wait("closed", waits("ImagePullBackOff"))
            assert status(closed).state.waiting.message.startswith(f'Back-off pulling image "{image}": ErrImagePull: rpc error: ')
            events = await node.events("closed")
            assert ("BackOff", f'Back-off pulling image "{image}"') in events and ("Failed", "Error: ImagePullBackOff") in events

            # it is here now, and still only for those who have the password: also for an agent that has just started
            await node.restart()
            await node.create("never", {**SLEEP, "image": image, "imagePullPolicy": "Never"})
            never = await node.wait("never", waits("ErrImageNeverPull"))
            assert status(never).state.waiting.message == f'Container image "{image}" is not present with pull policy of Never'
            await node.create("stranger", {**SLEEP, "image": image, "imagePullPolicy": "IfNotPresent"})
            await node.wait("stranger", waits("ErrImagePull", "ImagePullBackOff"))
            await asyncio.to_thread(registry.stop)
            holder = {**SLEEP, "image": image, "imagePullPolicy": "IfNotPresent"}
            await node.create("holder", holder, imagePullSecrets=[{"name": "good"}])
            await node.running("holder")
            said = dict(await node.events("holder"))
            assert said["Pulled"] == f'Container image "{image}" already present on machine and can be accessed by the pod'

            await node.create("wrong-name", {**SLEEP, "image": "Not:A:Name"})
            await node.wait("wrong-name", waits("InvalidImageName"))
        finally:
            await asyncio.to_thread(registry.stop)


async def test_a_pod_that_forks_or_eats_memory_harms_nobody_else(tmp_path: Path) -> None:
    from minikube_py.nodesettings import NodeSettings
    from minikube_py.types.core import RuntimeClass

    async with agent(tmp_path, settings=NodeSettings(eviction=(), pod_max_pids=40)) as node:
        await node.create("neighbour", SLEEP)
        forks = "i=0; while [ $i -lt 200 ]; do sleep 1000 & i=$((i+1)); done; sleep 1000"
        await node.create("forks", {"command": ["sh", "-c", forks]})
        eats = {"command": ["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"], "resources": {"limits": {"memory": "32Mi"}}}
        await node.create("eats", eats, restartPolicy="Never")
        eaten = await node.wait("eats", lambda pod: pod.status.phase == "Failed")
        ended = status(eaten).state.terminated
        assert ended is not None and (ended.reason, ended.exitCode) == ("OOMKilled", 137)
        neighbour = await node.running("neighbour")
        assert await node.exec(neighbour, "echo", "well") == "well\n"
        forking = await node.pod("forks")
        most = cgroups.directory(f"{node.node.cgroup}/kubepods/besteffort/pod{forking.metadata.uid}", "pids")
        assert (most / "pids.max").read_text() == "40\n" and int((most / "pids.current").read_text()) <= 40

        # a class whose handler the runtime has, and one whose handler it has not
        for name, handler in (("plain", "runc"), ("odd", "no-such-runtime")):
            body = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": handler}
            await node.client.create(RuntimeClass, body)
            await node.create(name, SLEEP, runtimeClassName=name)
        await node.running("plain")
        said: list[tuple[str, str]] = []
        while not any(r == "FailedCreatePodSandBox" for r, _ in said):
            said = await node.events("odd")
            await asyncio.sleep(0.05)
        assert 'no runtime for "no-such-runtime" is configured' in dict(said)["FailedCreatePodSandBox"]
