"""Plan: from a cluster's load in the catalog to a plan document, and the check of its proof."""

from __future__ import annotations

from bisect import bisect_right
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import pyarrow.compute as pc

from workbench.errors import Corruption, InvalidArgument, InvalidInput, NotFound
from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, ActionKind, Objective, plan_to_json
from workbench.model.plan_parts import Backtest, Finding
from workbench.model.times import from_us, hlc_to_us, rfc3339
from workbench.planner.atoms import atoms_from_table, routed
from workbench.planner.blocks import UNMEETABLE
from workbench.planner.decide import EXACT, ROBUST
from workbench.planner.detect import THRESHOLD_PER_MINUTE
from workbench.planner.heavy import ToldKeys, least_worth_telling, weighs_accesses
from workbench.planner.patterns import SLICES, Slice, drift_of
from workbench.planner.plan import PlanInput, make_plan
from workbench.planner.replay import verification
from workbench.planner.verifier import verify
from workbench.query.figures import figure_texts
from workbench.query.load import HOT_KEY, Source
from workbench.session.given import given_of
from workbench.session.look import hot
from workbench.session.quiet import without_solver_lines
from workbench.session.stored import newest_stored, sizes_of
from workbench.session.wiring import open_routes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa

    from workbench.model.plan import EvidenceQuery, Limits, Plan
    from workbench.model.plan_parts import Stored
    from workbench.planner.atoms import Atoms
    from workbench.planner.detect import Rule
    from workbench.planner.patterns import Drift
    from workbench.planner.placing import SizesOf
    from workbench.session.cluster import ClusterView
    from workbench.session.given import KnownWindows


# A solver prints, and standard output is for answers.
_PLAN_INPUT: Final = partial(PlanInput, around_solver=without_solver_lines)


class Newest:
    """Stands for what the newest complete export of the cluster tells of stored bytes."""


NEWEST: Final = Newest()
# What is balanced where nothing of what was asked for was measured, in this order: as `hot` does.
STAND_INS: Final = ("cpu", "bytes")
# How much of the time asked for must be left to plan on its settled part alone.
SETTLED_SHARE: Final = 0.25
# The default of `workbench plan`, and of the session.
DEFAULT_POLICY: Final = ROBUST
# Of each route; one that alone is the bottleneck is among its heaviest.
TOLD_KEYS_MAX: Final = 8
# Every read and write counts alike.
ACCESSES: Final = Objective("accesses", read_weight=1, write_weight=1, byte_weight=0)
# Above so many atoms, what changes over time is not looked for: it would outlast the planning.
PATTERN_ATOMS_MAX: Final = 200_000


def settled_since(
    view: ClusterView,
    since: datetime,
    until: datetime,
    objective: Objective = OBJECTIVES["score"],
) -> datetime:
    """Return from when on in [since, until) live load can be planned on.

    A live source tells few buckets at first, and more once it has seen where the load lies. Two
    things make early windows useless:

    - A bucket that carried load on both sides of a bound of the routes as they are: nobody can
      tell whose it was. Such windows are always left out; what remains may be short.
    - A bucket that later windows tell more finely: one such window would make everything inside
      it one piece for the planner. Those are left out where that leaves SETTLED_SHARE of the
      time, and some of the objective's load.

    Where single accesses were recorded, and where no window would remain, `since` comes back.
    """
    if view.load.finest is not Source.LOAD_WINDOW:
        return since
    crossing = view.load.crossing_until(since, until, view.snapshot.routes)
    start = since if crossing is None else crossing
    if start >= until:
        return since
    settled = view.load.coarse_until(start, until)
    if settled is None or until - settled < SETTLED_SHARE * (until - start):
        return start
    everything = Span(b"", None)
    if view.load.span_load(Source.LOAD_WINDOW, objective, settled, until, everything) == 0:
        return start
    return settled


def _check_attributable(view: ClusterView, since: datetime, until: datetime) -> None:
    """Raise where load of the time cannot be told apart by the routes as they are now."""
    crossing = view.load.crossing_until(since, until, view.snapshot.routes)
    if crossing is None:
        return
    after = f"plan on what came after: --since {rfc3339(crossing)}"
    raise InvalidInput(
        f"up to {rfc3339(crossing)} buckets carried load on both sides of a bound that the routes "
        "have now: nobody can tell which route it belongs to",
        code="bucket_crosses_route",
        hint=after if crossing < until else to_get_load(view),
    )


