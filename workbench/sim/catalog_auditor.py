"""Watches every effect on the store of a simulated catalog, and knows what must hold.

    SimStore ──stored, deleted──> Auditor ──> a model: what every record makes of the datasets
    writers  ──begin, end, served──┘     └──> Violation, at the very step that breaks a rule

It does not use the catalog's own fold, chain or plan: from a record's decoded rows it keeps a
model of its own, and compares. Checked at once, when a record comes:

- its number follows, its parent hash is that of the record before, its time does not go back;
- its transaction was begun by somebody, has no other record, and was not said to have failed;
- its rows are those that the transaction means, all of them, on top of what was there: nothing
  that others appended is lost (each action brings its own `check`);
- all objects that it refers to are there, with size and hash, and none of them is condemned.

When an object goes: that no dataset of a state that may still be read refers to it. When a writer
serves: that its state is exactly the model's at that sequence, and never goes back. At the end:
that acknowledged commits are there, and that a fresh reader sees the same as the model.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from workbench.catalog.layout import (
    CKPT_PREFIX,
    DATA_PREFIX,
    FORMAT_KEY,
    GC_KEY,
    HINT_KEY,
    LOG_PREFIX,
    log_key,
    seq_of,
)
from workbench.catalog.record import decode_record

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from workbench.catalog.catalog import Catalog, Registered
    from workbench.catalog.record import Entry, Record, Upkeep
    from workbench.model.manifest import Manifest, ObjectRef
    from workbench.ports.object_store import ObjectStore

MUTABLE: Final = frozenset({HINT_KEY, GC_KEY})


class Violation(BaseException):  # not an Exception: no code under test may catch it
    """Something that must never happen has happened."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a dataset is at one sequence."""

    fingerprint: str
    objects: tuple[ObjectRef, ...]
    row_count: int | None
    properties: Mapping[str, str]
    created_at: datetime
    updated_at: datetime


@dataclass(slots=True)
class Intent:
    """What one action of a writer means to do.

    Attributes:
        number: Unique.
        actor: Whose.
        kind: For messages.
        names: The datasets that its record must name, all of them.
        check: Says what is wrong with one row: (name, before, after) to a reason, or None.
        partial: Whether the record may name fewer datasets, as what holds is not written.
        status: `running`, `acknowledged`, `unknown` or `failed`.
        seqs: Of the records that its transactions became.
        many: Whether it may become several records.
    """

    number: int
    actor: str
    kind: str
    names: tuple[str, ...]
    check: Callable[[str, Held | None, Held | None], str | None]
    partial: bool = False
    many: bool = False
    status: str = "running"
    seqs: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        """Return it for a message."""
        return f"{self.kind} {self.number} of {self.actor}"


