"""A static pod from the text of its manifest, and the mirror of it that the API shows. Pure.

What always holds: the UID is a hash of what the manifest says, of the node and of the file, so that a changed manifest is another pod; a
static pod refers to nothing of the API, since it runs whether there is one or not.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from minikube_py.kubelet.volumes import content
from minikube_py.types.meta import View, timestamp
from minikube_py.types.pod import Pod

SOURCE = "kubernetes.io/config.source"
HASH = "kubernetes.io/config.hash"
SEEN = "kubernetes.io/config.seen"
MIRROR = "kubernetes.io/config.mirror"


class ManifestError(ValueError):
    """The text is no manifest of a static pod."""


class StaticPod(View, frozen=True):
    """A static pod: as the kubelet reads it, and as it was written."""

    pod: Pod
    body: dict[str, Any]


def parse(text: bytes, path: str, node: str, now: float) -> StaticPod:
    """The static pod of a manifest. Raises ManifestError."""
    # most nodes have no static pods, and an agent needs these for nothing else
    from minikube_py.resources.pods import PodStrategy
    from minikube_py.schema import yaml
    from minikube_py.schema.errors import DecodeError

    strategy = PodStrategy()
    try:
        body, _ = yaml.parse(text)
    except DecodeError as error:
        raise ManifestError(str(error)) from error
    if not isinstance(body, dict) or body.get("kind") != "Pod" or body.get("apiVersion") != "v1":
        raise ManifestError("not a v1 Pod")
    metadata = body.setdefault("metadata", {})
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise ManifestError("invalid pod: name is needed for the pod")
    uid = metadata.get("uid") or _hash(body, path, node)
    metadata.update(uid=uid, name=f"{metadata['name']}-{node.lower()}")
    metadata.setdefault("namespace", "default")
    annotations = metadata["annotations"] = dict(metadata.get("annotations") or {})
    annotations.update({SOURCE: "file", HASH: uid, SEEN: timestamp(now)})
    body.pop("status", None)
    try:
        spec = body.setdefault("spec", {})
        spec["nodeName"] = node
        everything = {"operator": "Exists", "effect": "NoExecute"}
        if everything not in (spec.get("tolerations") or ()):
            spec["tolerations"] = [*(spec.get("tolerations") or ()), everything]
        strategy.default(body)
        faults = strategy.validate(body)
        pod = msgspec.json.decode(msgspec.json.encode(body), type=Pod)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # the text can have any shape
        raise ManifestError(f"invalid pod: {error}") from error
    if faults:
        raise ManifestError(f"invalid pod: {faults}")
    if kind := _reference(pod):
        raise ManifestError(f"static pods may not reference {kind}")
    return StaticPod(pod, body)


def _hash(body: dict[str, Any], path: str, node: str) -> str:
    written = msgspec.json.encode(body, order="deterministic") + f"host:{node}file:{path}".encode()
    return hashlib.blake2b(written, digest_size=16).hexdigest()


def _reference(pod: Pod) -> str:
    """A kind of which the pod refers to an object; empty where there is none."""
    found = content.references(pod)
    if pod.spec.serviceAccountName:
        return "serviceaccounts"
    if found.config_maps:
        return "configmaps"
    if found.secrets:
        return "secrets"
    if found.tokens:
        return "serviceaccounts"
    return "persistentvolumeclaims" if any(v.persistentVolumeClaim is not None for v in pod.spec.volumes) else ""


def mirror(static: StaticPod, node_uid: str) -> dict[str, Any]:
    """The mirror pod to be made in the API."""
    meta = static.pod.metadata
    written = {k: v for k, v in static.body["metadata"].items() if k not in ("uid", "ownerReferences", "resourceVersion", "generation")}
    owner = {"apiVersion": "v1", "kind": "Node", "name": static.pod.spec.nodeName, "uid": node_uid, "controller": True}
    metadata = {**written, "annotations": {**meta.annotations, MIRROR: meta.uid}, "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": static.body["spec"]}


def is_mirror(pod: Pod) -> bool:
    """Whether the pod only shows a static one."""
    return MIRROR in pod.metadata.annotations


def shown_by(static: Pod, shown: Pod | None) -> Pod:
    """The static pod with what its mirror, if there is one, tells of its status."""
    if shown is None:
        return static
    meta = msgspec.structs.replace(
        static.metadata, resourceVersion=shown.metadata.resourceVersion, generation=shown.metadata.generation or 1
    )
    return msgspec.structs.replace(static, metadata=meta, status=shown.status)
