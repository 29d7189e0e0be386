"""The SQL texts behind the numbers of a plan, run over the atoms of its load.

    atoms ──plan_blocks──▶ blocks ──▶ running sums ──plan_pieces, plan_probe──▶ claims, fronts
      │
      └──plan_spans──▶ loads ──plan_marks, plan_groups──▶ bottlenecks, shares, groups

Each function runs one named text of the package and gives its rows. Structure comes from the plan
(spans, cuts, limits), numbers from the load alone.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from workbench.query.engine import run, sql_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Rows = list[dict[str, Any]]
TEXTS: Final = (
    "plan_blocks",
    "plan_spans",
    "plan_marks",
    "plan_pieces",
    "plan_probe",
    "plan_backtest",
    "plan_groups",
    "plan_parts",
)
_KEY, _INT, _FLAG = pa.binary(), pa.int64(), pa.bool_()
# Sums of shrunk loads need more than 64 bits.
_SUM: Final = pa.decimal128(38, 0)
_TYPES: Final[Mapping[str, pa.DataType]] = {
    "span_start": _KEY,
    "span_end": _KEY,
    "route_start": _KEY,
    "route_end": _KEY,
    "key": _KEY,
    "atom_start": _KEY,
    "list": pa.string(),
    "claim": pa.string(),
    "weights": pa.string(),
    "grid": pa.string(),
    "upto": _SUM,
    "most": _SUM,
    "lone": _FLAG,
    "is_fixed": _FLAG,
    "is_before": _FLAG,
    "is_after": _FLAG,
    "is_later": _FLAG,
}


def figure_texts() -> dict[str, str]:
    """Return the texts by name, as a plan carries them for reading."""
    return {name: sql_text(name) for name in TEXTS}


def relation(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> pa.Table:
    """Return a relation of rows under these column names; types go by name."""
    columns: list[list[Any]] = [[] for _ in names]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return pa.table(
        {
            name: pa.array(_decimals(values, name), _TYPES.get(name, _INT))
            for name, values in zip(names, columns, strict=True)
        }
    )


def figure_rows(
    name: str, data: Mapping[str, pa.Table], parameters: Mapping[str, Any] | None = None
) -> Rows:
    """Return the rows of one of TEXTS.

    Args:
        name: Of the text.
        data: What it reads.
        parameters: Every `$name` of it.
    """
    rows: Rows = run(sql_text(name), data, parameters or {}).to_pylist()
    return rows


def _decimals(values: list[Any], name: str) -> list[Any]:
    if _TYPES.get(name) != _SUM:
        return values
    return [Decimal(value) for value in values]
