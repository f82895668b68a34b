"""What the node's status tells of its images, and of resources that the kubelet knows nothing of."""

from __future__ import annotations

from minikube_py.kubelet.nodestatus import Image, foreign, shown_images
from minikube_py.types.core import Node, NodeStatus


def test_what_others_add_to_the_capacity_can_be_allocated_until_it_goes() -> None:
    assert foreign(None) == {}
    offered = Node(status=NodeStatus(capacity={"cpu": "4", "example.com/dongle": "4"}, allocatable={"cpu": "3"}))
    assert foreign(offered) == {"example.com/dongle": "4"}
    gone = Node(status=NodeStatus(capacity={"cpu": "4"}, allocatable={"cpu": "3", "example.com/dongle": "4"}))
    assert foreign(gone) == {"example.com/dongle": None}


def test_images_are_shown_in_one_order_however_the_runtime_lists_them() -> None:
    images = [Image("a", ("small",), 1), Image("b", ("twin",), 5), Image("c", ("other twin",), 5)]
    shown = shown_images(images)
    assert [image["names"] for image in shown] == [["other twin"], ["twin"], ["small"]]
    assert shown_images(reversed(images)) == shown


def test_the_largest_images_are_shown_with_a_few_names() -> None:
    shown = shown_images(Image(f"{size}", [f"{size}:{tag}" for tag in range(9)], size) for size in range(60))
    assert [image["sizeBytes"] for image in shown] == list(range(59, 9, -1))
    assert shown[0]["names"] == ["59:0", "59:1", "59:2", "59:3", "59:4"]
