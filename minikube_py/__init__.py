"""minikube_py: Kubernetes in one Python process.

The package doc is the map. Components (apiserver, scheduler, controllers, kubelet, proxy, network, dns) are siblings that meet only
in the API; below them lies the machinery (client, control, resources, types, schema, meta); above them the two composition roots and
the command line. pyproject.toml holds the contracts that keep it so.
"""

__version__ = "0.1.0"
