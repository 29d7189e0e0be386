"""What spans of a cluster store, by its newest complete export.

    export/<name>/version ──stored_bytes.sql──▶ bytes of each span as of the export's read_ts

A load window tells what was read and written, which says nothing of what moving a route would copy.
Only versions do. Without a complete export under the cluster's name the answer is None: not known,
and never zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from workbench.errors import NotFound
from workbench.model.plan_parts import Stored
from workbench.query.engine import run, sql_text
from workbench.session.exporting_state import exports, find_export, version_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.catalog.catalog import Catalog
    from workbench.model.keys import Span
    from workbench.planner.placing import SizesOf


def newest_stored(catalog: Catalog, cluster: str) -> Stored | None:
    """Return the newest complete export of a cluster; None where there is none."""
    known = [each for each in exports(catalog) if each.complete and each.cluster == cluster]
    if not known:
        return None
    newest = max(known, key=lambda each: (each.read_ts, each.name))
    return Stored(newest.name, newest.read_ts)


def sizes_of(catalog: Catalog, stored: Stored) -> SizesOf:
    """Return what tells the bytes of spans; they are read when it is asked.

    Raises (when asked):
        NotFound: `export_absent`, also where it is as of another time.
        Corruption: the export cannot be read.
    """

    def of_spans(spans: Sequence[Span]) -> list[int]:
        found = find_export(catalog, stored.export)
        if found.read_ts != stored.read_ts:
            raise NotFound(
                f"export {stored.export!r} is as of {found.read_ts}, not {stored.read_ts}",
                code="export_absent",
                hint="plan again with the exports there are",
            )
        relation = pa.table(
            {
                "span_start": pa.array([span.start for span in spans], pa.binary()),
                "span_end": pa.array([span.end for span in spans], pa.binary()),
            }
        )
        data = {
            "version": catalog.dataset(version_name(stored.export), hashed=True),
            "span": relation,
        }
        answer = run(sql_text("stored_bytes"), data, {"read_ts": stored.read_ts})
        sizes: list[int] = answer.column("bytes").to_pylist()
        return sizes

    return of_spans
