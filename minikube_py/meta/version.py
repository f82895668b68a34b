"""The Kubernetes version that this program conforms to, as /version and node status tell it."""

from __future__ import annotations

import platform

from minikube_py import __version__

KUBERNETES_MAJOR, KUBERNETES_MINOR = "1", "36"
KUBERNETES_VERSION = f"v{KUBERNETES_MAJOR}.{KUBERNETES_MINOR}.3+mkpy{__version__}"

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def architecture() -> str:
    """The machine's architecture by Go's name, as kubernetes.io/arch carries it."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)
