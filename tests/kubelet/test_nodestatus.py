"""What the node's status tells of resources that the kubelet knows nothing of."""

from __future__ import annotations

from minikube_py.kubelet.nodestatus import foreign
from minikube_py.types.core import Node, NodeStatus


def test_what_others_add_to_the_capacity_can_be_allocated_until_it_goes() -> None:
    assert foreign(None) == {}
    offered = Node(status=NodeStatus(capacity={"cpu": "4", "example.com/dongle": "4"}, allocatable={"cpu": "3"}))
    assert foreign(offered) == {"example.com/dongle": "4"}
    gone = Node(status=NodeStatus(capacity={"cpu": "4"}, allocatable={"cpu": "3", "example.com/dongle": "4"}))
    assert foreign(gone) == {"example.com/dongle": None}
