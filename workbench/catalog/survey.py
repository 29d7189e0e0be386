"""Reads a whole catalog and goes on after every fault: what `audit` reports and `repair` mends.

    one listing ──> FORMAT, checkpoints, hint, strays
                    base (the floor's checkpoint, or nothing) ──> record ──> record ──> … ──> head
                                                                    at each checkpoint: equal?

From the store alone: nothing that a process remembers is believed. One cause is reported once:
behind a record that cannot be read, rows are applied as far as they make sense (`salvage`), and
the next sound checkpoint sets the state right.

What lies below the floor is about to be trimmed and is not looked at. Data objects are `audit`'s.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from workbench.catalog.anchor import Anchor
from workbench.catalog.chain import check_link, empty_state, read_anchor
from workbench.catalog.checkpoint import parse_hint, read_checkpoint
from workbench.catalog.index import Draft
from workbench.catalog.layout import (
    CATALOG_PREFIX,
    FORMAT_KEY,
    GC_KEY,
    HINT_KEY,
    PROBE_PREFIX,
    QUARANTINE_PREFIX,
    ckpt_key,
    ckpt_seq_of,
    log_key,
    seq_of,
)
from workbench.catalog.registry import Link, fold
from workbench.errors import Corruption, NotFound, Storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.catalog.record import Record
    from workbench.catalog.registry import State
    from workbench.model.manifest import Manifest
    from workbench.ports.object_store import ObjectStore

    Progress = Callable[[str, int, int | None], None]

_KNOWN: Final = frozenset({FORMAT_KEY, HINT_KEY, GC_KEY})


class Fault(StrEnum):
    """What kind of thing is wrong."""

    FORMAT = "format"
    RECORD = "record"
    MISSING = "missing"
    CHECKPOINT = "checkpoint"
    NO_CHECKPOINT = "no_checkpoint"
    HINT = "hint"
    STRAY = "stray"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        fault: Its kind.
        key: Of the object.
        reason: What is wrong with it, as the end of a sentence.
        seq: Of the record or checkpoint; 0 for other objects.
    """

    fault: Fault
    key: str
    reason: str
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Survey:
    """What a survey looked at and found.

    Attributes:
        last: The greatest number of a record or checkpoint, 0 where there is none.
        records: Looked at, good or bad.
        checkpoints: Looked at, good or bad.
        findings: In the order of their keys.
        state: After the last record, as far as it can be told; None where nothing tells which
            catalog it is.
        sure: Whether `state` is what the catalog says, with nothing left out.
        sound: Checkpoints from which on everything is, ascending.
        last_sha256: Of the bytes of record `last` as they are; zeros where it is missing.
        swept: Keys that records say are gone.
        changed: Datasets that records show as changed by one that cannot be read, ascending.
        named: Keys of all objects that the sound records name.
    """

    last: int
    records: int
    checkpoints: int
    findings: tuple[Finding, ...]
    state: State | None
    sure: bool
    sound: tuple[int, ...]
    last_sha256: str
    swept: frozenset[str]
    changed: tuple[str, ...] = ()
    named: frozenset[str] = frozenset()


def survey(store: ObjectStore, *, progress: Progress = lambda *_: None) -> Survey:
    """Look at everything below `_catalog/`.

    Raises:
        NotFound: `catalog_absent`.
        InvalidInput: The catalog is of another format version.
        Unavailable: Where the store cannot answer now.
    """
    return _Surveyor(store, progress).run()


