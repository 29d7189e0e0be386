"""Garbage collection in two phases, decided by the log and not by clocks.

                     unreferenced, old            grace is over
    upload ─────────────────────────▶ condemned ───────────────▶ deleted, swept
             a record says `condemn`              a record says `sweep`

    floor ── raised by a record to the sequence as of `keep` ago, where a checkpoint lies;
             a grace later, records and checkpoints below it are deleted

What is collected is what no state from the floor on refers to. Why nothing reachable goes:

- Every reference from the floor on is read from the log, whole and verified, in this run; what
  others commit while it runs is read by the transaction that condemns, and spared.
- A record that refers to a condemned object is refused by every writer and reader: it is not
  a matter of when, but of which record came first. So an upload that lay for longer than the
  grace, its writer asleep, is collected, and the writer told (`object_condemned`).
- Such a writer has to read the record that condemned. Records are only deleted below the floor,
  a grace after it was raised; and a writer gives up after half the shortest grace by its own
  clock (`commit.WRITER_SECONDS_MAX`).
- Time is the store's: a run writes one object, and compares its time with the clock
  (`clock_skewed`).

Every step can be the last one: deleting again is harmless, and what was not recorded is found by
the next run. Readers of an older state have the grace, from when it fell below the floor.

Not here: what lies outside `data/`, or is not named as the catalog names objects (`foreign`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from workbench.catalog.chain import check_link, empty_state, read_anchor, refresh
from workbench.catalog.checkpoint import read_checkpoint, write_checkpoint
from workbench.catalog.commit import WRITER_SECONDS_MAX
from workbench.catalog.compact import OWN_KEY
from workbench.catalog.faults import corrupt
from workbench.catalog.layout import (
    CKPT_PREFIX,
    DATA_PREFIX,
    GC_KEY,
    LOG_PREFIX,
    ckpt_key,
    ckpt_seq_of,
    log_key,
    seq_of,
)
from workbench.catalog.record import Upkeep
from workbench.catalog.registry import Batch, State, fold
from workbench.catalog.upkeep import unheard
from workbench.errors import Corruption, InvalidArgument, NotFound, Storage, Unavailable
from workbench.model.manifest import ObjectRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from workbench.catalog.registry import Link
    from workbench.catalog.upkeep import Keeper, Told
    from workbench.model.manifest import Manifest
    from workbench.ports.object_store import ObjectEntry, ObjectStore

KEEP: Final = timedelta(days=90)
GRACE: Final = timedelta(hours=24)
GRACE_MIN: Final = timedelta(seconds=2 * WRITER_SECONDS_MAX)
SKEW_MAX: Final = timedelta(hours=1)
# Objects per record, so that it stays far below the largest record.
RECORD_OBJECTS: Final = 4_000
WAVE_RECORDS: Final = 256
# Raising the floor costs a checkpoint: it has to free something, or this much of the log.
TRIM_RECORDS: Final = 64


class Found(NamedTuple):
    """One object, and since when it waits for what is to come."""

    key: str
    size: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Survey:
    """What a look at the store and the log found.

    Attributes:
        seq: Of the newest record.
        now: When the look was taken.
        grace: How long things wait.
        floor: Oldest sequence that can be read.
        new_floor: To which it is to be raised; None where it stays.
        live: Objects that the newest state refers to.
        held: Only referred to by states before it, from the floor on: kept for time travel.
        condemn: Unreferenced for longer than the grace: to be condemned now.
        young: Unreferenced, but written less than the grace ago.
        sweep: Condemned for longer than the grace: to be deleted now.
        waiting: Condemned less than the grace ago.
        foreign: Unreferenced, but not named as the catalog names objects: they stay.
        trim: Keys of records and checkpoints to be deleted now, in this order.
        trim_later: How many will be, a grace after `trim_since`.
        trim_since: When the floor was raised; None where nothing lies below it.
        base: The state at the new floor, or else at the floor.
    """

    seq: int
    now: datetime
    grace: timedelta
    floor: int
    new_floor: int | None
    live: tuple[Found, ...]
    held: tuple[Found, ...]
    condemn: tuple[Found, ...]
    young: tuple[Found, ...]
    sweep: tuple[Found, ...]
    waiting: tuple[Found, ...]
    foreign: tuple[Found, ...]
    trim: tuple[str, ...]
    trim_later: int
    trim_since: datetime | None
    base: State

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do now."""
        return not (self.condemn or self.sweep or self.trim) and self.new_floor is None


class _Log(NamedTuple):
    """What the log says from the old floor on.

    `below` are the keys of states before `base`, `keys` those of `base` and of all after it.
    """

    base: State
    below: set[str]
    keys: set[str]
    raises: list[tuple[int, datetime]]


