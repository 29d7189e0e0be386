"""Look: which routes are hot and why the others are not, as a table, a picture or a rivalry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa

from workbench.api.catalog import Catalog
from workbench.api.catalog import open as open_catalog
from workbench.api.places import Moment, count_of, moment_text, number_of
from workbench.api.results import Result
from workbench.api.show import counted
from workbench.api.words import in_python, methods_in_python
from workbench.errors import InvalidArgument
from workbench.model.plan import OBJECTIVES, ActionKind, Objective
from workbench.model.times import rfc3339
from workbench.planner.detect import THRESHOLD_PER_MINUTE, WINDOWS_HOT, Rule
from workbench.planner.policies import policies_named
from workbench.report.heat_html import heat_html
from workbench.report.png import heat_png
from workbench.session.comparing import compare as compare_policies
from workbench.session.files import write_file
from workbench.session.look import heat
from workbench.session.look import hot as judge
from workbench.session.plans import resolve_plan

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from datetime import datetime

    from workbench.session.look import HotAnswer

SERIES: Final = ("score", "reads", "writes", "bytes")
ROUTES_MAX: Final = 10_000


class HasPlanId(Protocol):
    """A plan, as `wb.plan` returns it."""

    @property
    def plan_id(self) -> str:
        """Its name."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Hot(Result):
    """Which routes are hot: a row per route as it is now, hottest first.

    Attributes:
        cluster: Of the routes.
        since: Start of the time that was judged.
        until: End of it, exclusive.
        objective: What was measured; `cpu_ns` or `bytes` where that which was asked for was not.
        threshold_per_minute: Load from which on a route is hot; None where none is known.
        plan_id: The newest plan of these very routes; None where there is none.
        answer: All of it, as the layers below know it.
    """

    cluster: str
    since: datetime
    until: datetime
    objective: str
    threshold_per_minute: float | None
    plan_id: str | None
    answer: HotAnswer

    @property
    def hot(self) -> tuple[int, ...]:
        """Ids of the routes that are hot, hottest first."""
        return tuple(row["route_id"] for row in self if row["verdict"] == "hot")

    @property
    def keys(self) -> Result:
        """The keys that carry much of their route, heaviest first; shares are lower bounds."""
        rows = [
            {
                "route_id": each.route_id,
                "key": each.key,
                "accesses": each.count,
                "accesses_low": each.low,
                "share": each.share,
            }
            for each in self.answer.hot_keys
        ]
        types = (pa.uint64(), pa.binary(), pa.int64(), pa.float64(), pa.float64())
        names = ("route_id", "key", "accesses", "accesses_low", "share")
        schema = pa.schema([pa.field(*each) for each in zip(names, types, strict=True)])
        return Result(
            pa.Table.from_pylist(rows, schema=schema), "keys that carry much of their route"
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Comparison(Result):
    """Rival policies on the same load: a row per policy and number of routes.

    Attributes:
        cluster: Whose load it is.
        since: Start of the load planned on.
        until: End of it, and start of the load that nobody had seen.
        heldout_until: End of that.
    """

    cluster: str
    since: datetime
    until: datetime
    heldout_until: datetime


@methods_in_python
@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """Load over time and key range, drawn; a notebook shows it.

    Attributes:
        title: What it shows.
        png: The picture.
    """

    title: str
    png: bytes

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to a file."""
        target = Path(path)
        write_file(target, self.png)
        return target

    def __repr__(self) -> str:
        """Return what it shows and its size; the bytes are for a notebook."""
        return f"Picture({self.title!r}, {len(self.png):,} bytes of PNG)"

    def _repr_png_(self) -> bytes:
        return self.png


@in_python
def hot(  # noqa: PLR0913 - as the command's options, all named
    catalog: Catalog | str | os.PathLike[str] | None = None,
    *,
    cluster: str | None = None,
    since: Moment = None,
    until: Moment = None,
    objective: str = "score",
    write_weight: int | None = None,
    threshold: float = THRESHOLD_PER_MINUTE,
    windows: int = WINDOWS_HOT,
) -> Hot:
    """Judge every route: is it hot, since when, and why were the others not flagged.

    A route is hot when its load reaches the threshold in consecutive windows up to the last one.
    This is the question "page me", which is what `threshold` is for. What is worth balancing is
    for `wb.plan`, which needs no threshold: it splits where that lowers the hottest route's load,
    whether a route is hot or not.

    Of the columns, `load` and `share` are of the whole time; `per_minute` is the load a minute in
    the last complete window alone, between `low_per_minute` and `high_per_minute` where it was
    measured across the route's bounds; `peak_per_minute` is that of the heaviest window, at
    `peak_at`. `windows_over` counts the consecutive windows over the threshold up to the last,
    and `proof` has their starts; `reasons` tell why a route is flagged, or is not. `planned` and
    `declined` are what `plan_id`, the newest plan of these routes, says of it.

    Examples:
        >>> found = wb.hot(threshold=10, windows=2)
        >>> found[0]["verdict"]
        'hot'
        >>> found.hot == tuple(row["route_id"] for row in found if row["verdict"] == "hot")
        True

    Args:
        catalog: Where the load is.
        cluster: Which; needed where the catalog holds several.
        since: Start of the load to judge: RFC 3339, an aware datetime, "25%".
        until: End of it.
        objective: What counts as load: score (4 x writes + reads), reads, writes or bytes.
        write_weight: For score: how many reads a write counts for.
        threshold: Load a minute from which on a route is hot; the default is for the score.
        windows: So many consecutive windows over it make a route hot.

    Raises:
        NotFound: `load_absent`, `cluster_absent`.
    """
    opened = open_catalog(catalog)
    view = opened.view(cluster)
    start, end = view.window(moment_text(since), moment_text(until))
    answer = judge(
        view,
        since=start,
        until=end,
        objective=objective_named(objective, write_weight),
        rule=Rule(
            threshold_per_minute=number_of("threshold", threshold),
            windows_hot=count_of("windows", windows),
        ),
        catalog=opened.readable(),
    )
    rows = [_verdict(answer, number) for number in range(len(answer.verdicts))]
    shown = "route_id,start,end,group,verdict,share,per_minute,peak_per_minute,reasons"
    count = sum(row["verdict"] == "hot" for row in rows)
    return Hot(
        pa.Table.from_pylist(rows, schema=_VERDICTS),
        f"{count} of {counted(len(rows), 'route')} of {answer.cluster} "
        f"{'is' if count == 1 else 'are'} hot by {answer.objective}, "
        f"{rfc3339(start)} to {rfc3339(end)}",
        warnings=tuple(_hot_warnings(answer)),
        shown=tuple(shown.split(",")),
        cluster=answer.cluster,
        since=start,
        until=end,
        objective=answer.objective,
        threshold_per_minute=answer.rule.threshold_per_minute,
        plan_id=answer.planned.plan_id if answer.planned else None,
        answer=answer,
    )


@in_python
def picture(  # noqa: PLR0913 - as the command's options, all named
    catalog: Catalog | str | os.PathLike[str] | None = None,
    *,
    cluster: str | None = None,
    since: Moment = None,
    until: Moment = None,
    series: str = "score",
    of: str = "bucket",
    plan: str | HasPlanId | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Picture:
    r"""Draw load over time and key range as a picture: needs no kernel and no browser's script.

    `wb.heatmap` is the same to point at and to brush.

    Examples:
        >>> wb.picture(series="writes").png[:4]
        b'\x89PNG'

    Args:
        catalog: Where the load is.
        cluster: Which; needed where the catalog holds several.
        since: Start of the load: RFC 3339, an aware datetime, "25%".
        until: End of it.
        series: score, reads, writes or bytes.
        of: "bucket", or "route" to show at each key the load of the whole route.
        plan: Draw this plan's split keys.
        out: Also write it: a .png picture, or a .html page that tells the exact load of each
            cell.

    Raises:
        InvalidArgument: `series_unknown`, `heatmap_format_unknown`.
    """
    check_series(series)
    if of not in {"bucket", "route"}:
        raise InvalidArgument(
            f"a cell cannot show {of!r}", code="cells_unknown", hint='choose "bucket" or "route"'
        )
    suffix = ".png" if out is None else Path(out).suffix
    if suffix not in {".png", ".html"}:
        raise InvalidArgument(
            f"{str(out)!r} does not end with .png or .html",
            code="heatmap_format_unknown",
            hint="name a .png or a .html file",
        )
    opened = open_catalog(catalog)
    view = opened.view(cluster)
    start, end = view.window(moment_text(since), moment_text(until))
    cuts = () if plan is None else _cuts(opened, plan)
    matrix = heat(view, since=start, until=end, series=series, whole_routes=of == "route")
    what = "" if of == "bucket" else " of the whole route"
    title = f"{view.name}: {series}{what}, {rfc3339(start)} to {rfc3339(end)}"
    made = Picture(title, heat_png(matrix, title=title, cut_keys=cuts))
    if out is not None and suffix == ".html":
        write_file(Path(out), heat_html(matrix, title=title, cut_keys=cuts).encode())
    elif out is not None:
        made.save(out)
    return made


@in_python
def compare(  # noqa: PLR0913 - as the command's options, all named
    catalog: Catalog | str | os.PathLike[str] | None = None,
    *,
    cluster: str | None = None,
    since: Moment = None,
    until: Moment = "50%",
    objective: str = "score",
    policies: str | Iterable[str] = "all",
    routes: int | Iterable[int] = (6, 12, 20),
    seed: int = 1,
) -> Comparison:
    """Cut the load up to `until` by rival policies, and replay what came after it.

    The rivals are re-implementations of published rules, not the systems they come from. What
    counts is `heldout_max_over_mean`: how many times the mean the hottest route carried of load
    that no policy had seen; 1 is even. Nothing is written.

    Examples:
        >>> found = wb.compare(policies=["robust", "median"], routes=6)
        >>> [row["name"] for row in found]
        ['robust', 'median']

    Args:
        catalog: Where the load is.
        cluster: Which; needed where the catalog holds several.
        since: Start of the load to plan on.
        until: End of it; there must be load after it.
        objective: What counts as load: score, reads, writes or bytes.
        policies: "all", or some of robust, exact, elastickv, cockroachdb, tikv, pd, median,
            even-keys, none.
        routes: Into how many routes each cuts.
        seed: Decides what the sampling policies sample.

    Raises:
        NotFound: `load_absent`: nothing came after `until`.
        InvalidArgument: `policy_unknown`, `compare_routes_invalid`.
    """
    names = [policies] if isinstance(policies, str) else list(policies)
    numbers = sorted({routes} if isinstance(routes, int) else set(routes))
    if not numbers or not 1 <= numbers[0] <= numbers[-1] <= ROUTES_MAX:
        raise InvalidArgument(
            f"routes is {numbers}, not numbers from 1 to {ROUTES_MAX:,}",
            code="compare_routes_invalid",
            hint="give numbers of routes, as routes=[6, 12, 20]",
        )
    view = open_catalog(catalog).view(cluster)
    start, end = view.window(moment_text(since), moment_text(until))
    answer = compare_policies(
        view,
        policies_named(names),
        numbers,
        since=start,
        until=end,
        objective=objective_named(objective, None),
        seed=seed,
    )
    columns = (*_COMPARED, "over_optimum", "heldout_max_over_mean")
    rows = [{name: getattr(each, name) for name in columns} for each in answer.results]
    return Comparison(
        pa.Table.from_pylist(rows),
        f"policies on {answer.cluster} by {answer.objective}: planned on {rfc3339(start)} to "
        f"{rfc3339(end)}, replayed up to {rfc3339(answer.heldout_until)}",
        notes=("re-implementations of published rules, not the systems: docs/policies.md",),
        shown=("name", "routes", "routes_made", "over_optimum", "heldout_max_over_mean"),
        cluster=answer.cluster,
        since=start,
        until=end,
        heldout_until=answer.heldout_until,
    )


def objective_named(name: str, write_weight: int | None) -> Objective:
    """Return the objective of this name.

    Raises:
        InvalidArgument: `objective_unknown`, or a weight for what has none.
    """
    if str(name) not in OBJECTIVES:  # a list cannot be looked up
        raise InvalidArgument(
            f"there is no objective {name!r}",
            code="objective_unknown",
            hint=f"choose {', '.join(OBJECTIVES)}",
        )
    found = OBJECTIVES[name]
    if write_weight is not None:
        count_of("write_weight", write_weight)
    if write_weight is None or name != "score":
        return found
    if not 0 <= write_weight <= 1_000:
        raise InvalidArgument(
            f"write_weight is {write_weight}, not from 0 to 1,000",
            code="write_weight_invalid",
            hint="a write counts for 4 reads unless you say otherwise",
        )
    return replace(found, write_weight=write_weight)


def check_series(series: str) -> str:
    """Return what is to be shown, or raise InvalidArgument (`series_unknown`)."""
    if series not in SERIES:
        raise InvalidArgument(
            f"there is no series {series!r}",
            code="series_unknown",
            hint=f"choose {', '.join(SERIES)}",
        )
    return series


def _cuts(catalog: Catalog, plan: str | HasPlanId) -> tuple[bytes, ...]:
    reference = plan if isinstance(plan, str) else plan.plan_id
    found = resolve_plan(catalog.writable(), reference)
    keys = (each.split_key for each in found.actions if each.kind is not ActionKind.MOVE)
    return tuple(sorted(keys))


def _verdict(answer: HotAnswer, number: int) -> dict[str, Any]:
    found = answer.verdicts[number]
    route, planned = found.route, answer.planned
    return {
        "route_id": route.route_id,
        "start": route.span.start,
        "end": route.span.end,
        "group": route.group,
        "verdict": found.verdict.value,
        "certainty": found.certainty.value,
        "load": found.load,
        "share": found.share,
        "per_minute": found.per_minute,
        "low_per_minute": found.low_per_minute,
        "high_per_minute": found.high_per_minute,
        "windows_over": found.windows_over,
        "peak_per_minute": found.peak_per_minute,
        "peak_at": found.peak_at,
        "proof": list(found.proof),
        "reasons": list(found.reasons),
        "planned": None if planned is None else route.route_id in planned.split,
        "declined": None if planned is None else planned.declined.get(route.route_id),
    }


def _hot_warnings(answer: HotAnswer) -> list[str]:
    said, lost = [], answer.unattributed
    if answer.objective != answer.asked:
        said.append(
            f"judged by {answer.objective}: what {answer.asked} counts was nowhere measured in "
            "that time"
        )
    if lost.buckets:
        part = "load of unknown size" if lost.share is None else f"{lost.share:.1%} of the load"
        said.append(
            f"{part} is left out: it was measured in {counted(lost.buckets, 'bucket')} across a "
            "bound of the routes as they are now (`since` takes a later start)"
        )
    return said


_TIME: Final = pa.timestamp("us", tz="UTC")
_VERDICTS: Final = pa.schema(
    [
        pa.field("route_id", pa.uint64()),
        pa.field("start", pa.binary()),
        pa.field("end", pa.binary()),
        pa.field("group", pa.uint64()),
        pa.field("verdict", pa.string()),
        pa.field("certainty", pa.string()),
        pa.field("load", pa.int64()),
        pa.field("share", pa.float64()),
        pa.field("per_minute", pa.float64()),
        pa.field("low_per_minute", pa.float64()),
        pa.field("high_per_minute", pa.float64()),
        pa.field("windows_over", pa.int64()),
        pa.field("peak_per_minute", pa.float64()),
        pa.field("peak_at", _TIME),
        pa.field("proof", pa.list_(_TIME)),
        pa.field("reasons", pa.list_(pa.string())),
        pa.field("planned", pa.bool_()),
        pa.field("declined", pa.string()),
    ]
)
_COMPARED: Final = (
    "name",
    "routes",
    "routes_made",
    "max_load",
    "optimum",
    "heldout_max_load",
    "heldout_mean",
)
