"""Restore into an empty cluster: the same history once, after any end; nothing else is touched."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from fake_history import NOW, FakeHistory, all_rows, as_of, empty_like, history, seeds
from fakes import FakeClock, FakeConnector, FakeRng, Killed, MortalStore
from fakes import FakeCluster as FakeRoutes

from workbench.catalog.catalog import Catalog, Registration
from workbench.errors import (
    Conflict,
    Corruption,
    InvalidArgument,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from workbench.model.node import RestoreStatus
from workbench.session import exporting, restoring, restoring_parts
from workbench.session.exporting import ExportOptions, export_cluster
from workbench.session.restoring import RestoreOptions, restore_cluster
from workbench.session.restoring_parts import bounds, cut

if TYPE_CHECKING:
    from workbench.session.restoring import RestoreAnswer

URL = "node://127.0.0.1:7002"


class Bench:
    """An exported cluster, a store, and an empty cluster of the same groups."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: int = 30) -> None:
        self.source = history(keys)
        self.store = MortalStore()
        self.clock = FakeClock()
        self.rng = FakeRng()
        Catalog.create(self.store, clock=self.clock, rng=self.rng, writer="test")
        monkeypatch.setattr(exporting, "open_catalog", lambda _url: self.catalog())
        monkeypatch.setattr(restoring, "open_catalog", lambda _url: self.catalog())
        monkeypatch.setattr(exporting, "open_routes", lambda _url: self.source)
        monkeypatch.setattr(restoring, "open_routes", lambda _url, **_how: self.target)
        # A few rows per import, so that there are many.
        monkeypatch.setattr(restoring_parts, "CUT_BYTES", 120)
        self.export()
        self.target: object = empty_like(self.source)

    def export(self, name: str = "a") -> None:
        options = ExportOptions(name=name, threads=1, part_bytes=300)
        export_cluster("node://127.0.0.1:7001", "memory://x", options)

    def catalog(self) -> Catalog:
        return Catalog.open(self.store, clock=self.clock, rng=self.rng, writer="test")

    def run(self, name: str = "a", **options) -> RestoreAnswer:
        given = {"threads": 1, "pauses_s": (0.0, 0.0), **options}
        return restore_cluster(name, URL, "memory://x", RestoreOptions(**given))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def assert_same(bench: Bench, target: FakeHistory, groups: dict[int, int] | None = None) -> None:
    """Check the whole history, the routes, and that everything serves."""
    assert all_rows(target, 2**64) == all_rows(bench.source, NOW)
    for read_ts in range(NOW - 1_050, NOW, 105):
        assert as_of(target, read_ts) == as_of(bench.source, read_ts)
    mapped = tuple(
        replace(route, group=(groups or {}).get(route.group, route.group))
        for route in bench.source.routes
    )
    assert target.routes == mapped
    assert not any(status.restoring for status in target.restores.values())
    for group, rows in target.rows.items():
        owned = [route.span for route in target.routes if route.group == group]
        assert all(any(key in span for span in owned) for key, _, _ in rows)


def test_the_same_history_and_routes_are_in_the_new_cluster(bench: Bench):
    answer = bench.run()
    assert_same(bench, bench.target)
    assert bench.target.version == 7
    assert (answer.new_rows, answer.plan.rows, answer.resumed) == (90, 90, False)
    assert answer.plan.snapshot.cluster_id == "c-2"
    assert len(bench.target.imports) == answer.plan.groups[0].tables + sum(
        group.tables for group in answer.plan.groups[1:]
    )
    assert bench.target.closed >= 1


def test_groups_may_be_restored_at_once_and_all_rows_compared(bench: Bench):
    answer = bench.run(threads=4, check=True)
    assert answer.checked
    assert_same(bench, bench.target)


def calls_of(bench: Bench) -> int:
    calls = [0]

    def count(_name: str) -> None:
        calls[0] += 1

    bench.target.on_call = count
    bench.run()
    return calls[0]


