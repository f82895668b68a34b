"""Deletes bootstrap tokens (Secrets of kube-system) whose time is over."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller
from minikube_py.meta import bootstraptoken
from minikube_py.meta.errors import Conflict, NotFound
from minikube_py.types.core import Secret


class TokenCleanerController(Controller):
    """One look at every token when it changes and when it ends."""

    name = "tokencleaner"
    identity = "token-cleaner"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._secrets = context.informers.of(Secret, field_selector=f"type={bootstraptoken.SECRET_TYPE}")

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._secrets),)

    async def reconcile(self, key: str) -> float | None:
        secret = self._secrets.get(key)
        if secret is None or secret.metadata.namespace != bootstraptoken.NAMESPACE:
            return None
        ends = bootstraptoken.expires(secret.data)
        if ends is None:
            return None
        left = ends - self.clock.time()
        if left > 0:
            return left
        with contextlib.suppress(NotFound, Conflict):
            await self.client.delete(Secret, secret.metadata.name, secret.metadata.namespace, uid=secret.metadata.uid)
        return None
