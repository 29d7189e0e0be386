"""The route table in a notebook: sorted, filtered, paged in the kernel, linked to the brush."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from workbench.report.markup import Node, el
from workbench.report.route_rows import (
    SORTS,
    SPARK_HEIGHT,
    SPARK_WIDTH,
    Question,
    RoutePage,
    RouteRow,
    Spark,
)
from workbench.report.words import plural
from workbench.widgets.panel import Panel, button, number, pager

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.session.cluster import ClusterView
    from workbench.widgets.desk import Desk
    from workbench.widgets.panel import Handler

COLUMNS: Final = (
    ("Route", "route", "num"),
    ("Keys", "keys", ""),
    ("Group", "group", "num"),
    ("Verdict", "verdict", ""),
    ("Load", "load", "num"),
    ("Share", "share", "num"),
    ("Load over time", "", ""),
    ("Per minute", "rate", "num"),
    ("Peak", "peak", "num"),
    ("Why", "", ""),
)
READING: Final = "reading the routes"
VERDICTS: Final = ("hot", "cooling", "warming", "cold", "unknown")


class RouteTable(Panel):
    """The routes of the desk's cluster with load, share, verdict and a line over time.

    Every heading sorts; the filter takes a part of a key, `0x…` for bytes, or a route id. Where
    the heatmap is brushed, load and share are of the brushed time, rows those of its keys.
    """

    topics = ("look",)

    def __init__(self, desk: Desk) -> None:
        self._question = Question()
        self._brush = desk.brush
        self._reading: ClusterView | None = None
        super().__init__(desk)
        self._read()

    def handlers(self) -> Mapping[str, Handler]:
        """Return what the headings, the filter and the buttons do."""
        return {
            "sort": self._sort,
            "filter": lambda _arg, value: self._ask(text=value, page=0),
            "verdict": lambda _arg, value: self._ask(
                verdict=value if value in VERDICTS else "", page=0
            ),
            "page": lambda arg, _value: self._ask(page=number(arg)),
            "all": lambda _arg, _value: self.desk.look(None),
        }

    @property
    def question(self) -> Question:
        """What is shown: order, filter and page."""
        return self._question

    def page(self) -> RoutePage | None:
        """Return what is shown as values; None before the routes are read."""
        board = self.desk.ready_board
        return None if board is None else board.page(self._question, self.desk.brush)

    def view(self) -> Node:
        """Return the table, and why there is none where there is none."""
        if self.desk.brush != self._brush:
            self._brush = self.desk.brush
            self._question = replace(self._question, page=0)
        page = self.page()
        head = el("h3", "Routes", tabindex="-1")
        if page is None:
            why = self.desk.absent or "Reading the load of all routes …"
            return el("section", el("div", head, class_="wb-head"), el("p", why, class_="wb-soft"))
        self._question = page.question
        return el(
            "section",
            el(
                "div",
                head,
                el("span", _shown(page), class_="wb-soft"),
                el("span", _tags(page), class_="wb-right wb-row"),
                class_="wb-head",
            ),
            self._tools(page),
            el("div", _table(page), class_="wb-scroll"),
            pager(page.question.page, page.pages, "page of routes"),
            aria_label="Routes",
        )

    def _changed(self, topic: str) -> None:
        super()._changed(topic)
        if topic in {"look", "told"}:
            self._read()

    def _read(self) -> None:
        """Have the routes read that were not read yet; once, whatever comes of it."""
        desk = self.desk
        if desk.ready_board is not None or desk.absent or desk.view is self._reading:
            return
        # Where that is going on for the routes as they were, its end is told.
        if desk.later(READING, desk.judge):
            self._reading = desk.view

    def _ask(self, **changes: object) -> None:
        self._question = replace(self._question, **changes)  # type: ignore[arg-type]

    def _sort(self, arg: str, _value: str) -> None:
        if arg not in SORTS:
            return
        same = arg == self._question.sort
        ascending_first = arg in {"route", "keys", "group"}
        descending = not self._question.descending if same else not ascending_first
        self._ask(sort=arg, descending=descending, page=0)

    def _tools(self, page: RoutePage) -> Node:
        question = page.question
        options = [("", "all verdicts"), *((each, each) for each in VERDICTS)]
        brushed = None
        if page.brushed:
            brushed = el(
                "span",
                el("span", f"Brushed: {page.brushed}", class_="wb-key"),
                " ",
                button("Show all", "all", kind="quiet"),
            )
        return el(
            "div",
            el(
                "label",
                "Filter ",
                el(
                    "input",
                    type="search",
                    value=question.text,
                    placeholder="key, 0x… or route id",
                    maxlength="256",
                    data_act="filter",
                    data_key="filter",
                ),
            ),
            el(
                "label",
                "Verdict ",
                el(
                    "select",
                    [
                        el("option", text, value=value, selected=value == question.verdict)
                        for value, text in options
                    ],
                    data_act="verdict",
                    data_key="verdict",
                ),
            ),
            brushed,
            class_="wb-row wb-tools",
        )


def _shown(page: RoutePage) -> str:
    if not page.matching:
        return f"none of {plural(page.total, 'route')} matches"
    last = page.first + len(page.rows) - 1
    shown = f"{page.first:,} to {last:,} of {page.matching:,}"
    if page.matching < page.total:
        shown += f" that match, {page.total:,} in all"
    return f"{shown} · {page.load} {page.objective}"


def _tags(page: RoutePage) -> list[Node]:
    return [el("span", f"{count:,} {name}", class_=f"wb-tag {name}") for name, count in page.counts]


def _table(page: RoutePage) -> Node:
    return el(
        "table",
        el("caption", f"Load is {page.objective}; the line shows all of the time collected."),
        el("thead", el("tr", [_heading(page.question, *column) for column in COLUMNS])),
        el("tbody", [_row(row) for row in page.rows]),
    )


def _heading(question: Question, title: str, sort: str, style: str) -> Node:
    if not sort:
        return el("th", title, scope="col", class_=style or None)
    here = question.sort == sort
    way = "descending" if question.descending else "ascending"
    arrow = (" ↓" if question.descending else " ↑") if here else ""
    return el(
        "th",
        el(
            "button",
            title + arrow,
            type="button",
            class_="wb-sort",
            data_act="sort",
            data_arg=sort,
            aria_label=f"Sort by {title.lower()}",
        ),
        scope="col",
        class_=style or None,
        aria_sort=way if here else None,
    )


def _row(row: RouteRow) -> Node:
    why = row.reason if not row.planned else f"{row.reason}; {row.planned}"
    return el(
        "tr",
        el("th", str(row.route_id), scope="row", class_="num"),
        el("td", row.keys, class_="wb-key"),
        el("td", row.group, class_="num"),
        el("td", _verdict(row)),
        el("td", row.load, class_="num"),
        el("td", el("span", row.share, _bar(row.share_percent), class_="wb-share"), class_="num"),
        el("td", _spark(row.spark)),
        el("td", row.rate, class_="num"),
        el("td", row.peak, class_="num"),
        el("td", why, class_="wb-soft"),
        data_key=f"route-{row.route_id}",
    )


def _verdict(row: RouteRow) -> list[Node | str]:
    if not row.verdict:
        return ["…"]
    shown: list[Node | str] = [
        el("span", row.verdict, class_=f"wb-tag {row.verdict}", title=row.certainty)
    ]
    if row.state != "active":
        shown += [" ", el("span", row.state, class_="wb-tag")]
    return shown


def _bar(percent: float | None) -> Node | None:
    if percent is None:
        return None
    return el(
        "svg",
        el("rect", class_="wb-bar-back", width="100", height="8", x="0", y="0"),
        el("rect", class_="wb-bar", width=f"{min(percent, 100):.2f}", height="8", x="0", y="0"),
        view_box="0 0 100 8",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def _spark(spark: Spark) -> Node:
    brushed = None
    if spark.width:
        brushed = el(
            "rect", x=f"{spark.low:.1f}", y="0", width=f"{spark.width:.1f}", height=SPARK_HEIGHT
        )
    return el(
        "svg",
        brushed,
        el("path", d=spark.path),
        class_="wb-spark",
        role="img",
        aria_label=spark.label,
        view_box=f"0 0 {SPARK_WIDTH} {SPARK_HEIGHT}",
        preserveAspectRatio="none",
    )