def survey(keeper: Keeper, *, keep: timedelta = KEEP, grace: timedelta = GRACE) -> Survey:
    """Return what can be collected, by the clock; changes nothing.

    Args:
        keeper: Of the catalog; refreshed.
        keep: How far back `at` must reach.
        grace: How long the longest writer and reader may take.

    Raises:
        InvalidArgument: `grace_too_short`.
        Corruption: The log, or the checkpoint at the floor, is not sound.
        Unavailable: `catalog_busy`, where another collector trimmed the log meanwhile.
    """
    floor = keeper.refresh().floor
    try:
        return _survey(keeper, keep, grace)
    except Corruption as error:
        if keeper.refresh().floor == floor:
            raise
        raise Unavailable(
            f"another collector trimmed the log of {keeper.store.url} meanwhile",
            code="catalog_busy",
            hint="one process that collects is enough",
        ) from error


def _survey(keeper: Keeper, keep: timedelta, grace: timedelta) -> Survey:
    if grace < GRACE_MIN:
        raise InvalidArgument(
            f"a grace of {grace} is too short: a writer may take half of it",
            code="grace_too_short",
            hint=f"give {GRACE_MIN.total_seconds() / 3600:g}h or more",
        )
    # First what lies there, then what is referred to: what is committed in between is in the
    # second then, and in the first it does no harm.
    entries = keeper.store.list_entries(DATA_PREFIX)
    head = keeper.refresh()
    now = keeper.clock.now()
    log = _read_log(keeper.store, head, now - keep)
    found = _sort(entries, head, log.keys, now - grace)
    freed = any(each.key in log.below for each in (*found["condemn"], *found["young"]))
    rise = log.base.seq - head.floor
    trim, later, since = _below(keeper.store, head, log, now - grace)
    return Survey(
        seq=head.seq,
        now=now,
        grace=grace,
        floor=head.floor,
        new_floor=log.base.seq if rise >= TRIM_RECORDS or (rise and freed) else None,
        **{kind: tuple(each) for kind, each in found.items()},
        trim=trim,
        trim_later=later,
        trim_since=since,
        base=log.base,
    )


def collect(
    keeper: Keeper, *, keep: timedelta = KEEP, grace: timedelta = GRACE, told: Told = unheard
) -> Survey:
    """Do what `survey` finds, and return it.

    Args:
        keeper: Of the catalog.
        keep: How far back `at` must reach.
        grace: How long the longest writer and reader may take.
        told: Is told objects done and objects to do.

    Raises:
        InvalidArgument: `grace_too_short`.
        Storage: `clock_skewed`.
        Corruption: The log, or the checkpoint at the floor, is not sound.
        WorkbenchError: What the store raises. What was done stays done; run it again.
    """
    _check_clock(keeper)
    found = survey(keeper, keep=keep, grace=grace)
    floor = found.new_floor
    if floor is not None and not _write_floor(keeper, found.base):
        floor = None
    total = len(found.condemn) + len(found.sweep) + len(found.trim)
    done = 0
    for some in _batches(found.condemn) or ([()] if floor else []):
        _condemn(keeper, floor, some)
        floor = None
        told(done := done + len(some), total)
    for some in _batches(found.sweep):
        for each in some:
            keeper.store.delete(each.key)
            told(done := done + 1, total)
        _record_swept(keeper, [each.key for each in some])
    for key in found.trim:
        keeper.store.delete(key)
        told(done := done + 1, total)
    return found


def _condemn(keeper: Keeper, floor: int | None, found: Sequence[Found]) -> None:
    """Write what goes, but for what others came to refer to, or condemned, meanwhile."""
    transaction = keeper.begin()

    def planner(state: State) -> Batch:
        taken = keeper.referred | transaction.referred | state.condemned.keys()
        refs = tuple(ObjectRef(each.key, each.size) for each in found if each.key not in taken)
        higher = floor if floor is not None and floor > state.floor else None
        upkeep = Upkeep(higher, refs) if refs or higher is not None else None
        return Batch((), (), upkeep)

    keeper.commit(transaction, planner)


def _record_swept(keeper: Keeper, keys: Sequence[str]) -> None:
    def planner(state: State) -> Batch:
        swept = tuple(key for key in keys if key in state.condemned)
        return Batch((), (), Upkeep(swept=swept) if swept else None)

    keeper.commit(keeper.begin(), planner)


def _write_floor(keeper: Keeper, base: State) -> bool:
    """Make sure that a sound checkpoint lies where the floor will be; False: it is higher now."""
    write_checkpoint(keeper.store, base, writer=keeper.writer)
    try:
        _read_floor(keeper.store, base.seq, base)
    except Corruption:
        newer, _ = refresh(keeper.store, keeper.state)
        if newer.floor <= base.seq:
            raise
        return False  # another collector was first, and deleted what lies below its floor
    return True


def _read_floor(store: ObjectStore, seq: int, state: State) -> State:
    """Return the state at a floor; Corruption where its checkpoint is another catalog's."""
    try:
        found = read_checkpoint(store, seq).state
    except NotFound as error:
        raise corrupt(
            ckpt_key(seq), "is missing, the floor lies there", "checkpoint_corrupt"
        ) from (error)
    other = state.seq == seq and found.head_sha256 != state.head_sha256
    if found.catalog_uuid != state.catalog_uuid or other:
        raise corrupt(ckpt_key(seq), "belongs to another history", "checkpoint_corrupt")
    return found


