"""What the catalog knows: a pure fold of its records, and the plan of the next one.

    State ──fold(link, link, …)──> State
    State ──plan(changes, now)───> Batch: rows of the next record, and what to answer

A State is never changed: `fold` returns a new one that shares what did not change (`index`), so
whoever holds the old state keeps a whole one. Rules that only make sense in order are checked here:

- an entry's fingerprint is the registered one; another name is needed for another fingerprint;
- created_at is the registered one;
- what a tombstone deletes, and what objects are added to, is registered;
- no object comes in that is condemned; what is condemned is registered nowhere, what is swept was
  condemned before;
- the floor and the time of commits never go back.

A record that breaks one was not written by this code, and is Corruption.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import TYPE_CHECKING

from workbench.catalog.faults import corrupt
from workbench.catalog.index import Draft, Index
from workbench.catalog.layout import log_key
from workbench.catalog.record import Entry, Record, Upkeep
from workbench.catalog.values import TIME_COLUMN, Registered, Registration
from workbench.errors import Conflict, FingerprintConflict, NotFound
from workbench.model.manifest import Manifest, ObjectRef, dataset_id_of

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Link:
    """A record with SHA-256 of all its bytes, which its successor must carry."""

    record: Record
    sha256: str


@dataclass(frozen=True, slots=True)
class State:
    """The catalog at one record.

    Attributes:
        catalog_uuid: Of the FORMAT object.
        seq: Of the newest record, 0 where there is none.
        head_sha256: Of the newest record's bytes, of FORMAT where there is none.
        manifests: By name. Never handed out: `get` and `select` return copies.
        committed_at: Of the newest record, UTC; None where there is none.
        floor: The oldest sequence as of which the catalog can be read; 0 where all can be.
        condemned: Keys that nothing may refer to any more, with the committed_at of the record
            that says so. They are decided in the log, so that a writer whose upload was
            collected meanwhile finds out when it commits, whatever its clock says.
        anchor_sha256: Of FORMAT.
        proven: Whether record `seq` was read; else a checkpoint says what hash it has.
    """

    catalog_uuid: uuid.UUID
    seq: int
    head_sha256: str
    manifests: Index
    committed_at: datetime | None = None
    floor: int = 0
    condemned: Mapping[str, datetime] = field(default_factory=dict)
    anchor_sha256: str = ""
    proven: bool = field(default=True, compare=False)

    def get(self, name: str) -> Manifest | None:
        """Return a copy that shares nothing that can change, None where absent."""
        manifest = self.manifests.get(name)
        return None if manifest is None else _copy(manifest)

    def select(self, prefix: str) -> list[Manifest]:
        """Return copies of all whose name starts with `prefix`, by name."""
        return [_copy(manifest) for manifest in self.manifests.select(prefix)]


@dataclass(frozen=True, slots=True)
class Swap:
    """Objects of a dataset that others take the place of; those that came meanwhile stay.

    Attributes:
        old: Keys, at least one; the new objects go to the place of the first.
        new: What they become; may be empty.
        rows: By how many rows the dataset changes: 0 where objects are merged.
    """

    old: tuple[str, ...]
    new: tuple[ObjectRef, ...]
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Removal:
    """A dataset that is to be there no more. Its objects stay until they are collected."""

    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """One dataset of a commit.

    Attributes:
        registration: What shall hold.
        append: Adds the objects to the registered ones.
        create: The name must be free, or hold the very same; checked again at every rebase.
        expected_rows: The row count that must be registered, 0 where absent; None means any.
            Checked again at every rebase.
        swaps: Not empty: the registered objects change so, the properties are laid over the
            registered ones, and the objects and row count of `registration` do not count. All
            that is to go must still be there, at every rebase.
    """

    registration: Registration
    append: bool = False
    create: bool = False
    expected_rows: int | None = None
    swaps: tuple[Swap, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of the next record, and the answers, one per change in their order.

    Attributes:
        entries: None for a batch that changes nothing.
        answers: One per change.
        upkeep: What garbage collection decides, where the batch is its own.
    """

    entries: tuple[Entry, ...]
    answers: tuple[Registered, ...]
    upkeep: Upkeep | None = None


def fold(state: State, links: Iterable[Link]) -> State:
    """Return the state after the links, which the caller has checked to follow it.

    Raises:
        Corruption: `record_rule_broken`; `state` is untouched.
    """
    manifests, condemned = Draft(state.manifests), dict(state.condemned)
    seq, head, floor, at = state.seq, state.head_sha256, state.floor, state.committed_at
    for link in links:
        record, key = link.record, log_key(link.record.seq)
        assert record.seq == seq + 1, "a link that does not follow"
        if at is not None and record.committed_at < at and record.version > 1:
            raise corrupt(key, f"is older than the record before, of {at}", "record_rule_broken")
        for entry in record.entries:
            _apply(manifests, condemned, entry, key)
        if record.upkeep is not None:
            floor = _collect(manifests, condemned, floor, record, record.upkeep)
        seq, head = record.seq, link.sha256
        at = record.committed_at if at is None else max(at, record.committed_at)
    return replace(
        state,
        seq=seq,
        head_sha256=head,
        manifests=manifests.done(),
        committed_at=at,
        floor=floor,
        condemned=condemned,
        proven=True,
    )


