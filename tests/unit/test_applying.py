"""Claims about applying a plan: in order, once, resumable, by one operator at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fakes import (
    FakeClock,
    FakeCluster,
    FakeConnector,
    FakeRng,
    Fault,
    Killed,
    MortalStore,
    catalog_with,
    decide_on,
    plan_for,
)

from workbench.catalog.catalog import Catalog
from workbench.errors import (
    Conflict,
    Corruption,
    InvalidArgument,
    InvalidInput,
    OutcomeUnknown,
    Unavailable,
    WorkbenchError,
)
from workbench.ports.connector import Capabilities
from workbench.session import applying
from workbench.session.applying import ActionStatus, Application, ApplyAnswer, apply_plan
from workbench.session.lease import Machine, Place, acquire, read_lease
from workbench.session.receipts import ReceiptStatus, read_receipts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.planner.execution import Decision

URL = "fake://cluster"
APPLIED, ALREADY, SKIPPED, FAILED, STALE = (
    ActionStatus.APPLIED,
    ActionStatus.ALREADY_APPLIED,
    ActionStatus.SKIPPED,
    ActionStatus.FAILED,
    ActionStatus.STALE,
)


class World:
    """A cluster, a plan for it, a catalog where it is approved, and operators."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        approved: Sequence[str] | None = None,
        faults: Sequence[Fault | None] = (),
        **properties: str,
    ) -> None:
        self.cluster = FakeCluster()
        self.plan = plan_for(self.cluster)
        self.names = [action.action_id for action in self.plan.actions]
        self.store = MortalStore()
        catalog_with(
            self.store, self.plan, approved, **{"source": URL, "cluster_id": "c-1", **properties}
        )
        self.connector = FakeConnector(self.cluster, faults)
        self.clock, self.rng = FakeClock(), FakeRng()
        self.pid = 0
        self.running: set[int] = set()
        self.opened: list[str] = []
        self.writable = False
        monkeypatch.setattr(applying, "open_routes", self._open)

    def _open(self, url: str, *, allow_write: bool = False) -> FakeConnector:
        self.opened.append(url)
        self.writable = allow_write
        return self.connector

    def catalog(self) -> Catalog:
        return Catalog.open(self.store, clock=self.clock, rng=self.rng, writer="t")

    def operator(self, url: str | None = None, by: str = "anna") -> Application:
        """A new process that starts to apply the plan."""
        self.pid += 1
        self.running.add(self.pid)
        machine = Machine(self.clock, self.rng, Place("host"), self.pid, self.running.__contains__)
        return Application(self.catalog(), self.plan, url, by=by, machine=machine)

    def apply(self, **arguments: Any) -> ApplyAnswer:
        work = self.operator(**arguments)
        work.run()
        return work.answer()

    def stopped(self, kind: type[WorkbenchError]) -> tuple[WorkbenchError, ApplyAnswer]:
        work = self.operator()
        with pytest.raises(kind) as caught:
            work.run()
        return caught.value, work.answer()

    def receipts(self) -> list[tuple[str, str]]:
        return [
            (r.action_id, r.status.value) for r in read_receipts(self.catalog(), self.plan.plan_id)
        ]

    def lease_is_free(self) -> bool:
        rows = read_lease(self.catalog(), "c", "c-1")
        return not rows or rows[-1].expires_at <= self.clock.now()

    def lease_can_be_had(self) -> bool:
        machine = Machine(self.clock, self.rng, Place("host"), 99, self.running.__contains__)
        self.running.discard(self.pid)
        lease = acquire(
            self.catalog(), "c", by="user:bert", plan_id="p", machine=machine, cluster_id="c-1"
        )
        return lease.release() is None

    def is_finished(self) -> bool:
        return self.cluster.spans() == [route.span for route in self.plan.routes_after]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def statuses(answer: ApplyAnswer) -> list[ActionStatus]:
    return [outcome.status for outcome in answer.outcomes]


