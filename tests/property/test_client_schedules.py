"""The client's machine against nodes in memory, under every schedule that chance comes to.

Requests and answers are lost, come late or twice; leaders move; routes split and move to other
groups. Then: nothing acknowledged is missing, nothing is written twice, what was not written is
not called unknown for no reason, and every read is one of the model's at its read_ts.
"""

from __future__ import annotations

import random

import pytest
from client_world import CLIENT_ID, Bench, World
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.client.values import Mutation, Read, Scan, Write
from workbench.errors import OutcomeUnknown, Unavailable
from workbench.model.node import GotMany, Written
from workbench.routing.table import RouteTable

KEYS = [bytes([each]) for each in range(0x08, 0x100, 0x10)]
KEY = st.sampled_from(KEYS)
GROUPS = 3
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), KEY),
        st.tuples(st.just("once"), KEY),  # at least once: never repeated
        st.tuples(st.just("read"), st.lists(KEY, min_size=1, max_size=4)),
        st.tuples(st.just("scan"), st.tuples(KEY, st.booleans())),
        st.tuples(st.just("deliver"), st.integers(0, 5)),
        st.tuples(st.just("deliver"), st.integers(0, 5)),
        st.tuples(st.just("lose answer"), st.integers(0, 5)),
        st.tuples(st.just("lose"), st.integers(0, 5)),
        st.tuples(st.just("late"), st.integers(0, 5)),
        st.tuples(st.just("unreachable"), st.integers(0, 5)),
        st.tuples(st.just("time"), st.none()),
        st.tuples(st.just("watch"), st.none()),
        st.tuples(st.just("lead"), st.tuples(st.integers(1, GROUPS), st.integers(0, 2))),
        st.tuples(st.just("split"), KEY),
        st.tuples(st.just("move"), st.tuples(KEY, st.integers(1, GROUPS))),
    ),
    min_size=5,
    max_size=80,
)


class Run:
    """A bench and what its calls began with."""

    def __init__(self, world):
        self.bench = Bench(world)
        self.calls = {}
        self.acknowledged = {}  # call: applied when it began
        self.values = 0

    def step(self, what, how):
        bench, world = self.bench, self.bench.world
        on_a_wire = {
            "deliver": bench.deliver,
            "lose answer": lambda at: bench.deliver(at, answer_lost=True),
            "lose": bench.lose,
            "unreachable": bench.unreachable,
        }
        if what in on_a_wire:
            if bench.wires:
                on_a_wire[what](how % len(bench.wires))
        elif what == "late":
            if bench.delayed:
                bench.arrive_late(how % len(bench.delayed))
        else:
            {
                "write": lambda key: self.write(key, exactly_once=True),
                "once": lambda key: self.write(key, exactly_once=False),
                "read": lambda keys: self.start(Read(tuple(keys))),
                "scan": lambda at: self.start(Scan(at[0], reverse=at[1])),
                "time": lambda _: bench.pass_time(),
                "watch": lambda _: bench.watch(),
                "lead": lambda at: world.leaders.update({at[0]: world.addresses[at[1]]}),
                "split": world.split,
                "move": lambda at: world.move(*at),
            }[what](how)

    def write(self, key, *, exactly_once):
        self.values += 1
        self.start(Write((Mutation(key, b"%d" % self.values),), exactly_once=exactly_once))

    def start(self, call):
        seen = [
            each.result
            for number, each in self.ended()
            if isinstance(each.result, Written) and isinstance(self.calls[number], Write)
        ]
        number = self.bench.start(call, timeout_ms=3_000)
        self.calls[number] = call
        self.acknowledged[number] = max((each.commit_ts for each in seen), default=0)

    def ended(self):
        return [(number, _End(result)) for number, result in self.bench.ends.items()]

    def finish(self):
        """Let everything arrive, also what came too late, and check what is left."""
        bench = self.bench
        for number in self.calls:
            if number not in bench.ends:
                bench.settle(number)
        while bench.delayed:
            bench.arrive_late()
        self.check()

    def check(self):
        world, ends = self.bench.world, self.bench.ends
        by_value = {}
        for _, _, [mutation], commit_ts in world.applied:
            by_value.setdefault(mutation.value, []).append(commit_ts)
        assert set(ends) == set(self.calls)
        for number, call in self.calls.items():
            end = ends[number]
            if isinstance(call, Write):
                made = by_value.get(call.mutations[0].value, [])
                assert len(made) <= 1, "written twice"
                if isinstance(end, Written):
                    assert made == [end.commit_ts], "acknowledged and not there"
                else:
                    assert isinstance(end, OutcomeUnknown | Unavailable), end
                    assert isinstance(end, OutcomeUnknown) or not made, "refused and there"
            elif isinstance(end, Unavailable):
                continue
            else:
                self.check_read(number, call, end)

    def check_read(self, number, call, end):
        if isinstance(call, Read):
            assert isinstance(end, GotMany)
            model = self.bench.world.model(end.read_ts)
            found = [each and (each.value, each.commit_ts) for each in end.versions]
            assert found == [model.get(key) for key in call.keys]
            assert end.read_ts >= self.acknowledged[number]
            return
        model = self.bench.world.model(end)
        expected = [(key, row) for key, row in model.items() if key >= call.start]
        found = [(key, (each.value, each.commit_ts)) for key, each in self.bench.rows[number]]
        assert found == (expected[::-1] if call.reverse else expected)
        assert end >= self.acknowledged[number]


