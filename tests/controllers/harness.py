"""A control plane in the test's process: the real API server with RBAC and admission, the controllers and the scheduler as themselves.

The tests play the kubelet where one is needed: a client that registers a node and writes pods' statuses.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from minikube_py.aio import Clock, Supervisor
from minikube_py.apiserver import bootstrap
from minikube_py.apiserver.admission import plugins
from minikube_py.apiserver.authz import RequestAuthorizer
from minikube_py.apiserver.call import Handler
from minikube_py.apiserver.reviews import Reviews
from minikube_py.client import Client, Patch
from minikube_py.control import Informers
from minikube_py.controllers import Options, controllers
from minikube_py.meta.errors import NotFound
from minikube_py.scheduler import Scheduler
from minikube_py.types.core import Node
from minikube_py.types.meta import Object, V, timestamp
from minikube_py.types.pod import Pod, is_terminal
from tests.support.api import ApiUnderTest, api_server
from tests.support.waiting import until

ROOT_CA = "-----BEGIN CERTIFICATE-----\nroot\n-----END CERTIFICATE-----\n"


class Plane:
    """The running control plane and what tests do with it."""

    def __init__(self, server: ApiUnderTest, supervisor: Supervisor, informers: Informers) -> None:
        self.server, self.supervisor, self.informers = server, supervisor, informers
        self.client = server.client()

    async def create(self, view: type[V], body: dict[str, Any], namespace: str | None = "default") -> V:
        """Create an object as the administrator."""
        ref = view.resource
        return await self.client.create(view, {"apiVersion": ref.api_version, "kind": ref.kind, **body}, namespace)

    async def get(self, view: type[V], name: str, namespace: str | None = "default") -> V:
        """The live object."""
        return await self.client.get(view, name, namespace)

    async def list(self, view: type[V], namespace: str | None = "default") -> Sequence[V]:
        """The live objects."""
        return (await self.client.list(view, namespace)).items

    async def exists(self, view: type[Object], name: str, namespace: str | None = "default") -> bool:
        """Whether the object is there."""
        try:
            await self.client.get(view, name, namespace)
        except NotFound:
            return False
        return True

    async def eventually(self, view: type[V], name: str, fits: Callable[[V], object], namespace: str | None = "default") -> V:
        """Wait until the object is there and fits; gives it."""
        found: list[V] = []

        async def look() -> bool:
            with contextlib.suppress(NotFound):
                current = await self.client.get(view, name, namespace)
                found[:] = [current]
                return bool(fits(current))
            return False

        try:
            await until(look)
        except AssertionError as error:
            raise AssertionError(f"{view.resource.kind} {name} did not come to fit: {found}") from error
        return found[0]

    async def gone(self, view: type[Object], name: str, namespace: str | None = "default", timeout: float = 10.0) -> None:
        """Wait until the object is no longer there."""

        async def look() -> bool:
            return not await self.exists(view, name, namespace)

        await until(look, timeout, f"{view.resource.kind} {name} is still there")

    async def count(
        self, view: type[V], wanted: int, fits: Callable[[V], object] = lambda obj: True, namespace: str = "default"
    ) -> list[V]:
        """Wait until so many objects fit; gives them."""
        found: list[V] = []

        async def look() -> bool:
            found[:] = [obj for obj in await self.list(view, namespace) if fits(obj)]
            return len(found) == wanted

        try:
            await until(look)
        except AssertionError as error:
            raise AssertionError(f"{len(found)} {view.resource.plural} fit, wanted {wanted}") from error
        return found

    async def node(self, name: str = "n1", **status: Any) -> Node:
        """Register a node that is ready and has room."""
        node = await self.create(Node, {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}, None)
        await self.heartbeat(name, **status)
        await self.eventually(Node, name, lambda n: not n.spec.taints, None)
        return node

    async def heartbeat(self, name: str, *, cpu: str = "8", pods: str = "110", ready: str = "True") -> None:
        """Write a node's status as its kubelet would."""
        now = timestamp(time.time())
        condition = {"type": "Ready", "status": ready, "reason": "KubeletReady", "lastHeartbeatTime": now, "lastTransitionTime": now}
        capacity = {"cpu": cpu, "memory": "16Gi", "pods": pods}
        body = {"status": {"capacity": capacity, "allocatable": capacity, "conditions": [condition]}}
        await self.client.patch(Node, name, body, kind=Patch.STRATEGIC, subresource="status")

    async def run_pod(self, pod: Pod, ip: str = "10.42.0.5", *, ready: bool = True, phase: str = "Running") -> Pod:
        """Write a pod's status as its kubelet would."""
        stamp = timestamp(time.time())
        condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": stamp}
        status = {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [condition]}
        meta = pod.metadata
        return await self.client.patch(Pod, meta.name, {"status": status}, meta.namespace, kind=Patch.STRATEGIC, subresource="status")

    async def end_pod(self, pod: Pod) -> None:
        """Remove a pod that is being deleted, as its kubelet does at the end."""
        with contextlib.suppress(NotFound):
            await self.client.delete(Pod, pod.metadata.name, pod.metadata.namespace, grace_seconds=0, uid=pod.metadata.uid)


