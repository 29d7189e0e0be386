"""From a store to a verified state: the hash chain, read from a checkpoint or from its anchor.

    FORMAT <──parent_sha256── 1 <──parent_sha256── 2 <── … <── n      (n = head)
                                                  ckpt/2: the state after 2, and the hash of 2

A record is accepted if it is intact in itself (`record`), belongs to this catalog, carries the
number of its key, and carries SHA-256 of all bytes of the record before it. Loading is all or
nothing: one record that fails, and no state comes out.

Opening costs the same for any number of datasets: the hint, the checkpoint that it names, one
listing of the log behind it, and those records in one wave. What is wrong with a hint does not
matter. A checkpoint that is not sound, or that the log contradicts, is passed over for another,
or for the whole log, and a notice says so; FORMAT is read then too.

A record may say that nothing before it counts (`Record.restarts`; repair writes it). Its
checkpoint alone has the state then, for those who were open before as well.

What a chain cannot show: that its newest records were deleted. A log that lost its tail is a
shorter, intact log. Only a process that had read further notices, as its head is gone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from workbench.catalog.anchor import Anchor, decode_anchor
from workbench.catalog.checkpoint import CHECKPOINT_RECORDS, read_checkpoint, read_hint
from workbench.catalog.faults import corrupt
from workbench.catalog.index import Index
from workbench.catalog.layout import (
    CATALOG_PREFIX,
    CKPT_PREFIX,
    FORMAT_KEY,
    LOG_PREFIX,
    PROBE_PREFIX,
    ckpt_key,
    ckpt_seq_of,
    log_key,
    seq_of,
)
from workbench.catalog.record import decode_record
from workbench.catalog.registry import Link, State, fold
from workbench.errors import Corruption, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workbench.ports.object_store import ObjectStore

WAVE_RECORDS: Final = 256  # records held as bytes at a time
TAIL_RECORDS_MAX: Final = 2 * CHECKPOINT_RECORDS  # longer: the hint is stale

# What may be the fault of the checkpoint that was read from, rather than of the record.
_DOUBTFUL: Final = frozenset(
    {
        "record_chain_broken",
        "record_foreign",
        "record_missing",
        "record_rule_broken",
        "checkpoint_foreign",
        "checkpoint_missing",
    }
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What opening a catalog gave.

    Attributes:
        state: Whole and verified.
        notices: What was wrong with it and could be passed over, for people.
        checkpoint_seq: Of the checkpoint that it was read from; 0 for the whole log.
    """

    state: State
    notices: tuple[str, ...]
    checkpoint_seq: int


def read_anchor(store: ObjectStore) -> Anchor:
    """Return what FORMAT says.

    Raises:
        NotFound: `catalog_absent`, where the store holds no catalog.
        Corruption: `format_corrupt`, also where there are records but no FORMAT.
        InvalidInput: Another format version.
    """
    try:
        data = store.get(FORMAT_KEY)
    except NotFound as error:
        keys = store.list_after(CATALOG_PREFIX)
        if any(not key.startswith(PROBE_PREFIX) for key in keys):
            raise corrupt(FORMAT_KEY, "is missing, its records are there", "format_corrupt") from (
                error
            )
        raise NotFound(
            f"no catalog in {store.url}",
            code="catalog_absent",
            hint="workbench collect or workbench catalog init creates one",
        ) from error
    return decode_anchor(data)


def empty_state(anchor: Anchor) -> State:
    """Return the state of a catalog without records."""
    return State(
        anchor.catalog_uuid,
        seq=0,
        head_sha256=anchor.sha256,
        manifests=Index.of({}),
        anchor_sha256=anchor.sha256,
    )


def load(store: ObjectStore) -> Loaded:
    """Return the newest state that the store shows.

    Raises:
        NotFound: `catalog_absent`.
        Corruption: Of the record or checkpoint that nothing could replace.
        InvalidInput: `catalog_format_unsupported`.
    """
    return _Opening(store).run()


