"""The pod network of one node: the CNI configuration that follows the node's pod CIDR, and what the kernel must be told for it to work.

`cni` and `rules` are pure: from ranges to the configuration's text and to the tables' rules. `links` speaks to the kernel. `node` is the
component that joins them: prepared once, then following the Node object. `overlay` is the way to other nodes' pods as a plan, `vxlan`
brings it into the kernel, `peers` is the component that follows the nodes.
"""

from minikube_py.network.node import NetworkOptions, PodNetwork
from minikube_py.network.peers import Overlay, OverlayOptions

__all__ = ["NetworkOptions", "Overlay", "OverlayOptions", "PodNetwork"]
