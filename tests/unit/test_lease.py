"""Claims about the lease: one holder at a time, and none that outlives its process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fakes import FakeClock, FakeRng

from workbench.catalog.catalog import Catalog
from workbench.errors import Conflict, Unavailable
from workbench.session import lease as leases
from workbench.session.lease import (
    TTL,
    Lease,
    Machine,
    Place,
    acquire,
    process_is_there,
    read_lease,
    this_machine,
)
from workbench.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.session.lease import LeaseRow


class World:
    """A catalog, a clock for all, and which processes there are."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = FakeClock()
        self.rng = FakeRng()
        self.running = {1, 2, 3}
        Catalog.create(self.store, clock=self.clock, rng=self.rng, writer="test")

    def catalog(self) -> Catalog:
        return Catalog.open(self.store, clock=self.clock, rng=self.rng, writer="test")

    def machine(self, place: Place | str, pid: int) -> Machine:
        where = Place(place) if isinstance(place, str) else place
        return Machine(self.clock, self.rng, where, pid, self.running.__contains__)

    def take(self, place: Place | str = "a", pid: int = 1, by: str = "user:anna") -> Lease:
        machine = self.machine(place, pid)
        return acquire(self.catalog(), "c", by=by, plan_id=f"plan-of-{pid}", machine=machine)

    def rows(self) -> list[LeaseRow]:
        return read_lease(self.catalog(), "c")


def refused(take: Callable[[], object]) -> Conflict:
    with pytest.raises(Conflict) as caught:
        take()
    assert caught.value.code == "lease_held"
    return caught.value


def test_the_second_is_told_who_holds_it_where_for_which_plan_and_until_when() -> None:
    world = World()
    held = world.take()
    error = refused(lambda: world.take("b", 2, "user:bert"))
    for part in ("user:anna", "a, process 1", "plan-of-1", "'c'"):
        assert part in error.message
    assert held.expires_at.isoformat()[:19] in error.hint
    assert len(world.rows()) == 1


def test_it_is_free_again_after_release_and_leases_of_other_clusters_do_not_matter() -> None:
    world = World()
    first = world.take()
    other = acquire(world.catalog(), "d", by="user:x", plan_id="p", machine=world.machine("b", 2))
    assert first.release() is None
    assert world.take("b", 2).token not in {first.token, other.token}


def test_a_holder_whose_process_is_gone_is_taken_over_at_once_on_its_host_only() -> None:
    world = World()
    world.take("a", 1)
    world.running.remove(1)
    refused(lambda: world.take("b", 2))
    world.take("a", 3)
    assert [row.holder.pid for row in world.rows()] == [1, 3]


HERE = Place("a", machine="m1", boot="b1", namespace="pid:[1]")


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(HERE, host="b"),
        replace(HERE, namespace="pid:[2]"),
        replace(HERE, namespace=None),
        replace(HERE, machine="m2"),
        replace(HERE, machine="m2", boot="b2"),
        # Perhaps another machine of the same name: nothing tells that it was a reboot.
        replace(HERE, machine=None, boot="b2"),
        replace(HERE, boot=None),
        Place("a"),
    ],
)
def test_a_holder_elsewhere_counts_until_it_expires_though_its_pid_is_not_here(
    elsewhere: Place,
) -> None:
    for holder, asker in ((elsewhere, HERE), (HERE, elsewhere)):
        world = World()
        held = world.take(holder, 1)
        world.running.remove(1)
        error = refused(lambda world=world, asker=asker: world.take(asker, 2))  # type: ignore[misc]
        assert f"from {holder.host}, process 1" in error.message
        world.clock.time = held.expires_at
        world.take(asker, 2)


def test_a_holder_from_before_a_reboot_is_gone_though_its_pid_is_taken() -> None:
    world = World()
    world.take(HERE, 1)
    world.take(replace(HERE, boot="b2"), 2)
    assert [row.holder.pid for row in world.rows()] == [1, 2]


@pytest.mark.parametrize("place", [HERE, Place("a"), Place("a b", boot="b1")])
def test_a_place_read_back_is_the_one_that_was_written(place: Place) -> None:
    world = World()
    world.take(place)
    assert world.rows()[0].holder.place == place


def test_a_row_with_nothing_but_a_host_name_is_read() -> None:
    assert Place.parse("a") == Place("a")
    assert Place.parse("a b c") == Place("a b c")


@pytest.mark.skipif(sys.platform != "linux", reason="PID namespaces are Linux's")
def test_this_machine_knows_its_boot_and_its_pid_namespace() -> None:
    here = this_machine().place
    assert here.namespace == str(Path("/proc/self/ns/pid").readlink())
    assert here.boot
    assert this_machine().place == here


