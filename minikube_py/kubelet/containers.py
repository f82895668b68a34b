"""CRI messages from a pod: the sandbox's and each container's configuration. Pure: what had to be looked up comes in as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from minikube_py.cri.v1 import api_pb2 as v1
from minikube_py.kubelet import resources, state
from minikube_py.kubelet.dns import Hostname, Resolver
from minikube_py.kubelet.env import expand
from minikube_py.kubelet.resources import Amounts
from minikube_py.meta import sysctls
from minikube_py.types.pod import Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext

_MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_PROTOCOLS = {"TCP": v1.TCP, "UDP": v1.UDP, "SCTP": v1.SCTP}
_PROPAGATION = {
    "": v1.PROPAGATION_PRIVATE,
    "None": v1.PROPAGATION_PRIVATE,
    "HostToContainer": v1.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": v1.PROPAGATION_BIDIRECTIONAL,
}


class ConfigError(Exception):
    """The container cannot be configured as its pod says: it waits with CreateContainerConfigError and this message."""


class MountSpec(NamedTuple):
    """One mount of a container, resolved to a path of the host."""

    container_path: str
    host_path: str
    readonly: bool = False
    propagation: str = ""
    recursive_read_only: bool = False


class DeviceSpec(NamedTuple):
    """One raw device of a container."""

    container_path: str
    host_path: str
    permissions: str


class ImageUser(NamedTuple):
    """Whom an image runs as when nobody says otherwise."""

    uid: int | None = None
    name: str = ""


class Node(NamedTuple):
    """What of the node goes into a pod's configuration."""

    memory_capacity: int
    seccomp_root: str
    cgroup_v2: bool = False
    swap_limits: bool = False
    """Whether containers can be kept from swap; only on v2."""
    hugepage_sizes: tuple[int, ...] = ()
    """The sizes of huge pages that the machine has, in bytes."""
    restrict_oom_score_adj: bool = False


def sandbox_config(
    pod: Pod, attempt: int, *, hostname: Hostname, resolver: Resolver, log_directory: str, cgroup_parent: str, seccomp_root: str
) -> v1.PodSandboxConfig:
    """The configuration of the pod's sandbox."""
    spec, meta = pod.spec, pod.metadata
    context = v1.LinuxSandboxSecurityContext(
        namespace_options=_namespaces(pod),
        supplemental_groups=_groups(spec.securityContext),
        supplemental_groups_policy=_groups_policy(spec.securityContext),
        privileged=any(_privileged(c) for c in (*spec.initContainers, *spec.containers)),
        seccomp=_seccomp(None, spec.securityContext.seccompProfile or SeccompProfile(type="RuntimeDefault"), seccomp_root),
    )
    if spec.securityContext.runAsUser is not None:
        context.run_as_user.value = spec.securityContext.runAsUser
    if spec.securityContext.runAsGroup is not None:
        context.run_as_group.value = spec.securityContext.runAsGroup
    total = resources.pod_limits(pod)
    return v1.PodSandboxConfig(
        metadata=v1.PodSandboxMetadata(name=meta.name, uid=meta.uid, namespace=meta.namespace, attempt=attempt),
        hostname="" if spec.hostNetwork else hostname.name,
        log_directory=log_directory,
        dns_config=v1.DNSConfig(servers=resolver.servers, searches=resolver.searches, options=resolver.options),
        port_mappings=() if spec.hostNetwork else _ports(pod),
        labels={**meta.labels, state.POD_NAME: meta.name, state.POD_NAMESPACE: meta.namespace, state.POD_UID: meta.uid},
        annotations=dict(meta.annotations),
        linux=v1.LinuxPodSandboxConfig(
            cgroup_parent=cgroup_parent,
            security_context=context,
            sysctls={sysctls.normal(sysctl.name): sysctl.value for sysctl in spec.securityContext.sysctls},
            resources=v1.LinuxContainerResources(
                cpu_period=resources.CPU_PERIOD,
                cpu_shares=total.shares,
                cpu_quota=total.quota or 0,
                memory_limit_in_bytes=total.memory or 0,
            ),
        ),
    )


