"""What is written to and read from disk: volumes' files, links, logs."""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikube_py.kubelet import images, logs
from minikube_py.kubelet.fields import Addresses
from minikube_py.kubelet.logs import LogOptions
from minikube_py.kubelet.volumes import atomic, content, subpath
from minikube_py.kubelet.volumes.content import ContentError, File, Sources
from minikube_py.types.core import ConfigMap, Secret
from minikube_py.types.meta import ObjectMeta
from tests.kubelet.values import pod


def test_the_files_of_a_volume_are_replaced_all_at_once(tmp_path: Path) -> None:
    assert atomic.write(tmp_path, {"a": File(b"1"), "deep/b": File(b"2", 0o600)})
    assert (tmp_path / "a").read_bytes() == b"1" and os.readlink(tmp_path / "a") == "..data/a"
    assert (tmp_path / "deep/b").stat().st_mode & 0o777 == 0o600
    before = os.readlink(tmp_path / "..data")
    assert not atomic.write(tmp_path, {"a": File(b"1"), "deep/b": File(b"2", 0o600)})
    assert os.readlink(tmp_path / "..data") == before
    assert atomic.write(tmp_path, {"c": File(b"3")})
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..")) == ["c"]
    assert {p.name for p in tmp_path.iterdir() if p.name.startswith("..")} == {"..data", os.readlink(tmp_path / "..data")}
    assert not (tmp_path / before).exists()


def test_a_reader_never_sees_half_an_update(tmp_path: Path) -> None:
    atomic.write(tmp_path, {"a": File(b"0"), "b": File(b"0")})
    stop = threading.Event()
    torn: list[tuple[str, str]] = []

    def read() -> None:
        while not stop.is_set():
            try:
                current = os.open(tmp_path / "..data", os.O_PATH | os.O_DIRECTORY)
            except FileNotFoundError:
                continue  # the link was followed to a directory that is no longer there
            try:
                both = tuple(Path(f"/proc/self/fd/{current}/{name}").read_text() for name in "ab")
            except FileNotFoundError:
                both = ("", "")  # the directory was replaced and removed while it was read
            finally:
                os.close(current)
            if both[0] != both[1] and all(both):
                torn.append((both[0], both[1]))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(100):
        atomic.write(tmp_path, {"a": File(str(i).encode()), "b": File(str(i).encode())})
    stop.set()
    reader.join()
    assert not torn


def test_a_link_out_of_the_volume_is_refused(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "out").symlink_to("/etc")
    (volume / "up").symlink_to("../..")
    for path in ("out", "out/passwd", "up", "../elsewhere"):
        with pytest.raises(subpath.SubPathError, match="not within volume path"):
            subpath.prepare(volume, path, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def files(volume: dict[str, Any], **spec: Any) -> content.Files:
    of = pod({}, volumes=[{"name": "v", **volume}], **spec)
    maps = {"m": ConfigMap(metadata=ObjectMeta(name="m"), data={"k": "v"}, binaryData={"b": base64.b64encode(b"\xff").decode()})}
    secrets = {"s": Secret(metadata=ObjectMeta(name="s"), data={"k": base64.b64encode(b"x").decode()})}
    tokens = dict.fromkeys(content.references(of).tokens, "token")
    return content.files(of, of.spec.volumes[0], Sources(maps.get, secrets.get, tokens, Addresses(), {}))


def test_what_volumes_hold() -> None:
    assert files({"configMap": {"name": "m"}}) == {"k": File(b"v"), "b": File(b"\xff")}
    assert files({"secret": {"secretName": "s", "items": [{"key": "k", "path": "p/q", "mode": 256}]}}) == {"p/q": File(b"x", 256)}
    assert files({"configMap": {"name": "none", "optional": True}}) == {}


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        ({"configMap": {"name": "m", "items": [{"key": "none", "path": "p"}]}}, "configmap references non-existent config key: none"),
        ({"secret": {"secretName": "s", "items": [{"key": "none", "path": "p"}]}}, "references non-existent secret key: none"),
    ],
)
def test_what_a_volume_lacks_is_said(volume: dict[str, Any], message: str) -> None:
    with pytest.raises(ContentError, match=f"^{message}$"):
        files(volume)


