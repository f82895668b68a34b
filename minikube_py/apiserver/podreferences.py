"""What a pod refers to by name: read by the node authorizer and by admission. Pure, over the JSON value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"


def is_mirror(pod: dict[str, Any]) -> bool:
    """Whether a kubelet made the pod to show a static one."""
    return MIRROR_ANNOTATION in (pod.get("metadata", {}).get("annotations") or {})


def pod_references(pod: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(plural, name) of what a pod needs of its namespace."""
    spec, meta = pod.get("spec", {}), pod.get("metadata", {})
    if account := spec.get("serviceAccountName"):
        yield "serviceaccounts", account
    for reference in spec.get("imagePullSecrets") or ():
        yield "secrets", reference.get("name", "")
    for volume in spec.get("volumes") or ():
        yield from _volume_references(volume, meta.get("name", ""))
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            yield from _container_references(container)
    generated = {s.get("name"): s.get("resourceClaimName") for s in pod.get("status", {}).get("resourceClaimStatuses") or ()}
    for claim in spec.get("resourceClaims") or ():
        if name := claim.get("resourceClaimName") or generated.get(claim.get("name")):
            yield "resourceclaims", name
    if extended := (pod.get("status", {}).get("extendedResourceClaimStatus") or {}).get("resourceClaimName"):
        yield "resourceclaims", extended


def _volume_references(volume: dict[str, Any], pod_name: str) -> Iterator[tuple[str, str]]:
    if secret := volume.get("secret"):
        yield "secrets", secret.get("secretName", "")
    if config_map := volume.get("configMap"):
        yield "configmaps", config_map.get("name", "")
    if claim := volume.get("persistentVolumeClaim"):
        yield "persistentvolumeclaims", claim.get("claimName", "")
    if "ephemeral" in volume:
        yield "persistentvolumeclaims", f"{pod_name}-{volume.get('name', '')}"
    for source in (volume.get("projected") or {}).get("sources") or ():
        if secret := source.get("secret"):
            yield "secrets", secret.get("name", "")
        if config_map := source.get("configMap"):
            yield "configmaps", config_map.get("name", "")
    if azure := volume.get("azureFile"):
        yield "secrets", azure.get("secretName", "")
    if csi := volume.get("csi"):
        yield "secrets", (csi.get("nodePublishSecretRef") or {}).get("name", "")
    for kind in ("cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"):
        if source := volume.get(kind):
            yield "secrets", (source.get("secretRef") or {}).get("name", "")


def _container_references(container: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for source in container.get("envFrom") or ():
        if reference := source.get("secretRef"):
            yield "secrets", reference.get("name", "")
        if reference := source.get("configMapRef"):
            yield "configmaps", reference.get("name", "")
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        if reference := source.get("secretKeyRef"):
            yield "secrets", reference.get("name", "")
        if reference := source.get("configMapKeyRef"):
            yield "configmaps", reference.get("name", "")
