"""Get, list and watch, as clients see them."""

import asyncio
import gzip
import json
from typing import Any

import aiohttp
import pytest
import yaml

from minikube_py.apiserver.present import PIECE
from minikube_py.types.core import ConfigMap, Event
from tests.support.api import ApiUnderTest

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"


async def fill(server: ApiUnderTest, count: int, namespace: str = "default", size: int = 10, **labels: str) -> None:
    client = server.client()
    for number in range(count):
        obj = {"metadata": {"name": f"c{number:03}", "labels": {"n": str(number % 2), **labels}}, "data": {"k": "x" * size}}
        await client.create(ConfigMap, obj, namespace)


def names(answer: Any) -> list[str]:
    return [item["metadata"]["name"] for item in answer["items"]]


async def test_a_list_has_everything_in_order_at_the_newest_revision(server: ApiUnderTest) -> None:
    await fill(server, 3)
    answer = (await server.http("GET", CONFIGMAPS)).json
    assert (answer["kind"], answer["apiVersion"]) == ("ConfigMapList", "v1")
    assert names(answer) == ["c000", "c001", "c002"] and answer["metadata"] == {"resourceVersion": str(server.store.revision)}
    assert names((await server.http("GET", "/api/v1/configmaps")).json) == ["c000", "c001", "c002"]
    assert names((await server.http("GET", "/api/v1/namespaces/kube-system/configmaps")).json) == []


async def test_selectors(server: ApiUnderTest) -> None:
    await fill(server, 4)
    for query, expected in (
        ("labelSelector=n%3D1", ["c001", "c003"]),
        ("labelSelector=n+notin+(1),!x", ["c000", "c002"]),
        ("fieldSelector=metadata.name%3Dc002", ["c002"]),
        ("fieldSelector=metadata.name!%3Dc002,metadata.namespace%3Ddefault", ["c000", "c001", "c003"]),
        ("fieldSelector=metadata.namespace%3Dother", []),
    ):
        assert names((await server.http("GET", f"{CONFIGMAPS}?{query}")).json) == expected, query


async def test_pages_are_all_of_one_revision(server: ApiUnderTest) -> None:
    await fill(server, 7)
    first = (await server.http("GET", CONFIGMAPS + "?limit=3")).json
    assert names(first) == ["c000", "c001", "c002"] and first["metadata"]["remainingItemCount"] == 4
    client = server.client()
    await client.delete(ConfigMap, "c004", "default")
    await client.create(ConfigMap, {"metadata": {"name": "c0035"}}, "default")
    second = (await server.http("GET", f"{CONFIGMAPS}?limit=3&continue={first['metadata']['continue']}")).json
    assert names(second) == ["c003", "c004", "c005"] and second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    third = (await server.http("GET", f"{CONFIGMAPS}?limit=3&continue={second['metadata']['continue']}")).json
    assert names(third) == ["c006"] and "continue" not in third["metadata"]


async def test_pages_with_a_selector(server: ApiUnderTest) -> None:
    await fill(server, 9)
    first = (await server.http("GET", CONFIGMAPS + "?limit=2&labelSelector=n%3D1")).json
    assert names(first) == ["c001", "c003"] and "remainingItemCount" not in first["metadata"]
    await server.client().delete(ConfigMap, "c005", "default")
    second = (await server.http("GET", f"{CONFIGMAPS}?limit=2&labelSelector=n%3D1&continue={first['metadata']['continue']}")).json
    assert names(second) == ["c005", "c007"]


async def test_a_page_of_a_compacted_revision_is_410_with_a_token_to_go_on_inconsistently(server: ApiUnderTest) -> None:
    await fill(server, 5)
    first = (await server.http("GET", CONFIGMAPS + "?limit=2")).json
    await server.client().create(ConfigMap, {"metadata": {"name": "c0025"}}, "default")
    await server.store.compact(server.store.revision)
    answer = await server.http("GET", f"{CONFIGMAPS}?limit=2&continue={first['metadata']['continue']}")
    assert (answer.status, answer.json["reason"]) == (410, "Expired")
    assert answer.json["message"].startswith("The provided continue parameter is too old to display a consistent list result.")
    token = answer.json["metadata"]["continue"]
    rest = (await server.http("GET", f"{CONFIGMAPS}?limit=9&continue={token}")).json
    assert names(rest) == ["c002", "c0025", "c003", "c004"]


