"""The rows of an export: how they lie in files, and the rules that they keep.

| rule | |
|---|---|
| order | keys ascend, and within a key commit_ts descends; no version twice |
| time | commit_ts is at most read_ts |
| owner | every key lies in a route that the group had at read_ts |
| kind | `put` with a value, or `tombstone` without one |

A cluster's answer and a stored part are both untrusted; both are checked here, a part at a time
and without a step of Python per row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow.compute as pc

from workbench.catalog.parquet import Layout
from workbench.model.keys import Span, printable_key
from workbench.model.tables import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from workbench.model.routes import RouteDescriptor

LAYOUT: Final = Layout(
    sorted_by=(("key", False), ("commit_ts", True)),
    encodings={
        "key": "DELTA_BYTE_ARRAY",
        "commit_ts": "DELTA_BINARY_PACKED",
        "value": "DELTA_LENGTH_BYTE_ARRAY",
    },
    page_index=True,
)
KINDS: Final = ("put", "tombstone")


class Place(NamedTuple):
    """Where a version stands in the order of an export."""

    key: bytes
    commit_ts: int

    def before(self, other: Place) -> bool:
        """Tell whether it comes before another one."""
        return (self.key, -self.commit_ts) < (other.key, -other.commit_ts)


def first_place(rows: pa.Table) -> Place:
    """Return the place of the first row of a table that has one."""
    return _place(rows, 0)


def last_place(rows: pa.Table) -> Place:
    """Return the place of the last row of a table that has one."""
    return _place(rows, rows.num_rows - 1)


def owned_spans(routes: Iterable[RouteDescriptor], group: int) -> tuple[Span, ...]:
    """Return what a group owns: its routes' spans, ascending, neighbours joined."""
    spans: list[Span] = []
    mine = sorted((r.span for r in routes if r.group == group), key=lambda span: span.start)
    for span in mine:
        if spans and spans[-1].end == span.start:
            spans[-1] = Span(spans[-1].start, span.end)
        else:
            spans.append(span)
    return tuple(spans)


def problem_of(rows: pa.Table, group: int, spans: Sequence[Span], read_ts: int) -> str | None:
    """Return what is wrong with rows of a group, as VERSION; None for nothing.

    Args:
        rows: Any number.
        group: Whose they are.
        spans: What it owned at `read_ts`, ascending and disjoint.
        read_ts: HLC.
    """
    if not rows.schema.equals(VERSION):
        return f"it has the columns {', '.join(map(str, rows.schema))}"
    if rows.num_rows == 0:
        return None
    rows = rows.combine_chunks()
    keys = rows.column("key").chunk(0)
    return (
        _row_problem(rows, group, read_ts)
        or _order_problem(keys, rows.column("commit_ts").chunk(0))
        or _owner_problem(keys, spans, group)
    )


def _row_problem(rows: pa.Table, group: int, read_ts: int) -> str | None:
    nulls = [f.name for f in VERSION if not f.nullable and rows.column(f.name).null_count]
    kind = rows.column("kind")
    put, tombstone = (pc.equal(kind, each) for each in KINDS)
    is_valueless = pc.is_null(rows.column("value"))
    newest = pc.max(rows.column("commit_ts")).as_py()
    rules = (
        (not nulls, f"it has nulls in {', '.join(nulls)}"),
        (_all(pc.equal(rows.column("group"), group)), f"it has rows of another group than {group}"),
        (newest <= read_ts, f"it has a version of {newest}, after its read_ts {read_ts}"),
        (_all(pc.or_(put, tombstone)), f"it has a kind other than {' and '.join(KINDS)}"),
        (_all(pc.equal(tombstone, is_valueless)), "a put has no value, or a tombstone has one"),
    )
    return next((problem for holds, problem in rules if not holds), None)


def _all(checks: pa.Array) -> bool:
    return bool(pc.all(checks).as_py())


def _order_problem(keys: pa.Array, commit_ts: pa.Array) -> str | None:
    low, high = keys.slice(0, len(keys) - 1), keys.slice(1)
    newer, older = commit_ts.slice(0, len(keys) - 1), commit_ts.slice(1)
    in_order = pc.or_(pc.less(low, high), pc.and_(pc.equal(low, high), pc.greater(newer, older)))
    if len(low) == 0 or _all(in_order):
        return None
    at = pc.index(in_order, False).as_py()
    return f"its rows are out of order after key {printable_key(keys[at].as_py())}"


def _owner_problem(keys: pa.Array, spans: Sequence[Span], group: int) -> str | None:
    at = 0
    for span in spans:
        if at < len(keys) and keys[at].as_py() in span:
            at = len(keys) if span.end is None else _rank(keys, span.end, at)
    if at == len(keys):
        return None
    return f"it has key {printable_key(keys[at].as_py())}, which group {group} did not own"


def _rank(keys: pa.Array, key: bytes, low: int) -> int:
    """Return how many of the ascending keys are below `key`; all below `low` are."""
    high = len(keys)
    while low < high:
        middle = (low + high) // 2
        if keys[middle].as_py() < key:
            low = middle + 1
        else:
            high = middle
    return low


def _place(rows: pa.Table, at: int) -> Place:
    return Place(rows.column("key")[at].as_py(), rows.column("commit_ts")[at].as_py())
