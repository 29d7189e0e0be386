"""What upkeep stands on: one transaction after the other, on the newest state that is known.

    Keeper ── begin ──▶ Transaction ── commit(planner) ──▶ the next record
       └── state: the newest one, whatever came of it

`compact`, `expire` and `gc` plan on `state`, upload what they need under the transaction's uuid,
and commit. What was planned is checked again by the planner on top of whatever others committed
meanwhile; where it does not hold any more, they plan anew.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, TypeAlias

from workbench.catalog.chain import refresh
from workbench.catalog.commit import Transaction
from workbench.catalog.registry import Batch, Change, Removal, State, plan
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from workbench.model.manifest import Manifest
    from workbench.ports.object_store import ObjectStore
    from workbench.ports.system import Clock, Rng

# Others may change a dataset so often before upkeep leaves it for later.
ATTEMPTS_MAX: Final = 8
# How much is done and how much there is, in bytes or objects.
Told: TypeAlias = "Callable[[int, int], None]"


class Keeper:
    """The newest known state of a catalog, and how to write on top of it.

    Attributes:
        store: Of the catalog.
        state: The newest that is known.
        clock: For times and pauses.
        rng: For uuids and pauses.
        referred: Keys that records refer to which were read since the last refresh.
    """

    def __init__(
        self, store: ObjectStore, state: State, *, clock: Clock, rng: Rng, writer: str
    ) -> None:
        self.store = store
        self.state = state
        self.clock = clock
        self.rng = rng
        self.writer = writer
        self.referred: set[str] = set()

    def refresh(self) -> State:
        """Read what others committed; `referred` begins anew from here."""
        self.state, _ = refresh(self.store, self.state)
        self.referred.clear()
        return self.state

    def is_overtaken(self, manifest: Manifest) -> bool:
        """Read anew; tell whether the dataset has other objects than these by now."""
        newer = self.refresh().get(manifest.name)
        return newer is None or newer.objects != manifest.objects

    def begin(self) -> Transaction:
        """Return a transaction, whose uuid names what is uploaded for it."""
        return Transaction(
            self.store, self.state, clock=self.clock, rng=self.rng, writer=self.writer
        )

    def commit(self, transaction: Transaction, planner: Callable[[State], Batch]) -> Batch:
        """Commit; the state is the newest that was seen, also where this raises."""
        try:
            return transaction.run(planner, _nothing)
        finally:
            self.state = transaction.state
            self.referred |= transaction.referred

    def change(self, transaction: Transaction, changes: Sequence[Change | Removal]) -> Batch:
        """Commit these changes, or raise what `registry.plan` does."""
        return self.commit(transaction, lambda state: plan(state, changes, self.clock.now()))

    def discard(self, keys: Iterable[str]) -> None:
        """Remove uploads that no record can come to refer to, as far as the store lets us."""
        for key in keys:
            with contextlib.suppress(WorkbenchError):
                self.store.delete(key)


def remove(keeper: Keeper, names: Sequence[str]) -> list[Manifest]:
    """Take datasets out of the catalog, all in one record; return them as they were.

    Raises:
        NotFound: `dataset_absent`; nothing was removed.
    """
    batch = keeper.change(keeper.begin(), [Removal(name) for name in names])
    return [answer.manifest for answer in batch.answers]


def unheard(done: int, total: int) -> None:
    """Tell nobody."""


def _nothing(batch: Batch) -> None:
    """Upload nothing: it is there already."""
