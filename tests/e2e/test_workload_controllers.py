"""Stateful sets, daemon sets, jobs, cron jobs and disruption budgets with real containers, as kubectl shows them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.objects import SLEEP, Object, service
from tests.support.command import Kubectl
from tests.support.images import BUSYBOX

pytestmark = pytest.mark.cluster


def template(name: str, *command: str, **spec: Any) -> Object:
    container = {"name": "main", "image": BUSYBOX, "command": list(command) or SLEEP}
    return {"metadata": {"labels": {"app": name}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec}}


def workload(kind: str, name: str, **spec: Any) -> Object:
    selector = {"matchLabels": {"app": name}}
    spec = {"selector": selector, "template": template(name), **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def job(name: str, *command: str, restart: str = "Never", **spec: Any) -> Object:
    pods = {"spec": template(name, *command, restartPolicy=restart)["spec"]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": pods, **spec}}


def test_a_stateful_set_keeps_names_and_goes_back(kubectl: Kubectl) -> None:
    kubectl.apply(service("db", clusterIP="None"), workload("StatefulSet", "db", replicas=2, serviceName="db"))
    kubectl("rollout", "status", "statefulset/db", "--timeout=40s")
    assert kubectl("exec", "db-1", "--", "hostname") == "db-1\n"
    kubectl("set", "env", "statefulset/db", "A=2")
    kubectl("rollout", "status", "statefulset/db", "--timeout=40s")
    assert kubectl("exec", "db-0", "--", "sh", "-c", "echo $A") == "2\n"
    assert kubectl("rollout", "undo", "statefulset/db") == "statefulset.apps/db rolled back\n"
    kubectl("rollout", "status", "statefulset/db", "--timeout=40s")
    kubectl("scale", "statefulset/db", "--replicas=1")
    kubectl("wait", "--for=delete", "pod/db-1", "--timeout=20s")
    kubectl("wait", "--for=jsonpath={.status.replicas}=1", "statefulset/db", "--timeout=20s")


def test_a_daemon_set_runs_on_the_node_and_is_updated(kubectl: Kubectl) -> None:
    kubectl.apply(workload("DaemonSet", "agent"))
    done = kubectl("rollout", "status", "daemonset/agent", "--timeout=40s")
    assert done.endswith('daemon set "agent" successfully rolled out\n')
    kubectl("set", "env", "daemonset/agent", "A=2")
    kubectl("rollout", "status", "daemonset/agent", "--timeout=40s")
    history = [line.split()[0] for line in kubectl("rollout", "history", "daemonset/agent").strip().splitlines()[2:]]
    assert history == ["1", "2"]
    assert kubectl("rollout", "undo", "daemonset/agent") == "daemonset.apps/agent rolled back\n"
    kubectl("rollout", "status", "daemonset/agent", "--timeout=40s")
    assert kubectl.field(".status.numberAvailable", "daemonset/agent") == "1"


def test_an_indexed_job_runs_each_number(kubectl: Kubectl) -> None:
    work = job("count", "sh", "-c", 'echo "$JOB_COMPLETION_INDEX"', completions=3, parallelism=2, completionMode="Indexed")
    kubectl.apply(work)
    kubectl("wait", "--for=condition=complete", "job/count", "--timeout=40s")
    assert kubectl.field(".status.completedIndexes", "job/count") == "0-2"
    said = kubectl("logs", "-l", "batch.kubernetes.io/job-name=count", "--tail=-1").split()
    assert sorted(said) == ["0", "1", "2"]
    kubectl("delete", "job/count", "--cascade=foreground", "--timeout=20s")
    assert kubectl("get", "pods", "-o", "name") == ""


def test_a_job_that_fails_says_so(kubectl: Kubectl) -> None:
    kubectl.apply(job("broken", "sh", "-c", "exit 3", backoffLimit=0))
    kubectl("wait", "--for=condition=failed", "job/broken", "--timeout=40s")
    reasons = kubectl.field(".status.conditions[*].reason", "job/broken").split()
    assert reasons == ["BackoffLimitExceeded", "BackoffLimitExceeded"]


def test_a_cron_job_is_run_by_hand(kubectl: Kubectl) -> None:
    kubectl("create", "cronjob", "tick", f"--image={BUSYBOX}", "--schedule=0 0 1 1 *", "--", "true")
    kubectl("create", "job", "now", "--from=cronjob/tick")
    kubectl("wait", "--for=condition=complete", "job/now", "--timeout=40s")
    kubectl("wait", "--for=jsonpath={.status.lastSuccessfulTime}", "cronjob/tick", "--timeout=20s")


def test_a_budget_counts_real_pods(kubectl: Kubectl) -> None:
    kubectl.apply(workload("StatefulSet", "db", replicas=2, serviceName="db", podManagementPolicy="Parallel"))
    kubectl("create", "pdb", "db", "--selector=app=db", "--max-unavailable=1")
    kubectl("wait", "--for=jsonpath={.status.currentHealthy}=2", "pdb/db", "--timeout=40s")
    assert kubectl.field(".status.disruptionsAllowed", "pdb/db") == "1"
    assert kubectl.field(".status.desiredHealthy", "pdb/db") == "1"
