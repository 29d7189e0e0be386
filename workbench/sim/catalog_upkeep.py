"""What simulated writers do to keep a catalog small: compact, expire, remove, collect, look back.

| action | what its records must do |
|---|---|
| `compact_one` | hold the same rows in fewer objects |
| `expire_one` | drop the rows before a cutoff, and no other |
| `remove_one` | take one dataset out |
| `collect_all` | nothing to any dataset; the auditor watches what is deleted |
| `look_back` | nothing; what is served is the state of that sequence |

Datasets `w/…` have a time column: the row of value `v` is `v` times three hours after the start.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from workbench.catalog.compact import compact
from workbench.catalog.expire import expire
from workbench.catalog.gc import GRACE_MIN, collect
from workbench.catalog.upkeep import remove
from workbench.catalog.values import Write
from workbench.errors import WorkbenchError
from workbench.sim.catalog_actions import (
    Hand,
    adds,
    append,
    append_expected,
    attempt,
    read,
    register,
    reopen,
    replace,
    run_commit,
)
from workbench.sim.catalog_auditor import Held, Intent, Violation, held_of
from workbench.sim.scheduler import START

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

STEP: Final = timedelta(hours=3)
KEEPS: Final = (timedelta(0), timedelta(0), timedelta(hours=6), timedelta(hours=48))
GRACES: Final = (GRACE_MIN, timedelta(hours=24))
SMALL_BYTES: Final = 64 * 1024


def append_timed(hand: Hand) -> None:
    """Append one value to a dataset with a time column."""
    value, name = hand.number(), hand.random.choice(hand.timed)

    def check(_: str, before: Held | None, after: Held | None) -> str | None:
        return adds(hand, before, after, value)

    table = pa.table(
        {
            "n": pa.array([value], pa.uint64()),
            "at": pa.array([_time_of(value)], pa.timestamp("us", "UTC")),
        }
    )
    write = Write(name, table, "append", {"op": str(value)}, time_column="at")
    intent = Intent(value, hand.name, "append_timed", (name,), check)
    run_commit(hand, intent, lambda: hand.catalog.commit([write]))


def compact_one(hand: Hand) -> None:
    """Merge the small objects of a dataset."""
    value, name = hand.number(), hand.random.choice((*hand.tables, *hand.timed))

    def check(_: str, before: Held | None, after: Held | None) -> str | None:
        if before is None or after is None:
            return "came or went"
        old = hand.auditor.values_of(before.objects)
        new = hand.auditor.values_of(after.objects)
        # Days stay apart where there is a time column, so rows may change places.
        same = sorted(old) == sorted(new) if name in hand.timed else old == new
        if not same or before.row_count != after.row_count:
            return f"was {old}, is {new}"
        fewer = len(after.objects) < len(before.objects)
        return None if fewer else "has as many objects as before"

    intent = Intent(value, hand.name, "compact", (name,), check, many=True)

    def run() -> None:
        with hand.catalog.keeping() as keeper:
            compact(keeper, name, target_bytes=SMALL_BYTES)

    attempt(hand, intent, run)


def expire_one(hand: Hand) -> None:
    """Drop the rows of a dataset that are older than one of its values."""
    value, name = hand.number(), hand.random.choice(hand.timed)
    kept_from = hand.random.randrange(value)

    def check(_: str, before: Held | None, after: Held | None) -> str | None:
        if before is None or after is None:
            return "came or went"
        old = hand.auditor.values_of(before.objects)
        new = hand.auditor.values_of(after.objects)
        wanted = sorted(each for each in old if each >= kept_from)
        if sorted(new) != wanted or after.row_count != len(wanted):
            return f"from {kept_from} on, {old} became {new}, {after.row_count} rows"
        return None

    intent = Intent(value, hand.name, "expire", (name,), check)

    def run() -> None:
        with hand.catalog.keeping() as keeper:
            done = expire(keeper, name, _time_of(kept_from))
        if len(intent.seqs) != (not done.empty):
            raise Violation(f"{intent} answered {done}, its records are {intent.seqs}")

    attempt(hand, intent, run)


def remove_one(hand: Hand) -> None:
    """Take a dataset out of the catalog."""
    value, name = hand.number(), hand.random.choice((*hand.tables, *hand.timed, "t/new-0"))

    def check(_: str, before: Held | None, after: Held | None) -> str | None:
        return "was not taken out" if before is None or after is not None else None

    intent = Intent(value, hand.name, "remove", (name,), check)

    def run() -> None:
        with hand.catalog.keeping() as keeper:
            remove(keeper, [name])
        if len(intent.seqs) != 1:
            raise Violation(f"{intent} was acknowledged, its records are {intent.seqs}")

    attempt(hand, intent, run)


def collect_all(hand: Hand) -> None:
    """Collect garbage."""
    keep, grace = hand.random.choice(KEEPS), hand.random.choice(GRACES)
    intent = Intent(hand.number(), hand.name, "gc", (), nothing, many=True)

    def run() -> None:
        with hand.catalog.keeping() as keeper:
            collect(keeper, keep=keep, grace=grace)

    attempt(hand, intent, run)


def look_back(hand: Hand) -> None:
    """See the catalog as it was at some sequence."""
    seq = hand.random.randint(0, hand.catalog.seq)
    try:
        view = hand.catalog.at(seq)
    except WorkbenchError as error:
        # The floor may have risen meanwhile; it never falls.
        if error.code == "history_trimmed" and seq >= hand.auditor.floor:
            raise Violation(f"{hand.name} cannot see {seq}: {error.message}") from error
        return
    found = {manifest.name: held_of(manifest) for manifest in view.list()}
    if view.seq != seq or found != hand.auditor.states[seq]:
        raise Violation(f"{hand.name} sees at {seq} {sorted(found)}")


# Each with its weight.
UPKEEP: Final[dict[str, tuple[Callable[[Hand], None], int]]] = {
    "append": (append, 6),
    "append_expected": (append_expected, 1),
    "append_timed": (append_timed, 5),
    "replace": (replace, 1),
    "register": (register, 1),
    "compact": (compact_one, 5),
    "expire": (expire_one, 3),
    "remove": (remove_one, 1),
    "gc": (collect_all, 9),
    "look_back": (look_back, 3),
    "read": (read, 2),
    "reopen": (reopen, 1),
}


def nothing(name: str, _: Held | None, __: Held | None) -> str | None:
    """Say of every change that it is wrong."""
    return f"changes {name}"


def _time_of(value: int) -> datetime:
    return START + STEP * value
