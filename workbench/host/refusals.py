"""Why a group of this node does not do what it was asked: each error with its code and hint."""

from __future__ import annotations

from workbench.errors import InvalidInput, OutcomeUnknown, Unavailable
from workbench.model.limits import CLIENT_CLOCK_AHEAD_MS_MAX
from workbench.model.times import hlc_ms


def leadership_lost(group: int) -> OutcomeUnknown:
    """Return the error of a command whose leader ceased to be one."""
    return OutcomeUnknown(
        f"this node lost the leadership of group {group} before the command was known to apply",
        code="leadership_lost",
        hint="it may still take effect: look, or repeat it with the same client id and sequence",
    )


def not_leader(group: int) -> Unavailable:
    """Return the error of a call to a node that does not lead."""
    return Unavailable(
        f"this node does not lead group {group}",
        code="not_leader",
        hint="nothing was done: ask the group's leader",
    )


def read_ts_ahead(read_ts: int, now_ms: int) -> InvalidInput:
    """Return the error of a read at a time that has not come yet."""
    return InvalidInput(
        f"read_ts {read_ts} lies {hlc_ms(read_ts) - now_ms} ms ahead of the leader's clock, more "
        f"than {CLIENT_CLOCK_AHEAD_MS_MAX}",
        code="read_ts_ahead",
        hint="leave read_ts (--read-ts) out to read the latest, or check the client's clock",
    )
