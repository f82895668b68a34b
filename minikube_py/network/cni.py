"""The CNI configuration of a node as a function of its pod CIDRs. Pure.

A bridge that is every pod's gateway, addresses by host-local, host ports by portmap. The plugins masquerade nothing: one rule for the whole
range does that (see `rules`), where theirs would run iptables several times for every pod.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

NETWORK: Final = "minikube-py"
FILE_NAME: Final = "10-minikube-py.conflist"
# The oldest plugins that are still shipped (0.9, Ubuntu 22.04) know versions up to this one.
_CNI_VERSION: Final = "0.4.0"


def conflist(pod_cidrs: Sequence[str], ipam_dir: Path, bridge: str, mtu: int) -> str:
    """The configuration list's text. `ipam_dir` is where host-local remembers its leases; `mtu` 0 leaves it to the kernel."""
    networks = [ipaddress.ip_network(cidr) for cidr in pod_cidrs]
    bridging: dict[str, Any] = {
        "type": "bridge",
        "bridge": bridge,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "dataDir": str(ipam_dir),
            "ranges": [[{"subnet": str(network)}] for network in networks],
        },
    }
    if mtu:
        bridging["mtu"] = mtu
    ports = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return json.dumps({"cniVersion": _CNI_VERSION, "name": NETWORK, "plugins": [bridging, ports]}, indent=2) + "\n"
