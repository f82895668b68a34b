"""The Service `kubernetes` in the default namespace, through which pods reach the API server, with its Endpoints and EndpointSlice.

No controller makes them: the Service has no selector, and its endpoint is this process. They are looked at when the server starts and
whenever somebody changed one of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from minikube_py.aio import Health
from minikube_py.apiserver.service_fields import family_of
from minikube_py.client import Client
from minikube_py.client.transport import TransportError
from minikube_py.meta.errors import Conflict, NotFound, StatusError
from minikube_py.store.api import Record, Store
from minikube_py.types.meta import Object
from minikube_py.types.network import SERVICE_NAME_LABEL, Endpoints, EndpointSlice, Service

if TYPE_CHECKING:
    from minikube_py.apiserver.cache import Cache

log = logging.getLogger(__name__)

Obj = dict[str, Any]

NAMESPACE, NAME = "default", "kubernetes"
_SERVICE_PORT = 443
_SETTLE, _RETRY = 0.5, 2.0


def objects(service_ip: str, address: str, port: int) -> Sequence[tuple[type[Object], Obj]]:
    """What there must be, with the fields that matter. `address` and `port` are where the API server is reached."""
    metadata = {"name": NAME, "namespace": NAMESPACE}
    family = family_of(service_ip)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**metadata, "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": service_ip,
            "clusterIPs": [service_ip],
            "ipFamilies": [family],
            "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": _SERVICE_PORT, "targetPort": port}],
        },
    }
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {**metadata, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    }
    endpoint_slice = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {SERVICE_NAME_LABEL: NAME}},
        "addressType": family_of(address),
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    return (Service, service), (Endpoints, endpoints), (EndpointSlice, endpoint_slice)


def is_as_wanted(current: Any, wanted: Any) -> bool:
    """Whether everything that is wanted is there; further fields (defaults, what others added) do not matter, further list entries do."""
    if isinstance(wanted, Mapping):
        return isinstance(current, Mapping) and all(key in current and is_as_wanted(current[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        same_length = isinstance(current, list) and len(current) == len(wanted)
        return same_length and all(is_as_wanted(c, w) for c, w in zip(current, wanted, strict=True))
    return bool(current == wanted)


class KubernetesService:
    """The component that keeps them."""

    def __init__(self, client: Client, cache: Cache, store: Store, *, service_ip: str, address: str, port: int) -> None:
        self._client, self._cache = client, cache
        self._objects = objects(service_ip, address, port)
        self._changed = asyncio.Event()
        self._keys = frozenset(cache.of(kind.resource).resource.key(NAMESPACE, NAME) for kind, _ in self._objects)
        store.on_commit(self._committed)

    def _committed(self, records: Sequence[Record]) -> None:
        if any(record.key in self._keys for record in records):
            self._changed.set()

    async def run(self, health: Health) -> None:
        """Keep them until cancelled."""
        while True:
            self._changed.clear()
            try:
                await self.reconcile()
                health.well()
            except (StatusError, TransportError) as error:
                log.warning("could not write the kubernetes service", extra={"error": str(error)})
                health.degraded(str(error))
                await asyncio.sleep(_RETRY)
                continue
            await self._changed.wait()
            await asyncio.sleep(_SETTLE)

    async def reconcile(self) -> int:
        """Bring all of them to where they should be; how many were written."""
        written = 0
        for kind, wanted in self._objects:
            entry = self._cache.of(kind.resource).get(NAMESPACE, NAME)
            if entry is None:
                await self._client.request("POST", kind.resource.path(NAMESPACE), body=orjson.dumps(wanted))
            elif not is_as_wanted(current := entry.decode(), wanted):
                await self._replace(kind, current, wanted)
            else:
                continue
            written += 1
        return written

    async def _replace(self, kind: type[Object], current: Obj, wanted: Obj) -> None:
        path = kind.resource.path(NAMESPACE, NAME)
        fixed = {("spec", "clusterIP"), ("addressType",)}
        if any(_at(current, field) != _at(wanted, field) for field in fixed):
            # what cannot be changed is made anew: the service range or the address family of the server is another one
            await self._client.request("DELETE", path)
            await self._client.request("POST", kind.resource.path(NAMESPACE), body=orjson.dumps(wanted))
            return
        merged = {**current, **{key: value for key, value in wanted.items() if key not in ("metadata", "spec")}}
        merged["metadata"] = {
            **current["metadata"],
            "labels": {**(current["metadata"].get("labels") or {}), **wanted["metadata"]["labels"]},
        }
        if "spec" in wanted:
            merged["spec"] = {**current["spec"], **wanted["spec"]}
        try:
            await self._client.request("PUT", path, body=orjson.dumps(merged))
        except (Conflict, NotFound):
            # somebody was faster, which has set the event: the next round looks again
            log.debug("the kubernetes service changed meanwhile", extra={"kind": kind.resource.kind})


def _at(obj: Obj, path: Sequence[str]) -> Any:
    value: Any = obj
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