class Kubelet:
    """Plays every kubelet of the plane: bound pods become ready at once, ending ones go."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._next = 10

    async def run(self, health: object) -> None:
        """Follow the pods until cancelled."""
        client = self._plane.client
        async for event in client.watch(Pod, resource_version="0"):
            pod = event.object
            if event.type not in ("ADDED", "MODIFIED") or not pod.spec.nodeName:
                continue
            if pod.metadata.deletionTimestamp is not None:
                await self._plane.end_pod(pod)
            elif not is_terminal(pod) and not pod.status.podIP and "broken" not in pod.spec.containers[0].image:
                self._next += 1
                with contextlib.suppress(NotFound):
                    await self._plane.run_pod(pod, f"10.42.{self._next // 250}.{self._next % 250 + 1}")


@asynccontextmanager
async def control_plane(
    directory: Path,
    *,
    only: Iterable[str] = (),
    options: Options | None = None,
    clock: Clock | None = None,
    scheduler: bool = False,
    kubelet: bool = False,
) -> AsyncIterator[Plane]:
    """A control plane with the named controllers (all by default)."""
    handlers: dict[tuple[str, str, str], Handler] = {}
    late: Mapping[str, Any] = {"handlers": handlers}
    async with api_server(
        directory, authorizer=RequestAuthorizer, admission=lambda cache: plugins(cache, RequestAuthorizer(cache)), namespaces=(), **late
    ) as server:
        check_token = server.api.authenticator.check_token  # type: ignore[attr-defined]
        handlers.update(Reviews(RequestAuthorizer(server.cache), check_token, clock).handlers)
        await bootstrap.reconcile(server.client(), server.cache, bootstrap.Settings(("10.43.0.0/16",)), time.time())

        def client_for(name: str) -> Client:
            groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system")
            return server.client(f"system:serviceaccount:kube-system:{name}", groups, f"minikube-py/{name}")

        informers = Informers(server.client("system:kube-controller-manager", ()))
        supervisor = Supervisor()
        plane = Plane(server, supervisor, informers)
        chosen = frozenset(only)
        for name, component in controllers(client_for, informers, options or Options(root_ca=ROOT_CA), clock):
            if not chosen or name in chosen:
                supervisor.start(name, component)
        if scheduler:
            placing = Scheduler(server.client("system:kube-scheduler", ()), informers, clock=clock)
            supervisor.start("scheduler", placing.run)
        if kubelet:
            supervisor.start("kubelet", Kubelet(plane).run)
        try:
            await until(lambda: all(h.ready.is_set() for n, h in supervisor.health.items() if n != "kubelet"))
            yield plane
            failed = {n: (h.problem, h.restarts) for n, h in supervisor.health.items() if h.restarts and n != "kubelet"}
            assert not failed, failed
        finally:
            await supervisor.close()
            await informers.close()
