"""Count again what an export stored: the rows of each group, part by part, from the store.

Every part is opened through the catalog's checked reading, so sizes are compared and the pages
that hold the group's number have sound checksums. `workbench catalog verify` reads all bytes.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from workbench.catalog.reading import open_dataset
from workbench.errors import Corruption
from workbench.report import words

if TYPE_CHECKING:
    from workbench.model.manifest import ObjectRef
    from workbench.ports.object_store import ObjectStore
    from workbench.session.exporting_state import Export


def count_again(store: ObjectStore, export: Export, threads: int | None = None) -> None:
    """Compare the stored rows of each group with what its export says.

    Raises:
        Corruption: `export_count_mismatch`, and what `open_dataset` raises.
    """

    def counted(ref: ObjectRef) -> dict[int, int]:
        part = open_dataset(store, replace(export.manifest, objects=(ref,)), hashed=False)
        groups = part.to_table(columns=["group"]).column("group")
        return {each["values"]: each["counts"] for each in pc.value_counts(groups).to_pylist()}

    rows: Counter[int] = Counter()
    parts: Counter[int] = Counter()
    with ThreadPoolExecutor(threads) as pool:
        for ref, found in zip(
            export.manifest.objects, pool.map(counted, export.manifest.objects), strict=True
        ):
            if len(found) > 1:
                raise _mismatch(export, f"object {ref.key!r} holds rows of groups {sorted(found)}")
            rows.update(found)
            parts.update(found.keys())
    for state in export.groups.values():
        if not state.done:
            raise _mismatch(export, f"group {state.group} is not at its end")
        told = (state.rows, state.parts)
        stored = (rows.pop(state.group, 0), parts.pop(state.group, 0))
        if told != stored:
            raise _mismatch(
                export,
                f"group {state.group} told {words.counted(told[0], 'row')}, kept in "
                f"{words.counted(told[1], 'object')}; stored are {stored[0]} in {stored[1]}",
            )
    if rows:
        raise _mismatch(export, f"it holds rows of groups {sorted(rows)}, which it does not name")


def _mismatch(export: Export, what: str) -> Corruption:
    return Corruption(
        f"export {export.name!r} is not what the cluster told: {what}",
        code="export_count_mismatch",
        hint=f"drop it with `workbench export --abandon {export.name}`, and export anew",
    )
