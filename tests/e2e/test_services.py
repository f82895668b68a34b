"""Services and names on a real node: reached from pods, the node and outside, by TCP and UDP, and refused where nobody answers."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import pytest

from tests.e2e.objects import Object, pod, service, web
from tests.support.cluster import Cluster
from tests.support.command import Kubectl
from tests.support.images import WEB

pytestmark = pytest.mark.cluster


@pytest.fixture
def site(kubectl: Kubectl) -> Kubectl:
    """A Deployment of three pods behind the Service `site` (80 to 8080, and a node port), and the pod `client`."""
    kubectl.apply(web("site", 3), service("site", type="NodePort"), pod("client"))
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    kubectl.wait("condition=Ready", "pod/client")
    return kubectl


def names(kubectl: Kubectl, label: str = "app=site") -> set[str]:
    return set(kubectl("get", "pods", "-l", label, "-o", "jsonpath={.items[*].metadata.name}").split())


def inside(kubectl: Kubectl, script: str, client: str = "client") -> str:
    """A shell script's output in the client pod."""
    return kubectl("exec", client, "--", "sh", "-c", script)


def fetch(url: str, times: int = 1) -> str:
    """A shell script that gets a URL some times, with what went wrong."""
    return f"for i in $(seq {times}); do timeout 5 wget -qO- {url} 2>&1; done; true"


def on_node(cluster: Cluster, script: str) -> str:
    return cluster.on_node("busybox", "sh", "-c", script.replace("wget", "busybox wget")).stdout


def settled(read: object, wanted: set[str], timeout: float = 10.0) -> None:
    """Ask until an answer is as it should be; what changes in the API reaches the node a little later."""
    assert callable(read)
    deadline = time.monotonic() + timeout
    while (found := set(read().split("\n")) - {""}) != wanted:
        assert time.monotonic() < deadline, (found, wanted)
        time.sleep(0.1)


def test_a_cluster_ip_leads_to_every_pod(site: Kubectl, shared: Cluster) -> None:
    address = site.field(".spec.clusterIP", "service/site")
    assert address.startswith("10.43.")
    settled(lambda: inside(site, fetch(f"http://{address}/", 40)), names(site))
    settled(lambda: on_node(shared, fetch(f"http://{address}/", 40)), names(site))


def test_a_node_port_leads_to_every_pod_from_outside_and_from_the_node(site: Kubectl, shared: Cluster) -> None:
    port = site.field(".spec.ports[0].nodePort", "service/site")

    def outside() -> str:
        return "".join(urllib.request.urlopen(f"http://{shared.ip}:{port}/", timeout=5).read().decode() for _ in range(40))

    settled(outside, names(site))
    settled(lambda: on_node(shared, fetch(f"http://{shared.ip}:{port}/", 40)), names(site))
    settled(lambda: inside(site, fetch(f"http://{shared.ip}:{port}/", 40)), names(site))


def test_a_service_is_found_by_its_name(site: Kubectl) -> None:
    for name in ("site", f"site.{site.namespace}", f"site.{site.namespace}.svc", f"site.{site.namespace}.svc.cluster.local"):
        assert inside(site, fetch(f"http://{name}/")).strip() in names(site)
    assert "bad address" in inside(site, fetch("http://none/"))
    assert "bad address" in inside(site, fetch(f"http://none.{site.namespace}.svc.cluster.local/"))


def lookup(kubectl: Kubectl, kind: str, name: str) -> str:
    return kubectl.result("exec", "client", "--", "nslookup", f"-type={kind}", name).stdout


def test_records_of_a_service(site: Kubectl) -> None:
    address = site.field(".spec.clusterIP", "service/site")
    full = f"site.{site.namespace}.svc.cluster.local"
    assert f"Address: {address}" in lookup(site, "a", full)
    assert "0 100 80 " + full in lookup(site, "srv", f"_http._tcp.{full}").replace("\t", " ")
    reverse = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
    assert f"name = {full}" in lookup(site, "ptr", reverse)
    assert "NXDOMAIN" in lookup(site, "a", f"none.{site.namespace}.svc.cluster.local")
    assert f"Address: {address}" not in lookup(site, "aaaa", full)


def test_a_headless_service_names_its_pods(kubectl: Kubectl) -> None:
    members = [pod(f"member-{i}", labels={"app": "set"}, hostname=f"member-{i}", subdomain="set") for i in range(2)]
    kubectl.apply(*members, service("set", clusterIP="None"), pod("client"))
    kubectl.wait("condition=Ready", "pod/member-0", "pod/member-1", "pod/client")
    addresses = {kubectl.field(".status.podIP", f"pod/member-{i}") for i in range(2)}
    full = f"set.{kubectl.namespace}.svc.cluster.local"
    settled(lambda: inside(kubectl, f"nslookup -type=a {full} | grep -A1 Name: | grep Address | cut -d' ' -f2"), addresses)
    assert f"Address: {kubectl.field('.status.podIP', 'pod/member-1')}" in lookup(kubectl, "a", f"member-1.{full}")
    assert inside(kubectl, "hostname -f", "member-0") == f"member-0.{full}\n"
    assert f"member-0.{full}" in lookup(kubectl, "srv", f"_http._tcp.{full}")


def test_an_external_name(kubectl: Kubectl) -> None:
    kubectl.apply(pod("client"), service("away", type="ExternalName", externalName="example.invalid", selector=None))
    kubectl.wait("condition=Ready", "pod/client")
    assert "canonical name = example.invalid" in lookup(kubectl, "cname", f"away.{kubectl.namespace}.svc.cluster.local")


def refused(shown: str) -> bool:
    return "Connection refused" in shown


