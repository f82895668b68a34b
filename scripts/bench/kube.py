"""A kept connection to a server under measurement: requests that cost the machine next to nothing beside what is measured."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from tests.support.server import Server

Obj = dict[str, Any]


class Connection:
    """One TLS connection as the holder of a token; use as a context manager."""

    def __init__(self, server: Server, token: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._http = http.client.HTTPSConnection(server.ip, server.port, timeout=60, context=context)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.close()

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One request that must work; its answer's object."""
        self._http.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = self._http.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
        return json.loads(text)

    def watch(self, path: str) -> Iterator[tuple[str, Obj]]:
        """The events of a watch as they come: (type, object). The connection is used up."""
        for line in self.lines(path):
            event = json.loads(line)
            yield event["type"], event["object"]

    def lines(self, path: str) -> Iterator[bytes]:
        """The lines of a watch as they come, unparsed. The connection is used up."""
        self._http.request("GET", path, headers=self._headers)
        answer = self._http.getresponse()
        while line := answer.readline():
            yield line


def bound_account(server: Server, namespace: str, *resources: str) -> str:
    """The token of a service account that may do everything with some kinds of resources in its (new) namespace, by a RoleBinding."""
    meta = {"name": "bench", "namespace": namespace}
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    group = "rbac.authorization.k8s.io"
    if namespace != "default":
        server.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    server.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    rules = [{"apiGroups": [""], "resources": resources, "verbs": ["*"]}]
    server.create(f"{rbac}/roles", {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": rules})
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "bench"},
        "subjects": [{"kind": "ServiceAccount", **meta}],
    }
    server.create(f"{rbac}/rolebindings", binding)
    return _token(server, meta)


def administrator(server: Server) -> str:
    """The token of a new service account that may do everything."""
    meta = {"name": "bench-administrator", "namespace": "default"}
    group = "rbac.authorization.k8s.io"
    server.create("/api/v1/namespaces/default/serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": meta["name"]},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", **meta}],
    }
    server.create(f"/apis/{group}/v1/clusterrolebindings", binding)
    return _token(server, meta)


def _token(server: Server, account: Mapping[str, str]) -> str:
    wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 36000}}
    path = f"/api/v1/namespaces/{account['namespace']}/serviceaccounts/{account['name']}/token"
    token: str = server.create(path, wanted)["status"]["token"]
    return token
