"""What every node must know of its cluster, as the server publishes it: the config map kube-system/minikube-py-cluster, readable by nodes.

An agent is told nothing of this on its command line, so that a node cannot disagree with the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

NAMESPACE = "kube-system"
NAME = "minikube-py-cluster"


class InvalidSettings(ValueError):
    """The config map lacks something; the message says what."""


class ClusterSettings(NamedTuple):
    """`disabled` are the node's components that the cluster does without, `client_ca` (PEM) says whose certificates kubelets accept.

    `node_lease_duration` is in seconds: as long as a node may be silent has to fit how often it says something.
    """

    cluster_cidr: str
    service_cidr: str
    cluster_dns: str
    cluster_domain: str
    overlay: str
    client_ca: str
    node_lease_duration: str = "40"
    disabled: frozenset[str] = frozenset()

    def to_data(self) -> dict[str, str]:
        """As a config map's data."""
        values = self._asdict() | {"disabled": ",".join(sorted(self.disabled))}
        return {name.replace("_", "-"): str(value) for name, value in values.items()}


def from_data(data: Mapping[str, str]) -> ClusterSettings:
    """From a config map's data. Raises InvalidSettings."""
    values = {name: data.get(name.replace("_", "-")) for name in ClusterSettings._fields}
    missing = [name.replace("_", "-") for name, value in values.items() if value is None]
    if missing:
        raise InvalidSettings(f"the cluster's settings lack {', '.join(missing)}: the server is of another version")
    disabled = frozenset(name for name in (values.pop("disabled") or "").split(",") if name)
    return ClusterSettings(**{name: value or "" for name, value in values.items()}, disabled=disabled)
