"""The questions that detection, planning and verification ask of a cluster's load.

    <cluster>/load_window   buckets and windows, from every source
    <cluster>/access        single accesses, where a trace was collected: the finer evidence
    <cluster>/hot_key       heavy keys, where the source tells them
    <cluster>/key_sample    sampled accesses, where the source does not count them all

`LoadReader` holds the data of one cluster at one catalog sequence and answers with Arrow
tables. It is the only place that knows which SQL text answers which question.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import NotFound
from workbench.model.plan import EvidenceQuery
from workbench.model.times import from_us, hlc_to_us, rfc3339
from workbench.query.engine import run, sql_text
from workbench.query.layouts import OneLayout, one_layout, one_window_each
from workbench.query.route_sums import load_windows_of, route_windows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import pyarrow.dataset as ds

    from workbench.model.keys import Span
    from workbench.model.plan import Objective
    from workbench.model.routes import RouteDescriptor


HOT_KEY: Final = "hot_key"
KEY_SAMPLE: Final = "key_sample"
# Beside the two of `Source`: what a cluster may have, by dataset and relation name.
EXTRAS: Final = (HOT_KEY, KEY_SAMPLE)


class Source(StrEnum):
    """The dataset that loads are read from; the value is the relation's name in SQL."""

    ACCESS = "access"
    LOAD_WINDOW = "load_window"

    @property
    def atom_kind(self) -> str:
        """What one atom of this source is."""
        return "key" if self is Source.ACCESS else "bucket"

    @property
    def events(self) -> str:
        """The SQL text that makes events of this source."""
        return f"event_of_{self.value}"

    @property
    def atoms_sql(self) -> str:
        """The SQL text that answers `atoms` from this source, complete."""
        if self is Source.ACCESS:
            return sql_text("atoms", events=self.events)
        # Not by way of its events: they would carry every row to its bucket before summing.
        return sql_text("atoms_of_load_window")


@dataclass(frozen=True, slots=True)
class Extent:
    """What time a cluster's load covers.

    Attributes:
        since: Start of the first window.
        until: End of the last; where single accesses were recorded, just after the last of
            them, so that nothing is claimed of the time after.
        windows: How many there are.
        window_ms: Length of the shortest.
    """

    since: datetime
    until: datetime
    windows: int
    window_ms: int

    @property
    def window(self) -> timedelta:
        """Length of a window."""
        return timedelta(milliseconds=self.window_ms)


