"""Fixtures of the data tests. Genuine data come from the usual cache (``RUNNER_DATA``), so they are fetched once."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.places import mirror_dir


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and no mirror."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("RUNNER_DATA", str(cache))
    monkeypatch.delenv("RUNNER_DATA_MIRROR", raising=False)
    return cache


@pytest.fixture
def own_mirror(tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty mirror folder."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("RUNNER_DATA_MIRROR", str(mirror))
    return mirror


@pytest.fixture(scope="session")
def genuine_mirror() -> Path:
    mirror = mirror_dir()
    if mirror is None or not (mirror / "graphs").is_dir():
        pytest.skip("RUNNER_DATA_MIRROR is not set to a mirror of the graph data")
    return mirror
