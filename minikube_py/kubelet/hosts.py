"""The /etc/hosts that the kubelet keeps for a pod. Pure: text out."""

from __future__ import annotations

from collections.abc import Sequence

from minikube_py.types.pod import HostAlias

_OWN = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def pod_hosts(ips: Sequence[str], name: str, domain: str, aliases: Sequence[HostAlias]) -> str:
    """The file of a pod with its own network."""
    short = name.partition(".")[0] if domain else name
    lines = [f"{ip}\t{short}.{domain}\t{short}\n" if domain else f"{ip}\t{short}\n" for ip in ips]
    return _OWN + "".join(lines) + _aliases(aliases)


def host_network_hosts(node_hosts: str, aliases: Sequence[HostAlias]) -> str:
    """The file of a pod on the node's network: the node's own, with the pod's aliases."""
    text = "# Kubernetes-managed hosts file (host network).\n" + node_hosts
    if not text.endswith("\n"):
        text += "\n"
    return text + _aliases(aliases)


def _aliases(aliases: Sequence[HostAlias]) -> str:
    if not aliases:
        return ""
    lines = [f"{alias.ip}\t" + "\t".join(alias.hostnames) + "\n" for alias in aliases]
    return "\n# Entries added by HostAliases.\n" + "".join(lines)