def test_all_that_is_approved_is_called_in_order_with_a_receipt_each(world: World) -> None:
    answer = world.apply()
    assert world.is_finished()
    assert world.writable
    assert statuses(answer) == [APPLIED] * 4
    assert (answer.catalog_version, answer.target) == (5, URL)
    assert world.receipts() == [(name, "applied") for name in world.names]
    kept = read_receipts(world.catalog(), world.plan.plan_id)
    assert [(r.expected_version, r.catalog_version) for r in kept] == [
        (1, 2),
        (2, 3),
        (3, 4),
        (4, 5),
    ]
    assert {r.by for r in kept} == {"user:anna"}
    sent = [call.metadata["x-workbench-request-id"] for call in world.connector.calls]
    assert sent == [r.request_id for r in kept]
    assert len(set(sent)) == 4
    assert world.lease_is_free()
    assert world.connector.closed == 1
    assert answer.warnings == ("there is no undo of a split",)


def test_a_receipt_is_kept_before_the_next_call(world: World) -> None:
    seen: list[int] = []
    world.connector.on_call = lambda moment: (
        seen.append(len(world.receipts())) if moment == "before" else None
    )
    world.apply()
    assert seen == [0, 1, 2, 3]


def test_applied_again_it_needs_no_cluster_and_says_so(world: World) -> None:
    world.apply()
    world.connector.down = True
    seq = world.catalog().seq
    answer = world.apply()
    assert statuses(answer) == [ALREADY] * 4
    assert (answer.target, answer.catalog_version) == (None, 5)
    assert world.catalog().seq == seq
    assert len(world.opened) == 1


def test_what_is_not_approved_is_skipped_and_versions_close_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, approved=["split-001", "split-003"])
    answer = world.apply()
    assert statuses(answer) == [APPLIED, SKIPPED, APPLIED, SKIPPED]
    assert [o.reason for o in answer.outcomes] == [None, "not approved", None, "not approved"]
    assert world.cluster.version == 3
    decide_on(world.catalog(), world.plan, ["split-002", "split-004"])
    assert statuses(world.apply()) == [ALREADY, APPLIED, ALREADY, APPLIED]
    assert world.is_finished()


def test_a_plan_that_is_not_approved_is_refused_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, approved=[])
    error, _ = world.stopped(InvalidInput)
    assert error.code == "plan_not_approved"
    assert f"workbench approve {world.plan.plan_id}" in error.hint
    assert world.opened == []


def test_an_approval_that_is_withdrawn_meanwhile_is_obeyed(world: World) -> None:
    def withdraw(moment: str) -> None:
        if moment == "after" and world.cluster.version == 3:
            decide_on(world.catalog(), world.plan, world.names[2:], "withdrawn")

    world.connector.on_call = withdraw
    assert statuses(world.apply()) == [APPLIED, APPLIED, SKIPPED, SKIPPED]
    assert world.cluster.version == 3


def test_an_approval_of_another_hash_approves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, approved=[])
    other = plan_for(world.cluster, splits=3)
    decide_on(world.catalog(), other, world.names)
    error, _ = world.stopped(InvalidInput)
    assert error.code == "plan_not_approved"


def test_the_answer_after_a_foreign_change_says_what_is_done_and_what_cannot_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, faults=[None, None, Fault.FOREIGN_SPLIT])
    error, answer = world.stopped(Conflict)
    assert error.code == "plan_stale_version"
    assert "2 of 4 actions are applied" in error.message
    assert "plan again" in error.hint
    assert statuses(answer) == [APPLIED, APPLIED, STALE, STALE]
    # The call that was made and refused has its receipt too, and says what the system said.
    made = [("split-001", "applied"), ("split-002", "applied"), ("split-003", "stale")]
    assert world.receipts() == made
    refused = read_receipts(world.catalog(), world.plan.plan_id)[-1]
    assert (refused.expected_version, refused.catalog_version) == (3, None)
    assert "the catalog is at version 4, not 3" in str(refused.error)
    assert [request == "" for request, _, _ in world.cluster.splits] == [False, False, True]
    assert world.lease_is_free()
    again, answer = world.stopped(Conflict)
    assert (again.code, statuses(answer)) == (
        "plan_stale_version",
        [ALREADY, ALREADY, STALE, STALE],
    )
    # Stale before any call was made: nothing to keep.
    assert world.receipts() == made


