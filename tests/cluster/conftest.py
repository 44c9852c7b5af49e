"""Servers and processes for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import servers
from tests.faults.conftest import background, offline_cache

__all__ = ["background", "offline_cache"]  # fixtures


@pytest.fixture(scope="session")
def database() -> Iterator[servers.Postgres]:
    """A PostgreSQL for all tests."""
    if reason := servers.missing():
        pytest.skip(reason)
    with servers.postgres() as database:
        yield database


@pytest.fixture(scope="session")
def server(database: servers.Postgres) -> Iterator[servers.Tracking]:
    """A tracking server for all tests, on that PostgreSQL; each test has an experiment of its own."""
    with servers.tracking(database) as server:
        yield server
