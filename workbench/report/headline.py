"""The answer at the top of the page: up to four figures, one sentence, and an outcome.

A replay tells what came where the load is recorded, or the live cluster has the routes that the
plan leaves. Else it is what would have come, is said so, and stands beside what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from workbench.planner.words import caution_sentence, is_placing_only
from workbench.planner.words import headline as what_it_brings
from workbench.report import words
from workbench.report.plan_view import plan_view, steps_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.plan import Plan
    from workbench.planner.replay import Verification

OutcomeName = Literal["held", "short", "failed", "would", "open", "idle", "void"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A key figure: a label, the number, and a line below it."""

    name: str
    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What came on a live cluster, on its routes as they are.

    Attributes:
        share: The hottest route's; None where it could not be told.
        applied: How many of the plan's actions are applied.
        as_planned: Whether the routes are those that the plan leaves, by its actions.
    """

    share: float | None
    applied: int
    as_planned: bool

    @property
    def share_text(self) -> str:
        """The share for a reader."""
        return "not measured" if self.share is None else words.percent(self.share)

    def applied_text(self, plan: Plan) -> str:
        """Return how much of the plan is applied, in words."""
        if not plan.actions:
            return "they were changed since"
        return f"{self.applied} of {words.plural(len(plan.actions), 'action')} applied"


@dataclass(frozen=True, slots=True)
class Headline:
    """The answer: up to four figures, one sentence, and whether the forecast held."""

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
    measured: Measured | None = None,
) -> Headline:
    """Return the answer: before, forecast and what came, and what that says of the plan.

    Args:
        plan: The plan.
        verification: The forecast beside later load, replayed; None before that.
        cluster: Its name, cleaned.
        false_claims: What of the plan does not hold; then nothing that came is shown.
        measured: What came on the routes of a live cluster; None for recorded load.
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
        figures += _came(plan, verification, measured)
    outcome = _outcome(plan, verification, measured)
    text, detail = _outcome_words(outcome, plan, verification, measured)
    if false_claims:
        outcome = "void"
        text = "The plan does not match the load in this catalog"
        detail = (
            "It was made from other load, or changed: its numbers and its proof cannot be "
            f"checked here ({words.clean(false_claims[0])})."
        )
    sentence = _sentence(plan, None if false_claims else verification, cluster, measured)
    return Headline(tuple(figures), sentence, outcome, text, detail)


def _came(plan: Plan, verification: Verification, measured: Measured | None) -> list[Figure]:
    """Return what came, after what would have come where that is something else."""
    replayed = words.percent(verification.after.max_share)
    without = f"without the plan {words.percent(verification.before.max_share)}"
    if measured is None or measured.as_planned:
        came = replayed if measured is None else measured.share_text
        note = without if plan.actions else "on load that the plan had not seen"
        return [Figure("came", "What came", came, note)]
    would = f"{_condition(plan, measured)}; {measured.applied_text(plan)}"
    return [
        Figure("would", "Would have come", replayed, would),
        Figure("came", "What came", measured.share_text, "on the routes as they are"),
    ]


def _condition(plan: Plan, measured: Measured) -> str:
    """Return under which condition the replay would be what came."""
    if measured.applied < len(plan.actions):
        return "had all of the plan been applied"
    return "on the routes that the plan leaves"


def _sentence(
    plan: Plan, verification: Verification | None, cluster: str, measured: Measured | None
) -> str:
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
    if is_placing_only(plan):
        forecast = f"load; {what_it_brings(plan)}"
    doubt = caution_sentence(plan)
    if verification is None:
        caution = "" if doubt is None else f" {doubt[0].upper()}{doubt[1:]}."
        return f"{before}{forecast}.{caution}"
    replayed = words.percent(verification.after.max_share)
    if measured is None:
        came = f"it carried {replayed}"
    elif measured.as_planned:
        came = (
            "what it carried could not be told"
            if measured.share is None
            else f"it carried {measured.share_text}"
        )
    else:
        came = f"it would have carried {replayed}, {_condition(plan, measured)}"
        if measured.share is not None:
            came += f"; on the routes as they are, the hottest carried {measured.share_text}"
    return f"{before}{forecast}. On the load that came next {came}."


def _outcome(
    plan: Plan, verification: Verification | None, measured: Measured | None
) -> OutcomeName:
    if not plan.actions:
        return "idle"
    if verification is None:
        return "open"
    if measured is not None and not measured.as_planned:
        return "would"
    return verification.outcome.value


def _outcome_words(
    outcome: OutcomeName,
    plan: Plan,
    verification: Verification | None,
    measured: Measured | None,
) -> tuple[str, str]:
    """Return the outcome in a few words, and in a sentence with the numbers."""
    if outcome == "idle":
        return "Nothing to do", plan_view(plan).nothing
    if verification is None:
        return "Not checked yet", "No load has been replayed on this plan so far."
    points = 100 * (verification.after.max_share - verification.forecast_share)
    side = "above" if points > 0 else "below"
    drift = words.percent(verification.drift)
    without = words.percent(verification.before.max_share)
    if outcome == "would":
        assert measured is not None
        condition = _condition(plan, measured)
        return _WOULD[verification.outcome.value], (
            f"{condition[0].upper()}{condition[1:]}, the hottest route would have come out "
            f"{abs(points):.1f} points {side} the forecast, and {drift} of the load on other "
            "routes than forecast. The newest collected routes are not those of the plan "
            f"({measured.applied_text(plan)})."
        )
    miss = (
        f"The hottest route came out {abs(points):.1f} points {side} the forecast; "
        f"{drift} of the load came on other routes than forecast."
    )
    again = " So much moved that the plan is worth making anew." if verification.drifted else ""
    match outcome:
        case "held":
            return "The forecast held", miss + again
        case "short":
            return "Better, but short of the forecast", miss + again
        case _:
            miss += f" Without the plan the hottest route would have carried {without}."
            return "The plan did not help on this load", miss


_WOULD: Final = {
    "held": "The forecast would have held",
    "short": "It would have been better, but short of the forecast",
    "failed": "The plan would not have helped on this load",
}