def test_a_system_that_refuses_the_version_that_it_shows_ends_it_and_is_not_called_a_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, faults=[None, Fault.MISMATCH])
    error, answer = world.stopped(Conflict)
    assert error.code == "catalog_version_refused"
    assert "refused version 2" in error.message
    assert "look unchanged" in error.message
    assert "changed while" not in str(error)
    assert "stale" not in error.message
    assert "again" in error.hint
    assert statuses(answer) == [APPLIED, STALE, SKIPPED, SKIPPED]
    assert answer.outcomes[1].reason in error.message
    assert world.receipts() == [("split-001", "applied"), ("split-002", "stale")]
    kept = read_receipts(world.catalog(), world.plan.plan_id)[-1]
    assert "the version differs" in str(kept.error)
    assert len(world.connector.calls) == 2
    assert statuses(world.apply()) == [ALREADY, APPLIED, APPLIED, APPLIED]
    assert world.receipts()[2:] == [(name, "applied") for name in world.names[1:]]


def test_a_refused_call_has_its_receipt_also_where_the_routes_cannot_be_read_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, faults=[Fault.MISMATCH])
    world.connector.on_call = lambda _moment: setattr(world.connector, "down", True)
    world.stopped(Unavailable)
    assert world.receipts() == [("split-001", "stale")]


def test_the_same_split_by_somebody_else_just_before_the_call_is_adopted_and_told(
    world: World,
) -> None:
    first = world.plan.actions[0]

    def overtake(moment: str) -> None:
        if moment == "before":
            world.connector.on_call = lambda _moment: None
            world.cluster.foreign_split(first.split_key)

    world.connector.on_call = overtake
    assert statuses(world.apply()) == [ALREADY, APPLIED, APPLIED, APPLIED]
    kept = read_receipts(world.catalog(), world.plan.plan_id)
    assert [(r.action_id, r.status.value, r.repeated) for r in kept[:3]] == [
        ("split-001", "stale", False),
        ("split-001", "applied", True),
        ("split-002", "applied", False),
    ]
    assert len(world.cluster.splits) == 4


def test_one_cluster_under_two_names_is_applied_to_by_one_operator_at_a_time(world: World) -> None:
    machine = Machine(world.clock, world.rng, Place("elsewhere"), 7, lambda _pid: True)
    acquire(
        world.catalog(), "other", by="user:bert", plan_id="p", machine=machine, cluster_id="c-1"
    )
    error, _ = world.stopped(Conflict)
    assert error.code == "lease_held"
    assert "cluster 'other'" in error.message
    assert world.cluster.splits == []


def test_what_is_refused_for_good_is_kept_and_ends_it_and_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, faults=[None, Fault.REFUSED])
    error, answer = world.stopped(InvalidInput)
    assert error.code == "key_reserved"
    assert error.message.startswith("split-002 was refused")
    assert statuses(answer) == [APPLIED, FAILED, SKIPPED, SKIPPED]
    assert answer.outcomes[3].reason == "not reached"
    assert world.receipts()[-1] == ("split-002", "failed")
    kept = read_receipts(world.catalog(), world.plan.plan_id)[-1]
    assert kept.error is not None
    assert "is reserved" in kept.error
    assert kept.error.isprintable()
    assert statuses(world.apply()) == [ALREADY, APPLIED, APPLIED, APPLIED]
    assert world.is_finished()


