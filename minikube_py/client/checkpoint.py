"""A transport that remembers on disk what lists and watches have brought, and answers from it until the server is first heard.

Why: a machine that restarts while its server is away must know its pods, services and endpoints. What follows the API by list and watch
needs to know nothing of this: its first list comes from the file, its watch goes on from the revision that the file has reached once the
server is back, and is told Expired (and lists again) where that is too long ago.

A file is a line of JSON per watch event, as it came: a list writes it anew as ADDED events behind a bookmark of the list's revision, events
are appended about once a second. A line that was cut off by a crash ends what is read. Secrets are never among what is remembered: the
paths say what is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from minikube_py.aio import Tasks
from minikube_py.client.transport import JSON, Answer, Transport, TransportError

log = logging.getLogger(__name__)

WRITE_EVERY = 1.0
PATIENCE = 3.0
"""How long the server's answer is waited for where the file has one."""
_REWRITE_BYTES = 1 << 20
_BOOKMARK = b'{"type":"BOOKMARK"'


class _ListMeta(msgspec.Struct, gc=False):
    resourceVersion: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct, gc=False):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Meta(msgspec.Struct, gc=False):
    resourceVersion: str = ""
    namespace: str = ""
    name: str = ""


class _Head(msgspec.Struct, gc=False):
    metadata: _Meta = msgspec.field(default_factory=_Meta)


