"""When old versions go by themselves: the decision, and a round against a group that answers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from workbench.errors import Unavailable
from workbench.model.times import hlc_of_ms
from workbench.node import upkeep as upkeep_module
from workbench.node.upkeep import HOLD_S, STEP_VERSIONS, Holds, Upkeep
from workbench.replica.commands import CollectGarbage, GarbageStatus, SetSafePoint
from workbench.replica.garbage import ROUND_MS_MAX, ROUND_MS_MIN, round_ms, safe_point_due

HOUR_MS = 3_600_000
NOW_MS = 1_800_000_000_000


def test_the_safe_point_lies_as_far_back_as_versions_are_kept() -> None:
    assert safe_point_due(NOW_MS, HOUR_MS) == hlc_of_ms(NOW_MS - HOUR_MS)


def test_a_moment_that_is_read_holds_the_safe_point_and_a_later_one_does_not() -> None:
    held = hlc_of_ms(NOW_MS - 2 * HOUR_MS, 7)
    assert safe_point_due(NOW_MS, HOUR_MS, held) == held
    assert safe_point_due(NOW_MS, HOUR_MS, hlc_of_ms(NOW_MS)) == hlc_of_ms(NOW_MS - HOUR_MS)


def test_a_clock_near_the_epoch_asks_for_no_safe_point() -> None:
    assert safe_point_due(5, HOUR_MS) == 0


@pytest.mark.parametrize(
    ("kept_ms", "expected"),
    [(1_000, ROUND_MS_MIN), (60_000, 10_000), (HOUR_MS, ROUND_MS_MAX), (2**40, ROUND_MS_MAX)],
)
def test_rounds_come_in_a_sixth_of_what_is_kept_within_bounds(kept_ms: int, expected: int) -> None:
    assert round_ms(kept_ms) == expected


def test_a_hold_ends_some_time_after_the_last_page() -> None:
    now_s = [0.0]
    holds = Holds(lambda: now_s[0])
    assert holds.oldest() is None
    holds.keep(7)
    now_s[0] = HOLD_S / 2
    holds.keep(9)
    holds.keep(7)
    assert holds.oldest() == 7
    now_s[0] = HOLD_S * 1.25
    assert holds.oldest() == 7
    holds.keep(9)
    now_s[0] = HOLD_S * 1.75
    assert holds.oldest() == 9
    now_s[0] = HOLD_S * 3
    assert holds.oldest() is None


class Group:
    """A runtime with groups that answer as told, and note what was proposed."""

    node = 1
    stopping = False

    def __init__(self, *, steps: int = 1, dropped: int = 0, leader: int = 1) -> None:
        self.steps = steps
        self.dropped = dropped
        self.leader = leader
        self.proposed: list[tuple[int, SetSafePoint | CollectGarbage]] = []
        self.refused: set[int] = set()
        self.asked = 0

    def now_ms(self) -> int:
        return NOW_MS

    def status(self, group: int) -> object:
        return SimpleNamespace(serving=True, leader_node=self.leader)

    async def propose(self, group: int, command: SetSafePoint | CollectGarbage) -> GarbageStatus:
        if group in self.refused:
            raise Unavailable("it is being restored", code="group_restoring")
        self.proposed.append((group, command))
        if isinstance(command, SetSafePoint):
            self.safe_point, self.left = command.safe_point, self.steps
            return GarbageStatus(group, self.safe_point, 0, 5, 0, done=True)
        self.left -= 1
        dropped = 5 + self.dropped * (self.steps - self.left)
        return GarbageStatus(group, self.safe_point, 2, dropped, 10, done=self.left == 0)


class Told:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def tell(self, event: str, **facts: object) -> None:
        self.events.append((event, facts))


def upkeep_of(runtime: Group, groups: tuple[int, ...] = (3,), kept_ms: int = HOUR_MS):
    told, holds = Told(), Holds(lambda: 0.0)
    config = SimpleNamespace(groups=groups, versions_kept_ms=kept_ms)
    return Upkeep(config, runtime, holds, told), holds, told


def test_a_round_goes_step_by_step_to_the_end_and_tells_what_went(monkeypatch) -> None:
    monkeypatch.setattr(upkeep_module, "STEP_PAUSE_S", 0.0)
    runtime = Group(steps=3, dropped=2)
    upkeep, _, told = upkeep_of(runtime)
    asyncio.run(upkeep.round())
    due = hlc_of_ms(NOW_MS - HOUR_MS)
    assert runtime.proposed == [(3, SetSafePoint(due)), *[(3, CollectGarbage(STEP_VERSIONS))] * 3]
    facts = {"group": 3, "safe_point": due, "pins": 2, "scanned": 30, "dropped": 6}
    assert told.events == [("garbage_collected", facts)]
    asyncio.run(upkeep.round())
    assert (upkeep.tidied[3].scanned, upkeep.tidied[3].dropped) == (60, 12)


def test_where_nothing_went_nothing_is_told() -> None:
    upkeep, _, told = upkeep_of(Group())
    asyncio.run(upkeep.round())
    assert told.events == []
    assert upkeep.tidied[3].scanned == 10


def test_an_export_holds_the_safe_point_of_every_group() -> None:
    runtime = Group()
    upkeep, holds, _ = upkeep_of(runtime, (3, 4))
    read_ts = hlc_of_ms(NOW_MS - 2 * HOUR_MS)
    holds.keep(read_ts)
    asyncio.run(upkeep.round())
    points = [(group, each) for group, each in runtime.proposed if isinstance(each, SetSafePoint)]
    assert points == [(3, SetSafePoint(read_ts)), (4, SetSafePoint(read_ts))]


def test_a_group_that_is_led_elsewhere_is_left_alone() -> None:
    runtime = Group(leader=2)
    upkeep, _, _ = upkeep_of(runtime)
    asyncio.run(upkeep.round())
    assert runtime.proposed == []
    assert upkeep.tidied == {}


def test_a_group_that_refuses_keeps_no_other_from_its_round() -> None:
    runtime = Group()
    runtime.refused = {3}
    upkeep, _, _ = upkeep_of(runtime, (3, 4))
    asyncio.run(upkeep.round())
    assert {group for group, _ in runtime.proposed} == {4}


def test_versions_that_are_kept_for_ever_are_never_looked_at(monkeypatch) -> None:
    monkeypatch.setattr(upkeep_module, "HOLD_S", 0.001)
    runtime = Group()
    upkeep, _, _ = upkeep_of(runtime, kept_ms=0)

    async def some_time() -> None:
        running = asyncio.create_task(upkeep.run())
        for _ in range(20):
            await asyncio.sleep(0.001)
        running.cancel()

    asyncio.run(some_time())
    assert runtime.proposed == []
