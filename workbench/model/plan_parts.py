"""Parts of a plan: what limits its cuts, what drift costs it, where its routes go, what was seen.

They came with version 2 of the plan document; a plan of version 1 has none of them. Each part
knows its JSON form; `model.plan` puts them together. Loads are whole numbers in the objective's
unit, shrunk loads in the unit that `Robust` explains.

Not here: how any of it is computed (`planner`), or checked (`planner.verifier`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from workbench.model.keys import Span
from workbench.model.times import parse_time, rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Backtest:
    """The same planning on the first part of the window, replayed on the rest of it.

    How far load like this can be forecast. The plan itself saw all of the window.

    Attributes:
        split_at: Where the window was cut.
        splits: How many splits the first part asked for.
        max_share_without: Heaviest route's share of the rest on the routes as they are.
        max_share_forecast: What the first part promised.
        max_share_came: What the rest brought.
        drift: Share of the rest that came on other routes than forecast.
        cuts: Where the first part's plan cut, so that the shares can be computed anew; None in
            documents of before 2026-11-21, which did not tell.
    """

    split_at: datetime
    splits: int
    max_share_without: float
    max_share_forecast: float
    max_share_came: float
    drift: float
    cuts: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class Boundaries:
    """The only keys at which a route may be cut.

    Attributes:
        prefix_bytes: Keys of at most so many bytes, as where rows are aligned; None where they
            are listed.
        keys: The listed keys, ascending.
    """

    prefix_bytes: int | None = None
    keys: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupWeight:
    """A group that routes may be placed on; it should carry load in proportion to `weight`."""

    group: int
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Robust:
    """What planning against drift did, and what it costs on the recorded load.

    A block's shrunk load is (d - n) * keys * load + n * total * (keys in the block), with
    n / d = `shrink`: the recorded load, shrunk towards the footprint, in whole numbers.

    Attributes:
        shrink: n and d.
        keys: Keys or buckets that carried load: the footprint.
        total: Sum of all shrunk loads.
        bottleneck: Heaviest route by shrunk load after the plan, the least possible.
        shared: The heaviest route after the plan, by shrunk load, of those that another split
            could lower: with more than one block, and not fixed. At most this, and the least
            possible with as many splits.
        optimum: The least bottleneck on the recorded load that as many splits reach.
        price: By how much the plan's bottleneck is above it.
    """

    shrink: tuple[int, int]
    keys: int
    total: int
    bottleneck: int
    shared: int
    optimum: int
    price: int


@dataclass(frozen=True, slots=True)
class Isolated:
    """A hot key that gets a route of its own; see `planner.isolation` for the rule."""

    key: bytes
    load: int
    route_load: int


STORED_BYTES: Final = "stored_bytes"


@dataclass(frozen=True, slots=True)
class Stored:
    """What tells the bytes that routes store: an export of the cluster, as of `read_ts`."""

    export: str
    read_ts: int


class PlacementProof(StrEnum):
    """Why no placement has a lighter heaviest group.

    bound   the lower bound is reached
    search  all placements were tried; the verifier tries them again
    solver  a solver of integer programs says so; the verifier checks the lower bound only
    none    not proven: at most as far from the least as from the lower bound
    """

    BOUND = "bound"
    SEARCH = "search"
    SOLVER = "solver"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class GroupLoad:
    """A group's load before and after the plan; a group with weight 0 must be left."""

    group: int
    weight: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the routes go, and how good that is.

    Weighted loads are load * scale / weight; `scale` makes them whole.

    Attributes:
        groups: All groups that routes are on, before or after, and those they may go to.
        scale: Least common multiple of the weights.
        before: Heaviest weighted group on the routes after the splits, before any move; None
            where a route is on a group that must be left.
        after: Heaviest weighted group after the moves.
        lower_bound: Below which no placement within the limits can be.
        proof: Why `after` is least, if it is known to be.
        unit: `stored_bytes`; `load` where what the routes store is not known, which says nothing
            of bytes; `bytes` in documents of before 2026-11-21: those read and written.
        moved: What changes group, in `unit`; no less where `proof` is `search`.
        pareto: (moved, heaviest weighted group): what less or more moving would reach.
        stored: Where stored bytes come from; None for another unit.
    """

    groups: tuple[GroupLoad, ...]
    scale: int
    before: int | None
    after: int
    lower_bound: int
    proof: PlacementProof
    unit: str
    moved: int
    pareto: tuple[tuple[int, int], ...]
    stored: Stored | None = None


class DriftKind(StrEnum):
    """How load moves within the window; also a kind of `Finding`.

    moving_front  each newest part of the window lies mostly beyond all keys seen before it
    cyclic        load comes back to the same keys and is elsewhere in between
    """

    MOVING_FRONT = "moving_front"
    CYCLIC = "cyclic"


@dataclass(frozen=True, slots=True)
class DriftPart:
    """A part of the window, and the load of all routes in it."""

    since: datetime
    until: datetime
    load: int


@dataclass(frozen=True, slots=True)
class Drifted:
    """What a plan does about load that moves; see `planner.drift` for the rules.

    Attributes:
        kind: How it moves.
        parts: Equal parts of the window, ascending. Of cyclic load, part i is of phase
            i modulo `period`, and each phase has equally many.
        period: How many phases cyclic load has; None for a front.
        worst_before: Heaviest route before the plan in any phase; None for a front.
        worst_after: The same after the plan, the least possible: `certificate.phases`.
        worst_of_sum: The same with `sum_cuts`.
        sum_cuts: Where the sum of the phases alone would have been cut; none for a front.
        tail: Where the front's route is cut; None where it is not, and for cyclic load.
        beyond: Of the newest parts, the load beyond every key seen before; none for cyclic load.
    """

    kind: DriftKind
    parts: tuple[DriftPart, ...]
    period: int | None = None
    worst_before: int | None = None
    worst_after: int | None = None
    worst_of_sum: int | None = None
    sum_cuts: tuple[bytes, ...] = ()
    tail: bytes | None = None
    beyond: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the load that its sum over the window does not tell.

    Attributes:
        kind: `moving_front`, `cyclic`, `hot_key`, `moves_declined`, or `not_looked_for`: what could
            not be told, and why, as a back-test without load in the second half.
        text: A sentence.
        windows: Starts of the windows that show it, RFC 3339; may be none.
    """

    kind: str
    text: str
    windows: tuple[str, ...] = ()


