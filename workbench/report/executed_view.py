"""What was executed, for the page: one row per call that was made, and what it brought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.report import words
from workbench.report.tables import Column, Table, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class ExecutedCall:
    """One call that was made for a plan.

    Attributes:
        action_id: Of the plan's action.
        route_id: The route that was split.
        split_key: Where.
        children: Ids of the routes that came of it; empty where none did.
        catalog_version: After the call; None where it did not take effect.
        status: `applied`, `failed` or `stale`.
        at: When it was answered.
        seconds: How long it took.
        error: Why it did not take effect.
    """

    action_id: str
    route_id: int
    split_key: bytes
    children: tuple[int, ...]
    catalog_version: int | None
    status: str
    at: datetime
    seconds: float
    error: str | None


def executed_table(calls: Sequence[ExecutedCall]) -> Table | None:
    """Return the calls as a table, None where nothing was executed."""
    if not calls:
        return None
    rows = (
        (
            words.clean(call.action_id),
            str(call.route_id),
            words.key_text(call.split_key),
            " and ".join(str(child) for child in call.children),
            "" if call.catalog_version is None else str(call.catalog_version),
            words.clean(call.status if call.error is None else f"{call.status}: {call.error}"),
            words.instant(call.at),
            f"{1_000 * call.seconds:,.0f} ms",
            # A split inside a group moves nothing: no span is ever fenced, no read waits.
            "none",
            "none",
        )
        for call in calls
    )
    columns = (
        Column("Action"),
        Column("Route", "number"),
        Column("Split key", "key"),
        Column("Children"),
        Column("Catalog version", "number"),
        Column("Status"),
        Column("Answered"),
        Column("Took", "number"),
        Column("Fence"),
        Column("Read gap"),
    )
    return table("executed", "Calls that were made, in order", columns, rows)