class _Surveyor:
    def __init__(self, store: ObjectStore, progress: Progress) -> None:
        self._store = store
        self._progress = progress
        self._findings: list[Finding] = []
        self._keys = store.list_after(CATALOG_PREFIX)
        self._checkpoints = sorted(filter(None, map(ckpt_seq_of, self._keys)))
        self._records = sorted(filter(None, map(seq_of, self._keys)))
        self._sure = True
        self._begins = 0  # the floor: its checkpoint counts, its record may be gone
        self._sound: list[int] = []
        self._swept: set[str] = set()
        self._changed: set[str] = set()
        self._named: set[str] = set()
        self._last_sha256 = "0" * 64

    def run(self) -> Survey:
        last = max([*self._records[-1:], *self._checkpoints[-1:]], default=0)
        anchor = self._read_anchor()
        newest = self._newest(anchor)
        if newest is not None and anchor is None:
            anchor = Anchor(newest.catalog_uuid, newest.anchor_sha256)
        if anchor is None and (first := self._first_record()) is not None:
            anchor = Anchor(first.catalog_uuid, first.parent_sha256)
        state, checked = None, 0
        if anchor is not None:
            floor = self._floor(newest, anchor)
            kept = [seq for seq in self._checkpoints if seq >= floor]
            state, first_seq = self._base(floor, kept, anchor)
            checked = sum(seq > first_seq for seq in self._records)
            state = self._walk(state, range(first_seq + 1, last + 1), set(kept))
        self._check_hint()
        self._check_strays()
        found = tuple(sorted(self._findings, key=lambda each: each.key))
        return Survey(
            last=last,
            records=checked,
            checkpoints=len(self._checkpoints),
            findings=found,
            state=state,
            sure=self._sure,
            sound=tuple(self._sound),
            last_sha256=self._last_sha256,
            swept=frozenset(self._swept),
            changed=tuple(sorted(self._changed)),
            named=frozenset(self._named),
        )

    def _read_anchor(self) -> Anchor | None:
        try:
            return read_anchor(self._store)
        except Corruption as error:
            self._add(Fault.FORMAT, FORMAT_KEY, error)
            return None

    def _newest(self, anchor: Anchor | None) -> State | None:
        """Return the newest checkpoint that can be read, which tells the floor."""
        for seq in reversed(self._checkpoints):
            try:
                state = read_checkpoint(self._store, seq).state
            except (Corruption, NotFound, Storage):
                continue  # told where the walk comes by
            if anchor is None or anchor.catalog_uuid == state.catalog_uuid:
                return state
        return None

    def _first_record(self) -> Record | None:
        if self._records[:1] != [1]:
            return None
        try:
            data = self._store.get(log_key(1))
            return check_link(data, seq=1, parent_sha256=None, state=None).record
        except (Corruption, NotFound, Storage):
            return None

    def _floor(self, newest: State | None, anchor: Anchor) -> int:
        """Return the oldest sequence that counts: the checkpoint's floor, or what came later."""
        floor, seq = (0, 0) if newest is None else (newest.floor, newest.seq)
        if newest is None and self._records:
            seq = self._records[0] - 1  # a trimmed log that lost its checkpoints
        for each in (one for one in self._records if one > seq):
            try:
                data = self._store.get(log_key(each))
                record = check_link(data, seq=each, parent_sha256=None, state=None).record
            except (Corruption, NotFound, Storage):
                continue
            if record.upkeep is not None and record.catalog_uuid == anchor.catalog_uuid:
                floor = max(floor, record.upkeep.floor or 0)
        return floor

    def _base(self, floor: int, kept: list[int], anchor: Anchor) -> tuple[State, int]:
        """Return the state to begin with, and its sequence.

        That is what the floor's checkpoint says, which the walk takes in first. Where it is not
        sound, what lies below the floor may still be there to begin with.
        """
        if floor == 0:
            return empty_state(anchor), 0
        if kept[:1] != [floor]:
            reason = "is missing, the catalog begins with it"
            self._findings.append(Finding(Fault.NO_CHECKPOINT, ckpt_key(floor), reason, floor))
        if self._sound_at(floor, anchor) is not None:
            self._begins, self._sure = floor, False
            return replace(empty_state(anchor), seq=floor - 1, head_sha256=""), floor - 1
        for seq in reversed([each for each in self._checkpoints if each < floor]):
            if (state := self._sound_at(seq, anchor)) is not None:
                return state, seq
        first = min(self._records, default=floor)
        if first == 1:
            return empty_state(anchor), 0
        self._sure = False
        return replace(empty_state(anchor), seq=first - 1, head_sha256=""), first - 1

    def _sound_at(self, seq: int, anchor: Anchor) -> State | None:
        """Return what the checkpoint at `seq` says, None where it is not sound or not ours."""
        try:
            state = read_checkpoint(self._store, seq).state
        except (Corruption, NotFound, Storage):
            return None
        return state if state.catalog_uuid == anchor.catalog_uuid else None

    def _walk(self, state: State, seqs: range, kept: set[int]) -> State:
        parent: str | None = state.head_sha256 or None
        for seq in seqs:
            self._progress("records", seq - seqs.start, len(seqs))
            link = self._link(state, seq, parent)
            if link is None:
                parent = None
                state = replace(state, seq=seq)
            else:
                parent = link.sha256
                state = self._apply(state, link)
            if seq in kept:
                state = self._compare(state, seq, link)
                parent = state.head_sha256 if self._sure else parent
            elif link is not None and link.record.restarts:
                self._missing_restart(seq)
        return state

    def _link(self, state: State, seq: int, parent: str | None) -> Link | None:
        """Return record `seq` where it is sound; else note why not, and be unsure from here."""
        key = log_key(seq)
        self._last_sha256 = "0" * 64
        try:
            data = self._store.get(key)
            self._last_sha256 = hashlib.sha256(data).hexdigest()
            return check_link(data, seq=seq, parent_sha256=parent, state=state)
        except NotFound:
            if seq != self._begins:
                later = max(self._records, default=0)
                seen = f"record {later}" if later > seq else "a checkpoint after it"
                self._findings.append(
                    Finding(Fault.MISSING, key, f"is missing, {seen} is there", seq)
                )
        except (Corruption, Storage) as error:
            self._add(Fault.RECORD, key, error, seq)
        self._sure, self._sound = False, []
        return None

    def _apply(self, state: State, link: Link) -> State:
        record = link.record
        for entry in record.entries:
            self._named.update(ref.key for ref in entry.manifest.objects)
        if record.upkeep is not None:
            self._swept.update(record.upkeep.swept)
            self._named.update(ref.key for ref in record.upkeep.condemned)
        if record.restarts:
            self._sure = False  # its checkpoint tells
        if self._sure:
            try:
                return fold(state, [link])
            except Corruption as error:
                self._add(Fault.RECORD, log_key(record.seq), error, record.seq)
                self._sure, self._sound = False, []
        self._changed |= changed_before(state, link)
        return salvage(state, link)

    def _compare(self, state: State, seq: int, link: Link | None) -> State:
        """Return the state that counts from here: the checkpoint's, where it is sound."""
        key = ckpt_key(seq)
        try:
            found = read_checkpoint(self._store, seq).state
            if not self._sure:
                found.manifests.select("")  # nothing but itself vouches for its rows
        except (Corruption, NotFound, Storage) as error:
            self._add(Fault.CHECKPOINT, key, error, seq)
            return state
        reason = _difference(found, state, link, sure=self._sure)
        if reason is not None:
            self._findings.append(Finding(Fault.CHECKPOINT, key, reason, seq))
            return state
        if not self._sure:
            self._sure, self._sound = True, []
            self._changed.clear()  # nothing is lost
        self._sound.append(seq)
        return found

    def _missing_restart(self, seq: int) -> None:
        key = ckpt_key(seq)
        reason = f"is missing; {log_key(seq)} says that the state is in it"
        if not any(each.key == key for each in self._findings):
            self._findings.append(Finding(Fault.NO_CHECKPOINT, key, reason, seq))

    def _check_hint(self) -> None:
        if HINT_KEY not in self._keys:
            return
        try:
            seq = parse_hint(self._store.get(HINT_KEY))
        except (NotFound, Storage):
            return
        if seq is None:
            self._findings.append(Finding(Fault.HINT, HINT_KEY, "names no checkpoint"))
        elif seq not in self._checkpoints and seq > max(self._checkpoints, default=0):
            reason = f"names checkpoint {seq}, which is not there"
            self._findings.append(Finding(Fault.HINT, HINT_KEY, reason))

    def _check_strays(self) -> None:
        for key in self._keys:
            known = key in _KNOWN or key.startswith((QUARANTINE_PREFIX, PROBE_PREFIX))
            if not (known or seq_of(key) or ckpt_seq_of(key)):
                where = key.removeprefix(CATALOG_PREFIX).partition("/")[0]
                what = {"log": "is no record of the log", "ckpt": "is no checkpoint"}
                reason = what.get(where, "is no part of a catalog")
                self._findings.append(Finding(Fault.STRAY, key, reason))

    def _add(self, fault: Fault, key: str, error: Exception, seq: int = 0) -> None:
        self._findings.append(Finding(fault, key, reason_of(error, key), seq))