def container_config(
    pod: Pod,
    container: Container,
    attempt: int,
    *,
    image: str,
    image_user: ImageUser,
    env: Mapping[str, str],
    mounts: Sequence[MountSpec],
    devices: Sequence[DeviceSpec] = (),
    node: Node,
    target_id: str = "",
) -> v1.ContainerConfig:
    """The configuration of one container; `image` is the reference that the image store gave. Raises ConfigError."""
    security = _security_context(pod, container, image_user, node, target_id)
    return v1.ContainerConfig(
        metadata=v1.ContainerMetadata(name=container.name, attempt=attempt),
        image=v1.ImageSpec(image=image, user_specified_image=container.image),
        command=[expand(part, env.get) for part in container.command],
        args=[expand(part, env.get) for part in container.args],
        working_dir=container.workingDir,
        envs=[v1.KeyValue(key=key, value=value.encode("utf-8", "surrogateescape")) for key, value in env.items()],
        mounts=[
            v1.Mount(
                container_path=mount.container_path,
                host_path=mount.host_path,
                readonly=mount.readonly,
                propagation=_PROPAGATION[mount.propagation],
                recursive_read_only=mount.recursive_read_only,
            )
            for mount in mounts
        ],
        devices=[v1.Device(container_path=d.container_path, host_path=d.host_path, permissions=d.permissions) for d in devices],
        labels={
            state.CONTAINER_NAME: container.name,
            state.POD_NAME: pod.metadata.name,
            state.POD_NAMESPACE: pod.metadata.namespace,
            state.POD_UID: pod.metadata.uid,
        },
        annotations=_annotations(pod, container, attempt),
        log_path=log_path(container.name, attempt),
        stdin=container.stdin,
        stdin_once=container.stdinOnce,
        tty=container.tty,
        linux=v1.LinuxContainerConfig(resources=linux_resources(pod, container, node), security_context=security),
        stop_signal=_stop_signal(container),
    )


def log_path(name: str, attempt: int) -> str:
    """A container's log, below its pod's log directory."""
    return f"{name}/{attempt}.log"


def linux_resources(pod: Pod, container: Container, node: Node, given: Amounts | None = None) -> v1.LinuxContainerResources:
    """What the container's own cgroup is set to: what its pod says, or the amounts that are given."""
    wanted = given or resources.amounts(resources.pod_level(pod), container.resources)
    adjust = resources.oom_score_adj(pod, container, node.memory_capacity)
    result = v1.LinuxContainerResources(
        cpu_period=resources.CPU_PERIOD,
        cpu_shares=resources.cpu_shares(wanted.cpu_request if "cpu" in container.resources.requests else wanted.cpu_limit),
        cpu_quota=resources.cpu_quota(wanted.cpu_limit),
        memory_limit_in_bytes=wanted.memory_limit,
        oom_score_adj=max(adjust, 0) if node.restrict_oom_score_adj else adjust,
    )
    hugepages = resources.container_hugepages(pod, container)
    for size in node.hugepage_sizes:
        result.hugepage_limits.add(page_size=resources.hugepage_text(size), limit=hugepages.get(size, 0))
    if node.cgroup_v2:
        result.unified["memory.oom.group"] = "1"
        if node.swap_limits:
            result.unified["memory.swap.max"] = "0"
    return result


def effective_user(pod: Pod, container: Container, image_user: ImageUser) -> tuple[int | None, str]:
    """(uid, name) that the container runs as: the container's word, the pod's, or the image's."""
    own, common = container.securityContext or SecurityContext(), pod.spec.securityContext
    uid = own.runAsUser if own.runAsUser is not None else common.runAsUser
    if uid is not None:
        return uid, ""
    if image_user.name:
        return None, image_user.name
    return image_user.uid or 0, ""


def verify_non_root(pod: Pod, container: Container, image_user: ImageUser) -> None:
    """Hold the container to runAsNonRoot. Raises ConfigError with upstream's words."""
    own, common = container.securityContext or SecurityContext(), pod.spec.securityContext
    if not (own.runAsNonRoot if own.runAsNonRoot is not None else common.runAsNonRoot):
        return
    where = f'(pod: "{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})", container: {container.name})'
    if own.runAsUser is not None or common.runAsUser is not None:
        if effective_user(pod, container, image_user)[0] == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    elif image_user.name:
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({image_user.name}), cannot verify user is non-root {where}"
        )
    elif not image_user.uid:
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")


