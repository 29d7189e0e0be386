"""Leaders come and go, the clock jumps: commit_ts increase, and never undo a read.

Each step is what a group's leader may do; a new leader knows only what has been applied.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import Unavailable
from workbench.model.limits import CLIENT_CLOCK_AHEAD_MS_MAX
from workbench.model.times import hlc_of_ms
from workbench.replica.clock import Hlc, ceiling_of

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(0, 300)),
        st.tuples(st.just("jump"), st.integers(-5_000, 5_000)),
        st.tuples(st.just("write"), st.integers(1, 5)),
        st.tuples(st.just("read"), st.integers(-300, CLIENT_CLOCK_AHEAD_MS_MAX)),
        st.tuples(st.just("lead"), st.booleans()),
    ),
    max_size=60,
)


@dataclass
class Leaders:
    """A group's leaders, one after the other; `inherit` is what a new one starts its clock at."""

    now_ms: int = 1_700_000_000_000
    applied_ceiling: int = 0
    issued: list[int] = field(default_factory=list)
    served: int = 0
    inherit: bool = True

    def __post_init__(self) -> None:
        self.clock = Hlc()

    def run(self, steps: list[tuple[str, int]]) -> None:
        for name, amount in steps:
            getattr(self, f"do_{name}")(amount)

    def do_pass(self, amount: int) -> None:
        self.now_ms += amount

    do_jump = do_pass

    def do_lead(self, _: int) -> None:
        self.clock = Hlc(self.applied_ceiling if self.inherit else 0)

    def do_write(self, commands: int) -> None:
        ceiling = ceiling_of(self.now_ms)
        for _ in range(commands):
            try:
                commit_ts = self.clock.issue(self.now_ms, ceiling)
            except Unavailable:
                assert self.clock.last + 1 >= ceiling
                break
            assert commit_ts < ceiling
            assert commit_ts > max(self.issued, default=0)
            assert commit_ts > self.served
            self.issued.append(commit_ts)
        self.applied_ceiling = max(self.applied_ceiling, ceiling)

    def do_read(self, ahead_ms: int) -> None:
        read_ts = hlc_of_ms(self.now_ms + ahead_ms) if ahead_ms else self.clock.now(self.now_ms)
        if read_ts < self.applied_ceiling:
            self.clock.observe(read_ts)
            self.served = max(self.served, read_ts)


@given(STEPS)
def test_commit_ts_increase_and_lie_above_every_read_served(steps):
    Leaders().run(steps)


def test_a_leader_that_trusts_its_own_clock_is_caught() -> None:
    steps = [("write", 1), ("read", 300), ("jump", -50), ("lead", 0), ("write", 1)]
    Leaders().run(steps)
    with pytest.raises(AssertionError):
        Leaders(inherit=False).run(steps)
