"""What to do next with an approved plan: one step, decided from what is seen.

    plan, approved, applied, routes as they are ──decide──▶ Done | Call | Record | Stale

Rules:

- Actions come in the plan's order. One that is not approved is left out, and those after it
  expect versions that count only what was applied.
- Route ids in a plan are predictions; a route is found by its span.
- The routes must be exactly those that the applied actions leave, at exactly the version that
  they leave. Where they are one version further, and the difference is the next action, that
  action was made and only its receipt is missing, as after a kill between call and receipt.
  Who made it cannot be told, nor need it: the same split by somebody else is adopted.
  Anything else is Stale: somebody changed the routes, and the plan says nothing about them.

Because of the last rule no step needs to know what became of the step before: whoever was
killed, or lost an answer, looks at the routes and decides anew.

Not here: who may execute, making the call, keeping receipts.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from workbench.model.keys import Span
from workbench.model.plan import ActionKind
from workbench.model.routes import RouteDescriptor, check_routes, next_route_id
from workbench.ports.connector import SplitCall

if TYPE_CHECKING:
    from collections.abc import Collection

    from workbench.model.plan import Action, Plan
    from workbench.model.routes import RouteSnapshot

REQUEST_NAMESPACE: Final = uuid.UUID("8d3cc03a-2bc1-52bf-a2cb-5ad5bbd0e5c5")
PLAN_AGAIN: Final = "collect again, and plan again from what is there now"


@dataclass(frozen=True, slots=True)
class Done:
    """Every approved action is applied."""


@dataclass(frozen=True, slots=True)
class Call:
    """Make this call.

    Attributes:
        action: Of the plan.
        split: The route as it is, and the version at which the call holds.
        predicted: The route does not exist yet; only `forecast` answers so.
    """

    action: Action
    split: SplitCall
    predicted: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """Keep a receipt: the call was made, and its receipt is missing.

    Attributes:
        action: Of the plan.
        expected_version: At which the call was made.
        catalog_version: Which it left.
        left: The child below the split key.
        right: The child from it on.
    """

    action: Action
    expected_version: int
    catalog_version: int
    left: RouteDescriptor
    right: RouteDescriptor


@dataclass(frozen=True, slots=True)
class Stale:
    """Make no call: the routes are not those that the plan is about.

    Attributes:
        action: The one that cannot be made.
        reason: What was found.
        advice: What to do about it.
    """

    action: Action
    reason: str
    advice: str


Decision = Done | Call | Record | Stale


def request_id(plan: Plan, action_id: str) -> uuid.UUID:
    """Return the idempotency key of an action: the same for every try, from plan and action."""
    return uuid.uuid5(REQUEST_NAMESPACE, f"{plan.content_hash}/{action_id}")


def not_executable(plan: Plan, wanted: Collection[str]) -> dict[str, str]:
    """Return why which of the wanted actions cannot be made by splits alone, in the plan's order.

    A connector executes splits and nothing else (`ports.connector`), so a move is left to the
    system's own tools, and with it what splits the routes that only it would make.
    """
    makers: dict[Span, str] = {}
    found: dict[str, str] = {}
    for action in plan.actions:
        if action.action_id not in wanted:
            continue
        if action.kind is not ActionKind.SPLIT:
            kind = action.kind.value
            found[action.action_id] = (
                f"cannot be executed: a {kind} to group {action.target_group}, and only splits "
                "inside a group can be"
            )
            makers |= dict.fromkeys(action.children, action.action_id)
        elif (maker := makers.get(action.span)) is not None:
            found[action.action_id] = (
                f"cannot be executed: it splits a route that only {maker} makes"
            )
            makers |= dict.fromkeys(action.children, action.action_id)
    return found


def decide(
    plan: Plan, approved: Collection[str], applied: Collection[str], snapshot: RouteSnapshot
) -> Decision:
    """Return the next step.

    Args:
        plan: Its hash already checked; it splits and moves nothing.
        approved: Ids of the actions that stand approved.
        applied: Ids of the actions that have a receipt of success.
        snapshot: The routes as they are now.
    """
    action = next(
        (a for a in plan.actions if a.action_id in approved and a.action_id not in applied), None
    )
    if action is None:
        return Done()
    spans = _spans_left(plan, applied)
    if action.span not in spans:
        reason = f"{action.action_id} splits a route that no applied action makes"
        return Stale(action, reason, "approve the action that makes it")
    expected = plan.catalog_version + sum(a.action_id in applied for a in plan.actions)
    ahead = snapshot.catalog_version - expected
    if ahead == 1 and (found := _made(action, spans, snapshot)) is not None:
        return Record(action, expected, snapshot.catalog_version, *found)
    if ahead:
        reason = (
            f"the routes are at version {snapshot.catalog_version}, "
            f"{action.action_id} needs version {expected}"
        )
        behind = "check that this is the plan's cluster, and was not restored from a backup; else "
        return Stale(action, reason, (behind if ahead < 0 else "") + PLAN_AGAIN)
    routes = {route.span: route for route in snapshot.routes}
    if routes.keys() != spans:
        reason = f"the routes at version {expected} are not those of the plan"
        return Stale(action, reason, f"check that this is the plan's cluster; else {PLAN_AGAIN}")
    return Call(action, SplitCall(routes[action.span], action.split_key, expected))


def forecast(
    plan: Plan, approved: Collection[str], applied: Collection[str], snapshot: RouteSnapshot
) -> list[Record | Call | Stale]:
    """Return all steps that `decide` would lead to, if nobody else changes the routes.

    Ids of routes that do not exist yet are counted on from the largest there is, as the node
    does; a call on such a route says that it is predicted.
    """
    steps: list[Record | Call | Stale] = []
    made, routes = set(applied), snapshot
    present = {route.route_id for route in snapshot.routes}
    while True:
        step = decide(plan, approved, made, routes)
        if isinstance(step, Done):
            return steps
        if isinstance(step, Call):
            steps.append(replace(step, predicted=step.split.route.route_id not in present))
            routes = _after(routes, step.split)
        else:
            steps.append(step)
        if isinstance(step, Stale):
            return steps
        made.add(step.action.action_id)


def _spans_left(plan: Plan, applied: Collection[str]) -> set[Span]:
    """Return the spans of the routes that the applied actions leave."""
    spans = {route.span for route in plan.routes_before}
    for action in plan.actions:
        if action.action_id in applied:
            spans.discard(action.span)
            spans.update(_children(action))
    return spans


def _children(action: Action) -> tuple[Span, Span]:
    return Span(action.span.start, action.split_key), Span(action.split_key, action.span.end)


def _made(
    action: Action, before: set[Span], snapshot: RouteSnapshot
) -> tuple[RouteDescriptor, RouteDescriptor] | None:
    """Return the action's children where they are all that changed, None otherwise."""
    routes = {route.span: route for route in snapshot.routes}
    ours = _children(action)
    if routes.keys() != (before - {action.span}) | set(ours):
        return None
    left, right = (routes[span] for span in ours)
    # A split's children name their parent; two routes that only happen to meet here do not.
    if not left.parent_route_id or left.parent_route_id != right.parent_route_id:
        return None
    return left, right


def _after(snapshot: RouteSnapshot, split: SplitCall) -> RouteSnapshot:
    """Return the routes after a split, with the ids that a catalog would give."""
    parent, new_id = split.route, next_route_id(snapshot.routes)
    left = replace(
        parent,
        route_id=new_id,
        span=Span(parent.span.start, split.split_key),
        parent_route_id=parent.route_id,
    )
    right = replace(left, route_id=new_id + 1, span=Span(split.split_key, parent.span.end))
    rest = [route for route in snapshot.routes if route.route_id != parent.route_id]
    return replace(
        snapshot,
        catalog_version=snapshot.catalog_version + 1,
        routes=check_routes([*rest, left, right]),
    )