def plan(  # noqa: PLR0913 - the question's own parts, named
    view: ClusterView,
    *,
    since: datetime,
    until: datetime,
    objective: Objective,
    limits: Limits,
    rule: Rule,
    source: Source | None = None,
    backtest: bool = False,
    policy: str = DEFAULT_POLICY,
    no_moves: str = "",
    stored: tuple[Stored, SizesOf] | Newest | None = NEWEST,
    windows: KnownWindows | None = None,
) -> Plan:
    """Return a plan for the cluster's newest routes from its load in [since, until).

    Args:
        view: The cluster.
        since: Start of the evidence.
        until: End of it, exclusive.
        objective: What to balance.
        limits: What the planner may do.
        rule: Detection's thresholds, for `limits.only_hot` and for keys that are hot by themselves.
        source: The evidence; None takes the finest there is.
        backtest: Also plan on the first half and replay the second; for `robust` also by `exact`.
        policy: `robust` or `exact`.
        no_moves: Why the system could not make a move; empty where it can, or is not known.
        stored: What spans store, and by what; the newest complete export's where not given.
        windows: How well the view's load is known by `objective`; None reads it where needed.

    Raises:
        NotFound: `load_absent`, there is no load; for a running cluster with how to get some.
        InvalidArgument: `threshold_missing`.
        InvalidInput: `bucket_crosses_route`: some of the load is nobody's; `limit_unmeetable`,
            `limit_unmeasured`: which limit cannot be met or checked.
    """
    asked = objective
    chosen, objective, table = _measured(view, source, asked, since, until)
    hot_routes = _hot_routes(view, limits, objective, rule, (since, until))

    if chosen is Source.LOAD_WINDOW:
        _check_attributable(view, since, until)

    threshold = _threshold(objective, rule)
    if isinstance(stored, Newest):
        stored = _stored(view) if limits.groups else None
    known: dict[datetime, Atoms] = {}  # two policies are tried on the same half
    moving: dict[datetime, tuple[tuple[Finding, ...], Drift | None]] = {}

    def given(end: datetime, by: str) -> PlanInput:
        if end not in known:
            read = table if end == until else view.load.atoms(chosen, objective, since, end)
            known[end] = atoms_from_table(read, chosen.atom_kind)
            moving[end] = _drift(view, chosen, objective, known[end], (since, end))
        findings, drift = moving[end]
        return _PLAN_INPUT(
            cluster=view.name,
            snapshot=view.snapshot,
            atoms=known[end],
            objective=objective,
            since=since,
            until=end,
            limits=limits,
            hot_routes=hot_routes,
            evidence=_evidence(view, chosen, objective, since, end),
            policy=by,
            threshold_per_minute=threshold,
            sizes=None if stored is None else stored[1],
            stored=None if stored is None else stored[0],
            findings=findings,
            drift=drift if by == ROBUST else None,
            no_moves=no_moves,
        )

    whole = given(until, policy)
    untested: tuple[Finding, ...] = ()
    if backtest:
        middle = since + round((until - since) / view.extent.window / 2) * view.extent.window
        tried = {
            by: _backtest(view, chosen, partial(given, middle, by), middle, until)
            for by in dict.fromkeys([policy, EXACT])
        }
        beside = None if policy == EXACT else tried[EXACT]
        whole = replace(whole, backtest=tried[policy], backtest_exact=beside)
        untested = _untested(view, chosen, objective, middle, until)
        untested += _unseen(whole.drift, moving[middle][1])
    least = least_worth_telling(pc.sum(table["load"]).as_py(), len(view.snapshot.routes), limits)
    told = _told_keys(view, chosen, objective, (since, until), least)
    whole = replace(whole, findings=(*untested, *whole.findings), told_keys=told)
    try:
        made = make_plan(whole)
    except NotFound as error:
        if error.code == "load_absent" and is_live(view):
            raise _no_live_load(view, error) from error
        raise
    if chosen is not Source.LOAD_WINDOW or objective.name != asked.name:
        windows = None  # they tell of other evidence
    parts = given_of(
        *(view, since, until, chosen, objective),
        asked=asked,
        rule=rule,
        backtest=backtest,
        no_moves=no_moves,
        windows=windows,
    )
    return replace(made, given=parts)


