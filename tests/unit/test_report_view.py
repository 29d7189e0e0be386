"""Claims about the view models: what the page says, without a browser."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from tests.browser.report_inputs import (
    ROUTES,
    sample_heat,
    sample_inputs,
    sample_plan,
    sample_series,
    sample_verdicts,
    sample_verification,
    spans_of,
)
from workbench.model.plan import ActionKind, Declined
from workbench.report.charts import Block, draw
from workbench.report.executed_view import ExecutedCall
from workbench.report.headline import Measured
from workbench.report.heat_view import (
    CUT_LABEL_PERCENT,
    Cut,
    load_figures,
    owner_figure,
    place,
)
from workbench.report.view import ReportView, report_view

NOTHING = tuple((start, load, True) for start, load, _ in ROUTES)


def figures(view: ReportView):
    return {figure.name: figure.value for figure in view.headline.figures}


def test_headline_gives_before_forecast_and_what_came():
    plan = sample_plan()
    view = report_view(sample_inputs(plan=plan))
    came = sample_series(plan.routes_after).max_share
    assert figures(view) == {"before": "60.0%", "forecast": "21.0%", "came": f"{came:.1%}"}
    assert "one of 4\u00a0routes carried 60.0% of the load" in view.headline.sentence
    assert "2\u00a0splits should bring the hottest route down to 21.0%" in view.headline.sentence


@pytest.mark.parametrize(
    ("heaviest_after", "drift", "outcome"),
    [
        (210, 0.03, "held"),  # 21.0 % came, 21.0 % was forecast
        (250, 0.03, "short"),  # over the forecast by more than a tenth
        (210, 0.25, "held"),  # the share came true, though the load is elsewhere: that is told too
        (215, 0.25, "short"),  # within the tenth, and the load is elsewhere
        (5_000, 0.03, "failed"),  # heavier than without the plan
    ],
)
def test_outcome_says_whether_the_forecast_held(heaviest_after: int, drift: float, outcome: str):
    plan = sample_plan()
    routes = list(plan.routes_after)
    routes[2] = replace(routes[2], load=heaviest_after)
    after = sample_series(routes, windows=1)
    seen = sample_verification(
        plan, before=sample_series(plan.routes_before, windows=1), after=after, drift=drift
    )
    view = report_view(sample_inputs(plan=plan, verification=seen))
    assert view.headline.outcome == outcome
    assert ("worth making anew" in view.headline.outcome_detail) == (drift > 0.2)


def would_and_came(view: ReportView):
    by_name = {figure.name: figure for figure in view.headline.figures}
    return by_name.get("would"), by_name["came"]


def test_on_the_routes_of_the_plan_what_was_measured_came():
    view = report_view(sample_inputs(measured=Measured(0.196, applied=2, as_planned=True)))
    would, came = would_and_came(view)
    assert (would, came.label, came.value) == (None, "What came", "19.6%")
    assert "it carried 19.6%" in view.headline.sentence
    assert view.headline.outcome == "held"
    assert "after the plan was executed" in view.replayed_text
    assert "on the routes that it left" in view.replayed_text
    assert view.after_label == "after"


@pytest.mark.parametrize(
    ("applied", "condition"),
    [
        (0, "had all of the plan been applied"),
        (1, "had all of the plan been applied"),
        (2, "on the routes that the plan leaves"),
    ],
)
def test_on_other_routes_the_replay_is_only_what_would_have_come(applied: int, condition: str):
    measured = Measured(0.562, applied=applied, as_planned=False)
    view = report_view(sample_inputs(measured=measured))
    would, came = would_and_came(view)
    count = f"{applied} of 2\u00a0actions applied"
    assert (would.label, would.value) == ("Would have come", "20.7%")
    assert would.note == f"{condition}; {count}"
    assert (came.value, came.note) == ("56.2%", "on the routes as they are")
    head = view.headline
    assert f"it would have carried 20.7%, {condition}" in head.sentence
    assert "on the routes as they are, the hottest carried 56.2%" in head.sentence
    assert (head.outcome, head.outcome_text) == ("would", "The forecast would have held")
    assert condition in head.outcome_detail.lower()
    assert count in head.outcome_detail
    assert "came" not in head.outcome_detail
    assert "executed" not in view.replayed_text
    assert count in view.replayed_text
    assert "would" in view.after_label


def test_what_could_not_be_measured_has_no_number():
    for as_planned in (True, False):
        measured = Measured(None, applied=2, as_planned=as_planned)
        view = report_view(sample_inputs(measured=measured))
        assert would_and_came(view)[1].value == "not measured"
        assert "it carried 20.7%" not in view.headline.sentence


def test_without_verification_nothing_is_said_to_have_come():
    view = report_view(sample_inputs(verification=None, heat_after=None))
    assert figures(view) == {"before": "60.0%", "forecast": "21.0%"}
    assert view.headline.outcome == "open"
    assert view.compared is None
    assert not view.routes.chart.expected
    assert not view.routes.replayed
    assert "came" not in view.headline.sentence


def test_plan_without_actions_says_that_there_is_nothing_to_do_and_why():
    plan = sample_plan(NOTHING)
    view = report_view(sample_inputs(plan=plan, verification=None))
    assert view.headline.outcome == "idle"
    assert "forecast" not in figures(view)
    assert "at most 8\u00a0splits lowers the heaviest route by at least 10.0%" in view.plan.nothing
    assert view.plan.nothing == view.headline.outcome_detail


def test_bound_is_compared_with_optimum_and_lower_bound():
    bound = report_view(sample_inputs()).plan.bound
    assert [(level.name, level.load) for level in bound.levels] == [
        ("Now", "600"),
        ("This plan", "210"),
        ("Optimum", "200"),
        ("Lower bound", "167"),
    ]
    assert bound.sentences[0].startswith("The plan is 5.0% above the optimum.")
    assert any("the plan carries the proof" in sentence for sentence in bound.sentences)


def test_bound_claims_no_proof_that_the_certificate_does_not_carry():
    plan = sample_plan(certificate={})
    sentences = report_view(sample_inputs(plan=plan)).plan.bound.sentences
    assert not any("proof" in sentence for sentence in sentences)


def test_cuts_in_the_pictures_carry_the_numbers_of_their_actions():
    plan = sample_plan()
    moved = replace(plan.actions[0], kind=ActionKind.MOVE, target_group=2)
    view = report_view(sample_inputs(plan=replace(plan, actions=(moved, *plan.actions))))
    assert {(cut.number, cut.key) for cut in view.load[0].cuts} == {
        (2, "user/120"),
        (3, "user/140"),
    }
    assert [row.number for row in view.plan.actions] == [1, 2, 3]
    assert view.plan.actions[0].what.startswith("Move to group 2")


def test_heat_before_and_after_share_one_axis_and_one_scale():
    view = report_view(sample_inputs())
    assert [panel.name for figure in view.load for panel in figure.panels] == [
        "heat-load",
        "heat-came",
    ]
    assert len(view.load) == 1
    assert view.load[0].top == 900.0


def test_heat_of_other_rows_gets_an_axis_of_its_own():
    figures = load_figures(sample_heat(rows=12), sample_heat(rows=9), [])
    assert [len(figure.panels) for figure in figures] == [1, 1]


def test_each_cell_of_before_and_after_shows_the_load_of_the_owning_route():
    plan = sample_plan()
    figure = owner_figure(sample_verification(plan, windows=2), [])
    before, after = (panel.matrix for panel in figure.panels)
    assert before.values[:, 0].tolist() == [100, 600, 600, 600, 200, 100]
    assert after.values[:, 0].tolist() == [100, 200, 210, 190, 200, 100]
    assert before.spans == after.spans
    assert len(figure.panels[0].route_lines) == 3
    assert len(figure.panels[1].route_lines) == 5


def test_steady_load_is_shown_on_a_linear_scale_and_a_burst_on_a_root_scale():
    plan = sample_plan()
    seen = sample_verification(plan)
    assert owner_figure(seen, []).scale == "linear"
    burst = sample_series(plan.routes_before)
    burst.loads[1, 7] = 1_000_000
    figure = owner_figure(sample_verification(plan, before=burst), [])
    assert (figure.scale, figure.top) == ("root", 1_000_000)
    assert "root scale" in figure.legend_title


def test_approval_names_who_when_and_how_much():
    given = {"by": "policy:night", "at": "yesterday", "actions": "1 of 2 actions"}
    facts = dict(report_view(sample_inputs(approval=given)).facts)
    assert facts["Approval"] == "policy:night, yesterday, 1 of 2 actions"


def test_keys_without_a_route_are_absent_not_zero():
    plan = sample_plan()
    gappy = sample_series(plan.routes_before[1:])
    figure = owner_figure(sample_verification(plan, before=gappy), [])
    assert np.isnan(figure.panels[0].matrix.values[0]).all()
    assert figure.absent


def test_a_cut_lies_inside_its_row_in_key_order():
    spans = spans_of([b"", b"b", b"c"])
    assert place(spans, b"b") == 1.0
    places = [place(spans, key) for key in (b"a", b"b", b"b\x00", b"b5", b"bz", b"c", b"zz")]
    assert places == sorted(places)
    assert 1.0 < place(spans, b"b5") < 2.0


def test_labels_of_crowded_cuts_are_kept_apart_and_inside_the_picture():
    cuts = [Cut(number, b"user/000001%02d" % number) for number in range(1, 19)]
    (figure,) = load_figures(sample_heat(), None, cuts)
    places = [cut.label_at for cut in figure.cuts]
    assert np.diff(places).min() > CUT_LABEL_PERCENT - 1e-9
    assert min(places) >= 0
    assert max(places) <= 100


def test_cuts_in_one_row_are_labelled_in_key_order():
    keys = [b"user/000005", b"user/000003", b"user/000004", b"user/000009"]
    (figure,) = load_figures(sample_heat(), None, [Cut(n, k) for n, k in enumerate(keys, 1)])
    assert [cut.number for cut in figure.cuts] == [2, 3, 1, 4]


def test_more_cuts_than_fit_are_counted():
    cuts = [Cut(number, b"user/%06d" % number) for number in range(1, 31)]
    (figure,) = load_figures(sample_heat(), None, cuts)
    assert (len(figure.cuts), figure.cuts_more) == (20, 10)


def test_a_shared_beginning_of_keys_is_said_once():
    (figure,) = load_figures(sample_heat(prefix=b"tenant/0042/"), None, [])
    assert figure.key_prefix == "tenant/0042/"
    assert figure.keys[1].text == "…050000"
    assert figure.keys[1].full == "tenant/0042/050000"


def test_before_is_as_wide_as_its_parts_on_the_skyline():
    chart = report_view(sample_inputs()).routes.chart
    hot = chart.before[1]
    assert (hot.low, hot.high) == (1.0, 4.0)
    assert [bar.low for bar in chart.after] == [0, 1, 2, 3, 4, 5]
    assert hot.value == pytest.approx(sum(bar.value for bar in chart.after[1:4]), rel=0.2)


def test_skyline_of_many_routes_keeps_the_heaviest():
    routes = [(b"", 1, True), *((b"%05d" % n, 1, True) for n in range(1, 3_000))]
    routes[1_717] = (routes[1_717][0], 50, True)
    chart = report_view(sample_inputs(plan=sample_plan(routes), verification=None)).routes.chart
    assert len(chart.after) <= 400
    heaviest = max(chart.after, key=lambda block: block.value)
    assert heaviest.low <= 1_717 < heaviest.high
    assert isinstance(heaviest, Block)


def test_a_window_without_load_leaves_a_gap_in_the_line():
    plan = sample_plan()
    series = sample_series(plan.routes_before)
    series.loads[:, 4] = 0
    compared = report_view(
        sample_inputs(plan=plan, verification=sample_verification(plan, before=series))
    ).compared
    assert compared.share.lines[0].values[4] is None
    assert compared.share_table.rows[4][1] == "no load"


def test_verdicts_keep_their_order_their_reasons_and_their_proof():
    table = report_view(sample_inputs()).verdicts
    assert [row[3] for row in table.rows] == ["hot", "cold", "cold", "unknown"]
    assert table.rows[0][-1] == (
        "over 50,000 a minute; windows that prove it: 1, the last at 2026-03-04T09:00:00Z"
    )
    assert table.rows[-1][4:7] == ("not measured", "not measured", "not measured")


def test_no_verdicts_is_said():
    view = report_view(sample_inputs(verdicts=[]))
    assert view.verdict_counts == "No route was judged."
    assert not view.verdicts.rows


def test_long_tables_are_capped_and_say_by_how_much():
    plan = sample_plan(declined=tuple(Declined(n, "cold") for n in range(1, 731)))
    verdicts = sample_verdicts(plan) * 100
    view = report_view(sample_inputs(plan=plan, verdicts=verdicts))
    assert (len(view.plan.declined.rows), view.plan.declined.more) == (200, 530)
    assert (len(view.verdicts.rows), view.verdicts.more) == (200, 200)


def test_heaviest_ranges_name_their_busiest_window():
    table = report_view(sample_inputs()).hot_ranges
    keys, load, share, when, _ = table.rows[0]
    assert keys == "user/100000 → user/125000"
    assert (load, share) == ("53,100", "95.7%")
    assert when == "2026-03-04 09:00:00 UTC"


def test_explain_command_quotes_what_comes_from_the_document():
    plan = sample_plan()
    nasty = replace(plan.actions[0], action_id="x; rm -rf ~")
    view = report_view(sample_inputs(plan=replace(plan, actions=(nasty,))))
    assert view.plan.commands[0][0].endswith(" 'x; rm -rf ~'")


def test_the_same_inputs_give_the_same_view():
    one, other = (report_view(sample_inputs()) for _ in range(2))
    assert (one.headline, one.plan, one.routes, one.verdicts) == (
        other.headline,
        other.plan,
        other.routes,
        other.verdicts,
    )


def test_importing_the_view_models_loads_no_picture_library_and_no_template_engine():
    code = (
        "import sys, workbench.report.view\n"
        "heavy = {'PIL', 'jinja2', 'pyarrow', 'duckdb', 'polars'} & set(sys.modules)\n"
        "sys.exit(','.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_footer_carries_the_hash_that_an_approval_binds_to():
    inputs = sample_inputs()
    footer = dict(report_view(inputs).footer)
    assert footer["Content hash"] == inputs.plan.content_hash
    assert dict(report_view(inputs).facts)["Approval"] == "user:ana, 2026-03-04 10:12:09 UTC"
    assert dict(report_view(replace(inputs, approval=None)).facts)["Approval"] == "not approved"


def test_a_plan_that_does_not_match_the_load_is_never_shown_as_held():
    headline = report_view(sample_inputs(false_claims=("atoms_sha256: differs",))).headline
    assert headline.outcome == "void"
    assert "does not match" in headline.outcome_text
    assert "atoms_sha256" in headline.outcome_detail


def test_what_was_executed_is_told_call_by_call() -> None:
    calls = (
        ExecutedCall(
            action_id="split-001",
            route_id=7,
            split_key=b"user/120",
            children=(9, 10),
            catalog_version=4,
            status="applied",
            at=datetime(2026, 3, 4, 10, 0, tzinfo=UTC),
            seconds=0.0123,
            error=None,
        ),
        ExecutedCall(
            action_id="split-002",
            route_id=8,
            split_key=b"\x00\x1b[31m",
            children=(),
            catalog_version=None,
            status="failed",
            at=datetime(2026, 3, 4, 10, 1, tzinfo=UTC),
            seconds=2.0,
            error="route 8 \x1b[31m is gone",
        ),
    )
    view = report_view(sample_inputs(executed=calls, facts=[("Lost writes", "0 of 9")]))
    assert view.executed is not None
    first, second = view.executed.rows
    assert first == (
        "split-001",
        "7",
        "user/120",
        "9 and 10",
        "4",
        "applied",
        "2026-03-04 10:00:00 UTC",
        "12 ms",
        "none",
        "none",
    )
    assert second[3:5] == ("", "")
    assert "\x1b" not in "".join(second)
    assert second[5].startswith("failed: route 8")
    assert ("Lost writes", "0 of 9") in view.facts
    # Calls alone do not tell that the load came on the routes that they left.
    assert "after the plan was executed" not in view.replayed_text


def test_load_per_group_over_time_adds_up_to_the_load_of_its_routes() -> None:
    plan = sample_plan()
    sides = {
        name: tuple(replace(route, group=1 + place % 3) for place, route in enumerate(routes))
        for name, routes in (("before", plan.routes_before), ("after", plan.routes_after))
    }
    plan = replace(plan, routes_before=sides["before"], routes_after=sides["after"])
    seen = sample_verification(plan)
    view = report_view(sample_inputs(plan=plan, verification=seen))
    assert view.groups is not None
    assert len(view.groups.chart.lines) == len(view.groups.legend) == 3
    drawn = sum(value or 0 for line in view.groups.chart.lines for value in line.values)
    assert drawn == int(seen.after.loads.sum())
    assert [row[0] for row in view.groups.table.rows] == ["group 1", "group 2", "group 3"]
    group_1 = sum(
        int(seen.before.loads[place].sum()) for place in range(0, len(sides["before"]), 3)
    )
    assert view.groups.table.rows[0][1] == f"{group_1:,}"
    assert 'data-testid="chart-groups"' in draw(view.groups.chart)


def test_one_group_has_no_chart_of_groups() -> None:
    assert report_view(sample_inputs()).groups is None


def test_nothing_executed_leaves_no_table() -> None:
    assert report_view(sample_inputs()).executed is None
