"""Jobs as they run: which phase each is in, what it cost, and what can be done about it.

    JobFacts (from receipts, approvals, and the run in this process) ──job_page──▶ JobPage

Rules:

- Phases are data: a job brings the phases that it goes through and the name of the one it is in,
  so that moves need no other code than splits.
- None is not measured and is shown as such; 0 is shown as 0. A split inside a group moves no row
  and no byte, and has neither a fence nor a gap in reads.

Not here: executing, and keeping receipts (`session.applying`, `session.receipts`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from workbench.report import words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

PAGE_ROWS: Final = 12
NOT_MEASURED: Final = "not measured"


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase: its name in records, and as it is shown."""

    name: str
    title: str


SPLIT_PHASES: Final = (
    Phase("APPROVED", "Approved"),
    Phase("LEASE", "Lease"),
    Phase("CALL", "Call"),
    Phase("RECEIPT", "Receipt"),
    Phase("DONE", "Done"),
)
MOVE_PHASES: Final = (
    Phase("PLANNED", "Planned"),
    Phase("BACKFILL", "Backfill"),
    Phase("FENCE", "Fence"),
    Phase("DELTA_COPY", "Delta copy"),
    Phase("CUTOVER", "Cutover"),
    Phase("CLEANUP", "Cleanup"),
    Phase("DONE", "Done"),
)


class JobState(StrEnum):
    """How a job fares.

    recording    the approval is being kept
    waiting      approved, not begun
    running      in one of its phases, now
    interrupted  it stopped on the way and can go on
    done         made
    failed       refused for good
    stale        cannot be made any more
    """

    RECORDING = "recording"
    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    DONE = "done"
    FAILED = "failed"
    STALE = "stale"

    @property
    def live(self) -> bool:
        """Whether something of it is still to come."""
        return self not in {JobState.DONE, JobState.STALE}


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What is known of a job; None is not measured, or not yet known.

    Attributes:
        plan_id: Of the plan.
        action_id: Of the action.
        phases: That it goes through, in order.
        phase: Name of the one it is in, or stopped in.
        state: How it fares.
        route_id: The route that is split.
        split_key: Where.
        children: Route ids that came of it.
        catalog_version: After it.
        rows: Copied so far.
        size_bytes: Copied so far.
        fence_ms: How long writes were refused.
        read_gap_ms: How long reads were refused.
        error: Why it stopped.
        by: Who applies, or approved.
        started_at: When it began.
        updated_at: When that was last known.
    """

    plan_id: str
    action_id: str
    phases: tuple[Phase, ...]
    phase: str
    state: JobState
    route_id: int
    split_key: bytes
    children: tuple[int, ...] = ()
    catalog_version: int | None = None
    rows: int | None = None
    size_bytes: int | None = None
    fence_ms: float | None = None
    read_gap_ms: float | None = None
    error: str | None = None
    by: str = ""
    started_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PhaseMark:
    """A phase of a job, and whether it is `done`, `now`, `failed` or `todo`."""

    title: str
    mark: str


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as it is shown."""

    job_id: str
    action_id: str
    state: JobState
    phase: str
    marks: tuple[PhaseMark, ...]
    route: str
    key: str
    children: str
    version: str
    rows: str
    size: str
    fence: str
    read_gap: str
    took: str
    updated: str
    by: str
    error: str


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of jobs.

    Attributes:
        rows: In the order given.
        page: From 0; one beyond the last is the last.
        pages: At least 1.
        total: How many jobs there are.
        done: How many are done.
        counts: How many fare how.
        sentence: All of them in words.
    """

    rows: tuple[JobRow, ...]
    page: int
    pages: int
    total: int
    done: int
    counts: tuple[tuple[str, int], ...]
    sentence: str


def job_page(jobs: Sequence[JobFacts], *, page: int = 0, page_rows: int = PAGE_ROWS) -> JobPage:
    """Return one page of jobs; texts are made for its rows only."""
    counts = Counter(job.state.value for job in jobs)
    pages = max(-(-len(jobs) // page_rows), 1)
    at = min(max(page, 0), pages - 1)
    done = counts[JobState.DONE.value]
    listed = [(each.value, counts[each.value]) for each in JobState if counts[each.value]]
    said = ", ".join(f"{count:,} {name}" for name, count in listed)
    return JobPage(
        rows=tuple(_row(job) for job in jobs[at * page_rows : (at + 1) * page_rows]),
        page=at,
        pages=pages,
        total=len(jobs),
        done=done,
        counts=tuple(listed),
        sentence=f"{words.plural(len(jobs), 'job')}: {said}" if jobs else "nothing to execute yet",
    )


def first_page(jobs: Sequence[JobFacts], page_rows: int = PAGE_ROWS) -> int:
    """Return the page of the first job that is not done, so that what happens now is seen."""
    live = next((at for at, job in enumerate(jobs) if job.state.live), 0)
    return live // page_rows


def _row(job: JobFacts) -> JobRow:
    started, updated = job.started_at, job.updated_at
    took = None
    if started is not None and updated is not None and job.state is JobState.DONE:
        took = 1_000 * max((updated - started).total_seconds(), 0.0)
    names = [phase.name for phase in job.phases]
    title = next((each.title for each in job.phases if each.name == job.phase), job.phase)
    moves_nothing = job.phases == SPLIT_PHASES
    return JobRow(
        job_id=f"{job.plan_id}/{job.action_id}",
        action_id=job.action_id,
        state=job.state,
        phase=words.clean(title),
        marks=_marks(job, names.index(job.phase) if job.phase in names else -1),
        route=str(job.route_id),
        key=words.key_text(job.split_key),
        children=" and ".join(str(child) for child in job.children),
        version="" if job.catalog_version is None else str(job.catalog_version),
        rows=_count(job.rows),
        size=_count(job.size_bytes),
        fence=_span_ms(job.fence_ms, none="none" if moves_nothing else NOT_MEASURED),
        read_gap=_span_ms(job.read_gap_ms, none="none" if moves_nothing else NOT_MEASURED),
        took="" if took is None else f"{took:,.0f} ms",
        updated="" if updated is None else words.instant(updated),
        by=words.clean(job.by.removeprefix("user:")),
        error=words.clean(job.error or ""),
    )


def _marks(job: JobFacts, at: int) -> tuple[PhaseMark, ...]:
    here = {
        JobState.DONE: "done",
        JobState.WAITING: "done",
        JobState.FAILED: "failed",
        JobState.STALE: "failed",
        JobState.INTERRUPTED: "failed",
    }.get(job.state, "now")
    return tuple(
        PhaseMark(phase.title, "done" if place < at else here if place == at else "todo")
        for place, phase in enumerate(job.phases)
    )


def _count(value: int | None) -> str:
    return NOT_MEASURED if value is None else words.whole(value)


def _span_ms(value: float | None, *, none: str) -> str:
    return none if value is None else f"{value:,.0f} ms"