def plan(state: State, changes: Sequence[Change | Removal], now: datetime) -> Batch:
    """Return what has to be written so that `changes` hold on top of `state`.

    What holds already is not written. Called again for every rebase.

    Args:
        state: The newest known.
        changes: Checked by `check_registrations`, no name twice.
        now: Aware. Where it lies before the registered update, that one stays.

    Raises:
        FingerprintConflict: For the first change whose dataset has another fingerprint.
        Conflict: `dataset_exists` for the first `create` whose name holds something else,
            `dataset_changed` for the first change that expects another row count,
            `objects_changed` for the first swap whose objects are not there any more,
            `time_column_changed` for the first append that is cut by another column,
            `object_condemned` for the first object that garbage collection has taken.
        NotFound: `dataset_absent` for the first removal of what is not there.
    """
    entries, answers = [], []
    for change in changes:
        if isinstance(change, Removal):
            gone = _registered(state, change.name)
            # Without objects, of which there may be more than a record holds.
            entries.append(Entry("delete", replace(gone, objects=())))
            answers.append(Registered(_copy(gone), existing=True, written=True))
            continue
        registered = state.manifests.get(change.registration.name)
        _check_expected(registered, change)
        wanted = _merge(registered, change)
        # A swap changes what is known of objects even where their bytes are the same.
        if registered is not None and not change.swaps and _holds(registered, wanted):
            answers.append(Registered(_copy(registered), existing=True, written=False))
            continue
        if registered is not None and change.create:
            raise Conflict(
                f"dataset {registered.name!r} is registered with other objects or properties",
                code="dataset_exists",
                hint="choose another name, or replace it",
            )
        manifest = _manifest(registered, wanted, now.astimezone(UTC))
        entries.append(_entry(state, registered, manifest, change))
        answers.append(Registered(_copy(manifest), existing=registered is not None, written=True))
    return Batch(tuple(entries), tuple(answers))


def _entry(state: State, registered: Manifest | None, manifest: Manifest, change: Change) -> Entry:
    """Return the row for one change: an addition names only what it adds."""
    swapped = (ref for swap in change.swaps for ref in swap.new)
    for ref in (*change.registration.objects, *swapped):
        if ref.key in state.condemned:
            raise condemned_error(manifest.name, ref.key)
    if registered is None or not change.append:
        return Entry("put", manifest)
    return Entry("add", replace(manifest, objects=manifest.objects[len(registered.objects) :]))


def condemned_error(name: str, key: str) -> Conflict:
    """Return what a writer is told whose upload was collected before it could commit."""
    return Conflict(
        f"dataset {name!r}: garbage collection has taken {key!r}, as nothing referred to it",
        code="object_condemned",
        hint="write the data again; a writer must commit within the grace period",
    )


def _registered(state: State, name: str) -> Manifest:
    registered = state.manifests.get(name)
    if registered is None:
        raise NotFound(
            f"no dataset {name!r} at sequence {state.seq}",
            code="dataset_absent",
            hint="somebody else may have removed it; `workbench catalog ls` lists all",
        )
    return registered


def _check_expected(registered: Manifest | None, change: Change) -> None:
    """Raise Conflict where the registered rows are not those that the change builds on."""
    rows = 0 if registered is None else registered.row_count
    if change.expected_rows is None or change.expected_rows == rows:
        return
    raise Conflict(
        f"dataset {change.registration.name!r} has {'uncounted' if rows is None else rows} rows, "
        f"not the {change.expected_rows} that this append builds on",
        code="dataset_changed",
        hint="another writer was first: read the dataset again, then decide what to append",
    )


def _collect(
    manifests: Draft,
    condemned: dict[str, datetime],
    floor: int,
    record: Record,
    upkeep: Upkeep,
) -> int:
    """Carry out a decision of garbage collection; return the new floor."""
    key = log_key(record.seq)
    if upkeep.condemned:
        live = manifests.referred([ref.key for ref in upkeep.condemned])
        for ref in upkeep.condemned:
            if ref.key in live or ref.key in condemned:
                why = "is registered" if ref.key in live else "was condemned before"
                raise corrupt(key, f"condemns {ref.key!r}, which {why}", "record_rule_broken")
            condemned[ref.key] = record.committed_at
    for swept in upkeep.swept:
        if condemned.pop(swept, None) is None:
            reason = f"has swept {swept!r}, which was not condemned"
            raise corrupt(key, reason, "record_rule_broken")
    if upkeep.floor is not None and not floor <= upkeep.floor <= record.seq:
        reason = f"moves the floor from {floor} to {upkeep.floor}"
        raise corrupt(key, reason, "record_rule_broken")
    return floor if upkeep.floor is None else upkeep.floor