class _Opening:
    """One search for a checkpoint that holds, with the log behind it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._tried: dict[int, Corruption | None] = {}
        self._passed_over: list[Corruption] = []
        self._failure: Corruption | None = None  # of the log; worth more than a checkpoint's
        self._broken_from = 0  # checkpoints below it cannot help
        self._anchor: Anchor | None = None

    def run(self) -> Loaded:
        """Try the hint's checkpoint, then the others from the newest on, then the whole log."""
        hinted = read_hint(self._store)
        if hinted is not None:
            loaded = self._from_checkpoint(hinted, hinted=True)
            if loaded is not None:
                return loaded
        keys = self._store.list_after(CATALOG_PREFIX)
        last = max((seq_of(key) or 0 for key in keys), default=0)
        for seq in sorted(filter(None, map(ckpt_seq_of, keys)), reverse=True):
            if seq in self._tried or seq <= self._broken_from:
                continue
            loaded = self._from_checkpoint(seq, last=last)
            if loaded is not None:
                return loaded
        return self._from_log(last, trimmed=log_key(1) not in keys)

    def _from_checkpoint(
        self, seq: int, *, last: int | None = None, hinted: bool = False
    ) -> Loaded | None:
        state = self._checkpoint(seq)
        if state is None:
            return None
        if last is None:
            last = self._last_after(seq)
            if hinted and last - seq > TAIL_RECORDS_MAX:
                state = self._newer(seq) or state
        base = state.seq
        try:
            if self._passed_over:
                self._check_anchor(state)
            state = extend(self._store, state, last)
        except Corruption as error:
            self._pass_over(error, base)
            return None
        return Loaded(state, self._notices(state), base)

    def _from_log(self, last: int, *, trimmed: bool) -> Loaded:
        unsound = next(filter(None, self._tried.values()), None)
        if trimmed and unsound is not None:
            raise self._blamed(self._failure or unsound)
        if self._broken_from and self._failure is not None:
            raise self._blamed(self._failure)
        try:
            state = extend(self._store, empty_state(self._read_anchor()), last)
        except Corruption as error:
            raise self._blamed(self._failure or error) from None
        return Loaded(state, self._notices(state), 0)

    def _blamed(self, error: Corruption) -> Corruption:
        """Return the error; that of a damaged checkpoint, where that is why we miss `error`'s.

        What a checkpoint covers need not be there any more, and a restart's checkpoint is there
        but not sound.
        """
        key = error.message.partition(":")[0]
        seq = seq_of(key) or ckpt_seq_of(key) or 0
        bad = [each for each, why in self._tried.items() if why is not None and each >= seq]
        if not bad or error.code not in {"record_missing", "checkpoint_missing"}:
            return error
        cause = self._tried[min(bad)]
        assert cause is not None, "a checkpoint that is sound"
        if error.code == "checkpoint_missing":
            return cause
        reason = cause.message.partition(": ")[2]
        return corrupt(ckpt_key(min(bad)), f"{reason}; without it {error.message}", cause.code)

    def _checkpoint(self, seq: int) -> State | None:
        self._tried[seq] = None
        try:
            return read_checkpoint(self._store, seq).state
        except NotFound:
            return None  # a hint may name what was trimmed
        except Corruption as error:
            self._tried[seq] = error
            self._passed_over.append(error)
            return None

    def _newer(self, seq: int) -> State | None:
        keys = self._store.list_after(CKPT_PREFIX, ckpt_key(seq))
        for newer in sorted(filter(None, map(ckpt_seq_of, keys)), reverse=True):
            state = self._checkpoint(newer)
            if state is not None:
                return state
        return None

    def _last_after(self, seq: int) -> int:
        keys = self._store.list_after(LOG_PREFIX, log_key(seq))
        return max((seq_of(key) or 0 for key in keys), default=seq)

    def _pass_over(self, error: Corruption, base: int) -> None:
        self._passed_over.append(error)
        self._failure = self._failure or error
        if error.code not in _DOUBTFUL:
            self._broken_from = max(self._broken_from, base)

    def _check_anchor(self, state: State) -> None:
        anchor = self._read_anchor()
        if (anchor.catalog_uuid, anchor.sha256) != (state.catalog_uuid, state.anchor_sha256):
            raise corrupt(
                ckpt_key(state.seq),
                f"belongs to catalog {state.catalog_uuid}, FORMAT is of {anchor.catalog_uuid}",
                "checkpoint_foreign",
            )

    def _read_anchor(self) -> Anchor:
        self._anchor = self._anchor or read_anchor(self._store)
        return self._anchor

    def _notices(self, state: State) -> tuple[str, ...]:
        """Return what was wrong, in words; an old hint that led to what was trimmed is not."""
        notices = []
        for error in self._passed_over:
            seq = seq_of(error.message.partition(":")[0])
            trimmed = error.code == "record_missing" and seq is not None and seq <= state.floor
            if not trimmed and error.code != "checkpoint_missing":
                notices.append(f"{error.message}; what it should give was read from elsewhere")
        return tuple(notices)


