"""Many small objects of a dataset become few, without a row more or less.

    manifest ──plan_bins──▶ bins ──Merger──▶ new objects ──swap──▶ one record

- With a time column, the small objects of one UTC day are merged; days stay apart, so that they
  can be pruned and expired. Objects without bounds are cut into days on this occasion.
- Without one, runs of small objects that follow each other are merged, in their order: of
  receipts, approvals and leases the newest row counts.
- Large objects stay, as do objects that another program registered, and exports, whose files
  declare an order.
- What others append meanwhile stays: the record swaps the objects that were read for the new
  ones, wherever the dataset is by then. Where another compaction was first, it is planned anew.

The old objects stay for time travel until garbage collection takes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from workbench.catalog.layout import DATA_PREFIX
from workbench.catalog.merging import Merger
from workbench.catalog.partitions import day_of, time_column_of
from workbench.catalog.registry import Change, Swap
from workbench.catalog.upkeep import ATTEMPTS_MAX, unheard
from workbench.catalog.values import Registration
from workbench.errors import Conflict, Corruption, NotFound, Unavailable, WorkbenchError
from workbench.model.manifest import schema_fingerprint
from workbench.model.tables import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workbench.catalog.upkeep import Keeper, Told
    from workbench.model.manifest import Manifest, ObjectRef

TARGET_BYTES: Final = 128 * 1024 * 1024
# Of what is read and written for one record: an interruption loses no more work than that.
RECORD_BYTES: Final = 1024 * 1024 * 1024
LAID_OUT: Final = frozenset({schema_fingerprint(VERSION)})
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
OWN_KEY: Final = re.compile(rf"{re.escape(DATA_PREFIX)}{_UUID}/{_UUID}/[^/]+")


@dataclass(frozen=True, slots=True)
class Bin:
    """Objects that become one, or as few as their size allows."""

    objects: tuple[ObjectRef, ...]

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(ref.size for ref in self.objects)


@dataclass(frozen=True, slots=True)
class Compaction:
    """What compaction did to a dataset, or would do.

    Attributes:
        name: Of the dataset.
        objects_before: How many objects it had.
        objects: How many it has now.
        merged: How many small ones were read.
        merged_bytes: Their bytes.
        made_bytes: Of what was written instead; None where nothing was done.
        records: How many records that took.
    """

    name: str
    objects_before: int
    objects: int
    merged: int
    merged_bytes: int
    made_bytes: int | None
    records: int


def plan_bins(manifest: Manifest, target_bytes: int = TARGET_BYTES) -> tuple[Bin, ...]:
    """Return what to merge; nothing where it would not get fewer objects, or bounds.

    Args:
        manifest: Of the dataset.
        target_bytes: About how large an object becomes. One of half of it counts as large.
    """
    keys = {ref.key for ref in manifest.objects}
    if manifest.schema_fingerprint in LAID_OUT or len(keys) != len(manifest.objects):
        return ()
    groups: dict[object, list[ObjectRef]] = {}
    if time_column_of(manifest) is None:
        run = 0
        for ref in manifest.objects:
            if _is_small(ref, target_bytes):
                groups.setdefault(run, []).append(ref)
            else:
                run += 1
        return tuple(b for group in groups.values() for b in _bins(group, target_bytes, 2))
    unbound = []
    for ref in manifest.objects:
        day = day_of(ref)
        if ref.time_min is None and ref.rows != 0 and _is_own(ref) and ref.size <= target_bytes:
            unbound.append(ref)
        elif (day is not None or ref.rows == 0) and _is_small(ref, target_bytes):
            groups.setdefault(day, []).append(ref)
    by_day = [b for group in groups.values() for b in _bins(group, target_bytes, 2)]
    return (*_bins(unbound, target_bytes, 1), *by_day)


def small_objects(manifest: Manifest, target_bytes: int = TARGET_BYTES) -> int:
    """Return how many objects a compaction would read."""
    return sum(len(each.objects) for each in plan_bins(manifest, target_bytes))


def preview(manifest: Manifest, target_bytes: int = TARGET_BYTES) -> Compaction:
    """Return what compaction would merge; into how many is known once it is done."""
    bins = plan_bins(manifest, target_bytes)
    merged = sum(len(each.objects) for each in bins)
    size = sum(each.size for each in bins)
    objects = len(manifest.objects)
    return Compaction(manifest.name, objects, objects, merged, size, None, 0)


def compact(
    keeper: Keeper, name: str, *, target_bytes: int = TARGET_BYTES, told: Told = unheard
) -> Compaction:
    """Merge the small objects of a dataset.

    Args:
        keeper: Of the catalog.
        name: Of the dataset.
        target_bytes: About how large an object becomes.
        told: Is told bytes done and bytes to do.

    Raises:
        NotFound: `dataset_absent`.
        Corruption: An object is not what is registered; nothing of it was used.
        Conflict: `dataset_laid_out`.
        Unavailable: `catalog_busy`, where others changed the dataset again and again.
    """
    before = len(_get(keeper, name).objects)
    done = Compaction(name, before, before, 0, 0, 0, 0)
    lost = 0
    while True:
        keeper.refresh()
        manifest = _get(keeper, name)
        bins = plan_bins(manifest, target_bytes)
        if not bins:
            return _plus(done, (), (), manifest)
        total = done.merged_bytes + sum(each.size for each in bins)
        told(done.merged_bytes, total)
        now = _first(bins)
        try:
            swaps = _merge(keeper, manifest, now, target_bytes)
        except (Conflict, Corruption) as error:
            gone = error.code == "object_missing" and keeper.is_overtaken(manifest)
            if not gone and error.code != "objects_changed":
                raise
            lost += 1
            _check_lost(name, lost)
            continue
        done = _plus(done, now, swaps, manifest)
        told(done.merged_bytes, total)


def _merge(
    keeper: Keeper, manifest: Manifest, bins: Sequence[Bin], target_bytes: int
) -> list[Swap]:
    """Write the bins anew and commit that; nothing stays behind where it fails."""
    transaction = keeper.begin()
    merger = Merger(keeper, manifest, transaction.txn, target_bytes=target_bytes)
    try:
        swaps = []
        for each in bins:
            merged = merger.merge(each.objects)
            _check_rows(each, merged.rows_before, merged.rows)
            # Where there was no row at all, one object keeps the columns.
            new = merged.objects or (merger.empty(each.objects[0]),)
            swaps.append(Swap(tuple(ref.key for ref in each.objects), new))
        fingerprint = manifest.schema_fingerprint
        change = Change(Registration(manifest.name, fingerprint, ()), swaps=tuple(swaps))
        keeper.change(transaction, [change])
    except WorkbenchError:
        if not transaction.uncertain:
            keeper.discard(merger.uploaded)
        raise
    return swaps


def _bins(refs: Iterable[ObjectRef], target_bytes: int, least: int) -> list[Bin]:
    """Divide objects, in their order, into bins of about the target, of at least so many."""
    bins: list[list[ObjectRef]] = []
    size = 0
    for ref in refs:
        if not bins or size + ref.size > target_bytes:
            bins.append([])
            size = 0
        bins[-1].append(ref)
        size += ref.size
    return [Bin(tuple(each)) for each in bins if len(each) >= least]


def _first(bins: Sequence[Bin]) -> list[Bin]:
    """Return the first bins, as many as one record is made of."""
    now: list[Bin] = []
    size = 0
    for each in bins:
        if now and size + each.size > RECORD_BYTES:
            break
        now.append(each)
        size += each.size
    return now


def _plus(
    done: Compaction, bins: Sequence[Bin], swaps: Sequence[Swap], manifest: Manifest
) -> Compaction:
    return replace(
        done,
        objects=len(manifest.objects),
        merged=done.merged + sum(len(each.objects) for each in bins),
        merged_bytes=done.merged_bytes + sum(each.size for each in bins),
        made_bytes=(done.made_bytes or 0) + sum(ref.size for s in swaps for ref in s.new),
        records=done.records + bool(bins),
    )


def _get(keeper: Keeper, name: str) -> Manifest:
    manifest = keeper.state.get(name)
    if manifest is None:
        raise NotFound(
            f"no dataset {name!r} in {keeper.store.url}",
            code="dataset_absent",
            hint="`workbench catalog ls` lists all",
        )
    return manifest


def _is_own(ref: ObjectRef) -> bool:
    return OWN_KEY.fullmatch(ref.key) is not None


def _is_small(ref: ObjectRef, target_bytes: int) -> bool:
    return ref.size * 2 <= target_bytes and _is_own(ref)


def _check_rows(each: Bin, before: int, after: int) -> None:
    """Raise where a row came or went: then the objects are not what they were said to be."""
    assert before == after, "merging lost or doubled rows"
    counts = [ref.rows for ref in each.objects]
    said = sum(rows or 0 for rows in counts)
    if None not in counts and said != before:
        raise Corruption(
            f"{each.objects[0].key} and {len(counts) - 1} more have {before} rows, registered "
            f"are {said}",
            code="object_rows_mismatch",
            hint="`workbench catalog verify` lists what is wrong",
        )


def _check_lost(name: str, lost: int) -> None:
    if lost >= ATTEMPTS_MAX:
        raise Unavailable(
            f"others changed the objects of {name!r} {lost} times while they were merged",
            code="catalog_busy",
            hint="one process that compacts is enough",
        )
