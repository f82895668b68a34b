"""Whether the node takes a pod, or a resize of one: the kubelet's admission (pkg/kubelet/lifecycle and sysctl). Pure.

The scheduler has judged most of this before; a pod that was bound otherwise, or raced with another, is judged here, and fails for good when
it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from minikube_py.kubelet import resources, sysctls
from minikube_py.meta import quantity
from minikube_py.types import nodeaffinity
from minikube_py.types.core import Taint
from minikube_py.types.pod import Pod, Toleration

_COUNTED = ("cpu", "memory", "ephemeral-storage")


class Rejection(NamedTuple):
    """Why a pod is not taken."""

    reason: str
    message: str


Handler = Callable[[Pod], Rejection | None]
"""Says why the node does not take a pod; None where it has nothing against it (upstream's lifecycle.PodAdmitHandler)."""


class Host(NamedTuple):
    """What of the node counts."""

    name: str
    allocatable: Mapping[str, str | int | float]
    labels: Mapping[str, str] = {}
    taints: Sequence[Taint] = ()
    strict_groups: bool = False
    """Whether the runtime knows supplementalGroupsPolicy."""
    unsafe_sysctls: Sequence[str] = ()
    """What pods may set beside the safe ones."""


def is_static(pod: Pod) -> bool:
    """Whether the pod comes from a manifest on the node."""
    return pod.metadata.annotations.get("kubernetes.io/config.source", "api") != "api"


def judge(pod: Pod, others: Iterable[Pod], host: Host) -> Rejection | None:
    """Why the node does not take the pod beside the others (each as allocated); None when it does."""
    for sysctl in pod.spec.securityContext.sysctls:
        if found := sysctls.problem(pod, sysctl.name, host.unsafe_sysctls):
            return Rejection("SysctlForbidden", f"forbidden sysctl: {found}")
    if pod.metadata.labels.get("kubernetes.io/os", "linux") != "linux":
        return Rejection(
            "PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
        )
    if pod.spec.os is not None and pod.spec.os.name != "linux":
        return Rejection("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    if pod.spec.securityContext.supplementalGroupsPolicy == "Strict" and not host.strict_groups:
        return Rejection("SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node")
    running = tuple(other for other in others if other.metadata.uid != pod.metadata.uid)
    return _room(pod, running, host) or _fits(pod, running, host)


def _room(pod: Pod, running: Sequence[Pod], host: Host) -> Rejection | None:
    most = quantity.parse(host.allocatable.get("pods", "0")).value()
    if len(running) + 1 > most:
        return Rejection("OutOfpods", _short("pods", 1, len(running), most))
    asked = {name for c in (*pod.spec.containers, *pod.spec.initContainers) for name in resources.requests_of(c)}
    whole = resources.pod_level(pod)
    asked |= set(whole.requests if whole is not None else ()) | set(pod.spec.overhead)
    # what the node does not have at all is the cluster's, or nobody's: the scheduler's affair
    for name in sorted(asked, key=lambda n: (_COUNTED.index(n) if n in _COUNTED else len(_COUNTED), n)):
        if name not in host.allocatable or not (wanted := resources.requested(pod, name)):
            continue
        there = quantity.parse(host.allocatable[name])
        capacity = there.milli() if name == "cpu" else there.value()
        used = sum(resources.requested(other, name) for other in running)
        if wanted + used > capacity:
            return Rejection(f"OutOf{name}", _short(name, wanted, used, capacity))
    return None


def _short(name: str, wanted: int, used: int, capacity: int) -> str:
    return f"Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"


def _fits(pod: Pod, running: Sequence[Pod], host: Host) -> Rejection | None:
    if not nodeaffinity.fits(pod.spec, host.labels, host.name):
        return _failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
    if pod.spec.nodeName and pod.spec.nodeName != host.name:
        return _failed("NodeName", "node(s) didn't match the requested node name")
    taken = {port for other in running for port in _host_ports(other)}
    if any(_clash(port, other) for port in _host_ports(pod) for other in taken):
        return _failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    if not is_static(pod):
        for taint in host.taints:
            if taint.effect == "NoExecute" and not any(_tolerates(t, taint) for t in pod.spec.tolerations):
                return _failed("TaintToleration", "node(s) had taints that the pod didn't tolerate")
    return None


def _failed(name: str, why: str) -> Rejection:
    return Rejection(name, f"Predicate {name} failed: {why}")


def _host_ports(pod: Pod) -> set[tuple[str, str, int]]:
    lasting = (*pod.spec.containers, *(c for c in pod.spec.initContainers if resources.is_sidecar(c)))
    return {(p.hostIP or "0.0.0.0", p.protocol, p.hostPort) for c in lasting for p in c.ports if p.hostPort}


def _clash(a: tuple[str, str, int], b: tuple[str, str, int]) -> bool:
    everywhere = "0.0.0.0"
    return a[1:] == b[1:] and (a[0] == b[0] or everywhere in (a[0], b[0]))


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    return toleration.operator == "Exists" or (bool(toleration.key) and (toleration.value or "") == (taint.value or ""))
