"""Which pods a node takes."""

from __future__ import annotations

from typing import Any

import pytest

from minikube_py.kubelet.admission import Host, judge
from minikube_py.types.core import Taint
from tests.kubelet.values import pod

HOST = Host("n", {"cpu": "2", "memory": "1Gi", "pods": "3"}, {"zone": "a", "kubernetes.io/os": "linux"})


def other(uid: str, **resources: str) -> Any:
    return pod({"resources": {"requests": resources}, "ports": [{"containerPort": 80, "hostPort": 8080}]}, metadata={"uid": uid})


def test_what_fits_is_taken() -> None:
    assert judge(pod({"resources": {"requests": {"cpu": "1", "memory": "512Mi"}}}), [other("a", cpu="1", memory="512Mi")], HOST) is None
    assert judge(pod({"resources": {"requests": {"example.com/gpu": "1"}}}), [], HOST) is None  # the node does not know of it


@pytest.mark.parametrize(
    ("container", "spec", "reason", "message"),
    [
        (
            {"resources": {"requests": {"cpu": "1500m"}}},
            {},
            "OutOfcpu",
            "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000",
        ),
        ({"resources": {"requests": {"memory": "2Gi"}}}, {}, "OutOfmemory", "requested: 2147483648, used: 0, capacity: 1073741824"),
        ({}, {"nodeSelector": {"zone": "b"}}, "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity"),
        ({}, {"nodeName": "else"}, "NodeName", "Predicate NodeName failed"),
        ({"ports": [{"containerPort": 1, "hostPort": 8080}]}, {}, "NodePorts", "didn't have free ports for the requested pod ports"),
        ({}, {"os": {"name": "windows"}}, "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"),
        (
            {},
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
            "SysctlForbidden",
            'forbidden sysctl: "kernel.msgmax" not allowlisted',
        ),
        (
            {},
            {"hostNetwork": True, "securityContext": {"sysctls": [{"name": "net/ipv4/tcp_syncookies", "value": "1"}]}},
            "SysctlForbidden",
            'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled',
        ),
        (
            {},
            {"securityContext": {"supplementalGroupsPolicy": "Strict"}},
            "SupplementalGroupsPolicyNotSupported",
            "SupplementalGroupsPolicy=Strict is not supported in this node",
        ),
    ],
)
def test_what_does_not_is_refused_in_upstream_s_words(container: dict[str, Any], spec: dict[str, Any], reason: str, message: str) -> None:
    found = judge(pod(container, **spec), [other("a", cpu="1")], HOST)
    assert found is not None and found.reason == reason and message in found.message


def test_a_node_has_room_for_so_many_pods() -> None:
    found = judge(pod(), [other("a"), other("b"), other("c")], HOST)
    assert found is not None and found.reason == "OutOfpods"
    assert judge(pod(metadata={"uid": "c"}), [other("a"), other("b"), other("c")], HOST) is None


def test_a_taint_that_evicts_keeps_pods_out_but_those_of_the_node_s_own_manifests() -> None:
    tainted = HOST._replace(taints=(Taint(key="gone", effect="NoExecute"),))
    found = judge(pod(), [], tainted)
    assert found is not None and found.reason == "TaintToleration"
    assert judge(pod(tolerations=[{"operator": "Exists"}]), [], tainted) is None
    assert judge(pod(metadata={"annotations": {"kubernetes.io/config.source": "file"}}), [], tainted) is None


@pytest.mark.parametrize(
    ("name", "spec", "problem"),
    [
        ("net.core.somaxconn", {}, ""),
        ("net/core/somaxconn", {}, ""),
        ("net.core.somaxconn", {"hostNetwork": True}, "not allowed with host Net enabled"),
        ("kernel.msgmax", {}, ""),
        ("kernel.msgmax", {"hostIPC": True}, "not allowed with host IPC enabled"),
        ("net.core.rmem_max", {}, "not allowlisted"),
        ("net/ipv4/conf/eth0.100/rp_filter", {}, '"net.ipv4.conf.eth0/100.rp_filter" not allowlisted'),
    ],
)
def test_what_the_administrator_allows_beside_the_safe_sysctls(name: str, spec: dict[str, Any], problem: str) -> None:
    host = HOST._replace(unsafe_sysctls=("net.core.somaxconn", "kernel.msg*"))
    found = judge(pod({}, **spec, securityContext={"sysctls": [{"name": name, "value": "1"}]}), [], host)
    assert problem in found.message if found is not None else not problem