def _measured(
    view: ClusterView,
    source: Source | None,
    asked: Objective,
    since: datetime,
    until: datetime,
) -> tuple[Source, Objective, pa.Table]:
    """Return the evidence, the objective that it tells of, and its atoms.

    Where no counter of what was asked for was measured, CPU and then bytes stand in, as they do
    for `hot`; the plan carries the name of what it balances.
    """
    first: tuple[Source, Objective, pa.Table] | None = None
    for objective in (asked, *(OBJECTIVES[name] for name in STAND_INS)):
        chosen = source or view.load.finest
        if objective.cpu_weight and source is None:
            chosen = Source.LOAD_WINDOW  # no recorded access tells it
        table = view.load.atoms(chosen, objective, since, until)
        first = first or (chosen, objective, table)
        if table.column("load").null_count < table.num_rows or not table.num_rows:
            return chosen, objective, table
    assert first is not None
    return first


def _hot_routes(
    view: ClusterView,
    limits: Limits,
    objective: Objective,
    rule: Rule,
    time: tuple[datetime, datetime],
) -> frozenset[int]:
    """Return the ids of hot routes, where only those may be split."""
    if not limits.only_hot:
        return frozenset()
    answer = hot(view, since=time[0], until=time[1], objective=objective, rule=rule)
    if answer.rule.threshold_per_minute is None:
        raise InvalidArgument(
            f"no threshold is known for {answer.objective}, so no route can be called hot",
            code="threshold_missing",
            hint="give --threshold, or leave --only-hot out",
        )
    return frozenset(v.route.route_id for v in answer.verdicts if v.verdict == "hot")


def _threshold(objective: Objective, rule: Rule) -> float | None:
    """Return the rate of a hot route; the default counts reads and writes, nothing else."""
    if objective.name != "score" and rule.threshold_per_minute == THRESHOLD_PER_MINUTE:
        return None
    return rule.threshold_per_minute


def _stored(view: ClusterView) -> tuple[Stored, SizesOf] | None:
    """Return what the cluster's spans store, and where it is told; None where it is not known."""
    if view.catalog is None:
        return None
    stored = newest_stored(view.catalog, view.name)
    return None if stored is None else (stored, sizes_of(view.catalog, stored))


def _sizes_told(
    view: ClusterView, given: Plan, source: Source, found: list[str]
) -> list[tuple[bytes, int]] | None:
    """Return the bytes by which a plan counts what moves; None where it counts in load."""
    placed = given.placement
    if placed is None or placed.unit == "load":
        return None
    if placed.stored is None:  # a document of before 2026-11-21 counts bytes read and written
        table = view.load.atoms(source, OBJECTIVES["bytes"], given.since, given.until)
        return None if table.column("load").null_count else _rows_of(table, source)
    spans = [route.span for route in given.routes_after]
    if view.catalog is None:
        found.append("what the routes store cannot be told without a catalog")
        return None
    try:
        sizes = sizes_of(view.catalog, placed.stored)(spans)
    except (NotFound, Corruption, InvalidInput) as error:
        found.append(f"what the routes store cannot be told any more: {error.message}")
        return None
    return [(span.start, size) for span, size in zip(spans, sizes, strict=True)]


def _drift(
    view: ClusterView,
    source: Source,
    objective: Objective,
    atoms: Atoms,
    time: tuple[datetime, datetime],
) -> tuple[tuple[Finding, ...], Drift | None]:
    """Return what is seen in the load over time, and what is said of it."""
    (since, until), window = time, view.extent.window
    per_slice = (until - since) // window // SLICES
    if per_slice == 0:
        return (), None
    if len(atoms.keys) > PATTERN_ATOMS_MAX:
        text = (
            "what changes over time was not looked for: there are "
            f"{len(atoms.keys):,} keys or buckets, more than {PATTERN_ATOMS_MAX:,}"
        )
        return (Finding("not_looked_for", text),), None
    length = per_slice * window
    starts = [until - (SLICES - number) * length for number in range(SLICES)]
    routes = view.snapshot.routes
    all_owned = routed(atoms, routes) is atoms

    def told(start: datetime) -> Slice:
        part = _atoms_of(view, source, objective, start, start + length)
        # The same keys are on the same routes: looking each of them up again takes longest.
        is_owned = all_owned and part.keys == atoms.keys
        return Slice(start, part if is_owned else routed(part, routes))

    drift = drift_of([told(start) for start in starts])
    return (() if drift is None else (drift.finding,)), drift


