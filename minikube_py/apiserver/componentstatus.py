"""componentstatuses: the health of the control plane's parts, as kubectl get cs asks for it. Deprecated upstream, made at each request.

The parts have the names that the separate programs have; what each consists of here is in the health checks' groups. The log needs no
group: a server that cannot use it does not run.
"""

from __future__ import annotations

import orjson

from minikube_py.apiserver.api import Response
from minikube_py.apiserver.call import Call
from minikube_py.apiserver.entries import Entry, Shape
from minikube_py.apiserver.health import HealthChecks
from minikube_py.apiserver.present import Presenter
from minikube_py.store.api import Store


class ComponentStatuses:
    """Answers get and list."""

    def __init__(self, presenter: Presenter, health: HealthChecks, store: Store) -> None:
        self._presenter, self._health, self._store = presenter, health, store

    async def __call__(self, call: Call) -> Response:
        values = {name: _status(name, problem) for name, problem in sorted({**self._health.groups(), "etcd-0": ""}.items())}
        if call.info.verb == "get":
            if call.info.name not in values:
                raise call.missing()
            return self._presenter.object(call, values[call.info.name])
        shape = Shape(call.resource)
        entries = [Entry(shape, call.resource.key("", name), "", 0, 0, value) for name, value in values.items()]
        return self._presenter.collection(call, entries, self._store.revision)


def _status(name: str, problem: str) -> bytes:
    condition = {"type": "Healthy", "status": "False" if problem else "True", "message": problem or "ok"}
    return orjson.dumps({"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [condition]})
