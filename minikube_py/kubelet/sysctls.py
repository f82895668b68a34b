"""Which kernel parameters a pod may set: those that harm nobody else, and those that the administrator allows.

A parameter belongs to the pod's network or IPC namespace; a pod that shares that one with the machine may not set it.
"""

from __future__ import annotations

from collections.abc import Iterable

from minikube_py.meta import sysctls
from minikube_py.types.pod import Pod

SAFE = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)


def problem(pod: Pod, name: str, unsafe: Iterable[str]) -> str:
    """Why the pod may not set a parameter; empty when it may. `unsafe` are names, and prefixes that end in *."""
    name = sysctls.normal(name)
    allowed = name in SAFE or any(name.startswith(known[:-1]) if known.endswith("*") else name == known for known in unsafe)
    if not allowed:
        return f'"{name}" not allowlisted'
    namespace = sysctls.namespace(name)
    shared = pod.spec.hostNetwork if namespace == sysctls.NET else pod.spec.hostIPC
    return f'"{name}" not allowed with host {namespace} enabled' if shared else ""