def _atoms_of(
    view: ClusterView, source: Source, objective: Objective, since: datetime, until: datetime
) -> Atoms:
    return atoms_from_table(view.load.atoms(source, objective, since, until), source.atom_kind)


def _told_keys(
    view: ClusterView,
    source: Source,
    objective: Objective,
    time: tuple[datetime, datetime],
    least: float,
) -> ToldKeys | None:
    """Return the keys that may carry `least` where load is told by bucket; None where none may.

    Of sampled counts nothing is known for sure, so they are left out.
    """
    by_bucket = source is Source.LOAD_WINDOW and Source.ACCESS.value not in view.load.data
    if not by_bucket or HOT_KEY not in view.load.data or not weighs_accesses(objective):
        return None
    table = view.load.hot_keys(*time, view.snapshot.routes, TOLD_KEYS_MAX)
    assert table is not None
    weight = max(objective.read_weight, objective.write_weight)
    enough = pc.greater_equal(pc.multiply(table.column("count").cast("double"), weight), least)
    table = table.filter(pc.and_(enough, pc.equal(table.column("sample_rate"), 1.0)))
    if not table.num_rows:
        return None
    keys, counts, errors = (table.column(n).to_pylist() for n in ("key", "count", "error"))
    atoms = view.load.atoms(source, ACCESSES, *time).sort_by("atom_start")
    starts = atoms.column("atom_start").to_numpy().tolist()
    places = {at for at in (bisect_right(starts, key) - 1 for key in keys) if at >= 0}
    accesses = {starts[at]: atoms.column("load")[at].as_py() for at in places}
    return ToldKeys(tuple(zip(keys, counts, errors, strict=True)), accesses)


def no_moves_on(url: str) -> str:
    """Return why a system could not make a move that is advised; empty where it can."""
    with closing(open_routes(url)) as source:
        if source.capabilities().move:
            return ""
    return f"nothing moves: {url} executes no moves, and what it cannot do is not advised"


def is_live(view: ClusterView) -> bool:
    """Return whether the load was collected from a running cluster, not from a trace."""
    return "collected_until" in view.properties and Source.ACCESS.value not in view.load.data


def quiet_since(view: ClusterView, until: datetime, objective: Objective) -> datetime | None:
    """Return when a running cluster's routes last changed, where no load up to `until` is newer.

    None for a trace, for routes that never changed, and where there is load since.
    """
    changed = _changed_at(view)
    if changed is None or not is_live(view):
        return None
    everything = Span(b"", None)
    load = view.load.span_load(Source.LOAD_WINDOW, objective, changed, until, everything)
    return changed if load == 0 else None


def to_get_load(view: ClusterView) -> str:
    """Return what to do so that a running cluster's load can be planned on."""
    source = view.properties.get("source", "URL")
    return (
        f"put load on the cluster, wait until a window of {view.extent.window_ms / 1_000:g} s "
        f"has closed, and run `workbench collect {source}` again"
    )


def _changed_at(view: ClusterView) -> datetime | None:
    """Return when the routes were last split; None where they never were."""
    newest = max((route.split_at_hlc for route in view.snapshot.routes), default=0)
    return from_us(hlc_to_us(newest)) if newest else None


def _no_live_load(view: ClusterView, error: NotFound) -> NotFound:
    """Return the error with what to do on a running cluster."""
    changed, message = _changed_at(view), error.message
    if changed is not None:
        message += f"; its routes last changed at {rfc3339(changed)}"
    return NotFound(
        message,
        code=error.code,
        hint=f"{to_get_load(view)}; or ask for another time (`--since`, `--until`) or another "
        "--objective",
    )


