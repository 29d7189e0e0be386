"""The demo offline: the main job end to end on a recorded or generated trace.

    trace ─▶ collect ─▶ look ─▶ plan on the first half ─▶ approve ─▶ replay the second ─▶ report

The plan is made from the first half of the recorded time only; the second half is what came
next. Without a catalog of its own it works in a temporary folder and leaves only the report.
No cluster is started; `demo_live` does the same against one.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidArgument
from workbench.model.plan import OBJECTIVES
from workbench.planner.detect import Rule
from workbench.session.approval import approve, user
from workbench.session.cluster import open_cluster
from workbench.session.collect import TRACE_SCHEME, CollectOptions, collect
from workbench.session.datasets import accesses_bytes
from workbench.session.files import write_file
from workbench.session.look import hot
from workbench.session.planning import plan
from workbench.session.plans import record_plan
from workbench.session.progress import Progress, silent
from workbench.session.reporting import check_report_path, write_report
from workbench.session.verify import verify_plan
from workbench.session.wiring import open_catalog, user_name
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from workbench.model.plan import Limits, Plan
    from workbench.session.collect import Collected
    from workbench.session.look import HotAnswer
    from workbench.session.verify import VerifyAnswer

DEMO_SET: Final = "hot-range"
DEMO_ACCESSES: Final = 200_000
DEMO_SEED: Final = 7
DEMO_ROUTES: Final = 8
HALF: Final = "50%"


@dataclass(frozen=True, slots=True)
class DemoAnswer:
    """What the demo did and found.

    Attributes:
        trace: What it ran on.
        collected: What was collected.
        hot: Which routes were hot in the first half.
        plan: Made from the first half.
        verified: Replayed on the second.
        report: Where the report is.
        seconds: How long all of it took.
    """

    trace: str
    collected: Collected
    hot: HotAnswer
    plan: Plan
    verified: VerifyAnswer
    report: Path
    seconds: float


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the demo runs on.

    Attributes:
        trace: A recorded trace; None generates one with a hot range.
        collect: How to collect it.
        catalog_url: Where to keep the catalog; None uses a temporary folder.
        limits: What the planner may do.
        report: Where to write the report.
    """

    trace: Path | None
    collect: CollectOptions
    catalog_url: str | None
    limits: Limits
    report: Path


def demo(options: DemoOptions, progress: Progress = silent) -> DemoAnswer:
    """Run the main job; `progress` is told how far it is.

    Raises:
        InvalidArgument: the report's folder does not exist.
        WorkbenchError: whatever one of the steps refuses.
    """
    trace, limits, report = options.trace, options.limits, options.report
    check_report_place(report)
    started = monotonic()
    with scratch_folder() as folder:
        url = options.catalog_url or str(folder / "catalog")
        source = trace
        if source is None:
            progress("generating a trace", 0, None)
            source = folder / f"{DEMO_SET}.parquet"
            write_file(source, accesses_bytes(generated_accesses()))
        collected = collect(f"{TRACE_SCHEME}{source}", url, options.collect, progress)
        catalog = open_catalog(url)
        view = open_cluster(catalog, collected.cluster)
        since, until = view.window(None, HALF)
        objective = OBJECTIVES["score"]
        progress("looking for hot routes", 0, None)
        answer = hot(view, since=since, until=until, objective=objective, rule=Rule())
        progress("planning", 0, None)
        proposal = plan(
            view,
            since=since,
            until=until,
            objective=objective,
            limits=limits,
            rule=Rule(),
            backtest=True,
        )
        record_plan(catalog, proposal)
        if proposal.actions:
            approve(catalog, proposal, [], approver=user(user_name()))
        progress("replaying what came next", 0, None)
        verified = verify_plan(view, proposal)
        progress("writing the report", 0, None)
        write_report(catalog, view, proposal, report)
    return DemoAnswer(
        trace=source_name(trace),
        collected=collected,
        hot=answer,
        plan=proposal,
        verified=verified,
        report=report,
        seconds=monotonic() - started,
    )


def check_report_place(report: Path) -> None:
    """Raise InvalidArgument where the report cannot be written, before anything is done."""
    check_report_path(report)
    if not report.parent.is_dir():
        raise InvalidArgument(
            f"the folder of {report} does not exist",
            code="report_folder_absent",
            hint="name a file in an existing folder with --report",
        )


def generated_accesses() -> pa.Table:
    """Return the accesses that the demo runs on where no trace is given."""
    return generate(DEMO_SET, accesses=DEMO_ACCESSES, seed=DEMO_SEED)


def source_name(trace: Path | None) -> str:
    """Return in words what the demo runs on."""
    return str(trace) if trace else f"generated: {DEMO_SET}, {DEMO_ACCESSES:,} accesses"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="workbench-demo-") as name:
        yield Path(name)
