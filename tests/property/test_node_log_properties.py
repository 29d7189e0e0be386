"""The log against a model: crashes at any byte, and every single byte changed.

The checkers are proven: with a log that ignores crcs, or that takes any bad frame for a torn
tail, the same sweeps fail.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import Corruption, InvalidInput
from workbench.node import log as module
from workbench.node import log_format
from workbench.node.log import LogFiles, SegmentLog
from workbench.node.log_synced import SYNCED_FILE
from workbench.ports.consensus import Configuration, EntryKind, HardState, LogEntry, SnapshotMeta
from workbench.ports.storage import GroupLog, GroupWrite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GROUPS = (1, 2, 9)


class Crash(BaseException):
    """The machine goes down in the middle of a write."""


class Crashing(LogFiles):
    """Writes only so many bytes of one write, then everything ends."""

    def __init__(self) -> None:
        self.bytes_left: int | None = None

    def write(self, handle: int, data: bytes) -> None:
        if self.bytes_left is not None:
            super().write(handle, data[: self.bytes_left])
            raise Crash
        super().write(handle, data)


@dataclass
class Model:
    """What a log must hold: per group its hard state, its entries from 1 on, and its reset.

    Entries that a reset took the place of have only its term.
    """

    states: dict[int, HardState] = field(default_factory=dict)
    entries: dict[int, list[LogEntry]] = field(default_factory=dict)
    resets: dict[int, SnapshotMeta] = field(default_factory=dict)

    def copy(self) -> Model:
        entries = {g: list(e) for g, e in self.entries.items()}
        return Model(dict(self.states), entries, dict(self.resets))

    def apply(self, writes: list[GroupWrite]) -> None:
        for write in writes:
            held = self.entries.setdefault(write.group, [])
            if write.hard_state is not None:
                self.states[write.group] = write.hard_state
            if write.reset is not None:
                at, term = write.reset.index, write.reset.term
                held[:] = [LogEntry(index, term, b"") for index in range(1, at + 1)]
                self.resets[write.group] = write.reset
            if write.entries:
                del held[write.entries[0].index - 1 :]
                held.extend(write.entries)

    def last(self, group: int) -> int:
        return len(self.entries.get(group, []))


def agrees(found: Mapping[int, GroupLog], model: Model, flushed: Mapping[int, int]) -> bool:
    """Tell whether a log holds the model, but for entries that were flushed."""
    if found.keys() != model.entries.keys():
        return False
    for group, held in found.items():
        wanted = model.entries[group]
        first, reset = held.first_index, model.resets.get(group)
        gone = flushed.get(group, 0)
        ok = (
            held.hard_state == model.states.get(group, HardState())
            and held.last_index == len(wanted)
            and held.last_term == (wanted[-1].term if wanted else 0)
            and list(held.entries) == wanted[first - 1 :]
            and first - 1 <= max(gone, reset.index if reset else 0)
            and held.base_term == (wanted[first - 2].term if first > 1 else 0)
            and (held.reset == reset or (held.reset is None and reset and reset.index <= gone))
        )
        if not ok:
            return False
    return True


@contextlib.contextmanager
def new_folder() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp())
    try:
        yield root / "log"
    finally:
        shutil.rmtree(root)


@st.composite
def turn(draw: st.DrawFn, model: Model) -> list[GroupWrite]:
    """One turn on top of the model; it may replace entries that are not committed."""
    working = model.copy()
    writes = []
    for group in draw(st.lists(st.sampled_from(GROUPS), min_size=1, max_size=3, unique=True)):
        state = working.states.get(group, HardState())
        last = working.last(group)
        term = state.term + draw(st.integers(0, 1))
        first = draw(st.integers(state.commit + 1, last + 1))
        count = draw(st.integers(0, 3))
        data = draw(st.binary(max_size=40))
        if not draw(st.integers(0, 7)):
            at = draw(st.integers(state.commit + 1, last + 3))
            meta = SnapshotMeta(at, term, Configuration(frozenset({1, 2}), frozenset({3})))
            writes.append(GroupWrite(group, HardState(term, 1, at), (), meta))
            working.apply(writes[-1:])
            continue
        kind = draw(st.sampled_from(EntryKind))
        new = tuple(LogEntry(first + n, term, data, kind) for n in range(count))
        after = first + count - 1 if count else last
        hard = HardState(term, 1, draw(st.integers(min(state.commit, after), after)))
        writes.append(GroupWrite(group, hard, new))
        working.apply(writes[-1:])
    return writes


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_after_a_crash_at_any_byte_exactly_the_synced_turns_are_there(data: st.DataObject) -> None:
    with new_folder() as folder:
        size = data.draw(st.sampled_from([1, 200, 600, 10_000]), label="segment_bytes")
        synced, waiting = Model(), Model()
        flushed: dict[int, int] = {}
        for _ in range(data.draw(st.integers(1, 4), label="lives")):
            files = Crashing()
            log = SegmentLog(folder, segment_bytes=size, files=files)
            assert agrees(log.groups(), synced, flushed)
            waiting = synced.copy()
            try:
                for _ in range(data.draw(st.integers(0, 8), label="turns")):
                    writes = data.draw(turn(waiting))
                    log.append(writes)
                    waiting.apply(writes)
                    if data.draw(st.integers(0, 3)):
                        if not data.draw(st.integers(0, 5)):
                            files.bytes_left = data.draw(st.integers(0, 400))
                        log.sync()
                        synced = waiting.copy()
                    if not data.draw(st.integers(0, 3)):
                        committed = {g: state.commit for g, state in synced.states.items()}
                        log.compact(committed)
                        flushed = committed
            except Crash:
                pass
            # The process ends here without closing: what waited is lost with it. A turn that
            # was being written is there wholly or not at all.
            log._release()
            with contextlib.closing(SegmentLog(folder, segment_bytes=size)) as found:
                if agrees(found.groups(), waiting, flushed) and files.bytes_left is not None:
                    synced = waiting
                assert agrees(found.groups(), synced, flushed)


def make_log(folder: Path, *, segment_bytes: int) -> tuple[list[Path], Model]:
    model = Model()
    with contextlib.closing(SegmentLog(folder, segment_bytes=segment_bytes)) as log:
        for index in range(1, 7):
            for group in (1, 2):
                data = b"%d of %d" % (index, group)
                write = GroupWrite(group, HardState(1, 1, index), (LogEntry(index, 1, data),))
                log.append([write])
                model.apply([write])
            log.sync()
        return list(log.segments), model


def sweep(segment_bytes: int, masks: tuple[int, ...]) -> tuple[int, int]:
    """Change every byte before the last frame; return how many changes there were and went by."""
    with new_folder() as folder:
        paths, model = make_log(folder, segment_bytes=segment_bytes)
        frame = last_frame_bytes()
        tried = missed = 0
        for path in paths:
            whole = path.read_bytes()
            end = len(whole) - (frame if path == paths[-1] else 0)
            for at in range(end):
                for mask in masks:
                    changed = bytearray(whole)
                    changed[at] ^= mask
                    path.write_bytes(changed)
                    tried += 1
                    missed += goes_by(folder)
            path.write_bytes(whole)
        with contextlib.closing(SegmentLog(folder)) as log:
            assert agrees(log.groups(), model, {})
        return tried, missed


def last_frame_bytes() -> int:
    """Length of the frame of one turn of `make_log`; all are equally long."""
    return (
        log_format.FRAME_HEADER_BYTES
        + 2 * log_format._HARD_STATE.size
        + 2 * (log_format._ENTRY.size + 6)
    )


def goes_by(folder: Path) -> bool:
    """Tell whether nothing is said of damage, as after a power cut that lost SYNCED too."""
    (folder / SYNCED_FILE).unlink(missing_ok=True)
    try:
        SegmentLog(folder).close()
    except Corruption as error:
        return error.code != "log_corrupt" or "at offset" not in error.message
    except InvalidInput:
        return False  # only where the planted fault lets a changed version number through
    return True


@pytest.mark.parametrize("segment_bytes", [10_000, 300])
def test_every_changed_byte_before_the_last_frame_is_found(segment_bytes: int) -> None:
    tried, missed = sweep(segment_bytes, (0x01, 0x80, 0xFF))
    assert tried > 2000
    assert missed == 0


def test_a_log_that_ignores_crcs_is_found_by_the_same_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_format.zlib, "crc32", lambda *_: 0)
    assert sweep(10_000, (0xFF,))[1] > 100


def test_a_log_that_takes_all_damage_for_torn_tails_is_found_by_the_same_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "why_damaged", lambda *_: None)
    with pytest.raises(AssertionError):
        assert sweep(10_000, (0xFF,))[1] == 0


def test_every_truncation_of_the_newest_segment_leaves_whole_turns() -> None:
    with new_folder() as folder:
        [path], model = make_log(folder, segment_bytes=10_000)
        whole = path.read_bytes()
        frame = last_frame_bytes()
        first = len(whole) - 6 * frame
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            (folder / SYNCED_FILE).unlink(missing_ok=True)  # a power cut, not a killed process
            if length < first:
                assert not goes_by(folder), "the segment was complete when it got its name"
                continue
            turns = (length - first) // frame
            with contextlib.closing(SegmentLog(folder)) as log:
                found = log.groups()
                assert (log.torn_tail is not None) == ((length - first) % frame > 0)
            expected = {g: tuple(e[:turns]) for g, e in model.entries.items()} if turns else {}
            assert {g: f.entries for g, f in found.items()} == expected


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_arbitrary_bytes_at_the_tail_never_invent_a_turn(junk: bytes, keep: int) -> None:
    with new_folder() as folder:
        [path], model = make_log(folder, segment_bytes=10_000)
        whole = path.read_bytes()
        cut = whole[: max(len(whole) - keep, len(whole) - 6 * last_frame_bytes())]
        path.write_bytes(cut + junk)
        (folder / SYNCED_FILE).unlink()
        try:
            log = SegmentLog(folder)
        except Corruption:
            return  # no crash leaves these bytes
        with contextlib.closing(log):
            for group, found in log.groups().items():
                assert list(found.entries) == model.entries[group][: len(found.entries)]