def _backtest(
    view: ClusterView,
    source: Source,
    given: Callable[[], PlanInput],
    middle: datetime,
    until: datetime,
) -> Backtest | None:
    """Plan on what came before `middle`, and replay what came after; None without load."""
    try:
        trial = make_plan(given())
        events = view.load.events(source, trial.objective, middle, until)
        seen = verification(trial, events, view.extent.window_ms)
    except NotFound:
        return None
    except InvalidInput as error:
        # Half of the load may be too little for a limit that all of it meets.
        if error.code == UNMEETABLE:
            return None
        raise
    if not seen.before.loads.any():
        return None
    return Backtest(
        split_at=middle,
        splits=sum(action.kind is not ActionKind.MOVE for action in trial.actions),
        max_share_without=seen.before.max_share,
        max_share_forecast=trial.max_share_after,
        max_share_came=seen.after.max_share,
        drift=seen.drift,
        cuts=tuple(sorted(a.split_key for a in trial.actions if a.kind is not ActionKind.MOVE)),
    )


def _untested(
    view: ClusterView, source: Source, objective: Objective, middle: datetime, until: datetime
) -> tuple[Finding, ...]:
    """Return that there is no back-test because nothing came in the second half."""
    everything = Span(b"", None)
    if middle >= until or view.load.span_load(source, objective, middle, until, everything):
        return ()
    text = (
        f"back-test: there was no load in the second half, from {rfc3339(middle)} on, so how such "
        "load can be forecast was not tested"
    )
    return (Finding("not_looked_for", text),)


def _unseen(whole: Drift | None, half: Drift | None) -> tuple[Finding, ...]:
    """Return that the back-test knows nothing of a pattern that only the whole time shows."""
    if whole is None or (half is not None and half.kind is whole.kind):
        return ()
    name = whole.kind.value.replace("_", " ")
    text = (
        f"back-test: the first half alone does not show the pattern ({name}), so its plan takes no "
        "account of it"
    )
    return (Finding("not_looked_for", text),)


def false_claims(view: ClusterView, given: Plan) -> list[str]:
    """Return what the independent verifier finds false in a plan, by the package's own SQL.

    The loads are computed anew from the catalog; the text that the plan carries is for reading
    and is only compared.
    """
    source = source_of(given)
    atoms = view.load.atoms(source, given.objective, given.since, given.until)
    found: list[str] = []
    found += verify(
        plan_to_json(given),
        atoms.column("atom_start").to_pylist(),
        atoms.column("load").to_pylist(),
        _sizes_told(view, given, source, found),
        [
            _rows_of(view.load.atoms(source, given.objective, part.since, part.until), source)
            for part in (given.drift.parts if given.drift else ())
        ],
        # What is told of keys is checked of documents that say what they were made from.
        None if given.given is None else _told_rows(view, source, given),
    )
    expected = _evidence(view, source, given.objective, given.since, given.until)
    if not given.evidence.figures:  # documents of before 2026-11-21 carry one text only
        expected = replace(expected, figures={})
    if given.evidence != expected:
        found.append("the evidence query differs from the package's own")
    return found


def _told_rows(
    view: ClusterView, source: Source, given: Plan
) -> tuple[Sequence[tuple[bytes, int, int]], Mapping[bytes, int | None]]:
    least = least_worth_telling(given.total_load, len(given.routes_before), given.limits)
    time = given.since, given.until
    told = _told_keys(view, source, given.objective, time, least) or ToldKeys()
    return told.keys, told.accesses


def _evidence(
    view: ClusterView, source: Source, objective: Objective, since: datetime, until: datetime
) -> EvidenceQuery:
    """Return how the atoms, and all numbers that follow from them, are computed."""
    told = view.load.evidence(source, objective, since, until)
    return replace(told, figures=figure_texts())


def _rows_of(table: pa.Table, source: Source) -> list[tuple[bytes, int]]:
    atoms = atoms_from_table(table, source.atom_kind)
    return list(zip(atoms.keys, atoms.loads, strict=True))


def source_of(given: Plan) -> Source:
    """Return the dataset that a plan's loads come from."""
    return Source.ACCESS if given.atom_kind == Source.ACCESS.atom_kind else Source.LOAD_WINDOW