def _apply(manifests: Draft, condemned: Mapping[str, datetime], entry: Entry, key: str) -> None:
    name = entry.manifest.name
    registered = manifests.get(name)
    if entry.op == "delete":
        if registered is None:
            raise corrupt(key, f"deletes {name!r}, which is absent", "record_rule_broken")
        del manifests[name]
        return
    for ref in entry.manifest.objects:
        if ref.key in condemned:
            reason = f"refers to {ref.key!r}, which is condemned"
            raise corrupt(key, reason, "record_rule_broken")
    if entry.op == "add" and registered is None:
        raise corrupt(key, f"adds to {name!r}, which is absent", "record_rule_broken")
    if registered is not None:
        if registered.schema_fingerprint != entry.manifest.schema_fingerprint:
            reason = f"changes the schema fingerprint of {name!r}"
            raise corrupt(key, reason, "record_rule_broken")
        if registered.created_at != entry.manifest.created_at:
            raise corrupt(key, f"changes created_at of {name!r}", "record_rule_broken")
    if entry.op == "add" and registered is not None:
        objects = registered.objects + entry.manifest.objects
        manifests[name] = replace(entry.manifest, objects=objects)
    else:
        manifests[name] = entry.manifest


def _merge(registered: Manifest | None, change: Change) -> Registration:
    wanted = change.registration
    if change.swaps:
        return _swapped(registered, change)
    if registered is None:
        return wanted
    if registered.schema_fingerprint != wanted.schema_fingerprint:
        raise FingerprintConflict(
            wanted.name, registered.schema_fingerprint, wanted.schema_fingerprint
        )
    if not change.append:
        return wanted
    _check_time_column(registered, wanted)
    counted = registered.row_count is not None and wanted.row_count is not None
    added = () if wanted.row_count == 0 else wanted.objects  # no rows, no object
    return replace(
        wanted,
        objects=registered.objects + added,
        row_count=(registered.row_count or 0) + (wanted.row_count or 0) if counted else None,
        properties={**registered.properties, **wanted.properties},
    )


def _check_time_column(registered: Manifest, wanted: Registration) -> None:
    """Raise Conflict where the bounds of the new objects are of another column."""
    before, now = (each.properties.get(TIME_COLUMN) for each in (registered, wanted))
    if registered.objects and None not in {before, now} and before != now:
        raise Conflict(
            f"dataset {registered.name!r} is cut by its column {before!r}, the new rows by {now!r}",
            code="time_column_changed",
            hint="append with the same time_column, or replace the dataset",
        )


def _swapped(registered: Manifest | None, change: Change) -> Registration:
    """Return what holds once the swaps are done."""
    wanted = change.registration
    objects = [] if registered is None else list(registered.objects)
    rows = None if registered is None else registered.row_count
    for swap in change.swaps:
        places = {ref.key: place for place, ref in enumerate(objects)}
        old = set(swap.old)
        assert old, "a swap of nothing"
        if registered is None or not old <= places.keys():
            raise Conflict(
                f"dataset {wanted.name!r} no longer has all objects that were to be replaced",
                code="objects_changed",
                hint="somebody else replaced them first: look at what is there now",
            )
        first = min(places[key] for key in old)
        after = [ref for ref in objects[first:] if ref.key not in old]
        objects = [*objects[:first], *swap.new, *after]
        # A count below zero shows that what was registered was none.
        rows = None if rows is None or rows + swap.rows < 0 else rows + swap.rows
    assert registered is not None
    if registered.schema_fingerprint != wanted.schema_fingerprint:
        raise FingerprintConflict(
            wanted.name, registered.schema_fingerprint, wanted.schema_fingerprint
        )
    return replace(
        wanted,
        objects=tuple(objects),
        row_count=rows,
        properties={**registered.properties, **wanted.properties},
    )


def _holds(registered: Manifest, wanted: Registration) -> bool:
    return (
        len(registered.objects) == len(wanted.objects)
        and all(map(_same_object, registered.objects, wanted.objects))
        and dict(registered.properties) == dict(wanted.properties)
        and wanted.row_count in {None, registered.row_count}
    )


def _same_object(one: ObjectRef, other: ObjectRef) -> bool:
    """Compare by content where both are hashed; objects are immutable, so else by key."""
    if one.sha256 is not None and other.sha256 is not None:
        return (one.size, one.sha256) == (other.size, other.sha256)
    return (one.key, one.size) == (other.key, other.size)


def _manifest(registered: Manifest | None, wanted: Registration, now: datetime) -> Manifest:
    return Manifest(
        dataset_id=dataset_id_of(wanted.name),
        name=wanted.name,
        schema_fingerprint=wanted.schema_fingerprint,
        objects=tuple(wanted.objects),
        created_at=registered.created_at if registered else now,
        updated_at=max(registered.updated_at, now) if registered else now,
        row_count=wanted.row_count,
        properties=dict(wanted.properties),
    )


def _copy(manifest: Manifest) -> Manifest:
    return replace(manifest, properties=dict(manifest.properties))
