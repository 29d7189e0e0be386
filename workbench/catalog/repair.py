"""Makes a damaged catalog open again, and says what is lost.

    survey ──> actions ──(apply)──> survey … until nothing is left to do

| what is wrong | what is done |
|---|---|
| a stray object, a checkpoint, the hint | moved to quarantine; a new checkpoint, a new hint |
| FORMAT | written again, where a record or checkpoint vouches for its bytes |
| a record that a sound checkpoint covers | the floor is raised to that checkpoint |
| a record that none covers, or the floor's checkpoint | the log starts anew at its head |

Starting anew is itself a record: put if absent under the next number like every other, it says
that nothing before it counts (`Record.restarts`), and a checkpoint at it holds what the intact
records give. So no commit is lost to it: a writer who was first is read before the next attempt;
one who comes later finds the record, and reads the checkpoint before it writes. A process that
was open before does so as well, since what it remembers may rest on the lost record.

Nothing that is intact is destroyed, and what is damaged is moved with all its bytes to
`_catalog/v1/quarantine/`. The record is written first and things are moved after it, so a repair
that is cut short can be run again. What was read badly once is read twice before it is believed.

What ends with it is said before it is done: as of which sequences the catalog can no longer be
read, and what other records and uploads tell of the changes that are lost (`Repair.notes`).

Not here: data objects. Those that are gone are named; their datasets stay as they are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from workbench.catalog.anchor import decode_anchor, encode_anchor
from workbench.catalog.audit import check_objects
from workbench.catalog.chain import check_link
from workbench.catalog.checkpoint import write_checkpoint, write_hint
from workbench.catalog.layout import (
    CATALOG_PREFIX,
    CKPT_PREFIX,
    DATA_PREFIX,
    FORMAT_KEY,
    HINT_KEY,
    QUARANTINE_PREFIX,
    ckpt_key,
    ckpt_seq_of,
    log_key,
    seq_of,
)
from workbench.catalog.record import Record, Upkeep, encode_record
from workbench.catalog.survey import Fault, Survey, survey
from workbench.catalog.values import Problem, check_writer
from workbench.errors import Corruption, NotFound, OutcomeUnknown, Storage, Unavailable
from workbench.model.times import rfc3339

if TYPE_CHECKING:
    from datetime import datetime

    from workbench.catalog.registry import State
    from workbench.catalog.survey import Finding, Progress
    from workbench.ports.object_store import ObjectStore
    from workbench.ports.system import Clock, Rng

ATTEMPTS_MAX: Final = 16
LISTED_MAX: Final = 20
EXPORT_PREFIX: Final = "export/"
_HASH_CHARS: Final = 16  # of the bytes, in a quarantined object's key


class Step(StrEnum):
    """What one action does."""

    RESTART = "restart"
    RAISE_FLOOR = "raise_floor"
    FORMAT = "write_format"
    QUARANTINE = "quarantine"
    CHECKPOINT = "write_checkpoint"
    HINT = "write_hint"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do, in the order in which they are done.

    Attributes:
        step: Its kind.
        key: Of the object that is written or moved.
        text: What and why, for people.
        seq: The floor that is raised to; the checkpoint that the hint names. 0 for none.
    """

    step: Step
    key: str
    text: str
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair did, or would do.

    Attributes:
        actions: In order; empty where nothing is to do.
        lost: Sequences whose changes are lost, ascending.
        left: What cannot be repaired, with what can be done about it.
        applied: Whether the actions were carried out.
        floor: The oldest sequence as of which the catalog can be read afterwards; None where the
            repair leaves that as it is.
        changed: Datasets that other records show as changed by what is lost, ascending.
        suspected: Other datasets with uploads that no record names, ascending: what is lost may
            have added them, or they were left behind by a write that failed.
        notes: What ends with the repair and what is known of what is lost, for people.
    """

    actions: tuple[Action, ...]
    lost: tuple[int, ...]
    left: tuple[Problem, ...]
    applied: bool
    floor: int | None = None
    changed: tuple[str, ...] = ()
    suspected: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def repair(  # noqa: PLR0913  the ports, and whether to do it
    store: ObjectStore,
    *,
    clock: Clock,
    rng: Rng,
    writer: str,
    apply: bool = False,
    progress: Progress = lambda *_: None,
) -> Repair:
    """Return what makes the catalog open and verify again; do it where `apply`.

    Args:
        store: One that holds a catalog, damaged or not.
        clock: For the time of the record that starts anew.
        rng: For its uuid.
        writer: Who we are; 1–256 characters.
        apply: Carry it out.
        progress: Told what is being read.

    Raises:
        NotFound: `catalog_absent`.
        Unavailable: `catalog_busy`, where other writers always came first.
        OutcomeUnknown: The store does not say what it did; run it again.
        Storage: The store refused.
    """
    check_writer(writer)
    found = before = _certain(store, progress)
    actions, lost, left = _plan(found)
    if apply and actions:
        done = _Doing(store, clock, rng, writer)
        found, actions, lost, left = done.run(found, progress)
    if found.state is not None:
        _, bad = check_objects(store, found.state, progress=progress)
        left += [_named(found.state, each) for each in bad]
    floor = _floor_after(actions)
    changed = before.changed if lost else ()
    suspected = _suspected(store, before) if lost else ()
    notes = [] if floor is None else [_of_the_past(before, floor)]
    if lost:
        notes += [*_of_the_times(store, before, lost), _of_the_changes(before, suspected)]
    return Repair(
        tuple(actions),
        tuple(lost),
        tuple(left),
        apply,
        floor=floor,
        changed=changed,
        suspected=suspected,
        notes=tuple(notes),
    )


def _certain(store: ObjectStore, progress: Progress) -> Survey:
    """Return a survey; one that found something is made again, as reads may fail once."""
    found = survey(store, progress=progress)
    return survey(store, progress=progress) if found.findings else found


def _plan(found: Survey) -> tuple[list[Action], list[int], list[Problem]]:
    """Return what to do about the findings, what is lost by it, and what cannot be helped."""
    actions: list[Action] = []
    left: list[Problem] = []
    damaged = [each for each in found.findings if each.fault in {Fault.RECORD, Fault.MISSING}]
    unbased = [each for each in found.findings if each.fault is Fault.NO_CHECKPOINT]
    lost: list[int] = []
    if found.state is None:
        reason = "cannot be read, and nothing tells which catalog it was"
        return [], [], [Problem(FORMAT_KEY, f"{reason}; restore it from a copy")]
    baseless = _is_baseless(found, found.state)
    checkpoint = Action(Step.CHECKPOINT, CKPT_PREFIX, "write a checkpoint at the newest record")
    if damaged or unbased or baseless:
        if not found.sure:
            floors = {found.state.floor} if baseless else set()
            lost = sorted({each.seq for each in (*damaged, *unbased)} | floors)
            actions.append(_restart(found, lost))
        elif not found.sound:
            actions.append(checkpoint)  # then the floor can be raised to it
        elif found.sound[0] > found.state.floor:
            floor = found.sound[0]
            text = f"raise the floor to sequence {floor}: the catalog as of older ones is lost"
            actions.append(Action(Step.RAISE_FLOOR, ckpt_key(floor), text, floor))
    for each in found.findings:
        actions += _mend(each, found, found.state, left)
    taken = [each.key for each in actions if each.step is Step.QUARANTINE]
    if any(map(ckpt_seq_of, taken)) and checkpoint not in actions:
        actions.append(checkpoint)
    return actions, lost, left


def _floor_after(actions: list[Action]) -> int | None:
    """Return the floor that the actions raise to; None where none does."""
    for action in reversed(actions):
        if action.step is Step.RAISE_FLOOR:
            return action.seq
        if action.step is Step.RESTART:
            return seq_of(action.key)
    return None


def _of_the_past(found: Survey, floor: int) -> str:
    first = max(1, 0 if found.state is None else found.state.floor)
    bad = {each.seq for each in found.findings if each.fault in {Fault.RECORD, Fault.MISSING}}
    intact = sum(seq not in bad for seq in range(first, min(floor, found.last + 1)))
    return (
        f"time travel begins at sequence {floor} then: `--at` {first} to {floor - 1} can no longer "
        f"be read, although {intact} of the records there {'is' if intact == 1 else 'are'} intact; "
        "who needs that past copies the whole store first"
    )


def _of_the_times(store: ObjectStore, found: Survey, lost: list[int]) -> list[str]:
    """Return when what is lost was committed, as far as the records around it tell."""
    notes = []
    for seq in lost[:LISTED_MAX]:
        times = (_time_of(store, seq - 1, found), _time_of(store, seq + 1, found))
        words = [
            f"{word} {rfc3339(time)}"
            for word, time in zip(("after", "before"), times, strict=True)
            if time is not None
        ]
        if words:
            notes.append(f"sequence {seq} was committed {' and '.join(words)}")
    return notes


def _time_of(store: ObjectStore, seq: int, found: Survey) -> datetime | None:
    if not 1 <= seq <= found.last:
        return None
    try:
        link = check_link(store.get(log_key(seq)), seq=seq, parent_sha256=None, state=found.state)
    except (Corruption, NotFound, Storage):
        return None
    return link.record.committed_at


def _suspected(store: ObjectStore, found: Survey) -> tuple[str, ...]:
    """Return the live datasets with uploads that nothing names, without those known as changed."""
    state = found.state
    assert state is not None, "a loss in an unknown catalog"
    keys = set(store.list_after(DATA_PREFIX))
    keys -= found.named | found.swept | state.condemned.keys()
    keys -= state.manifests.referred(keys)
    ids = {key.removeprefix(DATA_PREFIX).partition("/")[0] for key in keys}
    if not ids:
        return ()
    names = {one.name for one in state.manifests.select("") if str(one.dataset_id) in ids}
    return tuple(sorted(names - set(found.changed)))


def _of_the_changes(found: Survey, suspected: tuple[str, ...]) -> str:
    """Return which datasets to look at."""
    look = "compare their row counts with what was written, and write again what is missing"
    known = f"other records show that {_listed(found.changed)} changed in what is lost"
    maybe = f"uploads that no record names lie at {_listed(suspected)}, perhaps of what is lost"
    told = [text for names, text in ((found.changed, known), (suspected, maybe)) if names]
    if told:
        return f"{'; '.join(told)}: {look}"
    return (
        "which datasets it changed cannot be told: look at all that are written often, with "
        f"`workbench catalog ls`; {look}"
    )


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - LISTED_MAX} more" if len(names) > LISTED_MAX else ""
    return f"{', '.join(map(repr, names[:LISTED_MAX]))}{more}"


def _is_baseless(found: Survey, state: State) -> bool:
    """Return whether the checkpoint that the catalog begins with is there but not sound."""
    bad = [each.seq for each in found.findings if each.fault is Fault.CHECKPOINT]
    return state.floor > 0 and state.floor in bad


def _restart(found: Survey, lost: list[int]) -> Action:
    numbers = ", ".join(map(str, lost))
    text = (
        f"start the log anew at sequence {found.last + 1} from what is intact; the changes of "
        f"{'sequence' if len(lost) == 1 else 'sequences'} {numbers} are lost: their datasets are "
        "as they were before, or as later records say"
    )
    return Action(Step.RESTART, log_key(found.last + 1), text)


def _mend(finding: Finding, found: Survey, state: State, left: list[Problem]) -> list[Action]:
    """Return what to do about one finding, once the state itself is in order."""
    key = finding.key
    move = Action(Step.QUARANTINE, key, f"move to quarantine: {finding.reason}")
    if finding.fault in {Fault.STRAY, Fault.RECORD, Fault.CHECKPOINT}:
        return [move]
    if finding.fault is Fault.HINT:
        newest = max(found.sound, default=0)
        return [Action(Step.HINT, key, f"write it again: {finding.reason}", newest)]
    if finding.fault is Fault.FORMAT:
        if _anchor_of(state) is None:
            reason = "cannot be read, and what is known of it does not give its bytes"
            left.append(Problem(key, f"{reason}; restore it from a copy"))
            return []
        return [Action(Step.FORMAT, key, f"write it again: {finding.reason}")]
    return []


def _anchor_of(state: State) -> bytes | None:
    """Return the bytes of FORMAT, where they have the hash that the chain hangs on."""
    data = encode_anchor(state.catalog_uuid)
    return data if decode_anchor(data).sha256 == state.anchor_sha256 else None


def _named(state: State, problem: Problem) -> Problem:
    """Return the problem of an object with the dataset that holds it, and what to do."""
    names = [
        one.name
        for one in state.manifests.select("")
        if any(ref.key == problem.key for ref in one.objects)
    ]
    again, given_up = "collect that again", names[0]
    if given_up.startswith(EXPORT_PREFIX):
        folder = f"{given_up.rpartition('/')[0]}/"
        again = "export again under another name"
        given_up = " ".join(one.name for one in state.manifests.select(folder))
    return Problem(
        problem.key,
        f"{problem.reason}; it belongs to {', '.join(map(repr, names))}: {again}, or "
        f"give it up with `workbench catalog rm {given_up}`",
    )


class _Doing:
    """Carries actions out, the record first."""

    def __init__(self, store: ObjectStore, clock: Clock, rng: Rng, writer: str) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._writer = writer

    def run(
        self, found: Survey, progress: Progress
    ) -> tuple[Survey, list[Action], list[int], list[Problem]]:
        """Do what there is to do, again where others commit meanwhile; return what was done."""
        done: list[Action] = []
        lost: set[int] = set()
        for _ in range(ATTEMPTS_MAX):
            actions, gone, left = _plan(found)
            if not actions:
                return found, done, sorted(lost), left
            state = self._commit(found, actions)
            if state is not None:
                lost.update(gone)
                for action in actions:
                    self._do(action, state)
                done += [each for each in actions if each not in done]
            found = _certain(self._store, progress)
        raise Unavailable(
            f"other writers always came first in {self._store.url}, or it is damaged anew",
            code="catalog_busy",
            hint="stop the writers, then run it again",
        )

    def _commit(self, found: Survey, actions: list[Action]) -> State | None:
        """Write the record that the actions need; return the state at it, None where we lost."""
        state = found.state
        assert state is not None, "actions on an unknown catalog"
        step = next((a for a in actions if a.step in {Step.RESTART, Step.RAISE_FLOOR}), None)
        if step is None:
            return state
        seq = found.last + 1
        now = self._clock.now()
        record = Record(
            catalog_uuid=state.catalog_uuid,
            seq=seq,
            txn=self._rng.uuid(),
            writer=self._writer,
            parent_sha256=found.last_sha256,
            committed_at=now if state.committed_at is None else max(now, state.committed_at),
            entries=(),
            upkeep=Upkeep(floor=step.seq or seq),
        )
        data = encode_record(record)
        try:
            if not self._store.put_if_absent(log_key(seq), data):
                return None
        except (Unavailable, OutcomeUnknown):
            if not self._is_at(log_key(seq), data):
                return None  # if it comes yet, the next survey finds it
        after = replace(
            state,
            seq=seq,
            head_sha256=hashlib.sha256(data).hexdigest(),
            committed_at=record.committed_at,
            floor=step.seq or seq,
        )
        if step.step is Step.RESTART:
            write_checkpoint(self._store, after, writer=self._writer)
        return after

    def _is_at(self, key: str, data: bytes) -> bool:
        try:
            return self._store.get(key) == data
        except NotFound:
            return False

    def _do(self, action: Action, state: State) -> None:
        match action.step:
            case Step.QUARANTINE:
                quarantine(self._store, action.key)
            case Step.FORMAT:
                data = _anchor_of(state)
                assert data is not None, "an action that was not planned"
                quarantine(self._store, FORMAT_KEY)
                self._store.put_if_absent(FORMAT_KEY, data)
            case Step.CHECKPOINT:
                write_checkpoint(self._store, state, writer=self._writer)
            case Step.HINT:
                quarantine(self._store, HINT_KEY)
                if action.seq:
                    write_hint(self._store, action.seq)
            case Step.RESTART | Step.RAISE_FLOOR:
                pass  # by `_commit`


def quarantine(store: ObjectStore, key: str) -> None:
    """Move an object, with all its bytes, to where nothing reads it."""
    try:
        data = store.get(key)
    except NotFound:
        return
    digest = hashlib.sha256(data).hexdigest()[:_HASH_CHARS]
    store.put_if_absent(f"{QUARANTINE_PREFIX}{digest}/{key.removeprefix(CATALOG_PREFIX)}", data)
    store.delete(key)
