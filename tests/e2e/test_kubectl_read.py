"""kubectl's reading commands on a real cluster: what they print, for 1.36 and for an older one."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from tests.e2e.objects import config_map, pod, service, web
from tests.support.cluster import Cluster
from tests.support.command import Kubectl

pytestmark = pytest.mark.cluster


def rows(table: str) -> list[list[str]]:
    """The cells of a table, columns told apart by two spaces or more."""
    return [re.split(r"\s{2,}", line.strip()) for line in table.strip().splitlines()]


def test_get_pods_has_upstreams_columns(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(pod("web"))
    kubectl.wait("condition=Ready", "pod/web")
    header, row = rows(kubectl("get", "pods"))
    assert header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row[:4] == ["web", "1/1", "Running", "0"]
    header, row = rows(kubectl("get", "pods", "-o", "wide"))
    assert header[5:] == ["IP", "NODE", "NOMINATED NODE", "READINESS GATES"]
    assert row[5].startswith("10.42.0.") and row[6] == kubectl.field(".spec.nodeName", "pod/web") and row[7:] == ["<none>", "<none>"]
    assert rows(kubectl("get", "pod", "web", "--show-labels"))[1][-1] == "app=web"
    assert rows(kubectl("get", "pod", "-L", "app"))[0][-1] == "APP"
    assert kubectl("get", "pods", "--no-headers").startswith("web ")
    assert kubectl("get", "pods", "-o", "name") == "pod/web\n"


def test_get_prints_yaml_json_and_fields(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(config_map("a", key="1"), config_map("b", key="2"))
    found = yaml.safe_load(kubectl("get", "configmap", "a", "-o", "yaml"))
    assert (found["apiVersion"], found["kind"], found["data"]) == ("v1", "ConfigMap", {"key": "1"})
    assert "managedFields" not in found["metadata"]
    shown = yaml.safe_load(kubectl("get", "configmap", "a", "-o", "yaml", "--show-managed-fields"))
    assert shown["metadata"]["managedFields"][0]["manager"] == "kubectl-client-side-apply"
    names = [item["metadata"]["name"] for item in json.loads(kubectl("get", "configmaps", "a", "b", "-o", "json"))["items"]]
    assert names == ["a", "b"]
    assert kubectl("get", "cm", "a", "b", "-o", "jsonpath={range .items[*]}{.metadata.name}={.data.key};{end}") == "a=1;b=2;"
    table = rows(kubectl("get", "cm", "a", "b", "-o", "custom-columns=NAME:.metadata.name,KEY:.data.key"))
    assert table == [["NAME", "KEY"], ["a", "1"], ["b", "2"]]
    assert kubectl("get", "cm", "a", "-o", "go-template={{.data.key}}") == "1"


def test_get_selects_and_sorts(kubectl: Kubectl) -> None:
    for name, tier in (("c", "front"), ("a", "front"), ("b", "back")):
        kubectl.apply({**config_map(name), "metadata": {"name": name, "labels": {"tier": tier}}})
    assert kubectl("get", "cm", "-l", "tier=front", "-o", "name").split() == ["configmap/a", "configmap/c"]
    assert kubectl("get", "cm", "-l", "tier notin (front),tier", "-o", "name").split() == ["configmap/b"]
    assert kubectl("get", "cm", "--field-selector", "metadata.name=b", "-o", "name").split() == ["configmap/b"]
    ordered = kubectl("get", "cm", "-l", "tier", "--sort-by=.metadata.labels.tier", "-o", "name").split()
    assert ordered[0] == "configmap/b"
    assert kubectl("get", "cm", "--chunk-size=1", "-l", "tier", "-o", "name").split() == ["configmap/a", "configmap/b", "configmap/c"]


def test_get_of_all_namespaces_and_of_all_kinds(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(web("site"), service("site"))
    table = rows(kubectl("get", "services", "-A"))
    assert table[0] == ["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert ["default", "kubernetes", "ClusterIP", "10.43.0.1", "<none>", "443/TCP"] in [row[:6] for row in table]
    assert [kubectl.namespace, "site"] in [row[:2] for row in table]
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    everything = kubectl("get", "all")
    for kind in ("pod/site-", "service/site ", "deployment.apps/site ", "replicaset.apps/site-"):
        assert kind in everything
    row = next(r for r in rows(kubectl("get", "deployments", "-o", "wide")) if r[0] == "site")
    assert row[1:4] == ["1/1", "1", "1"] and row[5:] == ["web", "docker.io/library/web:test", "app=site"]


def test_get_says_what_is_not_there(each_kubectl: Kubectl) -> None:
    assert 'pods "none" not found' in each_kubectl.fails("get", "pod", "none")
    assert 'the server doesn\'t have a resource type "nonsense"' in each_kubectl.fails("get", "nonsense")
    done = each_kubectl.result("get", "pods")
    assert done.returncode == 0 and f"No resources found in {each_kubectl.namespace} namespace." in done.stderr


def test_get_watches(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(pod("web"))
    kubectl.wait("condition=Ready", "pod/web")
    with kubectl.running("get", "pods", "-w", "--output-watch-events") as watch:
        watch.shows("ADDED")
        kubectl("label", "pod", "web", "seen=yes")
        watch.shows("MODIFIED")
        kubectl("delete", "pod", "web", "--now")
        assert re.search(r"DELETED\s+web ", watch.shows("DELETED"))


def test_a_watch_of_one_object_shows_its_phases(kubectl: Kubectl) -> None:
    with kubectl.running("get", "pods", "-w", "-o", "jsonpath={.metadata.name}:{.status.phase}{'\\n'}") as watch:
        kubectl.apply(pod("job", "true", restartPolicy="Never"))
        shown = watch.shows("job:Succeeded")
    assert shown.index("job:Pending") < shown.index("job:Succeeded")


def test_get_raw(each_kubectl: Kubectl) -> None:
    assert each_kubectl("get", "--raw", "/readyz") == "ok"
    assert json.loads(each_kubectl("get", "--raw", f"/api/v1/namespaces/{each_kubectl.namespace}"))["kind"] == "Namespace"
    assert "apiserver_request_total{" in each_kubectl("get", "--raw", "/metrics")
    assert "the server could not find the requested resource" in each_kubectl.fails("get", "--raw", "/api/v1/nonsense")


def test_describe_a_pod_tells_its_story(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(config_map("settings", colour="red"))
    env = [{"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}}]
    kubectl.apply(pod("web", env=env, resources={"limits": {"memory": "32Mi", "cpu": "100m"}}))
    kubectl.wait("condition=Ready", "pod/web")
    text = kubectl("describe", "pod", "web")
    for line in (
        r"Name: +web", r"Namespace: +" + kubectl.namespace, r"Priority: +0", r"Service Account: +default", r"Labels: +app=web",
        r"Status: +Running", r"IP: +10\.42\.0\.", r"  main:", r"    Container ID: +containerd://[0-9a-f]{64}",
        r"    Image: +docker\.io/library/busybox:test", r"    State: +Running", r"    Ready: +True", r"    Restart Count: +0",
        r"      memory: +32Mi", r"COLOUR: +<set to the key 'colour' of config map 'settings'>", r"  Ready +True",
        r"QoS Class: +Guaranteed", r"Node-Selectors: +<none>", r"Tolerations: +node\.kubernetes\.io/not-ready:NoExecute op=Exists for 300s",
    ):  # fmt: skip
        assert re.search(f"^ *{line}", text, re.MULTILINE), f"{line} is not in {text}"
    for reason, source in (("Scheduled", "default-scheduler"), ("Pulled", "kubelet"), ("Created", "kubelet"), ("Started", "kubelet")):
        assert re.search(rf"Normal +{reason} +\S+ +{source}", text), text


def test_describe_of_other_kinds(each_kubectl: Kubectl, shared: Cluster) -> None:
    kubectl = each_kubectl
    kubectl.apply(web("site", 2), service("site"))
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    text = kubectl("describe", "deployment", "site")
    assert re.search(r"Replicas: +2 desired \| 2 updated \| 2 total \| 2 available \| 0 unavailable", text), text
    assert "RollingUpdateStrategy:  25% max unavailable, 25% max surge" in text
    assert re.search(r"ScalingReplicaSet +\S+ +deployment-controller +Scaled up replica set site-\S+ from 0 to 2", text), text
    text = kubectl("describe", "service", "site")
    assert len(re.findall(r"10\.42\.0\.\d+:8080", re.search(r"Endpoints:.*", text)[0])) == 2, text  # type: ignore[index]
    text = kubectl("describe", "node", shared.node_name)
    for part in (
        "Allocatable:",
        "Container Runtime Version:",
        "KubeletReady",
        "Non-terminated Pods:",
        "Allocated resources:",
        f"{kubectl.namespace}",
    ):
        assert part.lower() in text.lower(), text
    assert re.search(r"Status: +Active", kubectl("describe", "namespace", kubectl.namespace))


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("pods", ("KIND:       Pod", "VERSION:    v1", "FIELDS:", "spec\t<PodSpec>")),
        ("deployment.spec.strategy.type", ("FIELD: type <string>", "Type of deployment.")),
        ("pods.spec.containers.image", ("FIELD: image <string>", "Container image name")),
        ("horizontalpodautoscalers", ("GROUP:      autoscaling", "VERSION:    v2")),
    ],
)
def test_explain(each_kubectl: Kubectl, path: str, parts: tuple[str, ...]) -> None:
    text = each_kubectl("explain", path)
    for part in parts:
        assert part in text, text


def test_explain_goes_down(kubectl: Kubectl) -> None:
    text = kubectl("explain", "service", "--recursive")
    assert "    ports\t<[]ServicePort>\n      appProtocol\t<string>" in text
    assert 'field "nonsense" does not exist' in kubectl.fails("explain", "pod.nonsense")


def test_api_resources(each_kubectl: Kubectl) -> None:
    table = [line.split() for line in each_kubectl("api-resources").splitlines()]
    assert table[0] == ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"]
    for row in ("pods po v1 true Pod", "deployments deploy apps/v1 true Deployment", "nodes no v1 false Node",
                "networkpolicies netpol networking.k8s.io/v1 true NetworkPolicy", "storageclasses sc storage.k8s.io/v1 false StorageClass",
                "events ev v1 true Event", "leases coordination.k8s.io/v1 true Lease"):  # fmt: skip
        assert row.split() in table, row
    assert "pods" not in each_kubectl("api-resources", "--namespaced=false", "-o", "name").split()
    assert set(each_kubectl("api-resources", "--api-group=batch", "-o", "name").split()) == {"cronjobs.batch", "jobs.batch"}
    assert "create,delete,deletecollection,get,list,patch,update,watch" in each_kubectl("api-resources", "-o", "wide")


def test_api_versions(each_kubectl: Kubectl) -> None:
    found = each_kubectl("api-versions").split()
    assert {"v1", "apps/v1", "batch/v1", "autoscaling/v1", "autoscaling/v2", "rbac.authorization.k8s.io/v1", "policy/v1"} <= set(found)
    assert not {"apps/v1beta1", "extensions/v1beta1"} & set(found)


def test_events(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(pod("web"), pod("other"))
    kubectl.wait("condition=Ready", "pod/web", "pod/other")
    table = rows(kubectl("events"))
    assert table[0] == ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert {"Scheduled", "Pulled", "Created", "Started"} <= {row[2] for row in table}
    assert {row[3] for row in rows(kubectl("events", "--for", "pod/web"))[1:]} == {"Pod/web"}
    listed = kubectl("get", "events", "--field-selector", "involvedObject.name=other,reason=Started", "-o", "jsonpath={.items[*].message}")
    assert listed.startswith("Container started") or "Started container main" in listed


def test_cluster_info_and_version(each_kubectl: Kubectl, shared: Cluster) -> None:
    assert f"Kubernetes control plane is running at {shared.url}" in re.sub(r"\x1b\[[0-9;]*m", "", each_kubectl("cluster-info"))
    versions = json.loads(each_kubectl("version", "-o", "json"))
    assert (versions["serverVersion"]["major"], versions["serverVersion"]["minor"]) == ("1", "36")
    assert re.fullmatch(r"v1\.36\.\d+\+mkpy.*", versions["serverVersion"]["gitVersion"])


def test_nodes(each_kubectl: Kubectl, shared: Cluster) -> None:
    row = rows(each_kubectl("get", "nodes", "-o", "wide"))[1]
    assert row[:3] == [shared.node_name, "Ready", "<none>"] and shared.ip in row
    assert any(cell.startswith("containerd://") for cell in row)
    assert each_kubectl("get", "lease", "-n", "kube-node-lease", "-o", "name").split() == [f"lease.coordination.k8s.io/{shared.node_name}"]


def test_component_statuses(each_kubectl: Kubectl) -> None:
    done = each_kubectl.result("get", "componentstatuses")
    assert "v1 ComponentStatus is deprecated in v1.19+" in done.stderr
    assert [row[:3] for row in rows(done.stdout)[1:]] == [[name, "Healthy", "ok"] for name in ("controller-manager", "etcd-0", "scheduler")]
    assert each_kubectl.field(".conditions[0].status", "cs/scheduler") == "True"
    assert 'componentstatuses "none" not found' in each_kubectl.fails("get", "cs", "none")


def test_every_kind_can_be_listed(kubectl: Kubectl) -> None:
    kinds = kubectl("api-resources", "--verbs=list", "-o", "name").split()
    assert len(kinds) > 50
    for output in ("wide", "name"):
        shown = kubectl("get", ",".join(kinds), "-A", "-o", output)
        assert "clusterrole.rbac.authorization.k8s.io/cluster-admin" in shown and "lease.coordination.k8s.io/" in shown
