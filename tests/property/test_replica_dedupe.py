"""The dedupe table against the whole history: no sequence is taken twice, whatever comes late."""

from __future__ import annotations

from unittest import mock

import pytest
from engines import MemoryEngine
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import OutcomeUnknown
from workbench.model.node import Written
from workbench.model.times import hlc_of_ms
from workbench.replica import dedupe
from workbench.replica.dedupe import DEDUPE_EXPIRY_MS, Dedupe

WINDOW = 4
STEPS = st.lists(
    st.tuples(
        st.sampled_from([b"x", b"y\x00"]),
        st.integers(0, 12),
        st.sampled_from([1, 1, 1, DEDUPE_EXPIRY_MS // 3, DEDUPE_EXPIRY_MS]),
        st.booleans(),
    ),
    max_size=60,
)


def play(steps: list[tuple[bytes, int, int, bool]]) -> None:
    engine = MemoryEngine()
    table = Dedupe(1, engine)
    first: dict[tuple[bytes, int], Written] = {}
    now_ms = 0
    for index, (client, sequence, pause_ms, restart) in enumerate(steps, start=1):
        now_ms += pause_ms
        engine.write([*table.expire(hlc_of_ms(now_ms))])
        try:
            found = table.find(client, sequence)
        except OutcomeUnknown:
            assert is_old(first, client, sequence, now_ms)
        else:
            assert found == first.get((client, sequence)), "taken twice, or answered wrongly"
            if found is None:
                written = Written(hlc_of_ms(now_ms), index)
                first[client, sequence] = written
                engine.write([*table.store(client, sequence, written, b"a", b"b")])
            else:
                assert found.commit_ts + hlc_of_ms(DEDUPE_EXPIRY_MS) > hlc_of_ms(now_ms)
        for each in (b"x", b"y\x00"):
            assert sum(at[0] == each for at in table.table()[0]) <= WINDOW
        if restart:
            again = Dedupe(1, engine)
            assert again.table() == table.table()
            table = again


def is_old(first: dict[tuple[bytes, int], Written], client: bytes, sequence: int, now_ms: int):
    """Tell whether a sequence may be refused: a later one has expired, or fills the window."""
    later = [written for (who, at), written in first.items() if who == client and at >= sequence]
    expired = hlc_of_ms(now_ms - DEDUPE_EXPIRY_MS)
    return len(later) >= WINDOW or any(written.commit_ts <= expired for written in later)


@given(STEPS)
def test_no_sequence_is_taken_twice(steps):
    with mock.patch.object(dedupe, "DEDUPE_SEQUENCES_MAX", WINDOW):
        play(steps)


def test_a_table_that_forgets_its_marks_is_caught() -> None:
    steps = [(b"x", 1, 1, False), (b"x", 2, DEDUPE_EXPIRY_MS, True), (b"x", 1, 1, False)]
    play(steps)
    with (
        mock.patch.object(dedupe, "decode_integer", return_value=-1),
        pytest.raises(AssertionError),
    ):
        play(steps)
