"""The plan document: what is proposed, on what evidence, with what proof, and its content hash.

    Plan ── content ──▶ canonical JSON ──SHA-256──▶ content_hash ──16 digits──▶ plan_id

Rules:
- The content comes from the plan's inputs alone: no time of day, randomness or sequence number,
  so the same inputs give the same bytes on any machine.
- An approval binds to `content_hash`; a document whose content does not give its hash is refused.
- Actions are in order; each expects the catalog version that its predecessor leaves.
- A document of version 1 keeps its form and its hash; it has none of the later parts.

Loads are whole numbers in the unit of the objective, summed over the plan's time window.
docs/formats/plan.md describes JSON and Parquet forms.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from workbench.errors import Corruption, InvalidInput
from workbench.model.keys import Span
from workbench.model.objective import OBJECTIVES as OBJECTIVES  # noqa: PLC0414 - part of it
from workbench.model.objective import Objective as Objective  # noqa: PLC0414 - part of it
from workbench.model.objective import objective_from_json, weights_to_json
from workbench.model.plan_given import given_from_json, given_to_json
from workbench.model.plan_parts import (
    Backtest,
    Boundaries,
    Drifted,
    Finding,
    GroupWeight,
    Isolated,
    Placement,
    Robust,
    backtest_from_json,
    backtest_to_json,
    boundaries_from_json,
    boundaries_to_json,
    drifted_from_json,
    drifted_to_json,
    placement_from_json,
    placement_to_json,
    robust_from_json,
    robust_to_json,
    span_from_json,
    span_to_json,
)
from workbench.model.times import parse_time, rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from workbench.model.plan_given import Given

PLAN_SCHEMA: Final = "workbench.plan/2"
# Read for ever, and kept as it is: its bytes are what was approved.
PLAN_SCHEMA_1: Final = "workbench.plan/1"
PLAN_ID_DIGITS: Final = 16


class ActionKind(StrEnum):
    """What an action does to the routes."""

    SPLIT = "split"
    SPLIT_AND_MOVE = "split_and_move"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The numbers behind one split; each is `span_load` over the plan's window.

    Attributes:
        parent_load: Load of the route that is split.
        left_load: Load below the split key.
        right_load: Load from the split key on; left + right = parent.
        bottleneck_before: Heaviest route before this action.
        bottleneck_after: Heaviest route after it.
    """

    parent_load: int
    left_load: int
    right_load: int
    bottleneck_before: int
    bottleneck_after: int


@dataclass(frozen=True, slots=True)
class Action:
    """One step of a plan.

    Attributes:
        action_id: Unique within the plan; with the content hash it names the call for dedupe.
        kind: What the step does.
        route_id: The route it acts on, as numbered when the step's turn comes.
        span: That route's span, by which an executor finds it where ids went another way.
        split_key: First key of the right child: inside the span, not its start. Of a move it is
            the span's start: the whole route is the right child.
        target_group: Group of the right child; None where it stays with its parent's.
        expected_version: Catalog version that the step must find; it leaves the next one.
        rows_moved: Rows that change group; None where not known.
        bytes_moved: Bytes that change group; None where not measured.
        reasons: Sentences for a human.
        evidence: The numbers.
    """

    action_id: str
    kind: ActionKind
    route_id: int
    span: Span
    split_key: bytes
    target_group: int | None
    expected_version: int
    rows_moved: int | None
    bytes_moved: int | None
    reasons: tuple[str, ...]
    evidence: Evidence

    @property
    def children(self) -> tuple[Span, ...]:
        """The spans that it makes of its route's, ascending; of a move there is only one."""
        if self.split_key == self.span.start:
            return (self.span,)
        return Span(self.span.start, self.split_key), Span(self.split_key, self.span.end)


@dataclass(frozen=True, slots=True)
class RouteLoad:
    """A route by its span, with its load in the plan's window."""

    span: Span
    group: int
    load: int


