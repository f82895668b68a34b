"""The CNI configuration and the network's rules as values."""

from __future__ import annotations

import json
from pathlib import Path

from minikube_py.network.cni import conflist
from minikube_py.network.rules import pod_rules


def test_one_range_gives_one_bridge_and_host_ports() -> None:
    conf = json.loads(conflist(("10.42.0.0/24",), Path("/ipam"), "cni0", 1400))
    bridge, portmap = conf["plugins"]
    assert (bridge["type"], bridge["bridge"], bridge["mtu"], bridge["hairpinMode"]) == ("bridge", "cni0", 1400, True)
    assert bridge["ipam"] == {"type": "host-local", "dataDir": "/ipam", "ranges": [[{"subnet": "10.42.0.0/24"}]]}
    assert portmap["capabilities"] == {"portMappings": True}


def test_two_families_give_two_ranges() -> None:
    conf = json.loads(conflist(("10.42.0.0/24", "fd00:42::/64"), Path("/ipam"), "cni0", 0))
    assert [entry[0]["subnet"] for entry in conf["plugins"][0]["ipam"]["ranges"]] == ["10.42.0.0/24", "fd00:42::/64"]
    assert "mtu" not in conf["plugins"][0]


def test_rules_of_both_families_name_their_own_multicast() -> None:
    assert "224.0.0.0/4" in str(pod_rules("10.42.0.0/16", ipv6=False))
    assert "ff00::/8" in str(pod_rules("fd00:42::/56", ipv6=True))