def test_one_cluster_under_two_names_has_one_lease() -> None:
    world = World()

    def take(cluster: str, cluster_id: str | None, pid: int) -> Lease:
        machine = world.machine("a", pid)
        return acquire(
            world.catalog(),
            cluster,
            by="user:x",
            plan_id="p",
            machine=machine,
            cluster_id=cluster_id,
        )

    held = take("local", "id-1", 1)
    error = refused(lambda: take("other", "id-1", 2))
    assert "cluster 'local'" in error.message
    take("other", "id-2", 2)
    take("local", None, 3)
    assert held.release() is None
    take("other", "id-1", 2)
    assert [row.cluster for row in read_lease(world.catalog(), "any", "id-1")] == [
        "local",
        "local",
        "other",
    ]


@pytest.mark.parametrize("strange", ["../x", "..", "a b", "é", "x" * 300, "a/b", ".", "x\n"])
def test_an_id_that_is_no_name_of_a_dataset_still_names_one_lease(strange: str) -> None:
    world = World()
    machine = world.machine("a", 1)
    acquire(world.catalog(), "c", by="user:x", plan_id="p", machine=machine, cluster_id=strange)
    [name] = [manifest.name for manifest in world.catalog().list("lease/")]
    assert name.removeprefix("lease/").isalnum()
    other = world.machine("b", 2)
    refused(
        lambda: acquire(
            world.catalog(), "d", by="user:x", plan_id="p", machine=other, cluster_id=strange
        )
    )


def test_an_empty_id_is_none() -> None:
    world = World()
    acquire(world.catalog(), "c", by="u", plan_id="p", machine=world.machine("a", 1), cluster_id="")
    assert len(world.rows()) == 1


def test_an_expired_lease_is_taken_over_from_anywhere_and_not_before() -> None:
    world = World()
    held = world.take("a", 1)
    world.clock.time = held.expires_at - timedelta(milliseconds=2)
    refused(lambda: world.take("b", 2))
    world.clock.time = held.expires_at
    world.take("b", 2)


def test_it_is_renewed_only_when_less_than_half_is_left() -> None:
    world = World()
    held = world.take()
    first = held.expires_at
    held.keep()
    assert (len(world.rows()), held.expires_at) == (1, first)
    world.clock.sleep(TTL.total_seconds() / 2 + 1)
    held.keep()
    assert len(world.rows()) == 2
    assert held.expires_at > first
    world.clock.time = first
    refused(lambda: world.take("b", 2))
    assert held.release() is None
    assert [row.token for row in world.rows()] == [held.token] * 3


def test_a_holder_that_slept_over_its_end_goes_on_only_if_nobody_came() -> None:
    world = World()
    held = world.take("a", 1)
    world.clock.sleep(10 * TTL.total_seconds())
    held.keep()
    world.clock.sleep(10 * TTL.total_seconds())
    other = world.take("b", 2)
    with pytest.raises(Conflict) as caught:
        held.keep()
    assert caught.value.code == "lease_lost"
    assert held.release() is None
    assert world.rows()[-1].token == other.token
    assert world.rows()[-1].expires_at > world.clock.now()


def test_of_two_who_find_it_free_at_once_one_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    won: list[Lease] = []
    read = leases.read_lease

    def slow(catalog: Catalog, *which: str | None) -> list[LeaseRow]:
        rows = read(catalog, *which)
        if not won:
            # Between reading and writing, the other one comes and goes all the way.
            monkeypatch.setattr(leases, "read_lease", read)
            won.append(world.take("b", 2, "user:bert"))
        return rows

    monkeypatch.setattr(leases, "read_lease", slow)
    error = refused(lambda: world.take("a", 1))
    assert "user:bert" in error.message
    assert [row.token for row in world.rows()] == [won[0].token]


def test_a_lost_race_against_one_who_let_go_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    read = leases.read_lease

    def slow(catalog: Catalog, *which: str | None) -> list[LeaseRow]:
        rows = read(catalog, *which)
        monkeypatch.setattr(leases, "read_lease", read)
        world.take("b", 2).release()
        return rows

    monkeypatch.setattr(leases, "read_lease", slow)
    held = world.take("a", 1)
    assert len(world.rows()) == 3
    assert world.rows()[-1].token == held.token


def test_release_never_raises_and_says_what_it_could_not_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    held = world.take()

    def down(_self: Catalog, _writes: object) -> None:
        raise Unavailable("the store is away", code="catalog_busy")

    monkeypatch.setattr(Catalog, "commit", down)
    warning = held.release()
    assert warning is not None
    assert "the store is away" in warning
    assert held.expires_at.isoformat()[:19] in warning


def test_a_process_is_there_until_it_is_dead_also_where_nobody_read_its_status() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert process_is_there(child.pid)
        child.kill()
        # WNOWAIT waits for its death and leaves the zombie.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not process_is_there(child.pid)
    finally:
        child.communicate()
    assert not process_is_there(child.pid)
    assert process_is_there(os.getpid())
    assert process_is_there(1)
    assert not process_is_there(0)


def test_rows_read_back_are_those_that_were_written() -> None:
    world = World()
    held = world.take("a", 1)
    [row] = world.rows()
    assert (row.token, row.expires_at) == (held.token, held.expires_at)
    assert row.expires_at - row.at == TTL
    assert replace(row.holder, name="") == leases.Holder("", Place("a"), 1, "plan-of-1")
