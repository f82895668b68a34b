"""The scale subresource: spec.replicas of a workload, seen and changed as an autoscaling/v1 Scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from minikube_py.apiserver import answers
from minikube_py.apiserver.api import Response
from minikube_py.apiserver.call import Call
from minikube_py.apiserver.decode import decode, normalize
from minikube_py.apiserver.negotiate import PATCH_TYPES, media_type
from minikube_py.apiserver.objectmeta import check_name, metadata_of
from minikube_py.apiserver.options import write_options
from minikube_py.apiserver.patching import patcher
from minikube_py.apiserver.read import Reader
from minikube_py.apiserver.write import Writer
from minikube_py.meta import selectors
from minikube_py.meta.errors import MethodNotAllowed
from minikube_py.resources.api import Obj
from minikube_py.schema import definitions
from minikube_py.types.meta import ResourceRef

KINDS = (("", "replicationcontrollers"), ("apps", "deployments"), ("apps", "replicasets"), ("apps", "statefulsets"))
SCALE = ResourceRef("autoscaling", "v1", "scales", "Scale")
_KEPT = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(obj: Obj) -> Obj:
    """The Scale of a workload."""
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    selector = spec.get("selector")
    if selector is None:
        text = ""
    elif obj["kind"] == "ReplicationController":
        text = str(selectors.of_labels(selector))
    else:
        text = str(selectors.of_object(selector) or "")
    shown: Obj = {"replicas": status.get("replicas") or 0}
    if text:
        shown["selector"] = text
    return {
        "kind": SCALE.kind,
        "apiVersion": SCALE.api_version,
        "metadata": {name: meta[name] for name in _KEPT if name in meta},
        "spec": {"replicas": spec["replicas"]} if spec.get("replicas") else {},
        "status": shown,
    }


class Scales:
    """Serves scale of the kinds in KINDS."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer, self._reader = writer, reader

    async def __call__(self, call: Call) -> Response:
        verb = call.info.verb
        if verb == "get":
            entry = await self._reader.entry(call)
            return answers.json(scale_of(entry.decode()))
        if verb not in ("update", "patch"):
            raise MethodNotAllowed(f'{verb} is not supported on resources of kind "{call.ref.plural}/scale"')
        request = call.request
        loaded = definitions.load()
        schema = loaded.schema(SCALE.group, SCALE.version, SCALE.kind)
        content_type = request.headers.get("content-type", "")
        wanted = write_options(request.query, call.user_agent, "UpdateOptions" if verb == "update" else "PatchOptions")
        if verb == "update":
            sent = decode(request.body, content_type, SCALE, loaded, schema, wanted.validation, call.warnings)

            def change(current: Obj) -> Obj:
                return sent

        else:
            apply = patcher(media_type(content_type, PATCH_TYPES, default=""), request.body, schema, wanted.validation, call.warnings)

            def change(current: Obj) -> Obj:
                return apply(lambda: current)

        def mutate(read: Callable[[], Obj]) -> Obj:
            obj = read()
            current = scale_of(obj)
            scale = change(orjson.loads(orjson.dumps(current)))
            normalize(scale, schema, SCALE)
            meta = metadata_of(scale)
            check_name(meta, call.info.name, call.info.namespace)
            return _with_replicas(obj, scale, meta)

        value, _ = await self._writer.change(call, mutate, wanted, subresource="scale")
        return answers.json(scale_of(orjson.loads(value)), headers=answers.warning_header(call.warnings))


def _with_replicas(obj: Obj, scale: Obj, meta: dict[str, Any]) -> Obj:
    from minikube_py.meta.errors import Cause, invalid

    replicas = (scale.get("spec") or {}).get("replicas") or 0
    if replicas < 0:
        why = "must be greater than or equal to 0"
        raise invalid("Scale", meta["name"], [Cause.invalid("spec.replicas", replicas, why)], SCALE.group)
    obj.setdefault("spec", {})["replicas"] = replicas
    if not meta.get("resourceVersion"):
        obj["metadata"].pop("resourceVersion", None)
    else:
        obj["metadata"]["resourceVersion"] = meta["resourceVersion"]
    if meta.get("uid"):
        obj["metadata"]["uid"] = meta["uid"]
    return obj
