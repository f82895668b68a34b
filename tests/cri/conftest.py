"""One containerd for all tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from minikube_py.cri.client import CriClient
from tests.support.nodes import RuntimeNode, runtime_node


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[RuntimeNode]:
    """A running node."""
    async with runtime_node() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(node: RuntimeNode) -> AsyncIterator[CriClient]:
    """A client of its runtime."""
    async with node.client() as opened:
        yield opened
