"""What a node's agent can be told beyond its name and address, as one frozen value: the same for a server's node and for an agent.

Flags are named like the kubelet's own, fields like KubeletConfiguration's.
"""

from __future__ import annotations

import msgspec

from minikube_py.meta import thresholds
from minikube_py.meta.thresholds import Threshold

VERIFICATION = ("NeverVerify", "NeverVerifyPreloadedImages", "AlwaysVerify")
"""When a pod has to show, by credentials of its own, that it may use an image that is already there (KEP-2535)."""

RESERVED = ("cpu", "memory", "ephemeral-storage", "pid")
"""What can be kept from pods."""


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times are in seconds, 0 is off; shares of the disk in percent."""

    eviction: tuple[Threshold, ...] = thresholds.parse(thresholds.DEFAULT_HARD)
    eviction_max_pod_grace_period: int = 0
    eviction_pressure_transition_period: float = 300.0
    image_gc_high_threshold: int = 85
    image_gc_low_threshold: int = 80
    minimum_image_ttl: float = 120.0
    image_maximum_gc_age: float = 0.0
    max_parallel_image_pulls: int = 3
    image_credential_verification: str = "NeverVerifyPreloadedImages"
    max_pods: int = 110
    pod_max_pids: int = -1
    """Processes and threads that one pod may have; -1 is the kernel's limit."""
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    """Kernel parameters that pods may set though others may feel it; a * at the end stands for anything."""
    kube_reserved: tuple[tuple[str, str], ...] = ()
    """Quantities of cpu, memory, ephemeral-storage and pid (processes) that pods never get, for the agent and the runtime."""
    system_reserved: tuple[tuple[str, str], ...] = ()
    """The same for the machine's other programs."""
    shutdown_grace_period: float = 0.0
    """How long a machine's shutdown waits for pods to end, as a whole."""
    shutdown_grace_period_critical_pods: float = 0.0
    """The last part of it, which critical pods have for themselves."""
