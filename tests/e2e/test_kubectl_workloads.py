"""kubectl's commands about workloads on a real cluster: rollout, scale, set image, run, expose, wait, autoscale, drain."""

from __future__ import annotations

import re
import time

import pytest

from tests.e2e.objects import pod, service, web
from tests.support.cluster import Cluster
from tests.support.command import Kubectl
from tests.support.images import BUSYBOX, WEB

pytestmark = pytest.mark.cluster


def images(kubectl: Kubectl, name: str) -> str:
    return kubectl.field(".spec.template.spec.containers[*].image", f"deployment/{name}")


def test_a_rollout_is_followed_undone_and_listed(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(web("site", 2))
    done = kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    assert done.endswith('deployment "site" successfully rolled out\n')
    kubectl("annotate", "deployment/site", "kubernetes.io/change-cause=first")
    assert kubectl("set", "env", "deployment/site", "A=2") == "deployment.apps/site env updated\n"
    kubectl("annotate", "deployment/site", "kubernetes.io/change-cause=second", "--overwrite")
    shown = kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    assert "Waiting for deployment" in shown and shown.endswith("successfully rolled out\n")
    history = [line.split() for line in kubectl("rollout", "history", "deployment/site").strip().splitlines()]
    assert history == [["deployment.apps/site"], ["REVISION", "CHANGE-CAUSE"], ["1", "first"], ["2", "second"]]
    assert "A:\t2" in kubectl("rollout", "history", "deployment/site", "--revision=2")
    assert kubectl("rollout", "undo", "deployment/site") == "deployment.apps/site rolled back\n"
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    assert kubectl.field(".spec.template.spec.containers[0].env", "deployment/site") == ""
    assert [line.split()[0] for line in kubectl("rollout", "history", "deployment/site").strip().splitlines()[2:]] == ["2", "3"]
    kubectl("rollout", "undo", "deployment/site", "--to-revision=2")
    assert kubectl.field(".spec.template.spec.containers[0].env[0].value", "deployment/site") == "2"
    assert "unable to find specified revision 9" in kubectl.fails("rollout", "undo", "deployment/site", "--to-revision=9")


def test_a_rollout_never_has_too_few_pods(kubectl: Kubectl) -> None:
    kubectl.apply(web("site", 3, strategy={"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}))
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    with kubectl.running("get", "deployment", "site", "-w", "-o", "jsonpath={.status.readyReplicas} {.status.replicas}{'\\n'}") as watch:
        kubectl("rollout", "restart", "deployment/site")
        kubectl("rollout", "status", "deployment/site", "--timeout=30s")
        seen = [tuple(int(n) for n in line.split()) for line in watch.output.splitlines()]
    assert len(seen) > 3
    assert min(ready for ready, _ in seen) >= 3 and max(total for _, total in seen) == 4


def test_restart_makes_new_pods_and_pause_holds_them_back(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(web("site"))
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    before = kubectl("get", "pods", "-l", "app=site", "-o", "name")
    assert kubectl("rollout", "pause", "deployment/site") == "deployment.apps/site paused\n"
    assert "can't restart paused deployment" in kubectl.fails("rollout", "restart", "deployment/site")
    kubectl("set", "env", "deployment/site", "A=1")
    time.sleep(0.5)
    assert kubectl("get", "pods", "-l", "app=site", "-o", "name") == before
    kubectl("rollout", "resume", "deployment/site")
    kubectl("rollout", "restart", "deployment/site")
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    kubectl.wait("delete", *before.split())
    assert kubectl("get", "pods", "-l", "app=site", "-o", "name") not in ("", before)
    assert re.match(
        r"\d{4}-", kubectl.field(".spec.template.metadata.annotations.kubectl\\.kubernetes\\.io/restartedAt", "deployment/site")
    )


def test_recreate_ends_the_old_pods_first(kubectl: Kubectl) -> None:
    kubectl.apply(web("site", 2, strategy={"type": "Recreate"}))
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    with kubectl.running("get", "deployment", "site", "-w", "-o", "jsonpath={.status.replicas}{'\\n'}") as watch:
        kubectl("rollout", "restart", "deployment/site")
        kubectl("rollout", "status", "deployment/site", "--timeout=30s")
        counts = [int(line or 0) for line in watch.output.splitlines()]
    assert max(counts) == 2 and 0 in counts


def test_a_rollout_that_cannot_work_says_so(kubectl: Kubectl) -> None:
    kubectl.apply(web("site", 1, progressDeadlineSeconds=2))
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    kubectl("set", "image", "deployment/site", "web=example.invalid/none:1")
    kubectl("patch", "deployment", "site", "-p", '{"spec":{"template":{"spec":{"containers":[{"name":"web","imagePullPolicy":"Never"}]}}}}')
    error = kubectl.fails("rollout", "status", "deployment/site", "--timeout=30s")
    assert 'error: deployment "site" exceeded its progress deadline' in error
    kubectl.until("ErrImageNeverPull", ".items[?(@.status.phase=='Pending')].status.containerStatuses[0].state.waiting.reason", "pods")
    assert kubectl.field(".status.readyReplicas", "deployment/site") == "1"


def test_scale(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(web("site"))
    assert kubectl("scale", "deployment/site", "--replicas=3") == "deployment.apps/site scaled\n"
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    assert kubectl("get", "pods", "-l", "app=site", "-o", "name").count("\n") == 3
    assert "Expected replicas to be 5, was 3" in kubectl.fails("scale", "deployment/site", "--current-replicas=5", "--replicas=1")
    kubectl("scale", "deployment/site", "--current-replicas=3", "--replicas=0")
    kubectl.wait("delete", "pod", "-l", "app=site")
    assert kubectl.field(".status.replicas", "deployment/site") == ""


def test_set_image(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(web("site"))
    assert kubectl("set", "image", "deployment/site", f"web={BUSYBOX}", "--dry-run=server").startswith("deployment.apps/site image updated")
    assert images(kubectl, "site") == WEB
    assert kubectl("set", "image", "deployment/site", f"web={BUSYBOX}") == "deployment.apps/site image updated\n"
    assert images(kubectl, "site") == BUSYBOX
    assert 'unable to find container named "none"' in kubectl.fails("set", "image", "deployment/site", "none=x")
    kubectl("rollout", "undo", "deployment/site")
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    assert images(kubectl, "site") == WEB


def test_run(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    made = kubectl("run", "web", f"--image={WEB}", "--port=8080", "--env=PORT=8080", "--labels=app=web", "--expose")
    assert made == "service/web created\npod/web created\n"
    kubectl.wait("condition=Ready", "pod/web")
    kubectl.until("web", ".items[0].endpoints[0].targetRef.name", "endpointslices", "-l", "kubernetes.io/service-name=web")
    shown = kubectl("run", "job", f"--image={BUSYBOX}", "--restart=Never", "--attach", "--rm", "--", "sh", "-c", "sleep 0.5; echo done")
    assert "done\n" in shown and 'pod "job" deleted' in shown
    assert "not found" in kubectl.fails("get", "pod", "job")


def test_expose(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(web("site", 2))
    assert kubectl("expose", "deployment", "site", "--port=80", "--target-port=http") == "service/site exposed\n"
    kubectl("expose", "deployment", "site", "--name=outside", "--type=NodePort", "--port=80", "--target-port=8080")
    assert kubectl.get("service/site")["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": "http"}]
    assert kubectl.field(".spec.ports[0].nodePort", "service/outside")
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    kubectl.until("8080", ".items[0].ports[0].port", "endpointslices", "-l", "kubernetes.io/service-name=site")


def test_wait(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(pod("web"), pod("job", "sh", "-c", "sleep 0.5", restartPolicy="Never"))
    assert kubectl.wait("condition=Ready", "pod/web") == "pod/web condition met\n"
    assert kubectl.wait("jsonpath={.status.phase}=Succeeded", "pod/job") == "pod/job condition met\n"
    started = time.monotonic()
    error = kubectl.fails("wait", "--for=condition=Ready", "pod/job", "--timeout=1s")
    assert "timed out waiting for the condition on pods/job" in error and time.monotonic() - started < 5
    kubectl("delete", "pod", "job", "--wait=false")
    kubectl.wait("delete", "pod/job")
    assert "not found" in kubectl.fails("wait", "--for=condition=Ready", "pod/none", "--timeout=1s")
    if "sid" in str(kubectl.program):
        with kubectl.running("wait", "--for=create", "pod/later", "--timeout=20s") as waiting:
            time.sleep(0.3)
            kubectl.apply(pod("later"))
            assert waiting.ends() == 0


def test_a_replica_set_keeps_its_number(kubectl: Kubectl) -> None:
    kubectl.apply(web("site", 2))
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    first, second = kubectl("get", "pods", "-l", "app=site", "-o", "name").split()
    kubectl("delete", first)
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    now = kubectl("get", "pods", "-l", "app=site", "-o", "name").split()
    assert len(now) == 2 and second in now and first not in now
    assert kubectl.field(".metadata.ownerReferences[0].kind", second) == "ReplicaSet"


def test_cordon_and_drain(kubectl: Kubectl, shared: Cluster) -> None:
    kubectl.apply(web("site"), service("site"), pod("bare"))
    kubectl.wait("condition=Ready", "pod/bare")
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    node = shared.node_name
    try:
        assert kubectl("cordon", node) == f"node/{node} cordoned\n"
        assert "Ready,SchedulingDisabled" in kubectl("get", "nodes")
        kubectl.apply(pod("late"))
        kubectl.until("Unschedulable", ".status.conditions[?(@.type=='PodScheduled')].reason", "pod/late")
        assert "0/1 nodes are available: 1 node(s) were unschedulable." in kubectl("events", "--for", "pod/late")
        selected = ("--pod-selector=app in (site,bare)", "--ignore-daemonsets", "--delete-emptydir-data")
        assert "cannot delete" in kubectl.fails("drain", node, *selected)
        kubectl("drain", node, *selected, "--force")
        assert "not found" in kubectl.fails("get", "pod", "bare")
        kubectl.until("Pending", ".items[0].status.phase", "pods", "-l", "app=site")
    finally:
        kubectl("uncordon", node)
    kubectl.wait("condition=Ready", "pod/late")
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")


def test_taints_keep_pods_away_and_evict_them(kubectl: Kubectl, shared: Cluster) -> None:
    tolerant = [{"key": "only", "operator": "Exists"}]
    kubectl.apply(pod("web"), pod("tolerant", tolerations=tolerant))
    kubectl.wait("condition=Ready", "pod/web", "pod/tolerant")
    node = shared.node_name
    try:
        kubectl("taint", "nodes", node, "only=some:NoSchedule")
        kubectl.apply(pod("late"))
        kubectl.until("Unschedulable", ".status.conditions[?(@.type=='PodScheduled')].reason", "pod/late")
        assert "0/1 nodes are available: 1 node(s) had untolerated taint" in kubectl("events", "--for", "pod/late")
        kubectl("taint", "nodes", node, "only=some:NoExecute")
        kubectl.wait("delete", "pod/web")
        assert kubectl.field(".status.phase", "pod/tolerant") == "Running"
    finally:
        kubectl("taint", "nodes", node, "only-")
    kubectl.wait("condition=Ready", "pod/late")
