"""What a machine knows of its cluster while the server is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from minikube_py import pki
from minikube_py.client import Client, checkpoint
from minikube_py.client.checkpoint import Checkpoint, CheckpointTransport, replay
from minikube_py.client.http import HttpTransport
from minikube_py.client.transport import TransportError
from minikube_py.control import Informer, Informers
from minikube_py.types.core import ConfigMap, Secret
from tests.support.api import ApiUnderTest, api_server
from tests.support.waiting import until

PATHS = ("/api/v1/configmaps",)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "WRITE_EVERY", 0.01)


@asynccontextmanager
async def following(server: ApiUnderTest, directory: Path) -> AsyncIterator[Informer[ConfigMap]]:
    """A machine that follows the config maps: each use is a new process."""
    client = Client(CheckpointTransport(HttpTransport(server.url, server.keys.client_context(pki.ADMIN)), directory, PATHS))
    informers = Informers(client)
    try:
        yield informers.of(ConfigMap)
    finally:
        await informers.close()
        await client.close()


def names(informer: Informer[ConfigMap]) -> set[str]:
    return {view.metadata.name for view in informer.list()}


async def create(server: ApiUnderTest, name: str) -> None:
    await server.client().create(ConfigMap, {"metadata": {"name": name}}, "default")


async def test_a_restart_without_the_server_knows_what_was_known_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    async with api_server(tmp_path / "server") as server:
        await create(server, "listed")
        await create(server, "goes")
        async with following(server, tmp_path / "node") as maps:
            await until(lambda: names(maps) == {"listed", "goes"})
            await create(server, "watched")
            await server.client().delete(ConfigMap, "goes", "default")
            await until(lambda: names(maps) == {"listed", "watched"})
        await server.front.close()
        await create(server, "later")
        async with following(server, tmp_path / "node") as maps:
            await asyncio.wait_for(maps.synced.wait(), 5)
            assert names(maps) == {"listed", "watched"}
            await server.front.start("127.0.0.1", server.port, server.keys.api_server_context())
            await until(lambda: names(maps) == {"listed", "watched", "later"}, 10)
            assert maps.get("default/listed") is not None
        await server.front.close()
        async with following(server, tmp_path / "node") as maps:
            await asyncio.wait_for(maps.synced.wait(), 5)
            assert names(maps) == {"listed", "watched", "later"}, "what came after the checkpoint is in it too"


async def test_a_server_that_takes_connections_and_says_nothing_is_away_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PATIENCE", 0.2)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with api_server(tmp_path / "server") as server:
        await create(server, "known")
        async with following(server, tmp_path / "node") as maps:
            await until(lambda: names(maps) == {"known"})
        await server.front.close()
        listener = await asyncio.start_server(say_nothing, "127.0.0.1", server.port)
        async with following(server, tmp_path / "node") as maps:
            await asyncio.wait_for(maps.synced.wait(), 2)
            assert names(maps) == {"known"}
        listener.close()


async def test_without_a_checkpoint_nothing_is_made_up(tmp_path: Path) -> None:
    async with api_server(tmp_path / "server") as server:
        await server.front.close()
        async with following(server, tmp_path / "node") as maps:
            await asyncio.sleep(0.3)
            assert not maps.synced.is_set()


async def test_once_the_server_was_heard_the_file_is_not_asked_again(tmp_path: Path) -> None:
    async with api_server(tmp_path / "server") as server:
        client = Client(CheckpointTransport(HttpTransport(server.url, server.keys.client_context(pki.ADMIN)), tmp_path / "node", PATHS))
        await client.list(ConfigMap)
        await server.front.close()
        with pytest.raises(TransportError):
            await client.list(ConfigMap)
        await client.close()


async def test_only_what_it_was_told_to_is_kept_and_each_selection_by_itself(tmp_path: Path) -> None:
    async with api_server(tmp_path / "server") as server:
        await create(server, "a")
        await create(server, "b")
        await server.client().create(Secret, {"metadata": {"name": "s"}, "stringData": {"x": "hidden"}}, "default")
        transport = CheckpointTransport(HttpTransport(server.url, server.keys.client_context(pki.ADMIN)), tmp_path / "node", PATHS)
        client = Client(transport)
        await client.list(Secret)
        await client.list(ConfigMap, page=1)
        await client.list(ConfigMap, field_selector="metadata.name=b")
        await client.close()
        files = sorted((tmp_path / "node").iterdir())
        assert len(files) == 2 and all(file.stat().st_mode & 0o777 == 0o600 for file in files)
        kept = [replay(file.read_bytes()) for file in files]
        found = sorted(sorted(json.loads(item)["metadata"]["name"] for item in one.items) for one in kept if one is not None)
        assert found == [["a", "b"], ["b"]]


def item(name: str, revision: int) -> bytes:
    return json.dumps({"metadata": {"name": name, "namespace": "n", "resourceVersion": str(revision)}}).encode()


def line(kind: str, name: str, revision: int) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), item(name, revision))


def test_a_file_cut_off_anywhere_is_a_state_that_there_was() -> None:
    states = [{"a"}, {"a", "b"}, {"b"}]
    content = Checkpoint("7", (item("a", 5),)).as_lines()
    base = len(content)
    content += line("ADDED", "b", 8) + line("DELETED", "a", 9)
    for end in range(base, len(content) + 1):
        kept = replay(content[:end])
        assert kept is not None
        assert {json.loads(i)["metadata"]["name"] for i in kept.items} == states[int(kept.revision) - 7]
    assert replay(b"") is None and replay(b'{"type":"BOOK') is None


async def test_a_disk_that_takes_nothing_leaves_no_half_truth(tmp_path: Path) -> None:
    async with api_server(tmp_path / "server") as server:
        directory = tmp_path / "node"
        await create(server, "a")
        async with following(server, directory) as maps:
            await until(lambda: bool(list(directory.glob("*.jsonl"))))
            path = next(directory.glob("*.jsonl"))
            path.unlink()
            path.mkdir()
            await create(server, "b")
            await until(lambda: names(maps) == {"a", "b"})
            await asyncio.sleep(0.1)
        assert path.is_dir() or not path.exists()