@dataclass(frozen=True, slots=True)
class LoadReader:
    """The load of one cluster.

    Attributes:
        cluster: Its name.
        data: Datasets by relation name; `load_window` always, `access` where recorded.
    """

    cluster: str
    data: dict[str, pa.Table | ds.Dataset]
    _layouts: dict[tuple[datetime, datetime], OneLayout | None] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def finest(self) -> Source:
        """The finest source there is."""
        return Source.ACCESS if Source.ACCESS in self.data else Source.LOAD_WINDOW

    def extent(self) -> Extent:
        """Return what time the load covers; NotFound where there is none."""
        row = self._told_extent()
        if row is None:
            row = self._run(sql_text("extent"), Source.LOAD_WINDOW, {}).to_pylist()[0]
        if row["since"] is None:
            raise NotFound(
                f"cluster {self.cluster!r} has no load",
                code="load_absent",
                hint="collect it first: workbench collect SOURCE",
            )
        until = row["until"]
        if Source.ACCESS in self.data:
            last = self._run(sql_text("last_access"), Source.ACCESS, {}).column("last")[0].as_py()
            until = until if last is None else min(until, last + timedelta(microseconds=1))
        return Extent(row["since"], until, row["windows"], row["window_ms_min"])

    def route_windows(
        self, since: datetime, until: datetime, routes: Sequence[RouteDescriptor]
    ) -> pa.Table:
        """Return one row per route and window: counters, coverage, error bound.

        Load counts by key for `routes`, whatever route it was measured on, so that a child of a
        split has its part of what its parent carried. Buckets with load that cross a bound of
        `routes`, or lie in none of them, are summed per window under `route_id` null;
        `row_count` says how many they are.

        Where all windows have the same buckets, each in one route, arrays add them up, which
        gives what the SQL text gives, sooner.
        """
        layout = self._layout(since, until)
        table = None if layout is None else route_windows_of(layout, routes)
        if table is not None:
            return table
        text = sql_text("route_windows")
        data = {"load_window": self.data["load_window"], "route": _spans_of(routes)}
        return run(text, data, {"since": since, "until": until})

    def route_rates(
        self,
        since: datetime,
        until: datetime,
        routes: Sequence[RouteDescriptor],
        parameters: Mapping[str, str | int | float],
    ) -> pa.Table:
        """Return the numbers behind each route's verdict, by SQL alone: `route_rates_sql`.

        Args:
            since: Start of the time.
            until: End of it, exclusive.
            routes: As they are now.
            parameters: `use` (`score`, `bytes` or `cpu_ns`), `read_weight`, `write_weight` and
                `coverage_full`.
        """
        data = {"load_window": self.data["load_window"], "route": _spans_of(routes)}
        return run(route_rates_sql(), data, {"since": since, "until": until, **parameters})

    def route_verdicts(
        self,
        since: datetime,
        until: datetime,
        routes: Sequence[RouteDescriptor],
        parameters: Mapping[str, str | int | float | None],
    ) -> pa.Table:
        """Return `route_id`, `verdict`, `windows_over`, `proof_from`, by SQL: `route_verdicts_sql`.

        Args:
            since: Start of the time.
            until: End of it, exclusive.
            routes: As they are now.
            parameters: Those of `route_rates`, and `threshold` (None where none is known),
                `windows_hot` and `cooldown_ms`.
        """
        split = {
            "route_id": pa.array([route.route_id for route in routes], pa.uint64()),
            "split_at_us": pa.array(
                [hlc_to_us(route.split_at_hlc) for route in routes], pa.int64()
            ),
        }
        data = {
            "load_window": self.data["load_window"],
            "route": _spans_of(routes),
            "split": pa.table(split),
        }
        return run(route_verdicts_sql(), data, {"since": since, "until": until, **parameters})

    def sample_windows(
        self,
        since: datetime,
        until: datetime,
        routes: Sequence[RouteDescriptor],
        objective: Objective,
    ) -> pa.Table | None:
        """Return what samples tell per route and window; None where nothing was sampled.

        Columns `route_id`, `window_start`, `window_end`, `samples`, `load` and `variance`.
        """
        if KEY_SAMPLE not in self.data:
            return None
        data = {KEY_SAMPLE: self.data[KEY_SAMPLE], "route": _spans_of(routes)}
        parameters = _parameters(objective, since, until)
        del parameters["byte_weight"], parameters["cpu_weight"]  # a sample tells neither
        return run(sql_text("sample_windows"), data, parameters)

    def hot_keys(
        self, since: datetime, until: datetime, routes: Sequence[RouteDescriptor], keys_max: int
    ) -> pa.Table | None:
        """Return the heaviest keys of each route, heaviest first; None where no source tells.

        Columns `route_id`, `key`, `count`, `error`, `sample_rate`. Single accesses are counted
        where they were recorded, whatever else was told.
        """
        names = {Source.ACCESS.value: "hot_keys_of_access", HOT_KEY: "hot_keys"}
        for relation, text in names.items():
            if relation in self.data:
                data = {relation: self.data[relation], "route": _spans_of(routes)}
                given = {"since": since, "until": until, "keys_max": keys_max}
                return run(sql_text(text), data, given)
        return None

    def load_windows(self, since: datetime, until: datetime) -> pa.Table:
        """Return the `load_window` rows of that time, ascending by window and bucket."""
        layout = self._layout(since, until)
        if layout is not None:
            table = load_windows_of(layout, self.data[Source.LOAD_WINDOW.value].schema.names)
            if table is not None:
                return table
        text = sql_text("load_windows")
        return self._run(text, Source.LOAD_WINDOW, {"since": since, "until": until})

    def coarse_until(self, since: datetime, until: datetime) -> datetime | None:
        """Return the end of the last window whose loaded buckets others tell more finely.

        None where all windows of [since, until) tell the same buckets.
        """
        if self._layout(since, until) is not None:
            return None
        found: datetime | None = pc.max(self.coarse_windows(since, until)["window_end"]).as_py()
        return found

    def coarse_windows(self, since: datetime, until: datetime) -> pa.Table:
        """Return the windows and routes whose loaded buckets others tell more finely.

        Columns `window_start`, `window_end`, `route_id`; no row where all tell the same buckets.
        """
        given = {"since": since, "until": until}
        return self._run(sql_text("coarse_windows"), Source.LOAD_WINDOW, given)

    def crossing_until(
        self, since: datetime, until: datetime, routes: Sequence[RouteDescriptor]
    ) -> datetime | None:
        """Return the end of the last window with load that `routes` cannot be told apart in.

        None where every bucket with load in [since, until) lies in one route.
        """
        layout = self._layout(since, until)
        if layout is not None and not _crosses(layout, routes):
            return None
        data = {"load_window": self.data["load_window"], "route": _spans_of(routes)}
        answer = run(sql_text("crossing_until"), data, {"since": since, "until": until})
        found: datetime | None = answer.column("crossing_until")[0].as_py()
        return found

    def atoms(
        self, source: Source, objective: Objective, since: datetime, until: datetime
    ) -> pa.Table:
        """Return `atom_start`, `load`, ascending; null load where it was not measured.

        An atom of load windows is an island: of buckets that differ between windows and
        overlap, those with load are one atom, so that a cut at an atom never goes through load.
        Where all windows have the same buckets they are summed as they are read, which gives
        what the SQL text gives, sooner.
        """
        layout = self._layout(since, until) if source is Source.LOAD_WINDOW else None
        table = None if layout is None else layout.atoms(objective)
        if table is not None:
            return table
        return self._run(source.atoms_sql, source, _parameters(objective, since, until))

    def events(
        self, source: Source, objective: Objective, since: datetime, until: datetime
    ) -> pa.Table:
        """Return `time`, `key`, `load` of every event, for replay."""
        text = sql_text("events", events=source.events)
        return self._run(text, source, _parameters(objective, since, until))

    def span_load(
        self, source: Source, objective: Objective, since: datetime, until: datetime, span: Span
    ) -> int:
        """Return the load of one span; it must not cut through a bucket."""
        parameters = _parameters(objective, since, until)
        parameters |= {"span_start": span.start, "span_end": span.end}
        answer = self._run(sql_text("span_load", events=source.events), source, parameters)
        return int(answer.column("load")[0].as_py())

    def evidence(
        self, source: Source, objective: Objective, since: datetime, until: datetime
    ) -> EvidenceQuery:
        """Return how `atoms` is computed, as a plan carries it."""
        parameters = _parameters(objective, since, until)
        return EvidenceQuery(
            name=f"atoms over {source.events}",
            dataset=f"{self.cluster}/{source.value}",
            parameters={
                name: value if isinstance(value, int) else rfc3339(value)
                for name, value in parameters.items()
            },
            sql=source.atoms_sql,
        )

    def _told_extent(self) -> dict[str, Any] | None:
        """Return what `extent.sql` does, off the footers alone; None where they do not tell it."""
        windows = one_window_each(self.data[Source.LOAD_WINDOW.value])
        if not windows or any(end < start for start, end in windows):
            return None
        return {
            "since": from_us(windows[0][0]),
            "until": from_us(max(end for _, end in windows)),
            "windows": len({start for start, _ in windows}),
            "window_ms_min": min(end - start for start, end in windows) // 1_000,
        }

    def _layout(self, since: datetime, until: datetime) -> OneLayout | None:
        """Return the buckets where all windows have the same ones; looked at once."""
        if (since, until) not in self._layouts:
            self._layouts.clear()  # the last time asked for is enough, and one may be large
            load = self.data[Source.LOAD_WINDOW.value]
            self._layouts[since, until] = one_layout(load, since, until)
        return self._layouts[since, until]

    def _run(self, text: str, source: Source, parameters: dict[str, Any]) -> pa.Table:
        return run(text, {source.value: self.data[source.value]}, parameters)