class Auditor:
    """Keeps the model; raises Violation.

    Args:
        store: The one without faults.

    Attributes:
        checks: How many were made.
        reached: How often what is rare came up, by kind.
        states: What every sequence holds, from 0 on.
        floor: The oldest sequence that may still be read.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.checks = 0
        self.reached: Counter[str] = Counter()
        self.states: list[dict[str, Held]] = [{}]
        self.floor = 0
        self.intents: list[Intent] = []
        self._store = store
        self._heads: list[str] = [""]  # SHA-256 of each record's bytes, FORMAT's at 0
        self._times: list[datetime] = []
        self._hashes: dict[str, tuple[int, str]] = {}
        self._values: dict[str, list[int]] = {}
        self._condemned: dict[str, int] = {}
        self._by_txn: dict[uuid.UUID, Intent] = {}
        self._running: dict[str, Intent] = {}
        self._served: dict[str, int] = {}

    @property
    def head(self) -> int:
        """The number of the newest record."""
        return len(self.states) - 1

    # --- what writers say

    def begin(self, intent: Intent) -> None:
        """Take note of what an actor is about to do."""
        self.intents.append(intent)
        self._running[intent.actor] = intent

    def drew(self, actor: str, made: uuid.UUID) -> None:
        """Take note of a uuid that an actor made: it may name its transaction."""
        if actor in self._running:
            self._by_txn[made] = self._running[actor]

    def end(self, actor: str, status: str) -> None:
        """Take note of what the actor was told."""
        intent = self._running.pop(actor)
        intent.status = status
        if status == "failed" and not intent.many:
            self._must(not intent.seqs, f"{intent} was told that it failed, and is in the log")

    def answered(self, intent: Intent, catalog: Catalog, answers: Sequence[Registered]) -> None:
        """Check what a commit was answered, and that its record is there."""
        written = any(answer.written for answer in answers)
        self._must(
            len(intent.seqs) == written, f"{intent} was acknowledged, its records are {intent.seqs}"
        )
        seq = intent.seqs[0] if written else catalog.seq
        for answer in answers:
            held = self.states[seq].get(answer.manifest.name)
            self._must(
                held == held_of(answer.manifest),
                f"{intent} was answered {answer}, record {seq} holds {held}",
            )

    def opened(self, actor: str) -> None:
        """Take note that the actor starts anew: what it served before does not bind it."""
        self._served.pop(actor, None)

    def served(self, actor: str, catalog: Catalog) -> None:
        """Check that a catalog serves exactly one sequence, not before what it served before."""
        seq, before = catalog.seq, self._served.get(actor, 0)
        self._must(seq >= before, f"{actor} served sequence {before}, and now {seq}")
        self._must(seq <= self.head, f"{actor} serves sequence {seq}, the log ends at {self.head}")
        found = {manifest.name: held_of(manifest) for manifest in catalog.list()}
        self._must(
            found == self.states[seq],
            f"{actor} serves at sequence {seq} {sorted(found)}, not {sorted(self.states[seq])}",
        )
        self._served[actor] = seq

    # --- what the store says

    def stored(self, key: str, data: bytes) -> None:
        """Check an object that came into being."""
        digest = (len(data), hashlib.sha256(data).hexdigest())
        seq = seq_of(key)
        if seq is not None and seq <= self.head:
            self._must(seq < self.floor, f"record {seq} was written a second time")
            self.reached["record put below the floor"] += 1
            return  # a put that comes after its record was retired; nobody reads it
        known = self._hashes.setdefault(key, digest)
        self._must(known == digest or key in MUTABLE, f"{key} was changed")
        self.reached["checkpoint"] += key.startswith(CKPT_PREFIX)
        if key == FORMAT_KEY:
            self._heads[0] = digest[1]
        elif seq is not None:
            self._follow(seq, key, data, digest[1])

    def deleted(self, key: str) -> None:
        """Check that nothing that may still be read needs the object."""
        self._must(key != FORMAT_KEY, "FORMAT was deleted")
        seq = seq_of(key)
        if seq is not None:
            self._must(seq < self.floor, f"record {seq} was deleted, the floor is {self.floor}")
            self.reached["record trimmed"] += 1
        self.reached["condemned object deleted"] += key in self._condemned
        self._must(key not in self.referred(), f"{key} was deleted, and is referred to")

    def referred(self) -> set[str]:
        """Return the objects that any state refers to that may still be read."""
        states = self.states[self.floor :]
        return {ref.key for state in states for held in state.values() for ref in held.objects}

    def values_of(self, objects: Iterable[ObjectRef]) -> list[int]:
        """Return the numbers that the objects hold, in order."""
        return [value for ref in objects for value in self._values_in(ref.key)]

    # --- the end

    def finish(self, reader: Catalog, problems: Sequence[object]) -> None:
        """Check the log and a fresh reader of it, when everybody has ended.

        Args:
            reader: Opened on the store without faults.
            problems: What the catalog's own audit has found.
        """
        self._must(not problems, f"verify reports {list(problems)[:3]}")
        self._must(reader.seq == self.head, f"a reader sees {reader.seq} of {self.head} records")
        self.served("reader", reader)
        for name, held in self.states[self.head].items():
            if not name.startswith("r/") and held.objects:
                found = reader.read(name)["n"].to_pylist()
                self._must(found == self.values_of(held.objects), f"{name} reads as {found}")
        for intent in self.intents:
            self._must(
                intent.many or len(intent.seqs) <= 1, f"{intent} was applied twice: {intent.seqs}"
            )
        keys = self._store.list_after(LOG_PREFIX)
        missing = {log_key(n) for n in range(max(self.floor, 1), self.head + 1)} - set(keys)
        self._must(not missing, f"records are missing: {sorted(missing)}")

    def swept(self, reader: Catalog, problems: Sequence[object]) -> None:
        """Check that collecting garbage, long after everybody ended, left only what is used."""
        self._must(not problems, f"verify reports after collecting {list(problems)[:3]}")
        self.served("reader", reader)
        left = set(self._store.list_after(DATA_PREFIX)) - self.referred()
        self._must(not left, f"garbage stays: {sorted(left)[:3]}")
        self.reached["swept clean"] += 1

    # --- records

    def _follow(self, seq: int, key: str, data: bytes, sha256: str) -> None:
        self._must(seq == self.head + 1, f"record {seq} came after record {self.head}")
        record = decode_record(data, key)
        self._must(record.seq == seq, f"record {seq} says that it is {record.seq}")
        self._must(record.parent_sha256 == self._heads[-1], f"record {seq} has another parent")
        self._must(
            not self._times or record.committed_at >= self._times[-1],
            f"record {seq} is older than the one before",
        )
        intent = self._by_txn.get(record.txn)
        self._must(intent is not None, f"record {seq} is of a transaction that nobody began")
        if intent is None:
            return
        self._must(
            intent.many or not intent.seqs,
            f"{intent} was applied twice, as records {[*intent.seqs, seq]}",
        )
        self._must(
            intent.status != "failed" or intent.many,
            f"{intent} was told that it failed, and comes now",
        )
        intent.seqs.append(seq)
        self.states.append(self._applied(record, intent))
        self._heads.append(sha256)
        self._times.append(record.committed_at)

    def _applied(self, record: Record, intent: Intent) -> dict[str, Held]:
        before = self.states[-1]
        after = dict(before)
        names = [entry.manifest.name for entry in record.entries]
        wanted = set(intent.names)
        whole = set(names) <= wanted if intent.partial else set(names) == wanted
        self._must(whole, f"{intent} means {sorted(wanted)}, its record has {sorted(names)}")
        for entry in record.entries:
            name = entry.manifest.name
            held = self._entry(before.get(name), entry)
            for ref in entry.manifest.objects if entry.op != "delete" else ():
                self._check_ref(ref, f"record {record.seq}, {name}")
            reason = intent.check(name, before.get(name), held)
            self._must(reason is None, f"record {record.seq}: {intent}, {name}: {reason}")
            if held is None:
                del after[name]
            else:
                after[name] = held
        if record.upkeep is not None:
            self._collected(record.seq, record.upkeep, after)
        return after

    def _entry(self, before: Held | None, entry: Entry) -> Held | None:
        held = held_of(entry.manifest)
        name = entry.manifest.name
        self._must(
            entry.op == "put" or before is not None, f"{entry.op} of {name}, which is absent"
        )
        if before is None or entry.op == "delete":
            return None if entry.op == "delete" else held
        self._must(before.fingerprint == held.fingerprint, f"the fingerprint of {name} changed")
        self._must(before.created_at == held.created_at, f"created_at of {name} changed")
        if entry.op == "put":
            return held
        return held_of(entry.manifest, before.objects)

    def _check_ref(self, ref: ObjectRef, where: str) -> None:
        self._must(ref.key not in self._condemned, f"{where} refers to condemned {ref.key}")
        try:
            data = self._store.get(ref.key)
        except Exception as error:
            raise Violation(f"{where} refers to {ref.key}: {error}") from error
        size, sha256 = self._hashes[ref.key]
        self._must(
            (len(data), size) == (ref.size, ref.size) and ref.sha256 in {None, sha256},
            f"{where} refers to other bytes than those of {ref.key}",
        )

    def _collected(self, seq: int, upkeep: Upkeep, after: Mapping[str, Held]) -> None:
        if upkeep.floor is not None:
            self._must(self.floor <= upkeep.floor <= seq, f"the floor goes to {upkeep.floor}")
            self.floor = upkeep.floor
            self.reached["floor raised"] += 1
        states = [*self.states[self.floor :], after]
        live = {ref.key for state in states for held in state.values() for ref in held.objects}
        for ref in upkeep.condemned:
            self._must(ref.key not in live, f"record {seq} condemns {ref.key}, which is live")
            self._condemned[ref.key] = seq
            self.reached["object condemned"] += 1
        for key in upkeep.swept:
            self._must(key in self._condemned, f"record {seq} has swept {key}, not condemned")
            del self._condemned[key]

    def _values_in(self, key: str) -> list[int]:
        found = self._values.get(key)
        if found is None:
            data = self._store.get(key)
            if data.startswith(b"PAR1"):
                file = pq.ParquetFile(pa.BufferReader(data))
                found = file.read(columns=["n"], use_threads=False)["n"].to_pylist()
            else:
                found = [int(data)]
            self._values[key] = found
        return found

    def _must(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
        self.checks += 1
        if not holds:
            raise Violation(otherwise)


def held_of(manifest: Manifest, before: tuple[ObjectRef, ...] = ()) -> Held:
    """Return what a manifest says, its objects laid behind those of `before`."""
    return Held(
        manifest.schema_fingerprint,
        before + manifest.objects,
        manifest.row_count,
        dict(manifest.properties),
        manifest.created_at,
        manifest.updated_at,
    )
