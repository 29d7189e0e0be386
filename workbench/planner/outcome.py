"""What later load says of a forecast: the one rule of `verify`, of back-tests and of policies.

    came >= without                                              failed
    came <= forecast                                             held
    came within the slack, and the load did not drift            held
    else                                                         short

The slack is FORECAST_SLACK of the forecast, or FALL_SLACK of the fall that was promised, whichever
is more: where a hottest route falls from 65.0% to 8.2% and 7.4% were promised, a tenth of the
forecast is less than what chance does to the few accesses left there, and hardly a fiftieth of the
fall is missing. It looks at shares alone, and does not say why a forecast failed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from workbench.model.plan_parts import Backtest

# The heaviest route may come out this much heavier than forecast, relative, and still hold.
FORECAST_SLACK: Final = 0.10
# So much of the promised fall may be missing, relative, and the forecast still holds.
FALL_SLACK: Final = 0.02
# Share of the total that sits on other routes than forecast, from which on we speak of drift.
DRIFT_SHARE: Final = 0.2


class Outcome(StrEnum):
    """What later load said of a plan.

    held    the heaviest route came no heavier than forecast, or within the slack without drift
    short   better than without the plan, and short of the forecast
    failed  the heaviest route is no lighter than without the plan
    """

    HELD = "held"
    SHORT = "short"
    FAILED = "failed"


def outcome_of(*, forecast: float, came: float, without: float, drift: float) -> Outcome:
    """Return what came of a forecast.

    Args:
        forecast: The heaviest route's share that was promised, 0 to 1.
        came: Its share on later load.
        without: What it would have been without the plan.
        drift: Share of the total that came on other routes than forecast.
    """
    if came >= without:
        return Outcome.FAILED
    if came <= forecast:
        return Outcome.HELD
    slack = max(FORECAST_SLACK * forecast, FALL_SLACK * (without - forecast))
    return Outcome.HELD if drift <= DRIFT_SHARE and came <= forecast + slack else Outcome.SHORT


def backtest_outcome(seen: Backtest) -> Outcome | None:
    """Return what a back-test said of its plan; None where that plan split nothing."""
    if not seen.splits:
        return None
    return outcome_of(
        forecast=seen.max_share_forecast,
        came=seen.max_share_came,
        without=seen.max_share_without,
        drift=seen.drift,
    )
