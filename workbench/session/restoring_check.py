"""Read a restored cluster as of the export's read_ts, and compare it with the export.

| how | what is compared |
|---|---|
| whole | every version of every key, in order, streamed from both sides |
| sampled | all versions of some keys of every part, evenly spread |

Both read through the cluster's own export, so what is compared is what it serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import Corruption
from workbench.model.keys import Span, printable_key
from workbench.model.tables import VERSION
from workbench.report.words import counted
from workbench.session.exporting_lanes import Patience
from workbench.session.exporting_rows import owned_spans
from workbench.session.exporting_stream import stream
from workbench.session.restoring_parts import read_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workbench.model.manifest import Manifest
    from workbench.model.routes import RouteSnapshot
    from workbench.ports.connector import Exporter
    from workbench.ports.object_store import ObjectStore
    from workbench.session.exporting_lanes import Counter, Lanes
    from workbench.session.restoring_parts import Part
    from workbench.session.restoring_plan import GroupPlan

T = TypeVar("T")
KEYS_PER_PART: Final = 4
PARTS_MAX: Final = 16
COMPARED: Final = ("key", "commit_ts", "kind", "value", "expire_at")


class Comparison:
    """Compares the groups of a cluster with the parts that they were given.

    Args:
        store: Where the export is.
        manifest: Of its versions.
        routes: Its routes, as exported.
        target: The cluster.
        read_ts: As of when (HLC).
    """

    def __init__(
        self,
        store: ObjectStore,
        manifest: Manifest,
        routes: RouteSnapshot,
        target: Exporter,
        read_ts: int,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._routes = routes
        self._target = target
        self._read_ts = read_ts

    def whole(self, plan: GroupPlan, lanes: Lanes, counter: Counter) -> None:
        """Compare all versions; Corruption (`restored_rows_differ`) with the first key."""
        for source in plan.sources:
            expected = _Rows(self._expected(plan, source, counter))
            actual = _Rows(self._actual(plan, source, lanes))
            while True:
                lanes.look()
                rows = min(expected.ready(), actual.ready())
                if rows == 0:
                    break
                _compare(plan.group, expected.take(rows), actual.take(rows))
            for side, other in ((expected, "misses"), (actual, "has also")):
                if side.ready():
                    key = side.take(1).column("key")[0].as_py()
                    raise _differs(plan.group, key, f"{other} a version of it")
        counter.add(groups_done=1)

    def sample(self, plan: GroupPlan, lanes: Lanes, counter: Counter) -> None:
        """Compare some keys of some parts, evenly spread; Corruption as for all."""
        for part in _spread(plan.parts, PARTS_MAX):
            rows = read_part(self._store, self._manifest, part.ref)
            # The versions of the first and the last key may go on in other parts.
            inner = rows.filter(_inner(rows, part))
            for at in _spread(range(inner.num_rows), KEYS_PER_PART):
                lanes.look()
                key = inner.column("key")[at].as_py()
                expected = inner.filter(_is_key(inner, key))
                told = stream(
                    self._target,
                    plan.group,
                    self._read_ts,
                    lanes=lanes,
                    patience=Patience(lanes),
                    span=Span(key, key + b"\0"),
                )
                actual = _table([chunk.table for chunk in told])
                if expected.num_rows != actual.num_rows:
                    found = counted(actual.num_rows, "version")
                    what = f"has {found} of it, not {expected.num_rows}"
                    raise _differs(plan.group, key, what)
                _compare(plan.group, _columns(expected), _columns(actual))
                counter.add(rows=expected.num_rows)
        counter.add(groups_done=1)

    def _expected(self, plan: GroupPlan, source: int, counter: Counter) -> Iterator[pa.Table]:
        for part in plan.parts:
            if part.group == source:
                yield read_part(self._store, self._manifest, part.ref)
                counter.add(rows=part.rows, size=part.size)

    def _actual(self, plan: GroupPlan, source: int, lanes: Lanes) -> Iterator[pa.Table]:
        for span in owned_spans(self._routes.routes, source):
            patience = Patience(lanes)
            told = stream(
                self._target, plan.group, self._read_ts, lanes=lanes, patience=patience, span=span
            )
            for chunk in told:
                yield chunk.table


class _Rows:
    """A stream of tables, from which rows are taken one behind the other."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._table = _columns(VERSION.empty_table())

    def ready(self) -> int:
        """Return how many rows can be taken; 0 at the end."""
        while self._table.num_rows == 0:
            following = next(self._tables, None)
            if following is None:
                return 0
            self._table = _columns(following)
        return cast("int", self._table.num_rows)

    def take(self, rows: int) -> pa.Table:
        """Return the next rows, of which so many are ready."""
        taken, self._table = self._table.slice(0, rows), self._table.slice(rows)
        return taken


def _compare(group: int, expected: pa.Table, actual: pa.Table) -> None:
    if expected.equals(actual):
        return
    for at in range(expected.num_rows):
        one, other = expected.slice(at, 1).to_pylist()[0], actual.slice(at, 1).to_pylist()[0]
        if one != other:
            what = f"has {_shown(other)} where the export has {_shown(one)}"
            raise _differs(group, one["key"], what)
    raise AssertionError("tables that differ in no row")


def _shown(row: dict[str, object]) -> str:
    key = row["key"]
    assert isinstance(key, bytes)
    return f"a {row['kind']} of {printable_key(key)} at {row['commit_ts']}"


def _columns(table: pa.Table) -> pa.Table:
    return table.select(COMPARED).cast(pa.schema([VERSION.field(name) for name in COMPARED]))


def _table(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])


def _inner(rows: pa.Table, part: Part) -> pa.Array:
    keys = rows.column("key")
    return pc.and_(pc.greater(keys, part.first.key), pc.less(keys, part.last.key))


def _is_key(rows: pa.Table, key: bytes) -> pa.Array:
    return pc.equal(rows.column("key"), key)


def _spread(values: Sequence[T], number: int) -> list[T]:
    """Return at most so many of the values, evenly spread."""
    count = len(values)
    return [values[at * count // min(number, count)] for at in range(min(number, count))]


def _differs(group: int, key: bytes, what: str) -> Corruption:
    return Corruption(
        f"group {group} of the restored cluster differs at key {printable_key(key)}: it {what}",
        code="restored_rows_differ",
        hint="do not use the cluster; restore into a new one, and report this",
    )
