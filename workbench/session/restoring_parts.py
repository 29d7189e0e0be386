"""The parts of an export, read back with distrust, and cut into the tables that are imported.

    object ── SHA-256 ──▶ rows ── rules of exporting_rows ──▶ Part: group, rows, tables
                           └──────── cut ────────▶ table 1, table 2, …

All objects are read before anything is sent to a cluster: what is damaged is found while the
cluster is still empty. They are hashed again when they are imported.

`cut` is a function of the rows alone. So the same number always means the same rows, also for a
restore that was killed and whose last imports are still on their way; CUT names the rule, and is
a part of a restore's id.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.catalog.catalog import Problem
from workbench.catalog.reading import read_table
from workbench.errors import Corruption
from workbench.report.words import counted
from workbench.session.exporting_lanes import Tally
from workbench.session.exporting_rows import first_place, last_place, owned_spans, problem_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from workbench.model.manifest import Manifest, ObjectRef
    from workbench.model.routes import RouteSnapshot
    from workbench.ports.object_store import ObjectStore
    from workbench.session.exporting_rows import Place
    from workbench.session.exporting_state import Export

CUT: Final = "cut-1"
# A table begins with the row that reaches the next multiple of this, counted within its part: it
# has less than this beside its first row.
CUT_BYTES: Final = 256 * 1024
# What a row counts beside key and value.
ROW_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Part:
    """One object of an export.

    Attributes:
        ref: The object.
        group: Whose rows it holds.
        rows: How many.
        tables: Into how many they are cut.
        size: Bytes of them in memory.
        first: Place of the first row.
        last: Place of the last row.
    """

    ref: ObjectRef
    group: int
    rows: int
    tables: int
    size: int
    first: Place
    last: Place


@dataclass(frozen=True, slots=True)
class Inspected:
    """What reading an export brought.

    Attributes:
        parts: Those that hold rows and are sound, in order.
        problems: Objects that cannot be used, and why.
    """

    parts: tuple[Part, ...]
    problems: tuple[Problem, ...]


def inspect(
    store: ObjectStore,
    export: Export,
    routes: RouteSnapshot,
    *,
    threads: int | None = None,
    progress: Callable[[str, Tally], None],
) -> Inspected:
    """Read every object of an export and check it.

    Args:
        store: Where the objects are.
        export: A complete one.
        routes: Its routes.
        threads: Objects at once; None: as many as Python finds good.
        progress: Is told how far it is.

    Raises:
        Unavailable, Storage: the store does not answer, or refuses.
    """
    spans = {group: owned_spans(routes.routes, group) for group in export.groups}

    def look(ref: ObjectRef) -> Part | Problem | None:
        try:
            rows = read_part(store, export.manifest, ref)
        except Corruption as error:
            return Problem(ref.key, error.message.removeprefix(f"{ref.key}: "))
        if rows.num_rows == 0:
            return None
        group = rows.column("group")[0].as_py()
        found = problem_of(rows, group, spans.get(group, ()), export.read_ts)
        if found is not None:
            return Problem(ref.key, found)
        first, last = first_place(rows), last_place(rows)
        return Part(ref, group, rows.num_rows, len(bounds(rows)), rows.nbytes, first, last)

    found: list[Part] = []
    problems: list[Problem] = []
    rows = size = 0
    with ThreadPoolExecutor(threads) as pool:
        for each in pool.map(look, export.manifest.objects):
            match each:
                case Part():
                    found.append(each)
                    rows, size = rows + each.rows, size + each.size
                    progress("checking the export", Tally(rows, size, 0, len(export.groups)))
                case Problem():
                    problems.append(each)
                case None:
                    pass
    if not problems:
        problems = [*_disorder(found), *_miscounted(export, found)]
    return Inspected(tuple(found), tuple(problems))


def read_part(store: ObjectStore, manifest: Manifest, ref: ObjectRef) -> pa.Table:
    """Return the rows of one object; its SHA-256 is checked before it is parsed.

    Raises:
        Corruption: with the object's key.
    """
    return read_table(store, replace(manifest, objects=(ref,))).replace_schema_metadata(None)


def cut(rows: pa.Table) -> list[pa.Table]:
    """Return the tables in which rows are imported; each has one row at least."""
    ends = bounds(rows)
    return [rows.slice(start, end - start) for start, end in pairwise([0, *ends])]


def bounds(rows: pa.Table) -> list[int]:
    """Return the row numbers at which the tables of a part end, ascending."""
    if rows.num_rows == 0:
        return []
    sizes = np.full(rows.num_rows, ROW_BYTES, np.int64)
    for name in ("key", "value"):
        lengths = pc.fill_null(pc.binary_length(rows.column(name)), 0)
        sizes += lengths.to_numpy().astype(np.int64)
    table = np.cumsum(sizes) // CUT_BYTES
    return [*(np.flatnonzero(np.diff(table)) + 1).tolist(), rows.num_rows]


def _disorder(parts: Sequence[Part]) -> Iterable[Problem]:
    """Yield the parts that do not follow the one before them of the same group."""
    newest: dict[int, Part] = {}
    for part in parts:
        before = newest.get(part.group)
        if before is not None and not before.last.before(part.first):
            reason = f"begins before the end of {before.ref.key!r}, which comes before it"
            yield Problem(part.ref.key, reason)
        newest[part.group] = part


def _miscounted(export: Export, parts: Sequence[Part]) -> Iterable[Problem]:
    """Yield the groups whose parts have other rows than their export says."""
    for state in export.groups.values():
        rows = sum(part.rows for part in parts if part.group == state.group)
        if rows != state.rows:
            reason = f"group {state.group} has {counted(rows, 'row')}, exported were {state.rows}"
            yield Problem(export.manifest.name, reason)
