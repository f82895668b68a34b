"""Objects that tests apply, as a user would write them: only what matters is given."""

from __future__ import annotations

from typing import Any

from tests.support.images import BUSYBOX, WEB

Object = dict[str, Any]

SLEEP = ["sleep", "100000"]


def pod(name: str, *command: str, labels: dict[str, str] | None = None, **more: Any) -> Object:
    """A pod of one busybox container, `main`. What is named like a field of the container goes there, the rest into the pod's spec."""
    container: Object = {"name": "main", "image": BUSYBOX, "command": list(command) or SLEEP}
    spec: Object = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    for key, value in more.items():
        (container if key in _OF_CONTAINER else spec)[key] = value
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {"app": name}}, "spec": spec}


_OF_CONTAINER = frozenset(
    {
        *("args", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "ports", "readinessProbe", "resources"),
        *("startupProbe", "terminationMessagePolicy", "volumeMounts", "workingDir"),
    }
)


def web(name: str, replicas: int = 1, **spec: Any) -> Object:
    """A Deployment of servers on port 8080 that answer with their pod's name."""
    container: Object = {"name": "web", "image": WEB, "ports": [{"name": "http", "containerPort": 8080}]}
    container["readinessProbe"] = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}
    meta = {"name": name, "labels": {"app": name}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def service(name: str, app: str | None = None, port: int = 80, target: int | str = 8080, **spec: Any) -> Object:
    """A Service of the pods with the label app=<app>."""
    ports = [{"name": "http", "port": port, "targetPort": target}]
    spec = {"selector": {"app": app or name}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def config_map(name: str, **data: str) -> Object:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> Object:
    """A Secret."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