@pytest.mark.parametrize(
    ("fault", "kind", "hint"),
    [
        (Fault.UNAVAILABLE, Unavailable, "goes on where this stopped"),
        (Fault.UNKNOWN_BEFORE, OutcomeUnknown, "looks at the routes before it repeats"),
        (Fault.UNKNOWN_AFTER, OutcomeUnknown, "looks at the routes before it repeats"),
    ],
)
def test_without_an_answer_it_stops_without_a_receipt_and_applying_again_resumes(
    monkeypatch: pytest.MonkeyPatch, fault: Fault, kind: type[WorkbenchError], hint: str
) -> None:
    world = World(monkeypatch, faults=[None, fault])
    error, answer = world.stopped(kind)
    assert hint in error.hint
    assert "split-002" in error.message
    assert statuses(answer) == [APPLIED, SKIPPED, SKIPPED, SKIPPED]
    assert world.receipts() == [("split-001", "applied")]
    assert world.lease_is_free()
    second = ALREADY if fault is Fault.UNKNOWN_AFTER else APPLIED
    assert statuses(world.apply()) == [ALREADY, second, APPLIED, APPLIED]
    assert world.is_finished()
    assert len(world.cluster.splits) == 4
    repeated = [r.repeated for r in read_receipts(world.catalog(), world.plan.plan_id)]
    assert repeated == [False, fault is Fault.UNKNOWN_AFTER, False, False]


def test_an_answer_about_other_children_is_corruption(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, faults=[Fault.OTHER_CHILDREN])
    error, _ = world.stopped(Corruption)
    assert error.code == "answer_unexpected"
    assert world.receipts() == []
    assert statuses(world.apply()) == [ALREADY, APPLIED, APPLIED, APPLIED]


def test_of_two_operators_one_works_and_the_other_is_told_who_does(world: World) -> None:
    refused: list[WorkbenchError] = []

    def second(moment: str) -> None:
        if moment == "before" and world.cluster.version == 3:
            work = world.operator(by="bert")
            with pytest.raises(Conflict) as caught:
                work.run()
            refused.append(caught.value)
            assert not work.started

    world.connector.on_call = second
    assert statuses(world.apply()) == [APPLIED] * 4
    [error] = refused
    assert error.code == "lease_held"
    for part in ("user:anna", "host, process 1", world.plan.plan_id):
        assert part in error.message
    assert len(world.cluster.splits) == 4


def test_who_was_overtaken_while_asleep_stops_before_it_writes(world: World) -> None:
    def overtake(moment: str) -> None:
        if moment == "after" and world.cluster.version == 3:
            world.connector.on_call = lambda _moment: None
            world.clock.sleep(120)
            assert statuses(world.apply(by="bert")) == [ALREADY, ALREADY, APPLIED, APPLIED]

    world.connector.on_call = overtake
    error, answer = world.stopped(Conflict)
    assert error.code == "lease_lost"
    assert statuses(answer) == [APPLIED, APPLIED, SKIPPED, SKIPPED]
    assert world.is_finished()
    assert len(world.cluster.splits) == 4
    assert [name for name, _ in world.receipts()] == world.names


def test_a_long_run_keeps_its_lease(world: World) -> None:
    def slow(_moment: str) -> None:
        world.clock.sleep(20)
        machine = Machine(world.clock, world.rng, Place("other"), 99, lambda _pid: True)
        with pytest.raises(Conflict, match="user:anna"):
            acquire(
                world.catalog(), "d", by="user:bert", plan_id="p", machine=machine, cluster_id="c-1"
            )

    world.connector.on_call = slow
    assert statuses(world.apply()) == [APPLIED] * 4
    assert len(read_lease(world.catalog(), "c", "c-1")) > 2


def test_the_lease_is_released_on_an_interrupt_too(world: World) -> None:
    def interrupt(moment: str) -> None:
        if moment == "after":
            raise KeyboardInterrupt

    world.connector.on_call = interrupt
    work = world.operator()
    with pytest.raises(KeyboardInterrupt):
        work.run()
    assert world.lease_is_free()
    assert world.connector.closed == 1
    world.connector.on_call = lambda _moment: None
    assert statuses(world.apply()) == [ALREADY, APPLIED, APPLIED, APPLIED]