def reason_of(error: Exception, key: str) -> str:
    """Return what an error says of the object under `key`, without the key."""
    found, colon, reason = str(getattr(error, "message", error)).partition(": ")
    return reason if colon and found == key else f"{found}{colon}{reason}"


def salvage(state: State, link: Link) -> State:
    """Return the state after a record, applied as far as it makes sense on top of `state`.

    For states that lack what records before it said. A row that adds to an absent dataset is left
    out. Row counts are counted anew from the objects, or not known.
    """
    record = link.record
    draft, condemned = Draft(state.manifests), dict(state.condemned)
    for entry in record.entries:
        name, registered = entry.manifest.name, draft.get(entry.manifest.name)
        if entry.op == "put":
            draft[name] = entry.manifest
        elif entry.op == "delete" and registered is not None:
            del draft[name]
        elif entry.op == "add" and registered is not None:
            objects = registered.objects + entry.manifest.objects
            draft[name] = _recounted(replace(entry.manifest, objects=objects))
    floor = state.floor
    if record.upkeep is not None:
        for ref in record.upkeep.condemned:
            condemned.setdefault(ref.key, record.committed_at)
        for key in record.upkeep.swept:
            condemned.pop(key, None)
        floor = max(floor, record.upkeep.floor or 0)
    before = state.committed_at
    return replace(
        state,
        seq=record.seq,
        head_sha256=link.sha256,
        manifests=draft.done(),
        committed_at=record.committed_at if before is None else max(before, record.committed_at),
        floor=floor,
        condemned=condemned,
    )


