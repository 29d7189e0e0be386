"""How the planner says numbers in its reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from workbench.model.plan import Backtest, Plan

SMALLEST_SHOWN: Final = 0.0005
ROUTES_SHOWN: Final = 10


def share_text(part: int, total: int) -> str:
    """Return `part` of `total` as a percentage; what would round to 0.0% as `<0.1%`."""
    share = part / total
    return "<0.1%" if 0 < share < SMALLEST_SHOWN else f"{share:.1%}"


def heavy_sentence(key: str, load: int, total: int, kind: str) -> str:
    """Return what a single heavy atom means for a plan."""
    share = share_text(load, total)
    if kind == "key":
        return f"key {key} alone carries {share}: no split makes its route lighter than that"
    return f"the bucket from {key} alone carries {share}: finer evidence could tell where to cut"


def backtest_sentence(seen: Backtest) -> str:
    """Return how sure a forecast on such load is."""
    splits = "1 split" if seen.splits == 1 else f"{seen.splits} splits"
    return (
        f"back-test: {splits} planned on the first half promised "
        f"{seen.max_share_forecast:.1%} and came to {seen.max_share_came:.1%} on the second "
        f"({seen.max_share_without:.1%} without them; {seen.drift:.1%} of the load came elsewhere)"
    )


def declined_by_reason(plan: Plan) -> list[tuple[str, str]]:
    """Return (routes, reason) for what is left alone, each reason once, in order of routes."""
    grouped: dict[str, list[int]] = {}
    for declined in plan.declined:
        grouped.setdefault(declined.reason, []).append(declined.route_id)
    return [(_listed(route_ids), reason) for reason, route_ids in grouped.items()]


def _listed(route_ids: list[int]) -> str:
    shown = ", ".join(map(str, route_ids[:ROUTES_SHOWN]))
    hidden = len(route_ids) - ROUTES_SHOWN
    what = "route" if len(route_ids) == 1 else "routes"
    return f"{what} {shown} and {hidden} more" if hidden > 0 else f"{what} {shown}"
