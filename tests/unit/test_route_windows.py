"""Load counts by key for the routes as they are now: against plain Python, with splits."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES
from workbench.model.routes import RouteDescriptor, RouteSnapshot
from workbench.model.tables import COUNTERS, LOAD_WINDOW
from workbench.planner.detect import Rule, Verdict
from workbench.query.load import LoadReader
from workbench.session.cluster import ClusterView
from workbench.session.look import HotAnswer, hot

if TYPE_CHECKING:
    from collections.abc import Sequence

T0, MINUTE = datetime(2026, 1, 1, tzinfo=UTC), timedelta(minutes=1)
WINDOWS = 4
# Every bound of a route or bucket is one of these.
BOUNDS = [b"", b"\0", b"a", b"a\0", b"b", b"m", b"\xff", b"\xff\xff"]
Row = dict[str, Any]


def row(number: int, route_id: int, span: Span, **changes: object) -> Row:
    given: Row = {
        "cluster": "c",
        "window_start": T0 + number * MINUTE,
        "window_end": T0 + (number + 1) * MINUTE,
        "route_id": route_id,
        "group": 1,
        "bucket_start": span.start,
        "bucket_end": span.end,
        **dict.fromkeys(COUNTERS, 0),
        "coverage": 1.0,
        "error_bound": None,
    }
    return given | changes


def reader(rows: Sequence[Row]) -> LoadReader:
    return LoadReader("c", {"load_window": pa.Table.from_pylist(list(rows), schema=LOAD_WINDOW)})


def spans_between(bounds: Sequence[bytes], whole: Span) -> list[Span]:
    inner = sorted(b for b in set(bounds) if whole.start < b and (not whole.end or b < whole.end))
    ends = [*inner, whole.end]
    return [Span(start, end) for start, end in zip([whole.start, *inner], ends, strict=True)]


@st.composite
def split_histories(draw: st.DrawFn) -> tuple[list[Row], list[RouteDescriptor]]:
    """Rows of a cluster whose routes split in random windows, and its routes in the end."""
    routes = {1: Span(b"", None)}
    rows: list[Row] = []
    for number in range(WINDOWS):
        told = list(routes.items())
        for bound in draw(st.lists(st.sampled_from(BOUNDS[1:]), max_size=2)):
            parent = next(i for i, span in routes.items() if bound in span)
            span = routes[parent]
            if bound == span.start:
                continue
            del routes[parent]
            new = max(dict(told)) + 1
            routes |= {new: Span(span.start, bound), new + 1: Span(bound, span.end)}
            told += [(new, routes[new]), (new + 1, routes[new + 1])]
        for route_id, whole in told:
            if draw(st.integers(0, 9)) == 0:
                continue  # nobody measured it in this window
            cuts = draw(st.lists(st.sampled_from(BOUNDS[1:]), max_size=3))
            for span in spans_between(cuts, whole):
                counts = st.sampled_from([0, 0, 1, 7, None])
                rows.append(
                    row(
                        number,
                        route_id,
                        span,
                        **{name: draw(counts) for name in COUNTERS},
                        coverage=draw(st.sampled_from([0.25, 0.5, 1.0])),
                        error_bound=draw(st.sampled_from([None, 0.5])),
                    )
                )
    gap = draw(st.integers(0, 4)) == 0 and len(routes) > 1
    kept = sorted(routes.items(), key=lambda item: item[1].start)[1 if gap else 0 :]
    return rows, [RouteDescriptor(route_id, span, 1) for route_id, span in kept]


def overlaps(one: Span, other: Span) -> bool:
    return (one.end is None or other.start < one.end) and (
        other.end is None or one.start < other.end
    )


def contains(outer: Span, inner: Span) -> bool:
    return inner.start >= outer.start and (
        outer.end is None or (inner.end is not None and inner.end <= outer.end)
    )


def told_by(rows: Sequence[Row], routes: Sequence[RouteDescriptor]) -> dict[Any, Row]:
    """Return the answer for windows 1 and 2, in plain Python."""
    answer: dict[Any, Row] = {}
    parts: dict[Any, list[Row]] = defaultdict(list)
    coverages: dict[Any, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in rows:
        if not T0 + MINUTE <= each["window_start"] < T0 + 3 * MINUTE:
            continue
        span = Span(each["bucket_start"], each["bucket_end"])
        has_load = any(each[name] for name in COUNTERS)
        at = each["window_start"]
        if has_load and not any(contains(route.span, span) for route in routes):
            parts[None, at].append(each)
            coverages[None, at][each["route_id"]].append(each["coverage"])
        for route in routes:
            if overlaps(route.span, span):
                is_told = contains(route.span, span) or not has_load
                coverages[route.route_id, at][each["route_id"]].append(
                    each["coverage"] if is_told else 0.0
                )
                if is_told:
                    parts[route.route_id, at].append(each)
    for key, sources in coverages.items():
        mine = parts[key]
        counts = {name: [each[name] for each in mine] for name in COUNTERS}
        answer[key] = {
            name: None if None in told or not told else sum(told) for name, told in counts.items()
        } | {
            "row_count": len(mine),
            "coverage": min(1.0, sum(min(each) for each in sources.values())),
            "error_bound": sum(each["error_bound"] or 0 for each in mine),
        }
    return answer


@settings(max_examples=60, deadline=None)
@given(split_histories())
def test_load_counts_for_the_route_that_holds_its_keys_now(
    drawn: tuple[list[Row], list[RouteDescriptor]],
) -> None:
    rows, routes = drawn
    answer = reader(rows).route_windows(T0 + MINUTE, T0 + 3 * MINUTE, routes).to_pylist()
    expected = told_by(rows, routes)
    assert len(answer) == len(expected)
    for each in answer:
        key = each.pop("route_id"), each.pop("window_start")
        assert each.pop("window_end") == key[1] + MINUTE
        assert each == expected[key]


@settings(max_examples=25, deadline=None)
@given(split_histories())
def test_no_load_is_lost_or_counted_twice(
    drawn: tuple[list[Row], list[RouteDescriptor]],
) -> None:
    rows = [{**each, "reads": each["reads"] or 0} for each in drawn[0]]
    answer = reader(rows).route_windows(T0, T0 + WINDOWS * MINUTE, drawn[1]).to_pylist()
    assert sum(each["reads"] or 0 for each in answer) == sum(each["reads"] for each in rows)


# One route over everything is split at "m" in the middle of window 3.
LEFT, RIGHT = Span(b"", b"m"), Span(b"m", None)
HOT, COLD = 60_000, 600


def judged(rows: Sequence[Row]) -> HotAnswer:
    load = reader(rows)
    routes = (RouteDescriptor(2, LEFT, 1, parent_route_id=1), RouteDescriptor(3, RIGHT, 1))
    view = ClusterView("c", RouteSnapshot(2, routes, T0), load, load.extent(), {})
    since, until = view.window(None, None)
    return hot(view, since=since, until=until, objective=OBJECTIVES["score"], rule=Rule())


def history(*, before: Sequence[Span] = (LEFT, RIGHT)) -> list[Row]:
    loads = {LEFT: HOT, RIGHT: COLD}
    rows = [
        row(number, 1, span, reads=loads.get(span, HOT + COLD))
        for number in range(3)
        for span in before
    ]
    for child, span in ((2, LEFT), (3, RIGHT)):
        half = {"reads": loads[span] // 2, "coverage": 0.5}
        rows += [row(3, 1, span, **half), row(3, child, span, **half)]
        rows.append(row(4, child, span, reads=loads[span]))
    return rows


def test_a_hot_parents_windows_go_on_in_its_hot_child() -> None:
    answer = judged(history())
    left, right = answer.verdicts
    assert (left.route.route_id, left.verdict, left.windows_over) == (2, Verdict.HOT, 5)
    assert (right.route.route_id, right.verdict) == (3, Verdict.COLD)
    assert (left.load, right.load) == (5 * HOT, 5 * COLD)
    assert left.share == pytest.approx(HOT / (HOT + COLD))
    assert answer.unattributed.buckets == 0


def test_a_bucket_across_the_bound_proves_nothing_and_is_told() -> None:
    answer = judged(history(before=[Span(b"", None)]))
    left, right = answer.verdicts
    assert (left.verdict, left.windows_over) == (Verdict.WARMING, 2)
    assert (left.load, right.load) == (2 * HOT, 2 * COLD)
    assert (answer.unattributed.buckets, answer.unattributed.load) == (3, 3 * (HOT + COLD))
    assert answer.unattributed.share == pytest.approx(3 / 5)


def test_load_that_only_crosses_bounds_is_told_though_nothing_can_be_judged() -> None:
    answer = judged([row(0, 1, Span(b"", None), reads=9)])
    assert {verdict.verdict for verdict in answer.verdicts} == {Verdict.UNKNOWN}
    assert answer.unattributed.share == 1


def test_load_across_bounds_that_was_not_measured_has_no_share() -> None:
    rows = [row(0, 1, Span(b"", None), reads=None, writes=3), *history(before=[])]
    answer = judged(rows)
    assert (answer.unattributed.buckets, answer.unattributed.share) == (1, None)