@dataclass(frozen=True, slots=True)
class Declined:
    """A route for which nothing is proposed, and why."""

    route_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class HeavyAtom:
    """A key or bucket that alone carries more than an even share of the routes after the plan.

    No cut makes the route that holds it lighter than it is.
    """

    key: bytes
    load: int


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """The heaviest route's load: now, after the plan, and what nothing can beat.

    Attributes:
        before: Heaviest route as the routes are.
        after: Heaviest route after all actions.
        optimum: The least that any cut of the whole key space into as many routes reaches.
        lower_bound: max(⌈total / routes⌉, heaviest atom), from which nobody can fall.
        resolution_low: The least that finer evidence could show to be possible after as many
            splits; equals `after` where the evidence is single keys.
        resolution_high: What is certain: `after`.
    """

    before: int
    after: int
    optimum: int
    lower_bound: int
    resolution_low: int
    resolution_high: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What the planner may do; part of the content, because it shapes the plan.

    Attributes:
        max_splits: At most so many split actions.
        min_gain: By which fraction the bottleneck must fall, or nothing is proposed.
        only_hot: Only routes that detection calls hot may be split.
        fixed_routes: Positions (from 0, ascending by start) of the routes that must not be
            split: not hot under `only_hot`, or not ACTIVE.
        max_routes: At most so many routes after the plan; None for no limit.
        min_span_load: No route that a split makes may carry less.
        forbidden: Spans in which no split key may lie.
        boundaries: The only keys at which a route may be cut; None where every key will do.
        groups: Where routes may be placed; empty where they all stay.
        max_bytes_moved: At most so many bytes change group; None for no limit.
    """

    max_splits: int
    min_gain: float
    only_hot: bool = False
    fixed_routes: tuple[int, ...] = ()
    max_routes: int | None = None
    min_span_load: int = 0
    forbidden: tuple[Span, ...] = ()
    boundaries: Boundaries | None = None
    groups: tuple[GroupWeight, ...] = ()
    max_bytes_moved: int | None = None


@dataclass(frozen=True, slots=True)
class EvidenceQuery:
    """How to compute the plan's loads anew: a named SQL text of the package.

    Attributes:
        name: File name in `workbench/query/sql`, without `.sql`.
        dataset: The dataset it reads.
        parameters: Bound by name; times as RFC 3339.
        sql: The text at the time of planning, for reading.
        figures: The texts, by name, that compute the plan's other numbers from its answer.
    """

    name: str
    dataset: str
    parameters: Mapping[str, str | int]
    sql: str
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A proposal as a document; see the module's rules.

    Attributes:
        cluster: Whose routes these are.
        catalog_version: Route catalog version from which the plan was made.
        objective: What is balanced.
        policy: Name of the planning policy.
        since: Start of the time window of the evidence.
        until: End of it, exclusive.
        limits: What the planner was allowed.
        atoms: Number of keys or buckets that had load; `atom_kind` says which.
        atom_kind: `key` or `bucket`.
        total_load: Sum over all routes.
        bottleneck: Before, after, and the bounds.
        max_share_before: Heaviest route's share of the total now.
        max_share_after: The same after all actions: the forecast.
        backtest: How such a forecast fared within the window; None where there was none.
        pareto: (splits, bottleneck) for every number of splits that buys something.
        actions: In order.
        routes_before: Ascending by start.
        routes_after: Ascending by start.
        declined: Routes left alone, with the reason.
        unsplittable: Atoms heavier than total_load over the number of routes after, heaviest
            first.
        certificate: Proof of `bottleneck.after`, `optimum`, checked by `planner.verifier`.
        evidence: How to compute the loads anew.
        schema: Version of the document.
        threshold_per_minute: Rate from which on a route counts as hot; None where none is known.
        robust: What planning against drift did; None for another policy.
        backtest_exact: The back-test of `exact` planning beside a robust plan's own.
        isolated: Hot keys that get a route of their own.
        placement: Where the routes go; None where they were not to be placed.
        findings: What the sum over the window does not tell.
        drift: What is done about load that moves; None where it does not, and for `exact`.
        given: What it was made from; None in documents of before 2026-11-21.
    """

    cluster: str
    catalog_version: int
    objective: Objective
    policy: str
    since: datetime
    until: datetime
    limits: Limits
    atoms: int
    atom_kind: str
    total_load: int
    bottleneck: Bottleneck
    max_share_before: float
    max_share_after: float
    backtest: Backtest | None
    pareto: tuple[tuple[int, int], ...]
    actions: tuple[Action, ...]
    routes_before: tuple[RouteLoad, ...]
    routes_after: tuple[RouteLoad, ...]
    declined: tuple[Declined, ...]
    unsplittable: tuple[HeavyAtom, ...]
    certificate: Mapping[str, Any]
    evidence: EvidenceQuery
    schema: str = PLAN_SCHEMA
    threshold_per_minute: float | None = None
    robust: Robust | None = None
    backtest_exact: Backtest | None = None
    isolated: tuple[Isolated, ...] = ()
    placement: Placement | None = None
    findings: tuple[Finding, ...] = ()
    drift: Drifted | None = None
    given: Given | None = None

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the canonical JSON of the content, hex."""
        return hash_of(plan_content(self))

    @property
    def plan_id(self) -> str:
        """The first digits of the content hash."""
        return self.content_hash[:PLAN_ID_DIGITS]


def hash_of(content: Mapping[str, Any]) -> str:
    """Return SHA-256 of canonical JSON: keys sorted, no white space, ASCII."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return the document as JSON values, with `plan_id` and `content_hash`."""
    content = plan_content(plan)
    return {
        "schema": content.pop("schema"),
        "plan_id": plan.plan_id,
        "content_hash": plan.content_hash,
        **content,
    }


