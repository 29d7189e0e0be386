"""Upkeep of a catalog: few objects instead of many, old load out, garbage away.

    compact   merges small objects; no row changes
    expire    drops rows before a cutoff, by the time column of load windows and accesses
    remove    takes datasets out
    collect   deletes what neither now nor as far back as is kept anything refers to

Each takes a catalog's URL and answers what it did, or would do. `compact_if_many` is for those
who append often. What is kept for how long, and why nothing else is deleted: docs/catalog.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import pyarrow.compute as pc

from workbench.catalog import compact as compacting
from workbench.catalog import expire as expiring
from workbench.catalog import gc
from workbench.catalog.partitions import time_column_of
from workbench.catalog.upkeep import remove
from workbench.errors import InvalidArgument, WorkbenchError
from workbench.model.times import parse_time, rfc3339
from workbench.session.plans import PLAN_PREFIX
from workbench.session.progress import Progress, silent
from workbench.session.system import SystemClock
from workbench.session.wiring import open_catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pyarrow.dataset as ds

    from workbench.catalog.catalog import Catalog
    from workbench.catalog.compact import Compaction
    from workbench.catalog.expire import Expiry
    from workbench.catalog.gc import Survey
    from workbench.model.manifest import Manifest

# From so many on, who appends to a dataset merges its small objects.
SMALL_OBJECTS_MAX: Final = 64
# Records of what people decided and did: expired only where one is named in full.
PROTECTED: Final = ("plan/*", "approval/*", "receipt/*", "lease/*", "*/route")


@dataclass(frozen=True, slots=True)
class Expired:
    """What expiring did, or would do.

    Attributes:
        cutoff: Rows before it go.
        datasets: Those that lose rows.
        untimed: Names of those asked for that have no time column.
        unmatched: Patterns that no dataset fits.
        plans: Ids of plans that were made from load that goes.
        applied: Whether it was done.
    """

    cutoff: datetime
    datasets: tuple[Expiry, ...]
    untimed: tuple[str, ...]
    plans: tuple[str, ...]
    applied: bool
    unmatched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection of garbage did, or would do.

    Attributes:
        survey: What there was.
        temporary: Abandoned temporary files that were deleted; None where the store has none,
            or nothing was done.
        applied: Whether it was done.
    """

    survey: Survey
    temporary: int | None
    applied: bool


@runtime_checkable
class _HasTemporary(Protocol):
    """A store whose killed writers leave temporary files."""

    def remove_temporary(self, before: datetime) -> int:
        """Delete those that were last changed before this time; return how many."""
        ...


def compact_catalog(
    url: str,
    patterns: Sequence[str] = (),
    *,
    target_bytes: int = compacting.TARGET_BYTES,
    apply: bool = True,
    progress: Progress = silent,
) -> list[Compaction]:
    """Merge the small objects of datasets; return those that have any.

    Args:
        url: Of the catalog.
        patterns: Names, or patterns with `*` and `?`; none means all datasets.
        target_bytes: About how large an object becomes.
        apply: Whether to do it, rather than tell what would be read.
        progress: Is told how far it is.

    Raises:
        NotFound: `dataset_absent`: a name without a pattern names none.
        Corruption: An object is not what is registered; what was merged before stays merged.
    """
    catalog = open_catalog(url)
    found = [
        each
        for manifest in chosen(catalog, patterns)
        if (each := compacting.preview(manifest, target_bytes)).merged
    ]
    if not apply:
        return found
    done = []
    for each in found:
        told = _teller(progress, f"merging {each.name}")
        with catalog.keeping() as keeper:
            try:
                merged = compacting.compact(keeper, each.name, target_bytes=target_bytes, told=told)
            except WorkbenchError as error:
                # What declares an order of its rows was not known before it was read.
                if error.code != "dataset_laid_out" or each.name in patterns:
                    raise
                continue
        done.append(merged)
    return done


def compact_if_many(catalog: Catalog, name: str) -> str | None:
    """Merge a dataset's small objects where they are many; return what to warn of."""
    try:
        if compacting.small_objects(catalog.get(name)) <= SMALL_OBJECTS_MAX:
            return None
        with catalog.keeping() as keeper:
            compacting.compact(keeper, name)
    except WorkbenchError as error:
        return f"the small objects of {name} were not merged: {error}"
    return None


def expire_catalog(
    url: str,
    older_than: timedelta,
    patterns: Sequence[str] = (),
    *,
    apply: bool = False,
    progress: Progress = silent,
) -> Expired:
    """Drop rows that are older, from datasets with a time column.

    Args:
        url: Of the catalog.
        older_than: Than so long before now.
        patterns: Names, or patterns with `*` and `?`; none means all but `PROTECTED`.
        apply: Whether to do it, rather than tell.
        progress: Is told how far it is.

    Raises:
        NotFound: `dataset_absent`: a name without a pattern names none.
        InvalidArgument: `dataset_without_time`: a dataset that is named has no time column;
            `dataset_protected`: a pattern fits nothing but what has to be named in full.
    """
    cutoff = SystemClock().now() - older_than
    catalog = open_catalog(url)
    manifests = _expirable(catalog, patterns)
    timed = [each for each in manifests if time_column_of(each) is not None]
    untimed = [each.name for each in manifests if time_column_of(each) is None]
    if named := sorted(set(untimed) & set(patterns)):
        expiring.preview(catalog.get(named[0]), cutoff)  # raises
    found = [(manifest, expiring.preview(manifest, cutoff)) for manifest in timed]
    found = [(manifest, each) for manifest, each in found if not each.empty]
    plans = _plans_from(catalog, [manifest.name for manifest, _ in found], cutoff)
    answers = [each for _, each in found]
    if apply:
        answers = []
        for number, (manifest, _) in enumerate(found):
            progress(f"expiring {manifest.name}", number, len(found))
            count = _recount(manifest)
            with catalog.keeping() as keeper:
                answers.append(expiring.expire(keeper, manifest.name, cutoff, count))
        answers = [each for each in answers if not each.empty]
    names = [manifest.name for manifest in catalog.list()]
    unmatched = [each for each in patterns if not any(fnmatchcase(n, each) for n in names)]
    return Expired(
        cutoff, tuple(answers), tuple(untimed), tuple(plans), apply, tuple(dict.fromkeys(unmatched))
    )


