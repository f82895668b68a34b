"""kubectl's writing commands on a real cluster: apply, create, edit, patch, label, annotate, replace, set, delete."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest

from tests.e2e.objects import config_map, pod, secret, service, web
from tests.support.command import Kubectl
from tests.support.images import BUSYBOX, WEB

pytestmark = pytest.mark.cluster


def test_apply_creates_configures_and_leaves_alone(each_kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl = each_kubectl
    file = tmp_path / "objects.yaml"
    file.write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  colour: red\n  size: '1'\n---\n" + json.dumps(web("site"))
    )
    assert kubectl("apply", "-f", str(file)) == "configmap/settings created\ndeployment.apps/site created\n"
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    before = kubectl.get("configmap/settings")["metadata"]["resourceVersion"]
    assert kubectl("apply", "-f", str(file)) == "configmap/settings unchanged\ndeployment.apps/site unchanged\n"
    assert kubectl.get("configmap/settings")["metadata"]["resourceVersion"] == before
    kubectl("scale", "deployment/site", "--replicas=2")
    file.write_text(file.read_text().replace("red", "blue").replace("  size: '1'\n", ""))
    assert kubectl("apply", "-f", str(file)).startswith("configmap/settings configured\n")
    assert kubectl.get("configmap/settings")["data"] == {"colour": "blue"}
    assert kubectl("apply", "view-last-applied", "configmap/settings", "-o", "json").find('"blue"') > 0


def test_apply_keeps_what_it_does_not_own(kubectl: Kubectl) -> None:
    kubectl.apply(config_map("settings", colour="red"))
    kubectl("patch", "cm", "settings", "-p", '{"data":{"other":"kept"}}')
    kubectl.apply(config_map("settings", colour="blue"))
    assert kubectl.get("cm/settings")["data"] == {"colour": "blue", "other": "kept"}


def test_apply_of_a_directory_and_a_dry_run(kubectl: Kubectl, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(config_map(name)))
    assert (
        kubectl("apply", "-f", str(tmp_path), "--dry-run=server")
        == "configmap/a created (server dry run)\nconfigmap/b created (server dry run)\n"
    )
    assert "not found" in kubectl.fails("get", "cm", "a")
    kubectl("apply", "-f", str(tmp_path))
    assert kubectl("get", "-f", str(tmp_path), "-o", "name").split() == ["configmap/a", "configmap/b"]
    kubectl("delete", "-f", str(tmp_path))


def test_apply_says_what_is_wrong(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    bad = pod("Bad_Name")
    assert 'The Pod "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name"' in kubectl.fails(
        "create", "-f", "-", stdin=json.dumps(bad)
    )
    unknown = {**config_map("x"), "nonsense": 1}
    assert 'strict decoding error: unknown field "nonsense"' in kubectl.fails("create", "-f", "-", stdin=json.dumps(unknown))
    done = kubectl.result("create", "-f", "-", "--validate=warn", stdin=json.dumps(unknown))
    assert done.returncode == 0 and 'Warning: unknown field "nonsense"' in done.stderr
    assert 'configmaps "x" already exists' in kubectl.fails("create", "-f", "-", stdin=json.dumps(config_map("x")))
    assert "error converting YAML to JSON" in kubectl.fails("create", "-f", "-", stdin="a: [b")
    nonsense = "apiVersion: v1\nkind: Nonsense\nmetadata: {name: x}\n"
    assert 'no matches for kind "Nonsense" in version "v1"' in kubectl.fails("create", "--validate=false", "-f", "-", stdin=nonsense)
    wrong = {**service("s"), "spec": {"ports": "none"}}
    assert "cannot unmarshal" in kubectl.fails("create", "-f", "-", stdin=json.dumps(wrong))


def test_create_of_each_kind(each_kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl = each_kubectl
    (tmp_path / "file.txt").write_text("from a file\n")
    other = f"{kubectl.namespace}-b"
    rbac = "rbac.authorization.k8s.io"
    registry = ("--docker-server=r.invalid", "--docker-username=u", "--docker-password=p")
    for arguments, shown in (
        (("deployment", "site", f"--image={WEB}", "--replicas=1", "--port=8080"), "deployment.apps/site created"),
        (("service", "clusterip", "site", "--tcp=80:8080"), "service/site created"),
        (("service", "nodeport", "outside", "--tcp=80:8080"), "service/outside created"),
        (("service", "externalname", "away", "--external-name=example.invalid"), "service/away created"),
        (("secret", "generic", "keys", "--from-literal=user=me", f"--from-file={tmp_path}/file.txt"), "secret/keys created"),
        (("secret", "docker-registry", "pull", *registry), "secret/pull created"),
        (("configmap", "settings", "--from-literal=a=1", f"--from-file=named={tmp_path}/file.txt"), "configmap/settings created"),
        (("namespace", other), f"namespace/{other} created"),
        (("serviceaccount", "robot"), "serviceaccount/robot created"),
        (("role", "reader", "--verb=get,list", "--resource=pods,pods/log"), f"role.{rbac}/reader created"),
        (("rolebinding", "rb", "--role=reader", f"--serviceaccount={kubectl.namespace}:robot"), f"rolebinding.{rbac}/rb created"),
        (("quota", "little", "--hard=pods=7"), "resourcequota/little created"),
        (("poddisruptionbudget", "kept", "--selector=app=site", "--min-available=1"), "poddisruptionbudget.policy/kept created"),
        (("job", "once", f"--image={BUSYBOX}", "--", "true"), "job.batch/once created"),
        (("cronjob", "often", f"--image={BUSYBOX}", "--schedule=*/5 * * * *", "--", "true"), "cronjob.batch/often created"),
        (("ingress", "door", "--rule=example.invalid/*=site:80"), "ingress.networking.k8s.io/door created"),
    ):  # fmt: skip
        assert kubectl("create", *arguments) == f"{shown}\n"
    kubectl("delete", "namespace", other, "--wait=false")
    assert kubectl.get("secret/keys")["data"] == {"user": "bWU=", "file.txt": "ZnJvbSBhIGZpbGUK"}
    assert kubectl.field(".type", "secret/pull") == "kubernetes.io/dockerconfigjson"
    assert kubectl.get("cm/settings")["data"] == {"a": "1", "named": "from a file\n"}
    assert kubectl.get("role/reader")["rules"] == [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}]
    assert 30000 <= int(kubectl.field(".spec.ports[0].nodePort", "service/outside")) <= 32767
    assert kubectl("create", "token", "robot").count(".") == 2
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")


def editor(directory: Path, script: str) -> str:
    """An EDITOR that changes the file it is given by a sed script."""
    path = directory / "editor"
    path.write_text(f"#!/bin/sh\nexec sed -i '{script}' \"$1\"\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_edit(each_kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl = each_kubectl
    kubectl.apply(config_map("settings", colour="red"))
    edit = kubectl.with_environment(EDITOR=editor(tmp_path, "s/colour: red/colour: blue/"))
    assert edit("edit", "configmap", "settings") == "configmap/settings edited\n"
    assert kubectl.get("cm/settings")["data"] == {"colour": "blue"}
    done = edit.result("edit", "configmap", "settings")
    assert done.returncode == 0 and "Edit cancelled, no changes made" in done.stdout + done.stderr
    bad = kubectl.with_environment(EDITOR=editor(tmp_path, "s/colour: blue/colour: [1]/"), TMPDIR=str(tmp_path))
    assert "Edit cancelled, no valid changes were saved." in bad.fails("edit", "configmap", "settings")
    assert kubectl.get("cm/settings")["data"] == {"colour": "blue"}


def test_edit_of_a_deployment_rolls_it(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.apply(web("site"))
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    edit = kubectl.with_environment(KUBE_EDITOR=editor(tmp_path, "s/replicas: 1/replicas: 3/"))
    edit("edit", "deployment", "site")
    kubectl.until("3", ".status.readyReplicas", "deployment/site")


@pytest.mark.parametrize(
    ("kind", "patch", "expected"),
    [
        ("strategic", '{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"1"}]}]}}}}', [WEB]),
        ("merge", '{"spec":{"template":{"spec":{"containers":[{"name":"new","image":"x.invalid/y:1"}]}}}}', ["x.invalid/y:1"]),
        ("json", '[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"x.invalid/z:1"}]', ["x.invalid/z:1"]),
    ],
)
def test_patch(each_kubectl: Kubectl, kind: str, patch: str, expected: list[str]) -> None:
    kubectl = each_kubectl
    kubectl.apply(web("site", 0))
    assert kubectl("patch", "deployment", "site", f"--type={kind}", "-p", patch) == "deployment.apps/site patched\n"
    assert kubectl("patch", "deployment", "site", f"--type={kind}", "-p", patch) == "deployment.apps/site patched (no change)\n"
    containers = kubectl.get("deployment/site")["spec"]["template"]["spec"]["containers"]
    assert [c["image"] for c in containers] == expected
    assert (containers[0].get("env") == [{"name": "A", "value": "1"}]) == (kind == "strategic")


def test_patch_of_a_subresource(kubectl: Kubectl) -> None:
    kubectl.apply(web("site", 0))
    kubectl("patch", "deployment", "site", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":2}}')
    assert kubectl.field(".spec.replicas", "deployment/site") == "2"


def test_label_and_annotate(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(config_map("a"), config_map("b"))
    assert kubectl("label", "cm", "a", "b", "tier=front") == "configmap/a labeled\nconfigmap/b labeled\n"
    assert "'tier' already has a value (front), and --overwrite is false" in kubectl.fails("label", "cm", "a", "tier=back")
    kubectl("label", "cm", "a", "tier=back", "--overwrite")
    assert kubectl("label", "cm", "a", "--list") == "tier=back\n"
    kubectl("label", "cm", "b", "tier-")
    assert kubectl("get", "cm", "-l", "tier", "-o", "name") == "configmap/a\n"
    assert "invalid label value" in kubectl.fails("label", "cm", "a", "tier=not valid")
    assert kubectl("annotate", "cm", "a", "why=because of this") == "configmap/a annotated\n"
    assert kubectl.field(".metadata.annotations.why", "cm/a") == "because of this"
    kubectl("annotate", "cm", "a", "why-")
    assert kubectl.field(".metadata.annotations.why", "cm/a") == ""


def test_replace_and_conflicts(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(config_map("settings", colour="red"))
    old = kubectl.get("cm/settings")
    kubectl("replace", "-f", "-", stdin=json.dumps({**old, "data": {"colour": "blue"}}))
    error = kubectl.fails("replace", "-f", "-", stdin=json.dumps({**old, "data": {"colour": "green"}}))
    assert "the object has been modified; please apply your changes to the latest version and try again" in error
    assert kubectl.get("cm/settings")["data"] == {"colour": "blue"}
    kubectl.apply(pod("web"))
    uid = kubectl.field(".metadata.uid", "pod/web")
    kubectl("replace", "--force", "-f", "-", stdin=json.dumps(pod("web", "sleep", "5000")))
    assert kubectl.field(".metadata.uid", "pod/web") != uid


def test_set_env_resources_and_service_account(kubectl: Kubectl) -> None:
    kubectl.apply(web("site", 0), config_map("settings", colour="red"))
    kubectl("create", "serviceaccount", "robot")
    kubectl("set", "env", "deployment/site", "A=1", "--from=configmap/settings")
    kubectl("set", "resources", "deployment/site", "--limits=cpu=200m,memory=64Mi", "--requests=cpu=100m")
    kubectl("set", "serviceaccount", "deployment/site", "robot")
    spec = kubectl.get("deployment/site")["spec"]["template"]["spec"]
    assert kubectl("set", "env", "deployment/site", "--list").splitlines()[1:] == ["A=1", "# COLOUR from configmap settings, key colour"]
    assert spec["containers"][0]["resources"] == {"limits": {"cpu": "200m", "memory": "64Mi"}, "requests": {"cpu": "100m"}}
    assert spec["serviceAccountName"] == "robot"


def test_diff(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(config_map("settings", colour="red"))
    assert kubectl("diff", "-f", "-", stdin=json.dumps(config_map("settings", colour="red"))) == ""
    done = kubectl.result("diff", "-f", "-", stdin=json.dumps(config_map("settings", colour="blue")))
    assert done.returncode == 1 and "-  colour: red" in done.stdout and "+  colour: blue" in done.stdout
    assert kubectl.get("cm/settings")["data"] == {"colour": "red"}


def test_delete_waits_for_the_end_of_a_pod(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    script = "trap 'sleep 1; exit 0' TERM; while true; do sleep 0.1; done"
    kubectl.apply(pod("slow", "sh", "-c", script, terminationGracePeriodSeconds=20))
    kubectl.wait("condition=Ready", "pod/slow")
    started = time.monotonic()
    assert kubectl("delete", "pod", "slow").startswith('pod "slow" deleted')
    assert 1 <= time.monotonic() - started < 10
    assert "not found" in kubectl.fails("get", "pod", "slow")


def test_delete_by_force_and_at_once(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    deaf = ("sh", "-c", "trap '' TERM; while true; do sleep 1; done")
    kubectl.apply(pod("deaf", *deaf, terminationGracePeriodSeconds=600), pod("other", *deaf, terminationGracePeriodSeconds=600))
    kubectl.wait("condition=Ready", "pod/deaf", "pod/other")
    started = time.monotonic()
    kubectl("delete", "pod", "deaf", "--wait=false")
    assert kubectl.field(".metadata.deletionGracePeriodSeconds", "pod/deaf") == "600"
    kubectl("delete", "pod", "deaf", "--force", "--grace-period=0")
    kubectl("delete", "pod", "other", "--now")
    assert time.monotonic() - started < 15
    assert kubectl("get", "pods", "-o", "name") == ""


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_delete_cascades(kubectl: Kubectl, cascade: str) -> None:
    kubectl.apply(web("site", 2))
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    kubectl("delete", "deployment", "site", f"--cascade={cascade}")
    if cascade == "orphan":
        time.sleep(1)
        assert [kubectl("get", kind, "-l", "app=site", "-o", "name").count("\n") for kind in ("replicasets", "pods")] == [1, 2]
        assert "ownerReferences" not in kubectl.get("replicasets", "-l", "app=site")["items"][0]["metadata"]
        return
    if cascade == "foreground":
        assert kubectl("get", "replicasets", "-l", "app=site", "-o", "name") == ""
    kubectl.wait("delete", "replicaset,pod", "-l", "app=site")
    assert kubectl("get", "all", "-o", "name") == ""


def test_delete_by_selector_and_of_all(kubectl: Kubectl) -> None:
    kubectl.apply(config_map("a"), config_map("b"), secret("c"))
    kubectl("label", "cm", "a", "tier=front")
    assert kubectl("delete", "cm", "-l", "tier=front").startswith('configmap "a" deleted')
    kubectl("delete", "cm,secret", "--all")
    kubectl.until("", ".data.ca\\.crt", "cm/kube-root-ca.crt")  # it is put back
    assert kubectl("get", "secret", "-o", "name") == ""
    assert kubectl("delete", "cm", "none", "--ignore-not-found") == ""
    assert 'configmaps "none" not found' in kubectl.fails("delete", "cm", "none")


def test_delete_of_a_namespace_takes_everything_with_it(each_kubectl: Kubectl) -> None:
    name = f"{each_kubectl.namespace}-more"
    each_kubectl("create", "namespace", name)
    inside = each_kubectl.inside(name)
    inside.apply(web("site", 2), service("site"), config_map("settings"))
    inside("rollout", "status", "deployment/site", "--timeout=30s")
    inside("delete", "namespace", name)
    assert f'namespaces "{name}" not found' in inside.fails("get", "namespace", name)
    for kind in ("pods", "configmaps", "services", "endpointslices"):
        assert inside("get", kind, "-o", "name") == ""