def plan_content(plan: Plan) -> dict[str, Any]:
    """Return what the content hash covers, as JSON values."""
    marks = plan.bottleneck
    content: dict[str, Any] = {
        "schema": plan.schema,
        "cluster": plan.cluster,
        "catalog_version": plan.catalog_version,
        "objective": plan.objective.name,
        "weights": weights_to_json(plan.objective),
        "policy": plan.policy,
        "window": {"from": rfc3339(plan.since), "to": rfc3339(plan.until)},
        "limits": {
            "max_splits": plan.limits.max_splits,
            "min_gain": plan.limits.min_gain,
            "only_hot": plan.limits.only_hot,
            "fixed_routes": list(plan.limits.fixed_routes),
        },
        "atoms": plan.atoms,
        "atom_kind": plan.atom_kind,
        "total_load": plan.total_load,
        "bottleneck": {
            "before": marks.before,
            "after": marks.after,
            "optimum": marks.optimum,
            "lower_bound": marks.lower_bound,
            "resolution": {"low": marks.resolution_low, "high": marks.resolution_high},
        },
        "forecast": {
            "max_share_before": plan.max_share_before,
            "max_share_after": plan.max_share_after,
            "backtest": backtest_to_json(plan.backtest),
        },
        "pareto": [
            {"splits": splits, "bottleneck": bottleneck} for splits, bottleneck in plan.pareto
        ],
        "actions": [_action_to_json(action) for action in plan.actions],
        "routes_before": [_route_to_json(route) for route in plan.routes_before],
        "routes_after": [_route_to_json(route) for route in plan.routes_after],
        "declined": [{"route_id": each.route_id, "reason": each.reason} for each in plan.declined],
        "unsplittable": [{"key": atom.key.hex(), "load": atom.load} for atom in plan.unsplittable],
        "certificate": dict(plan.certificate),
        "evidence": {
            "query": plan.evidence.name,
            "dataset": plan.evidence.dataset,
            "parameters": dict(plan.evidence.parameters),
            "sql": plan.evidence.sql,
            **({"figures": dict(plan.evidence.figures)} if plan.evidence.figures else {}),
        },
    }
    if plan.schema != PLAN_SCHEMA_1:
        _add_later_parts(content, plan)
    return content


