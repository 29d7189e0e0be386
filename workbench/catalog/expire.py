"""Rows before a cutoff go: whole objects by their bounds, the one that straddles it rewritten.

       ──────────┬──────┬──────┬───▶ time
        dropped  │ re-  │ kept │
                 │written
              cutoff somewhere in here

- By the dataset's time column, exactly: a row stays if its time is the cutoff or later.
- One record: readers see the dataset before or after, and the row count is right in both.
- Bound to the row count that was planned on: where another appended meanwhile, it is planned
  anew, as properties such as the number of windows are counted again.
- An object without bounds is read to find out. Where no row is left, one empty object keeps the
  columns.

The old objects stay for time travel until garbage collection takes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workbench.catalog.compact import TARGET_BYTES
from workbench.catalog.merging import Merger
from workbench.catalog.partitions import time_column_of
from workbench.catalog.reading import open_dataset
from workbench.catalog.registry import Change, Swap
from workbench.catalog.upkeep import ATTEMPTS_MAX
from workbench.catalog.values import Registration
from workbench.errors import (
    Conflict,
    Corruption,
    InvalidArgument,
    NotFound,
    Unavailable,
    WorkbenchError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    import pyarrow.dataset as ds

    from workbench.catalog.upkeep import Keeper
    from workbench.model.manifest import Manifest, ObjectRef


@dataclass(frozen=True, slots=True)
class Expiry:
    """What expiring did to a dataset, or would do.

    Attributes:
        name: Of the dataset.
        objects: How many objects go whole.
        bytes: Their bytes.
        rewritten: How many straddle the cutoff, or may.
        rows: How many rows go; None where that is known only once it is done.
        rows_left: How many stay; None likewise, or where nobody counted.
    """

    name: str
    objects: int
    bytes: int
    rewritten: int
    rows: int | None
    rows_left: int | None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.objects and not self.rewritten


@dataclass(frozen=True, slots=True)
class _Parts:
    """Objects by what becomes of them."""

    gone: tuple[ObjectRef, ...]
    read: tuple[ObjectRef, ...]


def preview(manifest: Manifest, cutoff: datetime) -> Expiry:
    """Return what would go.

    Raises:
        InvalidArgument: `dataset_without_time`.
    """
    parts = _divide(manifest, cutoff)
    rows = None if parts.read else sum(ref.rows or 0 for ref in parts.gone)
    count = manifest.row_count
    left = None if rows is None or count is None else count - rows
    size = sum(ref.size for ref in parts.gone)
    return Expiry(manifest.name, len(parts.gone), size, len(parts.read), rows, left)


def expire(
    keeper: Keeper,
    name: str,
    cutoff: datetime,
    properties_of: Callable[[ds.Dataset], Mapping[str, str]] = lambda _: {},
) -> Expiry:
    """Drop the rows of a dataset whose time is before the cutoff.

    Args:
        keeper: Of the catalog.
        name: Of the dataset.
        cutoff: Aware.
        properties_of: Counts anew what the properties say of the rows, on those that stay.

    Raises:
        NotFound: `dataset_absent`.
        InvalidArgument: `dataset_without_time`.
        Corruption: An object that straddles the cutoff is not what is registered.
        Unavailable: `catalog_busy`, where others changed the dataset again and again.
    """
    for _ in range(ATTEMPTS_MAX):
        manifest = keeper.refresh().get(name)
        if manifest is None:
            raise NotFound(
                f"no dataset {name!r} in {keeper.store.url}",
                code="dataset_absent",
                hint="`workbench catalog ls` lists all",
            )
        parts = _divide(manifest, cutoff)
        if not parts.gone and not parts.read:
            return Expiry(name, 0, 0, 0, 0, manifest.row_count)
        try:
            return _drop(keeper, manifest, parts, cutoff, properties_of)
        except (Conflict, Corruption) as error:
            gone = error.code == "object_missing" and keeper.is_overtaken(manifest)
            if not gone and error.code not in {"objects_changed", "dataset_changed"}:
                raise
    raise Unavailable(
        f"others changed dataset {name!r} {ATTEMPTS_MAX} times while its old rows were dropped",
        code="catalog_busy",
        hint="try again when fewer write to it",
    )


def _drop(
    keeper: Keeper,
    manifest: Manifest,
    parts: _Parts,
    cutoff: datetime,
    properties_of: Callable[[ds.Dataset], Mapping[str, str]],
) -> Expiry:
    transaction = keeper.begin()
    merger = Merger(keeper, manifest, transaction.txn, target_bytes=TARGET_BYTES)
    try:
        merged = merger.merge(parts.read, keep_from=cutoff)
        rows = sum(ref.rows or 0 for ref in parts.gone) + merged.rows_before - merged.rows
        if rows == 0 and not parts.gone:  # none of those that might be old is
            keeper.discard(merger.uploaded)
            return Expiry(manifest.name, 0, 0, 0, 0, manifest.row_count)
        old = tuple(ref.key for ref in (*parts.gone, *parts.read))
        kept = tuple(ref for ref in manifest.objects if ref.key not in set(old))
        new = merged.objects
        if not new and not kept:
            new = (merger.empty((*parts.gone, *parts.read)[0]),)
        after = replace(manifest, objects=(*new, *kept))
        properties = properties_of(open_dataset(keeper.store, after, hashed=False))
        change = Change(
            Registration(manifest.name, manifest.schema_fingerprint, (), properties=properties),
            expected_rows=manifest.row_count,
            swaps=(Swap(old, new, -rows),),
        )
        batch = keeper.change(transaction, [change])
    except WorkbenchError:
        if not transaction.uncertain:
            keeper.discard(merger.uploaded)
        raise
    return Expiry(
        name=manifest.name,
        objects=len(parts.gone),
        bytes=sum(ref.size for ref in parts.gone),
        rewritten=len(parts.read),
        rows=rows,
        rows_left=batch.answers[0].manifest.row_count,
    )


def _divide(manifest: Manifest, cutoff: datetime) -> _Parts:
    if time_column_of(manifest) is None:
        raise InvalidArgument(
            f"dataset {manifest.name!r} has no time column, so none of its rows is old",
            code="dataset_without_time",
            hint=f"`workbench catalog rm {manifest.name}` removes it whole",
        )
    gone, read = [], []
    for ref in manifest.objects:
        if ref.rows == 0:
            continue
        if ref.time_min is None or ref.time_max is None or ref.rows is None:
            read.append(ref)
        elif ref.time_max < cutoff:
            gone.append(ref)
        elif ref.time_min < cutoff:
            read.append(ref)
    return _Parts(tuple(gone), tuple(read))
