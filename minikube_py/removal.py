"""Takes a node off its machine: what `node` composes, ended in the reverse order, down to the last rule, link, mount and cgroup.

For the end of a cluster, not of a server: a server that stops leaves its pods running. Data (images, the log, keys) stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from minikube_py.cri.client import CriClient
from minikube_py.cri.containerd import Containerd, ContainerdOptions
from minikube_py.cri.teardown import remains, remove_sandboxes, stop_all
from minikube_py.dns import remove_addresses
from minikube_py.netfilter import Family, Netfilter, detect
from minikube_py.netfilter.variant import NoIptables
from minikube_py.network.node import SYSTEM_CNI_CONF, teardown

PODS_CGROUP = "/kubepods"


async def remove_node(data_dir: Path, cgroup_root: str = "", runtime_endpoint: str = "") -> None:
    """End every pod and the containerd of the node that keeps its data in `data_dir` (`<data-dir>/agent`). The server must have ended.

    With a `runtime_endpoint` its pods are removed too, and that runtime goes on. Idempotent. Raises CriError, TimeoutError or
    NetfilterError with what could not be removed.
    """
    if runtime_endpoint:
        async with CriClient(Path(runtime_endpoint.removeprefix("unix://"))) as client:
            await remove_sandboxes(client)
    try:
        variant = await detect()
    except NoIptables:
        variant = None
    containerd = Containerd(ContainerdOptions(data_dir=data_dir, iptables=variant.value if variant else ""))
    await stop_all(containerd, cgroup=cgroup_root + PODS_CGROUP, directories=(data_dir / "kubelet",))
    await remove_addresses()
    if variant is not None:
        cni_conf = SYSTEM_CNI_CONF if runtime_endpoint else containerd.layout.cni_conf
        await teardown(Netfilter(Family.IPV4, variant), cni_conf, data_dir / "cni")


def node_remains(data_dir: Path, cgroup_root: str = "") -> Sequence[str]:
    """What is still there of the node's pods and containerd, as texts. Blocking."""
    layout = ContainerdOptions(data_dir=data_dir).layout()
    return remains(layout, cgroup_root + PODS_CGROUP, (data_dir / "kubelet",))
