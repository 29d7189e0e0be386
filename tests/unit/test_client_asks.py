"""Asks of the client's machine, about all but keys: whom it asks, what again, and how they end."""

from __future__ import annotations

import pytest
from client_world import Bench

from workbench.client.values import Ask, Mutation, Read, Told, Write, failure_of
from workbench.errors import (
    Conflict,
    Internal,
    InvalidInput,
    OutcomeUnknown,
    Unavailable,
    WorkbenchError,
)
from workbench.routing.table import RouteTable

GONE = Unavailable("no connection", code="node_unreachable")
LOST = Unavailable("no answer", code="connection_lost")
LEADERLESS = Unavailable("there is none", code="leader_unknown")


class Asked(Bench):
    """A bench on which answers to asks are given by hand."""

    def answer(self, value: object = "fine") -> None:
        send = self.wires.pop(0)
        self.client.answered(send.attempt, Told(value), self.now_ms)
        self.take()

    def refuse(self, error: WorkbenchError, leader: str | None = None) -> None:
        send = self.wires.pop(0)
        failure = failure_of(error, writes=send.request.writes, leader=leader)
        self.client.failed(send.attempt, failure, self.now_ms)
        self.take()
        if not self.wires and send.call not in self.ends:
            self.pass_time()

    @property
    def address(self) -> str:
        [send] = self.wires
        return send.address


@pytest.fixture
def bench() -> Asked:
    return Asked()


def test_an_ask_needs_no_routes_and_goes_to_one_node(bench: Asked) -> None:
    call = bench.start(Ask("status"))
    [send] = bench.sent
    assert (send.request.what, send.address, send.timeout_ms) == ("status", "n0", 5_000)
    bench.answer("well")
    assert bench.ends == {call: Told("well")}
    assert bench.client.routes is None
    assert bench.client.repeats == 0


def test_a_quick_one_gives_no_node_more_time_than_an_attempt_has(bench: Asked) -> None:
    bench.start(Ask("status", quick=True))
    assert bench.sent[0].timeout_ms == 2_000


def test_where_nobody_answers_the_next_is_asked_and_is_asked_first_from_then_on(
    bench: Asked,
) -> None:
    bench.start(Ask("status"))
    bench.refuse(GONE)
    assert bench.address == "n1"
    bench.answer()
    bench.start(Ask("status"))
    assert bench.address == "n1"
    assert bench.client.repeats == 1


def test_where_nobody_answers_at_all_it_ends_at_once_and_not_at_its_deadline(bench: Asked) -> None:
    call = bench.start(Ask("status"))
    for expected in ("n0", "n1", "n2"):
        assert bench.address == expected
        bench.refuse(GONE)
    assert bench.ends[call].code == GONE.code
    assert bench.ends[call].message == "nobody answers at n0, n1; no connection"
    assert bench.now_ms < 100


def test_a_node_that_stops_is_not_asked_again_either(bench: Asked) -> None:
    stopping = Unavailable("stopping", code="node_stopping")
    call = bench.start(Ask("split", writes=True))
    for error in (GONE, stopping, stopping):
        bench.refuse(error)
    assert bench.ends[call].code == stopping.code
    assert bench.ends[call].message == "nobody answers at n0; stopping"
    assert [each.address for each in bench.sent] == ["n0", "n1", "n2"]


def test_a_leader_that_is_named_is_asked_at_once_and_remembered_for_its_group(
    bench: Asked,
) -> None:
    bench.start(Ask("export", group=2))
    bench.refuse(Unavailable("elsewhere", code="not_leader"), leader="n2")
    assert (bench.address, bench.now_ms) == ("n2", 0)
    bench.answer()
    bench.start(Ask("pin", group=2))
    assert bench.address == "n2"
    bench.answer()
    bench.start(Ask("pin", group=1))
    assert bench.address == "n0"


