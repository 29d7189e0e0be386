"""The jobs in a notebook: each in its phase, live, with what it cost and what can be done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.report import words
from workbench.report.job_rows import JobPage, JobRow, JobState, first_page, job_page
from workbench.report.markup import Node, el
from workbench.widgets.panel import Panel, button, confirm, number, pager

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workbench.session.receipts import Receipt
    from workbench.widgets.desk import Desk
    from workbench.widgets.panel import Handler

EARLIER_MAX: Final = 20
COLUMNS: Final = (
    ("Job", ""),
    ("Phase", ""),
    ("Route", "num"),
    ("Split key", "wb-key"),
    ("Children", "wb-line"),
    ("Version", "num"),
    ("Rows / bytes", "num"),
    ("Fence / read gap", "num"),
    ("Took", "num"),
    ("By", "wb-line"),
)
QUESTIONS: Final = {
    "retry": ("Go on with {count}? What is made already is found and not made again.", "Go on"),
    "abandon": (
        "Withdraw the approval of {count}? A call that is on its way is not taken back.",
        "Abandon",
    ),
}


class JobMonitor(Panel):
    """The desk's jobs as they run, from the receipts and from the run of this kernel.

    After a reload or in a new kernel it shows what the receipts tell; a run that was interrupted
    can be resumed, one that goes on elsewhere is followed.
    """

    topics = ("jobs",)
    speaks = True

    def __init__(self, desk: Desk) -> None:
        self._page: int | None = None
        self._asked = ""
        self._earlier = False
        super().__init__(desk)
        desk.follow()

    def handlers(self) -> Mapping[str, Handler]:
        """Return what the buttons do."""
        desk = self.desk
        return {
            "retry": lambda _arg, _value: self._ask("retry"),
            "abandon": lambda _arg, _value: self._ask("abandon"),
            "retry-yes": lambda _arg, _value: self._confirmed("retry"),
            "abandon-yes": lambda _arg, _value: self._confirmed("abandon"),
            "cancel": lambda _arg, _value: self._ask(""),
            "page": lambda arg, _value: self._turn(number(arg)),
            "refresh": lambda _arg, _value: self._done(desk.refresh),
            "earlier": lambda _arg, _value: self._show_earlier(),
        }

    def page(self) -> JobPage:
        """Return what is shown as values; the page of what happens now, unless another is asked."""
        jobs = self.desk.jobs()
        at = first_page(jobs) if self._page is None else self._page
        return job_page(jobs, page=at)

    def view(self) -> Node:
        """Return the jobs with their phases."""
        page = self.page()
        todo = page.total - page.done
        return el(
            "section",
            el(
                "div",
                el("h3", "Jobs", tabindex="-1"),
                el("span", page.sentence, class_="wb-soft"),
                el("span", self._buttons(page, todo), class_="wb-right wb-row"),
                class_="wb-head",
            ),
            _progress(page),
            self._question(todo),
            el("div", _table(page), class_="wb-scroll") if page.rows else None,
            pager(page.page, page.pages, "page of jobs"),
            self._earlier_jobs(),
            aria_label="Jobs",
        )

    def _buttons(self, page: JobPage, todo: int) -> list[Node]:
        running = self.desk.running
        states = dict(page.counts)
        stopped = states.get(JobState.INTERRUPTED.value, 0) + states.get(JobState.FAILED.value, 0)
        label = "Retry …" if states.get(JobState.FAILED.value) else "Resume …"
        can_retry = bool(todo) and not running and self.desk.target is not None
        kind = "primary" if stopped and not running else ""
        made = [button(label, "retry", kind=kind, disabled=not can_retry)] if stopped else []
        if todo:
            abandon = "Stop …" if running else "Abandon …"
            made.append(button(abandon, "abandon", kind="danger"))
        return [
            *made,
            button("Earlier plans", "earlier", kind="quiet"),
            button("Refresh", "refresh", kind="quiet"),
        ]

    def _question(self, todo: int) -> Node | None:
        if self._asked not in QUESTIONS or not todo:
            return None
        question, yes = QUESTIONS[self._asked]
        kind = "danger" if self._asked == "abandon" else "primary"
        count = words.plural(todo, "action")
        return confirm(question.format(count=count), yes, self._asked, kind=kind)

    def _ask(self, what: str) -> None:
        self._asked = what

    def _confirmed(self, what: str) -> None:
        if self._asked != what:
            return
        self._asked = ""
        if what == "retry":
            self.desk.apply()
        else:
            self.desk.abandon()

    def _done(self, action: object) -> None:
        self._page = None
        if callable(action):
            action()
            self.desk.follow()
            self.say("Read anew from the catalog.")

    def _turn(self, page: int) -> None:
        self._page = page

    def _show_earlier(self) -> None:
        self._earlier = not self._earlier

    def _earlier_jobs(self) -> Node | None:
        if not self._earlier:
            return None
        found = self.desk.earlier_jobs()
        if not found:
            return el("p", "Nothing of another plan was executed.", class_="wb-soft")
        names = ("Job", "Status", "Route", "Split key", "By", "Updated", "Error")
        hidden = len(found) - EARLIER_MAX
        return el(
            "div",
            el(
                "table",
                el("caption", "Jobs of earlier plans, newest first"),
                el("thead", el("tr", [el("th", name, scope="col") for name in names])),
                el("tbody", [_receipt(receipt) for receipt in found[:EARLIER_MAX]]),
            ),
            el("p", f"{hidden:,} more: workbench jobs list", class_="wb-soft")
            if hidden > 0
            else None,
            class_="wb-scroll",
            data_key="earlier",
        )


def _progress(page: JobPage) -> Node | None:
    if not page.total:
        return None
    width = 100 * page.done / page.total
    return el(
        "svg",
        el("rect", class_="wb-bar-back", x="0", y="0", width="100", height="6"),
        el("rect", class_="wb-bar", x="0", y="0", width=f"{width:.2f}", height="6"),
        view_box="0 0 100 6",
        preserveAspectRatio="none",
        class_="wb-progress",
        role="progressbar",
        aria_label="Jobs done",
        aria_valuemin="0",
        aria_valuemax=page.total,
        aria_valuenow=page.done,
    )


def _table(page: JobPage) -> Node:
    return el(
        "table",
        el("caption", "A split inside a group moves no rows and refuses neither write nor read."),
        el(
            "thead",
            el(
                "tr", [el("th", name, scope="col", class_=style or None) for name, style in COLUMNS]
            ),
        ),
        el("tbody", [_row(row) for row in page.rows]),
    )


def _row(row: JobRow) -> Node:
    cells = (
        *(row.route, row.key, row.children, row.version),
        *(f"{row.rows} / {row.size}", f"{row.fence} / {row.read_gap}"),
        *(row.took, row.by),
    )
    styles = [style for _, style in COLUMNS[2:]]
    phases = el(
        "ul",
        [
            el(
                "li",
                mark.title,
                class_=mark.mark,
                aria_current="step" if mark.mark in {"now", "failed"} else None,
                data_key=mark.title,
            )
            for mark in row.marks
        ],
        class_="wb-phases",
        aria_label=f"Phases of {words.clean(row.action_id)}",
    )
    return el(
        "tr",
        el(
            "th",
            words.clean(row.action_id),
            " ",
            el("span", row.state.value, class_=f"wb-tag {row.state.value}"),
            scope="row",
        ),
        el("td", phases, el("div", row.error, class_="wb-error") if row.error else None),
        [
            el("td", text, class_=style or None, title=row.updated if last else None)
            for text, style, last in zip(
                cells, styles, (name == "By" for name, _ in COLUMNS[2:]), strict=True
            )
        ],
        data_key=f"job-{row.job_id}",
        data_state=row.state.value,
    )


def _receipt(receipt: Receipt) -> Node:
    cells: Sequence[str] = (
        receipt.status.value,
        str(receipt.route_id),
        words.key_text(receipt.split_key),
        words.clean(receipt.by.removeprefix("user:")),
        words.instant(receipt.updated_at),
        words.clean(receipt.error or ""),
    )
    return el(
        "tr",
        el("th", words.clean(receipt.job_id), scope="row"),
        [el("td", text) for text in cells],
    )
