"""The files of configMap, secret, downwardAPI and projected volumes. Pure; what is missing is said in upstream's words."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from minikube_py.kubelet.fields import Addresses, FieldError, field_value, resource_value
from minikube_py.types.core import ConfigMap, Secret
from minikube_py.types.pod import (
    ConfigMapSource,
    DownwardAPIFile,
    KeyToPath,
    Pod,
    ProjectedSource,
    SecretSource,
    ServiceAccountTokenProjection,
    Volume,
)

DEFAULT_MODE = 0o644


class ContentError(Exception):
    """The volume's content cannot be made; the message goes into the FailedMount event."""


class File(NamedTuple):
    """One file of a volume."""

    data: bytes
    mode: int = DEFAULT_MODE
    uid: int | None = None


Files = dict[str, File]


class References(NamedTuple):
    """What a pod's volumes need from the API."""

    config_maps: frozenset[str]
    secrets: frozenset[str]
    tokens: tuple[ServiceAccountTokenProjection, ...]


class Sources(NamedTuple):
    """Where the content comes from; lookups give None for what does not exist. Tokens are keyed by their projection."""

    config_map: Callable[[str], ConfigMap | None]
    secret: Callable[[str], Secret | None]
    tokens: Mapping[ServiceAccountTokenProjection, str]
    addresses: Addresses
    allocatable: Mapping[str, str]


def references(pod: Pod, volumes: Iterable[Volume] | None = None) -> References:
    """The objects and tokens that the pod's environment and volumes, all or the given ones, are made of."""
    config_maps: set[str] = set()
    secrets: set[str] = {ref.name for ref in pod.spec.imagePullSecrets if ref.name}
    tokens: list[ServiceAccountTokenProjection] = []
    for volume in pod.spec.volumes if volumes is None else volumes:
        if volume.configMap is not None:
            config_maps.add(volume.configMap.name)
        if volume.secret is not None:
            secrets.add(volume.secret.secretName)
        for source in volume.projected.sources if volume.projected is not None else ():
            if source.configMap is not None:
                config_maps.add(source.configMap.name)
            if source.secret is not None:
                secrets.add(source.secret.name)
            if source.serviceAccountToken is not None:
                tokens.append(source.serviceAccountToken)
    for container in (*pod.spec.initContainers, *pod.spec.containers, *pod.spec.ephemeralContainers):
        for env_from in container.envFrom:
            if env_from.configMapRef is not None:
                config_maps.add(env_from.configMapRef.name)
            if env_from.secretRef is not None:
                secrets.add(env_from.secretRef.name)
        for variable in container.env:
            if variable.valueFrom is not None and variable.valueFrom.configMapKeyRef is not None:
                config_maps.add(variable.valueFrom.configMapKeyRef.name)
            if variable.valueFrom is not None and variable.valueFrom.secretKeyRef is not None:
                secrets.add(variable.valueFrom.secretKeyRef.name)
    return References(frozenset(config_maps), frozenset(secrets), tuple(dict.fromkeys(tokens)))


def has_content(volume: Volume) -> bool:
    """Whether the volume's files are made here."""
    return any(source is not None for source in (volume.configMap, volume.secret, volume.downwardAPI, volume.projected))


def files(pod: Pod, volume: Volume, sources: Sources) -> Files:
    """The files of one volume. Raises ContentError."""
    if volume.configMap is not None:
        return _config_map(volume.configMap, volume.configMap.name, volume.configMap.defaultMode, sources)
    if volume.secret is not None:
        return _secret(volume.secret, volume.secret.secretName, volume.secret.defaultMode, sources)
    if volume.downwardAPI is not None:
        return _downward(pod, volume.downwardAPI.items, volume.downwardAPI.defaultMode, sources)
    if volume.projected is not None:
        return _projected(pod, volume.projected, sources)
    return {}


def _config_map(source: ConfigMapSource, name: str, mode: int | None, sources: Sources) -> Files:
    config_map = sources.config_map(name)
    if config_map is None:
        if not source.optional:
            raise ContentError(f'configmap "{name}" not found')
        return {}
    data = {key: value.encode() for key, value in config_map.data.items()}
    data.update((key, base64.b64decode(value)) for key, value in config_map.binaryData.items())
    return _pick(data, source.items, mode, source.optional, "configmap references non-existent config key")


def _secret(source: SecretSource, name: str, mode: int | None, sources: Sources) -> Files:
    secret = sources.secret(name)
    if secret is None:
        if not source.optional:
            raise ContentError(f'secret "{name}" not found')
        return {}
    data = {key: base64.b64decode(value) for key, value in secret.data.items()}
    return _pick(data, source.items, mode, source.optional, "references non-existent secret key")


def _pick(data: Mapping[str, bytes], items: Iterable[KeyToPath], mode: int | None, optional: bool, missing: str) -> Files:
    default = DEFAULT_MODE if mode is None else mode
    items = tuple(items)
    if not items:
        return {key: File(value, default) for key, value in data.items()}
    out: Files = {}
    for item in items:
        if item.key not in data:
            if optional:
                continue
            raise ContentError(f"{missing}: {item.key}")
        out[item.path] = File(data[item.key], default if item.mode is None else item.mode)
    return out


def _downward(pod: Pod, items: Iterable[DownwardAPIFile], mode: int | None, sources: Sources) -> Files:
    default = DEFAULT_MODE if mode is None else mode
    out: Files = {}
    try:
        for item in items:
            if item.fieldRef is not None:
                value = field_value(pod, item.fieldRef.fieldPath, sources.addresses)
            elif item.resourceFieldRef is not None:
                name = item.resourceFieldRef.containerName
                container = next((c for c in (*pod.spec.containers, *pod.spec.initContainers) if c.name == name), None)
                if container is None:
                    raise ContentError(f"container {name} not found")
                value = resource_value(pod, container, item.resourceFieldRef, sources.allocatable)
            else:
                continue
            out[item.path] = File(value.encode(), default if item.mode is None else item.mode)
    except FieldError as error:
        raise ContentError(str(error)) from error
    return out


def _projected(pod: Pod, projected: ProjectedSource, sources: Sources) -> Files:
    out: Files = {}
    mode = projected.defaultMode
    for source in projected.sources:
        if source.secret is not None:
            out.update(_secret(source.secret, source.secret.name, mode, sources))
        if source.configMap is not None:
            out.update(_config_map(source.configMap, source.configMap.name, mode, sources))
        if source.downwardAPI is not None:
            out.update(_downward(pod, source.downwardAPI.items, mode, sources))
        if source.serviceAccountToken is not None:
            out[source.serviceAccountToken.path] = _token(pod, sources.tokens[source.serviceAccountToken], mode)
    return out


def _token(pod: Pod, token: str, mode: int | None) -> File:
    """A token belongs to the user that all containers run as, where there is one, and is readable by its owner alone; the volume's group
    reads it too. Where there is neither, the volume's mode counts."""
    user = _common_user(pod)
    if user is None and pod.spec.securityContext.fsGroup is None:
        return File(token.encode(), DEFAULT_MODE if mode is None else mode)
    return File(token.encode(), 0o600, user)


def _common_user(pod: Pod) -> int | None:
    """The user that the pod says all of its containers run as."""
    common = pod.spec.securityContext.runAsUser
    users = {
        common if c.securityContext is None or c.securityContext.runAsUser is None else c.securityContext.runAsUser
        for c in (*pod.spec.initContainers, *pod.spec.containers, *pod.spec.ephemeralContainers)
    }
    return users.pop() if len(users) == 1 else None
