"""Claims about what is shown of routes, plans and jobs, without a browser."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fakes import NOON, FakeCluster, plan_for
from hypothesis import given
from hypothesis import strategies as st
from stage import HOSTILE, Stage

from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES
from workbench.model.routes import RouteDescriptor, RouteState, seed_routes
from workbench.model.times import to_us
from workbench.planner.detect import Rule, detect
from workbench.report import route_rows, words
from workbench.report.job_rows import (
    MOVE_PHASES,
    SPLIT_PHASES,
    JobFacts,
    JobState,
    first_page,
    job_page,
)
from workbench.report.load_cube import load_cube
from workbench.report.markup import el, text_of, to_html, to_json
from workbench.report.plan_review import ActionStanding, Standing, review_page, summarise
from workbench.report.route_rows import (
    SPARK_POINTS,
    Brush,
    Question,
    RouteBoard,
    RouteLoads,
    route_loads,
    spark,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MINUTE_US = 60_000_000
SINCE = NOON - timedelta(minutes=4)


def board(
    loads: Sequence[Sequence[float | None]], bounds: Sequence[bytes] | None = None, **more: Any
) -> RouteBoard:
    """Routes cut at `bounds`, with these loads per minute from SINCE on."""
    cuts = [b"%c" % (98 + n) for n in range(len(loads) - 1)] if bounds is None else bounds
    values = np.array([[np.nan if v is None else v for v in row] for row in loads], dtype=float)
    first = to_us(SINCE)
    until = first + values.shape[1] * MINUTE_US
    return RouteBoard(seed_routes(cuts), RouteLoads(values, first, MINUTE_US, until), **more)


def ids(page: route_rows.RoutePage) -> list[int]:
    return [row.route_id for row in page.rows]


def test_load_and_share_are_of_the_brushed_time_and_null_is_no_zero() -> None:
    made = board([[1, 1, 10, 10], [5, 5, 0, 0], [None, None, None, None]])
    page = made.page(Question())
    assert ids(page) == [1, 2, 3]
    assert [row.load for row in page.rows] == ["22", "10", "not measured"]
    assert [row.share for row in page.rows] == ["68.8%", "31.2%", "not measured"]
    assert page.rows[2].share_percent is None
    early = made.page(Question(), Brush(until=SINCE + timedelta(minutes=2)))
    assert ids(early) == [2, 1, 3]
    assert [row.load for row in early.rows] == ["10", "2", "not measured"]
    assert early.brushed == "2026-11-21 11:56 – 11:58 UTC"
    assert early.rows[0].spark.width > 0
    late = made.page(Question(), Brush(since=SINCE + timedelta(minutes=2)))
    assert [row.load for row in late.rows] == ["20", "0", "not measured"]


def test_what_is_not_measured_comes_last_in_either_order() -> None:
    made = board([[3], [None], [1], [2]])
    assert ids(made.page(Question(descending=True))) == [1, 4, 3, 2]
    assert ids(made.page(Question(descending=False))) == [3, 4, 1, 2]


@pytest.mark.parametrize("sort", route_rows.SORTS)
def test_every_order_keeps_every_route(sort: str) -> None:
    made = board([[3], [None], [1], [2]])
    for descending in (True, False):
        page = made.page(Question(sort=sort, descending=descending))
        assert sorted(ids(page)) == [1, 2, 3, 4]


def test_a_brush_of_keys_shows_the_routes_that_touch_them() -> None:
    made = board([[1], [2], [3], [4]])
    cases = {
        Span(b"b", b"c"): [2],
        Span(b"b1", b"c"): [2],
        Span(b"b1", b"c1"): [3, 2],
        Span(b"", b"b"): [1],
        Span(b"z", None): [4],
        Span(b"", None): [4, 3, 2, 1],
    }
    for span, wanted in cases.items():
        assert ids(made.page(Question(), Brush(span=span))) == wanted, span


def test_a_gap_between_routes_is_touched_by_nobody() -> None:
    routes = (
        RouteDescriptor(1, Span(b"a", b"b"), 1),
        RouteDescriptor(2, Span(b"x", b"y"), 1, RouteState.WRITE_FENCED),
    )
    loads = RouteLoads(np.array([[1.0], [2.0]]), to_us(SINCE), MINUTE_US, to_us(NOON))
    made = RouteBoard(routes, loads)
    assert ids(made.page(Question(), Brush(span=Span(b"m", b"n")))) == []
    page = made.page(Question(), Brush(span=Span(b"m", None)))
    assert ids(page) == [2]
    assert page.rows[0].state == "write_fenced"
    empty = made.page(Question(), Brush(span=Span(b"m", b"n")))
    assert (empty.first, empty.matching, empty.pages, empty.total) == (0, 0, 1, 2)


def test_the_filter_takes_part_of_a_key_bytes_or_a_route_id() -> None:
    made = board([[1]] * 5, [b"alpha", b"beta\x00\xff", b"gamma", b"x7"])
    assert ids(made.page(Question(sort="keys", descending=False, text="amm"))) == [3, 4]
    assert ids(made.page(Question(sort="keys", descending=False, text="0x00ff"))) == [2, 3]
    assert ids(made.page(Question(sort="keys", descending=False, text="5"))) == [5]
    assert ids(made.page(Question(text="0xzz"))) == []
    assert ids(made.page(Question(text="\udcff"))) == []


@given(st.text(max_size=300), st.sampled_from(route_rows.SORTS), st.integers(-5, 50))
def test_no_filter_and_no_page_breaks_the_table(text: str, sort: str, page: int) -> None:
    made = board([[1.0], [None], [3.0]])
    found = made.page(Question(sort=sort, text=text, page=page, page_rows=2))
    assert 0 <= found.question.page < found.pages
    assert len(found.rows) <= 2


def test_pages_together_are_all_rows_in_order() -> None:
    made = board([[float(n % 7)] for n in range(45)], [b"%03d" % n for n in range(44)])
    pages = [made.page(Question(page=n)) for n in range(3)]
    assert [page.first for page in pages] == [1, 21, 41]
    assert [made.page(Question(page=9)).question.page, pages[0].pages] == [2, 3]
    assert [n for page in pages for n in ids(page)] == ids(made.page(Question(page_rows=100)))


def test_verdicts_are_shown_counted_and_filtered() -> None:
    routes = seed_routes([b"m"])
    rule = Rule(threshold_per_minute=10, windows_hot=1)
    windows = [
        route_rows_window(1, 50),
        route_rows_window(2, 1),
    ]
    judged = {each.route.route_id: each for each in detect(routes, windows, rule)}
    made = board([[50], [1]], [b"m"], verdicts=judged, planned={1: "split by this plan"})
    page = made.page(Question())
    assert [row.verdict for row in page.rows] == ["hot", "cold"]
    assert page.rows[0].reason
    assert page.rows[0].planned == "split by this plan"
    assert page.counts == (("hot", 1), ("cold", 1))
    assert ids(made.page(Question(verdict="hot"))) == [1]
    assert ids(made.page(Question(sort="verdict", descending=True))) == [1, 2]


def route_rows_window(route_id: int, load: int) -> Any:
    from workbench.planner.detect import RouteWindow

    return RouteWindow(route_id, SINCE, SINCE + timedelta(minutes=1), load)


def test_keys_of_any_bytes_pass_the_one_function_and_stay_text() -> None:
    made = board([[1]] * (len(HOSTILE) + 1), sorted(HOSTILE))
    page = made.page(Question(sort="keys", descending=False))
    assert len(page.rows) == len(HOSTILE) + 1
    for row in page.rows:
        assert row.keys.isprintable()
        assert len(row.keys) < 200
        html = to_html(el("td", row.keys))
        assert "<img" not in html
        assert "<script" not in html
    assert any("<img" in row.keys for row in page.rows), "printable keys are shown as they are"


def test_100_000_routes_cost_the_texts_of_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 100_000
    routes = seed_routes([b"%06d" % n for n in range(1, count)])
    values = np.arange(count * 12, dtype=np.float64).reshape(count, 12) % 1_009
    loads = RouteLoads(values, to_us(SINCE), MINUTE_US, to_us(SINCE) + 12 * MINUTE_US)
    made = RouteBoard(routes, loads)
    calls = 0
    span_text = words.span_text

    def counted(span: Span) -> str:
        nonlocal calls
        calls += 1
        return span_text(span)

    monkeypatch.setattr(words, "span_text", counted)
    for question in (Question(), Question(sort="keys", page=4_999), Question(text="0999")):
        calls = 0
        page = made.page(question, Brush(since=SINCE + timedelta(minutes=3)))
        assert 0 < len(page.rows) == calls <= route_rows.PAGE_ROWS
    assert page.matching < page.total == count


def test_a_line_has_few_points_keeps_the_peak_and_leaves_gaps() -> None:
    values = np.full(1_440, 1.0)
    values[700], values[100:300] = 9.0, np.nan
    made = spark(values, (0, 720))
    assert made.path.count("H") <= SPARK_POINTS
    assert made.path.count("M") == 2
    assert "highest window 9" in made.label
    assert made.width == 60
    assert "V1.0" in made.path, "the peak reaches the top"
    assert spark(np.full(3, np.nan), None).path == ""
    assert spark(np.zeros(0), None).label == "not measured"
    flat = spark(np.zeros(3), None)
    assert flat.path.startswith("M0.0 21.0")


def test_loads_by_route_keep_null_apart_from_zero_and_leave_out_what_is_nobodys(
    stage: Stage,
) -> None:
    view = stage.desk().view
    assert view is not None
    since, until = view.window(None, None)
    table = view.load.route_windows(since, until, view.snapshot.routes)
    place = table.schema.get_field_index("reads")
    counts = table.column("reads").to_pylist()
    nulled = table.set_column(place, table.schema.field(place), [[None, *counts[1:]]])
    made = route_loads(
        nulled,
        view.snapshot.routes,
        OBJECTIVES["reads"],
        since=since,
        until=until,
        window_ms=view.extent.window_ms,
    )
    assert made.values.shape == (3, 30)
    assert np.count_nonzero(np.isnan(made.values)) == 1
    assert np.nansum(made.values) == sum(counts[1:])


def test_a_cube_tells_the_same_atoms_as_sql_for_every_part_of_the_time(
    make_stage: Callable[..., Stage],
) -> None:
    from workbench.query.load import Source

    view = make_stage(windows=6).desk().view
    assert view is not None
    since, until = view.window(None, None)
    objective = OBJECTIVES["score"]
    cube = load_cube(view.load.load_windows(since, until), objective)
    assert cube is not None
    minute = timedelta(minutes=1)
    for low in range(6):
        for high in range(low + 1, 7):
            part = (since + low * minute, since + high * minute)
            told = view.load.atoms(Source.LOAD_WINDOW, objective, *part)
            assert cube.table(*part).to_pylist() == told.select(["atom_start", "load"]).to_pylist()
    assert cube.tells_apart(view.snapshot.routes)
    assert not cube.tells_apart(seed_routes([b"zz"]))


def test_load_that_is_not_measured_or_changes_its_buckets_is_no_cube(stage: Stage) -> None:
    table = stage.load(stage.cluster.snapshot())
    objective = OBJECTIVES["reads"]
    assert load_cube(table, objective) is not None
    place = table.schema.get_field_index("reads")
    column = [None, *table.column("reads").to_pylist()[1:]]
    assert (
        load_cube(table.set_column(place, table.schema.field(place), [column]), objective) is None
    )
    assert load_cube(table.slice(1), objective) is None


# The plan


def test_a_review_says_where_each_action_stands_by_whom_and_since_when() -> None:
    plan = plan_for(FakeCluster())
    first, second, third, fourth = (action.action_id for action in plan.actions)
    page = review_page(
        plan,
        {
            first: ActionStanding(Standing.APPLIED, "user:anna", NOON),
            second: ActionStanding(Standing.APPROVED, "user:\u202eanna", NOON, "why"),
            third: ActionStanding(Standing.REJECTED, "policy:night"),
        },
    )
    assert [row.told for row in page.rows] == [
        "applied by anna, 2026-11-21 12:00:00 UTC",
        "approved by \\u202eanna, 2026-11-21 12:00:00 UTC",
        "rejected by policy:night",
        "proposed",
    ]
    assert [(row.can_approve, row.can_reject) for row in page.rows] == [
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    ]
    assert (page.approvable, page.rejectable, page.applicable) == (1, 2, 1)
    assert dict(page.counts) == {"proposed": 1, "approved": 1, "rejected": 1, "applied": 1}
    assert page.rows[1].note == "why"
    assert fourth == page.rows[3].action_id


def test_of_a_stale_plan_nothing_can_be_approved() -> None:
    page = review_page(plan_for(FakeCluster()), {}, stale="the routes are others")
    assert page.stale
    assert page.approvable == 0
    assert not any(row.can_approve for row in page.rows)


def test_before_and_after_have_one_scale_of_colours_and_bars() -> None:
    plan = plan_for(FakeCluster())
    summary = summarise(plan)
    before, after = summary.before, summary.after
    assert len(before) == 3
    assert len(after) == 7
    for cells in (before, after):
        assert sum(cell.width_percent for cell in cells) == pytest.approx(100)
    hottest = max(range(3), key=lambda n: plan.routes_before[n].load)
    assert before[hottest].colour == "#ffea46", "the hottest route is the brightest"
    assert all(cell.colour != "#ffea46" for cell in after)
    bars = [level.bar_percent for level in summary.levels]
    assert bars[0] == 100
    assert bars == sorted(bars, reverse=True)
    row = review_page(plan, {}).rows[0]
    assert sum(cell.width_percent for cell in row.after) == pytest.approx(100)
    assert row.before[0].colour == before[hottest].colour


def test_actions_are_paged_and_numbered_through() -> None:
    keys = [b"%03d" % n for n in range(200)]
    plan = plan_for(FakeCluster(), keys=keys, splits=20)
    pages = [review_page(plan, {}, page=n, page_rows=8) for n in range(3)]
    assert [row.number for page in pages for row in page.rows] == list(
        range(1, len(plan.actions) + 1)
    )
    assert review_page(plan, {}, page=-1).page == 0
    assert review_page(plan, {}, page=99).page == review_page(plan, {}, page=99).pages - 1


def test_a_plan_that_proposes_nothing_says_why() -> None:
    plan = plan_for(FakeCluster(), splits=0)
    assert summarise(plan).headline.startswith("Nothing is proposed")
    page = review_page(plan, {})
    assert (page.total, page.pages, page.rows) == (0, 1, ())


# Jobs


def facts(**given: Any) -> JobFacts:
    values: dict[str, Any] = {
        "plan_id": "ab" * 8,
        "action_id": "split-001",
        "phases": SPLIT_PHASES,
        "phase": "CALL",
        "state": JobState.RUNNING,
        "route_id": 1,
        "split_key": b"k",
    }
    return JobFacts(**(values | given))


def marks(job: JobFacts) -> list[str]:
    return [mark.mark for mark in job_page([job]).rows[0].marks]


def test_the_phase_that_a_job_is_in_is_marked_and_those_before_are_done() -> None:
    assert marks(facts()) == ["done", "done", "now", "todo", "todo"]
    assert marks(facts(state=JobState.FAILED)) == ["done", "done", "failed", "todo", "todo"]
    assert marks(facts(phase="DONE", state=JobState.DONE)) == ["done"] * 5
    waiting = facts(phase="APPROVED", state=JobState.WAITING)
    assert marks(waiting) == ["done", "todo", "todo", "todo", "todo"]
    recording = facts(phase="APPROVED", state=JobState.RECORDING)
    assert marks(recording)[0] == "now"


def test_moves_bring_their_phases_as_data() -> None:
    job = facts(
        phases=MOVE_PHASES, phase="FENCE", rows=12_345, size_bytes=0, fence_ms=35.4, read_gap_ms=0.0
    )
    [row] = job_page([job]).rows
    assert [mark.title for mark in row.marks][:3] == ["Planned", "Backfill", "Fence"]
    assert row.phase == "Fence"
    assert (row.rows, row.size, row.fence, row.read_gap) == ("12,345", "0", "35 ms", "0 ms")


def test_of_a_move_not_measured_is_no_zero_and_a_split_has_no_fence() -> None:
    [row] = job_page([facts(phases=MOVE_PHASES, phase="PLANNED")]).rows
    assert {row.rows, row.size, row.fence, row.read_gap} == {"not measured"}
    [row] = job_page([facts(rows=0, size_bytes=0)]).rows
    assert (row.rows, row.size, row.fence, row.read_gap) == ("0", "0", "none", "none")


def test_a_phase_that_nobody_knows_is_shown_and_breaks_nothing() -> None:
    [row] = job_page([facts(phase="NEW\x1b")]).rows
    assert row.phase == "NEW\\x1b"
    assert {mark.mark for mark in row.marks} == {"todo"}


def test_the_page_of_what_happens_now_is_shown_first() -> None:
    done = [facts(action_id=f"s{n}", phase="DONE", state=JobState.DONE) for n in range(30)]
    assert first_page(done) == 0
    assert first_page([*done, facts()]) == 2
    page = job_page([*done, facts()], page=2)
    assert (page.total, page.done, page.pages) == (31, 30, 3)
    assert "30 done" in page.sentence
    assert job_page([]).sentence == "nothing to execute yet"


# Markup


@given(st.text(), st.text())
def test_text_never_becomes_markup(text: str, attribute: str) -> None:
    node = el("p", text, title=attribute)
    html = to_html(node)
    assert html.count("<") == 2
    opening = html[: html.index(">")]
    assert opening.count('"') == 2
    assert to_json(node) == ["p", {"title": attribute}, [text]]


def test_only_known_tags_and_attributes_exist() -> None:
    with pytest.raises(AssertionError):
        el("script")
    with pytest.raises(AssertionError):
        el("a", href="x")
    with pytest.raises(AssertionError):
        el("p", onclick="x")
    node = el("p", ["a", None, el("em", "b")], aria_label=None, disabled=True, hidden=False)
    assert to_html(node) == '<p disabled="">a<em>b</em></p>'
    assert text_of(node) == "a b"
    assert to_html(el("input", value='"<')) == '<input value="&quot;&lt;">'
