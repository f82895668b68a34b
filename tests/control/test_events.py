"""Events on the real API server: repeats are counted into one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from minikube_py.control import EventRecorder, events
from minikube_py.types.core import ConfigMap, Event
from minikube_py.types.meta import ObjectMeta
from tests.support.api import api_server
from tests.support.waiting import until


async def test_repeats_are_counted_and_what_was_said_long_ago_is_said_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_REMEMBERED", 2)
    async with api_server(tmp_path) as server:
        client = server.client()
        recorder = EventRecorder(client, "tester", "host")
        about = ConfigMap(metadata=ObjectMeta(name="a", namespace="default", uid="u"))
        task = asyncio.create_task(recorder.run())
        try:
            for message in ("one", "two", "two", "one", "three", "one", "two"):
                recorder.record(about, "Normal", "Said", message)

            async def counts() -> dict[str, list[int]]:
                found: dict[str, list[int]] = {}
                for event in sorted((await client.list(Event, "default")).items, key=lambda e: e.metadata.name):
                    found.setdefault(event.message, []).append(event.count)
                return found

            async def said() -> bool:
                return sum(sum(of) for of in (await counts()).values()) == 7

            await until(said)
            assert await counts() == {"one": [3], "two": [2, 1], "three": [1]}
        finally:
            task.cancel()


async def test_events_do_not_wait_for_one_another_but_for_those_of_the_same(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        client = server.client()
        recorder = EventRecorder(client, "tester")
        about = ConfigMap(metadata=ObjectMeta(name="a", namespace="default", uid="u"))
        task = asyncio.create_task(recorder.run())

        async def counts() -> dict[str, int]:
            return {event.message: event.count for event in (await client.list(Event, "default")).items}

        async def says(wanted: dict[str, int]) -> bool:
            return await counts() == wanted

        try:
            recorder.record(about, "Normal", "Said", "slow")
            await until(lambda: says({"slow": 1}))
            (event,) = (await client.list(Event, "default")).items
            found = server.api.find("", "v1", "events")
            assert found is not None
            async with server.api.writer.locks.hold(found[0].key("default", event.metadata.name)):
                for message in ("slow", "quick", "slow", "slow"):
                    recorder.record(about, "Normal", "Said", message)
                await until(lambda: says({"slow": 1, "quick": 1}))
            await until(lambda: says({"slow": 4, "quick": 1}))
        finally:
            task.cancel()
