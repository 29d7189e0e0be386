"""What simulated writers do to a catalog, and what each of them means by it.

An action is a function of a Hand (a writer with its open catalog). It tells the auditor what its
record must do to each dataset, then calls the catalog as any caller would. Values are unique, so
that rows tell which action brought them.

| action | what its record must do |
|---|---|
| `append` | add one value to what was there, in every dataset that it names |
| `append_expected` | likewise, and only on as many rows as were seen |
| `replace` | leave one value |
| `create` | a dataset that was absent |
| `register` | name objects that were put before, all of the batch or none |
| `register_other` | nothing: another fingerprint is a conflict |
| `register_again` | nothing that is registered already |
| `read`, `refresh`, `reopen` | nothing; they check what is served |

Datasets `t/…` hold tables, `r/…` objects of other programs.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Protocol

import pyarrow as pa

from workbench.catalog.commit import REFUSALS
from workbench.catalog.values import Registered, Registration, Write
from workbench.errors import OutcomeUnknown, Storage, WorkbenchError
from workbench.model.manifest import ObjectRef
from workbench.sim.catalog_auditor import Auditor, Held, Intent, Violation
from workbench.sim.object_store import Crash

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from workbench.catalog.catalog import Catalog
    from workbench.ports.object_store import ObjectStore

TABLES: Final = ("t/a", "t/b", "t/c")
TIMED: Final = ("w/a", "w/b")
RAWS: Final = ("r/a", "r/b", "r/c")
FINGERPRINT: Final = "raw"


class Hand(Protocol):
    """A writer at work."""

    @property
    def name(self) -> str:
        """Of the writer, over all its lives."""
        ...

    @property
    def random(self) -> random.Random:
        """Its own chance."""
        ...

    @property
    def tables(self) -> Sequence[str]:
        """Names of tables in this schedule."""
        ...

    @property
    def timed(self) -> Sequence[str]:
        """Names of tables with a time column in this schedule."""
        ...

    @property
    def auditor(self) -> Auditor:
        """Who watches."""
        ...

    @property
    def catalog(self) -> Catalog:
        """Its open catalog."""
        ...

    @property
    def store(self) -> ObjectStore:
        """The store as this writer sees it."""
        ...

    def number(self) -> int:
        """Return a number that nobody else gets."""
        ...

    def reopen(self) -> None:
        """Open the catalog anew."""
        ...


def append(hand: Hand) -> None:
    """Append one value to some tables."""
    value, names = hand.number(), _some(hand, hand.tables)

    def check(_: str, before: Held | None, after: Held | None) -> str | None:
        return adds(hand, before, after, value)

    writes = [Write(name, _table(value), "append", {"op": str(value)}) for name in names]
    _commit(hand, Intent(value, hand.name, "append", tuple(names), check), writes)


def append_expected(hand: Hand) -> None:
    """Append one value to a table, if it has as many rows as this writer knows of."""
    value, name = hand.number(), hand.random.choice(hand.tables)
    rows = next((m.row_count or 0 for m in hand.catalog.list() if m.name == name), 0)

    def check(_: str, before: Held | None, after: Held | None) -> str | None:
        found = 0 if before is None else before.row_count
        if found != rows:
            return f"builds on {rows} rows, there were {found}"
        return adds(hand, before, after, value)

    write = Write(name, _table(value), "append", {"op": str(value)}, expected_rows=rows)
    _commit(hand, Intent(value, hand.name, "append_expected", (name,), check), [write])


def replace(hand: Hand) -> None:
    """Put one value in the place of what some tables hold."""
    value, names = hand.number(), _some(hand, hand.tables)
    writes = [Write(name, _table(value), "replace", {"op": str(value)}) for name in names]
    intent = Intent(value, hand.name, "replace", tuple(names), _only(hand, value))
    _commit(hand, intent, writes)


def create(hand: Hand) -> None:
    """Create a table under one of few names."""
    value = hand.number()
    name = f"t/new-{hand.random.randrange(4)}"

    def check(at: str, before: Held | None, after: Held | None) -> str | None:
        return "was there" if before is not None else _only(hand, value)(at, before, after)

    write = Write(name, _table(value), "create", {"op": str(value)})
    _commit(hand, Intent(value, hand.name, "create", (name,), check), [write])


def register(hand: Hand) -> None:
    """Put some objects, then register them as one batch."""
    value, names = hand.number(), _some(hand, RAWS)
    batch = [
        Registration(n, FINGERPRINT, (_raw(hand, n, value),), 1, {"op": str(value)}) for n in names
    ]
    intent = Intent(value, hand.name, "register", tuple(names), _only(hand, value))
    run_commit(hand, intent, lambda: hand.catalog.register(batch))


def register_other(hand: Hand) -> None:
    """Register a batch of which one has another fingerprint: a conflict, where it is there."""
    value, name = hand.number(), hand.random.choice(RAWS)
    fresh = f"r/never-{value}"

    def check(at: str, before: Held | None, _: Held | None) -> str | None:
        return f"{at} was there" if before is not None else "was committed nevertheless"

    if all(manifest.name != name for manifest in hand.catalog.list(name)):
        return
    batch = [Registration(fresh, FINGERPRINT, ()), Registration(name, "other", ())]
    intent = Intent(value, hand.name, "register_other", (fresh, name), check)
    run_commit(hand, intent, lambda: hand.catalog.register(batch))


def register_again(hand: Hand) -> None:
    """Register what this writer knows to be registered."""
    value = hand.number()
    known = hand.catalog.list("r/")
    if not known:
        return
    batch = [
        Registration(m.name, m.schema_fingerprint, m.objects, m.row_count, m.properties)
        for m in known
    ]
    wanted = {registration.name: registration for registration in batch}

    def check(name: str, before: Held | None, after: Held | None) -> str | None:
        if after is None or after.objects != wanted[name].objects:
            return "is not what was registered"
        same = before is not None and (before.objects, before.properties, before.row_count) == (
            after.objects,
            after.properties,
            after.row_count,
        )
        return "was written although it held" if same else None

    intent = Intent(value, hand.name, "register_again", tuple(wanted), check, partial=True)
    run_commit(hand, intent, lambda: hand.catalog.register(batch))


def read(hand: Hand) -> None:
    """Read a table whole; what comes is what the served state says."""
    held = [manifest for manifest in hand.catalog.list("t/") if manifest.objects]
    if not held:
        return
    manifest = hand.random.choice(held)
    wanted = hand.auditor.values_of(manifest.objects)
    try:
        found = hand.catalog.read(manifest.name)["n"].to_pylist()
    except WorkbenchError:
        return
    if found != wanted:
        raise Violation(f"{hand.name} reads {found} from {manifest.name}, which holds {wanted}")


def refresh(hand: Hand) -> None:
    """Read what others committed; nothing that was acknowledged before is missing then."""
    before = hand.auditor.head
    try:
        found = hand.catalog.refresh()
    except WorkbenchError:
        return
    if found < before:
        raise Violation(f"{hand.name} refreshed to {found}, record {before} was there before")


def reopen(hand: Hand) -> None:
    """Open the catalog anew."""
    hand.reopen()


# Each with its weight.
ACTIONS: Final[dict[str, tuple[Callable[[Hand], None], int]]] = {
    "append": (append, 6),
    "append_expected": (append_expected, 2),
    "replace": (replace, 2),
    "create": (create, 1),
    "register": (register, 4),
    "register_other": (register_other, 1),
    "register_again": (register_again, 1),
    "read": (read, 2),
    "refresh": (refresh, 2),
    "reopen": (reopen, 1),
}


def _commit(hand: Hand, intent: Intent, writes: Sequence[Write]) -> None:
    run_commit(hand, intent, lambda: hand.catalog.commit(writes))


def run_commit(hand: Hand, intent: Intent, call: Callable[[], Sequence[Registered]]) -> None:
    """Make a call that commits once, and check what it was answered."""
    answers: list[Registered] = []

    def run() -> None:
        answers.extend(call())
        hand.auditor.answered(intent, hand.catalog, answers)

    attempt(hand, intent, run)


def attempt(hand: Hand, intent: Intent, run: Callable[[], None]) -> None:
    """Do what an intent means, and tell the auditor how it ended."""
    auditor = hand.auditor
    auditor.begin(intent)
    try:
        run()
    except OutcomeUnknown:
        auditor.end(hand.name, "unknown")
    except Crash:
        auditor.end(hand.name, "unknown")
        raise
    except WorkbenchError as error:
        sure = not isinstance(error, Storage) or error.code in REFUSALS
        auditor.end(hand.name, "failed" if sure else "unknown")
    else:
        auditor.end(hand.name, "acknowledged")


def _raw(hand: Hand, name: str, value: int) -> ObjectRef:
    """Put an object as another program would; NotFound and the like end the action."""
    data = str(value).encode()
    key = f"raw/{name}-{value}"
    hand.store.put_if_absent(key, data)
    hashed = hashlib.sha256(data).hexdigest() if value % 2 else None
    return ObjectRef(key, len(data), hashed)


def adds(hand: Hand, before: Held | None, after: Held | None, value: int) -> str | None:
    """Say what is wrong where a dataset does not hold one value more than before."""
    old = [] if before is None else hand.auditor.values_of(before.objects)
    if after is None:
        return "is gone"
    new = hand.auditor.values_of(after.objects)
    if new != [*old, value]:
        return f"an append was lost: {value} on top of {old} gave {new}"
    return None if after.row_count == len(new) else f"has {after.row_count} rows, not {len(new)}"


def _only(hand: Hand, value: int) -> Callable[[str, Held | None, Held | None], str | None]:
    def check(_: str, __: Held | None, after: Held | None) -> str | None:
        found = [] if after is None else hand.auditor.values_of(after.objects)
        return None if found == [value] else f"should hold {value}, and holds {found}"

    return check


def _some(hand: Hand, names: Sequence[str]) -> list[str]:
    return hand.random.sample(names, min(hand.random.choice((1, 1, 2, 3)), len(names)))


def _table(value: int) -> pa.Table:
    return pa.table({"n": pa.array([value], pa.uint64())})