async def test_a_list_as_of_a_revision(server: ApiUnderTest) -> None:
    await fill(server, 2)
    then = server.store.revision
    await server.client().delete(ConfigMap, "c000", "default")
    exact = (await server.http("GET", f"{CONFIGMAPS}?resourceVersion={then}&resourceVersionMatch=Exact")).json
    assert names(exact) == ["c000", "c001"] and exact["metadata"]["resourceVersion"] == str(then)
    assert names((await server.http("GET", f"{CONFIGMAPS}?resourceVersion={then}&resourceVersionMatch=NotOlderThan")).json) == ["c001"]
    assert names((await server.http("GET", f"{CONFIGMAPS}?resourceVersion=0&limit=1")).json) == ["c001"]
    await server.store.compact(server.store.revision)
    answer = await server.http("GET", f"{CONFIGMAPS}?resourceVersion={then}&resourceVersionMatch=Exact")
    assert (answer.status, answer.json["message"]) == (410, "The resourceVersion for the provided list is too old.")


async def test_a_revision_that_is_not_there_yet_is_a_timeout(server: ApiUnderTest) -> None:
    future = server.store.revision + 1000
    answer = await server.http("GET", f"{CONFIGMAPS}?resourceVersion={future}")
    assert answer.status == 504 and f"Too large resource version: {future}, current: {future - 1000}" in answer.json["message"]
    assert answer.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge" and answer.headers["Retry-After"] == "1"


