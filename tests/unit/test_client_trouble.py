"""What a call that failed says of why: which nodes to look after, and whether it was a write."""

from __future__ import annotations

import pytest
from client_world import Bench, World

from workbench.client.trouble import Trouble
from workbench.client.values import Mutation, Read, RoutesRequest, Scan, Write
from workbench.errors import Unavailable

LOW = b"\x10"  # of group 1


def nobody(address):
    return Unavailable(
        f"no connection to {address}", code="node_unreachable", hint="check that it runs"
    )


def leaderless(node):
    return Unavailable(f"node {node} knows of no leader of group 1", code="leader_unknown")


class MajorityLost(World):
    """Only n0 is left of three; it tells the routes, and knows of no leader."""

    lost = False

    def answer(self, address, request):
        if self.lost and address != "n0":
            raise nobody(address)
        if self.lost and not isinstance(request, RoutesRequest):
            raise leaderless(0)
        return super().answer(address, request)


@pytest.mark.parametrize(
    ("call", "certain"),
    [
        (Read((LOW,)), False),
        (Scan(LOW, LOW + b"\x01"), False),
        (Write((Mutation(LOW, b"v"),)), True),
    ],
)
def test_without_a_majority_the_one_left_is_quoted_and_the_others_are_named(call, certain):
    world = MajorityLost()
    bench = Bench(world)
    bench.settle(bench.start(Read((LOW,))))
    world.lost = True
    under = bench.start(call, timeout_ms=3_000)
    while under not in bench.ends:
        while bench.wires:
            bench.deliver()
        bench.pass_time()
    error = bench.ends[under]
    assert isinstance(error, Unavailable)
    assert error.code == "deadline_exceeded"
    assert "knows of no leader of group 1" in error.message
    assert "nobody answers at n1, n2" in error.message
    assert ("nothing was written" in error.hint) == certain


def test_who_answers_counts_more_than_who_does_not_until_it_is_silent_too():
    trouble = Trouble()
    assert trouble.message == ""
    trouble.note(nobody("a"), "a")
    trouble.note(leaderless(2), "b")
    trouble.note(nobody("c"), "c")
    assert trouble.error.code == "leader_unknown"
    assert trouble.message == "nobody answers at a, c; node 2 knows of no leader of group 1"
    trouble.heard("a")
    assert trouble.message == "nobody answers at c; node 2 knows of no leader of group 1"
    trouble.note(nobody("b"), "b")
    assert trouble.message == "nobody answers at c; no connection to b"
    trouble.note(leaderless(3), "c")
    assert trouble.message == "nobody answers at b; node 3 knows of no leader of group 1"


def test_an_error_of_its_own_is_kept_beside_the_addresses():
    trouble = Trouble()
    trouble.note(nobody("a"), "a")
    own = Unavailable("no route holds the key", code="ownership_unknown")
    trouble.note(own)
    assert trouble.message == "nobody answers at a; no route holds the key"
    assert trouble.whole(leaderless(1)).message == leaderless(1).message


def test_a_call_to_nobody_names_every_address():
    bench = Bench()
    under = bench.start(Read((LOW,)), timeout_ms=10_000)
    while under not in bench.ends:
        if bench.wires:
            bench.unreachable()
        else:
            bench.pass_time()
    error = bench.ends[under]
    assert (error.code, bench.now_ms < 1_000) == ("node_unreachable", True)
    # The last one is named by its own text, where it is a real one.
    [*others, _] = [each.address for each in bench.sent]
    assert error.message == f"nobody answers at {', '.join(sorted(others))}; no connection"
