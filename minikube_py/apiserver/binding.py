"""Bindings: a scheduler's decision that a pod runs on a node, POSTed to pods/NAME/binding or to bindings."""

from __future__ import annotations

from minikube_py.aio import Clock
from minikube_py.apiserver import answers
from minikube_py.apiserver.api import AdmissionRequest, Operation, Response
from minikube_py.apiserver.call import Call
from minikube_py.apiserver.decode import decode
from minikube_py.apiserver.objectmeta import metadata_of, set_namespace
from minikube_py.apiserver.options import write_options
from minikube_py.apiserver.write import Writer
from minikube_py.meta.errors import BadRequest, Cause, conflict, invalid, precondition_failed
from minikube_py.resources.api import Obj, Resource
from minikube_py.schema import definitions
from minikube_py.types.meta import ResourceRef, timestamp

BINDING = ResourceRef("", "v1", "bindings", "Binding")


class Bindings:
    """Serves both endpoints; `pods` is the resource whose objects are bound."""

    def __init__(self, writer: Writer, pods: Resource, clock: Clock) -> None:
        self._writer, self._pods, self._clock = writer, pods, clock

    async def __call__(self, call: Call) -> Response:
        request, info = call.request, call.info
        loaded = definitions.load()
        wanted = write_options(request.query, call.user_agent, "CreateOptions")
        schema = loaded.schema(BINDING.group, BINDING.version, BINDING.kind)
        binding = decode(request.body, request.headers.get("content-type", ""), BINDING, loaded, schema, wanted.validation, call.warnings)
        meta = metadata_of(binding)
        set_namespace(meta, info.namespace, True)
        name = meta.get("name") or info.name
        if info.name and name != info.name:
            raise BadRequest("name in URL does not match name in Binding object")
        node = check(binding, name)
        now = timestamp(self._clock.time())

        def assign(pod: Obj) -> Obj:
            given, current = meta, pod["metadata"]
            for field, what in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
                if given.get(field) and given[field] != current.get(field):
                    raise precondition_failed("pods", name, target.key, what, given[field], current.get(field, ""))
            return bind(pod, node, meta.get("annotations") or {}, meta.get("labels") or {}, now)

        target = Call(request, info._replace(resource="pods", name=name, subresource="binding"), self._pods, self._pods.ref)
        admission = AdmissionRequest(
            Operation.CREATE,
            self._pods,
            "binding",
            info.namespace,
            name,
            binding,
            None,
            request.user,
            wanted.dry_run,
            {},
            call.warnings,
        )
        await self._writer.admit(admission)
        await self._writer.swap(target, assign, dry_run=wanted.dry_run)
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
        return answers.json(status, 201, answers.warning_header(call.warnings))


def check(binding: Obj, name: str) -> str:
    """The node that a binding names. Raises Invalid."""
    target = binding.get("target") or {}
    causes = []
    if target.get("kind") not in (None, "", "Node"):
        causes.append(Cause.not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        causes.append(Cause.required("target.name"))
    if causes:
        raise invalid("Binding", name, causes)
    return str(target["name"])


def bind(pod: Obj, node: str, annotations: Obj, labels: Obj, now: str) -> Obj:
    """The pod, bound. Raises Conflict where it cannot be."""
    meta, spec = pod["metadata"], pod.setdefault("spec", {})
    name = meta["name"]
    if meta.get("deletionTimestamp"):
        raise conflict("pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise conflict("pods/binding", name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise conflict("pods/binding", name, f"pod {name} has non-empty .spec.schedulingGates")
    spec["nodeName"] = node
    if annotations:
        meta["annotations"] = {**(meta.get("annotations") or {}), **annotations}
    if labels:
        meta["labels"] = {**(meta.get("labels") or {}), **labels}
    status = pod.setdefault("status", {})
    # it waits for no node any more
    status.pop("nominatedNodeName", None)
    conditions = status.setdefault("conditions", [])
    found = next((c for c in conditions if c.get("type") == "PodScheduled"), None)
    if found is None:
        conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": now})
    elif found.get("status") != "True":
        for field in ("reason", "message"):
            found.pop(field, None)
        found.update({"status": "True", "lastTransitionTime": now})
    return pod
