"""Which of its volumes a pod uses. The others are as if they were not there: nothing is waited for, made or mounted for them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from minikube_py.types.pod import Container, Pod, Volume


def mounted(pod: Pod) -> frozenset[str]:
    """The volumes that containers have among their files."""
    return frozenset(mount.name for container in _containers(pod) for mount in container.volumeMounts)


def mapped(pod: Pod) -> frozenset[str]:
    """The volumes that containers have as devices."""
    return frozenset(device.name for container in _containers(pod) for device in container.volumeDevices)


def used(pod: Pod) -> tuple[Volume, ...]:
    """The pod's volumes that any of its containers uses."""
    names = mounted(pod) | mapped(pod)
    return tuple(volume for volume in pod.spec.volumes if volume.name in names)


def _containers(pod: Pod) -> Iterator[Container]:
    yield from pod.spec.initContainers
    yield from pod.spec.containers
    yield from pod.spec.ephemeralContainers
