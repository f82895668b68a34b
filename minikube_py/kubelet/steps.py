"""The steps that bring a pod up: directories, cgroup, volumes, sandbox, then its containers one after another.

Every step is idempotent, so that a sync that was cut short is simply done again. A step that fails says so in an event, and its `StepError`
carries what the waiting containers show and when to try again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from minikube_py.client.transport import TransportError
from minikube_py.cri import errors
from minikube_py.kubelet import containers, dns, env, hosts, keyfiles, resize, resources
from minikube_py.kubelet import plan as planning
from minikube_py.kubelet.containers import ConfigError, MountSpec
from minikube_py.kubelet.fields import Addresses
from minikube_py.kubelet.handlers import Outcome
from minikube_py.kubelet.images import ImageError
from minikube_py.kubelet.objects import ObjectsUnavailable
from minikube_py.kubelet.plan import Waiting
from minikube_py.kubelet.state import PodState, RunState, SandboxId
from minikube_py.kubelet.tools import Tools
from minikube_py.kubelet.volumes import claims, containermounts, content, imagevolumes, manager
from minikube_py.meta.errors import StatusError
from minikube_py.types.core import Secret
from minikube_py.types.handlers import LifecycleHandler
from minikube_py.types.pod import Container, Pod

T = TypeVar("T")

_NODE_HOSTS = Path("/etc/hosts")


class StepError(Exception):
    """A step did not work. `waiting` is what `container` (all that are not up, when empty) shows meanwhile."""

    def __init__(self, message: str, *, again_after: float, container: str = "", waiting: Waiting | None = None) -> None:
        super().__init__(message)
        self.again_after, self.container, self.waiting = again_after, container, waiting


class ResizeError(Exception):
    """A resize could not be done now."""


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await a call to the end even when this task is cancelled meanwhile: half a container is worse than one too many."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


class Steps:
    """The steps for one pod at a time; holds nothing of a pod itself."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def prepare(self, pod: Pod) -> tuple[str, dict[str, str]]:
        """Directories, cgroup and volumes; the cgroup's name and the volumes' host paths. Raises StepError."""
        tools, options, uid = self._tools, self._tools.options, pod.metadata.uid
        try:
            cgroup, _ = await asyncio.gather(asyncio.to_thread(self._directories, pod), self._require(pod))
            sources = await self._sources(pod, ())
            claimed = await tools.claims.get(pod)
            paths = await manager.ensure(pod, options.pod_dir(uid), sources, claimed)
        except (manager.VolumeError, claims.ClaimError) as error:
            tools.events.record(pod, "Warning", "FailedMount", str(error))
            raise StepError(str(error), again_after=1.0 if isinstance(error, claims.ClaimError) else 5.0) from error
        except OSError as error:
            tools.events.record(pod, "Warning", "FailedCreatePodContainer", f"unable to ensure pod container exists: {error}")
            raise StepError(str(error), again_after=10.0) from error
        except (StatusError, TransportError, ObjectsUnavailable) as error:
            volume = next((v.name for v in pod.spec.volumes if content.has_content(v)), "")
            message = f'MountVolume.SetUp failed for volume "{volume}" : {error}'
            tools.events.record(pod, "Warning", "FailedMount", message)
            raise StepError(message, again_after=1.0) from error
        return cgroup, paths

    async def refresh(self, pod: Pod, state: PodState) -> None:
        """Bring the content of a running pod's volumes up to date.

        Raises VolumeError, StatusError, TransportError, ObjectsUnavailable, OSError."""
        await self._require(pod)
        ips = state.sandbox.ips if state.sandbox is not None else ()
        await manager.refresh(pod, self._tools.options.pod_dir(pod.metadata.uid), await self._sources(pod, ips))

    async def create_sandbox(self, pod: Pod, attempt: int, cgroup: str) -> None:
        """A new sandbox. Raises StepError."""
        count, apart = self._tools.metrics.count, pod.spec.hostUsers is False
        count("kubelet_started_pods_total")
        if apart:
            count("kubelet_started_user_namespaced_pods_total")
        try:
            await self._create_sandbox(pod, attempt, cgroup)
        except StepError:
            count("kubelet_started_pods_errors_total")
            if apart:
                count("kubelet_started_user_namespaced_pods_errors_total")
            raise

    async def _create_sandbox(self, pod: Pod, attempt: int, cgroup: str) -> None:
        tools = self._tools
        try:
            if pod.spec.hostUsers is False:
                raise dns.HostnameError("can't set `spec.hostUsers: false`, this node does not support user namespaces")
            config = await self.sandbox_config(pod, attempt, cgroup)
        except (dns.HostnameError, OSError) as error:
            message = f"Failed to create pod sandbox: {error}"
            tools.events.record(pod, "Warning", "FailedCreatePodSandBox", message)
            raise StepError(message, again_after=10.0) from error
        try:
            handler = await tools.runtime_classes.handler(pod.spec.runtimeClassName)
        except (StatusError, TransportError) as error:
            message = f"Failed to create pod sandbox: failed to get sandbox runtime: {error}"
            tools.events.record(pod, "Warning", "FailedCreatePodSandBox", message)
            raise StepError(message, again_after=2.0) from error
        began = tools.clock.monotonic()
        try:
            await uninterrupted(tools.cri.run_pod_sandbox(config, handler))
        except errors.CriError as error:
            tools.metrics.count("kubelet_run_podsandbox_errors_total", handler)
            message = f"Failed to create pod sandbox: rpc error: code = Unknown desc = {error}"
            tools.events.record(pod, "Warning", "FailedCreatePodSandBox", message)
            raise StepError(message, again_after=2.0) from error
        finally:
            tools.metrics.took("kubelet_run_podsandbox_duration_seconds", tools.clock.monotonic() - began, handler)

    async def sandbox_config(self, pod: Pod, attempt: int, cgroup: str) -> Any:
        """The sandbox's configuration as it was or will be given to the runtime. Raises HostnameError, OSError."""
        options = self._tools.options
        host = dns.Resolver()
        if str(options.resolv_conf) not in ("", "."):
            host = dns.parse(await asyncio.to_thread(_read_text, options.resolv_conf))
        meta = pod.metadata
        return containers.sandbox_config(
            pod,
            attempt,
            hostname=dns.hostname(pod, options.cluster_domain),
            resolver=dns.pod_resolver(pod, host, options.cluster_dns, options.cluster_domain),
            log_directory=str(options.pod_log_dir(meta.namespace, meta.name, meta.uid)),
            cgroup_parent=cgroup,
            seccomp_root=self._tools.node.seccomp_root,
        )

    async def resize_pod(self, pod: Pod, state: PodState, wanted: resize.Resize) -> None:
        """Give running containers, and the pod's cgroup, what was allocated to them. What is raised for the pod is raised before its
        containers', what is lowered after. Raises ResizeError."""
        tools, uid = self._tools, pod.metadata.uid
        qos, limits = resources.qos_class(pod), resources.pod_limits(pod)
        name = tools.cgroups.pod_name(qos, uid)
        before, usage = await asyncio.to_thread(tools.cgroups.pod_now, qos, uid)
        problem = resize.too_small(wanted, limits, before, await self._usage(wanted), usage)
        if problem:
            raise ResizeError(problem)
        try:
            raised = limits.memory is not None and before.memory is not None and limits.memory > before.memory
            if limits.memory is not None and raised:
                await asyncio.to_thread(tools.cgroups.set_memory, name, limits.memory)
            for update in resize.memory_order(wanted.updates):
                has = tools.allocations.actuated(uid, update.record) or update.before
                given = has._replace(memory_limit=update.after.memory_limit, memory_request=update.after.memory_request)
                await self._update(pod, update, given)
            if limits.memory is not None and not raised and limits.memory != before.memory:
                await asyncio.to_thread(tools.cgroups.set_memory, name, limits.memory)
            more = max(before.shares, limits.shares)
            await asyncio.to_thread(tools.cgroups.set_cpu, name, more, _wider(limits.quota, before.quota))
            for update in resize.cpu_order(wanted.updates):
                has = tools.allocations.actuated(uid, update.record) or update.before
                given = has._replace(cpu_limit=update.after.cpu_limit, cpu_request=update.after.cpu_request)
                await self._update(pod, update, given)
            await asyncio.to_thread(tools.cgroups.set_cpu, name, limits.shares, limits.quota)
            tools.allocations.updated_pod(pod, (record.id for record in state.running))
        except (errors.CriError, OSError) as error:
            raise ResizeError(str(error)) from error
        finally:
            await asyncio.to_thread(tools.allocations.save, uid)

    async def _usage(self, wanted: resize.Resize) -> dict[str, int]:
        """The memory that containers use whose limit goes down, by id."""
        usage: dict[str, int] = {}
        for update in wanted.updates:
            limit, before = update.after.memory_limit, update.before.memory_limit
            if limit and (not before or limit < before):
                with contextlib.suppress(errors.CriError):
                    usage[update.record.id] = (await self._tools.cri.container_stats(update.record.id)).memory.usage_bytes.value
        return usage

    async def _update(self, pod: Pod, update: resize.Update, given: resources.Amounts) -> None:
        linux = containers.linux_resources(pod, update.container, self._tools.node, given)
        await uninterrupted(self._tools.cri.update_container_resources(update.record.id, linux))
        self._tools.allocations.updated(pod.metadata.uid, update.record, given)

    async def start_container(
        self, pod: Pod, container: Container, state: PodState, cgroup: str, paths: Mapping[str, str], ips: tuple[str, ...]
    ) -> None:
        """Image, configuration, create, start, postStart. Raises StepError."""
        tools = self._tools
        sandbox = state.sandbox
        assert sandbox is not None
        name = container.name

        def say(type_: str, reason: str, message: str) -> None:
            tools.events.record(pod, type_, reason, message, field_path=_field_path(pod, name))

        try:
            image, image_user = await tools.images.ensure(pod, container, self._pull_secrets(pod), say)
        except ImageError as error:
            raise StepError(str(error), again_after=error.again_after, container=name, waiting=Waiting(error.reason, str(error))) from error
        paths = {**paths, **await self._image_volumes(pod, container)}
        newest = state.of(name)
        attempt = newest.attempt + 1 if newest is not None else self._first_attempt(pod, container)
        if newest is not None and newest.state is RunState.EXITED:
            now = tools.clock.time()
            tools.restarts.next(planning.backoff_key(pod, name), newest.finished_at, now)
        try:
            sources = self._env_sources(pod, ips)
            if keyfiles.wanted(container):
                sources = sources._replace(key_files=await asyncio.to_thread(keyfiles.read, container, paths))
            variables = env.build(pod, container, sources)
            can_recurse = any(m.recursiveReadOnly for m in container.volumeMounts) and await self._recursive_read_only()
            directory = tools.options.pod_dir(pod.metadata.uid)
            mounts = await containermounts.container_mounts(pod, container, directory, paths, variables, can_recurse)
            mounts += await asyncio.to_thread(self._own_mounts, pod, container, ips)
            target = state.of(container.targetContainerName) if container.targetContainerName else None
            if container.targetContainerName and target is None:
                raise ConfigError(f"unable to find target container {container.targetContainerName}")
            config = containers.container_config(
                pod,
                container,
                attempt,
                image=image,
                image_user=image_user,
                env=variables,
                mounts=mounts,
                node=tools.node,
                target_id=target.id if target is not None else "",
            )
            sandbox_config = await self.sandbox_config(pod, sandbox.attempt, cgroup)
        except (env.EnvError, ConfigError, containermounts.MountError, OSError) as error:
            say("Warning", "Failed", f"Error: {error}")
            unmountable = isinstance(error, containermounts.ImageMountError)
            waiting = Waiting("CreateContainerError" if unmountable else "CreateContainerConfigError", str(error))
            raise StepError(str(error), again_after=10.0, container=name, waiting=waiting) from error
        try:
            container_id = await uninterrupted(self._create(sandbox.id, config, sandbox_config))
        except errors.CriError as error:
            say("Warning", "Failed", f"Error: {error}")
            waiting = Waiting("CreateContainerError", str(error))
            raise StepError(str(error), again_after=10.0, container=name, waiting=waiting) from error
        say("Normal", "Created", "Container created")
        try:
            await uninterrupted(tools.cri.start_container(container_id))
        except errors.CriError as error:
            say("Warning", "Failed", f"Error: {error}")
            waiting = Waiting("RunContainerError", str(error))
            raise StepError(str(error), again_after=0.1, container=name, waiting=waiting) from error
        say("Normal", "Started", "Container started")
        if container.lifecycle is not None and container.lifecycle.postStart is not None:
            outcome = await self.run_hook(container.lifecycle.postStart, container, container_id, ips, 0.0)
            if not outcome.ok:
                say("Warning", "FailedPostStartHook", f"PostStartHook failed: {outcome.text}"[:1024])
                say("Normal", "Killing", "FailedPostStartHook")
                await tools.cri.stop_container(container_id, self._grace(pod))
                waiting = Waiting("PostStartHookError", f"PostStartHook failed: {outcome.text}")
                raise StepError(outcome.text, again_after=0.1, container=name, waiting=waiting)

    async def run_hook(
        self, hook: LifecycleHandler, container: Container, container_id: str, ips: tuple[str, ...], timeout: float
    ) -> Outcome:
        """Run a lifecycle hook; `timeout` 0 is none."""
        handlers = self._tools.handlers
        if hook.exec is not None:
            return await handlers.exec(container_id, hook.exec, timeout)
        if hook.httpGet is not None:
            address = ips[0] if ips else ""
            return await handlers.http_hook(hook.httpGet, address, container, timeout or 3600.0)
        if hook.sleep is not None:
            await asyncio.sleep(min(hook.sleep.seconds, timeout) if timeout else hook.sleep.seconds)
            return Outcome(True, "")
        return Outcome(False, "invalid handler")

    # Parts

    async def _image_volumes(self, pod: Pod, container: Container) -> dict[str, str]:
        """Pull and mount the images that the container mounts; their host paths by volume. Raises StepError."""
        tools, directory = self._tools, self._tools.options.pod_dir(pod.metadata.uid)
        mounted = {mount.name for mount in container.volumeMounts}
        paths: dict[str, str] = {}

        def say(type_: str, reason: str, message: str) -> None:
            tools.events.record(pod, type_, reason, message)

        for volume in pod.spec.volumes:
            if volume.image is None or volume.name not in mounted:
                continue
            wanted = Container(name=volume.name, image=volume.image.reference, imagePullPolicy=volume.image.pullPolicy)
            try:
                image, _ = await tools.images.ensure(pod, wanted, self._pull_secrets(pod), say)
                paths[volume.name] = await imagevolumes.ensure(directory, volume.name, image, tools.image_filesystems)
            except ImageError as error:
                waiting = Waiting(error.reason, str(error))
                raise StepError(str(error), again_after=error.again_after, container=container.name, waiting=waiting) from error
            except (errors.CriError, OSError) as error:
                message = f"ImageVolumeMountFailed: {error}"
                tools.events.record(pod, "Warning", "Failed", f"Error: {message}", field_path=_field_path(pod, container.name))
                waiting = Waiting("CreateContainerError", message)
                raise StepError(message, again_after=10.0, container=container.name, waiting=waiting) from error
        return paths

    async def _recursive_read_only(self) -> bool:
        """Whether the runtime can make what is mounted below a volume read-only too."""
        with contextlib.suppress(errors.CriError):
            status = await self._tools.cri.status()
            return any(not handler.name and handler.features.recursive_read_only_mounts for handler in status.runtime_handlers)
        return False

    async def _create(self, sandbox_id: SandboxId, config: Any, sandbox_config: Any) -> str:
        """Create a container; a half-made one of the same attempt, left by a start that was cut short, is in the way and is removed."""
        cri = self._tools.cri
        try:
            return await cri.create_container(sandbox_id, config, sandbox_config)
        except errors.AlreadyExists:
            config.metadata.attempt += 1
            return await cri.create_container(sandbox_id, config, sandbox_config)

    def _directories(self, pod: Pod) -> str:
        options, meta = self._tools.options, pod.metadata
        directory = options.pod_dir(meta.uid)
        for path in (directory, directory / "volumes", directory / "containers"):
            path.mkdir(parents=True, exist_ok=True, mode=0o750)
        options.pod_log_dir(meta.namespace, meta.name, meta.uid).mkdir(parents=True, exist_ok=True, mode=0o755)
        self._tools.allocations.save(meta.uid)
        return self._tools.cgroups.ensure_pod(resources.qos_class(pod), meta.uid, resources.pod_limits(pod))

    async def _require(self, pod: Pod) -> None:
        """Follow what the pod refers to."""
        wanted = content.references(pod)
        uid, namespace = pod.metadata.uid, pod.metadata.namespace
        await asyncio.gather(
            self._tools.config_maps.require(uid, namespace, wanted.config_maps),
            self._tools.secrets.require(uid, namespace, wanted.secrets),
        )

    async def _sources(self, pod: Pod, ips: tuple[str, ...]) -> content.Sources:
        tools, namespace = self._tools, pod.metadata.namespace
        tokens = {p: (await tools.tokens.get(pod, p)).text for p in content.references(pod).tokens}
        return content.Sources(
            config_map=lambda name: tools.config_maps.get(namespace, name),
            secret=lambda name: tools.secrets.get(namespace, name),
            tokens=tokens,
            addresses=Addresses(ips, tools.options.node_ips),
            allocatable=tools.allocatable,
        )

    def _env_sources(self, pod: Pod, ips: tuple[str, ...]) -> env.Sources:
        tools, namespace = self._tools, pod.metadata.namespace
        return env.Sources(
            config_map=lambda name: tools.config_maps.get(namespace, name),
            secret=lambda name: tools.secrets.get(namespace, name),
            services=env.service_variables(tools.services.list(), namespace, pod.spec.enableServiceLinks),
            addresses=Addresses(ips, tools.options.node_ips),
            allocatable=tools.allocatable,
        )

    def _pull_secrets(self, pod: Pod) -> list[Secret]:
        found = (self._tools.secrets.get(pod.metadata.namespace, ref.name) for ref in pod.spec.imagePullSecrets)
        return [secret for secret in found if secret is not None]

    def _own_mounts(self, pod: Pod, container: Container, ips: tuple[str, ...]) -> list[MountSpec]:
        """The hosts file and the termination message: the kubelet's own mounts."""
        options = self._tools.options
        directory = options.pod_dir(pod.metadata.uid)
        out: list[MountSpec] = []
        if not any(mount.mountPath == "/etc/hosts" for mount in container.volumeMounts):
            path = directory / "etc-hosts"
            if pod.spec.hostNetwork:
                text = hosts.host_network_hosts(_read_text(_NODE_HOSTS), pod.spec.hostAliases)
            else:
                called = dns.hostname(pod, options.cluster_domain)
                text = hosts.pod_hosts(ips, called.name, called.domain, pod.spec.hostAliases)
            path.write_text(text)
            path.chmod(0o644)
            read_only = bool(container.securityContext and container.securityContext.readOnlyRootFilesystem)
            out.append(MountSpec("/etc/hosts", str(path), read_only))
        if container.terminationMessagePath:
            path = directory / "containers" / container.name / os.urandom(4).hex()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            path.chmod(0o666)
            out.append(MountSpec(container.terminationMessagePath, str(path)))
        return out

    def _first_attempt(self, pod: Pod, container: Container) -> int:
        """The attempt of a container of which the runtime has nothing: after the one that the API remembers."""
        statuses = (*pod.status.containerStatuses, *pod.status.initContainerStatuses)
        known = next((s for s in statuses if s.name == container.name), None)
        return known.restartCount + 1 if known is not None and known.containerID else 0

    def _grace(self, pod: Pod) -> int:
        return pod.spec.terminationGracePeriodSeconds if pod.spec.terminationGracePeriodSeconds is not None else 30


def _wider(a: int | None, b: int | None) -> int | None:
    """The wider of two CPU quotas; None where there is none to set."""
    return a if a is None or b is None else max(a, b)


def _field_path(pod: Pod, name: str) -> str:
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        if any(c.name == name for c in getattr(pod.spec, kind)):
            return f"spec.{kind}{{{name}}}"
    return ""


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
