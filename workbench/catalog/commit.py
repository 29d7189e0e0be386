"""The commit loop: one atomic batch becomes the next record, or nothing happens.

    catch up ──> plan ──> prepare (upload) ──> put-if-absent log/seq+1 ──> done
       ^                                             │
       └── pause ── lost, or nobody knows ───────────┘

- Catching up reads what others committed. If our own transaction uuid is among it, an earlier
  offer of ours landed although its answer was lost or said otherwise: done.
- A lost race: read the winners, plan again on top of them, offer under the next number. The
  planner is asked anew each time, so a conflict that a winner brought is raised.
- An offer whose answer is unknown is settled before anything else is offered: as long as its
  number is free, the very same bytes are offered under it again. So a commit lands at most once,
  however often it is tried: a put that is still on its way can only fill the number that it was
  made for.
- Attempts are bounded. What remains unknown at the end is OutcomeUnknown, never a guess.

Time and chance only come in through Clock and Rng; there is no thread.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from workbench.catalog.chain import advance
from workbench.catalog.layout import log_key
from workbench.catalog.record import Record, encode_record
from workbench.catalog.registry import Batch, Link, State, fold
from workbench.errors import Corruption, OutcomeUnknown, Storage, Unavailable, WorkbenchError

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable
    from datetime import datetime

    from workbench.ports.object_store import ObjectStore
    from workbench.ports.system import Clock, Rng

ATTEMPTS_MAX: Final = 64
PAUSE_SECONDS: Final = 0.002
PAUSE_SECONDS_MAX: Final = 0.25

# Stores say with these codes that they refused before anything could be written.
REFUSALS: Final = frozenset(
    {
        "store_full",
        "store_permission",
        "store_read_only",
        "store_not_a_directory",
        "store_no_hard_links",
        "store_path_outside",
        "store_name_too_long",
    }
)


@dataclass(frozen=True, slots=True)
class _Offer:
    """A record that was or is being offered to the store."""

    record: Record
    data: bytes
    batch: Batch


class Transaction:
    """One commit, from its uuid to its record.

    Attributes:
        state: The newest state that it knows; use it also where `run` raises.
        uncertain: Whether a record of it may still come to be although `run` raised. Then
            its uploads must stay.
    """

    def __init__(
        self, store: ObjectStore, state: State, *, clock: Clock, rng: Rng, writer: str
    ) -> None:
        self.state = state
        self.uncertain = False
        self.txn: Final[uuid.UUID] = rng.uuid()
        self._store = store
        self._clock = clock
        self._rng = rng
        self._writer = writer
        self._offer: _Offer | None = None
        self._failure: WorkbenchError | None = None  # the last one that was not the end

    def run(self, planner: Callable[[State], Batch], prepare: Callable[[Batch], None]) -> Batch:
        """Commit what `planner` asks for, and return the batch that holds now.

        Args:
            planner: Pure: the batch on top of a state. A batch without entries ends the commit.
            prepare: Called before each new offer with what it will refer to.

        Raises:
            Unavailable: `catalog_busy`, where others won every attempt; or the store's own.
            OutcomeUnknown: `commit_outcome_unknown`.
            WorkbenchError: What `planner` and `prepare` raise, and what the store refuses with.
        """
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                pause(attempt, self._clock, self._rng)
            try:
                done = self._catch_up()
            except (Unavailable, OutcomeUnknown, Storage, Corruption) as error:
                if not (self.uncertain or error.retryable):
                    raise
                self._failure = error
                continue
            if done is not None:
                return done
            if not self.uncertain:
                batch = planner(self.state)
                if not batch.entries and batch.upkeep is None:
                    return batch
                offer = self._next(batch)  # before the upload: it may be too large
                prepare(batch)
                self._offer = offer
            done = self._put()
            if done is not None:
                return done
        return self._look_once_more()

    def _catch_up(self) -> Batch | None:
        """Read what came; return our batch where our own record is among it."""
        self.state, links = advance(self._store, self.state)
        if any(link.record.txn == self.txn for link in links):
            assert self._offer is not None, "a record of ours that was never offered"
            self.uncertain = False
            return self._offer.batch
        if links:
            self.uncertain = False  # the number that we offered under is another's for ever
        return None

    def _next(self, batch: Batch) -> _Offer:
        record = Record(
            catalog_uuid=self.state.catalog_uuid,
            seq=self.state.seq + 1,
            txn=self.txn,
            writer=self._writer,
            parent_sha256=self.state.head_sha256,
            committed_at=self._now(),
            entries=batch.entries,
            upkeep=batch.upkeep,
        )
        return _Offer(record, encode_record(record), batch)

    def _now(self) -> datetime:
        """Return the time of the commit; a clock that went back does not take the log along."""
        now, before = self._clock.now(), self.state.committed_at
        return now if before is None else max(now, before)

    def _put(self) -> Batch | None:
        """Offer the record; None where it is not known to be in.

        Its number may be taken by another or by ourselves: a store's own retry can make one's
        success look like a lost race. The next catching up tells.
        """
        assert self._offer is not None
        before, self.uncertain = self.uncertain, True
        try:
            won = self._store.put_if_absent(log_key(self._offer.record.seq), self._offer.data)
        except (Unavailable, OutcomeUnknown) as error:
            self._failure = error
            return None
        except Storage as error:
            return self._look_after(error, uncertain_before=before)
        if not won:
            return None
        link = Link(self._offer.record, hashlib.sha256(self._offer.data).hexdigest())
        self.state = fold(self.state, [link])
        self.uncertain = False
        return self._offer.batch

    def _look_after(self, error: Storage, *, uncertain_before: bool) -> Batch | None:
        """Look whether an offer that the store failed on landed nevertheless.

        Returns:
            Our batch where it did, None where another's record is there now.

        Raises:
            Storage: The error itself, where nothing is there.
            OutcomeUnknown: Where nobody can tell.
        """
        seq = self.state.seq
        refused = error.code in REFUSALS and not uncertain_before
        try:
            done = self._catch_up()
        except WorkbenchError:
            if not refused:
                self._give_up(error)
            self.uncertain = False
            raise error from None
        if done is not None or self.state.seq > seq:
            return done
        if uncertain_before:
            self._give_up(error)
        self.uncertain = not refused
        raise error

    def _look_once_more(self) -> Batch:
        """Settle the last attempt: it may have been ours after all."""
        if self.uncertain:
            with contextlib.suppress(WorkbenchError):
                done = self._catch_up()
                if done is not None:
                    return done
        return self._give_up(self._failure)

    def _give_up(self, failure: WorkbenchError | None) -> NoReturn:
        if self.uncertain:
            assert self._offer is not None
            raise OutcomeUnknown(
                f"transaction {self.txn} may or may not have become record "
                f"{self._offer.record.seq} of {self._store.url}",
                code="commit_outcome_unknown",
                hint="look whether the data are there before writing them again",
            ) from failure
        if failure is not None:
            raise failure
        raise Unavailable(
            f"other writers won {ATTEMPTS_MAX} races for the next record of {self._store.url}",
            code="catalog_busy",
            hint="try again later, or commit more at once and less often",
        )


def pause(attempt: int, clock: Clock, rng: Rng) -> None:
    """Wait before attempt `attempt` ≥ 1: up to twice as long each time, drawn evenly."""
    limit = min(PAUSE_SECONDS * 2.0**attempt, PAUSE_SECONDS_MAX)
    clock.sleep(rng.uniform() * limit)
