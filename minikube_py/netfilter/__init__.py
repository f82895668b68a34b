"""netfilter: the one owner of this node's iptables tables, below both the service proxy and network policies.

Rules are computed elsewhere as a value (`Rules`), diffed against what was last applied (table.py, pure) and committed a table at a time
by iptables-restore (tables.py). variant.py decides once which of the two kernel interfaces, legacy or nft, this network namespace uses.
"""

from minikube_py.netfilter.table import Jump, Rules
from minikube_py.netfilter.tables import Netfilter, NetfilterError
from minikube_py.netfilter.variant import Family, Variant, detect

__all__ = ["Family", "Jump", "Netfilter", "NetfilterError", "Rules", "Variant", "detect"]