async def test_a_big_list_is_whole_plain_and_compressed(server: ApiUnderTest) -> None:
    await fill(server, 60, size=8000)
    plain = await server.http("GET", CONFIGMAPS)
    assert int(plain.headers["Content-Length"]) == len(plain.body) > 480_000
    assert len(plain.json["items"]) == 60
    packed = await server.http("GET", CONFIGMAPS, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip" and len(packed.body) < 50_000
    assert gzip.decompress(packed.body) == plain.body
    small = await server.http("GET", CONFIGMAPS + "/c000", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers


async def test_a_long_table_is_made_in_pieces(server: ApiUnderTest) -> None:
    await fill(server, 150)
    plain = await server.http("GET", CONFIGMAPS, headers={"Accept": TABLE})
    assert "Content-Length" not in plain.headers
    assert [row["cells"][0] for row in plain.json["rows"]] == [f"c{number:03}" for number in range(150)]
    assert [column["name"] for column in plain.json["columnDefinitions"]] == ["Name", "Data", "Age"]
    packed = await server.http("GET", CONFIGMAPS, headers={"Accept": TABLE, "Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    rows = json.loads(gzip.decompress(packed.body))["rows"]
    assert [row["object"]["metadata"]["name"] for row in rows] == [f"c{number:03}" for number in range(150)]
    wrong = await server.http("GET", CONFIGMAPS + "?includeObject=Everything", headers={"Accept": TABLE})
    assert (wrong.status, wrong.json["reason"]) == (400, "BadRequest")


async def test_tables_and_metadata_only(server: ApiUnderTest) -> None:
    await fill(server, 2)
    table = (await server.http("GET", CONFIGMAPS, headers={"Accept": TABLE})).json
    assert table["kind"] == "Table" and [row["cells"][0] for row in table["rows"]] == ["c000", "c001"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    one = (await server.http("GET", CONFIGMAPS + "/c000", headers={"Accept": TABLE})).json
    assert one["kind"] == "Table" and len(one["rows"]) == 1
    partial = (await server.http("GET", CONFIGMAPS, headers={"Accept": PARTIAL})).json
    assert partial["kind"] == "PartialObjectMetadataList" and set(partial["items"][0]) == {"kind", "apiVersion", "metadata"}


async def test_the_older_version_of_tables_and_of_metadata(server: ApiUnderTest) -> None:
    await fill(server, 40)
    for path in (CONFIGMAPS, CONFIGMAPS + "/c000"):
        answer = await server.http("GET", path, headers={"Accept": "application/json;as=Table;v=v1beta1;g=meta.k8s.io"})
        assert answer.json["apiVersion"] == "meta.k8s.io/v1beta1" == answer.json["rows"][0]["object"]["apiVersion"]
    accept = "application/json;as=PartialObjectMetadataList;v=v1beta1;g=meta.k8s.io"
    partial = (await server.http("GET", CONFIGMAPS, headers={"Accept": accept})).json
    assert partial["apiVersion"] == "meta.k8s.io/v1beta1" == partial["items"][0]["apiVersion"]
    accept = accept.replace("List", "").replace("v1beta1", "v1beta2")
    assert (await server.http("GET", CONFIGMAPS + "/c000", headers={"Accept": accept})).status == 406


async def test_yaml_answers(server: ApiUnderTest) -> None:
    await fill(server, 1)
    answer = await server.http("GET", CONFIGMAPS + "/c000", headers={"Accept": "application/yaml"})
    assert answer.headers["Content-Type"] == "application/yaml" and b"\nkind: ConfigMap\n" in answer.body


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_a_list_as_yaml_is_the_list(server: ApiUnderTest, count: int) -> None:
    await fill(server, count)
    plain = (await server.http("GET", CONFIGMAPS)).json
    answer = await server.http("GET", CONFIGMAPS, headers={"Accept": "application/yaml"})
    assert yaml.safe_load(answer.body) == plain
    assert answer.body == yaml.safe_dump(plain, sort_keys=True, allow_unicode=True, default_flow_style=False).encode()
    metadata = await server.http("GET", CONFIGMAPS, headers={"Accept": PARTIAL.replace("json", "yaml", 1)})
    assert [item["kind"] for item in yaml.safe_load(metadata.body)["items"]] == ["PartialObjectMetadata"] * count


# Watches


async def watched(server: ApiUnderTest, query: str, count: int, **headers: str) -> list[Any]:
    """The first events of a watch."""
    events = []
    session = server.session()
    sent = {"Authorization": f"Bearer {server.token}", **headers}
    async with asyncio.timeout(10), session.get(f"{server.url}{CONFIGMAPS}?watch=1&{query}", headers=sent) as answer:
        assert answer.status == 200
        async for line in answer.content:
            events.append(json.loads(line))
            if len(events) == count:
                break
    return events


async def test_a_watch_tells_what_is_and_what_comes(server: ApiUnderTest) -> None:
    await fill(server, 1)
    task = asyncio.create_task(watched(server, "", 4))
    await asyncio.sleep(0.2)
    client = server.client()
    await client.patch(ConfigMap, "c000", {"data": {"k": "new"}}, "default")
    await client.create(ConfigMap, {"metadata": {"name": "other"}}, "default")
    await client.delete(ConfigMap, "c000", "default")
    events = await task
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in events] == [
        ("ADDED", "c000"),
        ("MODIFIED", "c000"),
        ("ADDED", "other"),
        ("DELETED", "c000"),
    ]
    assert int(events[3]["object"]["metadata"]["resourceVersion"]) == server.store.revision


async def test_a_watch_resumes_and_ends_at_its_timeout_with_a_bookmark(server: ApiUnderTest) -> None:
    await fill(server, 1)
    then = server.store.revision
    await server.client().create(ConfigMap, {"metadata": {"name": "later"}}, "default")
    answer = await server.http("GET", f"{CONFIGMAPS}?watch=1&resourceVersion={then}&timeoutSeconds=1&allowWatchBookmarks=true")
    events = [json.loads(line) for line in answer.body.splitlines()]
    assert [e["type"] for e in events] == ["ADDED", "BOOKMARK"] and events[0]["object"]["metadata"]["name"] == "later"
    assert events[1]["object"]["metadata"]["resourceVersion"] == str(server.store.revision)


async def test_initial_events_end_with_a_marked_bookmark(server: ApiUnderTest) -> None:
    await fill(server, 2)
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    events = await watched(server, query, 3)
    assert [e["type"] for e in events] == ["ADDED", "ADDED", "BOOKMARK"]
    assert events[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_too_old_a_watch_is_a_410_event(server: ApiUnderTest) -> None:
    await fill(server, 3)
    await server.store.compact(server.store.revision)
    (event,) = await watched(server, "resourceVersion=1", 1)
    assert event["type"] == "ERROR" and (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


async def test_a_watch_of_one_name_and_a_table_watch(server: ApiUnderTest) -> None:
    await fill(server, 3)
    (event,) = await watched(server, "fieldSelector=metadata.name%3Dc001", 1)
    assert event["object"]["metadata"]["name"] == "c001"
    events = await watched(server, "labelSelector=n%3D0", 2, Accept=TABLE)
    assert [e["object"]["rows"][0]["cells"][0] for e in events] == ["c000", "c002"]
    assert events[0]["object"]["columnDefinitions"] and not events[1]["object"]["columnDefinitions"]


async def test_the_old_watch_path(server: ApiUnderTest) -> None:
    await fill(server, 1)
    answer = await server.http("GET", "/api/v1/watch/namespaces/default/configmaps/c000?timeoutSeconds=1")
    assert json.loads(answer.body.splitlines()[0])["object"]["metadata"]["name"] == "c000"


async def test_a_watch_ends_with_its_client(server: ApiUnderTest) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=server.keys.client_context())) as session:
        headers = {"Authorization": f"Bearer {server.token}"}
        async with session.get(f"{server.url}{CONFIGMAPS}?watch=1", headers=headers) as answer:
            assert answer.status == 200
            for _ in range(100):
                if server.front.streams == 1:
                    break
                await asyncio.sleep(0.01)
            assert server.front.streams == 1
    for _ in range(100):
        if server.front.streams == 0:
            break
        await asyncio.sleep(0.02)
    assert server.front.streams == 0


async def test_the_server_closes_though_watches_are_open(server: ApiUnderTest) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=server.keys.client_context())) as session:
        headers = {"Authorization": f"Bearer {server.token}"}
        async with session.get(f"{server.url}{CONFIGMAPS}?watch=1", headers=headers) as answer:
            assert answer.status == 200
            async with asyncio.timeout(3):
                await server.front.close()
            with pytest.raises(aiohttp.ClientError):
                await session.get(server.url + "/version")


async def test_head_is_a_get_without_its_body(server: ApiUnderTest) -> None:
    await fill(server, 1)
    answer = await server.http("HEAD", CONFIGMAPS + "/c000")
    assert answer.status == 200 and answer.body == b"" and int(answer.headers["Content-Length"]) > 100


async def test_a_list_tells_version_and_kind_once(server: ApiUnderTest) -> None:
    """As Go's typed lists do; metadata alone, and what is got alone, is typed each."""
    await fill(server, 300, size=1000)
    whole = await server.http("GET", CONFIGMAPS)
    assert int(whole.headers["Content-Length"]) == len(whole.body) > PIECE
    listed = whole.json
    assert listed["kind"] == "ConfigMapList" and names(listed) == [f"c{number:03}" for number in range(300)]
    assert {tuple(item) for item in listed["items"]} == {("metadata", "data")}
    few = (await server.http("GET", CONFIGMAPS + "?limit=2")).json
    assert len(few["items"]) == 2 and "kind" not in few["items"][1]
    as_yaml = yaml.safe_load((await server.http("GET", CONFIGMAPS + "?limit=3", headers={"Accept": "application/yaml"})).body)
    assert [sorted(item) for item in as_yaml["items"]] == [["data", "metadata"]] * 3
    partial = (await server.http("GET", CONFIGMAPS + "?limit=2", headers={"Accept": PARTIAL})).json
    assert [(item["kind"], item["apiVersion"]) for item in partial["items"]] == [("PartialObjectMetadata", "meta.k8s.io/v1")] * 2
    assert (await server.http("GET", f"{CONFIGMAPS}/c000")).json["kind"] == "ConfigMap"


async def test_a_list_in_another_served_version_does_too(server: ApiUnderTest) -> None:
    body = {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "R", "message": "m"}
    await server.client().create(Event, {"metadata": {"name": "e"}, **body}, "default")
    listed = (await server.http("GET", "/apis/events.k8s.io/v1/namespaces/default/events")).json
    (item,) = listed["items"]
    assert listed["kind"] == "EventList" and "kind" not in item and "apiVersion" not in item and item["note"] == "m"
