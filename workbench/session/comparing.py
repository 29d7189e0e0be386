"""Compare: what rival policies would have made of the same load, replayed on what came next.

    [since, until)  ──▶ each policy cuts one route over everything into as many as asked for
    [until, ...)    ──▶ counted on those routes; no policy has seen it

The cluster's own routes play no part: every policy starts from one route, so that only the
rules differ. Without later load there is no comparison: how well cuts fit the load that they
were made from says nothing about the next hour.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import InvalidInput, NotFound
from workbench.model.times import rfc3339
from workbench.planner.atoms import atoms_from_table
from workbench.planner.partition import optimum
from workbench.planner.policies import replayed_loads, route_loads, whole
from workbench.query.load import Source
from workbench.report.words import counted
from workbench.session.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pyarrow as pa

    from workbench.model.plan import Objective
    from workbench.planner.policies import Policy
    from workbench.session.cluster import ClusterView


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """What one policy made of one number of routes.

    Attributes:
        name: Of the policy.
        routes: How many routes it was asked for.
        routes_made: How many it made; no more than asked for.
        max_load: Load of its hottest route, on the load planned on.
        optimum: The least that anybody reaches there with `routes` routes.
        heldout_max_load: Load of its hottest route, on the load that came later.
        heldout_mean: That load divided by `routes`, whoever made fewer.
    """

    name: str
    routes: int
    routes_made: int
    max_load: int
    optimum: int
    heldout_max_load: int
    heldout_mean: float

    @property
    def over_optimum(self) -> float:
        """How far above the optimum it is on the load planned on: 0.5 is half again as much."""
        return (self.max_load - self.optimum) / self.optimum

    @property
    def heldout_max_over_mean(self) -> float:
        """How many times the mean its hottest route carries of the later load; 1 is even."""
        return self.heldout_max_load / self.heldout_mean


@dataclass(frozen=True, slots=True)
class Comparison:
    """Policies side by side on one cluster's load.

    Attributes:
        cluster: Whose load it is.
        objective: Name of what counts as load.
        seed: What decided the samples.
        since: Start of the load planned on.
        until: End of it, exclusive, and start of the held-out load.
        heldout_until: End of the held-out load, exclusive.
        total_load: What was planned on.
        heldout_load: What was replayed.
        results: By number of routes as asked, then by policy as asked.
    """

    cluster: str
    objective: str
    seed: int
    since: datetime
    until: datetime
    heldout_until: datetime
    total_load: int
    heldout_load: int
    results: tuple[PolicyResult, ...]


def compare(  # noqa: PLR0913 - the question's own parts, named
    view: ClusterView,
    policies: Sequence[Policy],
    routes: Sequence[int],
    *,
    since: datetime,
    until: datetime,
    objective: Objective,
    seed: int,
    progress: Progress = silent,
) -> Comparison:
    """Plan by each policy on [since, until), and replay all load that came after.

    Args:
        view: The cluster.
        policies: Whose cuts to compare.
        routes: Numbers of routes, each from 1.
        since: Start of the load to plan on.
        until: End of it, exclusive.
        objective: What counts as load.
        seed: From 0; decides what the sampling policies sample.
        progress: Called now and then.

    Raises:
        NotFound: there is no load to plan on, or none after it.
        InvalidInput: load was not measured, or a held-out bucket crosses a cut.
    """
    events = _heldout(view, objective, until)
    source = view.load.finest
    table = view.load.atoms(source, objective, since, until)
    atoms = atoms_from_table(table, source.atom_kind)
    segments = whole(atoms)
    if segments.total == 0:
        raise _absent(view, since, until)
    asked = [(number, policy) for number in routes for policy in policies]
    chosen: list[list[int]] = []
    for done, (number, policy) in enumerate(asked):
        progress("planning", done, len(asked))
        chosen.append(policy.cut(atoms, number, seed))
    cut_keys = [[atoms.keys[at] for at in cuts] for cuts in chosen]
    if source is Source.LOAD_WINDOW:
        _check_buckets(view, until, cut_keys)
    progress("replaying", len(asked), len(asked))
    later = replayed_loads(events, cut_keys)
    total = sum(later[0])
    if total == 0:
        raise _absent(view, until, view.extent.until)
    best = {number: optimum(segments, number - 1) for number in routes}
    return Comparison(
        cluster=view.name,
        objective=objective.name,
        seed=seed,
        since=since,
        until=until,
        heldout_until=view.extent.until,
        total_load=segments.total,
        heldout_load=total,
        results=tuple(
            PolicyResult(
                name=policy.name,
                routes=number,
                routes_made=len(cuts) + 1,
                max_load=max(route_loads(segments, cuts)),
                optimum=best[number],
                heldout_max_load=max(loads),
                heldout_mean=total / number,
            )
            for (number, policy), cuts, loads in zip(asked, chosen, later, strict=True)
        ),
    )


def _heldout(view: ClusterView, objective: Objective, until: datetime) -> pa.Table:
    """Return the events that came after `until`; raises where there are none to count."""
    if until >= view.extent.until:
        raise NotFound(
            f"the comparison would plan on all load up to {rfc3339(until)}; nothing came after",
            code="load_absent",
            hint="collect later load, or plan on a part of it: workbench compare --until 50%",
        )
    events = view.load.events(view.load.finest, objective, until, view.extent.until)
    if events.num_rows == 0:
        raise _absent(view, until, view.extent.until)
    unmeasured = events.column("load").null_count
    if unmeasured:
        later = counted(events.num_rows, "later event has", "later events have")
        raise InvalidInput(
            f"{unmeasured:,} of {later} no measured load",
            code="load_not_measured",
            hint="choose another objective",
        )
    return events


def _absent(view: ClusterView, start: datetime, end: datetime) -> NotFound:
    return NotFound(
        f"cluster {view.name!r} has no load between {rfc3339(start)} and {rfc3339(end)}",
        code="load_absent",
        hint=f"it covers {rfc3339(view.extent.since)} to {rfc3339(view.extent.until)}",
    )


def _check_buckets(view: ClusterView, until: datetime, cut_keys: Sequence[Sequence[bytes]]) -> None:
    """Raise where a held-out bucket lies on both sides of a cut."""
    keys = sorted({key for choice in cut_keys for key in choice})
    rows = view.load.load_windows(until, view.extent.until).select(["bucket_start", "bucket_end"])
    for row in rows.group_by(["bucket_start", "bucket_end"]).aggregate([]).to_pylist():
        start, end = row["bucket_start"], row["bucket_end"]
        after = bisect_right(keys, start)
        if after < len(keys) and (end is None or keys[after] < end):
            raise InvalidInput(
                f"cut {keys[after].hex()} lies inside the later bucket from {start.hex()}",
                code="bucket_crosses_split",
                hint="collect with the same buckets throughout, or a trace with single accesses",
            )