class _End:
    def __init__(self, result):
        self.result = result


@settings(max_examples=250, deadline=None)
@given(STEPS)
def test_every_schedule_writes_once_loses_nothing_and_reads_the_model(steps):
    run = Run(World(groups=GROUPS))
    for what, how in steps:
        run.step(what, how)
    run.finish()


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(STEPS)
def test_many_schedules_write_once_lose_nothing_and_read_the_model(steps):
    run = Run(World(groups=GROUPS))
    for what, how in steps:
        run.step(what, how)
    run.finish()


def test_a_group_that_forgets_is_noticed_by_the_checker():
    """The planted fault: without dedupe a repeated write is made twice."""
    run = Run(World(groups=GROUPS))
    run.bench.world.dedupe = False
    run.step("write", KEYS[0])
    for _ in range(2):
        run.step("deliver", 0)
    run.step("lose answer", 0)
    with pytest.raises(AssertionError, match="written twice"):
        run.finish()


def test_sequences_counted_per_group_are_noticed_by_the_checker(monkeypatch):
    """The planted fault: a group that got a span knows the numbers of its former group."""
    run = Run(World(groups=GROUPS))
    run.step("write", KEYS[0])
    run.bench.settle(next(iter(run.calls)))
    run.bench.world.move(KEYS[0], 2)
    run.bench.client._sequence = 0
    run.step("write", KEYS[0])
    with pytest.raises(AssertionError, match="acknowledged and not there"):
        run.finish()


def test_the_machine_knows_no_more_than_the_newest_table():
    run = Run(World(groups=GROUPS))
    run.step("write", KEYS[3])
    run.finish()
    assert isinstance(run.bench.client.routes, RouteTable)
    assert run.bench.world.applied[0][0] == CLIENT_ID


@pytest.mark.parametrize("seed", range(30))
def test_long_schedules_write_once_lose_nothing_and_read_the_model(seed):
    """Longer ones than Hypothesis tends to draw, mostly of messages."""
    rng = random.Random(seed)
    run = Run(World(groups=GROUPS))
    calls = ["write", "write", "once", "read", "scan"]
    messages = ["deliver"] * 8 + ["lose answer", "lose", "late", "unreachable"]
    rare = ["time", "watch", "lead", "split", "move"]
    for _ in range(400):
        what = rng.choice(rng.choice([calls, messages, messages, rare]))
        key = rng.choice(KEYS)
        how = {
            "read": rng.sample(KEYS, 3),
            "scan": (key, rng.random() < 0.5),
            "lead": (rng.randint(1, GROUPS), rng.randrange(3)),
            "move": (key, rng.randint(1, GROUPS)),
            "time": None,
            "watch": None,
        }.get(what, rng.randrange(9) if what in messages else key)
        run.step(what, how)
    run.finish()
    assert len(run.calls) > 50
    assert len(run.bench.world.applied) > 5