def backtest_to_json(backtest: Backtest | None) -> dict[str, Any] | None:
    """Return the JSON form; null where there was none."""
    if backtest is None:
        return None
    told = {} if backtest.cuts is None else {"cuts": [key.hex() for key in backtest.cuts]}
    return {
        **told,
        "split_at": rfc3339(backtest.split_at),
        "splits": backtest.splits,
        "max_share_without": backtest.max_share_without,
        "max_share_forecast": backtest.max_share_forecast,
        "max_share_came": backtest.max_share_came,
        "drift": backtest.drift,
    }


def backtest_from_json(value: Mapping[str, Any] | None) -> Backtest | None:
    """Return what the JSON form says."""
    if value is None:
        return None
    cuts = value.get("cuts")
    return Backtest(
        **{
            **value,
            "split_at": parse_time(value["split_at"]),
            "cuts": None if cuts is None else tuple(bytes.fromhex(key) for key in cuts),
        }
    )


def span_to_json(span: Span) -> dict[str, Any]:
    """Return a span's bounds as lowercase hex; null for no upper bound."""
    return {"start": span.start.hex(), "end": None if span.end is None else span.end.hex()}


def span_from_json(value: Mapping[str, Any]) -> Span:
    """Return the span of such bounds."""
    end = value["end"]
    return Span(bytes.fromhex(value["start"]), None if end is None else bytes.fromhex(end))


def boundaries_to_json(value: Boundaries | None) -> dict[str, Any] | None:
    """Return the JSON form; null where every key will do."""
    if value is None:
        return None
    return {"prefix_bytes": value.prefix_bytes, "keys": [key.hex() for key in value.keys]}


def boundaries_from_json(value: Mapping[str, Any] | None) -> Boundaries | None:
    """Return what the JSON form says."""
    if value is None:
        return None
    return Boundaries(value["prefix_bytes"], tuple(bytes.fromhex(key) for key in value["keys"]))


def robust_to_json(value: Robust | None) -> dict[str, Any] | None:
    """Return the JSON form; null for a plan by another policy."""
    if value is None:
        return None
    return {
        "shrink": list(value.shrink),
        "keys": value.keys,
        "total": value.total,
        "bottleneck": value.bottleneck,
        "shared": value.shared,
        "optimum": value.optimum,
        "price": value.price,
    }


def robust_from_json(value: Mapping[str, Any] | None) -> Robust | None:
    """Return what the JSON form says."""
    if value is None:
        return None
    numerator, denominator = value["shrink"]
    return Robust(**{**value, "shrink": (numerator, denominator)})


def placement_to_json(value: Placement | None) -> dict[str, Any] | None:
    """Return the JSON form; null where nothing was to be placed."""
    if value is None:
        return None
    told = {} if value.stored is None else {"stored": asdict(value.stored)}
    return {
        **told,
        "groups": [
            {"group": g.group, "weight": g.weight, "before": g.before, "after": g.after}
            for g in value.groups
        ],
        "scale": value.scale,
        "before": value.before,
        "after": value.after,
        "lower_bound": value.lower_bound,
        "proof": value.proof.value,
        "unit": value.unit,
        "moved": value.moved,
        "pareto": [{"moved": moved, "weighted": weighted} for moved, weighted in value.pareto],
    }


def placement_from_json(value: Mapping[str, Any] | None) -> Placement | None:
    """Return what the JSON form says."""
    if value is None:
        return None
    return Placement(
        **{
            **value,
            "groups": tuple(GroupLoad(**each) for each in value["groups"]),
            "proof": PlacementProof(value["proof"]),
            "pareto": tuple((each["moved"], each["weighted"]) for each in value["pareto"]),
            "stored": Stored(**value["stored"]) if "stored" in value else None,
        }
    )


def drifted_to_json(value: Drifted) -> dict[str, Any]:
    """Return the JSON form; a plan without it has no such field."""
    return {
        "kind": value.kind.value,
        "parts": [
            {"from": rfc3339(part.since), "to": rfc3339(part.until), "load": part.load}
            for part in value.parts
        ],
        "period": value.period,
        "worst_before": value.worst_before,
        "worst_after": value.worst_after,
        "worst_of_sum": value.worst_of_sum,
        "sum_cuts": [key.hex() for key in value.sum_cuts],
        "tail": None if value.tail is None else value.tail.hex(),
        "beyond": list(value.beyond),
    }


def drifted_from_json(value: Mapping[str, Any]) -> Drifted:
    """Return what the JSON form says."""
    return Drifted(
        **{
            **value,
            "kind": DriftKind(value["kind"]),
            "parts": tuple(
                DriftPart(parse_time(part["from"]), parse_time(part["to"]), part["load"])
                for part in value["parts"]
            ),
            "sum_cuts": tuple(bytes.fromhex(key) for key in value["sum_cuts"]),
            "tail": None if value["tail"] is None else bytes.fromhex(value["tail"]),
            "beyond": tuple(value["beyond"]),
        }
    )
