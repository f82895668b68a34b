"""Clusters of several nodes, by the name under which tests of agents know them."""

from __future__ import annotations

from tests.support.cluster import Agent, Nodes, nodes

__all__ = ["Agent", "Nodes", "nodes"]
