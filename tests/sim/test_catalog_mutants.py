"""One-line breakages of commit, chain, checkpoint and garbage collection: each is found.

A planted fault is found if one of the first seeds ends in a violation; its seed is printed, and
replays alone. What nothing plants a fault for, nobody knows to be checked.
"""

from __future__ import annotations

import dataclasses
import sys

import pytest

from workbench.catalog import (
    catalog,
    chain,
    checkpoint,
    commit,
    compact,
    gc,
    registry,
)
from workbench.catalog.checkpoint import encode_checkpoint
from workbench.errors import OutcomeUnknown, Unavailable
from workbench.sim.campaign import replay_line
from workbench.sim.catalog_world import play

Transaction = commit.Transaction


def forget_own_record(patch):
    """A lost answer is not settled: the transaction's own record counts as another's."""
    original = Transaction._catch_up

    def catch_up(self):
        seq = self.state.seq
        done = original(self)
        if done is not None and self.state.seq > seq:
            self._landed = None
            return None
        return done

    patch.setattr(Transaction, "_catch_up", catch_up)


def take_412_for_success(patch):
    original = Transaction._put

    def put(self):
        done = original(self)
        if done is None and self._failure is None:
            self.uncertain = False
            return self._offer.batch
        return done

    patch.setattr(Transaction, "_put", put)


def offer_anew_before_settling(patch):
    """After a time-out the next offer goes under the next number."""
    original = Transaction._put

    def put(self):
        done = original(self)
        self.uncertain = False
        return done

    patch.setattr(Transaction, "_put", put)


def keep_the_first_plan(patch):
    """A lost race is offered again as it was planned, on top of the winner."""
    original = registry.plan
    plans = {}

    def plan(state, changes, now):
        return plans.setdefault(id(changes[0]), (original(state, changes, now), changes))[0]

    patch.setattr(catalog, "plan", plan)


def name_an_older_parent(patch):
    original = Transaction._next

    def following(self, batch):
        before, self.state = self.state, dataclasses.replace(self.state, head_sha256="0" * 64)
        try:
            return original(self, batch)
        finally:
            self.state = before

    patch.setattr(Transaction, "_next", following)


def upload_after_the_record(patch):
    original = Transaction.run

    def run(self, planner, prepare):
        batch = original(self, planner, lambda _: None)
        prepare(batch)
        return batch

    patch.setattr(Transaction, "run", run)


def discard_what_may_still_be_referred_to(patch):
    """An unknown outcome removes its uploads, as a failure does."""
    original = catalog.Catalog._run

    def run(self, transaction, changes, parts):
        try:
            return original(self, transaction, changes, parts)
        except OutcomeUnknown:
            if parts is not None:
                parts.discard()
            raise

    patch.setattr(catalog.Catalog, "_run", run)


def fail_where_it_is_unknown(patch):
    """An unknown outcome is told as a failure."""
    original = Transaction._give_up

    def give_up(self, failure):
        try:
            original(self, failure)
        except OutcomeUnknown as error:
            raise Unavailable("not committed", code="catalog_busy") from error

    patch.setattr(Transaction, "_give_up", give_up)


def serve_older_states_too(patch):
    def adopt(self, state):
        self._state, self._newest = getattr(self, "_newest", state), state

    patch.setattr(catalog.Catalog, "_adopt", adopt)


def ignore_expected_rows(patch):
    patch.setattr(registry, "_check_expected", lambda *_: None)


def checkpoint_with_another_head(patch):
    """A checkpoint says that it stands at a record that it does not stand at."""

    def encode(state, *, writer):
        return encode_checkpoint(dataclasses.replace(state, head_sha256="0" * 64), writer=writer)

    patch.setattr(checkpoint, "encode_checkpoint", encode)


def checkpoint_without_one_dataset(patch):
    def encode(state, *, writer):
        some = list(state.manifests.values())[1:]
        manifests = type(state.manifests).of({each.name: each for each in some})
        return encode_checkpoint(dataclasses.replace(state, manifests=manifests), writer=writer)

    patch.setattr(checkpoint, "encode_checkpoint", encode)


def collect_without_grace(patch):
    """What is unreferenced now is deleted at once, without a record that says so."""

    def condemn(keeper, floor, found):
        for each in found:
            keeper.store.delete(each.key)

    original = gc._sort

    def sort(entries, head, keys, before):
        return original(entries, head, keys, before.replace(year=before.year + 1))

    patch.setattr(gc, "_condemn", condemn)
    patch.setattr(gc, "_sort", sort)


def collect_what_only_time_travel_needs(patch):
    original = gc._sort

    def sort(entries, head, keys, before):
        return original(entries, head, gc._referred(head.manifests.values()), before)

    patch.setattr(gc, "_sort", sort)


def trim_above_the_floor(patch):
    original = gc._below

    def below(store, head, log, before):
        now, later, since = original(store, head, log, before)
        more = [chain.log_key(head.floor)] if head.floor else []
        return (*now, *more), later, since

    patch.setattr(gc, "_below", below)


def believe_every_put(patch):
    """A record that a sleeper puts below the trimmed log counts as committed."""
    patch.setattr(commit, "is_connected", lambda *_: True)


def forget_what_was_condemned(patch):
    """A sleeper refers to objects that were collected meanwhile."""
    patch.setattr(Transaction, "_check_condemned", lambda *_: None)
    patch.setattr(Transaction, "_check_age", lambda *_: None)
    original = registry._entry

    def entry(state, *arguments):
        return original(dataclasses.replace(state, condemned={}), *arguments)

    patch.setattr(registry, "_entry", entry)


def compact_over_what_came_meanwhile(patch):
    original = registry._swapped

    def swapped(registered, change):
        wanted = original(registered, change)
        new = tuple(ref for swap in change.swaps for ref in swap.new)
        return dataclasses.replace(wanted, objects=new)

    patch.setattr(registry, "_swapped", swapped)


def merge_one_object_twice(patch):
    original = compact.Merger.merge

    def merge(self, refs, *arguments, **options):
        twice = [*refs[:-1], refs[0]] if refs else refs
        return original(self, twice, *arguments, **options)

    patch.setattr(compact.Merger, "merge", merge)


# How many seeds find them at the latest.
SOON = 60
MUTANTS = [
    forget_own_record,
    take_412_for_success,
    offer_anew_before_settling,
    keep_the_first_plan,
    name_an_older_parent,
    upload_after_the_record,
    fail_where_it_is_unknown,
    serve_older_states_too,
    ignore_expected_rows,
    checkpoint_with_another_head,
    checkpoint_without_one_dataset,
    collect_without_grace,
    collect_what_only_time_travel_needs,
    trim_above_the_floor,
    compact_over_what_came_meanwhile,
    merge_one_object_twice,
]
RARELY = 600
RARE_MUTANTS = [
    discard_what_may_still_be_referred_to,
    believe_every_put,
    forget_what_was_condemned,
]


def find(mutant, monkeypatch, seeds):
    mutant(monkeypatch)
    for seed in range(seeds):
        violation = play(seed).violation
        if violation is not None:
            sys.stdout.write(f"{mutant.__name__}: {replay_line('catalog', seed)}: {violation}\n")
            return
    pytest.fail(f"not found by {seeds} seeds")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_planted_fault_is_found(mutant, monkeypatch):
    find(mutant, monkeypatch, SOON)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", RARE_MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_planted_fault_that_takes_a_rare_schedule_is_found(mutant, monkeypatch):
    find(mutant, monkeypatch, RARELY)
