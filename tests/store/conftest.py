"""A store on a real file for every test that asks; its invariants are checked when the test is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from minikube_py.store.api import StoreError
from minikube_py.store.sqlite import SQLiteStore, open_sqlite

from .invariants import check

Open = Callable[..., Awaitable[SQLiteStore]]


@pytest.fixture
async def open_store(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the log in a directory (by default always the same one); at the end all are closed and all files checked."""
    stores: list[tuple[Path, SQLiteStore]] = []

    async def open_(directory: Path = tmp_path / "data", **options: Any) -> SQLiteStore:
        store = await open_sqlite(directory, **options)
        stores.append((directory, store))
        return store

    yield open_
    for _, store in reversed(stores):
        with contextlib.suppress(StoreError):
            await store.close()
    for directory in {directory for directory, _ in stores}:
        if directory.exists():
            await asyncio.to_thread(check, directory)


@pytest.fixture
async def store(open_store: Open) -> SQLiteStore:
    """A new, empty log."""
    return await open_store()