def route_verdicts_sql() -> str:
    """Return the text behind the verdicts of `workbench hot`, complete."""
    head = f"WITH route_window AS (\n{sql_text('route_windows')})"
    # The text begins with relations of its own, which may not stand in a second WITH.
    return f"{head}\nSELECT * FROM (\n{sql_text('route_verdicts')})\nORDER BY route_id"


def route_rates_sql() -> str:
    """Return the text behind the numbers of `workbench hot`, complete."""
    return f"WITH route_window AS (\n{sql_text('route_windows')})\n{sql_text('route_rates')}"


def _crosses(layout: OneLayout, routes: Sequence[RouteDescriptor]) -> bool:
    """Tell whether a bound of the routes lies inside a bucket."""
    cuts = pa.array([route.span.start for route in routes], pa.binary()).unique()
    # Buckets are disjoint: a bound that is the start of one lies in no other.
    if pc.sum(pc.is_in(layout.starts, value_set=cuts)).as_py() == len(cuts):
        return False
    starts = layout.starts.to_pylist()
    ends = layout.ends.to_pylist()
    for cut in cuts.to_pylist():
        at = bisect_left(starts, cut) - 1
        if at >= 0 and (ends[at] is None or cut < ends[at]):
            return True
    return False


def _spans_of(routes: Sequence[RouteDescriptor]) -> pa.Table:
    """Return the spans of the routes as the relation `route`."""
    return pa.table(
        {
            "route_id": pa.array([route.route_id for route in routes], pa.uint64()),
            "route_start": pa.array([route.span.start for route in routes], pa.binary()),
            "route_end": pa.array([route.span.end for route in routes], pa.binary()),
        }
    )


def _parameters(objective: Objective, since: datetime, until: datetime) -> dict[str, Any]:
    return {
        "read_weight": objective.read_weight,
        "write_weight": objective.write_weight,
        "byte_weight": objective.byte_weight,
        "cpu_weight": objective.cpu_weight,
        "since": since,
        "until": until,
    }
