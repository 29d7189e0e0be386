"""Plan: from a cluster's load to splits, with evidence and a proven bound."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from workbench.api.catalog import Catalog
from workbench.api.catalog import open as open_catalog
from workbench.api.collecting import collect
from workbench.api.looking import objective_named
from workbench.api.places import HasUrl, Key, Moment, count_of, key_bytes, moment_text, number_of
from workbench.api.plans import Plan, plan_of
from workbench.api.words import in_python
from workbench.cli.limits import GROUPS_THERE, LIMIT_MAX, SPLITS_MAX, limits_of
from workbench.errors import InvalidArgument
from workbench.model.keys import check_key
from workbench.model.plan_parts import Boundaries
from workbench.model.times import rfc3339
from workbench.planner.detect import THRESHOLD_PER_MINUTE, Rule
from workbench.query.load import Source
from workbench.session.approval import move_warning
from workbench.session.planning import (
    DEFAULT_POLICY,
    is_live,
    quiet_since,
    settled_since,
    to_get_load,
)
from workbench.session.planning import plan as make_plan
from workbench.session.plans import record_plan

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from workbench.model.plan import Limits, Objective
    from workbench.model.plan import Plan as Document
    from workbench.session.cluster import ClusterView

SOURCES: Final = {"auto": None, "accesses": Source.ACCESS, "windows": Source.LOAD_WINDOW}
POLICIES: Final = ("robust", "exact")

Groups = int | str | list[int] | tuple[int, ...] | dict[int, int] | None
KeyRange = tuple[Key, Key | None]


@in_python
def plan(  # noqa: PLR0913 - as the command's options, all named
    catalog: Catalog | str | os.PathLike[str] | None = None,
    *,
    cluster: str | None = None,
    target: str | HasUrl | None = None,
    since: Moment = None,
    until: Moment = None,
    objective: str = "score",
    write_weight: int | None = None,
    policy: str = DEFAULT_POLICY,
    max_splits: int = 8,
    max_routes: int | None = None,
    min_gain: float = 0.10,
    min_span_load: int = 0,
    forbid: Iterable[KeyRange] = (),
    boundaries: int | Iterable[Key] | None = None,
    groups: Groups = None,
    new_groups: bool = False,
    max_bytes_moved: int | None = None,
    backtest: bool = True,
    only_hot: bool = False,
    threshold: float = THRESHOLD_PER_MINUTE,
    evidence: str = "auto",
) -> Plan:
    """Propose splits that lower the hottest route's load the most; record them, execute nothing.

    No other choice of as many splits does better by what the policy minimises, and the plan
    carries the proof. The same load gives the same plan, with the same id.

    Examples:
        >>> made = wb.plan(until="50%", max_splits=4)
        >>> len(made) <= 4
        True
        >>> made.content_hash == plan.content_hash  # of the same load, made before
        True

    Args:
        catalog: Where the load is, and where the plan is recorded.
        cluster: Which; needed where the catalog holds several.
        target: Collect from this cluster first.
        since: Start of the load to plan on: RFC 3339, an aware datetime, "25%".
        until: End of it; "50%" leaves the rest of a trace for `replay`.
        objective: What is balanced: score (4 x writes + reads), reads, writes or bytes.
        write_weight: For score: how many reads a write counts for.
        policy: "robust" plans against drift; "exact" fits the load as recorded.
        max_splits: At most so many.
        max_routes: At most so many routes after the plan.
        min_gain: Propose nothing unless the hottest route falls by this fraction.
        min_span_load: No route that a split makes carries less.
        forbid: Pairs (start, end) in which no split key may lie; end None has no bound.
        boundaries: The only keys to split at; or a number of bytes: only where so long a prefix
            changes.
        groups: Also say on which group each route goes: a number of groups, ids, ids with
            weights, or "there" for those that there are. Moves are proposed, not executed.
        new_groups: With `groups`: also groups on which the cluster has no route yet.
        max_bytes_moved: With `groups`: at most so many bytes move.
        backtest: Also plan on the first half and replay the second.
        only_hot: Split only routes that `wb.hot` flags.
        threshold: Load a minute from which on a route is hot.
        evidence: "accesses", "windows", or "auto" for the finer.

    Raises:
        NotFound: `load_absent`, with how to get some.
        InvalidArgument: An option, or a contradiction among them.
        InvalidInput: `limit_unmeetable`: which limit cannot be met.
    """
    if target is not None:
        cluster = collect(target, catalog, cluster=cluster).cluster
    opened = open_catalog(catalog)
    written = opened.writable()
    view = opened.view(cluster)
    chosen = objective_named(objective, write_weight)
    if policy not in POLICIES or evidence not in SOURCES:
        what = f"policy {policy!r}" if policy not in POLICIES else f"evidence {evidence!r}"
        raise InvalidArgument(
            f"there is no {what}",
            code="option_unknown",
            hint=f"policies are {', '.join(POLICIES)}; evidence is one of {', '.join(SOURCES)}",
        )
    start, end = view.window(moment_text(since), moment_text(until))
    settled = start
    if since is None and evidence != "accesses":
        settled = settled_since(view, start, end, chosen)
    given = {
        "max_splits": max_splits,
        "max_routes": max_routes,
        # A float, as the command line has it: the same plan, the same hash.
        "min_gain": number_of("min_gain", min_gain),
        "min_span_load": min_span_load,
        "max_bytes_moved": max_bytes_moved,
        "forbid": [_range_text(each) for each in forbid],
        "boundaries": f"prefix:{boundaries}" if isinstance(boundaries, int) else None,
        "groups": _groups_text(groups),
        "new_groups": new_groups,
    }
    limits = _limits(given, view, only_hot=only_hot)
    if boundaries is not None and not isinstance(boundaries, int):
        keys = sorted({check_key(key_bytes(key), "boundaries") for key in boundaries})
        limits = replace(limits, boundaries=Boundaries(None, tuple(keys)))
    document = make_plan(
        view,
        since=settled,
        until=end,
        objective=chosen,
        limits=limits,
        rule=Rule(threshold_per_minute=number_of("threshold", threshold)),
        source=SOURCES[evidence],
        backtest=backtest,
        policy=policy,
    )
    record_plan(written, document)
    return plan_of(opened, document, _warnings(document, view, chosen, (start, settled, end)))


def _limits(given: Mapping[str, Any], view: ClusterView, *, only_hot: bool) -> Limits:
    """Return the limits by the rules of the command line, which has its numbers checked."""
    ranges = {
        "max_splits": SPLITS_MAX,
        "max_routes": LIMIT_MAX,
        "min_span_load": LIMIT_MAX,
        "max_bytes_moved": LIMIT_MAX,
        "min_gain": 1,
    }
    for name, most in ranges.items():
        value = given[name]
        if value is not None and name != "min_gain":
            count_of(name, value)
        if value is not None and not 0 <= value <= most:
            raise InvalidArgument(
                f"{name} is {value!r}, not from 0 to {most:,}",
                code="limit_invalid",
                hint="help(wb.plan) tells what each limit means",
            )
    return limits_of(given, view.snapshot, only_hot=only_hot, live=is_live(view))


def _range_text(span: KeyRange) -> str:
    start, end = span
    last = "" if end is None else f"0x{key_bytes(end).hex()}"
    return f"0x{key_bytes(start).hex()}..{last}"


def _groups_text(groups: Groups) -> str | None:
    match groups:
        case None | str():
            return GROUPS_THERE if groups == "there" else groups
        case int():
            return str(groups)
        case dict():
            return ",".join(f"{group}:{weight}" for group, weight in groups.items())
        case _:
            return ",".join(f"{group}:1" for group in groups)


def _warnings(
    document: Document,
    view: ClusterView,
    objective: Objective,
    times: tuple[datetime, datetime, datetime],
) -> Iterator[str]:
    """Yield what the plan's reader has to know of its load and of its actions."""
    start, settled, end = times
    if settled > start:
        yield (
            f"planned on the load from {rfc3339(settled)} on: before, buckets were too coarse for "
            "the routes as they are, or for split keys (`since` takes another start)"
        )
    changed = quiet_since(view, end, objective)
    if changed is not None:
        yield (
            f"no load window since the routes changed at {rfc3339(changed)} has load: planned on "
            f"earlier load; {to_get_load(view)}"
        )
    yield from view.warnings
    moving = move_warning(document, [action.action_id for action in document.actions])
    if moving is not None and is_live(view):
        yield moving