def extend(store: ObjectStore, state: State, last: int) -> State:
    """Return the state after the records that follow it up to `last`, read in waves.

    Raises:
        Corruption: Where one is missing or not sound; `state` is untouched.
    """
    for start in range(state.seq + 1, last + 1, WAVE_RECORDS):
        wave = range(start, min(start + WAVE_RECORDS, last + 1))
        links = []
        seq, parent = state.seq, state.head_sha256
        for data in _get_wave(store, wave):
            seq += 1
            link = check_link(data, seq=seq, parent_sha256=parent, state=state)
            if link.record.restarts:
                reason = f"is missing; {log_key(seq)} says that the state is in it"
                raise corrupt(ckpt_key(seq), reason, "checkpoint_missing")
            parent = link.sha256
            links.append(link)
        state = fold(state, links)
    return state


def advance(store: ObjectStore, state: State) -> tuple[State, list[Link]]:
    """Return the state after the records that came since, and those records.

    Probes seq + 1 and on: one request each, and one more that finds nothing.

    Raises:
        Corruption: Where one is not sound; `state` is untouched.
    """
    links: list[Link] = []
    seq, parent = state.seq, state.head_sha256
    while True:
        try:
            data = store.get(log_key(seq + 1))
        except NotFound:
            break
        seq += 1
        links.append(check_link(data, seq=seq, parent_sha256=parent, state=state))
        parent = links[-1].sha256
    if any(link.record.restarts for link in links):
        return _reload(store, state, at_least=seq), links
    return (fold(state, links) if links else state), links


def refresh(store: ObjectStore, state: State) -> tuple[State, tuple[str, ...]]:
    """Return the newest state for one that was read before, and what was passed over for it.

    Raises:
        Corruption: `state` is untouched.
    """
    try:
        newer, _ = advance(store, state)
        check_end(store, newer)
    except Corruption as error:
        # The log may have been trimmed past us, or begun anew: then a checkpoint tells.
        loaded = _load_or(error, store)
        # Where only our own record is gone, it may be the one right below the floor.
        known = state.seq - 1 if error.code == "record_missing" else state.seq
        if loaded.state.catalog_uuid != state.catalog_uuid or loaded.state.floor <= known:
            raise
        return loaded.state, loaded.notices
    return newer, ()


def _load_or(error: Corruption, store: ObjectStore) -> Loaded:
    try:
        return load(store)
    except (Corruption, NotFound):
        raise error from None


def prove_head(store: ObjectStore, state: State) -> State:
    """Return the state, once its newest record is known to be the one that its hash says.

    Only to be asked before a record is put on top of a state that a checkpoint alone gave: on a
    checkpoint of another log it would break this one.

    Raises:
        Corruption: `checkpoint_foreign`.
    """
    if not state.proven:
        try:
            found = hashlib.sha256(store.get(log_key(state.seq))).hexdigest()
        except NotFound:
            found = state.head_sha256  # trimmed, or lost: the checkpoint has all that was in it
        if found != state.head_sha256:
            reason = f"names a record of SHA-256 {state.head_sha256}, the log has {found}"
            raise corrupt(ckpt_key(state.seq), reason, "checkpoint_foreign")
    return replace(state, proven=True)