def _add_later_parts(content: dict[str, Any], plan: Plan) -> None:
    """Add what a document of version 1 does not have."""
    limits = plan.limits
    content["limits"] |= {
        "max_routes": limits.max_routes,
        "min_span_load": limits.min_span_load,
        "forbidden": [span_to_json(span) for span in limits.forbidden],
        "boundaries": boundaries_to_json(limits.boundaries),
        "groups": [{"group": each.group, "weight": each.weight} for each in limits.groups],
        "max_bytes_moved": limits.max_bytes_moved,
    }
    content["forecast"]["backtest_exact"] = backtest_to_json(plan.backtest_exact)
    content |= {
        "threshold_per_minute": plan.threshold_per_minute,
        "robust": robust_to_json(plan.robust),
        "isolated": [
            {"key": each.key.hex(), "load": each.load, "route_load": each.route_load}
            for each in plan.isolated
        ],
        "placement": placement_to_json(plan.placement),
        "findings": [
            {"kind": each.kind, "text": each.text, "windows": list(each.windows)}
            for each in plan.findings
        ],
        **given_to_json(plan.given),
    }
    if plan.drift is not None:  # absent where nothing moves
        content["drift"] = drifted_to_json(plan.drift)


def plan_from_json(document: Mapping[str, Any], where: str) -> Plan:
    """Return the plan in a JSON document read from `where`.

    Raises:
        InvalidInput: the document is no plan, or of another version.
        Corruption: its content does not give the hash it carries.
    """
    known = (PLAN_SCHEMA, PLAN_SCHEMA_1)
    if not isinstance(document, dict) or document.get("schema") not in known:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise InvalidInput(
            f"{where} is not a plan of schema {PLAN_SCHEMA!r}: it says {found!r}",
            code="plan_schema_unknown",
            hint="make a plan with `workbench plan --out FILE`",
        )
    carried = document.get("content_hash")
    if not isinstance(carried, str):
        raise InvalidInput(
            f"{where} carries no content hash",
            code="plan_field_invalid",
            hint="make a plan with `workbench plan --out FILE`; plans are not written by hand",
        )
    content = {k: v for k, v in document.items() if k not in {"plan_id", "content_hash"}}
    computed = hash_of(content)
    if carried != computed or document.get("plan_id") != computed[:PLAN_ID_DIGITS]:
        raise Corruption(
            f"{where} carries the content hash {carried[:PLAN_ID_DIGITS]}…, "
            f"its content gives {computed[:PLAN_ID_DIGITS]}…",
            code="plan_hash_mismatch",
            hint="the plan was changed after it was made; make it anew with `workbench plan`",
        )
    try:
        plan = _from_content(content)
        return plan if plan.schema == PLAN_SCHEMA_1 else _with_later_parts(plan, content)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"{where} is a plan with a missing or wrong field: {error!r}",
            code="plan_field_invalid",
            hint="docs/formats/plan.md lists the fields",
        ) from error


