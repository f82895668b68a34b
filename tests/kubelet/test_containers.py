"""The runtime's configuration of a pod, and what its cgroups are set to."""

from __future__ import annotations

from typing import Any

import pytest

from minikube_py.cri.v1 import api_pb2 as v1
from minikube_py.kubelet import containers, resources
from minikube_py.kubelet.containers import ConfigError, ImageUser, MountSpec, Node
from minikube_py.kubelet.dns import Hostname, Resolver
from minikube_py.kubelet.garbage import find
from minikube_py.kubelet.state import RunState, SandboxId, SandboxRecord
from minikube_py.types.pod import Pod
from tests.kubelet.values import container, pod, state

NODE = Node(memory_capacity=8 << 30, seccomp_root="/seccomp")


def config(of: Pod, user: ImageUser = ImageUser(uid=0), **more: Any) -> v1.ContainerConfig:  # noqa: B008 - a value
    values = {"image": "sha256:i", "image_user": user, "env": {}, "mounts": (), "node": NODE, **more}
    return containers.container_config(of, of.spec.containers[0], 2, **values)


def sandbox(of: Pod) -> v1.PodSandboxConfig:
    return containers.sandbox_config(
        of,
        1,
        hostname=Hostname("p", ""),
        resolver=Resolver(("10.0.0.10",)),
        log_directory="/l",
        cgroup_parent="/c",
        seccomp_root="/seccomp",
    )


def test_a_container_is_found_again_by_its_labels() -> None:
    made = config(pod({}, terminationGracePeriodSeconds=9))
    assert made.labels == {
        "io.kubernetes.container.name": "main",
        "io.kubernetes.pod.name": "p",
        "io.kubernetes.pod.namespace": "ns",
        "io.kubernetes.pod.uid": "u",
    }
    assert made.annotations["io.kubernetes.container.restartCount"] == "2"
    assert made.annotations["io.kubernetes.pod.terminationGracePeriod"] == "9"
    assert (made.metadata.attempt, made.log_path) == (2, "main/2.log")


def test_command_and_args_are_expanded() -> None:
    made = config(pod({"command": ["$(A)", "$$(A)"], "args": ["$(NONE)", "x$(A)"]}), env={"A": "1"})
    assert (list(made.command), list(made.args)) == (["1", "$(A)"], ["$(NONE)", "x1"])


