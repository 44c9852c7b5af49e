"""A paper as data: ``conf/paper/*.yaml`` holds its tables, its published figures and its claims.

A table is rows × columns. Both carry fields; a cell's overrides, metric and factor are templates that the
fields of its row and column fill in, so that one line of YAML stands for many runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal

import msgspec

from runner import registry
from runner.errors import BadInput, nearest

Scale = Literal["cpu", "full"]
Fields = dict[str, Any]


class Column(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One quantity: which run, which of its metrics."""

    label: str
    overrides: list[str] = []
    metric: str = ""
    """Template; empty: the table's."""
    rows: dict[str, list[Any]] = {}
    """Only rows whose fields have one of these values; the other cells stay empty."""


class Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Rows × columns, with what was published for some of the cells."""

    title: str
    note: str = ""
    overrides: list[str] = []
    """Templates; what all cells share."""
    metric: str = ""
    factor: float = 1.0
    """Ours is multiplied by it: 100 where the paper gives percent."""
    digits: int = 2
    rows: list[Fields]
    """Fields of a row. A field that is a list stands for a row each; ``label`` is a template of the others."""
    columns: list[Column]
    published: dict[str, dict[str, Fields]] = {}
    """By row label and column label: ``mean``, and where known ``std``; ``comparable: false`` with a ``why`` where the
    dataset or quantity is another one."""
    source: str = ""
    """Where the published figures are from."""


class Claim(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A comparison between cells, checked from the runs."""

    text: str
    table: str
    cells: dict[str, list[str]]
    """Name in ``check`` -> [row label, column label]; templates of ``each``."""
    check: str
    """Python expression of the cells' means; ``abs``, ``min`` and ``max`` may be used."""
    paired: list[str] = []
    """Two of the names: their replicates share splits, so their difference is tested."""
    each: dict[str, list[Any]] = {}
    """Fields with lists of values: the claim is made for each combination."""
    tried: str = ""
    """What was tried where it fails."""


class Paper(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One paper."""

    title: str
    bibtex: str
    sources: dict[str, str] = {}
    replicates: int
    """Seeds 0..n-1 of each cell."""
    varies: str
    """What differs between replicates."""
    scales: dict[Scale, list[str]]
    """Overrides of each scale, after those of a cell's table and before its column's."""
    tables: dict[str, Table]
    claims: dict[str, Claim] = {}


@dataclass(frozen=True)
class Cell:
    """One cell of a table: where it stands, which run it needs but for the seed, what was published."""

    table: str
    row: str
    column: str
    overrides: tuple[str, ...]
    metric: str
    published: Fields | None


@dataclass(frozen=True)
class Expanded:
    """A paper with its templates filled in, for one scale."""

    name: str
    paper: Paper
    scale: Scale

    @cached_property
    def cells(self) -> dict[tuple[str, str, str], Cell]:
        """All cells by table, row label and column label."""
        return {(cell.table, cell.row, cell.column): cell for cell in self._cells()}

    def _cells(self) -> Iterator[Cell]:
        for name, table in self.paper.tables.items():
            for fields in expand(table.rows):
                row = str(fields["label"])
                for column in table.columns:
                    if any(fields.get(key) not in allowed for key, allowed in column.rows.items()):
                        continue
                    lines = [*table.overrides, *self.paper.scales[self.scale], *column.overrides]
                    overrides = tuple(fill(line, fields) for line in lines)
                    metric = fill(column.metric or table.metric, fields)
                    published = table.published.get(row, {}).get(column.label)
                    yield Cell(name, row, column.label, overrides, metric, published)

    def rows(self, table: str) -> list[str]:
        """Row labels of a table, in order."""
        return [str(fields["label"]) for fields in expand(self.paper.tables[table].rows)]


def load(name: str, scale: str = "cpu") -> Expanded:
    """The paper of this name, at this scale.

    Raises:
        BadInput: no such paper or scale, or its YAML is wrong.
    """
    content = registry.read("paper", name)
    try:
        paper = msgspec.convert(content, Paper, strict=True)
    except msgspec.ValidationError as error:
        raise BadInput(f"paper '{name}': {error}") from error
    if scale not in paper.scales:
        raise BadInput(
            f"paper '{name}' has no scale '{scale}'{nearest(scale, paper.scales)}; {', '.join(paper.scales)}"
        )
    expanded = Expanded(name, paper, scale)
    _check(expanded)
    return expanded


def expand(rows: list[Fields]) -> Iterator[Fields]:
    """Each row, those with lists as their product, with ``label`` filled in."""
    for row in rows:
        lists = {key: value for key, value in row.items() if isinstance(value, list)}
        for values in product(*lists.values()):
            fields = row | dict(zip(lists, values, strict=True))
            yield fields | {"label": fill(str(fields["label"]), fields)}


def fill(template: str, fields: Fields) -> str:
    """A template with ``{field}`` replaced.

    Raises:
        BadInput: a field that the row doesn't have.
    """
    try:
        return template.format_map(fields)
    except (KeyError, ValueError, IndexError) as error:
        raise BadInput(f"template '{template}' needs field {error}, its row has {', '.join(fields)}") from error


def _check(expanded: Expanded) -> None:
    """Published figures and claims name cells that exist."""
    paper = expanded.paper
    for name, table in paper.tables.items():
        for row, columns in table.published.items():
            for column in columns:
                if (name, row, column) not in expanded.cells:
                    raise BadInput(f"paper '{expanded.name}', table '{name}': no cell '{row}' / '{column}' to publish")
    for name, claim in paper.claims.items():
        for fields in expand([{**claim.each, "label": ""}]):
            for row, column in claim.cells.values():
                place = (claim.table, fill(row, fields), fill(column, fields))
                if place not in expanded.cells:
                    raise BadInput(f"paper '{expanded.name}', claim '{name}': no cell {place}")