def _security_context(
    pod: Pod, container: Container, image_user: ImageUser, node: Node, target_id: str
) -> v1.LinuxContainerSecurityContext:
    verify_non_root(pod, container, image_user)
    own, common = container.securityContext or SecurityContext(), pod.spec.securityContext
    unmasked = own.procMount == "Unmasked"
    result = v1.LinuxContainerSecurityContext(
        privileged=bool(own.privileged),
        namespace_options=_namespaces(pod),
        readonly_rootfs=bool(own.readOnlyRootFilesystem),
        supplemental_groups=_groups(common),
        supplemental_groups_policy=_groups_policy(common),
        no_new_privs=own.allowPrivilegeEscalation is False,
        masked_paths=() if unmasked else _MASKED,
        readonly_paths=() if unmasked else _READ_ONLY,
        seccomp=_seccomp(own.seccompProfile, common.seccompProfile, node.seccomp_root),
    )
    if own.capabilities is not None:
        result.capabilities.add_capabilities.extend(own.capabilities.add)
        result.capabilities.drop_capabilities.extend(own.capabilities.drop)
    if target_id:
        result.namespace_options.pid = v1.TARGET
        result.namespace_options.target_id = target_id
    uid, name = effective_user(pod, container, image_user)
    if uid is not None:
        result.run_as_user.value = uid
    else:
        result.run_as_username = name
    group = own.runAsGroup if own.runAsGroup is not None else common.runAsGroup
    if group is not None:
        result.run_as_group.value = group
    return result


def _namespaces(pod: Pod) -> v1.NamespaceOption:
    spec = pod.spec
    pid = v1.NODE if spec.hostPID else v1.POD if spec.shareProcessNamespace else v1.CONTAINER
    return v1.NamespaceOption(network=v1.NODE if spec.hostNetwork else v1.POD, pid=pid, ipc=v1.NODE if spec.hostIPC else v1.POD)


def _groups(context: PodSecurityContext) -> list[int]:
    groups = list(context.supplementalGroups)
    if context.fsGroup is not None:
        groups.append(context.fsGroup)
    return groups


def _groups_policy(context: PodSecurityContext) -> v1.SupplementalGroupsPolicy.ValueType:
    return v1.SupplementalGroupsPolicy.Strict if context.supplementalGroupsPolicy == "Strict" else v1.SupplementalGroupsPolicy.Merge


def _privileged(container: Container) -> bool:
    return bool(container.securityContext and container.securityContext.privileged)


def _seccomp(own: SeccompProfile | None, common: SeccompProfile | None, root: str) -> v1.SecurityProfile:
    profile = own or common
    if profile is None or profile.type == "Unconfined":
        return v1.SecurityProfile(profile_type=v1.SecurityProfile.Unconfined)
    if profile.type == "Localhost":
        return v1.SecurityProfile(profile_type=v1.SecurityProfile.Localhost, localhost_ref=f"{root}/{profile.localhostProfile}")
    return v1.SecurityProfile(profile_type=v1.SecurityProfile.RuntimeDefault)


def _ports(pod: Pod) -> list[v1.PortMapping]:
    return [
        v1.PortMapping(protocol=_PROTOCOLS[port.protocol], container_port=port.containerPort, host_port=port.hostPort, host_ip=port.hostIP)
        for container in (*pod.spec.initContainers, *pod.spec.containers)
        for port in container.ports
        if container in pod.spec.containers or resources.is_sidecar(container)
    ]


def _annotations(pod: Pod, container: Container, attempt: int) -> dict[str, str]:
    out = {
        state.HASH: state.container_hash(container),
        state.RESTART_COUNT: str(attempt),
        state.TERMINATION_PATH: container.terminationMessagePath,
        state.TERMINATION_POLICY: container.terminationMessagePolicy,
    }
    if pod.spec.terminationGracePeriodSeconds is not None:
        out[state.GRACE_PERIOD] = str(pod.spec.terminationGracePeriodSeconds)
    if pod.metadata.deletionGracePeriodSeconds is not None:
        out[state.DELETION_GRACE_PERIOD] = str(pod.metadata.deletionGracePeriodSeconds)
    if container.lifecycle is not None and container.lifecycle.preStop is not None:
        out[state.PRE_STOP] = msgspec.json.encode(container.lifecycle.preStop).decode()
    out[state.RESOURCES] = state.encode_amounts(resources.amounts(resources.pod_level(pod), container.resources))
    if container.ports:
        out[state.PORTS] = msgspec.json.encode(container.ports).decode()
    return out


def _stop_signal(container: Container) -> v1.Signal.ValueType:
    wanted = container.lifecycle.stopSignal if container.lifecycle else ""
    return v1.Signal.Value(wanted.replace("+", "PLUS").replace("SIGRTMAX-", "SIGRTMAXMINUS")) if wanted else v1.RUNTIME_DEFAULT
