"""Sandbox and container configurations as small as CRI takes them, for tests that drive containerd without a kubelet."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

from minikube_py.cri.client import CriClient
from minikube_py.cri.v1 import api_pb2 as v1
from tests.support.images import BUSYBOX


def sandbox_config(name: str, cgroup: str = "", logs: Path | None = None, ports: Sequence[v1.PortMapping] = ()) -> v1.PodSandboxConfig:
    """A pod's sandbox with a network of its own, in a cgroup below `cgroup`."""
    uid = str(uuid.uuid4())
    return v1.PodSandboxConfig(
        metadata=v1.PodSandboxMetadata(name=name, uid=uid, namespace="default"),
        hostname=name,
        log_directory=str(logs) if logs else "",
        port_mappings=ports,
        labels={"io.kubernetes.pod.name": name},
        linux=v1.LinuxPodSandboxConfig(cgroup_parent=f"{cgroup}/{uid}" if cgroup else ""),
    )


def container_config(name: str, command: Sequence[str] = ("sleep", "1000"), image: str = BUSYBOX) -> v1.ContainerConfig:
    """A container that sleeps unless told otherwise."""
    return v1.ContainerConfig(
        metadata=v1.ContainerMetadata(name=name),
        image=v1.ImageSpec(image=image),
        command=command,
        log_path=f"{name}.log",
        linux=v1.LinuxContainerConfig(resources=v1.LinuxContainerResources(), security_context=v1.LinuxContainerSecurityContext()),
    )


async def run_container(client: CriClient, sandbox: v1.PodSandboxConfig, container: v1.ContainerConfig) -> tuple[str, str]:
    """Run a sandbox and one container in it; both ids."""
    sandbox_id = await client.run_pod_sandbox(sandbox)
    container_id = await client.create_container(sandbox_id, container, sandbox)
    await client.start_container(container_id)
    return sandbox_id, container_id