def run_until_killed(world: World, at: int) -> bool:
    """Run an operator that dies at its `at`-th step to the outside; False where it got through."""
    left = [at]

    def step(_moment: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            world.store.dead = True
            raise Killed

    world.connector.on_call = step
    world.store.on_put = step
    work = world.operator()
    try:
        work.run()
    except Killed:
        return True
    finally:
        world.running.clear()
        world.store.dead = False
        world.store.on_put = lambda _moment: None
        world.connector.on_call = lambda _moment: None
    return False


def killed_everywhere(monkeypatch: pytest.MonkeyPatch) -> int:
    """Kill a run at every step, each time on a new world, apply again; return how many steps."""
    at = 1
    while True:
        world = World(monkeypatch)
        if not run_until_killed(world, at):
            return at - 1
        world.apply()
        assert world.is_finished(), f"killed at {at}"
        assert len(world.cluster.splits) == 4, f"killed at {at}: a split was made twice"
        assert world.receipts() == [(name, "applied") for name in world.names], f"killed at {at}"
        assert world.lease_can_be_had()
        at += 1


def test_killed_at_any_step_applying_again_ends_like_an_undisturbed_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Two moments of each call, each receipt's object and record, each row of the lease.
    assert killed_everywhere(monkeypatch) == 4 * (2 + 4) + 2 * 4


def test_killed_again_and_again_it_gets_there(monkeypatch: pytest.MonkeyPatch) -> None:
    # Eight steps take the lease over and keep one receipt; who lives shorter gets nowhere.
    for at in (9, 11, 14, 17):
        world = World(monkeypatch)
        runs = 1
        while run_until_killed(world, at):
            runs += 1
            assert runs < 12
        assert runs > 1
        assert world.is_finished()
        assert len(world.cluster.splits) == 4
        assert world.receipts() == [(name, "applied") for name in world.names]


def test_the_kill_test_catches_an_operator_that_does_not_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decide = applying.decide

    def blind(*arguments: Any) -> Decision:
        step = decide(*arguments)
        if isinstance(step, applying.Record):
            return applying.Stale(step.action, "the routes changed", "")
        return step

    monkeypatch.setattr(applying, "decide", blind)
    with pytest.raises(Conflict):
        killed_everywhere(monkeypatch)


def test_another_cluster_is_refused_before_anything_is_done(world: World) -> None:
    world.cluster.cluster_id = "c-2"
    error, _ = world.stopped(Conflict)
    assert error.code == "cluster_mismatch"
    assert "c-1" in error.message
    assert "c-2" in error.message
    assert read_lease(world.catalog(), "c", "c-1") == []
    world.cluster.cluster_id = None
    assert statuses(world.apply()) == [APPLIED] * 4


@pytest.mark.parametrize("url", ["trace:t.csv", None])
def test_a_cluster_that_was_collected_from_a_trace_needs_a_target(
    monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    from workbench.session.wiring import open_routes

    world = World(monkeypatch, source=url or "file:routes.json")
    if url:
        monkeypatch.setattr(applying, "open_routes", lambda u, **_: open_routes(u))
    else:
        monkeypatch.setattr(applying, "open_routes", lambda _u, **_o: ReadOnly())
    error, _ = world.stopped(InvalidArgument)
    assert error.code == "target_missing"
    assert "--to" in error.hint
    monkeypatch.setattr(applying, "open_routes", world._open)
    assert statuses(world.apply(url="fake://elsewhere")) == [APPLIED] * 4
    assert world.opened == ["fake://elsewhere"]


class ReadOnly:
    """A route source that executes nothing."""

    def capabilities(self) -> Capabilities:
        return Capabilities(ordered=True)

    def snapshot(self) -> None:
        raise AssertionError

    def close(self) -> None:
        pass


def test_a_named_target_that_executes_nothing_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "open_routes", lambda _u, **_o: ReadOnly())
    with pytest.raises(InvalidArgument) as caught:
        world.apply(url="file:routes.json")
    assert caught.value.code == "target_read_only"


def test_a_system_that_cannot_split_is_refused(world: World) -> None:
    world.connector.can = Capabilities(ordered=True)
    error, _ = world.stopped(InvalidInput)
    assert error.code == "split_unsupported"
    assert world.connector.closed == 1


def test_a_system_without_compare_and_set_is_warned_of(world: World) -> None:
    world.connector.can = Capabilities(ordered=True, split=True)
    assert any("binds no call to a version" in w for w in world.apply().warnings)


def test_a_cluster_that_does_not_answer_leaves_no_lease(world: World) -> None:
    world.connector.down = True
    error, _ = world.stopped(Unavailable)
    assert "goes on where this stopped" in error.hint
    assert read_lease(world.catalog(), "c", "c-1") == []


def test_a_plan_that_proposes_nothing_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.plan = plan_for(world.cluster, splits=0)
    assert world.apply().outcomes == ()


def test_a_dry_run_tells_the_very_calls_and_writes_nothing(world: World) -> None:
    seq = world.catalog().seq
    answer = world.operator().preview()
    assert (world.catalog().seq, world.cluster.splits, world.connector.calls) == (seq, [], [])
    assert answer.dry_run
    assert not world.writable
    assert statuses(answer) == [SKIPPED] * 4
    told = [outcome.call for outcome in answer.outcomes]
    predicted = [outcome.predicted for outcome in answer.outcomes]
    assert predicted == [False, True, True, False]
    world.apply()
    assert [c and (c.fields, c.metadata) for c in told] == [
        (c.fields, c.metadata) for c in world.connector.calls
    ]


def test_a_dry_run_before_approval_marks_every_call_as_not_approved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, approved=[])
    answer = world.operator().preview()
    assert [o.approved for o in answer.outcomes] == [False] * 4
    assert {o.reason for o in answer.outcomes} == {"not approved"}
    assert all(o.call for o in answer.outcomes)


