"""Rights and identities as kubectl shows them: auth can-i, whoami, impersonation, service accounts' tokens, RBAC at work."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.e2e.objects import config_map, pod
from tests.support.cluster import Cluster
from tests.support.command import Kubectl

pytestmark = pytest.mark.cluster


def can(kubectl: Kubectl, *arguments: str) -> bool:
    """The answer of kubectl auth can-i, which is also its exit code."""
    done = kubectl.result("auth", "can-i", *arguments)
    answer = done.stdout.strip().split()[0]
    assert (answer, done.returncode) in (("yes", 0), ("no", 1)), done
    return answer == "yes"


@pytest.fixture
def robot(each_kubectl: Kubectl) -> Kubectl:
    """A namespace with the service account `robot`, who may read pods and nothing else."""
    kubectl = each_kubectl
    kubectl("create", "serviceaccount", "robot")
    kubectl("create", "role", "reader", "--verb=get,list,watch", "--resource=pods")
    kubectl("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={kubectl.namespace}:robot")
    return kubectl


def test_can_i(robot: Kubectl) -> None:
    user = f"--as=system:serviceaccount:{robot.namespace}:robot"
    assert can(robot, "create", "deployments.apps")
    assert can(robot, "*", "*")
    assert can(robot, "list", "pods", user)
    assert not can(robot, "delete", "pods", user)
    assert not can(robot, "list", "pods", user, "-n", "default")
    assert not can(robot, "list", "secrets", user)
    assert not can(robot, "get", "/metrics", user)
    assert can(robot, "get", "/version", user)
    assert not can(robot, "get", "pods", "--subresource=log", user)
    table = [line.split() for line in robot("auth", "can-i", "--list", user).splitlines()]
    assert ["pods", "[]", "[]", "[get", "list", "watch]"] in table
    assert ["[/version]", "[]", "[get]"] in table


def test_rights_are_enforced_and_said(robot: Kubectl) -> None:
    user = f"system:serviceaccount:{robot.namespace}:robot"
    assert robot.result("get", "pods", f"--as={user}").returncode == 0
    error = robot.fails("get", "secrets", f"--as={user}")
    told = f'secrets is forbidden: User "{user}" cannot list resource "secrets" in API group "" in the namespace "{robot.namespace}"'
    assert error == f"Error from server (Forbidden): {told}\n"
    assert 'cannot delete resource "pods"' in robot.fails("delete", "pod", "x", f"--as={user}")
    robot("delete", "rolebinding", "reader")
    assert "cannot list resource" in robot.fails("get", "pods", f"--as={user}")


def test_a_token_is_an_identity(robot: Kubectl, shared: Cluster) -> None:
    token = robot("create", "token", "robot", "--duration=10m").strip()
    config = yaml.safe_load(shared.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    file = shared.directory / f"{robot.namespace}.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    as_robot = Kubectl(robot.program, file, robot.namespace)
    who = as_robot("auth", "whoami")
    assert f"system:serviceaccount:{robot.namespace}:robot" in who and "system:serviceaccounts" in who
    assert as_robot.result("get", "pods").returncode == 0
    assert "is forbidden" in as_robot.fails("get", "nodes")
    robot("delete", "serviceaccount", "robot")
    assert "Unauthorized" in as_robot.fails("get", "pods") or "must be logged in" in as_robot.fails("get", "pods")


def test_who_the_administrator_is(each_kubectl: Kubectl) -> None:
    who = each_kubectl("auth", "whoami")
    assert "system:masters" in who and "system:authenticated" in who
    as_other = each_kubectl("auth", "whoami", "--as=jane", "--as-group=team")
    assert "jane" in as_other and "team" in as_other and "system:masters" not in as_other


def test_nobody_gains_rights_by_writing_roles(robot: Kubectl) -> None:
    user = f"--as=system:serviceaccount:{robot.namespace}:robot"
    robot("create", "role", "writer", "--verb=create,update,patch", "--resource=roles,rolebindings")
    robot("create", "rolebinding", "writer", "--role=writer", f"--serviceaccount={robot.namespace}:robot")
    error = robot.fails("create", "role", "more", "--verb=get", "--resource=secrets", user)
    assert "is attempting to grant RBAC permissions not currently held" in error
    robot("create", "role", "same", "--verb=get", "--resource=pods", user)


def test_auth_reconcile(kubectl: Kubectl) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "made", "namespace": kubectl.namespace},
        "rules": rules,
    }
    assert "role.rbac.authorization.k8s.io/made reconciled" in kubectl("auth", "reconcile", "-f", "-", stdin=json.dumps(role))
    assert kubectl.field(".rules[0].verbs[0]", "role/made") == "get"


def test_a_pod_speaks_to_the_api_as_its_service_account(robot: Kubectl, shared: Cluster) -> None:
    robot.apply(pod("inside", serviceAccountName="robot"), config_map("settings"))
    robot.wait("condition=Ready", "pod/inside")
    script = (
        "d=/var/run/secrets/kubernetes.io/serviceaccount; cat $d/namespace; echo; head -1 $d/ca.crt; cut -d. -f1 $d/token | wc -c; "
        "echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT"
    )
    shown = robot("exec", "inside", "--", "sh", "-c", script).splitlines()
    assert shown[0] == robot.namespace and shown[1] == "-----BEGIN CERTIFICATE-----" and int(shown[2]) > 20 and shown[3] == "10.43.0.1:443"
    token = robot("exec", "inside", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token")
    answer = shared.request("GET", f"/api/v1/namespaces/{robot.namespace}/pods", token=token)
    assert answer.status == 200 and [item["metadata"]["name"] for item in answer.body["items"]] == ["inside"]
    assert shared.request("GET", "/api/v1/nodes", token=token).status == 403
    robot("delete", "pod", "inside")
    assert shared.request("GET", f"/api/v1/namespaces/{robot.namespace}/pods", token=token).status == 401
