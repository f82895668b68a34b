"""Claims on devices: what quotas read of them."""

from __future__ import annotations

from typing import ClassVar

from minikube_py.types.meta import Object, ResourceRef, View


class DevicesWanted(View, frozen=True):
    """So many devices of a class."""

    deviceClassName: str = ""
    allocationMode: str = ""
    count: int = 0


class DeviceRequest(View, frozen=True):
    exactly: DevicesWanted | None = None
    firstAvailable: tuple[DevicesWanted, ...] = ()


class DeviceClaim(View, frozen=True):
    requests: tuple[DeviceRequest, ...] = ()


class ResourceClaimSpec(View, frozen=True):
    devices: DeviceClaim = DeviceClaim()


class ResourceClaim(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim")

    spec: ResourceClaimSpec = ResourceClaimSpec()