def test_a_dry_run_of_a_part_tells_only_what_is_approved(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, approved=["split-001", "split-003"])
    answer = world.operator().preview()
    assert [o.call is not None for o in answer.outcomes] == [True, False, True, False]
    third = answer.outcomes[2].call
    assert third is not None
    assert third.split.expected_version == 2


def test_a_dry_run_shows_what_is_stale_and_what_only_lacks_its_receipt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, faults=[None, Fault.UNKNOWN_AFTER])
    world.stopped(OutcomeUnknown)
    answer = world.operator().preview()
    assert statuses(answer) == [ALREADY, ALREADY, SKIPPED, SKIPPED]
    assert "receipt is missing" in str(answer.outcomes[1].reason)
    world.cluster.foreign_split(b"z\xff")
    assert statuses(world.operator().preview()) == [ALREADY, STALE, SKIPPED, SKIPPED]


def test_apply_plan_does_both(world: World) -> None:
    answer = apply_plan(world.catalog(), world.plan, by="anna", dry_run=True)
    assert answer.dry_run
    told: list[tuple[str, int, int | None]] = []
    answer = apply_plan(
        world.catalog(), world.plan, URL, by="anna", progress=lambda *step: told.append(step)
    )
    assert statuses(answer) == [APPLIED] * 4
    assert [done for _, done, _ in told] == [0, 1, 2, 3, 4]
    assert {total for _, _, total in told} == {4}


def test_a_name_that_cannot_be_recorded_is_refused(world: World) -> None:
    with pytest.raises(InvalidArgument) as caught:
        world.operator(by="policy:x")
    assert caught.value.code == "approver_invalid"


def test_a_receipt_that_cannot_be_kept_stops_it_and_the_split_is_found_later(
    world: World,
) -> None:
    def full(moment: str) -> None:
        if moment == "before" and world.cluster.version == 2:
            raise Unavailable("the store is away", code="store_unavailable", retryable=False)

    world.store.on_put = full
    error, answer = world.stopped(WorkbenchError)
    assert "receipt of split-001 was not kept" in error.message
    assert statuses(answer)[0] is APPLIED
    world.store.on_put = lambda _moment: None
    world.running.clear()
    assert statuses(world.apply()) == [ALREADY, APPLIED, APPLIED, APPLIED]
    assert read_receipts(world.catalog(), world.plan.plan_id)[0].status is ReceiptStatus.APPLIED
