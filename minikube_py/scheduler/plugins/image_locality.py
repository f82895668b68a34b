"""A node that has a pod's images already is better, the more so the larger they are and the more nodes have them."""

from __future__ import annotations

from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.podinfo import PodInfo

_MEBIBYTE = 1024 * 1024
_LEAST = 23 * _MEBIBYTE
_MOST = 1000 * _MEBIBYTE
"""Images that are smaller count nothing, larger ones no more than this, each."""


class ImageLocality:
    """Score on the images that a node reports."""

    name = "ImageLocality"
    weight = 1
    normalize = ""
    tainted_nodes_only = False

    def ranks(self, pod: PodInfo) -> bool:
        return True

    def score(self, pod: PodInfo, node: NodeInfo) -> int:
        images = node.images
        if not images:
            return 0
        total = sum(image.weight for name in pod.images if (image := images.get(name)) is not None)
        spec = pod.pod.spec
        most = _MOST * (len(spec.initContainers) + len(spec.containers))
        return 100 * (min(max(total, _LEAST), most) - _LEAST) // (most - _LEAST)