def changed_before(state: State, link: Link) -> set[str]:
    """Return the datasets that a record shows as other than `state`, which lacks some records.

    It adds to or deletes what is absent, continues what was created otherwise, or counts other
    rows than those that are known and its own.
    """
    found = set()
    for entry in link.record.entries:
        manifest, known = entry.manifest, state.manifests.get(entry.manifest.name)
        if known is None:
            if entry.op != "put" or manifest.created_at < manifest.updated_at:
                found.add(manifest.name)
        elif manifest.created_at != known.created_at:
            found.add(manifest.name)
        elif entry.op == "add":
            added = [ref.rows for ref in manifest.objects]
            counts = [*added, known.row_count, manifest.row_count]
            if None not in counts and manifest.row_count != sum(
                each for each in (*added, known.row_count) if each is not None
            ):
                found.add(manifest.name)
    return found


def _recounted(manifest: Manifest) -> Manifest:
    rows = [ref.rows for ref in manifest.objects]
    counted = sum(row for row in rows if row is not None) if None not in rows else None
    return replace(manifest, row_count=counted)


def _difference(found: State, state: State, link: Link | None, *, sure: bool) -> str | None:
    """Return how a checkpoint differs from what is known; None where it may be believed."""
    if found.catalog_uuid != state.catalog_uuid:
        return f"belongs to catalog {found.catalog_uuid}, this one is {state.catalog_uuid}"
    if link is not None and found.head_sha256 != link.sha256:
        return f"names a record of SHA-256 {found.head_sha256}, the log has {link.sha256}"
    if state.anchor_sha256 != found.anchor_sha256:
        return f"names a FORMAT of SHA-256 {found.anchor_sha256}, which is {state.anchor_sha256}"
    if not sure:
        return None
    for what, one, other in (
        ("the floor", found.floor, state.floor),
        ("the time", found.committed_at, state.committed_at),
        ("condemned objects", found.condemned, state.condemned),
        ("datasets", found.manifests.table(), state.manifests.table()),
    ):
        if one != other:
            return f"has other values than the log gives for {what}"
    return None
