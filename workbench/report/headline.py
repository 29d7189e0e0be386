"""The answer at the top of the page: up to three figures, one sentence, and an outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workbench.report import words
from workbench.report.plan_view import plan_view, steps_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.plan import Plan
    from workbench.planner.replay import Verification

OutcomeName = Literal["held", "short", "failed", "open", "idle", "void"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A key figure: a label, the number, and a line below it."""

    name: str
    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Headline:
    """The answer: up to three figures, one sentence, and whether the forecast held."""

    figures: tuple[Figure, ...]
    sentence: str
    outcome: OutcomeName
    outcome_text: str
    outcome_detail: str


def headline(
    plan: Plan,
    verification: Verification | None,
    cluster: str,
    false_claims: Sequence[str],
) -> Headline:
    """Return the answer: before, forecast and what came, and what that says of the plan.

    Args:
        plan: The plan.
        verification: The forecast beside what came; None before that.
        cluster: Its name, cleaned.
        false_claims: What of the plan does not hold; then nothing that came is shown.
    """
    routes = len(plan.routes_before)
    hottest = max(plan.routes_before, key=lambda route: route.load, default=None)
    note = words.plural(routes, "route")
    if hottest is not None and routes > 1:
        note = f"{note}; the hottest from {words.short(words.key_text(hottest.span.start), 30)}"
    figures = [Figure("before", "Before", words.percent(plan.max_share_before), note)]
    if plan.actions:
        figures.append(
            Figure(
                "forecast",
                "Forecast",
                words.percent(plan.max_share_after),
                f"{steps_text(plan)}, {words.plural(len(plan.routes_after), 'route')}",
            )
        )
    if verification is not None and not false_claims:
        figures.append(
            Figure(
                "came",
                "What came",
                words.percent(verification.after.max_share),
                f"without the plan {words.percent(verification.before.max_share)}"
                if plan.actions
                else "on load that the plan had not seen",
            )
        )
    outcome = _outcome(plan, verification)
    text, detail = _outcome_words(outcome, plan, verification)
    if false_claims:
        outcome = "void"
        text = "The plan does not match the load in this catalog"
        detail = (
            "It was made from other load, or changed: its numbers and its proof cannot be "
            f"checked here ({words.clean(false_claims[0])})."
        )
    sentence = _sentence(plan, None if false_claims else verification, cluster)
    return Headline(tuple(figures), sentence, outcome, text, detail)


def _sentence(plan: Plan, verification: Verification | None, cluster: str) -> str:
    total = words.plural(len(plan.routes_before), "route")
    before = f"On {cluster}, one of {total} carried {words.percent(plan.max_share_before)} of the "
    if len(plan.routes_before) == 1:
        before = (
            f"On {cluster}, a single route carried {words.percent(plan.max_share_before)} of the "
        )
    if not plan.actions:
        return f"{before}load, and the plan leaves it so."
    forecast = (
        f"load; {steps_text(plan)} should bring the hottest route "
        f"down to {words.percent(plan.max_share_after)}"
    )
    if verification is None:
        return f"{before}{forecast}."
    came = words.percent(verification.after.max_share)
    return f"{before}{forecast}. On the load that came next it carried {came}."


def _outcome(plan: Plan, verification: Verification | None) -> OutcomeName:
    if not plan.actions:
        return "idle"
    if verification is None:
        return "open"
    return verification.outcome.value


def _outcome_words(
    outcome: OutcomeName, plan: Plan, verification: Verification | None
) -> tuple[str, str]:
    """Return the outcome in a few words, and in a sentence with the numbers."""
    if verification is None:
        if outcome == "idle":
            return "Nothing to do", plan_view(plan).nothing
        return "Not checked yet", "No load has been replayed on this plan so far."
    points = 100 * (verification.after.max_share - verification.forecast_share)
    miss = (
        f"The hottest route came out {abs(points):.1f} points "
        f"{'above' if points > 0 else 'below'} the forecast; "
        f"{words.percent(verification.drift)} of the load came on other routes than forecast."
    )
    match outcome:
        case "idle":
            return "Nothing to do", plan_view(plan).nothing
        case "held":
            return "The forecast held", miss
        case "short":
            again = (
                " So much moved that the plan is worth making anew."
                if (verification.drifted)
                else ""
            )
            return "Better, but short of the forecast", miss + again
        case _:
            without = words.percent(verification.before.max_share)
            miss += f" Without the plan the hottest route would have carried {without}."
            return "The plan did not help on this load", miss
