"""Get, list and watch: how far a read may lag, what is selected, where a list goes on.

Reads come from the cache. One that names no resourceVersion is consistent: it waits until the cache holds everything that was acknowledged
before it began. A list in pages is read at one revision: from the cache while its resource has not changed since, from the log after that.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from time import perf_counter
from typing import NamedTuple

from minikube_py.aio import Clock
from minikube_py.apiserver import options, tables
from minikube_py.apiserver.api import Response
from minikube_py.apiserver.cache import Cache, Entry, ResourceCache
from minikube_py.apiserver.call import Call
from minikube_py.apiserver.entries import BOOKMARK, frame
from minikube_py.apiserver.negotiate import TABLE
from minikube_py.apiserver.options import Continue, ListOptions
from minikube_py.apiserver.present import Presenter
from minikube_py.apiserver.selection import interest
from minikube_py.apiserver.watch import Encode, EncodeBookmark, Interest, Progress, bookmark, bookmark_line, candidates, select, watch
from minikube_py.meta.errors import Expired, Timeout
from minikube_py.store.api import Compacted, FutureRevision, Store

_WAIT = 3.0
"""Seconds for which a read waits for a revision that is not here yet."""

_WATCH_SECONDS = 1800.0
_PAGE = 500
_TURN, _TURN_ENTRIES = 0.004, 64
"""Seconds after which a list gives others their turn, and how many entries are looked at between two looks at the clock."""
_key = attrgetter("key")
_TOO_OLD = "The resourceVersion for the provided list is too old."
_TOO_OLD_CONTINUE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue "
    "parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token "
    "results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and "
    "now may show up in the list."
)


class Selected(NamedTuple):
    """Entries of a list, the revision at which they were read, and where it goes on: the token, and how many follow (0: not known)."""

    entries: Sequence[Entry]
    revision: int
    token: str = ""
    remaining: int = 0


class Reader:
    """Answers reads. Raises StatusErrors."""

    def __init__(self, store: Store, cache: Cache, presenter: Presenter, clock: Clock) -> None:
        self._store, self._cache, self._presenter, self._clock = store, cache, presenter, clock

    async def entry(self, call: Call) -> Entry:
        """The named object, as fresh as the request wants it. Raises NotFound, Timeout, BadRequest."""
        query, info = call.request.query, call.info
        await self.fresh(query.get("resourceVersion", "") if query else "")
        entry = self._cache.of(call.resource).get(info.namespace, info.name)
        if entry is None:
            raise call.missing()
        return entry

    async def get(self, call: Call) -> Response:
        """One object."""
        return self._presenter.object(call, (await self.entry(call)).value)

    async def fresh(self, resource_version: str) -> None:
        """Wait until a read may go ahead: "" is all that was acknowledged before, "0" anything, a number at least that revision."""
        if resource_version == "0":
            return
        wanted = options.revision(resource_version) if resource_version else await self._store.read_index()
        if wanted > self._cache.revision:
            await self.reach(wanted)

    async def reach(self, revision: int) -> None:
        """Wait until the cache is at a revision. Raises Timeout as upstream words it."""
        try:
            async with asyncio.timeout(_WAIT):
                await self._cache.wait_for(revision)
        except (FutureRevision, TimeoutError):
            raise Timeout(
                f"Timeout: Too large resource version: {revision}, current: {self._cache.revision}",
                details={
                    "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                    "retryAfterSeconds": 1,
                },
            ) from None

    # Lists

    async def list(self, call: Call) -> Response:
        """A collection."""
        found = await self.select(call, options.list_options(call.request.query, watch=False))
        return self._presenter.collection(call, found.entries, found.revision, found.token, found.remaining)

    async def select_all(self, call: Call) -> Selected:
        """What a deletion of a collection is about: limit and continuation count here as in a list."""
        return await self.select(call, options.list_options(call.request.query, watch=False))

    async def select(self, call: Call, wanted: ListOptions) -> Selected:
        """The entries that a list is about. Raises BadRequest, Expired, Timeout."""
        objects = self._cache.of(call.resource)
        chosen = _interest(call, wanted)
        resume = options.decode_continue(wanted.token) if wanted.token else None
        limit = wanted.limit
        if resume is not None and resume.revision > 0:
            revision = resume.revision
        elif wanted.exact:
            revision = wanted.revision or 0
        else:
            revision = 0
            if resume is None and wanted.revision == 0:
                limit = 0
            await self.fresh("" if wanted.revision is None or resume is not None else str(wanted.revision))
        if revision > self._cache.revision:
            await self.reach(revision)
        if revision and revision < self._store.floor:
            raise self._expired(resume)
        if not revision or objects.revision <= revision:
            return await self._from_cache(objects, chosen, resume, limit, revision or self._cache.revision)
        try:
            return await self._from_log(objects, chosen, resume, limit, revision)
        except Compacted:
            raise self._expired(resume) from None

    async def _from_cache(self, objects: ResourceCache, chosen: Interest, resume: Continue | None, limit: int, revision: int) -> Selected:
        prefix = objects.resource.prefix
        entries = candidates(objects, chosen)
        if resume is not None:
            entries = entries[bisect_right(entries, prefix + resume.start, key=_key) :]
        found: list[Entry] = []
        until = perf_counter() + _TURN
        for start in range(0, len(entries), _TURN_ENTRIES):
            # a selector may have to look into every one of them
            if perf_counter() > until:
                await asyncio.sleep(0)
                until = perf_counter() + _TURN
            found += select(entries[start : start + _TURN_ENTRIES], chosen)
        if not limit or len(found) <= limit:
            return Selected(found, revision)
        token = options.encode_continue(revision, found[limit - 1].key[len(prefix) :])
        return Selected(found[:limit], revision, token, 0 if chosen.selects or chosen.name else len(found) - limit)

    async def _from_log(self, objects: ResourceCache, chosen: Interest, resume: Continue | None, limit: int, revision: int) -> Selected:
        base = objects.resource.prefix
        prefix = f"{base}{chosen.namespace}/" if chosen.namespace is not None and objects.resource.ref.namespaced else base
        after = base + resume.start if resume is not None else ""
        plain = not chosen.selects and chosen.name is None
        found: list[Entry] = []
        while True:
            page = await self._store.range(prefix, start_after=after, limit=limit if plain and limit else _PAGE, revision=revision)
            for number, record in enumerate(page.records):
                entry = objects.shape.entry(record)
                if not (chosen.place(entry) and chosen.content(entry)):
                    continue
                found.append(entry)
                if limit and len(found) == limit:
                    remaining = page.remaining + len(page.records) - number - 1
                    if not remaining:
                        return Selected(found, revision)
                    token = options.encode_continue(revision, record.key[len(base) :])
                    return Selected(found, revision, token, remaining if plain else 0)
            if not page.remaining:
                return Selected(found, revision)
            after = page.records[-1].key

    @staticmethod
    def _expired(resume: Continue | None) -> Expired:
        if resume is None:
            return Expired(_TOO_OLD)
        return Expired(_TOO_OLD_CONTINUE, metadata={"continue": options.encode_continue(-1, resume.start)})

    # Watches

    async def watch(self, call: Call) -> Response:
        """A stream of events."""
        wanted = options.list_options(call.request.query, watch=True)
        chosen = _interest(call, wanted)
        since: int | None = wanted.revision or None
        if wanted.initial_events:
            await self.fresh("" if wanted.revision is None else str(wanted.revision))
            since = None
        elif since is None:
            await self.fresh("" if wanted.revision is None else "0")
            if wanted.initial_events is False:
                since = self._cache.revision
        encode, encode_bookmark = self._encoders(call)
        progress = Progress()
        stream = watch(
            self._cache,
            call.resource,
            chosen,
            since=since,
            bookmarks=wanted.bookmarks,
            send_initial_events=bool(wanted.initial_events) and wanted.bookmarks,
            timeout=float(wanted.timeout) if wanted.timeout > 0 else _WATCH_SECONDS * random.uniform(1.0, 2.0),
            encode=encode,
            encode_bookmark=encode_bookmark,
            progress=progress,
        )
        return Response(200, stream=stream, over=progress.over)

    def _encoders(self, call: Call) -> tuple[Encode | None, EncodeBookmark | None]:
        """How a watcher gets objects that are not wanted as they are stored."""
        ref, resource, (_, transform, version) = call.ref, call.resource, call.output
        if transform == TABLE:
            return self._table_encoders(call)
        if transform:

            def encode_partial(kind: str, entry: Entry) -> bytes:
                return frame(kind, tables.partial(self._presenter.value(call, entry), version))

            return encode_partial, lambda revision, end: bookmark_line(f"meta.k8s.io/{version}", "PartialObjectMetadata", revision, end)
        if ref is resource.ref:
            return None, None
        return (
            lambda kind, entry: frame(kind, self._presenter.value(call, entry)),
            lambda revision, end: bookmark_line(ref.api_version, ref.kind, revision, end),
        )

    def _table_encoders(self, call: Call) -> tuple[Encode, EncodeBookmark]:
        include, version = call.request.query.get("includeObject", ""), call.output.version
        first = True

        def encode(kind: str, entry: Entry) -> bytes:
            nonlocal first
            headers, first = first, False
            value, now = self._presenter.value(call, entry), self._clock.time()
            return tables.event(call.resource, kind, value, include, now, headers=headers, version=version)

        def encode_bookmark(revision: int, end: bool) -> bytes:
            value = bookmark(call.ref.api_version, call.ref.kind, revision, end)
            shown = "Metadata" if end else include  # a client finds the end in its annotation
            return tables.event(call.resource, BOOKMARK, value, shown, self._clock.time(), headers=False, version=version)

        return encode, encode_bookmark


def _interest(call: Call, wanted: ListOptions) -> Interest:
    info = call.info
    return interest(call.resource, call.ref, info.namespace, info.name, wanted.labels, wanted.fields)
