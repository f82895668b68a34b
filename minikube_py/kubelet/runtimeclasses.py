"""Which handler of the runtime a pod asks for by its RuntimeClass.

Asked of the API when a sandbox is made; a handler never changes, so that the last answer does while the server is away.
"""

from __future__ import annotations

from minikube_py.client import Client
from minikube_py.client.transport import TransportError
from minikube_py.types.core import RuntimeClass


class RuntimeClasses:
    """The handlers by the names of their classes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, str] = {}

    async def handler(self, name: str) -> str:
        """The handler, "" for pods without a class. Raises StatusError where there is no such class, TransportError."""
        if not name:
            return ""
        try:
            self._known[name] = (await self._client.get(RuntimeClass, name)).handler
        except TransportError:
            if name not in self._known:
                raise
        return self._known[name]
