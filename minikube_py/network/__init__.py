"""The pod network of one node: the CNI configuration that follows the node's pod CIDR, and what the kernel must be told for it to work.

`cni` and `rules` are pure: from ranges to the configuration's text and to the tables' rules. `links` speaks to the kernel. `node` is the
component that joins them: prepared once, then following the Node object. An overlay between nodes is not here: one node needs none.
"""

from minikube_py.network.node import NetworkOptions, PodNetwork

__all__ = ["NetworkOptions", "PodNetwork"]
