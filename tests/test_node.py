"""What a node refuses to start with, before it has touched anything."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from minikube_py.aio import Supervisor
from minikube_py.node import Node, NodeOptions, NodeStartError
from minikube_py.nodesettings import NodeSettings

GOOD: dict[str, Any] = {
    "data_dir": Path("/nonexistent"),
    "name": "thing",
    "ip": "127.0.0.1",
    "labels": {},
    "taints": (),
    "cluster_cidr": "10.42.0.0/16",
    "service_cidr": "10.43.0.0/16",
    "cluster_dns": "10.43.0.10",
    "cluster_domain": "cluster.local",
}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "bad_name"}, "--node-name bad_name: a node's name consists of lower-case letters"),
        ({"ip": "192.0.2.200"}, "--node-ip 192.0.2.200 is none of this machine's addresses"),
        ({"ip": "2001:db8::1"}, "--node-ip 2001:db8::1 is none of this machine's addresses"),
        ({"labels": {"a": "b c"}}, "--node-label a=b c: a valid label must"),
        ({"taints": (("a b", "c", "NoSchedule"),)}, "--node-taint a b=c: name part must consist of"),
    ],
)
async def test_what_the_api_server_would_refuse_for_ever_ends_the_start(wrong: dict[str, Any], words: str) -> None:
    nobody: Any = None
    async with AsyncExitStack() as stack:
        with pytest.raises(NodeStartError) as caught:
            await Node(NodeOptions(**{**GOOD, **wrong}), nobody, nobody, nobody).start(Supervisor(), stack)
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)


def test_what_a_node_is_told_reaches_its_kubelet() -> None:
    nobody: Any = None
    settings = NodeSettings(max_pods=5, pod_max_pids=7)
    assert Node(NodeOptions(**GOOD, settings=settings), nobody, nobody, nobody)._kubelet_options().settings is settings
