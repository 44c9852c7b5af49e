"""A backbone for methods that build their own network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class NoBackbone:
    """Nothing."""
