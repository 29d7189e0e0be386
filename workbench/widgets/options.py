"""How a desk looks and plans: values, as `workbench plan` takes them."""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench.model.plan import OBJECTIVES, Limits, Objective
from workbench.planner.detect import Rule
from workbench.session.planning import DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class DeskOptions:
    """How to look and plan.

    Attributes:
        since: Start of the time, as the command line takes it; None from the first window.
        until: End of it; None to the last.
        objective: What counts as load.
        rule: Detection's thresholds.
        limits: What the planner may do.
        policy: `robust` or `exact`.
    """

    since: str | None = None
    until: str | None = None
    objective: Objective = OBJECTIVES["score"]
    rule: Rule = field(default_factory=Rule)
    limits: Limits = field(default_factory=lambda: Limits(max_splits=10, min_gain=0.05))
    policy: str = DEFAULT_POLICY
