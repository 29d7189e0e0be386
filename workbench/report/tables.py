"""Tables of text, capped: what a page shows of a list that may be long.

Cells are text, cleaned where they are made. A table says how many rows it leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROWS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading, and how its cells are set: `text`, `number` or `key`."""

    title: str
    style: str = "text"


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of each row heads the row.

    Attributes:
        name: Stable, for tests and links.
        caption: What the rows are.
        columns: One per cell of a row.
        rows: At most ROWS_MAX.
        more: How many rows are not shown.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int = 0


def table(
    name: str,
    caption: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    rows_max: int = ROWS_MAX,
) -> Table:
    """Return a table of the first `rows_max` rows that knows how many there are."""
    shown: list[tuple[str, ...]] = []
    more = 0
    for row in rows:
        if len(shown) < rows_max:
            shown.append(tuple(row))
        else:
            more += 1
    assert all(len(row) == len(columns) for row in shown)
    return Table(name, caption, tuple(columns), tuple(shown), more)
