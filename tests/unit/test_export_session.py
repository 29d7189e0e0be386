"""Export into the catalog: every version once, resumed after any end, refused in time."""

from __future__ import annotations

import io
import socket
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import fake_history
import pyarrow.parquet as pq
import pytest
from fake_history import NOW, FakeHistory, all_rows, history, table_rows, version_table
from fakes import FakeClock, FakeConnector, FakeRng, Killed, MortalStore
from fakes import FakeCluster as FakeRoutes

from workbench.catalog.catalog import Catalog
from workbench.errors import (
    Conflict,
    Corruption,
    InvalidArgument,
    InvalidInput,
    NotFound,
    Storage,
    Unavailable,
)
from workbench.model.keys import Span
from workbench.model.node import CursorTag, ExportCursor
from workbench.model.tables import table_to_routes
from workbench.model.times import hlc_of_ms
from workbench.ports.connector import VersionChunk
from workbench.session import exporting as module
from workbench.session.exporting import ExportOptions, abandon, export_cluster
from workbench.session.exporting_check import count_again
from workbench.session.exporting_rows import owned_spans, problem_of
from workbench.session.exporting_state import (
    default_name,
    exported_routes,
    exports,
    find_export,
    parse_read_ts,
)
from workbench.session.exporting_target import telling_of_others

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "node://127.0.0.1:7001"
NAME = "local-20261121T120000.000Z"


