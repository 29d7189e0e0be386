"""Parts of a plan: what limits its cuts, what drift costs it, where its routes go, what was seen.

They came with version 2 of the plan document; a plan of version 1 has none of them. Each part
knows its JSON form; `model.plan` puts them together. Loads are whole numbers in the objective's
unit, shrunk loads in the unit that `Robust` explains.

Not here: how any of it is computed (`planner`), or checked (`planner.verifier`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

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
    """

    split_at: datetime
    splits: int
    max_share_without: float
    max_share_forecast: float
    max_share_came: float
    drift: float


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
        unit: `bytes`, or `load` where bytes were not measured and load stands for them.
        moved: What changes group, in `unit`; no less where `proof` is `search`.
        pareto: (moved, heaviest weighted group): what less or more moving would reach.
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


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the load that its sum over the window does not tell.

    Attributes:
        kind: `moving_front`, `cyclic`, or `hot_key`.
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
    return {
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
    return Backtest(**{**value, "split_at": parse_time(value["split_at"])})


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
    return {
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
        }
    )