def test_a_service_without_pods_refuses_at_once(kubectl: Kubectl, shared: Cluster) -> None:
    kubectl.apply(pod("client"), service("empty", type="NodePort"))
    kubectl.wait("condition=Ready", "pod/client")
    address, port = kubectl.field(".spec.clusterIP", "service/empty"), kubectl.field(".spec.ports[0].nodePort", "service/empty")
    started = time.monotonic()
    assert refused(inside(kubectl, fetch(f"http://{address}/")))
    assert refused(on_node(shared, fetch(f"http://{address}/")))
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(f"http://{shared.ip}:{port}/", timeout=5)
    assert time.monotonic() - started < 4


def test_an_address_of_the_range_without_a_service_is_refused(kubectl: Kubectl, shared: Cluster) -> None:
    kubectl.apply(pod("client"))
    kubectl.wait("condition=Ready", "pod/client")
    started = time.monotonic()
    assert refused(inside(kubectl, fetch("http://10.43.222.222/")))
    assert refused(on_node(shared, fetch("http://10.43.222.222/")))
    assert "No route to host" in inside(kubectl, fetch("http://10.42.222.222/"))
    assert time.monotonic() - started < 4


def test_a_pod_reaches_itself_through_its_service(kubectl: Kubectl) -> None:
    kubectl.apply(web("site", 1), service("site"))
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    (name,) = names(kubectl)
    settled(lambda: inside(kubectl, fetch("http://site/", 5), name), {name})


def test_who_is_not_ready_gets_nothing(kubectl: Kubectl) -> None:
    switch = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}
    members = [pod(f"member-{i}", "/bin/serve", labels={"app": "set"}, readinessProbe=switch) for i in range(2)]
    kubectl.apply(*members, service("set"), pod("client"))
    kubectl.wait("condition=Ready", "pod/client")
    kubectl.until("Running", ".status.phase", "pod/member-0")
    kubectl.until("Running", ".status.phase", "pod/member-1")
    for name in ("member-0", "member-1"):
        inside(kubectl, "touch /tmp/ready", name)
    kubectl.wait("condition=Ready", "pod/member-0", "pod/member-1")
    settled(lambda: inside(kubectl, fetch("http://set/", 20)), {"member-0", "member-1"})
    inside(kubectl, "rm /tmp/ready", "member-0")
    kubectl.wait("condition=Ready=false", "pod/member-0")
    settled(lambda: inside(kubectl, fetch("http://set/", 20)), {"member-1"})
    kubectl("delete", "service", "set")
    assert "bad address" in inside(kubectl, fetch("http://set/"))


def test_affinity_keeps_a_client_with_its_pod(kubectl: Kubectl) -> None:
    kubectl.apply(web("site", 3), service("site", sessionAffinity="ClientIP"), pod("client"))
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    kubectl.wait("condition=Ready", "pod/client")
    settled(lambda: str(len(set(inside(kubectl, fetch("http://site/", 20)).split()))), {"1"})


def udp(name: str) -> Object:
    return pod(name, "udp", "serve", "5005", labels={"app": "udp"})


def ask(kubectl: Kubectl, address: str) -> str:
    """Send a datagram from always the same port: what is remembered of an earlier one must not lead this one astray."""
    return inside(kubectl, f"udp ask {address} 53 4321 2>/dev/null; true")


UDP = [{"name": "u", "port": 53, "targetPort": 5005, "protocol": "UDP"}]


def test_udp_and_a_backend_that_is_replaced(kubectl: Kubectl) -> None:
    kubectl.apply(udp("first"), service("talk", "udp", ports=UDP), pod("client"))
    kubectl.wait("condition=Ready", "pod/first", "pod/client")
    address = kubectl.field(".spec.clusterIP", "service/talk")
    settled(lambda: ask(kubectl, address), {"first"})
    kubectl.apply(udp("second"))
    kubectl.wait("condition=Ready", "pod/second")
    kubectl("delete", "pod", "first")
    settled(lambda: ask(kubectl, address), {"second"})


def test_udp_that_was_sent_before_there_was_a_backend(kubectl: Kubectl) -> None:
    kubectl.apply(service("talk", "udp", ports=UDP), pod("client"))
    kubectl.wait("condition=Ready", "pod/client")
    address = kubectl.field(".spec.clusterIP", "service/talk")
    assert ask(kubectl, address) == ""
    kubectl.apply(udp("first"))
    kubectl.wait("condition=Ready", "pod/first")
    settled(lambda: ask(kubectl, address), {"first"})


def test_the_api_is_a_service(kubectl: Kubectl, shared: Cluster) -> None:
    assert kubectl.inside("default").field(".spec.clusterIP", "service/kubernetes") == "10.43.0.1"
    certificates = str(shared.data / "server" / "tls")
    command = [str(kubectl.program), "--server=https://10.43.0.1", f"--certificate-authority={certificates}/server-ca.crt"]
    command += [f"--client-certificate={certificates}/client-admin.crt", f"--client-key={certificates}/client-admin.key"]
    assert shared.on_node(*command, "get", "--raw", "/readyz").stdout == "ok"
    address = json.loads(kubectl("get", "endpointslice", "-n", "default", "kubernetes", "-o", "json"))["endpoints"][0]["addresses"]
    assert address == [shared.ip]


def test_a_host_port(kubectl: Kubectl, shared: Cluster) -> None:
    kubectl.apply(pod("web", "/bin/serve", image=WEB, ports=[{"containerPort": 8080, "hostPort": 18080}]))
    kubectl.wait("condition=Ready", "pod/web")
    deadline = time.monotonic() + 10
    while True:
        try:
            assert urllib.request.urlopen(f"http://{shared.ip}:18080/", timeout=5).read() == b"web\n"
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
