"""The tables' rules that the pod network needs besides the service proxy's. Pure.

Pods reach the world under the node's address, and one another under their own; whatever the machine's policy for forwarded packets is, it
lets the pods' through.
"""

from __future__ import annotations

from typing import Final

from minikube_py.netfilter import Jump, Rules

OWNER: Final = "network"
_MULTICAST: Final = {False: "224.0.0.0/4", True: "ff00::/8"}


def pod_rules(cluster_cidr: str, ipv6: bool) -> Rules:
    """The rules for one address family; `cluster_cidr` is the range of all nodes' pods."""
    return Rules(
        {
            ("nat", "MKPY-MASQUERADE"): (
                f'-d {cluster_cidr} -m comment --comment "pods meet under their own addresses" -j RETURN',
                f"-d {_MULTICAST[ipv6]} -j RETURN",
                "-j MASQUERADE --random-fully",
            ),
            ("filter", "MKPY-FORWARD"): (f"-s {cluster_cidr} -j ACCEPT", f"-d {cluster_cidr} -j ACCEPT"),
        },
        (
            Jump("nat", "POSTROUTING", f'-s {cluster_cidr} -m comment --comment "pods leave the node" -j MKPY-MASQUERADE', first=False),
            Jump("filter", "FORWARD", '-m comment --comment "pods may talk" -j MKPY-FORWARD', first=False),
        ),
    )
