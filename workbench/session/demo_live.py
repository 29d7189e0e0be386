"""The demo against a live cluster: the whole loop, while clients write.

    trace ──▶ clients ════════════════ writes and reads go on ════════════════▶ read all again
                 │ half-time                                    end │
    cluster up ──┴─▶ collect ─▶ plan ─▶ approve ─▶ apply ───────────┴─▶ collect ─▶ verify, report

The cluster is the bundled one, started for the demo on this machine and stopped at its end.
The trace's recorded time is squeezed into seconds. The plan knows only load windows that were
measured in the first half. While it is made and executed, the clients repeat the first half,
however long that takes; the second half comes after the last split, and is what the forecast is
tested on.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidArgument
from workbench.model.plan import OBJECTIVES
from workbench.model.routes import RESERVED_PREFIX
from workbench.node.kv_client import Kv
from workbench.planner.detect import Rule
from workbench.report.words import counted
from workbench.session.applying import apply_plan
from workbench.session.approval import approve, user
from workbench.session.cluster import open_cluster
from workbench.session.collect import read_trace_file
from workbench.session.collect_live import LiveOptions, collect_live
from workbench.session.demo import (
    check_report_place,
    generated_accesses,
    scratch_folder,
    source_name,
)
from workbench.session.local_cluster import running
from workbench.session.look import hot
from workbench.session.planning import plan, settled_since
from workbench.session.plans import record_plan
from workbench.session.progress import Progress, silent
from workbench.session.receipts import applied_of
from workbench.session.reporting import write_report
from workbench.session.verify import verify_plan
from workbench.session.wiring import open_catalog, user_name
from workbench.session.workload import Workload
from workbench.traces.readers import Trace
from workbench.traces.windows import trace_routes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from workbench.model.plan import Limits, Plan
    from workbench.model.routes import RouteDescriptor
    from workbench.session.applying import ApplyAnswer
    from workbench.session.look import HotAnswer
    from workbench.session.verify import VerifyAnswer
    from workbench.session.workload import Checked, Played
    from workbench.traces.readers import TraceOptions

CLUSTER: Final = "demo"
# One window is cut by the start, one by the end; two whole ones are the least to plan on.
WINDOWS_PER_HALF_MIN: Final = 3


@dataclass(frozen=True, slots=True)
class LiveDemoOptions:
    """How to run it.

    Attributes:
        trace: A recorded trace; None generates one with a hot range.
        reading: How to read it.
        catalog_url: Where to keep what is collected; None uses a temporary folder.
        folder: Where the cluster keeps its files; None uses a temporary folder.
        keep: Leave the cluster running.
        nodes: Processes of the cluster.
        groups: Raft groups.
        routes: Routes that it starts with.
        seconds: How long the trace's recorded time shall take.
        window_ms: Length of a load window.
        buckets: Buckets per route.
        limits: What the planner may do.
        report: Where to write the report.
    """

    trace: Path | None
    reading: TraceOptions
    catalog_url: str | None
    folder: Path | None
    keep: bool
    nodes: int
    groups: int
    routes: int
    seconds: float
    window_ms: int
    buckets: int
    limits: Limits
    report: Path


@dataclass(frozen=True, slots=True)
class LiveDemoAnswer:
    """What came of it.

    Attributes:
        trace: What it ran on.
        warnings: What the user should know of the trace.
        url: Of the cluster.
        catalog_url: Of the catalog.
        played: What the clients did.
        checked: What became of the acknowledged writes.
        hot: Which routes were hot in the first half.
        plan: Made from the first half.
        applied: What was executed; None where nothing was proposed.
        writes_during: Writes that were acknowledged while it was executed.
        verified: The forecast beside what came after.
        report: Where the report is.
        seconds: How long all of it took.
    """

    trace: str
    warnings: tuple[str, ...]
    url: str
    catalog_url: str
    played: Played
    checked: Checked
    hot: HotAnswer
    plan: Plan
    applied: ApplyAnswer | None
    writes_during: int
    verified: VerifyAnswer
    report: Path
    seconds: float


@dataclass(frozen=True, slots=True)
class _Looped:
    """What the loop found, while the cluster was up."""

    played: Played
    checked: Checked
    hot: HotAnswer
    plan: Plan
    applied: ApplyAnswer | None
    writes_during: int
    verified: VerifyAnswer


def demo_live(options: LiveDemoOptions, progress: Progress = silent) -> LiveDemoAnswer:
    """Run the whole loop against a cluster of its own; `progress` is told how far it is.

    Raises:
        InvalidArgument: the report's folder does not exist.
        WorkbenchError: whatever one of the steps refuses; the cluster is stopped.
    """
    check_report_place(options.report)
    _check_seconds(options)
    started = monotonic()
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder())
        catalog_url = options.catalog_url or str(scratch / "catalog")
        progress("reading the trace", 0, None)
        trace = _trace(options)
        seeds = seed_groups(trace_routes(trace.accesses, options.routes), options.groups)
        status = stack.enter_context(
            running(
                options.folder or scratch / "cluster",
                nodes=options.nodes,
                groups=options.groups,
                routes=seeds,
                window_ms=options.window_ms,
                buckets=options.buckets,
                keep=options.keep,
                progress=progress,
            )
        )
        kv = stack.enter_context(Kv(status.addresses))
        work = Workload(trace.accesses, seeds, kv, seconds=options.seconds, hold_at_half=True)
        found = _loop(work, status.url, catalog_url, options, progress)
    return LiveDemoAnswer(
        trace=source_name(options.trace),
        warnings=trace.warnings,
        url=status.url,
        catalog_url=catalog_url,
        played=found.played,
        checked=found.checked,
        hot=found.hot,
        plan=found.plan,
        applied=found.applied,
        writes_during=found.writes_during,
        verified=found.verified,
        report=options.report,
        seconds=monotonic() - started,
    )


def _check_seconds(options: LiveDemoOptions) -> None:
    """Refuse a time in which half of it would close too few windows to plan on."""
    least = 2 * WINDOWS_PER_HALF_MIN * options.window_ms / 1_000
    if options.seconds < least:
        raise InvalidArgument(
            f"--seconds {options.seconds:g} leaves fewer than {WINDOWS_PER_HALF_MIN} load windows "
            f"of {options.window_ms} ms in each half",
            code="demo_too_short",
            hint=f"give --seconds {least:g} or more, or a shorter --window",
        )


def _trace(options: LiveDemoOptions) -> Trace:
    if options.trace is not None:
        return read_trace_file(options.trace, options.reading)
    return Trace(generated_accesses(), {}, ())


def seed_groups(routes: Sequence[RouteDescriptor], groups: int) -> tuple[RouteDescriptor, ...]:
    """Return the routes on groups in turn, the one that holds the catalog's rows on group 1."""
    home = next(i for i, route in enumerate(routes) if RESERVED_PREFIX in route.span)
    return tuple(replace(route, group=(i - home) % groups + 1) for i, route in enumerate(routes))


