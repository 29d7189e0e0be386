"""Export a cluster's whole history into the catalog, and bring an empty cluster to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from workbench.api.catalog import Catalog
from workbench.api.places import HasUrl, Moment, catalog_url, moment_text, url_of
from workbench.api.results import Result
from workbench.api.show import counted
from workbench.api.words import in_python
from workbench.session.exporting import ExportOptions, export_cluster
from workbench.session.exporting_state import parse_read_ts, route_name, version_name
from workbench.session.restoring import RestoreOptions, restore_cluster

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Export(Result):
    """All versions of all keys of a cluster as of one moment: a row per group.

    Attributes:
        name: Of the export.
        cluster: Of the cluster.
        read_ts: As of when (HLC).
        read_at: The same as RFC 3339.
        catalog_version: Of the routes that were exported with it.
        versions: Dataset with the versions, for `catalog.sql`.
        routes: Dataset with the routes.
        complete: Whether all of it is there.
        seconds: How long this run took.
    """

    name: str
    cluster: str
    read_ts: int
    read_at: str
    catalog_version: int
    versions: str
    routes: str
    complete: bool
    seconds: float


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Restored(Result):
    """What came of a restore, or would come of it: a row per group of the cluster.

    Attributes:
        name: Of the export.
        target: URL of the cluster.
        read_ts: As of when the history is (HLC).
        new_rows: Rows that this run imported.
        dry_run: Nothing was changed.
        checked: Every row was compared at the end, not only some.
        problems: What is wrong with the export; empty is good.
        seconds: How long this run took.
    """

    name: str
    target: str
    read_ts: int
    new_rows: int
    dry_run: bool
    checked: bool
    problems: tuple[str, ...]
    seconds: float


@in_python
def export(  # noqa: PLR0913 - as the command's options, all named
    target: str | HasUrl,
    catalog: Catalog | str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    resume: str | None = None,
    cluster: str | None = None,
    read_ts: int | Moment = None,
    check: bool = True,
) -> Export:
    """Export every version of every key as of one moment, with the routes of that moment.

    Clients go on meanwhile. Stopped at any point, the same call goes on where it stopped, at the
    same moment.

    Args:
        target: URL of the cluster, or what `wb.connect` returned.
        catalog: Where to keep it; there must be one.
        name: Of the export; None takes an unfinished one of the cluster, else makes one up.
        resume: Name of one that must be there; not with `name`.
        cluster: Name of the cluster; None takes it from the URL.
        read_ts: As of when: an HLC value, a time, or None for now.
        check: Count the stored rows again at the end.

    Raises:
        InvalidArgument: `export_unsupported`: the system tells no history.
        NotFound: `catalog_absent`; `catalog_not_begun` for a moment before its routes.
        Conflict: `export_exists`, `export_busy`.
        Unavailable: A group does not answer; what was stored stays.
    """
    moment = read_ts if read_ts is None or isinstance(read_ts, int) else moment_text(read_ts)
    options = ExportOptions(
        name=name,
        resume=resume,
        cluster=cluster,
        read_ts=None if moment is None else parse_read_ts(str(moment)),
        check=check,
    )
    answer = export_cluster(url_of(target), _place(catalog), options)
    found = answer.export
    rows = [
        {"group": state.group, "rows": state.rows, "objects": state.parts, "done": state.done}
        for state in found.groups.values()
    ]
    return Export(
        pa.Table.from_pylist(rows, schema=_GROUPS),
        f"export {found.name} of cluster {found.cluster} as of {found.read_at}: "
        f"{counted(found.rows, 'version')}, {counted(answer.routes, 'route')}",
        warnings=answer.warnings,
        name=found.name,
        cluster=found.cluster,
        read_ts=found.read_ts,
        read_at=found.read_at,
        catalog_version=found.catalog_version,
        versions=version_name(found.name),
        routes=route_name(found.name),
        complete=found.complete,
        seconds=answer.seconds,
    )


@in_python
def restore(  # noqa: PLR0913 - as the command's options, all named
    name: str,
    target: str | HasUrl,
    catalog: Catalog | str | os.PathLike[str] | None = None,
    *,
    map_group: Mapping[int, int] | None = None,
    resume: bool = False,
    dry_run: bool = False,
    check: bool = False,
) -> Restored:
    """Bring an empty cluster to the history of an export; it serves nothing before all is there.

    All of the export is read and checked first. A cluster that holds data is refused.

    Args:
        name: Of the export; `catalog.exports()` lists them.
        target: URL of the empty cluster, or what `wb.connect` returned.
        catalog: Where the export is.
        map_group: Which group of the export becomes which of the cluster, where not itself.
        resume: Only go on with a restore that has begun.
        dry_run: Check export and cluster; change nothing.
        check: Compare every row at the end, not only some.

    Raises:
        NotFound: `export_absent`, with names that are close.
        Conflict: `target_not_empty`.
        InvalidInput: `export_incomplete`, `groups_missing`.
        Corruption: The export is damaged; nothing was changed.
    """
    options = RestoreOptions(
        mapping=dict(map_group or {}), resume=resume, dry_run=dry_run, check=check
    )
    answer = restore_cluster(name, url_of(target), _place(catalog), options)
    plan = answer.plan
    rows = [
        {"group": each.group, "from_groups": list(each.sources), "rows": each.rows}
        for each in (plan.groups if plan else ())
    ]
    if answer.problems:
        said = f"cannot be restored: {counted(len(answer.problems), 'problem')}"
    elif answer.dry_run:
        said = "would be restored; nothing was sent"
    else:
        said = "was restored before" if answer.existing else "is restored"
    return Restored(
        pa.Table.from_pylist(rows, schema=_RESTORED),
        f"export {name} as of {answer.export.read_at} {said}",
        notes=tuple(f"{each.key}: {each.reason}" for each in answer.problems),
        warnings=answer.warnings,
        name=name,
        target=answer.target,
        read_ts=answer.export.read_ts,
        new_rows=answer.new_rows,
        dry_run=answer.dry_run,
        checked=answer.checked,
        problems=tuple(f"{each.key}: {each.reason}" for each in answer.problems),
        seconds=answer.seconds,
    )


def _place(catalog: Catalog | str | os.PathLike[str] | None) -> str:
    if not isinstance(catalog, Catalog):
        return catalog_url(catalog)
    catalog.writable()
    return catalog.url


_GROUPS = pa.schema(
    [
        pa.field("group", pa.uint64()),
        pa.field("rows", pa.int64()),
        pa.field("objects", pa.int64()),
        pa.field("done", pa.bool_()),
    ]
)
_RESTORED = pa.schema(
    [
        pa.field("group", pa.uint64()),
        pa.field("from_groups", pa.list_(pa.uint64())),
        pa.field("rows", pa.int64()),
    ]
)