def remove_datasets(url: str, names: Sequence[str], *, apply: bool = False) -> list[Manifest]:
    """Take datasets out of the catalog, all or none; return them as they are or were.

    Raises:
        NotFound: `dataset_absent`.
    """
    catalog = open_catalog(url)
    distinct = list(dict.fromkeys(names))
    if not apply:
        return [catalog.get(name) for name in distinct]
    for name in distinct:
        catalog.get(name)  # names close ones where it is absent
    with catalog.keeping() as keeper:
        return remove(keeper, distinct)


def collect_garbage(
    url: str,
    *,
    keep: timedelta = gc.KEEP,
    grace: timedelta = gc.GRACE,
    apply: bool = False,
    progress: Progress = silent,
) -> Collected:
    """Delete what nothing refers to any more, in two runs a grace apart.

    Args:
        url: Of the catalog.
        keep: How far back `at` must reach.
        grace: How long the longest writer and reader may take.
        apply: Whether to do it, rather than tell.
        progress: Is told how far it is.

    Raises:
        InvalidArgument: `grace_too_short`.
        Storage: `clock_skewed`.
    """
    catalog = open_catalog(url)
    progress("reading the log", 0, None)
    with catalog.keeping() as keeper:
        if not apply:
            return Collected(gc.survey(keeper, keep=keep, grace=grace), None, applied=False)
        told = _teller(progress, "collecting")
        found = gc.collect(keeper, keep=keep, grace=grace, told=told)
    store = catalog.store
    temporary = None
    if isinstance(store, _HasTemporary):
        temporary = store.remove_temporary(found.now - grace)
    return Collected(found, temporary, applied=True)


def chosen(catalog: Catalog, patterns: Iterable[str]) -> list[Manifest]:
    """Return the datasets that any of the patterns fits, by name; all where there is none.

    Raises:
        NotFound: `dataset_absent`: one without `*`, `?` and `[` names none.
    """
    wanted = tuple(patterns)
    for each in wanted:
        if not set(each) & set("*?["):
            catalog.get(each)
    return [
        manifest
        for manifest in catalog.list()
        if not wanted or any(fnmatchcase(manifest.name, each) for each in wanted)
    ]


def _expirable(catalog: Catalog, patterns: Sequence[str]) -> list[Manifest]:
    """Return what was asked for, without what has to be named in full and was not."""
    asked = chosen(catalog, patterns)
    open_to = [
        manifest
        for manifest in asked
        if manifest.name in patterns
        or not any(fnmatchcase(manifest.name, each) for each in PROTECTED)
    ]
    if asked and not open_to and patterns:
        raise InvalidArgument(
            f"{' '.join(patterns)} fits only {asked[0].name!r} and the like, which record what was "
            "decided and done",
            code="dataset_protected",
            hint="name each dataset in full, or remove one with `workbench catalog rm`",
        )
    return open_to


def _recount(manifest: Manifest) -> Callable[[ds.Dataset], Mapping[str, str]]:
    """Return what counts anew the properties that `collect` keeps of a cluster's windows."""
    column = time_column_of(manifest)
    if column is None or "windows" not in manifest.properties:
        return lambda _: {}

    def count(data: ds.Dataset) -> dict[str, str]:
        starts = data.to_table(columns=[column]).column(column)
        number = pc.count_distinct(starts).as_py()
        first = pc.min(starts).as_py()
        if first is not None:
            return {"windows": str(number), "collected_from": rfc3339(first.astimezone(UTC))}
        until = manifest.properties.get("collected_until")
        return {"windows": "0"} | ({"collected_from": until} if until else {})

    return count


def _plans_from(catalog: Catalog, names: Iterable[str], cutoff: datetime) -> list[str]:
    """Return the ids of plans whose load begins before the cutoff, in one of these datasets."""
    clusters = {name.partition("/")[0] for name in names}
    found = []
    for manifest in catalog.list(PLAN_PREFIX):
        since = manifest.properties.get("window", "").partition(" to ")[0]
        if manifest.properties.get("cluster") in clusters and since:
            try:
                old = parse_time(since) < cutoff
            except InvalidArgument:
                continue  # written by another program: it says nothing of its load
            if old:
                found.append(manifest.name.removeprefix(PLAN_PREFIX))
    return found


def _teller(progress: Progress, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(stage, done, total)