def is_connected(store: ObjectStore, seq: int, sha256: str, state: State) -> bool:
    """Return whether record `seq`, which was put here, is in the log that others read.

    A writer that slept while the log was trimmed finds the number after its own free, and puts a
    record where nobody looks. Whoever trims has a checkpoint at or after all that goes: where
    there is none, nothing was trimmed. Else the chain is walked to the first that is sound.

    Args:
        store: Where it was put.
        seq: Its number.
        sha256: Of its bytes.
        state: Any state of the catalog.

    Raises:
        Corruption: A record on the way is not sound.
    """
    keys = store.list_after(CKPT_PREFIX, ckpt_key(seq - 1))
    for target in sorted(filter(None, map(ckpt_seq_of, keys))):
        while seq < target:
            try:
                data = store.get(log_key(seq + 1))
            except NotFound:
                return False
            seq += 1
            link = check_link(data, seq=seq, parent_sha256=None, state=state)
            if link.record.parent_sha256 != sha256:
                return False
            sha256 = link.sha256
        try:
            found = read_checkpoint(store, target).state
        except (NotFound, Corruption):
            continue
        return found.head_sha256 == sha256
    return True


def _reload(store: ObjectStore, state: State, *, at_least: int) -> State:
    """Return the state that a checkpoint gives, where the records do not connect to ours."""
    loaded = load(store)
    if loaded.state.catalog_uuid != state.catalog_uuid or loaded.state.seq < at_least:
        reason = f"belongs to catalog {loaded.state.catalog_uuid}, or is behind record {at_least}"
        raise corrupt(ckpt_key(loaded.checkpoint_seq), reason, "checkpoint_foreign")
    return loaded.state


def check_end(store: ObjectStore, state: State) -> None:
    """Raise Corruption where the log around the head of `state` has a hole.

    That is: records follow, but not directly (a writer makes n + 1 only after it has read n), or
    the head itself is gone. One listing, and probes only where it looks wrong, as listings may
    be stale.
    """
    keys = store.list_after(LOG_PREFIX, log_key(max(state.seq - 1, 0)))
    seqs = [seq for seq in map(seq_of, keys) if seq]
    last = max(seqs, default=state.seq)
    expected = [seq for seq in (state.seq, state.seq + 1) if 0 < seq <= last]
    for seq in expected:
        if seq in seqs:
            continue
        try:
            store.get(log_key(seq))
        except NotFound as error:
            raise _gap(seq, last) from error


def check_link(data: bytes, *, seq: int, parent_sha256: str | None, state: State | None) -> Link:
    """Return the record that `data` holds, checked to be number `seq` of this catalog.

    Args:
        data: All bytes of the object under `log_key(seq)`.
        seq: The number that its key says.
        parent_sha256: Of the bytes of the record before; None where that is not known.
        state: Any state of the catalog; None where it is not known which catalog it is.

    Raises:
        Corruption: `record_corrupt`, `record_foreign`, `record_chain_broken`,
            `record_format_unsupported`.
    """
    key = log_key(seq)
    record = decode_record(data, key)
    if state is not None and record.catalog_uuid != state.catalog_uuid:
        raise corrupt(
            key,
            f"belongs to catalog {record.catalog_uuid}, this one is {state.catalog_uuid}",
            "record_foreign",
        )
    if record.seq != seq:
        raise corrupt(key, f"says that it is record {record.seq}", "record_chain_broken")
    # Whoever wrote a restart could not read what it follows; its checkpoint is checked instead.
    known = parent_sha256 is not None and not record.restarts
    if known and record.parent_sha256 != parent_sha256:
        raise corrupt(
            key,
            f"follows a record of SHA-256 {record.parent_sha256}, "
            f"the one before it has {parent_sha256}",
            "record_chain_broken",
        )
    return Link(record, hashlib.sha256(data).hexdigest())


def _get_wave(store: ObjectStore, seqs: range) -> Iterable[bytes]:
    try:
        return store.get_many([log_key(seq) for seq in seqs])
    except NotFound:
        for seq in seqs:  # which one
            try:
                store.get(log_key(seq))
            except NotFound as error:
                raise _gap(seq, seqs[-1]) from error
        raise


def _gap(missing: int, last: int) -> Corruption:
    seen = f"record {last} is there" if last > missing else "it was there before"
    return corrupt(log_key(missing), f"is missing, {seen}", "record_missing")
