"""A kubelet on a real containerd node, against a real API server, all in the test's process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minikube_py import pki
from minikube_py.aio import Supervisor, SystemClock
from minikube_py.apiserver.api import Attributes, Decision
from minikube_py.apiserver.authz_rbac import Rules
from minikube_py.apiserver.reviews import Reviews
from minikube_py.apiserver.tokens import TokenRequests
from minikube_py.client import Client
from minikube_py.cri.client import CriClient
from minikube_py.kubelet.kubelet import Kubelet
from minikube_py.kubelet.options import KubeletOptions
from minikube_py.meta.errors import NotFound
from minikube_py.types.core import Event, ServiceAccount
from minikube_py.types.pod import ContainerStatus, Pod
from tests.support.api import ApiUnderTest, api_server
from tests.support.images import BUSYBOX
from tests.support.netns import entered
from tests.support.nodes import RuntimeNode, runtime_node
from tests.support.waiting import PATIENCE

NODE = "node-1"


class Authorizer:
    """Lets everybody in but the user `nobody`."""

    def authorize(self, attributes: Attributes) -> Decision:
        return Decision(attributes.user.name != "nobody")

    def rules_for(self, user: Any, namespace: str) -> Rules:
        raise NotImplementedError


@dataclass
class Agent:
    """The kubelet and what it talks to."""

    api: ApiUnderTest
    node: RuntimeNode
    cri: CriClient
    client: Client
    options: KubeletOptions
    kubelet: Kubelet
    _supervisor: Supervisor

    async def create(self, name: str, *containers: Mapping[str, Any], **spec: Any) -> Pod:
        """A pod that is bound to the node, with the given containers (images default to busybox)."""
        meta = spec.pop("metadata", {})
        filled = [{"name": "main", "image": BUSYBOX, **container} for container in containers]
        for kind in ("initContainers",):
            if kind in spec:
                spec[kind] = [{"image": BUSYBOX, **container} for container in spec[kind]]
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **meta},
            "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 1, "containers": filled, **spec},
        }
        return await self.client.create(Pod, body, "default")

    async def pod(self, name: str) -> Pod:
        return await self.client.get(Pod, name, "default")

    async def wait(self, name: str, condition: Callable[[Pod], object], timeout: float = 20.0) -> Pod:
        """The pod, as soon as the condition holds. Fails the test after `timeout` seconds with the pod's status and events."""
        deadline = time.monotonic() + timeout * PATIENCE
        while True:
            pod = await self.pod(name)
            if condition(pod):
                return pod
            if time.monotonic() > deadline:
                said = [f"{reason}: {message}" for reason, message in await self.events(name)]
                raise AssertionError(f"{name} did not get there: {pod.status}\n" + "\n".join(said))
            await asyncio.sleep(0.01)

    async def running(self, name: str) -> Pod:
        return await self.wait(name, lambda pod: pod.status.phase == "Running" and all(s.ready for s in pod.status.containerStatuses))

    async def gone(self, name: str, timeout: float = 20.0) -> None:
        deadline = time.monotonic() + timeout * PATIENCE
        with contextlib.suppress(NotFound):
            while True:
                pod = await self.pod(name)
                assert time.monotonic() < deadline, f"{name} is still there: {pod.status}"
                await asyncio.sleep(0.01)

    async def delete(self, name: str, grace: int | None = None) -> None:
        await self.client.delete(Pod, name, "default", grace_seconds=grace)

    async def events(self, name: str) -> list[tuple[str, str]]:
        """(reason, message) of the events about a pod."""
        return [(e.reason, e.message) for e in (await self.client.list(Event, "default")).items if e.involvedObject.name == name]

    async def exec(self, pod: Pod, *command: str, container: str = "main") -> str:
        """A command's output in a container, asked of containerd itself."""
        id = status(pod, container).containerID.removeprefix("containerd://")
        answer = await self.cri.exec_sync(id, command, int(10 * PATIENCE))
        assert answer.exit_code == 0, (answer.stdout + answer.stderr).decode()
        return answer.stdout.decode()

    def log(self, pod: Pod, container: str = "main", attempt: int = 0) -> str:
        """What a container wrote, from its log file."""
        directory = self.options.pod_log_dir(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)
        lines = (directory / container / f"{attempt}.log").read_text().splitlines()
        return "".join(line.split(" ", 3)[3] + "\n" for line in lines)

    async def restart(self) -> None:
        """End the agent and start another one."""
        await self.stop()
        self._start()

    async def stop(self) -> None:
        await self._supervisor.close()
        await self.kubelet.close()

    def _start(self) -> None:
        self.kubelet = _kubelet(self.api, self.node, self.cri, self.options)
        self._supervisor = Supervisor()
        for name, component in self.kubelet.components():
            self._supervisor.start(name, component)


def status(pod: Pod, container: str = "main") -> ContainerStatus:
    """A container's status."""
    everybody = (*pod.status.containerStatuses, *pod.status.initContainerStatuses, *pod.status.ephemeralContainerStatuses)
    return next(s for s in everybody if s.name == container)


def _kubelet(api: ApiUnderTest, node: RuntimeNode, cri: CriClient, options: KubeletOptions) -> Kubelet:
    async def connect(factory: Callable[[], asyncio.Protocol], host: str, port: int) -> None:
        with entered(node.namespace):
            connection = socket.create_connection((host, port), timeout=2)
        connection.setblocking(False)
        await asyncio.get_running_loop().create_connection(factory, sock=connection)

    client = api.client(f"system:node:{NODE}", ("system:nodes",), "kubelet")
    return Kubelet(client, cri, options, server_tls=api.keys.kubelet_context(), connect=connect)


@contextlib.asynccontextmanager
async def agent(directory: Path, **options: Any) -> AsyncIterator[Agent]:
    """A node with its agent, its API server and the default service account. Everything is gone at the end."""
    authorizer = Authorizer()
    made: list[Any] = []

    def with_handlers(cache: Any) -> Authorizer:
        made.append(cache)
        return authorizer

    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(runtime_node())
        late: dict[Any, Any] = {}
        api = await stack.enter_async_context(
            api_server(directory, authorizer=with_handlers, namespaces=("default", "kube-node-lease"), handlers=late)
        )
        clock = SystemClock()
        late.update(Reviews(authorizer, api.api.authenticator.check_token, clock).handlers)
        late.update(TokenRequests(api.tokens, api.cache, (), clock).handlers)
        client = api.client()
        await client.create(ServiceAccount, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}, "default")
        cri = node.client()
        stack.push_async_callback(cri.close)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        kubelet_options = KubeletOptions(
            **{
                "node_name": NODE,
                "node_ips": (node.ip,),
                "root_dir": node.directory / "kubelet",
                "log_dir": node.directory / "logs",
                "system_log_dir": node.directory / "system-logs",
                "cgroup_root": node.cgroup,
                "cluster_dns": ("10.43.0.10",),
                "address": "127.0.0.1",
                "port": port,
                "restrict_oom_score_adj": True,
                **options,
            }
        )
        kubelet = _kubelet(api, node, cri, kubelet_options)
        found = Agent(api, node, cri, client, kubelet_options, kubelet, Supervisor())
        found._start()
        stack.push_async_callback(found.stop)
        await asyncio.wait_for(found._supervisor.health["kubelet endpoint"].ready.wait(), 10 * PATIENCE)
        yield found


__all__ = ["NODE", "Agent", "agent", "pki", "status"]
