"""kube-dns: names of services and their pods, answered on every node from informers: no pod has to be scheduled before names resolve.

zone.py computes what each name stands for and wire.py turns it into packets (both pure); server.py owns the sockets and a cache of whole
answers; forward.py asks the machine's own resolvers for everything else; component.py joins them.
Specification: https://github.com/kubernetes/dns/blob/master/docs/specification.md
"""

from minikube_py.dns.component import ClusterDns, DnsOptions, remove_addresses

__all__ = ["ClusterDns", "DnsOptions", "remove_addresses"]