def test_a_group_without_a_leader_is_asked_again_until_the_deadline_tells_so(bench: Asked) -> None:
    call = bench.start(Ask("pin", group=1))
    while call not in bench.ends:
        bench.refuse(LEADERLESS)
    assert bench.ends[call] is LEADERLESS
    assert bench.now_ms == 5_000
    assert 5 < len(bench.sent) < 30, "the pauses get longer"


@pytest.mark.parametrize(
    "error",
    [
        Conflict("another was first", code="catalog_version_mismatch"),
        InvalidInput("no such method", code="status_unimplemented"),
        Unavailable("not yet", code="import_ahead_of_clock"),
        Unavailable("too many", code="pins_exhausted"),
        Internal("a bug", code="node_bug"),
    ],
)
def test_what_a_group_refuses_for_a_reason_of_its_own_ends_it(
    bench: Asked, error: WorkbenchError
) -> None:
    call = bench.start(Ask("split", writes=True))
    bench.refuse(error)
    assert bench.ends[call] is error
    assert len(bench.sent) == 1


def test_what_may_have_been_done_is_never_sent_again_and_what_was_not_is(bench: Asked) -> None:
    unknown = OutcomeUnknown("no answer", code="connection_lost")
    call = bench.start(Ask("split", writes=True))
    bench.refuse(GONE)
    bench.refuse(Unavailable("stopping", code="node_stopping"))
    bench.refuse(unknown)
    assert bench.ends[call] is unknown
    assert [each.address for each in bench.sent] == ["n0", "n1", "n2"]


def test_a_read_that_was_cut_off_is_asked_elsewhere(bench: Asked) -> None:
    call = bench.start(Ask("routes"))
    bench.refuse(LOST)
    assert bench.address == "n1"
    bench.answer()
    assert bench.ends[call] == Told("fine")


@pytest.mark.parametrize(("writes", "kind"), [(True, OutcomeUnknown), (False, Unavailable)])
def test_an_answer_that_does_not_come_in_time_is_unknown_where_something_may_have_changed(
    bench: Asked, kind: type[WorkbenchError], *, writes: bool
) -> None:
    call = bench.start(Ask("split", writes=writes))
    bench.pass_time(5_000)
    error = bench.ends[call]
    assert isinstance(error, kind)
    assert error.code == "deadline_exceeded"


def test_one_node_is_asked_alone_and_says_nothing_of_whom_to_ask_otherwise(bench: Asked) -> None:
    call = bench.start(Ask("status", address="n9"))
    assert bench.address == "n9"
    bench.refuse(GONE)
    assert bench.ends[call] is GONE
    call = bench.start(Ask("status", address="n9"))
    bench.refuse(Unavailable("elsewhere", code="not_leader"), leader="n2")
    bench.answer("well")
    assert {each.address for each in bench.sent} == {"n9"}
    bench.start(Ask("status"))
    assert bench.address == "n0"


def test_an_answer_of_another_kind_is_corrupt(bench: Asked) -> None:
    call = bench.start(Ask("routes"))
    [send] = bench.wires
    bench.client.answered(send.attempt, RouteTable(1, ()), 0)
    bench.take()
    assert bench.ends[call].code == "answer_malformed"


def test_calls_that_are_hurried_end_sooner_as_they_do_at_their_own_time_and_later_ones_do_not(
    bench: Asked,
) -> None:
    first = bench.start(Write((Mutation(b"\x10", b"v"),)))
    bench.deliver()  # the routes
    second = bench.start(Ask("status"))
    soon = bench.start(Ask("status"), timeout_ms=50)
    bench.client.hurry(bench.now_ms, 100)
    third = bench.start(Read((b"\x10",)))
    bench.pass_time(60)
    assert set(bench.ends) == {soon}
    bench.pass_time(50)
    assert isinstance(bench.ends[first], OutcomeUnknown)
    assert isinstance(bench.ends[second], Unavailable)
    assert third not in bench.ends
