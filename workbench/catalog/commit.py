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
- A record that is in is looked at once more: it must lead to the next checkpoint, if there is
  one. Where the log was trimmed past a process that slept, it does not.
- Whoever commits a record whose number is a multiple of 64 writes a checkpoint after it.
- Attempts are bounded. What remains unknown at the end is OutcomeUnknown, never a guess.

- A writer whose upload was collected finds out: what garbage collection condemned since the
  transaction began is refused, also where it is swept by now. Only within `WRITER_SECONDS_MAX`,
  as the log that says so may be trimmed after the grace period; an older writer gives up.

Time and chance only come in through Clock and Rng; there is no thread.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from workbench.catalog.chain import advance, is_connected, load, prove_head
from workbench.catalog.checkpoint import CHECKPOINT_RECORDS, write_checkpoint
from workbench.catalog.layout import log_key
from workbench.catalog.record import Record, encode_record
from workbench.catalog.registry import Batch, Link, State, condemned_error, fold
from workbench.errors import (
    Corruption,
    NotFound,
    OutcomeUnknown,
    Storage,
    Unavailable,
    WorkbenchError,
)

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable
    from datetime import datetime

    from workbench.ports.object_store import ObjectStore
    from workbench.ports.system import Clock, Rng

ATTEMPTS_MAX: Final = 64
PAUSE_SECONDS: Final = 0.002
PAUSE_SECONDS_MAX: Final = 0.25
# From the start of a transaction to its record, at most half of the shortest grace period.
WRITER_SECONDS_MAX: Final = 6 * 3600

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
        "store_absent",
        "store_region_wrong",
        "store_tls",
        "store_configuration",
        "store_not_conditional",
    }
)

# What `_overtaken` says where trying again tells no more.
_FINAL: Final = frozenset({"writer_too_old", "commit_outcome_unknown"})


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
        referred: Keys that records refer to which came since it began.
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
        self._started_at: Final = clock.now()
        self.referred: set[str] = set()
        self._condemned: set[str] = set()  # since it began, also what was swept since
        self._offer: _Offer | None = None
        self._landed: Link | None = None  # our record, where it is in the store
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
                if error.code in _FINAL or not (self.uncertain or error.retryable):
                    raise
                self._failure = error
                continue
            if done is not None:
                return done
            if not self.uncertain:
                batch = planner(self.state)
                if not batch.entries and batch.upkeep is None:
                    return batch
                self._check_condemned(batch)
                self.state = prove_head(self._store, self.state)
                offer = self._next(batch)  # before the upload: it may be too large
                prepare(batch)
                self._check_age()
                self._offer = offer
            done = self._put()
            if done is not None:
                return done
        return self._look_once_more()

    def _catch_up(self) -> Batch | None:
        """Read what came; return our batch where our own record is among it."""
        try:
            self.state, links = advance(self._store, self.state)
        except Corruption:
            self._check_overtaken()
            raise
        self._note(links)
        self._landed = next((link for link in links if link.record.txn == self.txn), self._landed)
        if self._landed is not None:
            return self._confirm(self._landed)
        if links:
            self.uncertain = False  # the number that we offered under is another's for ever
        return None

    def _note(self, links: list[Link]) -> None:
        """Remember what came: the state forgets a condemned object once it is swept."""
        for link in links:
            for entry in link.record.entries:
                self.referred.update(ref.key for ref in entry.manifest.objects)
            if link.record.upkeep is not None:
                self._condemned.update(ref.key for ref in link.record.upkeep.condemned)

    def _check_condemned(self, batch: Batch) -> None:
        for entry in batch.entries if self._condemned else ():
            for ref in entry.manifest.objects:
                if ref.key in self._condemned:
                    raise condemned_error(entry.manifest.name, ref.key)

    def _check_age(self) -> None:
        """Raise Unavailable where what this transaction read may be trimmed by now."""
        age = (self._clock.now() - self._started_at).total_seconds()
        if age > WRITER_SECONDS_MAX:
            raise Unavailable(
                f"this commit to {self._store.url} began {age / 3600:.1f} hours ago; after "
                f"{WRITER_SECONDS_MAX // 3600} its uploads may be collected",
                code="writer_too_old",
                hint="nothing was committed; run the same command again",
            )

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
        self._landed = Link(self._offer.record, hashlib.sha256(self._offer.data).hexdigest())
        self.state = fold(self.state, [self._landed])
        try:
            return self._confirm(self._landed)
        except (Unavailable, OutcomeUnknown, Storage, Corruption) as error:
            if not self.uncertain or error.code in _FINAL:
                raise
            self._failure = error
            return None

    def _confirm(self, landed: Link) -> Batch:
        """Return our batch, once our record is known to be in the log that others read.

        It may not be where this process slept until the log was trimmed past what it knew: then
        nobody sees the record, and what was collected meanwhile cannot be told.
        """
        assert self._offer is not None, "a record of ours that was never offered"
        seq = landed.record.seq
        if is_connected(self._store, seq, landed.sha256, self.state):
            self.uncertain = False
            if seq % CHECKPOINT_RECORDS == 0:
                self._checkpoint()
            return self._offer.batch
        return self._overtaken(load(self._store).state)

    def _check_overtaken(self) -> None:
        """Raise where it is no wonder that the log does not go on from what is known here."""
        try:
            state = load(self._store).state
        except WorkbenchError:
            return
        if state.catalog_uuid == self.state.catalog_uuid and state.floor > self.state.seq:
            self._overtaken(state)

    def _overtaken(self, state: State) -> NoReturn:
        """Give up where the log was trimmed past what this process had read.

        Our record, where it is there, is below the floor: it counts for nobody and is taken back.
        """
        unsettled, self.state = self.uncertain, state
        if unsettled:
            assert self._offer is not None, "uncertain about nothing"
            seq = self._offer.record.seq
            if seq >= state.floor or not self._offered_is_at(log_key(seq)):
                raise OutcomeUnknown(
                    f"record {seq} of {self._store.url} was written, but does not lead to its "
                    "checkpoints, or was trimmed since",
                    code="commit_outcome_unknown",
                    hint="look whether the data are there before writing them again",
                )
            self._store.delete(log_key(seq))
        self._landed, self.uncertain = None, False
        raise Unavailable(
            f"the log of {self._store.url} was trimmed past what this process had read",
            code="writer_too_old",
            hint="nothing was committed; run the same command again",
        )

    def _offered_is_at(self, key: str) -> bool:
        assert self._offer is not None, "nothing was offered"
        try:
            return self._store.get(key) == self._offer.data
        except NotFound:
            return False

    def _checkpoint(self) -> None:
        """Put a checkpoint; what goes wrong only slows the next open."""
        with contextlib.suppress(WorkbenchError):
            write_checkpoint(self._store, self.state, writer=self._writer)

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
        except WorkbenchError as other:
            if other.code in _FINAL:
                raise
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
