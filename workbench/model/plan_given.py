"""What a plan was made from besides load and limits, so that anybody can make it again.

    view ──▶ Given ──┬─ routes: id, state, last split, certainty of their load
                     ├─ detection's rule, length of a window
                     └─ whether a back-test was asked for, why nothing could be moved

It came with plans of 2026-11-21; documents of before have none. Not here: how a plan is made
from it (`session.planning`), and what differs then (`session.remaking`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class EvidenceCertainty(StrEnum):
    """How well the load of a route is known over the whole of a plan's window.

    certain  each access was recorded; or each window was measured in full, and counted with an
             error bound of at most a twentieth of it
    likely   anything less: a window is missing, was measured in part, or counted more roughly
    """

    CERTAIN = "certain"
    LIKELY = "likely"


@dataclass(frozen=True, slots=True)
class GivenRoute:
    """A route as the plan found it, beside its span and group.

    Attributes:
        route_id: As numbered then.
        state: Its state.
        split_at_hlc: When it was split off; 0 for never.
        certainty: How well its load is known.
    """

    route_id: int
    state: str
    split_at_hlc: int
    certainty: EvidenceCertainty


@dataclass(frozen=True, slots=True)
class Given:
    """What a plan was made from.

    Attributes:
        routes: In the order of `routes_before`.
        threshold_per_minute: Of detection's rule; None where none was known.
        windows_hot: Of the same rule.
        cooldown_ms: Of the same rule.
        window_ms: Length of the load's shortest window.
        backtest: Whether a back-test was asked for.
        no_moves: Why the system could not make a move; empty where it can, or is not known.
        asked: The objective that was asked for; another than the plan's where that was nowhere
            measured.
    """

    routes: tuple[GivenRoute, ...]
    threshold_per_minute: float | None
    windows_hot: int
    cooldown_ms: int
    window_ms: int
    backtest: bool
    no_moves: str
    asked: str


def given_to_json(given: Given | None) -> dict[str, Any]:
    """Return the JSON form as a field of the document; no field where there is none."""
    if given is None:
        return {}
    return {
        "given": {
            "asked": given.asked,
            "backtest": given.backtest,
            "no_moves": given.no_moves,
            "window_ms": given.window_ms,
            "rule": {
                "threshold_per_minute": given.threshold_per_minute,
                "windows_hot": given.windows_hot,
                "cooldown_ms": given.cooldown_ms,
            },
            "routes": [
                {
                    "route_id": each.route_id,
                    "state": each.state,
                    "split_at_hlc": each.split_at_hlc,
                    "certainty": each.certainty.value,
                }
                for each in given.routes
            ],
        }
    }


def given_from_json(value: Mapping[str, Any] | None) -> Given | None:
    """Return what the JSON form says; None where the document has none."""
    if value is None:
        return None
    rule = value["rule"]
    return Given(
        routes=tuple(
            GivenRoute(
                each["route_id"],
                each["state"],
                each["split_at_hlc"],
                EvidenceCertainty(each["certainty"]),
            )
            for each in value["routes"]
        ),
        threshold_per_minute=rule["threshold_per_minute"],
        windows_hot=rule["windows_hot"],
        cooldown_ms=rule["cooldown_ms"],
        window_ms=value["window_ms"],
        backtest=value["backtest"],
        no_moves=value["no_moves"],
        asked=value["asked"],
    )