def _read_log(store: ObjectStore, head: State, cutoff: datetime) -> _Log:
    """Read every record from the floor to the head, and what each refers to."""
    base = _read_floor(store, head.floor, head) if head.floor else empty_state(read_anchor(store))
    below = _referred(base.manifests.values())
    keys: set[str] = set()
    raises = []
    recent = False
    for links in _links(store, base, head):
        old: list[Link] = []
        for link in links:
            recent = recent or link.record.committed_at > cutoff
            refs = _referred(entry.manifest for entry in link.record.entries)
            (keys if recent else below).update(refs)
            if not recent:
                old.append(link)
            upkeep = link.record.upkeep
            if upkeep is not None and upkeep.floor is not None:
                raises.append((upkeep.floor, link.record.committed_at))
        base = fold(base, old) if old else base
    return _Log(base, below, keys | _referred(base.manifests.values()), raises)


def _links(store: ObjectStore, state: State, head: State) -> Iterator[list[Link]]:
    """Yield the records after `state` up to the head, checked, some at a time."""
    parent = state.head_sha256
    for start in range(state.seq + 1, head.seq + 1, WAVE_RECORDS):
        seqs = range(start, min(start + WAVE_RECORDS, head.seq + 1))
        try:
            wave = store.get_many([log_key(seq) for seq in seqs])
        except NotFound as error:
            reason = f"or one up to {seqs[-1]} is missing, {head.seq} is there"
            raise corrupt(log_key(start), reason, "record_missing") from error
        links = []
        for seq, data in zip(seqs, wave, strict=True):
            links.append(check_link(data, seq=seq, parent_sha256=parent, state=state))
            parent = links[-1].sha256
        yield links
    if parent != head.head_sha256:
        raise corrupt(log_key(head.seq), "is not what was read before", "record_chain_broken")


def _referred(manifests: Iterable[Manifest]) -> set[str]:
    return {ref.key for manifest in manifests for ref in manifest.objects}


def _sort(
    entries: Iterable[ObjectEntry], head: State, keys: set[str], before: datetime
) -> dict[str, list[Found]]:
    """Return the objects by what becomes of them."""
    kinds = ("live", "held", "condemn", "young", "sweep", "waiting", "foreign")
    found: dict[str, list[Found]] = {kind: [] for kind in kinds}
    live = _referred(head.manifests.values())
    here = {entry.key: entry for entry in entries}
    for entry in here.values():
        if entry.key in head.condemned:
            continue
        if entry.key in keys:
            kind = "live" if entry.key in live else "held"
        elif OWN_KEY.fullmatch(entry.key) is None:
            kind = "foreign"
        else:
            kind = "condemn" if entry.modified <= before else "young"
        found[kind].append(Found(entry.key, entry.size, entry.modified))
    for key, since in sorted(head.condemned.items()):
        size = here[key].size if key in here else 0  # gone: deleted, and not recorded yet
        found["sweep" if since <= before else "waiting"].append(Found(key, size, since))
    return found


def _below(
    store: ObjectStore, head: State, log: _Log, before: datetime
) -> tuple[tuple[str, ...], int, datetime | None]:
    """Return what lies below a floor that was raised long enough ago, and what else does."""
    if not head.floor:
        return (), 0, None
    safe = max((floor for floor, at in log.raises if at <= before), default=0)
    since = max((at for floor, at in log.raises if floor == head.floor), default=None)
    if since is None:
        # Raised by the record at the floor itself, as repair does.
        since = _read_floor(store, head.floor, head).committed_at
        safe = head.floor if since is not None and since <= before else safe
    records = [(seq_of(key), key) for key in store.list_after(LOG_PREFIX)]
    checkpoints = [(ckpt_seq_of(key), key) for key in store.list_after(CKPT_PREFIX)]
    all_below = [(seq, key) for seq, key in (*records, *checkpoints) if seq and seq < head.floor]
    now = tuple(key for seq, key in all_below if seq < safe)
    if now:
        _read_floor(store, safe, head)
    return now, len(all_below) - len(now), since if all_below else None


def _batches(found: Sequence[Found]) -> list[Sequence[Found]]:
    return [found[i : i + RECORD_OBJECTS] for i in range(0, len(found), RECORD_OBJECTS)]


def _check_clock(keeper: Keeper) -> None:
    """Raise Storage where our clock and the store's differ: all that waits is measured by it."""
    text = f"{keeper.writer}\n".encode("utf-8", "replace")
    keeper.store.replace(GC_KEY, text)
    now = keeper.clock.now()
    found = [each for each in keeper.store.list_entries(GC_KEY) if each.key == GC_KEY]
    if not found:
        raise Unavailable(
            f"{keeper.store.url} does not list {GC_KEY!r}, which was just written",
            code="store_unavailable",
            hint="its listings are late; nothing was collected, run it again",
        )
    entry = found[0]
    if abs(now - entry.modified) > SKEW_MAX:
        raise Storage(
            f"this machine's clock says {now.isoformat()}, {keeper.store.url} says "
            f"{entry.modified.isoformat()}",
            code="clock_skewed",
            hint="set the clock: what may be deleted depends on its age",
        )