@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ({}, File(b"token", 0o644)),
        ({"securityContext": {"runAsUser": 7}}, File(b"token", 0o600, 7)),
        ({"securityContext": {"fsGroup": 8}}, File(b"token", 0o600)),
        ({"securityContext": {"runAsUser": 7, "fsGroup": 8}}, File(b"token", 0o600, 7)),
    ],
)
def test_who_may_read_a_token(spec: dict[str, Any], file: File) -> None:
    assert files({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}, **spec) == {"t": file}


ENTRIES = (
    b"2024-01-01T00:00:01.5Z stdout F one\n"
    b"2024-01-01T00:00:02.000000001Z stderr P tw\n"
    b"2024-01-01T00:00:03Z stderr F o\n"
    b"2024-01-01T00:00:04Z stdout F \n"
)


def text(options: LogOptions, data: bytes = ENTRIES, cut: int = 1000) -> bytes:
    kept = logs.Filter(options)
    return b"".join(kept.feed(data[i : i + cut]) for i in range(0, len(data), cut))


def test_log_entries() -> None:
    assert text(LogOptions()) == b"one\ntwo\n\n"
    assert text(LogOptions(stream="Stderr")) == b"two\n"
    assert text(LogOptions(limit_bytes=5)) == b"one\nt"
    assert text(LogOptions(timestamps=True)).startswith(b"2024-01-01T00:00:01.5Z one\n2024-01-01T00:00:02.000000001Z two\n")
    since = logs._seconds(b"2024-01-01T00:00:03Z")
    assert text(LogOptions(since=since)) == b"o\n\n"


@given(st.integers(1, 40))
def test_log_entries_in_pieces(cut: int) -> None:
    assert text(LogOptions(), cut=cut) == b"one\ntwo\n\n"


@given(st.lists(st.integers(0, 200), max_size=60), st.integers(0, 70))
def test_the_tail(lengths: list[int], lines: int) -> None:
    data = b"".join(b"x" * n + b"\n" for n in lengths)
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        offset = logs.tail_offset(Path(file.name), lines)
    assert data[offset:].count(b"\n") == min(lines, len(lengths))


async def test_following_a_log_through_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"2024-01-01T00:00:01Z stdout F one\n")
    ended, running = asyncio.Event(), [True]
    made: Callable[[], asyncio.Event] = lambda: ended  # noqa: E731
    stream = logs.read(path, LogOptions(follow=True), lambda: running[0], made)
    assert await anext(stream) == b"one\n"
    path.rename(tmp_path / "0.log.1")
    path.write_bytes(b"2024-01-01T00:00:02Z stdout F two\n")
    assert await asyncio.wait_for(anext(stream), 5) == b"two\n"
    running[0] = False
    ended.set()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(stream), 5)


def test_an_image_without_a_tag_gets_one_and_what_is_no_image_is_refused() -> None:
    assert images.with_tag("registry.example:5000/a") == "registry.example:5000/a:latest"
    digest = "a@sha256:" + "0" * 64
    assert images.with_tag(digest) == digest
    for name in ("Not a name", "a b", "x:", "0" * 64):
        with pytest.raises(ValueError, match="invalid reference format"):
            images.with_tag(name)


async def test_a_log_is_whole_when_its_writer_has_closed_it(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    with await asyncio.to_thread(open, path, "wb", 0) as writer:
        assert not await asyncio.to_thread(logs.wait_whole, path, 0.02)
        waiting = asyncio.create_task(asyncio.to_thread(logs.wait_whole, path, 10.0))
        await asyncio.sleep(0.02)
        writer.write(b"2026-01-01T00:00:00Z stdout F last words\n")
        assert not waiting.done()
    assert await waiting
    assert logs.tail_text(path, 100, 1) == "last words\n"
    assert logs.wait_whole(tmp_path / "nothing.log", 0.0)
