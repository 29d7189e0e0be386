"""What a node holds of its callers' requests: exact, per caller and in all."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import Unavailable
from workbench.node.admission import CALL_BYTES, Admission

CALLERS = st.sampled_from([None, "ipv4:127.0.0.1:1", "ipv4:127.0.0.1:2"])
MIB = 2**20


@given(st.lists(st.tuples(CALLERS, st.integers(0, 3 * MIB)), max_size=40), st.randoms())
def test_no_caller_and_no_node_ever_holds_more_than_it_may(calls, random):
    admission = Admission(caller_max=5 * MIB, node_max=8 * MIB)
    inside: list[tuple[str | None, int]] = []
    for caller, size in calls:
        held: Counter[str | None] = Counter()
        for each, request in inside:
            held[each] += request + CALL_BYTES
        fits = held.total() + size + CALL_BYTES <= 8 * MIB and (
            caller is None or held[caller] + size + CALL_BYTES <= 5 * MIB
        )
        if fits:
            admission.enter(caller, size)
            inside.append((caller, size))
        else:
            with pytest.raises(Unavailable) as refused:
                admission.enter(caller, size)
            assert refused.value.code == "queue_full"
        if inside and random.random() < 0.4:
            admission.leave(*inside.pop(random.randrange(len(inside))))
    for each in inside:
        admission.leave(*each)
    assert admission.held == 0
    assert admission._of_caller == {}, "callers that are gone are forgotten"


def test_one_caller_that_sends_too_much_leaves_room_for_the_others():
    admission = Admission(caller_max=4 * MIB, node_max=100 * MIB)
    admission.enter("greedy", 3 * MIB)
    with pytest.raises(Unavailable, match="of this caller"):
        admission.enter("greedy", 2 * MIB)
    admission.enter("modest", 2 * MIB)
    admission.leave("greedy", 3 * MIB)
    admission.enter("greedy", 2 * MIB)
