"""Make a plan again from what it says it was made from, and compare every leaf of the document.

    document ──▶ limits, policy, window, routes, rule ──session.planning──▶ plan ──┐
        └──────────────────────────── leaf by leaf ────────────────────────────────┴──▶ what differs

The independent verifier proves what a plan claims without the planner. This is for the rest: what
a sentence says, which routes were left alone, whether a back-test was made, that limits which
bind nothing are those that were given. The same inputs give the same document, so each leaf that
differs is false, or was made by a planner of another version.

Not here: documents of before 2026-11-21, which do not tell what they were made from.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Final

from workbench.errors import WorkbenchError
from workbench.model.objective import OBJECTIVES, is_known
from workbench.model.plan import plan_content
from workbench.planner.detect import Rule
from workbench.session.given import view_as_given
from workbench.session.planning import plan as make
from workbench.session.planning import source_of
from workbench.session.stored import sizes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workbench.model.plan import Plan
    from workbench.model.plan_parts import Stored
    from workbench.planner.placing import SizesOf
    from workbench.session.cluster import ClusterView

SHOWN_MAX: Final = 20
TEXT_MAX: Final = 200
ABSENT: Final = object()
# What inputs that no command gives, as a group with the weight 0, come to in the planner.
SENSELESS: Final = (ArithmeticError, LookupError, TypeError, ValueError)


def remade_claims(view: ClusterView, plan: Plan) -> list[str]:
    """Return what of a plan is not what its own inputs give, as sentences; empty is good."""
    given = plan.given
    if given is None:
        return []
    found = _routes_differ(view, plan)
    if len(given.routes) != len(plan.routes_before):
        return [*found, "given.routes: not one for each of routes_before"]
    objective = plan.objective
    asked = OBJECTIVES.get(given.asked)
    if not is_known(objective) or asked is None:
        return [*found, f"objective: {objective.name} is not so weighed"]
    try:
        made = make(
            view_as_given(view, plan),
            since=plan.since,
            until=plan.until,
            objective=objective if asked.name == objective.name else asked,
            limits=replace(plan.limits, fixed_routes=()),
            rule=Rule(given.threshold_per_minute, given.windows_hot, given.cooldown_ms),
            source=source_of(plan),
            backtest=given.backtest,
            policy=plan.policy,
            no_moves=given.no_moves,
            stored=_stored_then(view, plan),
        )
    except (WorkbenchError, *SENSELESS) as error:
        return [*found, f"what the plan says it was made from gives no plan: {error!r}"]
    differing = differences(plan_content(plan), plan_content(made))
    return [*found, *islice(differing, SHOWN_MAX)]


def differences(stated: object, made: object, path: str = "") -> Iterator[str]:
    """Yield every leaf of a document that is not what its inputs give, as a sentence."""
    if isinstance(stated, dict) and isinstance(made, dict):
        for name in dict.fromkeys([*stated, *made]):
            here = f"{path}.{name}" if path else name
            yield from differences(stated.get(name, ABSENT), made.get(name, ABSENT), here)
    elif isinstance(stated, list | tuple) and isinstance(made, list | tuple):
        for index, pair in enumerate(zip_longest(stated, made, fillvalue=ABSENT)):
            yield from differences(*pair, f"{path}[{index}]")
    elif type(stated) is not type(made) or stated != made:
        yield f"{path}: the plan says {_shown(stated)}, what it was made from gives {_shown(made)}"


def _shown(value: object) -> str:
    return "nothing" if value is ABSENT else repr(value)[:TEXT_MAX]


def _routes_differ(view: ClusterView, plan: Plan) -> list[str]:
    """Return where the routes are not the catalog's, as far as it still has those of the plan."""
    snapshot, given = view.snapshot, plan.given
    assert given is not None
    if snapshot.catalog_version != plan.catalog_version:
        return []
    known = [
        (route.route_id, route.state.value, route.split_at_hlc, route.span, route.group)
        for route in snapshot.routes
    ]
    told = [
        (each.route_id, each.state, each.split_at_hlc, found.span, found.group)
        for each, found in zip(given.routes, plan.routes_before, strict=False)
    ]
    return [] if known == told else ["given.routes: the catalog has others at that version"]


def _stored_then(view: ClusterView, plan: Plan) -> tuple[Stored, SizesOf] | None:
    """Return what the plan knew of the bytes that routes store; None where it knew nothing."""
    told = None if plan.placement is None else plan.placement.stored
    if told is None or view.catalog is None:
        return None
    return told, sizes_of(view.catalog, told)