def _loop(
    work: Workload,
    url: str,
    catalog_url: str,
    options: LiveDemoOptions,
    progress: Progress,
) -> _Looped:
    """Collect, plan, approve and apply while the clients work; then see what came of it."""
    objective, rule = OBJECTIVES["score"], Rule()
    applied, during = None, 0
    with _playing(work, progress) as playing:
        if not work.wait_for_half():
            playing.result()  # it ended early: say why
        collect_live(url, catalog_url, LiveOptions(cluster=CLUSTER))
        catalog = open_catalog(catalog_url)
        view = open_cluster(catalog, CLUSTER)
        since, until = view.window(None, None)
        since = settled_since(view, since, until)
        answer = hot(view, since=since, until=until, objective=objective, rule=rule)
        proposal = plan(
            view,
            since=since,
            until=until,
            objective=objective,
            limits=options.limits,
            rule=rule,
            backtest=True,
        )
        record_plan(catalog, proposal)
        if proposal.actions:
            approve(catalog, proposal, [], approver=user(user_name()))
            before = work.played().writes
            applied = apply_plan(catalog, proposal, url, by=user_name())
            during = work.played().writes - before
        work.go_on()
        playing.result()
    progress("collecting again", 0, None)
    collect_live(url, catalog_url, LiveOptions(cluster=CLUSTER))
    checked = work.check(progress)
    catalog.refresh()
    view = open_cluster(catalog, CLUSTER)
    verified = verify_plan(view, proposal, applied=applied_of(catalog, proposal))
    played = work.played()
    size = f"{counted(options.nodes, 'node')}, {counted(options.groups, 'group')}"
    answered = f"{counted(played.writes, 'write')} and {counted(played.reads, 'read')}"
    facts = [
        ("Cluster", f"{size}, on this machine"),
        ("While it ran", f"{answered} were answered"),
        ("Lost writes", f"{checked.lost} of {checked.writes:,} acknowledged, all read again"),
    ]
    progress("writing the report", 0, None)
    write_report(catalog, view, proposal, options.report, facts=facts)
    return _Looped(played, checked, answer, proposal, applied, during, verified)


@contextmanager
def _playing(work: Workload, progress: Progress) -> Iterator[Future[Played]]:
    """Let the clients work in the background; whatever happens here, they end first."""
    with ThreadPoolExecutor(1, thread_name_prefix="workload") as pool:
        future = pool.submit(work.play, progress)
        try:
            yield future
        finally:
            work.stop()
