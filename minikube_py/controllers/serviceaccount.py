"""The service account "default" in every namespace that is not being deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, namespace_is_ending
from minikube_py.meta.errors import AlreadyExists, Forbidden, NotFound
from minikube_py.types.core import Namespace, ServiceAccount

ACCOUNTS = ("default",)


def plan(namespace: Namespace, present: Iterable[str]) -> tuple[str, ...]:
    """The names of the accounts to create in a namespace."""
    if namespace.metadata.deletionTimestamp is not None or namespace.status.phase == "Terminating":
        return ()
    there = frozenset(present)
    return tuple(name for name in ACCOUNTS if name not in there)


class ServiceAccountController(Controller):
    """Keeps the default accounts."""

    name = "serviceaccount"
    identity = "service-account-controller"
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._namespaces = context.informers.of(Namespace)
        self._accounts = context.informers.of(ServiceAccount)

    def watches(self) -> Sequence[Watch]:
        return (
            Watch(self._namespaces),
            Watch(self._accounts, lambda account: (account.metadata.namespace,) if account.metadata.name in ACCOUNTS else ()),
        )

    async def reconcile(self, key: str) -> float | None:
        namespace = self._namespaces.get(key)
        if namespace is None:
            return None
        for name in plan(namespace, (a.metadata.name for a in self._accounts.list(key))):
            try:
                await self.client.create(ServiceAccount, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}, key)
            except (AlreadyExists, NotFound):
                continue
            except Forbidden as error:
                if not namespace_is_ending(error):
                    raise
        return None
