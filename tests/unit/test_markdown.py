"""Claims about the Markdown form of a plan."""

from __future__ import annotations

from tests.unit.test_plan import make
from workbench.model.plan import Limits
from workbench.report.markdown import ACTIONS_MAX, _code, plan_markdown


def test_every_action_has_its_row_and_the_answer_comes_first() -> None:
    plan = make()
    text = plan_markdown(plan)
    assert text.index("splits take the hottest route from") < text.index("| action |")
    for action in plan.actions:
        assert (
            f"| {action.action_id} | {action.route_id} | stays | `{action.split_key.decode()}` |"
            in text
        )
    assert plan.content_hash in text
    assert "no merge and no undo" in text


def test_a_plan_without_actions_says_so_with_the_reasons() -> None:
    text = plan_markdown(make(limits=Limits(0, 0.1)))
    assert "Nothing to do" in text
    assert "and no splits are allowed (--max-splits 0)" in text
    assert "each carries 17.3% to 82.7% of the load, and no splits are allowed" in text
    assert "| action |" not in text


def test_markup_in_keys_stays_text() -> None:
    assert _code("a|b`c") == "a\\|b'c"


def test_a_table_row_has_as_many_cells_as_the_head() -> None:
    rows = [line for line in plan_markdown(make()).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert len(rows) == 2 + min(ACTIONS_MAX, 3)
