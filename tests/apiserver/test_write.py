"""Create, update and patch, as clients see them over TLS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from minikube_py.apiserver.api import AdmissionRequest, Operation
from minikube_py.apiserver.cache import Cache
from minikube_py.apiserver.commit import serialise
from minikube_py.meta.errors import Conflict
from minikube_py.store.api import Write
from minikube_py.types.core import ConfigMap
from tests.support.api import Answer, ApiUnderTest, api_server

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


def configmap(name: str = "a", **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data or {"k": "v"}}


async def created(server: ApiUnderTest, obj: dict[str, Any] | None = None, path: str = CONFIGMAPS) -> Any:
    answer = await server.http("POST", path, obj or configmap())
    assert answer.status == 201, answer.body
    return answer.json


def message(answer: Answer, code: int, reason: str) -> str:
    assert (answer.status, answer.json["reason"], answer.json["kind"]) == (code, reason, "Status"), answer.body
    return str(answer.json["message"])


async def test_a_new_object_gets_identity_and_comes_back_as_it_is_read(server: ApiUnderTest) -> None:
    obj = await created(server)
    meta = obj["metadata"]
    assert obj["kind"] == "ConfigMap" and obj["apiVersion"] == "v1" and obj["data"] == {"k": "v"}
    assert meta["namespace"] == "default" and len(meta["uid"]) == 36 and meta["creationTimestamp"].endswith("Z")
    assert int(meta["resourceVersion"]) > 0
    assert (await server.http("GET", CONFIGMAPS + "/a")).json == obj


async def test_the_manager_of_a_field_is_the_user_agents_program(server: ApiUnderTest) -> None:
    answer = await server.http("POST", CONFIGMAPS, configmap(), headers={"User-Agent": "kubectl/v1.36 (linux)"})
    entry = answer.json["metadata"]["managedFields"][0]
    assert (entry["manager"], entry["operation"]) == ("kubectl", "Update")
    assert entry["fieldsV1"]["f:data"]["f:k"] == {}
    answer = await server.http("POST", CONFIGMAPS + "?fieldManager=me", configmap("b"))
    assert answer.json["metadata"]["managedFields"][0]["manager"] == "me"


async def test_system_fields_of_a_new_object_are_not_the_clients(server: ApiUnderTest) -> None:
    sent = configmap()
    sent["metadata"] |= {"uid": "x", "deletionTimestamp": "2020-01-01T00:00:00Z", "creationTimestamp": "2020-01-01T00:00:00Z"}
    meta = (await created(server, sent))["metadata"]
    assert meta["uid"] != "x" and "deletionTimestamp" not in meta and not meta["creationTimestamp"].startswith("2020")


async def test_a_new_object_has_no_resource_version(server: ApiUnderTest) -> None:
    sent = configmap()
    sent["metadata"]["resourceVersion"] = "5"
    answer = await server.http("POST", CONFIGMAPS, sent)
    assert answer.status == 500
    assert answer.json["message"] == "resourceVersion should not be set on objects to be created"
    sent["metadata"]["resourceVersion"] = "0"
    assert (await server.http("POST", CONFIGMAPS, sent)).status == 201


async def test_the_resource_version_zero_is_none(server: ApiUnderTest) -> None:
    made = await created(server)
    made["metadata"]["resourceVersion"] = "0"
    answer = await server.http("PUT", CONFIGMAPS + "/a", made | {"data": {"k": "v"}})
    assert answer.status == 200
    made["metadata"]["resourceVersion"] = "x"
    answer = await server.http("PUT", CONFIGMAPS + "/a", made)
    assert (answer.status, answer.json["message"]) == (500, 'strconv.ParseUint: parsing "x": invalid syntax')


async def test_a_taken_name_is_409(server: ApiUnderTest) -> None:
    await created(server)
    answer = await server.http("POST", CONFIGMAPS, configmap())
    assert message(answer, 409, "AlreadyExists") == 'configmaps "a" already exists'
    assert answer.json["details"] == {"name": "a", "kind": "configmaps"}


async def test_generate_name_appends_five_characters(server: ApiUnderTest) -> None:
    names = {(await created(server, {"metadata": {"generateName": "web-"}}))["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    for name in names:
        assert name.startswith("web-") and len(name) == 9 and set(name[4:]) <= set("bcdfghjklmnpqrstvwxz2456789")


async def test_dry_run_does_everything_but_store(server: ApiUnderTest) -> None:
    answer = await server.http("POST", CONFIGMAPS + "?dryRun=All", configmap())
    assert answer.status == 201 and answer.json["metadata"]["uid"] and "resourceVersion" not in answer.json["metadata"]
    assert (await server.http("GET", CONFIGMAPS + "/a")).status == 404
    await created(server)
    answer = await server.http("PATCH", CONFIGMAPS + "/a?dryRun=All", {"data": {"k": "w"}}, content_type=MERGE)
    assert answer.json["data"] == {"k": "w"}
    assert (await server.http("GET", CONFIGMAPS + "/a")).json["data"] == {"k": "v"}
    answer = await server.http("DELETE", CONFIGMAPS + "/a?dryRun=All")
    assert answer.status == 200 and (await server.http("GET", CONFIGMAPS + "/a")).status == 200


async def test_unknown_fields_warn_or_fail_or_pass_as_asked(server: ApiUnderTest) -> None:
    sent = {**configmap(), "spec": 1}
    answer = await server.http("POST", CONFIGMAPS + "?dryRun=All", sent)
    assert answer.headers["Warning"] == '299 - "unknown field \\"spec\\""' and "spec" not in answer.json
    answer = await server.http("POST", CONFIGMAPS + "?dryRun=All&fieldValidation=Ignore", sent)
    assert "Warning" not in answer.headers
    answer = await server.http("POST", CONFIGMAPS + "?fieldValidation=Strict", sent)
    assert message(answer, 400, "BadRequest") == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "spec"'
    )


async def test_an_update_that_changes_nothing_makes_no_revision(server: ApiUnderTest) -> None:
    obj = await created(server)
    before = server.store.revision
    for body in (obj, {**obj, "metadata": {**obj["metadata"], "resourceVersion": ""}}):
        answer = await server.http("PUT", CONFIGMAPS + "/a", body)
        assert answer.status == 200 and answer.json["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]
    answer = await server.http("PATCH", CONFIGMAPS + "/a", {"data": {"k": "v"}}, content_type=MERGE)
    assert answer.json == obj and server.store.revision == before


async def test_an_old_resource_version_is_409_and_none_is_last_writer_wins(server: ApiUnderTest) -> None:
    obj = await created(server)
    assert (await server.http("PUT", CONFIGMAPS + "/a", {**obj, "data": {"k": "2"}})).status == 200
    answer = await server.http("PUT", CONFIGMAPS + "/a", {**obj, "data": {"k": "3"}})
    assert message(answer, 409, "Conflict") == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    assert (await server.http("PUT", CONFIGMAPS + "/a", configmap(k="4"))).json["data"] == {"k": "4"}
    answer = await server.http("PATCH", CONFIGMAPS + "/a", {"metadata": {"resourceVersion": "1"}, "data": {"k": "5"}}, content_type=MERGE)
    message(answer, 409, "Conflict")


async def test_another_uid_is_409(server: ApiUnderTest) -> None:
    obj = await created(server)
    answer = await server.http("PUT", CONFIGMAPS + "/a", {"metadata": {"name": "a", "uid": "other"}})
    assert message(answer, 409, "Conflict").endswith(
        "/configmaps/default/a, ResourceVersion: 0, AdditionalErrorMsg: "
        f"Precondition failed: UID in precondition: other, UID in object meta: {obj['metadata']['uid']}"
    )
    answer = await server.http("PATCH", CONFIGMAPS + "/a", {"metadata": {"uid": "other"}}, content_type=MERGE)
    assert message(answer, 422, "Invalid") == 'ConfigMap "a" is invalid: metadata.uid: Invalid value: "other": field is immutable'


async def test_an_update_cannot_change_what_the_system_set(server: ApiUnderTest) -> None:
    obj = await created(server)
    patch = {"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z", "generation": 9, "selfLink": "x", "labels": {"a": "b"}}}
    meta = (await server.http("PATCH", CONFIGMAPS + "/a", patch, content_type=MERGE)).json["metadata"]
    assert meta["creationTimestamp"] == obj["metadata"]["creationTimestamp"] and "generation" not in meta and "selfLink" not in meta
    assert meta["labels"] == {"a": "b"} and meta["uid"] == obj["metadata"]["uid"]


async def test_patches_of_every_kind(server: ApiUnderTest) -> None:
    await created(server)
    path = CONFIGMAPS + "/a"
    assert (await server.http("PATCH", path, {"data": {"k": None, "x": "1"}}, content_type=MERGE)).json["data"] == {"x": "1"}
    assert (await server.http("PATCH", path, {"data": {"y": "2"}}, content_type=STRATEGIC)).json["data"] == {"x": "1", "y": "2"}
    operations = [{"op": "test", "path": "/data/x", "value": "1"}, {"op": "remove", "path": "/data/x"}]
    assert (await server.http("PATCH", path, operations, content_type=JSON_PATCH)).json["data"] == {"y": "2"}
    answer = await server.http("PATCH", path, operations, content_type=JSON_PATCH)
    assert answer.status == 422
    answer = await server.http("PATCH", path, [{"op": "add", "path": "/data/z", "value": 1}], content_type=JSON_PATCH)
    assert "cannot unmarshal number" in message(answer, 422, "Invalid")
    answer = await server.http("PATCH", path, b"{", content_type=MERGE)
    message(answer, 400, "BadRequest")
    answer = await server.http("PATCH", path, {}, content_type="application/json")
    assert "application/merge-patch+json" in message(answer, 415, "UnsupportedMediaType")
    answer = await server.http("PATCH", path, b"{}", content_type="application/apply-patch+yaml")
    message(answer, 415, "UnsupportedMediaType")


async def test_a_json_patch_has_at_most_ten_thousand_operations(server: ApiUnderTest) -> None:
    await created(server)
    operations = [{"op": "test", "path": "/data/k", "value": "v"}] * 10_001
    answer = await server.http("PATCH", CONFIGMAPS + "/a", operations, content_type=JSON_PATCH)
    assert message(answer, 413, "RequestEntityTooLarge") == "The allowed maximum operations in a JSON patch is 10000, got 10001"


async def test_concurrent_patches_without_a_resource_version_all_count(server: ApiUnderTest) -> None:
    await created(server)

    async def add(number: int) -> None:
        answer = await server.http("PATCH", CONFIGMAPS + "/a", {"data": {f"k{number}": "x"}}, content_type=MERGE)
        assert answer.status == 200

    await asyncio.gather(*(add(n) for n in range(40)))
    assert len((await server.http("GET", CONFIGMAPS + "/a")).json["data"]) == 41
    assert len(server.api.writer.locks) == 0


async def test_concurrent_creates_of_one_name_have_one_winner(server: ApiUnderTest) -> None:
    answers = await asyncio.gather(*(server.http("POST", CONFIGMAPS, configmap()) for _ in range(20)))
    assert sorted(a.status for a in answers) == [201] + [409] * 19


@pytest.mark.parametrize(
    ("meta", "field", "words"),
    [
        ({"name": "A"}, "metadata.name", "a lowercase RFC 1123 subdomain must consist of"),
        ({"name": "a", "labels": {"-": "x"}}, "metadata.labels", "name part must consist of alphanumeric characters"),
        ({"name": "a", "labels": {"a": "-"}}, "metadata.labels", "a valid label must be an empty string or consist of"),
        ({"name": "a", "annotations": {"a b": ""}}, "metadata.annotations", "name part must consist of"),
        ({"name": "a", "annotations": {"a": "x" * 262145}}, "metadata.annotations", "may not be more than 262144 bytes"),
        ({"name": "a", "finalizers": ["a b"]}, "metadata.finalizers", "name part must consist of"),
        ({"name": "a", "finalizers": ["orphan", "foregroundDeletion"]}, "metadata.finalizers", "cannot be both set"),
        ({"name": "a", "ownerReferences": [{"kind": "Pod", "apiVersion": "v1"}]}, "metadata.ownerReferences.uid", "must not be empty"),
        ({}, "metadata.name", "name or generateName is required"),
    ],
)  # fmt: skip
async def test_metadata_is_checked_in_upstreams_words(server: ApiUnderTest, meta: dict[str, Any], field: str, words: str) -> None:
    answer = await server.http("POST", CONFIGMAPS, {"metadata": meta})
    assert words in message(answer, 422, "Invalid")
    causes = answer.json["details"]["causes"]
    assert field in [c["field"] for c in causes]


async def test_the_namespace_and_name_must_be_those_of_the_url(server: ApiUnderTest) -> None:
    answer = await server.http("POST", CONFIGMAPS, {"metadata": {"name": "a", "namespace": "other"}})
    assert message(answer, 400, "BadRequest") == "the namespace of the provided object does not match the namespace sent on the request"
    await created(server)
    answer = await server.http("PUT", CONFIGMAPS + "/a", configmap("b"))
    assert message(answer, 400, "BadRequest") == "the name of the object (b) does not match the name on the URL (a)"


async def test_put_creates_where_the_kind_allows_it(server: ApiUnderTest) -> None:
    answer = await server.http("PUT", CONFIGMAPS + "/new", configmap("new"))
    assert message(answer, 404, "NotFound") == 'configmaps "new" not found'
    lease = {"metadata": {"name": "new"}, "spec": {"holderIdentity": "me"}}
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/new"
    made = await server.http("PUT", path, lease)
    assert made.status == 201
    answer = await server.http("PUT", path, lease)
    assert message(answer, 422, "Invalid").endswith("metadata.resourceVersion: Invalid value: 0x0: must be specified for an update")
    assert (await server.http("PUT", path, made.json)).status == 200
    await server.http("DELETE", path)
    answer = await server.http("PUT", path, made.json)
    uid = made.json["metadata"]["uid"]
    assert message(answer, 409, "Conflict").endswith(f"UID in precondition: {uid}, UID in object meta: "), "that one is gone"
    before = made.json
    del before["metadata"]["uid"]
    again = await server.http("PUT", path, before)
    assert again.status == 201 and int(again.json["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])


async def test_status_is_its_own_endpoint(server: ApiUnderTest) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    sent = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}, "status": {"replicas": 7}}
    obj = await created(server, sent, path)
    assert obj["metadata"]["generation"] == 1 and obj.get("status", {}).get("replicas") is None
    patch = {"spec": {"replicas": 5}, "status": {"replicas": 3}}
    obj = (await server.http("PATCH", path + "/d/status", patch, content_type=MERGE)).json
    assert obj["status"]["replicas"] == 3 and obj["spec"].get("replicas", 1) == 1 and obj["metadata"]["generation"] == 1
    obj = (await server.http("PATCH", path + "/d", patch, content_type=MERGE)).json
    assert obj["spec"]["replicas"] == 5 and obj["metadata"]["generation"] == 2 and obj["status"]["replicas"] == 3
    by_subresource = {e.get("subresource"): e for e in obj["metadata"]["managedFields"]}
    assert "f:status" in by_subresource["status"]["fieldsV1"] and "f:status" not in by_subresource[None]["fieldsV1"]


async def test_scale_is_spec_replicas(server: ApiUnderTest) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await created(server, {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}, path)
    scale = (await server.http("GET", path + "/d/scale")).json
    assert (scale["kind"], scale["apiVersion"], scale["status"]["selector"]) == ("Scale", "autoscaling/v1", "a=b")
    scale["spec"]["replicas"] = 4
    assert (await server.http("PUT", path + "/d/scale", scale)).json["spec"]["replicas"] == 4
    message(await server.http("PUT", path + "/d/scale", scale), 409, "Conflict")
    answer = await server.http("PATCH", path + "/d/scale", {"spec": {"replicas": 2}}, content_type=MERGE)
    assert answer.json["spec"]["replicas"] == 2
    assert (await server.http("GET", path + "/d")).json["spec"]["replicas"] == 2
    answer = await server.http("PATCH", path + "/d/scale", {"spec": {"replicas": -1}}, content_type=MERGE)
    message(answer, 422, "Invalid")


async def test_events_of_both_groups_are_one_object(server: ApiUnderTest) -> None:
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "Started",
        "message": "words",
        "type": "Normal",
    }
    await created(server, event, "/api/v1/namespaces/default/events")
    other = (await server.http("GET", "/apis/events.k8s.io/v1/namespaces/default/events/e")).json
    assert other["apiVersion"] == "events.k8s.io/v1" and other["note"] == "words" and other["regarding"]["name"] == "p"
    listed = (await server.http("GET", "/apis/events.k8s.io/v1/events")).json
    assert listed["apiVersion"] == "events.k8s.io/v1" and listed["items"][0]["note"] == "words"
    for path, selector, count in (
        ("/apis/events.k8s.io/v1/events", "regarding.name=p", 1),
        ("/apis/events.k8s.io/v1/events", "reportingController=other", 0),
        ("/api/v1/events", "involvedObject.name=p", 1),
    ):
        found = (await server.http("GET", f"{path}?fieldSelector={selector}")).json
        assert len(found["items"]) == count, (path, selector)
    message(await server.http("GET", "/apis/events.k8s.io/v1/events?fieldSelector=involvedObject.name=p"), 400, "BadRequest")
    patched = await server.http("PATCH", "/apis/events.k8s.io/v1/namespaces/default/events/e", {"note": "new"}, content_type=MERGE)
    assert patched.status == 200, patched.body
    assert (await server.http("GET", "/api/v1/namespaces/default/events/e")).json["message"] == "new"


class Unlucky:
    """Lets the first attempt to change an object lose a race for it, and holds the second one up where it is told to."""

    name = "Unlucky"

    def __init__(self, cache: Cache, hold: bool) -> None:
        self.cache, self.hold, self.attempts, self.taken = cache, hold, 0, 0
        self.waits = asyncio.Event()

    async def admit(self, request: AdmissionRequest) -> None:
        """Nothing to complete."""

    async def validate(self, request: AdmissionRequest) -> None:
        if request.operation is not Operation.UPDATE:
            return
        self.attempts += 1
        self.taken += 1
        request.undos.append(self.give_back)
        if self.attempts > 1:
            self.waits.set()
            if self.hold:
                await asyncio.Event().wait()
            return
        entry = self.cache.of(request.resource).get(request.namespace, request.name)
        assert entry is not None
        obj = entry.decode()
        del obj["metadata"]["resourceVersion"]
        await self.cache.store.commit(Write(entry.key, entry.revision, serialise(request.resource.ref, obj)))

    async def give_back(self) -> None:
        self.taken -= 1


@asynccontextmanager
async def unlucky_server(directory: Path, hold: bool = False) -> AsyncIterator[tuple[ApiUnderTest, Unlucky]]:
    made: list[Unlucky] = []

    def admission(cache: Cache) -> list[Unlucky]:
        made.append(Unlucky(cache, hold))
        return made

    async with api_server(directory, admission=admission) as server:
        await server.client().create(ConfigMap, configmap(), "default")
        yield server, made[0]


async def test_who_goes_away_after_a_lost_race_and_before_the_next_takes_back_what_was_promised(tmp_path: Path) -> None:
    async with unlucky_server(tmp_path, hold=True) as (server, unlucky):
        changing = asyncio.create_task(server.client().patch(ConfigMap, "a", {"data": {"x": "y"}}, "default"))
        await unlucky.waits.wait()
        changing.cancel()
        await asyncio.wait([changing])
        assert (unlucky.attempts, unlucky.taken) == (2, 0)


async def test_a_patch_that_lost_a_race_is_made_on_what_has_won_unless_it_names_a_version(tmp_path: Path) -> None:
    async with unlucky_server(tmp_path) as (server, unlucky):
        client = server.client()
        patched = await client.patch(ConfigMap, "a", {"data": {"x": "y"}}, "default")
        assert (unlucky.attempts, patched.data["x"]) == (2, "y")
        for change in ({"data": {"x": "z"}}, configmap(x="z")):
            unlucky.attempts = 0
            version = (await client.get(ConfigMap, "a", "default")).metadata.resourceVersion
            body = {**change, "metadata": {"name": "a", "resourceVersion": version}}
            with pytest.raises(Conflict):
                await (
                    client.update(ConfigMap, body, "a", "default")
                    if change.get("metadata")
                    else client.patch(ConfigMap, "a", body, "default")
                )
            assert (await client.get(ConfigMap, "a", "default")).data["x"] == "y"
