"""Environment, downward API, DNS and hosts files: what a container is told of the world."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minikube_py.kubelet import dns, env, fields, hosts, keyfiles
from minikube_py.kubelet.env import EnvError, Sources
from minikube_py.kubelet.fields import Addresses
from minikube_py.kubelet.volumes import content
from minikube_py.types.core import ConfigMap, Secret
from minikube_py.types.meta import ObjectMeta
from minikube_py.types.network import Service, ServicePort, ServiceSpec
from minikube_py.types.pod import HostAlias, ResourceFieldSelector
from tests.kubelet.values import pod

VALUES = {"A": "a", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "a"),
        ("x$(A)$(A)y", "xaay"),
        ("$(NONE)", "$(NONE)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$a"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$", "$"),
        ("$(EMPTY)|", "|"),
        ("$(A$(A))", "$(A$(A))"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    assert env.expand(text, VALUES.get) == expanded


@given(st.text())
def test_expansion_of_nothing_changes_only_doubled_dollars(text: str) -> None:
    assume("$(" not in text)
    assert env.expand(text, lambda name: None) == text.replace("$$", "$")


def sources(**more: Any) -> Sources:
    maps = {"m": ConfigMap(metadata=ObjectMeta(name="m"), data={"k": "v", "OVER": "map"})}
    secrets = {"s": Secret(metadata=ObjectMeta(name="s"), data={"k": base64.b64encode(b"hidden").decode()})}
    values: dict[str, Any] = {
        "config_map": maps.get,
        "secret": secrets.get,
        "services": {"SVC_HOST": "10.43.0.5", "OVER": "service"},
        "addresses": Addresses(("10.0.0.5", "fd00::5"), ("192.0.2.1",)),
        "allocatable": {"cpu": "2", "memory": "4Gi"},
        **more,
    }
    return Sources(**values)


def build(container: dict[str, Any], **more: Any) -> dict[str, str]:
    of = pod(container, serviceAccountName="sa", nodeName="n")
    return env.build(of, of.spec.containers[0], sources(**more))


def test_later_and_nearer_values_win() -> None:
    made = build({"envFrom": [{"configMapRef": {"name": "m"}}], "env": [{"name": "k", "value": "own"}, {"name": "k", "value": "$(k)!"}]})
    assert made == {"SVC_HOST": "10.43.0.5", "OVER": "map", "k": "own!"}


def test_references() -> None:
    made = build(
        {
            "env": [
                {"name": "M", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
                {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
                {"name": "SA", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
                {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": True}}},
                {"name": "SVC", "value": "$(SVC_HOST)"},
            ]
        }
    )
    assert {k: made.get(k) for k in ("M", "S", "IPS", "HOST", "SA", "NONE", "SVC")} == {
        "M": "v", "S": "hidden", "IPS": "10.0.0.5,fd00::5", "HOST": "192.0.2.1", "SA": "sa", "NONE": None, "SVC": "10.43.0.5",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, 'configmap "none" not found'),
        ({"secretKeyRef": {"name": "s", "key": "none"}}, "couldn't find key none in Secret ns/s"),
        ({"configMapKeyRef": {"name": "m", "key": "none"}}, "couldn't find key none in ConfigMap ns/m"),
    ],
)
def test_what_is_missing_is_said(reference: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvError, match=f"^{message}$"):
        build({"env": [{"name": "X", "valueFrom": reference}]})


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("limits.cpu", "0", "1"), ("limits.cpu", "1m", "500"), ("requests.cpu", "1m", "250"), ("limits.memory", "1Mi", "64"),
        ("limits.memory", "0", str(64 << 20)), ("limits.memory", "1Gi", "1"),
    ],
)  # fmt: skip
def test_resource_fields_round_up(resource: str, divisor: str, value: str) -> None:
    of = pod({"resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}})
    ref = ResourceFieldSelector(resource=resource, divisor=divisor)
    assert fields.resource_value(of, of.spec.containers[0], ref, {}) == value


def test_a_missing_limit_is_what_the_node_has() -> None:
    of = pod({})
    ref = ResourceFieldSelector(resource="limits.memory", divisor="1Gi")
    assert fields.resource_value(of, of.spec.containers[0], ref, {"memory": "4Gi"}) == "4"


NODE = {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "7", "hugepages-2Mi": "8Mi"}


def test_in_variables_a_limit_that_a_container_does_not_set_is_the_pods() -> None:
    limits = {"cpu": "500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"}
    named = {
        "C": ("limits.cpu", "1m"),
        "M": ("limits.memory", "0"),
        "E": ("limits.ephemeral-storage", "0"),
        "H": ("limits.hugepages-2Mi", "0"),
    }
    refs = [{"name": n, "valueFrom": {"resourceFieldRef": {"resource": r, "divisor": by}}} for n, (r, by) in named.items()]
    container = {"resources": {"limits": {"cpu": "0"}}, "env": refs}
    of = pod(container, resources={"limits": limits})
    made = env.build(of, of.spec.containers[0], sources(allocatable=NODE))
    assert {name: made[name] for name in named} == {"C": "500", "M": str(64 << 20), "E": "7", "H": "0"}


def test_in_files_a_limit_that_a_container_does_not_set_is_the_nodes_and_huge_pages_are_none() -> None:
    refs = [{"path": r, "resourceFieldRef": {"containerName": "main", "resource": f"limits.{r}"}} for r in NODE]
    of = pod({}, resources={"limits": {"cpu": "1", "memory": "64Mi"}}, volumes=[{"name": "v", "downwardAPI": {"items": refs}}])
    found = content.files(of, of.spec.volumes[0], content.Sources(lambda name: None, lambda name: None, {}, Addresses(), NODE))
    assert {path: file.data for path, file in found.items()} == {
        "cpu": b"2", "memory": str(4 << 30).encode(), "ephemeral-storage": b"7", "hugepages-2Mi": b"0"
    }  # fmt: skip


def test_maps_are_written_sorted_and_quoted() -> None:
    assert fields.format_map({"b": 'x"\n', "a": "1"}) == 'a="1"\nb="x\\"\\n"'


def service(name: str, namespace: str = "ns", ip: str = "10.43.0.7") -> Service:
    ports = (ServicePort(port=80, name="http-main"), ServicePort(port=53, name="dns", protocol="UDP"))
    return Service(metadata=ObjectMeta(name=name, namespace=namespace), spec=ServiceSpec(clusterIP=ip, ports=ports))


def test_service_variables() -> None:
    all_ = [service("my-db"), service("other", "elsewhere"), service("headless", ip="None"), service("kubernetes", "default", "10.43.0.1")]
    made = env.service_variables(all_, "ns", True)
    assert made["MY_DB_SERVICE_HOST"] == "10.43.0.7" and made["MY_DB_SERVICE_PORT"] == "80"
    assert made["MY_DB_SERVICE_PORT_HTTP_MAIN"] == "80" and made["MY_DB_PORT"] == "tcp://10.43.0.7:80"
    assert made["MY_DB_PORT_53_UDP"] == "udp://10.43.0.7:53" and made["MY_DB_PORT_53_UDP_PROTO"] == "udp"
    assert made["KUBERNETES_SERVICE_HOST"] == "10.43.0.1"
    assert not any(name.startswith(("OTHER", "HEADLESS")) for name in made)
    assert {n.split("_")[0] for n in env.service_variables(all_, "ns", False)} == {"KUBERNETES"}


HOST = dns.parse("nameserver 192.0.2.53\nsearch lan example.org\noptions ndots:2\n# end\n")


def test_resolvers_by_policy() -> None:
    cluster = dns.pod_resolver(pod({}), HOST, ("10.43.0.10",), "cluster.local")
    assert cluster.servers == ("10.43.0.10",) and cluster.options == ("ndots:5",)
    assert cluster.searches == ("ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan", "example.org")
    assert dns.pod_resolver(pod({}, hostNetwork=True), HOST, ("10.43.0.10",), "cluster.local") == HOST
    with_net = pod({}, hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
    assert dns.pod_resolver(with_net, HOST, ("10.43.0.10",), "cluster.local") == cluster
    assert dns.pod_resolver(pod({}, dnsPolicy="Default"), HOST, ("10.43.0.10",), "cluster.local") == HOST
    own = {"nameservers": ["198.51.100.1"], "searches": ["mine"], "options": [{"name": "ndots", "value": "1"}, {"name": "edns0"}]}
    none = dns.pod_resolver(pod({}, dnsPolicy="None", dnsConfig=own), HOST, ("10.43.0.10",), "cluster.local")
    assert none == dns.Resolver(("198.51.100.1",), ("mine",), ("ndots:1", "edns0"))


def test_hostnames() -> None:
    assert dns.hostname(pod({}), "cluster.local") == ("p", "")
    assert dns.hostname(pod({}, hostname="h", subdomain="s"), "cluster.local") == ("h", "s.ns.svc.cluster.local")
    qualified = pod({}, hostname="h", subdomain="s", setHostnameAsFQDN=True)
    assert dns.hostname(qualified, "cluster.local").name == "h.s.ns.svc.cluster.local"
    with pytest.raises(dns.HostnameError, match="64 characters is the max"):
        dns.hostname(pod({}, hostname="h" * 60, subdomain="s", setHostnameAsFQDN=True), "cluster.local")


def test_hosts_files() -> None:
    text = hosts.pod_hosts(("10.0.0.5",), "h", "s.ns.svc.cluster.local", (HostAlias(ip="192.0.2.9", hostnames=("x", "y")),))
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert "10.0.0.5\th.s.ns.svc.cluster.local\th\n" in text and text.endswith("192.0.2.9\tx\ty\n")
    assert hosts.host_network_hosts("127.0.0.1 here\n", ()).endswith("(host network).\n127.0.0.1 here\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A='1'\nKEY='v'\nKEY='w'\n", "v"),
        ("# KEY='no'\n\n  KEY='two\nlines' # said\n", "two\nlines"),
        ("KEY= 'v'\nKEY='w'", ""),
        ("A='1'", ""),
        ("KEY=''", ""),
    ],
)
def test_key_files(text: str, value: str) -> None:
    assert env.key_of_file(text, "KEY") == value


@pytest.mark.parametrize("text", ["KEY", "KEY ='v'", "KEY=v", 'KEY="v"', "KEY=", "='v'", "KEY='v", "KEY='v' w"])
def test_what_is_no_key_file(text: str) -> None:
    with pytest.raises(ValueError, match=r"KEY|v"):
        env.key_of_file(text, "KEY")


def test_variables_from_files() -> None:
    def variable(path: str, key: str, **more: Any) -> dict[str, Any]:
        return {"env": [{"name": "X", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": path, "key": key, **more}}}]}

    files: dict[tuple[str, str], str | None] = {("v", "f"): "A='1'", ("v", "bad"): "A=1", ("v", "none"): None}
    assert build(variable("f", "A"), key_files=files)["X"] == "1"
    assert "X" not in build(variable("f", "B", optional=True), key_files=files)
    for path, key, said in (("f", "B", 'environment variable key "B" not found in file "f"'), ("bad", "A", "couldn't parse env file")):
        with pytest.raises(EnvError, match=said):
            build(variable(path, key), key_files=files)
    with pytest.raises(EnvError, match="couldn't parse env file"):
        build(variable("none", "A"), key_files=files)


def test_of_a_pipe_that_somebody_holds_open_nothing_is_read(tmp_path: Path) -> None:
    variable = {"name": "X", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "pipe", "key": "A"}}}
    os.mkfifo(tmp_path / "pipe")
    held = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        assert keyfiles.read(pod({"env": [variable]}).spec.containers[0], {"v": str(tmp_path)}) == {("v", "pipe"): None}
    finally:
        os.close(held)
