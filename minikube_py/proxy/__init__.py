"""kube-proxy: services and their endpoints as iptables rules.

model.py turns Services and EndpointSlices into plain values, rules.py turns those into chains (both pure), proxier.py follows the API and
commits, conntrack.py forgets flows whose endpoint went away. What goes to the service range and matches no Service is rejected on the node
from the first moment on.
"""

from minikube_py.proxy.proxier import Proxier, ProxyOptions

__all__ = ["Proxier", "ProxyOptions"]
