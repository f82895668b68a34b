"""The node's one client of the container runtime: CRI v1 over a Unix socket, thin over the generated stubs.

Requests and answers are the messages of `cri.v1.api_pb2`; what this adds is one method a call with its natural arguments, a deadline on
every call, errors from `cri.errors`, and events as frozen values. A call fails at once with `Unavailable` while the runtime is away; the
channel connects again by itself within a second of its return, so the client outlives any number of restarts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from minikube_py.cri import errors, runtimeconfig
from minikube_py.cri.channel import answer, open_channel
from minikube_py.cri.events import ContainerEvent, follow
from minikube_py.cri.v1 import api_pb2 as v1
from minikube_py.cri.v1 import api_pb2_grpc

# Seconds. Kubernetes's runtimeRequestTimeout, which holds for everything but pulls, stops and commands.
REQUEST_TIMEOUT: Final = 120.0


class CriClient:
    """Calls of the runtime and image services. Every method raises errors of `cri.errors`; ids are the runtime's."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.channel = open_channel(socket)
        self._runtime = api_pb2_grpc.RuntimeServiceStub(self.channel)
        self._images = api_pb2_grpc.ImageServiceStub(self.channel)

    async def __aenter__(self) -> CriClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the channel up; calls in flight end as cancelled."""
        await self.channel.close(None)

    async def wait_until_serving(self, timeout: float) -> v1.VersionResponse:
        """The runtime's version, as soon as it answers. Raises Unavailable or DeadlineExceeded after `timeout` seconds."""
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            try:
                version = await self.version(timeout=min(timeout, 5.0))
                await self.status(timeout=min(timeout, 5.0))  # the version is told before what there is of pods was read
                return version
            except (errors.Unavailable, errors.DeadlineExceeded, errors.Unimplemented):
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.02)

    # The runtime itself.

    async def version(self, timeout: float = REQUEST_TIMEOUT) -> v1.VersionResponse:
        """Name and version of the runtime."""
        return await answer(self._runtime.Version(v1.VersionRequest(version="v1"), timeout=timeout))

    async def status(self, verbose: bool = False, timeout: float = REQUEST_TIMEOUT) -> v1.StatusResponse:
        """The conditions RuntimeReady and NetworkReady, with the runtime's handlers and features."""
        return await answer(self._runtime.Status(v1.StatusRequest(verbose=verbose), timeout=timeout))

    async def runtime_config(self) -> v1.RuntimeConfigResponse:
        """The cgroup driver that the runtime uses. Raises Unimplemented before containerd 2."""
        return await answer(self._runtime.RuntimeConfig(v1.RuntimeConfigRequest(), timeout=REQUEST_TIMEOUT))

    async def systemd_cgroups(self) -> bool:
        """Whether it has systemd make the cgroups of containers. containerd before 2 tells in its configuration only."""
        try:
            return (await self.runtime_config()).linux.cgroup_driver == v1.CgroupDriver.SYSTEMD
        except errors.Unimplemented:
            return runtimeconfig.uses_systemd((await self.status(verbose=True)).info.get("config", ""))

    # Sandboxes.

    async def run_pod_sandbox(self, config: v1.PodSandboxConfig, handler: str = "") -> str:
        """Make and start a sandbox, its network included; its id."""
        request = v1.RunPodSandboxRequest(config=config, runtime_handler=handler)
        return (await answer(self._runtime.RunPodSandbox(request, timeout=2 * REQUEST_TIMEOUT))).pod_sandbox_id

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        """Kill what runs in the sandbox and take its network down. Idempotent, also for one that is gone."""
        with suppress(errors.NotFound):
            await answer(self._runtime.StopPodSandbox(v1.StopPodSandboxRequest(pod_sandbox_id=sandbox_id), timeout=REQUEST_TIMEOUT))

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """Remove the sandbox and its containers, by force. Idempotent, also for one that is gone."""
        with suppress(errors.NotFound):
            await answer(self._runtime.RemovePodSandbox(v1.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id), timeout=REQUEST_TIMEOUT))

    async def list_pod_sandboxes(self, filter: v1.PodSandboxFilter | None = None) -> Sequence[v1.PodSandbox]:
        """The sandboxes that match."""
        return (await answer(self._runtime.ListPodSandbox(v1.ListPodSandboxRequest(filter=filter), timeout=REQUEST_TIMEOUT))).items

    async def pod_sandbox_status(self, sandbox_id: str, verbose: bool = False) -> v1.PodSandboxStatusResponse:
        """State and addresses of a sandbox. Raises NotFound."""
        request = v1.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id, verbose=verbose)
        return await answer(self._runtime.PodSandboxStatus(request, timeout=REQUEST_TIMEOUT))

    async def update_pod_sandbox_resources(
        self, sandbox_id: str, overhead: v1.LinuxContainerResources | None, resources: v1.LinuxContainerResources | None
    ) -> None:
        """Tell the runtime about new limits of the whole pod. Raises Unimplemented before containerd 2."""
        request = v1.UpdatePodSandboxResourcesRequest(pod_sandbox_id=sandbox_id, overhead=overhead, resources=resources)
        await answer(self._runtime.UpdatePodSandboxResources(request, timeout=REQUEST_TIMEOUT))

    # Containers.

    async def create_container(self, sandbox_id: str, config: v1.ContainerConfig, sandbox_config: v1.PodSandboxConfig) -> str:
        """Make a container in a running sandbox, unstarted; its id. The image must be present."""
        request = v1.CreateContainerRequest(pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox_config)
        return (await answer(self._runtime.CreateContainer(request, timeout=REQUEST_TIMEOUT))).container_id

    async def start_container(self, container_id: str) -> None:
        """Start a created container."""
        await answer(self._runtime.StartContainer(v1.StartContainerRequest(container_id=container_id), timeout=REQUEST_TIMEOUT))

    async def stop_container(self, container_id: str, timeout: int) -> None:
        """Signal a container to stop and kill it after `timeout` seconds (0: at once). Idempotent, also for one that is gone."""
        request = v1.StopContainerRequest(container_id=container_id, timeout=timeout)
        with suppress(errors.NotFound):
            await answer(self._runtime.StopContainer(request, timeout=REQUEST_TIMEOUT + timeout))

    async def remove_container(self, container_id: str) -> None:
        """Remove a container, by force. Idempotent, also for one that is gone."""
        with suppress(errors.NotFound):
            await answer(self._runtime.RemoveContainer(v1.RemoveContainerRequest(container_id=container_id), timeout=REQUEST_TIMEOUT))

    async def list_containers(self, filter: v1.ContainerFilter | None = None) -> Sequence[v1.Container]:
        """The containers that match, in any state."""
        return (await answer(self._runtime.ListContainers(v1.ListContainersRequest(filter=filter), timeout=REQUEST_TIMEOUT))).containers

    async def container_status(self, container_id: str) -> v1.ContainerStatus:
        """State, times, exit code and reason of a container. Raises NotFound."""
        request = v1.ContainerStatusRequest(container_id=container_id)
        return (await answer(self._runtime.ContainerStatus(request, timeout=REQUEST_TIMEOUT))).status

    async def container_status_verbose(self, container_id: str) -> v1.ContainerStatusResponse:
        """The same with the runtime's own information (`info`, JSON texts: pid, snapshot, runtime spec)."""
        request = v1.ContainerStatusRequest(container_id=container_id, verbose=True)
        return await answer(self._runtime.ContainerStatus(request, timeout=REQUEST_TIMEOUT))

    async def update_container_resources(self, container_id: str, linux: v1.LinuxContainerResources) -> None:
        """Change a container's limits while it runs."""
        request = v1.UpdateContainerResourcesRequest(container_id=container_id, linux=linux)
        await answer(self._runtime.UpdateContainerResources(request, timeout=REQUEST_TIMEOUT))

    async def reopen_container_log(self, container_id: str) -> None:
        """Open the log file anew, after it was rotated."""
        await answer(self._runtime.ReopenContainerLog(v1.ReopenContainerLogRequest(container_id=container_id), timeout=REQUEST_TIMEOUT))

    # Commands and streams.

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: float) -> v1.ExecSyncResponse:
        """Run a command and wait; its output and exit code. After `timeout` seconds (0: never) it is killed: DeadlineExceeded."""
        seconds = int(-(-timeout // 1))  # CRI counts whole seconds
        request = v1.ExecSyncRequest(container_id=container_id, cmd=command, timeout=seconds)
        return await answer(self._runtime.ExecSync(request, timeout=REQUEST_TIMEOUT + timeout if timeout else None))

    async def exec(self, request: v1.ExecRequest) -> str:
        """The URL of the runtime's streaming server at which this command can be run once."""
        return (await answer(self._runtime.Exec(request, timeout=REQUEST_TIMEOUT))).url

    async def attach(self, request: v1.AttachRequest) -> str:
        """The URL of the runtime's streaming server for the container's standard streams."""
        return (await answer(self._runtime.Attach(request, timeout=REQUEST_TIMEOUT))).url

    async def port_forward(self, sandbox_id: str, ports: Sequence[int]) -> str:
        """The URL of the runtime's streaming server for these ports of the sandbox."""
        request = v1.PortForwardRequest(pod_sandbox_id=sandbox_id, port=ports)
        return (await answer(self._runtime.PortForward(request, timeout=REQUEST_TIMEOUT))).url

    # Statistics.

    async def container_stats(self, container_id: str) -> v1.ContainerStats:
        """CPU, memory and disk use of one container. Raises NotFound."""
        request = v1.ContainerStatsRequest(container_id=container_id)
        return (await answer(self._runtime.ContainerStats(request, timeout=REQUEST_TIMEOUT))).stats

    async def list_container_stats(self, filter: v1.ContainerStatsFilter | None = None) -> Sequence[v1.ContainerStats]:
        """The same for all running containers that match."""
        return (await answer(self._runtime.ListContainerStats(v1.ListContainerStatsRequest(filter=filter), timeout=REQUEST_TIMEOUT))).stats

    async def list_pod_sandbox_stats(self, filter: v1.PodSandboxStatsFilter | None = None) -> Sequence[v1.PodSandboxStats]:
        """CPU, memory, network and processes of the sandboxes that match."""
        request = v1.ListPodSandboxStatsRequest(filter=filter)
        return (await answer(self._runtime.ListPodSandboxStats(request, timeout=REQUEST_TIMEOUT))).stats

    # Images.

    async def pull_image(self, image: str, auth: v1.AuthConfig | None = None, sandbox_config: v1.PodSandboxConfig | None = None) -> str:
        """Fetch an image from its registry; the reference to run it by. Without a deadline: cancel it to give up."""
        request = v1.PullImageRequest(image=v1.ImageSpec(image=image), auth=auth, sandbox_config=sandbox_config)
        return (await answer(self._images.PullImage(request))).image_ref

    async def list_images(self, image: str = "") -> Sequence[v1.Image]:
        """The images that are present: all, or those of that name."""
        filter = v1.ImageFilter(image=v1.ImageSpec(image=image)) if image else None
        return (await answer(self._images.ListImages(v1.ListImagesRequest(filter=filter), timeout=REQUEST_TIMEOUT))).images

    async def image_status(self, image: str) -> v1.Image | None:
        """The image by name, id or digest; None when it is not present."""
        request = v1.ImageStatusRequest(image=v1.ImageSpec(image=image))
        response = await answer(self._images.ImageStatus(request, timeout=REQUEST_TIMEOUT))
        return response.image if response.HasField("image") else None

    async def remove_image(self, image: str) -> None:
        """Forget an image; its content goes with the runtime's next garbage collection. Idempotent."""
        await answer(self._images.RemoveImage(v1.RemoveImageRequest(image=v1.ImageSpec(image=image)), timeout=REQUEST_TIMEOUT))

    async def image_fs_info(self) -> v1.ImageFsInfoResponse:
        """How much the images use, and where."""
        return await answer(self._images.ImageFsInfo(v1.ImageFsInfoRequest(), timeout=REQUEST_TIMEOUT))

    # Events.

    def events(self) -> AsyncIterator[ContainerEvent]:
        """What happens to containers and sandboxes, for ever: see `cri.events`."""
        return follow(self)
