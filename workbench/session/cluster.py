"""One cluster in a catalog: its routes and its load, ready to be asked.

    catalog ── <cluster>/route, <cluster>/load_window, <cluster>/access ──▶ ClusterView

Times in questions are given as users write them: RFC 3339, Unix seconds, or a percentage of
what the load covers (`50%`), which saves looking the middle up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from workbench.catalog.values import TIME_COLUMN
from workbench.errors import InvalidArgument, InvalidInput, NotFound
from workbench.model.tables import ACCESS, HOT_KEY, KEY_SAMPLE, LOAD_WINDOW, table_to_routes
from workbench.model.times import parse_time, rfc3339
from workbench.query.load import EXTRAS, Extent, LoadReader, Source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from workbench.catalog.catalog import Catalog
    from workbench.model.manifest import Manifest
    from workbench.model.routes import RouteSnapshot


SCHEMAS: Final = {
    "load_window": LOAD_WINDOW,
    "access": ACCESS,
    "hot_key": HOT_KEY,
    "key_sample": KEY_SAMPLE,
}


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A cluster as the catalog knows it.

    Attributes:
        name: Of the cluster.
        snapshot: Its newest routes.
        load: Answers questions on its load.
        extent: What time the load covers.
        properties: What was assumed when it was collected.
        catalog: Where it was found; None where it is made up.
    """

    name: str
    snapshot: RouteSnapshot
    load: LoadReader
    extent: Extent
    properties: Mapping[str, str]
    catalog: Catalog | None = field(default=None, repr=False, compare=False)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user was warned of when the load was collected."""
        return tuple(filter(None, self.properties.get("warnings", "").split("\n")))

    def window(self, since: str | None, until: str | None) -> tuple[datetime, datetime]:
        """Return the time that `since` and `until` name, as far as the load covers it.

        Raises:
            InvalidArgument: a time cannot be read, or `since` is not before `until`.
            NotFound: the load covers none of that time.
        """
        start = self.extent.since if since is None else self._moment(since)
        end = self.extent.until if until is None else self._moment(until)
        if start >= end and since is not None and until is not None:
            raise InvalidArgument(
                f"the time from {rfc3339(start)} to {rfc3339(end)} is empty",
                code="window_empty",
                hint="--since must be before --until",
            )
        start, end = max(start, self.extent.since), min(end, self.extent.until)
        if start >= end:
            asked = f"from {since or 'the start'} to {until or 'the end'}"
            raise NotFound(
                f"cluster {self.name!r} has no load in the time asked for, {asked}",
                code="load_absent",
                hint=f"it covers {rfc3339(self.extent.since)} to {rfc3339(self.extent.until)}",
            )
        return start, end

    def _moment(self, text: str) -> datetime:
        if not text.endswith("%"):
            return parse_time(text)
        try:
            percent = float(text[:-1])
        except ValueError:
            percent = -1.0
        if not 0 <= percent <= 100:
            raise InvalidArgument(
                f"{text!r} is no percentage from 0% to 100%",
                code="time_invalid",
                hint="write 50%, 2026-01-31T12:00:00Z or 1769860800",
            )
        if percent == 100:
            return self.extent.until
        # The nearest start of a window, so that windows and single accesses tell the same.
        windows = (self.extent.until - self.extent.since) / self.extent.window
        return self.extent.since + round(windows * percent / 100) * self.extent.window


def cluster_names(catalog: Catalog) -> list[str]:
    """Return the clusters that have load in this catalog, ascending."""
    suffix = f"/{Source.LOAD_WINDOW.value}"
    return [m.name.removesuffix(suffix) for m in catalog.list() if m.name.endswith(suffix)]


def open_cluster(catalog: Catalog, name: str | None) -> ClusterView:
    """Return a view of the cluster `name`, or of the only one there is.

    Raises:
        NotFound: there is no such cluster, or none at all.
        InvalidArgument: there are several and no name was given.
    """
    names = cluster_names(catalog)
    listed = ", ".join(names)
    if not names:
        raise NotFound(
            "the catalog holds no load",
            code="load_absent",
            hint="collect some first: workbench collect trace:FILE",
        )
    if name is None and len(names) > 1:
        raise InvalidArgument(
            f"the catalog holds {len(names)} clusters: {listed}",
            code="cluster_ambiguous",
            hint="name one with --cluster",
        )
    chosen = names[0] if name is None else name
    if chosen not in names:
        raise NotFound(
            f"the catalog holds no load of cluster {chosen!r}",
            code="cluster_absent",
            hint=f"it has {listed}",
        )
    present = {manifest.name for manifest in catalog.list(f"{chosen}/")}
    data = {
        str(kind): catalog.dataset(f"{chosen}/{kind}", hashed=True)
        for kind in (*Source, *EXTRAS)
        if f"{chosen}/{kind}" in present
    }
    for kind, dataset in data.items():
        _check_columns(f"{chosen}/{kind}", dataset.schema, SCHEMAS[kind])
    load = LoadReader(chosen, data)
    manifest = catalog.get(f"{chosen}/{Source.LOAD_WINDOW.value}")
    known = None if Source.ACCESS in data else _known_extent(manifest)
    return ClusterView(
        name=chosen,
        snapshot=table_to_routes(catalog.read(f"{chosen}/route")),
        load=load,
        extent=known or load.extent(),
        properties=manifest.properties,
        catalog=catalog,
    )


def _check_columns(name: str, found: pa.Schema, wanted: pa.Schema) -> None:
    """Refuse a dataset whose columns no question could be put to, before any row is read.

    What the workbench collected fits; what was registered from elsewhere may not.
    """
    missing = [column for column in wanted.names if column not in found.names]
    wrong = [
        f"{field.name} is {found.field(field.name).type}, not {field.type}"
        for field in wanted
        if field.name not in missing and not _is_alike(found.field(field.name).type, field.type)
    ]
    if missing or wrong:
        said = [f"lacks the columns {', '.join(missing)}"] if missing else []
        raise InvalidInput(
            f"dataset {name!r} {'; '.join([*said, *wrong])}",
            code="columns_missing" if missing else "schema_mismatch",
            hint="docs/formats/tables.md lists columns and types; register it under another name",
        )


def _is_alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Tell whether SQL takes one type for the other without a loss."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_string)
    is_null = pa.types.is_null(found)
    return bool(found.equals(wanted) or is_null or any(k(found) and k(wanted) for k in kinds))


def _known_extent(manifest: Manifest) -> Extent | None:
    """Return what the manifest alone tells of a running cluster's windows, if it tells all.

    Reading it off millions of rows takes seconds, and every question begins with it.
    """
    refs = [ref for ref in manifest.objects if ref.rows != 0]
    firsts = [ref.time_min for ref in refs if ref.time_min is not None]
    lasts = [ref.time_max for ref in refs if ref.time_max is not None]
    window_ms, windows = (manifest.properties.get(name, "") for name in ("window_ms", "windows"))
    is_told = manifest.properties.get(TIME_COLUMN) == "window_start" and len(firsts) == len(refs)
    if not (refs and is_told and window_ms.isdecimal() and windows.isdecimal()):
        return None
    length = timedelta(milliseconds=int(window_ms))
    return Extent(min(firsts), max(lasts) + length, int(windows), int(window_ms))