def _from_content(content: Mapping[str, Any]) -> Plan:
    marks, forecast, evidence = content["bottleneck"], content["forecast"], content["evidence"]
    limits, window = content["limits"], content["window"]
    return Plan(
        cluster=content["cluster"],
        catalog_version=content["catalog_version"],
        objective=objective_from_json(content["objective"], content["weights"]),
        policy=content["policy"],
        since=parse_time(window["from"]),
        until=parse_time(window["to"]),
        limits=Limits(
            limits["max_splits"],
            limits["min_gain"],
            limits["only_hot"],
            tuple(limits["fixed_routes"]),
        ),
        atoms=content["atoms"],
        atom_kind=content["atom_kind"],
        total_load=content["total_load"],
        bottleneck=Bottleneck(
            before=marks["before"],
            after=marks["after"],
            optimum=marks["optimum"],
            lower_bound=marks["lower_bound"],
            resolution_low=marks["resolution"]["low"],
            resolution_high=marks["resolution"]["high"],
        ),
        max_share_before=forecast["max_share_before"],
        max_share_after=forecast["max_share_after"],
        backtest=backtest_from_json(forecast["backtest"]),
        pareto=tuple((each["splits"], each["bottleneck"]) for each in content["pareto"]),
        actions=tuple(_action_from_json(each) for each in content["actions"]),
        routes_before=tuple(_route_from_json(each) for each in content["routes_before"]),
        routes_after=tuple(_route_from_json(each) for each in content["routes_after"]),
        declined=tuple(Declined(each["route_id"], each["reason"]) for each in content["declined"]),
        unsplittable=tuple(
            HeavyAtom(bytes.fromhex(each["key"]), each["load"]) for each in content["unsplittable"]
        ),
        certificate=content["certificate"],
        evidence=EvidenceQuery(
            name=evidence["query"],
            dataset=evidence["dataset"],
            parameters=evidence["parameters"],
            sql=evidence["sql"],
            figures=evidence.get("figures", {}),
        ),
        schema=content["schema"],
    )


def _with_later_parts(plan: Plan, content: Mapping[str, Any]) -> Plan:
    """Return the plan with what a document of version 1 does not have."""
    limits = content["limits"]
    return replace(
        plan,
        limits=replace(
            plan.limits,
            max_routes=limits["max_routes"],
            min_span_load=limits["min_span_load"],
            forbidden=tuple(span_from_json(span) for span in limits["forbidden"]),
            boundaries=boundaries_from_json(limits["boundaries"]),
            groups=tuple(GroupWeight(**each) for each in limits["groups"]),
            max_bytes_moved=limits["max_bytes_moved"],
        ),
        threshold_per_minute=content["threshold_per_minute"],
        robust=robust_from_json(content["robust"]),
        backtest_exact=backtest_from_json(content["forecast"]["backtest_exact"]),
        isolated=tuple(
            Isolated(bytes.fromhex(each["key"]), each["load"], each["route_load"])
            for each in content["isolated"]
        ),
        placement=placement_from_json(content["placement"]),
        findings=tuple(
            Finding(each["kind"], each["text"], tuple(each["windows"]))
            for each in content["findings"]
        ),
        drift=drifted_from_json(content["drift"]) if "drift" in content else None,
        given=given_from_json(content.get("given")),
    )


def _route_to_json(route: RouteLoad) -> dict[str, Any]:
    return {**span_to_json(route.span), "group": route.group, "load": route.load}


def _route_from_json(value: Mapping[str, Any]) -> RouteLoad:
    return RouteLoad(span_from_json(value), value["group"], value["load"])


def _action_to_json(action: Action) -> dict[str, Any]:
    evidence = action.evidence
    return {
        "id": action.action_id,
        "kind": action.kind.value,
        "route_id": action.route_id,
        **span_to_json(action.span),
        "split_key": action.split_key.hex(),
        "target_group": action.target_group,
        "expected_version": action.expected_version,
        "rows_moved": action.rows_moved,
        "bytes_moved": action.bytes_moved,
        "reasons": list(action.reasons),
        "evidence": {
            "parent_load": evidence.parent_load,
            "left_load": evidence.left_load,
            "right_load": evidence.right_load,
            "bottleneck_before": evidence.bottleneck_before,
            "bottleneck_after": evidence.bottleneck_after,
        },
    }


def _action_from_json(value: Mapping[str, Any]) -> Action:
    evidence = value["evidence"]
    return Action(
        action_id=value["id"],
        kind=ActionKind(value["kind"]),
        route_id=value["route_id"],
        span=span_from_json(value),
        split_key=bytes.fromhex(value["split_key"]),
        target_group=value["target_group"],
        expected_version=value["expected_version"],
        rows_moved=value["rows_moved"],
        bytes_moved=value["bytes_moved"],
        reasons=tuple(value["reasons"]),
        evidence=Evidence(**evidence),
    )
