"""The plan in a notebook: each action with its evidence, approved or rejected one by one or all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.report import words
from workbench.report.markup import Node, el
from workbench.report.plan_review import (
    Cell,
    PlanSummary,
    ReviewPage,
    ReviewRow,
    review_page,
    summarise,
)
from workbench.widgets.panel import Panel, button, confirm, number, pager

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workbench.report.plan_view import Level
    from workbench.widgets.desk import Desk
    from workbench.widgets.panel import Handler

PLANNING = "planning"
VERIFYING = "verifying"


class PlanReview(Panel):
    """The desk's plan: evidence, before and after, bound, forecast, and what was decided.

    What is approved is recorded with who, when and the plan's hash, before anything is shown as
    approved. Applying asks first. A plan that went stale says so and offers to plan again.
    """

    topics = ("plan",)

    def __init__(self, desk: Desk) -> None:
        self._page = 0
        self._asked = ""
        self._summary: PlanSummary | None = None
        super().__init__(desk)

    def handlers(self) -> Mapping[str, Handler]:
        """Return what the buttons do."""
        desk = self.desk
        return {
            "approve": lambda arg, _value: self._decide(desk.approve, arg),
            "reject": lambda arg, _value: self._decide(desk.reject, arg),
            "approve-all": lambda _arg, _value: self._done(desk.approve),
            "reject-all": lambda _arg, _value: self._done(desk.reject),
            "apply": lambda _arg, _value: self._ask("apply"),
            "apply-yes": lambda _arg, _value: self._confirmed("apply", desk.apply),
            "cancel": lambda _arg, _value: self._ask(""),
            "page": lambda arg, _value: self._turn(number(arg)),
            "plan-again": lambda _arg, _value: self._plan_again(),
            "propose": lambda _arg, _value: self._done(lambda: desk.attempt(desk.propose)),
            "take": lambda _arg, _value: self._done(desk.take_suggestion),
            "verify": lambda _arg, _value: self._verify(),
        }

    def page(self) -> ReviewPage | None:
        """Return what is shown as values; None without a plan."""
        plan = self.desk.current
        if plan is None:
            return None
        return review_page(plan, self.desk.standings(), page=self._page, stale=self.desk.stale)

    def summary(self) -> PlanSummary | None:
        """Return what is the same on every page; None without a plan."""
        plan = self.desk.current
        if plan is None:
            return None
        if self._summary is None or self._summary.content_hash != plan.content_hash:
            self._summary, self._page, self._asked = summarise(plan), 0, ""
        return self._summary

    def view(self) -> Node:
        """Return the review, or how to get a plan where there is none."""
        summary = self.summary()
        page = self.page()
        if summary is None or page is None:
            return self._nothing()
        self._page = page.page
        return el(
            "section",
            el(
                "div",
                el("h3", f"Plan {summary.plan_id[:8]}", tabindex="-1"),
                [
                    el("span", f"{count:,} {name}", class_=f"wb-tag {name}")
                    for name, count in page.counts
                ],
                el("span", self._again(page), class_="wb-right wb-row"),
                class_="wb-head",
            ),
            self._suggested(),
            _stale(page),
            el("p", summary.headline, class_="wb-figure"),
            _facts(summary),
            _strips(summary.before, summary.after, summary.strip_label),
            _levels(summary.levels),
            self._buttons(page),
            self._question(page),
            el("ol", [_action(row) for row in page.rows], class_="wb-actions"),
            pager(page.page, page.pages, "page of actions"),
            self._verified(),
            el(
                "details",
                el("summary", "Bound, forecast and certainty"),
                el("ul", [el("li", text) for text in summary.sentences]),
                data_key="bound",
            ),
            _declined(summary),
            _twin(page, summary),
            aria_label=f"Plan {summary.plan_id[:8]}",
        )

    def _decide(self, decide: object, arg: str) -> None:
        plan = self.desk.current
        known = () if plan is None else tuple(action.action_id for action in plan.actions)
        if arg in known and callable(decide):
            self._asked = ""
            decide(arg)

    def _done(self, action: object) -> None:
        self._asked = ""
        if callable(action):
            action()

    def _ask(self, what: str) -> None:
        self._asked = what

    def _confirmed(self, what: str, action: object) -> None:
        # Without the question there is no answer: a message of its own applies nothing.
        if self._asked == what:
            self._done(action)

    def _turn(self, page: int) -> None:
        self._page = page

    def _plan_again(self) -> None:
        self.say("Planning with a back-test …")
        self.desk.later(PLANNING, self.desk.plan_again, "planned anew, on the newest load")

    def _verify(self) -> None:
        self.say("Replaying the load that came after …")
        self.desk.later(VERIFYING, self.desk.verify, "the forecast was checked")

    def _nothing(self) -> Node:
        desk = self.desk
        text = desk.absent or "No plan was made for this cluster yet."
        return el(
            "section",
            el("div", el("h3", "Plan", tabindex="-1"), class_="wb-head"),
            el("p", text, class_="wb-soft"),
            None if desk.absent else button("Plan", "plan-again", kind="primary"),
        )

    def _again(self, page: ReviewPage) -> list[Node]:
        busy = PLANNING in self.desk.busy
        kind = "primary" if page.stale else "quiet"
        return [button("Plan again", "plan-again", kind=kind, disabled=busy)]

    def _suggested(self) -> Node | None:
        made = self.desk.suggestion
        if made is None:
            return None
        before, after = words.percent(made.max_share_before), words.percent(made.max_share_after)
        splits = words.plural(len(made.actions), "action")
        return el(
            "div",
            el("p", f"For the brushed part: {splits}, hottest route {before} → {after}."),
            button("Review that instead", "take"),
            class_="wb-note",
            data_key="suggested",
        )

    def _buttons(self, page: ReviewPage) -> Node | None:
        if not page.total:
            return None
        desk = self.desk
        approve = f"Approve all {page.approvable:,}" if page.approvable > 1 else "Approve all"
        apply = f"Apply {page.applicable:,} approved …" if page.applicable else "Apply approved …"
        can_apply = page.applicable and not page.stale and desk.target and not desk.running
        return el(
            "div",
            button(approve, "approve-all", kind="primary", disabled=not page.approvable),
            button("Reject all", "reject-all", disabled=not page.rejectable),
            button(apply, "apply", disabled=not can_apply),
            button("Verify forecast", "verify", kind="quiet"),
            None
            if desk.target
            else el("span", "Collected from a trace: nothing to apply to.", class_="wb-soft"),
            class_="wb-row",
        )

    def _question(self, page: ReviewPage) -> Node | None:
        if self._asked != "apply" or not page.applicable:
            return None
        count = words.plural(page.applicable, "approved action")
        target = words.clean(self.desk.target or "")
        return confirm(
            f"Apply {count} to {target}? There is no undo of a split.", f"Apply {count}", "apply"
        )

    def _verified(self) -> Node | None:
        answer = self.desk.verified
        if answer is None:
            return None
        replayed = answer.replayed
        came, forecast = replayed.after.max_share, replayed.forecast_share
        would = "would have come" if answer.execution.counterfactual else "came"
        held = str(replayed.outcome)
        text = (
            f"Forecast {words.percent(forecast)} for the hottest route; {words.percent(came)} "
            f"{would} ({words.percent(replayed.before.max_share)} without the plan)."
        )
        good = held == "held" and not answer.false_claims
        return el(
            "div",
            el("p", el("strong", f"The forecast {held}. " if good else f"{held.title()}. "), text),
            [el("p", words.clean(each), class_="wb-soft") for each in answer.warnings],
            class_=f"wb-note {'good' if good else 'bad'}",
            data_key="verified",
        )


def _stale(page: ReviewPage) -> Node | None:
    if not page.stale:
        return None
    return el(
        "div",
        el("p", el("strong", "This plan is stale. "), page.stale),
        el("p", "What is applied stays. Plan again from the routes as they are now."),
        button("Plan again on the routes as they are", "plan-again", "stale", kind="primary"),
        class_="wb-note bad",
        role="alert",
        data_key="stale",
    )


def _facts(summary: PlanSummary) -> Node:
    return el(
        "dl",
        [el("div", el("dt", name), el("dd", text)) for name, text in summary.facts],
        class_="wb-facts",
    )


def _strips(before: Sequence[Cell], after: Sequence[Cell], label: str) -> Node:
    return el(
        "div",
        el("span", "before"),
        _strip(before, label),
        el("span", "after"),
        _strip(after, ""),
        class_="wb-strips",
    )


def _strip(cells: Sequence[Cell], label: str) -> Node:
    return el(
        "svg",
        [
            el(
                "rect",
                el("title", cell.label),
                x=f"{cell.low_percent:.3f}",
                y="0",
                width=f"{max(cell.width_percent - 0.12, 0.05):.3f}",
                height="10",
                fill=cell.colour,
            )
            for cell in cells
        ],
        view_box="0 0 100 10",
        preserveAspectRatio="none",
        role="img" if label else None,
        aria_label=label or None,
        aria_hidden=None if label else "true",
    )


def _levels(levels: Sequence[Level]) -> Node:
    cells: list[Node] = []
    for level in levels:
        cells += [
            el("span", level.name, title=level.meaning),
            el(
                "svg",
                el("rect", class_="wb-bar-back", x="0", y="0", width="100", height="10"),
                el(
                    "rect",
                    class_=f"wb-bar {level.role}",
                    x="0",
                    y="0",
                    width=f"{level.bar_percent:.2f}",
                    height="10",
                ),
                view_box="0 0 100 10",
                preserveAspectRatio="none",
                aria_hidden="true",
            ),
            el("span", level.load, class_="num"),
            el("span", level.share, class_="num wb-soft"),
        ]
    return el("div", cells, class_="wb-levels")


def _action(row: ReviewRow) -> Node:
    name = f"{row.number}. {row.title}"
    return el(
        "li",
        el(
            "div",
            el("strong", name),
            " at ",
            el("code", row.key),
            el("p", row.where, class_="wb-soft wb-key"),
            el("ul", [el("li", text) for text in row.reasons]),
        ),
        el(
            "div",
            _strips(
                row.before, row.after, f"load {row.parent}, split into {row.left}, {row.right}"
            ),
            el("p", f"{row.parent} → {row.left} + {row.right}", class_="wb-soft"),
            el("p", f"hottest route {row.hottest}"),
        ),
        el(
            "div",
            el("span", row.standing.value, class_=f"wb-tag {row.standing.value}"),
            el("span", row.who, class_="wb-soft wb-small") if row.who else None,
            el("span", row.note, class_="wb-error") if row.note else None,
            el(
                "div",
                button(
                    "Approve",
                    "approve",
                    row.action_id,
                    name=f"Approve {name} at {row.key}",
                    disabled=not row.can_approve,
                ),
                button(
                    "Reject",
                    "reject",
                    row.action_id,
                    name=f"Reject {name} at {row.key}",
                    kind="quiet",
                    disabled=not row.can_reject,
                ),
                class_="wb-row",
            ),
            class_="wb-side",
        ),
        data_key=f"action-{row.action_id}",
    )


def _declined(summary: PlanSummary) -> Node | None:
    if not summary.declined:
        return None
    more = words.plural(summary.declined_more, "more reason") if summary.declined_more else None
    return el(
        "details",
        el("summary", "Routes that are left alone, and why"),
        el("ul", [el("li", f"{which}: {why}") for which, why in summary.declined]),
        el("p", more, class_="wb-soft") if more else None,
        data_key="declined",
    )


def _twin(page: ReviewPage, summary: PlanSummary) -> Node:
    """Return the same as a table, for reading line by line and for copying."""
    names = (
        *("Action", "What", "Split key", "Route", "Load before"),
        *("Left part", "Right part", "Hottest route", "Decision"),
    )
    return el(
        "details",
        el("summary", "As a table"),
        el(
            "div",
            el(
                "table",
                el("caption", f"Actions of plan {summary.plan_id}, page {page.page + 1}"),
                el("thead", el("tr", [el("th", name, scope="col") for name in names])),
                el("tbody", [_line(row) for row in page.rows]),
            ),
            class_="wb-scroll",
        ),
        el("p", summary.no_undo, class_="wb-soft"),
        data_key="twin",
    )


def _line(row: ReviewRow) -> Node:
    cells = (row.title, row.key, row.where, row.parent, row.left, row.right, row.hottest, row.told)
    return el(
        "tr",
        el("th", words.clean(row.action_id), scope="row"),
        [el("td", text) for text in cells],
        data_key=f"line-{row.action_id}",
    )
