"""Events on the real API server: repeats are counted into one, and one does not wait for another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from minikube_py.aio import cancel
from minikube_py.apiserver.http import HttpFront
from minikube_py.client import Client
from minikube_py.client.http import HttpTransport
from minikube_py.control import EventRecorder
from minikube_py.pki.contexts import client_context
from minikube_py.types.core import ConfigMap, Event
from minikube_py.types.meta import ObjectMeta
from tests.support.api import api_server
from tests.support.waiting import until

ABOUT = ConfigMap(metadata=ObjectMeta(name="a", namespace="default", uid="u"))


@asynccontextmanager
async def recording(recorder: EventRecorder) -> AsyncIterator[EventRecorder]:
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        await cancel(task)


async def test_repeats_are_counted_and_an_event_whose_time_was_up_counts_on(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server, recording(EventRecorder(server.client(), "tester", "host")) as recorder:
        client = server.client()

        async def counts() -> dict[str, int]:
            return {event.message: event.count for event in (await client.list(Event, "default")).items}

        async def says(wanted: dict[str, int]) -> bool:
            return await counts() == wanted

        for message in ("one", "two", "two", "one"):
            recorder.record(ABOUT, "Normal", "Said", message)
        await until(lambda: says({"one": 2, "two": 2}))
        for event in (await client.list(Event, "default")).items:
            await client.delete(Event, event.metadata.name, "default")
        recorder.record(ABOUT, "Normal", "Said", "two")
        await until(lambda: says({"two": 3}))


async def test_of_many_similar_messages_the_latest_is_shown(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server, recording(EventRecorder(server.client(), "tester")) as recorder:
        for number in range(12):
            recorder.record(ABOUT, "Warning", "Failed", f"attempt {number}")

        async def shown() -> bool:
            found = {event.message: event.count for event in (await server.client().list(Event, "default")).items}
            return found == {**{f"attempt {number}": 1 for number in range(9)}, "(combined from similar events): attempt 11": 3}

        await until(shown)


async def test_events_are_about_objects_of_any_name(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server, recording(EventRecorder(server.client(), "tester")) as recorder:
        names = {"a" * 253, "system:controller:x"}
        for name in names:
            recorder.record(ConfigMap(metadata=ObjectMeta(name=name, namespace="default", uid="u")), "Normal", "Said", "hello")

        async def shown() -> bool:
            return {event.involvedObject.name for event in (await server.client().list(Event, "default")).items} == names

        await until(shown)


async def test_a_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        transport = HttpTransport(server.url, client_context(server.keys.server_ca_pem), token=server.token)
        async with recording(EventRecorder(Client(transport), "tester", between_tries=0.05)) as recorder:
            await server.front.close()
            recorder.record(ABOUT, "Normal", "Said", "while it was away")
            await asyncio.sleep(0.2)
            again = HttpFront(server.api, server.api.authenticator)
            await again.start("127.0.0.1", server.port, server.keys.api_server_context())
            try:

                async def said() -> bool:
                    return [event.count for event in (await server.client().list(Event, "default")).items] == [1]

                await until(said)
            finally:
                await transport.close()
                await again.close()


async def test_events_do_not_wait_for_one_another_but_for_those_of_the_same(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server, recording(EventRecorder(server.client(), "tester")) as recorder:
        client = server.client()

        async def counts() -> dict[str, int]:
            return {event.message: event.count for event in (await client.list(Event, "default")).items}

        async def says(wanted: dict[str, int]) -> bool:
            return await counts() == wanted

        recorder.record(ABOUT, "Normal", "Said", "slow")
        await until(lambda: says({"slow": 1}))
        (event,) = (await client.list(Event, "default")).items
        found = server.api.find("", "v1", "events")
        assert found is not None
        async with server.api.writer.locks.hold(found[0].key("default", event.metadata.name)):
            for message in ("slow", "quick", "slow", "slow"):
                recorder.record(ABOUT, "Normal", "Said", message)
            await until(lambda: says({"slow": 1, "quick": 1}))
        await until(lambda: says({"slow": 4, "quick": 1}))
