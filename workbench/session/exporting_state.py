"""An export as the catalog has it: two datasets, and how far each group is.

    export/<name>/version   VERSION rows; each object holds one group's rows, in their order
    export/<name>/route     the routes of the catalog version at read_ts

| property of `version`  | |
|---|---|
| `format`               | `workbench.export/1` |
| `read_ts`, `read_at`   | as of when (HLC, and RFC 3339) |
| `cluster`, `source`    | name and URL of the cluster |
| `cluster_id`           | what it calls itself; absent where it has no such name |
| `catalog_version`      | of the routes |
| `groups`               | ids, ascending, with commas |
| `status`               | `exporting`, then `complete` |
| `checked`              | with `complete`: `yes` where the rows were counted again |
| `group.<id>`           | JSON: rows, parts, done, and the cursor `key`, `commit_ts`, `tag` |

A part and the cursor behind it come in one record, bound to the number of rows that the dataset
had. So what the properties say of a group is true of its parts, however an export ended.

Not here: reading a cluster, and writing to one.
"""

from __future__ import annotations

import difflib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from workbench.errors import Corruption, InvalidArgument, InvalidInput, NotFound
from workbench.model.manifest import check_name
from workbench.model.node import CursorTag, ExportCursor
from workbench.model.tables import table_to_routes
from workbench.model.times import (
    HLC_LOGICAL_BITS,
    from_us,
    hlc_of_ms,
    hlc_to_us,
    parse_time,
    rfc3339_us,
    to_us,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.catalog.catalog import Catalog
    from workbench.model.manifest import Manifest
    from workbench.model.routes import RouteSnapshot

EXPORT_PREFIX: Final = "export/"
FORMAT: Final = "workbench.export/1"
EXPORTING: Final = "exporting"
COMPLETE: Final = "complete"
HLC_MAX: Final = 2**64 - 1
# As Unix seconds this is 30 million years away; as an HLC it is January 1970.
HLC_MIN: Final = 10**15
# 9999-12-31: what lies beyond is no time that can be shown.
TIME_US_MAX: Final = 253_402_214_400_000_000


@dataclass(frozen=True, slots=True)
class GroupState:
    """How far the export of one group is.

    Attributes:
        group: Its id.
        rows: Stored.
        parts: Objects that hold them.
        cursor: Strictly after it the rest begins; None where nothing was read.
        done: Whether there is no rest.
    """

    group: int
    rows: int = 0
    parts: int = 0
    cursor: ExportCursor | None = None
    done: bool = False

    def property(self) -> tuple[str, str]:
        """Return the property that keeps it; one that is done needs no cursor."""
        fields: dict[str, Any] = {"rows": self.rows, "parts": self.parts, "done": self.done}
        if self.cursor is not None and not self.done:
            fields["key"] = self.cursor.key.hex()
            fields["commit_ts"] = self.cursor.commit_ts
            fields["tag"] = self.cursor.tag.value
        return f"group.{self.group}", json.dumps(fields)


@dataclass(frozen=True, slots=True)
class Export:
    """One export.

    Attributes:
        name: As users give it.
        manifest: Of its versions.
        read_ts: As of when (HLC).
        cluster: Under which name.
        cluster_id: What the cluster calls itself; None where it has no such name.
        source: URL that it was read from.
        catalog_version: Of its routes.
        groups: By id, ascending.
        complete: Whether all of it is there.
    """

    name: str
    manifest: Manifest
    read_ts: int
    cluster: str
    cluster_id: str | None
    source: str
    catalog_version: int
    groups: Mapping[int, GroupState]
    complete: bool

    @property
    def rows(self) -> int:
        """Rows stored so far."""
        return self.manifest.row_count or 0

    @property
    def size(self) -> int:
        """Bytes of its objects."""
        return sum(ref.size for ref in self.manifest.objects)

    @property
    def read_at(self) -> str:
        """As of when, as RFC 3339."""
        return hlc_text(self.read_ts)


def version_name(name: str) -> str:
    """Return the name of the dataset with an export's versions."""
    return f"{EXPORT_PREFIX}{name}/version"


def route_name(name: str) -> str:
    """Return the name of the dataset with an export's routes."""
    return f"{EXPORT_PREFIX}{name}/route"


def check_export_name(name: str) -> str:
    """Return `name`, or raise InvalidArgument where no dataset could carry it."""
    try:
        check_name(version_name(name))
    except InvalidInput as error:
        raise InvalidArgument(
            f"{name[:64]!r} is no name for an export",
            code="export_name_invalid",
            hint="use letters, digits, '.', '_', '-' and '/', as backup-2026-11-21",
        ) from error
    return name


def default_name(cluster: str, read_ts: int) -> str:
    """Return the name of an export that was given none: cluster and time of `read_ts`."""
    moment = from_us(min(hlc_to_us(read_ts), TIME_US_MAX))
    return f"{cluster}-{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1_000:03d}Z"


def hlc_text(hlc: int) -> str:
    """Return the physical part of an HLC value as RFC 3339."""
    return rfc3339_us(min(hlc_to_us(hlc), TIME_US_MAX))


def parse_read_ts(text: str) -> int:
    """Return the read_ts that a user names: an HLC value, or a time with all its commits.

    Raises:
        InvalidArgument: `read_ts_invalid`, `time_invalid`.
    """
    if text.isascii() and text.isdecimal() and len(text) <= 20 and int(text) >= HLC_MIN:
        read_ts = int(text)
    else:
        unix_ms = to_us(parse_time(text)) // 1_000
        read_ts = hlc_of_ms(unix_ms, 2**HLC_LOGICAL_BITS - 1) if unix_ms >= 0 else -1
    if not 0 <= read_ts <= HLC_MAX:
        raise InvalidArgument(
            f"{text!r} is no read timestamp",
            code="read_ts_invalid",
            hint="write an HLC value, or a time as 2026-01-31T12:00:00Z",
        )
    return read_ts


def exports(catalog: Catalog) -> list[Export]:
    """Return all exports of our format, by name.

    Left out is what is none, and one whose properties cannot be read: `find_export` says why.
    """
    found = []
    for manifest in catalog.list(EXPORT_PREFIX):
        name = manifest.name.removeprefix(EXPORT_PREFIX).removesuffix("/version")
        if version_name(name) == manifest.name and manifest.properties.get("format") == FORMAT:
            with suppress(Corruption):
                found.append(_export(name, manifest))
    return found


def find_export(catalog: Catalog, name: str) -> Export:
    """Return the export of this name.

    Raises:
        NotFound: `export_absent`, with the names that are close.
        InvalidInput: `export_format_unknown`.
        Corruption: `export_properties_invalid`.
    """
    for manifest in catalog.list(version_name(check_export_name(name))):
        if manifest.name == version_name(name):
            return _export(name, manifest)
    names = [export.name for export in exports(catalog)]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names[-3:]
    raise NotFound(
        f"there is no export {name!r} in {catalog.store.url}",
        code="export_absent",
        hint=f"there are {', '.join(close)}" if close else "make one with `workbench export`",
    )


def exported_routes(catalog: Catalog, export: Export) -> RouteSnapshot:
    """Return the routes of an export; the SHA-256 of their object is checked.

    Raises:
        Corruption: they are damaged, or of another version than the export says.
    """
    name = route_name(export.name)
    try:
        routes = table_to_routes(catalog.read(name))
    except NotFound as error:
        raise _damaged(export.name, f"its routes, dataset {name!r}, are gone") from error
    except InvalidInput as error:
        raise _damaged(export.name, error.message) from error
    if routes.catalog_version != export.catalog_version:
        what = f"its routes are of version {routes.catalog_version}, not {export.catalog_version}"
        raise _damaged(export.name, what)
    if not {route.group for route in routes.routes}.issubset(export.groups):
        raise _damaged(export.name, "its routes name a group that it does not hold")
    return routes


def _export(name: str, manifest: Manifest) -> Export:
    own = manifest.properties
    form = own.get("format")
    if form != FORMAT:
        raise InvalidInput(
            f"dataset {manifest.name!r} has the format {form!r}, this program knows {FORMAT}",
            code="export_format_unknown",
            hint="use the program that wrote it" if form else "it is no export",
        )
    try:
        groups = sorted(int(each) for each in own["groups"].split(",") if each)
        export = Export(
            name=name,
            manifest=manifest,
            read_ts=int(own["read_ts"]),
            cluster=own["cluster"],
            cluster_id=own.get("cluster_id"),
            source=own["source"],
            catalog_version=int(own["catalog_version"]),
            groups={group: _group(group, own.get(f"group.{group}")) for group in groups},
            complete=own["status"] == COMPLETE,
        )
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(name, f"{type(error).__name__}: {error}") from error
    if not 0 <= export.read_ts <= HLC_MAX or own["status"] not in {COMPLETE, EXPORTING}:
        raise _damaged(name, f"read_ts {export.read_ts}, status {own['status']!r}")
    return export


def _group(group: int, text: str | None) -> GroupState:
    if text is None:
        return GroupState(group)
    fields = json.loads(text)
    cursor = None
    if "key" in fields:
        tag = CursorTag(fields["tag"])
        cursor = ExportCursor(bytes.fromhex(fields["key"]), int(fields["commit_ts"]), tag)
    return GroupState(
        group, int(fields["rows"]), int(fields["parts"]), cursor, done=fields["done"] is True
    )


def _damaged(name: str, what: str) -> Corruption:
    return Corruption(
        f"the properties of export {name!r} cannot be read: {what}",
        code="export_properties_invalid",
        hint="`workbench catalog show` shows them; remove the export, or use another",
    )
