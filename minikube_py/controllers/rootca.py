"""The cluster's CA bundle as the config map kube-root-ca.crt in every namespace that is not being deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, namespace_is_ending
from minikube_py.meta.errors import AlreadyExists, Conflict, Forbidden, NotFound
from minikube_py.types.core import ConfigMap, Namespace

NAME = "kube-root-ca.crt"
_ANNOTATION = "kubernetes.io/description"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service "
    "IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
)


def plan(namespace: Namespace, current: ConfigMap | None, bundle: str) -> dict[str, Any] | None:
    """The config map as it should be, where it is not."""
    if namespace.metadata.deletionTimestamp is not None or namespace.status.phase == "Terminating":
        return None
    data = {"ca.crt": bundle}
    if current is not None and dict(current.data) == data and current.metadata.annotations.get(_ANNOTATION):
        return None
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "annotations": {_ANNOTATION: _DESCRIPTION}},
        "data": data,
    }


class RootCAPublisher(Controller):
    """Keeps the config maps."""

    name = "root-ca-publisher"
    identity = "root-ca-cert-publisher"
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._namespaces = context.informers.of(Namespace)
        self._maps = context.informers.of(ConfigMap, field_selector=f"metadata.name={NAME}")

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._namespaces), Watch(self._maps, lambda config_map: (config_map.metadata.namespace,)))

    async def reconcile(self, key: str) -> float | None:
        namespace = self._namespaces.get(key)
        if namespace is None or not self.options.root_ca:
            return None
        current = self._maps.get(f"{key}/{NAME}")
        wanted = plan(namespace, current, self.options.root_ca)
        if wanted is None:
            return None
        try:
            if current is None:
                await self.client.create(ConfigMap, wanted, key)
            else:
                wanted["metadata"]["resourceVersion"] = current.metadata.resourceVersion
                await self.client.update(ConfigMap, wanted, NAME, key)
        except (AlreadyExists, NotFound) as error:
            raise Conflict(error.message) from error
        except Forbidden as error:
            if not namespace_is_ending(error):
                raise
        return None