def test_resources_of_a_container() -> None:
    made = config(pod({"resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "0.5", "memory": "64Mi"}}})).linux.resources
    assert (made.cpu_shares, made.cpu_quota, made.cpu_period, made.memory_limit_in_bytes) == (256, 50_000, 100_000, 64 << 20)


@pytest.mark.parametrize(
    ("amounts", "qos", "adjust"),
    [
        ({}, "BestEffort", 1000),
        ({"requests": {"memory": "2Gi"}}, "Burstable", 750),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed", -997),
    ],
)
def test_quality_of_service(amounts: dict[str, Any], qos: str, adjust: int) -> None:
    of = pod({"resources": amounts})
    assert resources.qos_class(of) == qos
    assert config(of).linux.resources.oom_score_adj == adjust
    kept = config(of, node=NODE._replace(restrict_oom_score_adj=True)).linux.resources.oom_score_adj
    assert kept == max(adjust, 0)


def test_the_pod_s_own_limits_are_its_containers_or_its_largest_init_step() -> None:
    def limits(memory: str) -> dict[str, Any]:
        return {"resources": {"limits": {"cpu": "100m", "memory": memory}, "requests": {"cpu": "100m", "memory": memory}}}

    of = pod({"name": "a", **limits("10Mi")}, {"name": "b", **limits("20Mi")}, initContainers=[{"name": "i", **limits("100Mi")}])
    made = resources.pod_limits(of)
    assert (made.memory, made.quota, made.shares) == (100 << 20, 20_000, 204)
    partly = pod({"name": "a", **limits("10Mi")}, {"name": "b"})
    assert resources.pod_limits(partly)[:3] == (102, None, None)


def test_who_it_runs_as() -> None:
    assert config(pod({}), ImageUser(uid=5)).linux.security_context.run_as_user.value == 5
    assert config(pod({}), ImageUser(name="app")).linux.security_context.run_as_username == "app"
    of = pod(
        {"securityContext": {"runAsUser": 7}}, securityContext={"runAsUser": 6, "runAsGroup": 8, "fsGroup": 9, "supplementalGroups": [10]}
    )
    made = config(of).linux.security_context
    assert (made.run_as_user.value, made.run_as_group.value, list(made.supplemental_groups)) == (7, 8, [10, 9])


def test_non_root_is_held_to() -> None:
    strict = {"runAsNonRoot": True}
    with pytest.raises(ConfigError, match=r"container has runAsNonRoot and image will run as root \(pod: \"p_ns\(u\)\", container: main\)"):
        config(pod({"securityContext": strict}))
    with pytest.raises(ConfigError, match="non-numeric user"):
        config(pod({"securityContext": strict}), ImageUser(name="app"))
    with pytest.raises(ConfigError, match="breaks non-root policy"):
        config(pod({"securityContext": {**strict, "runAsUser": 0}}), ImageUser(uid=1000))
    config(pod({"securityContext": strict}), ImageUser(uid=1000))


def test_the_security_context() -> None:
    own = {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
           "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}}  # fmt: skip
    made = config(pod({"securityContext": own})).linux.security_context
    assert (list(made.capabilities.add_capabilities), list(made.capabilities.drop_capabilities)) == (["NET_ADMIN"], ["ALL"])
    assert made.no_new_privs and made.readonly_rootfs and "/proc/kcore" in made.masked_paths
    assert made.seccomp.localhost_ref == "/seccomp/a.json"
    assert config(pod({})).linux.security_context.seccomp.profile_type == v1.SecurityProfile.Unconfined


def test_mounts() -> None:
    made = config(pod({}), mounts=[MountSpec("/a", "/host/a", True, "HostToContainer")]).mounts[0]
    assert (made.container_path, made.host_path, made.readonly) == ("/a", "/host/a", True)
    assert made.propagation == v1.PROPAGATION_HOST_TO_CONTAINER


def test_the_sandbox() -> None:
    of = pod(
        {"ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}], "securityContext": {"privileged": True}},
        securityContext={"sysctls": [{"name": "kernel/shm_rmid_forced", "value": "1"}]},
        shareProcessNamespace=True,
        metadata={"labels": {"app": "x"}},
    )
    made = sandbox(of)
    assert (made.hostname, made.log_directory, made.linux.cgroup_parent, made.metadata.attempt) == ("p", "/l", "/c", 1)
    assert made.labels["app"] == "x" and made.labels["io.kubernetes.pod.uid"] == "u"
    assert [(p.container_port, p.host_port) for p in made.port_mappings] == [(80, 8080)]
    assert made.linux.sysctls == {"kernel.shm_rmid_forced": "1"} and made.linux.security_context.privileged
    assert made.linux.security_context.namespace_options.pid == v1.POD


def test_a_sandbox_on_the_host_has_no_hostname() -> None:
    made = sandbox(pod({}, hostNetwork=True, hostPID=True, hostIPC=True))
    options = made.linux.security_context.namespace_options
    assert made.hostname == "" and (options.network, options.pid, options.ipc) == (v1.NODE, v1.NODE, v1.NODE)


def test_garbage_is_all_but_the_newest_two() -> None:
    of = pod({})
    dead = [container(of, state=RunState.EXITED, code=1, attempt=i, sandbox="old" if i < 2 else "s1") for i in range(4)]
    sandboxes = (SandboxRecord(id=SandboxId("s1"), ready=True, attempt=1), SandboxRecord(id=SandboxId("old"), ready=False))
    found = find(state(*dead, sandboxes=sandboxes))
    assert [c.attempt for c in found.containers] == [1, 0]
    assert [s.id for s in found.sandboxes] == ["old"]
    assert not find(state(*dead[:2], sandboxes=sandboxes)).containers


def test_on_v2_the_kernel_ends_whole_containers_and_none_may_swap() -> None:
    made = {
        (v2, swap): dict(config(pod({}), node=NODE._replace(cgroup_v2=v2, swap_limits=swap)).linux.resources.unified)
        for v2, swap in ((False, False), (True, False), (True, True))
    }
    assert made == {
        (False, False): {},
        (True, False): {"memory.oom.group": "1"},
        (True, True): {"memory.oom.group": "1", "memory.swap.max": "0"},
    }


def test_huge_pages_are_limited_by_size_and_none_are_for_whoever_names_none() -> None:
    node = NODE._replace(hugepage_sizes=(2 << 20, 1 << 30))

    def limits(of: Pod) -> dict[str, int]:
        return {limit.page_size: limit.limit for limit in config(of, node=node).linux.resources.hugepage_limits}

    assert limits(pod({})) == {"2MB": 0, "1GB": 0}
    own = pod({"resources": {"limits": {"hugepages-2Mi": "4Mi"}}}, resources={"limits": {"hugepages-2Mi": "8Mi", "hugepages-1Gi": "1Gi"}})
    assert limits(own) == {"2MB": 4 << 20, "1GB": 1 << 30}
    assert not config(own).linux.resources.hugepage_limits