class _Event(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw


_list = msgspec.json.Decoder(_List)
_event = msgspec.json.Decoder(_Event)
_head = msgspec.json.Decoder(_Head)


class Checkpoint(NamedTuple):
    """What a file holds: the revision that it has reached, and the objects."""

    revision: str
    items: tuple[bytes, ...]

    def as_list(self) -> bytes:
        """As the body of a list's answer."""
        return b'{"metadata":{"resourceVersion":"%s"},"items":[%s]}' % (self.revision.encode(), b",".join(self.items))

    def as_lines(self) -> bytes:
        """As a file's content."""
        lines = [b'%s,"object":{"metadata":{"resourceVersion":"%s"}}}\n' % (_BOOKMARK, self.revision.encode())]
        lines += [b'{"type":"ADDED","object":%s}\n' % item for item in self.items]
        return b"".join(lines)


def replay(lines: bytes) -> Checkpoint | None:
    """What the events of a file come to; None where there is no whole line."""
    objects: dict[tuple[str, str], bytes] = {}
    reached = -1
    for line in lines.split(b"\n")[:-1]:
        try:
            event = _event.decode(line)
            meta = _head.decode(event.object).metadata
        except msgspec.DecodeError:
            break
        if event.type == "ERROR":
            continue
        # the objects of a list are older than its revision, which stands in front of them
        reached = max(reached, int(meta.resourceVersion or 0))
        if event.type in ("ADDED", "MODIFIED"):
            objects[meta.namespace, meta.name] = bytes(event.object)
        elif event.type == "DELETED":
            objects.pop((meta.namespace, meta.name), None)
    return Checkpoint(str(reached), tuple(objects.values())) if reached >= 0 else None


class CheckpointTransport:
    """Passes everything on to another transport, and remembers collections: those at `paths`, each selection by itself."""

    def __init__(self, inner: Transport, directory: Path, paths: Collection[str]) -> None:
        self._inner, self._directory, self._paths = inner, directory, frozenset(paths)
        self._files: dict[str, _File] = {}
        self._tasks = Tasks()
        self._dirty = asyncio.Event()
        self._writing: asyncio.Future[None] | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = {},
        body: bytes | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Answer:
        """One request; a list is answered from the file while the server was not heard yet."""
        if method != "GET" or path not in self._paths:
            return await self._inner.request(method, path, query=query, body=body, content_type=content_type, accept=accept)
        file = self._file(path, query)
        if not file.heard and (checkpoint := await asyncio.to_thread(file.read)) is not None:
            try:
                async with asyncio.timeout(PATIENCE):
                    answer = await self._inner.request(method, path, query=query, accept=accept)
                problem = "" if answer.status < 500 else f"status {answer.status}"
            except (TransportError, TimeoutError) as error:
                problem = str(error) or "no answer"
            if problem:
                log.info("the server is away, going on from the checkpoint", extra={"path": path, "error": problem})
                return Answer(200, checkpoint.as_list(), {})
        else:
            answer = await self._inner.request(method, path, query=query, accept=accept)
        if answer.status == 200:
            self._listed(file, answer.body, "continue" in query)
        return answer

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, query: Mapping[str, str] = {}, accept: str = JSON
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """One request and its answer as it arrives; a watch's events are remembered."""
        async with self._inner.stream(method, path, query=query, accept=accept) as (status, chunks):
            if status == 200 and path in self._paths:
                yield status, self._remembered(self._file(path, query), chunks)
            else:
                yield status, chunks

    async def close(self) -> None:
        """Write what is left, and close the inner transport."""
        await self._tasks.close()
        if self._writing is not None:
            # a thread goes on although nobody awaits it: what follows is to stand behind what it writes
            await asyncio.wait((self._writing,))
        await self._write()
        await self._inner.close()

    def _file(self, path: str, query: Mapping[str, str]) -> _File:
        selected = "&".join(f"{name}={query[name]}" for name in ("fieldSelector", "labelSelector") if query.get(name))
        key = f"{path}?{selected}"
        if key not in self._files:
            name = path.rpartition("/")[2] + (f"-{hashlib.sha256(selected.encode()).hexdigest()[:8]}" if selected else "")
            self._files[key] = _File(self._directory / f"{name}.jsonl")
        return self._files[key]

    def _listed(self, file: _File, body: bytes, continued: bool) -> None:
        page = _list.decode(body)
        if not continued:
            file.listing = []
        file.listing.extend(bytes(item) for item in page.items or ())
        if not page.metadata.continue_:
            file.heard = True
            file.replace(Checkpoint(page.metadata.resourceVersion, tuple(file.listing)))
            file.listing = []
            self._wake()

    async def _remembered(self, file: _File, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in chunks:
            whole, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                file.append(whole + newline)
                self._wake()
            yield chunk

    def _wake(self) -> None:
        self._dirty.set()
        if not len(self._tasks):
            self._tasks.spawn(self._keep_writing(), "checkpoints")

    async def _keep_writing(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(WRITE_EVERY)
            self._dirty.clear()
            await self._write()

    async def _write(self) -> None:
        for file in tuple(self._files.values()):
            taken = file.take()
            if taken is None:
                continue
            self._writing = asyncio.ensure_future(asyncio.to_thread(file.write, *taken))
            try:
                await asyncio.shield(self._writing)
            except OSError as error:
                log.warning("checkpoint not written", extra={"path": str(file.path), "error": str(error)})
                with contextlib.suppress(OSError):
                    file.lost()


class _File:
    """One collection's file and what is not in it yet. `read` and `write` block; all else is the loop's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard = False
        self.listing: list[bytes] = []
        self._snapshot: Checkpoint | None = None
        self._events: list[bytes] = []
        self._whole = True
        self._base = self._size = 0

    def replace(self, snapshot: Checkpoint) -> None:
        """Forget everything that came before a whole list."""
        self._snapshot, self._events, self._whole = snapshot, [], True

    def append(self, lines: bytes) -> None:
        """Events, each a line."""
        if self._whole:
            self._events.append(lines)

    def take(self) -> tuple[Checkpoint | None, bytes] | None:
        """What is to be written now; what says only that time has passed waits for something that matters."""
        snapshot, events = self._snapshot, self._events
        if snapshot is None and all(lines.startswith(_BOOKMARK) and lines.count(b"\n") == 1 for lines in events):
            self._events = events[-1:]
            return None
        self._snapshot, self._events = None, []
        return snapshot, b"".join(events)

    def lost(self) -> None:
        """Something could not be written: nothing is remembered until the next whole list."""
        self._whole, self._events = False, []
        self.path.unlink(missing_ok=True)

    def read(self) -> Checkpoint | None:
        """What the file holds; None where there is none."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        checkpoint = replay(content)
        if checkpoint is not None:
            # a line that was cut off is not to be gone on with
            self._rewrite(checkpoint.as_lines())
        return checkpoint

    def write(self, snapshot: Checkpoint | None, lines: bytes) -> None:
        """Bring the file up to date. Raises OSError."""
        if snapshot is not None:
            self._rewrite(snapshot.as_lines() + lines)
            return
        with self.path.open("ab") as file:
            file.write(lines)
        self._size += len(lines)
        if self._size > 2 * self._base + _REWRITE_BYTES and (merged := replay(self.path.read_bytes())) is not None:
            self._rewrite(merged.as_lines())

    def _rewrite(self, content: bytes) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        self._base = self._size = len(content)