def test_killed_at_every_outside_call_and_resumed_every_row_is_there_once(
    monkeypatch: pytest.MonkeyPatch,
):
    bench = Bench(monkeypatch, keys=12)
    total = calls_of(bench)
    assert total > 60
    begun = 0
    for fatal in range(total):
        bench.target = target = empty_like(bench.source)
        left = [fatal]

        def die(_name: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed

        target.on_call = die
        with pytest.raises(Killed):
            bench.run()
        target.on_call = lambda _name: None
        ended = [g for g, status in target.restores.items() if not status.restoring]
        assert 1 not in ended or len(ended) == 3, (
            "routes can be changed while groups are not served"
        )
        was_begun = any(status.restore_id for status in target.restores.values())
        if not was_begun:
            with pytest.raises(NotFound) as caught:
                bench.run(resume=True)
            assert caught.value.code == "restore_absent"
        answer = bench.run(resume=was_begun)
        assert answer.resumed == was_begun
        begun += was_begun
        assert_same(bench, target)
        numbers = sorted(target.imports)
        assert numbers == [(g.group, n + 1) for g in answer.plan.groups for n in range(g.tables)]
    assert begun > 40


def test_an_import_that_arrives_late_changes_nothing(bench: Bench):
    """Two restores at once: the number of an import always means the same rows."""
    target = bench.target
    inner = target.import_rows
    late: list[tuple[int, bytes, list[pa.Table], int]] = []

    def twice(group: int, restore_id: bytes, tables, *, seq: int) -> RestoreStatus:
        batch = []
        for table in tables:
            batch.append(table)
            if len(batch) == 2:
                break
        status = inner(group, restore_id, batch, seq=seq)
        late.append((group, restore_id, batch, seq))
        for sent in late[-3:]:
            if sent[0] == group:
                inner(sent[0], sent[1], sent[2], seq=sent[3])
        return status

    target.import_rows = twice
    bench.run()
    assert len(late) > 6
    assert_same(bench, target)


def test_lost_answers_and_short_outages_are_passed_through(bench: Bench):
    calls = [0]

    def flaky(name: str) -> None:
        calls[0] += 1
        if calls[0] % 5 == 0 and name.startswith(("import", "restore", "save")):
            if name.endswith(":done"):
                raise OutcomeUnknown("no answer in 5 s", code="deadline_exceeded")
            raise Unavailable("the leader is not known", code="leader_unknown")

    bench.target.on_call = flaky
    bench.run()
    assert_same(bench, bench.target)


def test_a_cluster_that_stays_away_ends_it_and_it_goes_on(bench: Bench):
    def gone(name: str) -> None:
        if name == "import_rows" and len(bench.target.imports) > 4:
            raise Unavailable("no connection", code="node_unreachable")

    bench.target.on_call = gone
    with pytest.raises(Unavailable) as caught:
        bench.run()
    assert "goes on where this stopped" in caught.value.hint
    bench.target.on_call = lambda _name: None
    answer = bench.run()
    assert answer.resumed
    assert 0 < answer.new_rows < 90
    assert_same(bench, bench.target)


def test_a_repeated_command_after_the_end_only_compares(bench: Bench):
    bench.run()
    imports = list(bench.target.imports)
    bench.target.rows[1].append((b"a-new", NOW + 10**8, b"written since"))
    answer = bench.run(check=True)
    assert answer.existing
    assert answer.new_rows == 0
    assert bench.target.imports == imports


def part_of(bench: Bench, at: int = 2) -> str:
    return bench.catalog().get("export/a/version").objects[at].key


def flip(bench: Bench, key: str) -> None:
    data = bytearray(bench.store.get(key))
    data[len(data) // 2] ^= 0x40
    bench.store.delete(key)
    assert bench.store.put_if_absent(key, bytes(data))


def untouched(target: FakeHistory) -> bool:
    return (target.restores, target.rows, target.version) == ({}, {}, 1)


def test_a_damaged_part_is_named_before_anything_is_changed(bench: Bench):
    key = part_of(bench)
    flip(bench, key)
    bench.store.delete(part_of(bench, 4))
    with pytest.raises(Corruption) as caught:
        bench.run()
    assert caught.value.code == "export_damaged"
    assert key in caught.value.message
    assert "1 more object" in caught.value.message
    assert untouched(bench.target)
    answer = bench.run(dry_run=True)
    assert [each.key for each in answer.problems] == [key, part_of(bench, 4)]
    assert untouched(bench.target)


def test_damaged_routes_are_told(bench: Bench):
    flip(bench, bench.catalog().get("export/a/route").objects[0].key)
    with pytest.raises(Corruption):
        bench.run()
    assert untouched(bench.target)


def test_a_part_that_is_damaged_after_it_was_checked_ends_it(bench: Bench):
    key = part_of(bench)
    bench.target.on_call = lambda name: (
        flip(bench, key) if name == "restore_begin" and not bench.target.restores else None
    )
    with pytest.raises(Corruption) as caught:
        bench.run()
    assert key in caught.value.message
    assert any(status.restoring for status in bench.target.restores.values())


def reregister(bench: Bench, **changes) -> None:
    manifest = bench.catalog().get("export/a/version")
    own = {
        "name": manifest.name,
        "schema_fingerprint": manifest.schema_fingerprint,
        "objects": manifest.objects,
        "row_count": manifest.row_count,
        "properties": dict(manifest.properties),
    }
    bench.catalog().register([Registration(**(own | changes))])


def test_parts_that_are_missing_or_out_of_order_are_damage(bench: Bench):
    objects = bench.catalog().get("export/a/version").objects
    reregister(bench, objects=objects[:-1])
    with pytest.raises(Corruption) as caught:
        bench.run()
    assert "rows, exported were" in caught.value.message
    reregister(bench, objects=(objects[0], objects[2], objects[1], *objects[3:]))
    with pytest.raises(Corruption) as caught:
        bench.run()
    assert "begins before the end of" in caught.value.message
    assert untouched(bench.target)


@pytest.mark.parametrize(
    ("properties", "error", "code"),
    [
        ({"status": "exporting"}, InvalidInput, "export_incomplete"),
        ({"format": "workbench.export/2"}, InvalidInput, "export_format_unknown"),
        ({"read_ts": "5"}, Corruption, "export_damaged"),
        ({"catalog_version": "8"}, Corruption, "export_properties_invalid"),
    ],
)
def test_an_export_that_is_none_is_refused(
    bench: Bench, properties: dict[str, str], error: type[Exception], code: str
):
    known = bench.catalog().get("export/a/version").properties
    reregister(bench, properties={**known, **properties})
    with pytest.raises(error) as caught:
        bench.run()
    assert caught.value.code == code
    assert untouched(bench.target)


def test_an_unknown_name_brings_those_that_there_are(bench: Bench):
    with pytest.raises(NotFound) as caught:
        bench.run("b")
    assert caught.value.code == "export_absent"
    assert "a" in caught.value.hint


def test_a_cluster_that_holds_data_is_refused(bench: Bench):
    bench.target.rows = {2: [(b"m", 5, b"x")]}
    for dry_run in (True, False):
        with pytest.raises(Conflict) as caught:
            bench.run(dry_run=dry_run)
        assert caught.value.code == "target_not_empty"
        assert "group 2" in caught.value.message
    assert bench.target.restores == {}


def test_a_cluster_that_another_restore_fills_is_refused(bench: Bench):
    bench.target.restores[2] = RestoreStatus(2, b"x" * 16, restoring=True, rows=5)
    with pytest.raises(Conflict) as caught:
        bench.run()
    assert caught.value.code == "restore_other"
    assert bench.target.imports == []


def test_another_export_does_not_go_on_with_a_restore(bench: Bench):
    bench.target.on_call = lambda name: (
        (_ for _ in ()).throw(Killed) if name == "save_routes" else None
    )
    with pytest.raises(Killed):
        bench.run()
    bench.target.on_call = lambda _name: None
    bench.source.now += 10**9
    bench.export("b")
    with pytest.raises(Conflict) as caught:
        bench.run("b")
    assert caught.value.code == "restore_other"
    bench.run("a")
    assert_same(bench, bench.target)


def test_groups_that_the_cluster_lacks_are_listed_and_may_be_mapped(bench: Bench):
    bench.target = FakeHistory(routes=seeds(1, 2), version=1, cluster_id="c-2", now=NOW + 10**9)
    with pytest.raises(InvalidInput) as caught:
        bench.run()
    assert caught.value.code == "groups_missing"
    assert "no group 3" in caught.value.message
    assert "--map-group 3=1" in caught.value.hint
    assert untouched(bench.target)
    answer = bench.run(mapping={3: 1}, check=True)
    assert_same(bench, bench.target, {3: 1})
    assert [group.sources for group in answer.plan.groups] == [(1, 3), (2,)]


def test_groups_may_change_places(bench: Bench):
    bench.run(mapping={2: 3, 3: 2}, check=True)
    assert_same(bench, bench.target, {2: 3, 3: 2})


@pytest.mark.parametrize("mapping", [{9: 1}, {2: 9}])
def test_a_mapping_of_what_is_not_there_is_wrong_usage(bench: Bench, mapping: dict[int, int]):
    with pytest.raises(InvalidArgument) as caught:
        bench.run(mapping=mapping)
    assert caught.value.code == "group_mapping_invalid"


def test_the_catalogs_own_group_stays_where_it_is(bench: Bench):
    with pytest.raises(InvalidInput) as caught:
        bench.run(mapping={1: 2, 2: 1})
    assert caught.value.code == "catalog_group_moved"
    assert untouched(bench.target)


def test_groups_that_no_route_needs_own_nothing_afterwards(bench: Bench):
    bench.target = FakeHistory(
        routes=seeds(1, 2, 3, 4), version=1, cluster_id="c-2", now=NOW + 10**9
    )
    bench.run()
    assert bench.target.spans[4] == []
    assert_same(bench, bench.target)


def test_a_cluster_at_a_later_version_gives_the_routes_the_next_one(bench: Bench):
    bench.target.version = 12
    answer = bench.run()
    assert bench.target.version == 13
    assert "version 13" in answer.warnings[0]
    assert_same(bench, bench.target)
    assert bench.run().existing


def test_a_dry_run_tells_the_plan_and_changes_nothing(bench: Bench):
    answer = bench.run(dry_run=True)
    assert answer.dry_run
    assert answer.plan.rows == 90
    assert sum(group.tables for group in answer.plan.groups) > 20
    assert untouched(bench.target)
    assert bench.run().plan.restore_id == answer.plan.restore_id


def test_a_system_that_cannot_restore_says_so(bench: Bench):
    bench.target = FakeConnector(FakeRoutes())
    with pytest.raises(InvalidArgument) as caught:
        bench.run()
    assert caught.value.code == "restore_unsupported"


@pytest.mark.parametrize("check", [True, False])
def test_the_comparison_finds_a_row_that_differs(bench: Bench, *, check: bool):
    inner = bench.target.import_rows

    def spoiled(group: int, restore_id: bytes, tables, *, seq: int) -> RestoreStatus:
        status = inner(group, restore_id, tables, seq=seq)
        rows = bench.target.rows[group]
        rows[:] = [(key, at, value and b"!" + value) for key, at, value in rows]
        return status

    bench.target.import_rows = spoiled
    with pytest.raises(Corruption) as caught:
        bench.run(check=check)
    assert caught.value.code == "restored_rows_differ"


@pytest.mark.parametrize("change", ["missing", "more"])
def test_the_whole_comparison_finds_one_row_too_few_or_too_many(bench: Bench, change: str):
    bench.run()
    rows = bench.target.rows[3]
    if change == "missing":
        rows.remove(max(rows))
    else:
        rows.append((b"s-last", NOW - 5, b"x"))
    with pytest.raises(Corruption) as caught:
        bench.run(check=True)
    assert caught.value.code == "restored_rows_differ"


def test_a_group_that_counts_other_rows_is_told(bench: Bench):
    inner = bench.target.import_rows

    def lossy(group: int, restore_id: bytes, tables, *, seq: int) -> RestoreStatus:
        status = inner(group, restore_id, tables, seq=seq)
        bench.target.restores[group] = replace(status, rows=status.rows - 1)
        return bench.target.restores[group]

    bench.target.import_rows = lossy
    with pytest.raises(Corruption) as caught:
        bench.run()
    assert caught.value.code == "restore_rows_differ"
    assert any(status.restoring for status in bench.target.restores.values())


def test_a_group_that_takes_no_import_ends_it(bench: Bench):
    bench.target.import_rows = lambda group, *_, **__: bench.target.status(group)
    with pytest.raises(Unavailable) as caught:
        bench.run()
    assert caught.value.code == "import_not_taken"


def test_a_cut_is_a_function_of_the_rows_alone(monkeypatch: pytest.MonkeyPatch):
    from fake_history import version_table

    rows = version_table(1, [(b"k%04d" % n, 5, b"v" * (n % 50)) for n in range(500)])
    monkeypatch.setattr(restoring_parts, "CUT_BYTES", 1_000)
    tables = cut(rows)
    assert pa.concat_tables(tables).equals(rows)
    assert all(table.num_rows for table in tables)
    assert 20 < len(tables) == len(bounds(rows))
    chunked = pa.concat_tables([rows.slice(0, 77), rows.slice(77)])
    assert [table.num_rows for table in cut(chunked)] == [table.num_rows for table in tables]
    large = version_table(1, [(b"a", 5, None), (b"b", 5, b"v" * 5_000), (b"c", 5, b"")])
    assert [table.num_rows for table in cut(large)] == [1, 2]
    for table in tables:
        rest = sum(len(r["key"]) + len(r["value"]) + 24 for r in table.to_pylist()[1:])
        assert rest < 1_000
    assert cut(rows.slice(0, 0)) == []


def test_damage_is_told_before_groups_that_are_missing_and_names_the_way_out(bench: Bench):
    key = part_of(bench)
    flip(bench, key)
    bench.target = FakeHistory(routes=seeds(1), version=1, cluster_id="c-2", now=NOW + 10**9)
    with pytest.raises(Corruption) as caught:
        bench.run()
    assert caught.value.code == "export_damaged"
    assert caught.value.message.count(key) == 1
    assert "export again" in caught.value.hint
    assert "export/a/version and export/a/route" in caught.value.hint
    assert [each.key for each in bench.run(dry_run=True).problems] == [key]
