"""One cluster of two nodes for this directory: the server's own, and an agent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.agents import Agent, Nodes, nodes


@pytest.fixture(autouse=True)
def _unblocked_loop() -> None:
    """These tests have no loop of their own."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Nodes]:
    """The cluster; every test leaves both of its processes running."""
    with nodes(2) as made:
        yield made


@pytest.fixture
def agent(cluster: Nodes) -> Agent:
    """The second node."""
    return cluster.agents[0]