class Bench:
    """A cluster, a store, and the session wired to both."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: int = 30) -> None:
        self.cluster = history(keys)
        self.store = MortalStore()
        self.source: object = self.cluster
        self.clock = FakeClock()
        self.rng = FakeRng()
        Catalog.create(self.store, clock=self.clock, rng=self.rng, writer="test")
        monkeypatch.setattr(module, "open_catalog", lambda _url: self.catalog())
        monkeypatch.setattr(module, "open_routes", lambda _url: self.source)

    def catalog(self) -> Catalog:
        return Catalog.open(self.store, clock=self.clock, rng=self.rng, writer="test")

    def run(self, **options) -> module.ExportAnswer:
        given = {"threads": 1, "part_bytes": 300, "pauses_s": (0.0, 0.0), **options}
        return export_cluster(URL, "memory://x", ExportOptions(**given))

    def rows(self, name: str = NAME) -> list[fake_history.Row]:
        return table_rows(self.catalog().read(f"export/{name}/version"))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_every_version_up_to_read_ts_is_stored_once_with_its_routes(bench: Bench):
    answer = bench.run()
    expected = all_rows(bench.cluster, NOW)
    assert sorted(bench.rows(), key=fake_history.order) == expected
    assert any(value is None for _, _, value in expected)
    assert (answer.export.name, answer.export.read_ts, answer.new_rows) == (NAME, NOW, 90)
    assert answer.export.complete
    assert answer.checked
    assert not answer.resumed
    manifest = bench.catalog().get(f"export/{NAME}/version")
    assert manifest.properties["status"] == "complete"
    assert manifest.properties["read_at"] == "2026-11-21T12:00:00Z"
    routes = exported_routes(bench.catalog(), answer.export)
    assert routes.routes == bench.cluster.routes
    assert routes.catalog_version == 7
    assert {state.rows for state in answer.export.groups.values()} != {0}
    assert bench.cluster.closed == 1


def test_each_object_is_one_groups_range_in_its_declared_order(bench: Bench):
    answer = bench.run()
    groups: dict[int, list[tuple[bytes, int]]] = {}
    for ref in answer.export.manifest.objects[1:]:
        file = pq.ParquetFile(io.BytesIO(bench.store.get(ref.key)))
        [group] = set(file.read().column("group").to_pylist())
        rows = table_rows(file.read())
        groups.setdefault(group, []).extend(fake_history.order(row) for row in rows)
        for number in range(file.metadata.num_row_groups):
            meta = file.metadata.row_group(number)
            assert [(c.column_index, c.descending) for c in meta.sorting_columns] == [
                (0, False),
                (1, True),
            ]
            assert "DELTA_BYTE_ARRAY" in meta.column(0).encodings
            assert meta.column(0).compression == "ZSTD"
            assert meta.column(0).has_column_index
            assert meta.column(0).statistics.min == rows[0][0]
    assert sorted(groups) == [1, 2, 3]
    for places in groups.values():
        assert places == sorted(set(places))
    assert sum(state.parts for state in answer.export.groups.values()) > 6


def test_rows_out_of_order_are_not_stored_under_a_layout_that_says_they_are(bench: Bench):
    from workbench.catalog.catalog import Write
    from workbench.session.exporting_rows import LAYOUT

    table = version_table(1, [(b"b", 1, b""), (b"a", 1, b"")])
    with pytest.raises(InvalidInput) as caught:
        bench.catalog().commit([Write("x", table, layout=LAYOUT)])
    assert caught.value.code == "rows_not_sorted"


def calls_of(bench: Bench) -> int:
    """Count the outside calls of one whole export."""
    calls = [0]

    def count(_name: str) -> None:
        calls[0] += 1

    bench.cluster.on_call = bench.store.on_put = count
    bench.run()
    return calls[0]


def test_killed_at_every_outside_call_and_resumed_every_row_is_stored_once(
    monkeypatch: pytest.MonkeyPatch,
):
    total = calls_of(Bench(monkeypatch, keys=7))
    assert total > 30
    resumed = 0
    for fatal in range(total):
        bench = Bench(monkeypatch, keys=7)
        left = [fatal]

        def die(_name: str, bench: Bench = bench, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                bench.store.dead = True
                raise Killed

        bench.cluster.on_call = bench.store.on_put = die
        with pytest.raises(Killed):
            bench.run()
        bench.store.dead = False
        bench.cluster.on_call = bench.store.on_put = lambda _name: None
        bench.cluster.now = later = NOW + 5_000_000  # time goes on, and writes with it
        before = exports(bench.catalog())
        answer = bench.run()
        assert answer.resumed == any(not each.complete for each in before)
        resumed += answer.resumed
        for export in exports(bench.catalog()):
            assert export.complete
            assert export.read_ts == (NOW if before and export.name == before[0].name else later)
            rows = sorted(bench.rows(export.name), key=fake_history.order)
            assert rows == all_rows(bench.cluster, export.read_ts)
    assert resumed > 20


def test_a_resumed_export_asks_only_for_what_is_behind_its_cursors(bench: Bench):
    puts = [0]

    def die_later(_moment: str) -> None:
        puts[0] += 1
        if puts[0] == 40:
            raise Killed

    bench.store.on_put = die_later
    with pytest.raises(Killed):
        bench.run()
    [unfinished] = exports(bench.catalog())
    stored = unfinished.rows
    assert 0 < stored < 90
    bench.store.on_put = lambda _moment: None
    bench.cluster.exported = 0
    answer = bench.run(resume=NAME)
    assert answer.new_rows == 90 - stored
    assert bench.cluster.exported < 40


def test_the_same_command_after_the_end_exports_nothing_and_says_so(bench: Bench):
    bench.run(name="nightly")
    again = bench.run(name="nightly")
    assert again.existing
    assert again.new_rows == 0
    assert "nothing was exported" in again.warnings[0]


def test_without_a_name_a_new_export_begins_after_a_complete_one(bench: Bench):
    bench.run()
    bench.cluster.now += 65_536
    assert bench.run().export.name == "local-20261121T120000.001Z"
    assert len(exports(bench.catalog())) == 2


def test_groups_may_be_exported_at_once(bench: Bench):
    bench.run(threads=4)
    assert sorted(bench.rows(), key=fake_history.order) == all_rows(bench.cluster, NOW)


def test_a_stream_that_breaks_goes_on_behind_its_cursor(bench: Bench):
    calls = [0]

    def flaky(name: str) -> None:
        calls[0] += name == "export"
        if name == "export" and calls[0] % 3 == 0:
            raise Unavailable("the node is gone", code="export_interrupted")

    bench.cluster.on_call = flaky
    bench.run()
    assert sorted(bench.rows(), key=fake_history.order) == all_rows(bench.cluster, NOW)


def test_a_group_that_stays_away_ends_the_export_and_leaves_what_is_stored(bench: Bench):
    export = bench.cluster.export

    def without_group_3(group: int, read_ts: int, **how):
        if group == 3:
            raise Unavailable("no connection to 127.0.0.1:7003", code="node_unreachable")
        return export(group, read_ts, **how)

    bench.cluster.export = without_group_3
    with pytest.raises(Unavailable) as caught:
        bench.run()
    assert "group 3: no connection" in caught.value.message
    assert "of 3 groups of export" in caught.value.message
    assert f"--resume {NAME}" in caught.value.hint
    bench.cluster.export = export
    assert bench.run(resume=NAME).resumed
    assert sorted(bench.rows(), key=fake_history.order) == all_rows(bench.cluster, NOW)


def test_a_full_store_ends_it_and_it_goes_on_when_there_is_room(bench: Bench):
    puts = [0]

    def full(moment: str) -> None:
        puts[0] += moment == "before"
        if puts[0] > 8:
            raise Storage("no space left", code="store_full", hint="free some space")

    bench.store.on_put = full
    with pytest.raises(Storage) as caught:
        bench.run()
    assert caught.value.code == "store_full"
    assert "free some space; `workbench export --resume" in caught.value.hint
    bench.store.on_put = lambda _moment: None
    bench.run()
    assert sorted(bench.rows(), key=fake_history.order) == all_rows(bench.cluster, NOW)


def test_a_commit_that_fails_once_leaves_no_hole_behind_it(monkeypatch: pytest.MonkeyPatch):
    """Parts are handed over before the one in front of them is stored."""
    ended_early = 0
    for fatal in range(5, 45, 3):
        bench = Bench(monkeypatch, keys=12)
        puts = [0]

        def fail_once(moment: str, puts: list[int] = puts, fatal: int = fatal) -> None:
            puts[0] += moment == "before"
            if moment == "before" and puts[0] == fatal:
                raise Storage("refused", code="store_permission")

        bench.store.on_put = fail_once
        with suppress(Storage):
            bench.run()
        ended_early += not exports(bench.catalog())[0].complete
        bench.run(name=NAME)
        assert sorted(bench.rows(), key=fake_history.order) == all_rows(bench.cluster, NOW)
    assert ended_early > 2


def unfinished(bench: Bench, name: str | None = None) -> None:
    bench.cluster.on_call = lambda name: (_ for _ in ()).throw(Killed) if name == "export" else None
    with pytest.raises(Killed):
        bench.run(name=name)
    bench.cluster.on_call = lambda _name: None


def test_history_that_is_gone_is_told_with_the_way_out(bench: Bench):
    unfinished(bench)
    bench.cluster.safe_point = NOW + 1
    with pytest.raises(Conflict) as caught:
        bench.run()
    assert caught.value.code == "snapshot_too_old"
    assert f"--abandon {NAME}" in caught.value.hint


def test_an_unfinished_export_is_abandoned_and_a_complete_one_is_not(bench: Bench):
    unfinished(bench)
    assert abandon("memory://x", NAME).rows == 0
    assert bench.catalog().list("export/") == []
    bench.run()
    with pytest.raises(InvalidInput) as caught:
        abandon("memory://x", NAME)
    assert caught.value.code == "export_complete"
    assert len(bench.catalog().list("export/")) == 2


def test_several_unfinished_exports_have_to_be_chosen_from(bench: Bench):
    unfinished(bench, "a")
    unfinished(bench, "b")
    with pytest.raises(Conflict) as caught:
        bench.run()
    assert caught.value.code == "export_ambiguous"
    assert "a, b" in caught.value.message
    assert bench.run(resume="b").export.name == "b"
    assert bench.run().export.name == "a"


def test_another_cluster_or_another_moment_does_not_go_on_with_an_export(bench: Bench):
    unfinished(bench, "a")
    with pytest.raises(Conflict) as caught:
        bench.run(name="a", read_ts=NOW - 1)
    assert caught.value.code == "export_exists"
    bench.cluster.cluster_id = "c-9"
    for options in ({"name": "a"}, {"resume": "a"}):
        with pytest.raises(Conflict) as caught:
            bench.run(**options)
        assert caught.value.code == "cluster_mismatch"
        assert "c-1" in caught.value.message
    assert bench.run().export.name == NAME, "an unfinished one of another cluster is left alone"


def test_two_that_export_under_one_name_store_no_row_twice(bench: Bench):
    others = [1]

    def second(moment: str) -> None:
        if moment == "before" and others and len(exports(bench.catalog())) == 1:
            others.pop()
            bench.run(name=NAME)

    bench.store.on_put = second
    with pytest.raises(Conflict) as caught:
        bench.run()
    assert caught.value.code == "export_busy"
    assert sorted(bench.rows(), key=fake_history.order) == all_rows(bench.cluster, NOW)


@pytest.mark.parametrize(
    ("options", "error", "code"),
    [
        ({"read_ts": NOW + 1}, InvalidArgument, "read_ts_in_future"),
        ({"name": "../x"}, InvalidArgument, "export_name_invalid"),
        ({"name": "x" * 10_000}, InvalidArgument, "export_name_invalid"),
        ({"name": "a", "resume": "b"}, InvalidArgument, "export_options_conflict"),
        ({"resume": "absent"}, NotFound, "export_absent"),
        ({"cluster": "a/b"}, InvalidArgument, None),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    bench: Bench, options: dict[str, object], error: type[Exception], code: str | None
):
    with pytest.raises(error) as caught:
        bench.run(**options)
    assert code in {None, caught.value.code}
    assert bench.catalog().seq == 0


def test_a_name_that_is_not_there_brings_those_that_are_close(bench: Bench):
    bench.run(name="nightly-1")
    with pytest.raises(NotFound) as caught:
        bench.run(resume="nightly-2")
    assert "nightly-1" in caught.value.hint


def test_a_system_that_does_not_export_says_so(bench: Bench):
    bench.source = FakeConnector(FakeRoutes())
    with pytest.raises(InvalidArgument) as caught:
        bench.run()
    assert caught.value.code == "export_unsupported"
    assert bench.source.closed == 1


def chunk_with(bench: Bench, change: Callable[[VersionChunk], VersionChunk]) -> None:
    """Let the cluster tell something else in its second chunk."""
    export = bench.cluster.export

    def changed(group: int, read_ts: int, **how):
        for number, chunk in enumerate(export(group, read_ts, **how)):
            yield change(chunk) if number == 1 else chunk

    bench.cluster.export = changed


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([(b"c", 5, b""), (b"b", 5, b"")], "out of order"),
        ([(b"c", 5, b""), (b"c", 5, b"")], "out of order"),
        ([(b"c", 5, b""), (b"c", 6, b"")], "out of order"),
        ([(b"c", NOW + 1, b"")], "after its read_ts"),
        ([(b"h", 5, b"")], "did not own"),
        ([(b"a", 5, b"")], "out of order"),
    ],
)
def test_what_breaks_a_rule_of_exports_is_not_stored(
    bench: Bench, rows: list[fake_history.Row], what: str
):
    cursor = ExportCursor(b"c", 5, CursorTag.EMITTED)
    chunk_with(bench, lambda _chunk: VersionChunk(version_table(1, rows), cursor, done=True))
    with pytest.raises(InvalidInput) as caught:
        bench.run(part_bytes=10**6)
    assert caught.value.code == "export_rows_invalid"
    assert what in caught.value.message
    assert bench.rows() == []


def test_a_stream_that_begins_before_its_cursor_is_not_stored(bench: Bench):
    export = bench.cluster.export
    bench.cluster.export = lambda group, read_ts, **_how: export(group, read_ts)
    calls = [0]

    def break_off(name: str) -> None:
        calls[0] += name == "export"
        if calls[0] == 4:
            raise Unavailable("gone", code="export_interrupted")

    bench.cluster.on_call = break_off
    with pytest.raises(InvalidInput):
        bench.run()


def test_kinds_values_groups_and_nulls_are_checked():
    spans = (Span(b"", None),)
    good = version_table(1, [(b"a", 5, b"x"), (b"b", 5, None)])
    assert problem_of(good, 1, spans, 9) is None
    assert problem_of(version_table(1, []), 1, spans, 9) is None
    assert "another group" in str(problem_of(good, 2, spans, 9))
    assert "columns" in str(problem_of(good.drop_columns(["kind"]), 1, spans, 9))
    kind = good.schema.get_field_index("kind")
    for kinds, what in ((["put", "put"], "a put has no value"), (["put", "x"], "kind other")):
        field = good.schema.field("kind")
        changed = good.set_column(kind, field, [kinds])
        assert what in str(problem_of(changed, 1, spans, 9))
    key = good.schema.get_field_index("key")
    changed = good.set_column(key, good.schema.field("key"), [[b"a", None]])
    assert "nulls in key" in str(problem_of(changed, 1, spans, 9))


def test_every_key_has_to_lie_in_a_route_of_the_group():
    spans = owned_spans(fake_history.ROUTES, 1)
    assert spans == (Span(b"", b"g"), Span(b"t", None))
    for keys, fine in (
        ([b"a", b"f", b"t", b"z"], True),
        ([b"t"], True),
        ([b"a", b"g"], False),
        ([b"g", b"t"], False),
        ([b"s"], False),
    ):
        found = problem_of(version_table(1, [(key, 1, b"") for key in keys]), 1, spans, 9)
        assert (found is None) == fine, keys


def test_the_count_finds_a_part_that_is_gone_or_there_twice(bench: Bench):
    from dataclasses import replace

    export = bench.run().export
    count_again(bench.store, export)
    objects = export.manifest.objects
    for changed in (objects[:-1], (*objects, objects[-1])):
        damaged = replace(export, manifest=replace(export.manifest, objects=changed))
        with pytest.raises(Corruption) as caught:
            count_again(bench.store, damaged)
        assert caught.value.code == "export_count_mismatch"


def test_properties_that_cannot_be_read_are_told(bench: Bench):
    from workbench.catalog.catalog import Registration

    export = bench.run().export
    for name, value, error in (
        ("read_ts", "soon", Corruption),
        ("status", "half", Corruption),
        ("group.1", "{", Corruption),
        ("format", "workbench.export/9", InvalidInput),
    ):
        own = {**export.manifest.properties, name: value}
        bench.catalog().register(
            [
                Registration(
                    export.manifest.name,
                    export.manifest.schema_fingerprint,
                    export.manifest.objects,
                    export.rows,
                    own,
                )
            ]
        )
        with pytest.raises(error):
            find_export(bench.catalog(), export.name)
        assert exports(bench.catalog()) == []


def test_a_read_timestamp_is_an_hlc_value_or_a_time_with_all_its_commits():
    assert parse_read_ts(str(NOW)) == NOW
    assert parse_read_ts("2026-11-21T12:00:00Z") == NOW | 0xFFFF
    assert parse_read_ts("1795262400.5") == hlc_of_ms(1_795_262_400_500, 0xFFFF)
    for text in ("soon", "-5", str(2**64), "9" * 40):
        with pytest.raises(InvalidArgument):
            parse_read_ts(text)


def test_a_time_exports_what_was_there_then(bench: Bench):
    read_ts = NOW - 990
    answer = bench.run(read_ts=read_ts)
    assert 0 < answer.new_rows < 90
    assert sorted(bench.rows(answer.export.name), key=fake_history.order) == all_rows(
        bench.cluster, read_ts
    )
    again = bench.run(read_ts=read_ts)
    assert again.existing, "the same command, the same name"


def test_default_names_are_names(bench: Bench):
    moment = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert default_name("prod", NOW) == f"prod-{moment:%Y%m%dT%H%M%S}.000Z"
    default_name("prod", 2**64 - 1)


def test_a_cluster_without_rows_is_exported_too(bench: Bench):
    bench.cluster.rows = {}
    answer = bench.run()
    assert answer.export.complete
    assert bench.rows() == []
    snapshot = table_to_routes(bench.catalog().read(f"export/{NAME}/route"))
    assert snapshot.catalog_version == 7


def test_an_interrupt_ends_the_lanes_and_leaves_what_is_stored(bench: Bench):
    class Stop(BaseException):
        pass

    def interrupted(_stage: str, _tally: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        export_cluster(
            URL, "memory://x", ExportOptions(threads=2, part_bytes=300), progress=interrupted
        )
    assert bench.run().resumed
    assert sorted(bench.rows(), key=fake_history.order) == all_rows(bench.cluster, NOW)


def test_a_fake_without_a_class_of_its_own_is_an_exporter():
    from workbench.ports.connector import Exporter, Restorer

    assert isinstance(FakeHistory(), Exporter)
    assert isinstance(FakeHistory(), Restorer)


def test_a_moment_before_the_routes_is_told_with_dates_and_when_they_begin(bench: Bench):
    begin = parse_read_ts("2026-11-20T08:00:00Z")

    def routes_at(read_ts: int):
        if read_ts < begin:
            raise NotFound(f"begins after the read_ts {read_ts}", code="catalog_not_begun")
        return FakeHistory.routes_at(bench.cluster, read_ts)

    bench.cluster.routes_at = routes_at
    early = parse_read_ts("2020-01-01T00:00:00Z")
    with pytest.raises(NotFound) as caught:
        bench.run(read_ts=early)
    assert caught.value.code == "catalog_not_begun"
    assert "no history as of 2020-01-01T00:00:00" in caught.value.message
    assert "read from 2026-11-20T08:00:00Z on" in caught.value.message
    assert str(early) not in caught.value.message
    assert bench.run(read_ts=begin).export.complete


def test_what_listens_and_is_no_node_is_told_apart_from_nothing_at_all():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with (
            pytest.raises(Unavailable, match=f"something answers at 127.0.0.1:{port} that is no"),
            telling_of_others(f"node://127.0.0.1:{port}"),
        ):
            raise Unavailable("no connection", code="node_unreachable")
    with (
        pytest.raises(Unavailable, match=r"^no connection$"),
        telling_of_others(f"node://127.0.0.1:{port}"),
    ):
        raise Unavailable("no connection", code="node_unreachable")
    with (
        pytest.raises(InvalidInput, match="a gRPC server, but no node"),
        telling_of_others(f"node://127.0.0.1:{port}"),
    ):
        raise InvalidInput("UNIMPLEMENTED", code="status_unimplemented")
