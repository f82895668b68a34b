"""Static pods from their manifests."""

from __future__ import annotations

import pytest

from minikube_py.kubelet import manifests
from minikube_py.kubelet.manifests import ManifestError

TEXT = b"""
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: main, image: busybox, resources: {limits: {cpu: 100m}}}
"""


def parse(text: bytes = TEXT, path: str = "/m/web.yaml", node: str = "node-1") -> manifests.StaticPod:
    return manifests.parse(text, path, node, 1_700_000_000.0)


def test_a_manifest_becomes_a_pod_of_this_node() -> None:
    pod = parse().pod
    assert (pod.metadata.name, pod.metadata.namespace, pod.spec.nodeName) == ("web-node-1", "default", "node-1")
    assert pod.metadata.annotations[manifests.SOURCE] == "file" and pod.metadata.annotations[manifests.HASH] == pod.metadata.uid
    assert [(t.operator, t.effect) for t in pod.spec.tolerations] == [("Exists", "NoExecute")]
    assert pod.spec.containers[0].imagePullPolicy == "Always" and pod.spec.containers[0].resources.requests["cpu"] == "100m"


def test_another_manifest_file_or_node_is_another_pod() -> None:
    uids = {parse().pod.metadata.uid, parse(TEXT.replace(b"busybox", b"nginx")).pod.metadata.uid}
    uids |= {parse(path="/m/b.yaml").pod.metadata.uid, parse(node="node-2").pod.metadata.uid}
    assert len(uids) == 4 and parse().pod.metadata.uid in uids


def test_the_mirror_says_whose_it_is() -> None:
    static = parse()
    made = manifests.mirror(static, "node-uid")
    assert made["metadata"]["annotations"][manifests.MIRROR] == static.pod.metadata.uid and "uid" not in made["metadata"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "node-uid", "controller": True}
    assert made["metadata"]["ownerReferences"] == [owner] and made["spec"] == static.body["spec"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"kind: [", "yaml"),
        (b"[]", "not a v1 Pod"),
        (b"apiVersion: v1\nkind: Service\nmetadata: {name: a}\n", "not a v1 Pod"),
        (TEXT.replace(b"name: web,", b""), "name is needed"),
        (TEXT.replace(b"image: busybox,", b""), "image: Required value"),
        (TEXT.replace(b"- {name: main", b"- {name: 5"), "invalid pod"),
        (TEXT.replace(b"spec:", b"spec:\n  serviceAccountName: x"), "static pods may not reference serviceaccounts"),
        (TEXT + b"  volumes: [{name: v, secret: {secretName: s}}]\n", "static pods may not reference secrets"),
    ],
)
def test_what_is_no_manifest_says_why(text: bytes, said: str) -> None:
    with pytest.raises(ManifestError, match=f"(?i){said}"):
        parse(text)
