"""How the planner says numbers in its reasons."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from workbench.model.keys import printable_key
from workbench.model.plan import ActionKind
from workbench.model.plan_parts import DriftKind, PlacementProof
from workbench.planner.outcome import Outcome, backtest_outcome

if TYPE_CHECKING:
    from workbench.model.plan import Action, Plan
    from workbench.model.plan_parts import Backtest, Isolated, Placement

SMALLEST_SHOWN: Final = 0.0005
ROUTES_SHOWN: Final = 10
# How reasons of `declined` begin that speak of one route, and how they begin of several.
OF_SEVERAL: Final = MappingProxyType(
    {
        "it carries ": "each carries ",
        "it has no load": "they have no load",
        "it is not hot (": "they are not hot (each ",
        "its state is ": "their state is ",
        "splitting it does ": "splitting them does ",
    }
)
# What a reason says of one route's own share; routes that differ in it alone share a line.
_OWN_SHARE: Final = re.compile(r"(?<=^it carries )<?[0-9.]+%|(?<=^it is not hot \()<?[0-9.]+%")
BYTES_UNKNOWN: Final = (
    "nothing moves: --max-bytes-moved cannot be checked, since what the routes store is not "
    "known, and load says nothing of it; an export (`workbench export`) tells"
)


def share_text(part: int, total: int) -> str:
    """Return `part` of `total` as a percentage; what would round to 0.0% as `<0.1%`."""
    share = part / total
    return "<0.1%" if 0 < share < SMALLEST_SHOWN else f"{share:.1%}"


def heavy_sentence(key: str, load: int, total: int, kind: str) -> str:
    """Return what a single heavy atom means for a plan."""
    share = share_text(load, total)
    if kind == "key":
        return f"key {key} alone carries {share}: no split makes its route lighter than that"
    return (
        f"the bucket from {key} alone carries {share}: finer evidence could tell whether a cut "
        "inside it helps, and where"
    )


def splits_text(number: int) -> str:
    """Return so many splits in words."""
    return "1 split" if number == 1 else f"{number} splits"


def backtest_sentence(seen: Backtest) -> str:
    """Return how sure a forecast on such load is."""
    return (
        f"back-test: {splits_text(seen.splits)} planned on the first half promised "
        f"{seen.max_share_forecast:.1%} and came to {seen.max_share_came:.1%} on the second "
        f"({seen.max_share_without:.1%} without them; {seen.drift:.1%} of the load came elsewhere)"
        f"{_BACKTEST_SAYS[backtest_outcome(seen)]}"
    )


_BACKTEST_SAYS: Final = MappingProxyType(
    {
        None: "",
        Outcome.HELD: ": the forecast held",
        Outcome.SHORT: ": better than without, and short of the forecast",
        Outcome.FAILED: ": the splits did not help",
    }
)


def backtest_doubt(seen: Backtest) -> str | None:
    """Return why a back-test speaks against its plan; None where its forecast held."""
    came, promised = f"{seen.max_share_came:.1%}", f"{seen.max_share_forecast:.1%}"
    match backtest_outcome(seen):
        case Outcome.HELD:
            return None
        case Outcome.FAILED:
            without = f"{seen.max_share_without:.1%}"
            return (
                f"in the back-test the splits did not help: the hottest route came to {came} with "
                f"them and {without} without, {promised} were forecast"
            )
        case Outcome.SHORT:
            return (
                f"in the back-test the forecast did not hold: the hottest route came to {came}, "
                f"{promised} were forecast"
            )
        case _:
            return "in the back-test nothing was split, so no forecast of splits was tested"


def caution_sentence(plan: Plan) -> str | None:
    """Return what has to be said beside the headline: that the back-test speaks against it."""
    splits = any(action.kind is not ActionKind.MOVE for action in plan.actions)
    return backtest_doubt(plan.backtest) if splits and plan.backtest is not None else None


def actions_text(plan: Plan) -> str:
    """Return how many splits and moves a plan has; "no actions" where it has none."""
    kinds = [action.kind for action in plan.actions]
    moves = kinds.count(ActionKind.MOVE)
    parts = [(len(kinds) - moves, "split"), (moves, "move")]
    said = " and ".join(f"{n} {name}{'s' if n > 1 else ''}" for n, name in parts if n)
    return said or "no actions"


def is_placing_only(plan: Plan) -> bool:
    """Tell whether a plan moves routes and splits none: no route gets lighter, groups do."""
    moves = [action.kind is ActionKind.MOVE for action in plan.actions]
    return plan.placement is not None and bool(moves) and all(moves)


def headline(plan: Plan) -> str:
    """Return what the actions do, in one line; there is at least one."""
    is_one = len(plan.actions) == 1
    verb = "takes" if is_one else "take"
    placed = plan.placement
    if placed is not None and is_placing_only(plan):
        after = fair_share_text(placed, placed.after)
        if placed.before is None:
            return (
                f"{actions_text(plan)} {'leaves' if is_one else 'leave'} the groups that are not "
                f"named, and the heaviest group at {after} times its fair share"
            )
        return (
            f"{actions_text(plan)} {verb} the heaviest group from "
            f"{fair_share_text(placed, placed.before)} to {after} times its fair share"
        )
    if plan.max_share_before == plan.max_share_after and plan.drift is not None:
        return f"{actions_text(plan)}: what comes beyond the moving front gets a route of its own"
    return (
        f"{actions_text(plan)} {verb} the hottest route from {plan.max_share_before:.1%} to "
        f"{plan.max_share_after:.1%} of the load"
    )


def fair_share_text(placed: Placement, weighted: int) -> str:
    """Return how many times its fair share of the load a group with so much weighted load has."""
    mean = sum(g.after for g in placed.groups) * placed.scale / sum(g.weight for g in placed.groups)
    return f"{weighted / mean:.2f}"


def target_text(action: Action) -> str:
    """Return where the right part of an action goes."""
    return "stays" if action.target_group is None else f"to {action.target_group}"


def isolated_sentence(isolated: Isolated, key: str, total: int) -> str:
    """Return what isolating a hot key does."""
    share = share_text(isolated.load, total)
    return (
        f"isolated: key {key} carries {share}, hot by itself; it gets a route of its own, and the "
        "rest of its route no longer waits for it"
    )


def robust_sentence(plan: Plan) -> str:
    """Return what planning against drift costs on the recorded load."""
    robust = plan.robust
    assert robust is not None
    n, d = robust.shrink
    least = share_text(robust.optimum, plan.total_load)
    price = share_text(robust.price, plan.total_load)
    made = len(plan.routes_after) - len(plan.routes_before)
    reach = "reaches" if made == 1 else "reach"
    return (
        f"robust: planned with {n / d:.0%} of the weight spread over all {robust.keys:,} "
        f"{plan.atom_kind}s seen; fitted to the recorded load alone, {splits_text(made)} "
        f"{reach} {least} at the least, so robustness costs {price}"
    )


def further_sentence(plan: Plan) -> str | None:
    """Return what the splits are for that do not lower the hottest route; None for none."""
    proof = plan.certificate.get("robust")
    if plan.robust is None or not isinstance(proof, dict) or not plan.actions:
        return None
    made = len(plan.routes_after) - len(plan.routes_before)
    further = plan.certificate["incremental"]["splits"] - proof["fewest"]
    if further <= 0:
        return None
    # What isolates a key comes before both numbers, and is for the hottest route.
    needed, total = made - further, plan.robust.total
    before = share_text(proof["shared_fewest"], total)
    after = share_text(plan.robust.shared, total)
    does = "lowers" if needed == 1 else "lower"
    others = "other brings" if further == 1 else f"other {further} bring"
    return (
        f"of the {made} splits {needed} {does} the hottest route; the {others} the heaviest "
        f"route that can be split further from {before} to {after} of the load as robust weighs "
        "it: drift could make it the hottest (--policy exact leaves them out)"
    )


def drift_sentences(plan: Plan) -> list[str]:
    """Return what the plan does about load that moves; none where it does not."""
    drift = plan.drift
    if drift is None:
        return []
    if drift.kind is DriftKind.MOVING_FRONT:
        if drift.tail is None:
            return []
        text = (
            f"tail cut: what comes above {printable_key(drift.tail)} lands on a route of its own; "
            "the hottest route of the load so far stays as it is, and nothing else is split, since "
            "no cut inside what was seen would part what comes (--policy exact does). The nodes "
            "feel it once the new route is on another group"
        )
        return [text]
    assert drift.worst_before is not None
    assert drift.worst_after is not None
    assert drift.worst_of_sum is not None
    busiest = max(
        sum(part.load for part in drift.parts[phase :: drift.period])
        for phase in range(drift.period or 1)
    )

    def share(load: int) -> str:
        return share_text(load, busiest)

    least = share_text(plan.certificate["incremental"]["bottleneck"], plan.total_load)
    text = (
        f"planned for the worst of {drift.period} phases: there the hottest route goes from "
        f"{share(drift.worst_before)} to {share(drift.worst_after)} of what the busiest phase "
        f"carried, none can be lower; cuts for the sum would leave {share(drift.worst_of_sum)}. It "
        f"costs evenness of the sum: as many splits could reach {least} there"
    )
    return [text]


def certainty_sentences(plan: Plan) -> list[str]:
    """Return how sure the plan is: what moves, its back-test, that of exact planning, findings."""
    said = drift_sentences(plan)
    if plan.backtest is not None:
        said.append(backtest_sentence(plan.backtest))
    if plan.backtest is not None and plan.backtest_exact is not None:
        said.append(
            f"exact planning would have come to {plan.backtest_exact.max_share_came:.1%} in the "
            "same back-test"
        )
    return [*said, *(finding.text for finding in plan.findings)]


def placement_sentences(plan: Plan) -> list[str]:
    """Return what the moves bring and cost, how near the least they are, and the choice."""
    placed = plan.placement
    if placed is None:
        return []

    def times(weighted: int) -> str:
        return fair_share_text(placed, weighted)

    known = {
        PlacementProof.BOUND: "none can be lower, it is the lower bound",
        PlacementProof.SEARCH: "none can be lower, all placements were tried",
        PlacementProof.SOLVER: "a solver finds none lower",
        PlacementProof.NONE: f"none can be lower than {times(placed.lower_bound)}",
    }[placed.proof]
    before = (
        "routes are on groups to be left"
        if placed.before is None
        else f"{times(placed.before)} before"
    )
    unit = {
        "stored_bytes": "bytes stored",
        "bytes": "bytes read and written",
        "load": "load (what the routes store is not known)",
    }[placed.unit]
    if placed.stored is not None:
        unit += f", by export {placed.stored.export}"
    front = ", ".join(f"{moved:,}: {times(load)}" for moved, load in placed.pareto[:ROUTES_SHOWN])
    hidden = len(placed.pareto) - ROUTES_SHOWN
    return [
        f"heaviest group, times its fair share: {times(placed.after)} after, {before}; {known}",
        f"moved: {placed.moved:,}, counted in {unit}",
        f"heaviest group by what is moved: {front}" + (f", … {hidden} more" if hidden > 0 else ""),
    ]


def nothing_reason(plan: Plan) -> str:
    """Return why a plan proposes no split, as what follows "the hottest route carries …, and"."""
    limits, routes = plan.limits, len(plan.routes_before)
    if limits.max_splits == 0:
        return "no splits are allowed (--max-splits 0)"
    if limits.max_routes is not None and limits.max_routes <= routes:
        return f"no more routes are allowed (--max-routes {limits.max_routes})"
    if len(limits.fixed_routes) == routes:
        hot = "no route is hot, and only hot ones were asked for (--only-hot)"
        return hot if limits.only_hot else "none of the routes may be split"
    if plan.drift is not None and plan.drift.kind is DriftKind.MOVING_FRONT:
        return "no split lowers the hottest route of what comes by enough: a front moves on"
    if not limits.min_gain:
        return "no split lowers it"
    does = "does not lower" if limits.max_splits == 1 else "do not lower"
    return f"{splits_text(limits.max_splits)} {does} it by {limits.min_gain:.0%} (--min-gain)"


def declined_by_reason(plan: Plan) -> list[tuple[str, str]]:
    """Return (routes, reason) for what is left alone, each reason once, in order of routes."""
    grouped: dict[str, list[tuple[int, str]]] = {}
    for declined in plan.declined:
        alike = _OWN_SHARE.sub("%", declined.reason)
        grouped.setdefault(alike, []).append((declined.route_id, declined.reason))
    said: list[tuple[str, str]] = []
    for rows in grouped.values():
        reason = _with_range([reason for _, reason in rows])
        listed = _listed([route_id for route_id, _ in rows])
        said.append((listed, reason if len(rows) == 1 else _of_several(reason)))
    return said


def _with_range(reasons: list[str]) -> str:
    """Return reasons that differ in a route's own share alone as one, from least to most."""
    first = reasons[0]
    shares = {match[0] for reason in reasons if (match := _OWN_SHARE.search(reason))}
    if len(shares) < 2:
        return first
    ordered = sorted(shares, key=lambda text: (text[0] != "<", float(text.strip("<%"))))
    return _OWN_SHARE.sub(f"{ordered[0]} to {ordered[-1]}", first)


def _of_several(reason: str) -> str:
    """Return a reason that was said of one route as it is said of several."""
    begins = next((begins for begins in OF_SEVERAL if reason.startswith(begins)), "")
    return OF_SEVERAL.get(begins, "") + reason.removeprefix(begins)


def _listed(route_ids: list[int]) -> str:
    shown = ", ".join(map(str, route_ids[:ROUTES_SHOWN]))
    hidden = len(route_ids) - ROUTES_SHOWN
    what = "route" if len(route_ids) == 1 else "routes"
    return f"{what} {shown} and {hidden} more" if hidden > 0 else f"{what} {shown}"
