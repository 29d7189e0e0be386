"""Collecting from a running cluster: appended once, gaps told, other clusters refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from workbench.errors import Conflict, Corruption, InvalidArgument, InvalidInput, Unavailable
from workbench.model.routes import RouteSnapshot, seed_routes
from workbench.model.tables import COUNTER, HOT_KEY, KEY_SAMPLE, LOAD_WINDOW, table_to_routes
from workbench.model.times import rfc3339
from workbench.ports.connector import Capabilities, LoadAnswer
from workbench.ports.counters import CounterSamples
from workbench.session import collect_live as module
from workbench.session.cluster import open_cluster
from workbench.session.collect import CollectOptions, collect
from workbench.session.collect_live import (
    LiveOptions,
    Rounds,
    cluster_of_url,
    collect_live,
    follow,
)
from workbench.session.datasets import accesses_bytes
from workbench.session.wiring import open_catalog
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from pathlib import Path

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
URL = "node://127.0.0.1:7001"
BUCKETS = ((b"", b"m"), (b"m", None))


class FakeCluster:
    """A cluster that has closed windows, and keeps those from `oldest` on."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.oldest = 0
        self.window_ms = 60_000
        self.version = 1
        self.cuts: list[bytes] = []
        self.cluster_id: str | None = "id-1"
        self.down = 0
        self.asked: list[datetime | None] = []
        self.closed = 0
        self.missing: tuple[str, ...] = ()

    def capabilities(self) -> Capabilities:
        return Capabilities(ordered=True, load=True)

    def snapshot(self) -> RouteSnapshot:
        routes = seed_routes(self.cuts)
        return RouteSnapshot(self.version, routes, T0, cluster_id=self.cluster_id)

    def load(self, cluster: str, since: datetime | None) -> LoadAnswer:
        if self.down:
            self.down -= 1
            raise Unavailable("no connection", code="node_unreachable")
        self.asked.append(since)
        kept = [n for n in self.numbers if n >= self.oldest]
        told = [n for n in kept if since is None or T0 + n * MINUTE >= since]
        rows = [self.row(cluster, n, bucket) for n in told for bucket in BUCKETS]
        return LoadAnswer(
            windows=pa.Table.from_pylist(rows, schema=LOAD_WINDOW),
            window_ms=self.window_ms,
            oldest=T0 + min(kept) * MINUTE if kept else None,
            notes={"load": "counted"},
            missing=self.missing,
        )

    def row(self, cluster: str, number: int, bucket: tuple[bytes, bytes | None]):
        return {
            "cluster": cluster,
            "window_start": T0 + number * MINUTE,
            "window_end": T0 + (number + 1) * MINUTE,
            "route_id": 1,
            "group": 1,
            "bucket_start": bucket[0],
            "bucket_end": bucket[1],
            "reads": number + 1,
            "writes": 1,
            "coverage": 1.0,
        }

    def close(self) -> None:
        self.closed += 1


class RoutesOnly:
    """A cluster that tells of its routes and of nothing else."""

    def capabilities(self) -> Capabilities:
        return Capabilities(ordered=True)

    def snapshot(self) -> RouteSnapshot:
        return RouteSnapshot(1, seed_routes([]), T0)

    def close(self) -> None:
        pass


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster()
    monkeypatch.setattr(module, "open_routes", lambda _url: made)
    return made


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "catalog")


def run(url: str, **options) -> module.LiveCollected:
    return collect_live(URL, url, LiveOptions(**options))


def starts(url: str, name: str = "local") -> list[int]:
    column = open_catalog(url).read(f"{name}/load_window").column("window_start").to_pylist()
    return [(start - T0) // MINUTE for start in column]


def versions(url: str, name: str = "local") -> list[int]:
    return open_catalog(url).read(f"{name}/route").column("catalog_version").to_pylist()


def test_first_round_takes_all_that_is_kept_in_one_record(cluster, url):
    cluster.numbers = [0, 1]
    answer = run(url)
    assert (answer.cluster, answer.new_windows, answer.new_rows) == ("local", 2, 4)
    assert (answer.accesses, answer.routes, answer.catalog_version) == (10, 1, 1)
    assert (answer.since, answer.until) == (T0, T0 + 2 * MINUTE)
    assert answer.written
    assert [(d.name, d.rows, d.windows) for d in answer.datasets] == [
        ("local/load_window", 4, 2),
        ("local/route", 1, None),
    ]
    catalog = open_catalog(url)
    assert catalog.seq == 1
    properties = catalog.get("local/load_window").properties
    assert properties["source"] == URL
    assert properties["cluster_id"] == "id-1"
    assert properties["window_ms"] == "60000"
    assert properties["note.load"] == "counted"
    assert (answer.warnings, cluster.closed) == ((), 1)


def test_a_part_that_does_not_answer_is_told_and_kept_with_the_data(cluster, url):
    cluster.numbers, cluster.missing = [0, 1], ("node 2", "node 3")
    answer = run(url)
    assert (answer.new_windows, answer.missing) == (2, ("node 2", "node 3"))
    [warning] = answer.warnings
    assert warning.startswith("node 2, node 3 did not answer: what it alone measured from ")
    assert open_catalog(url).get("local/load_window").properties["warnings"] == warning
    assert run(url).warnings == ("node 2, node 3 did not answer",)
    cluster.missing = ()
    assert run(url).warnings == ()


def test_where_all_are_asked_for_a_part_that_is_missing_writes_nothing(cluster, url):
    cluster.numbers, cluster.missing = [0], ("node 2",)
    with pytest.raises(Unavailable) as refused:
        run(url, require_all=True)
    assert refused.value.code == "load_incomplete"
    assert open_catalog(url).seq == 0
    cluster.missing = ()
    assert run(url, require_all=True).new_windows == 1


def test_later_rounds_add_only_what_is_new(cluster, url):
    cluster.numbers = [0, 1]
    run(url)
    cluster.numbers = [0, 1, 2]
    answer = run(url)
    assert cluster.asked == [None, T0 + 2 * MINUTE]
    assert (answer.new_windows, answer.new_routes) == (1, False)
    assert starts(url) == [0, 0, 1, 1, 2, 2]
    assert (answer.since, answer.until) == (T0, T0 + 3 * MINUTE)
    assert answer.datasets[0].windows == 3
    assert open_cluster(open_catalog(url), None).extent.until == T0 + 3 * MINUTE


def test_source_that_tells_old_windows_again_stores_none_twice(cluster, url, monkeypatch):
    cluster.numbers = [0, 1]
    run(url)
    load = cluster.load
    monkeypatch.setattr(cluster, "load", lambda name, _since: load(name, None))
    cluster.numbers = [0, 1, 2]
    run(url)
    assert starts(url) == [0, 0, 1, 1, 2, 2]


def test_round_without_news_writes_nothing(cluster, url):
    cluster.numbers = [0]
    run(url)
    answer = run(url)
    assert not answer.written
    assert open_catalog(url).seq == 1


def test_new_version_of_the_routes_is_added_to_the_old_ones(cluster, url):
    cluster.numbers = [0]
    run(url)
    cluster.version, cluster.cuts = 4, [b"m"]
    answer = run(url)
    assert (answer.new_routes, answer.new_windows) == (True, 0)
    assert versions(url) == [1, 4, 4]
    assert table_to_routes(open_catalog(url).read("local/route")).catalog_version == 4
    run(url)
    assert versions(url) == [1, 4, 4]


def test_every_version_that_came_between_two_rounds_is_recorded(cluster, url):
    run(url)
    seen = []

    def told(after):
        seen.append(after)
        return [
            RouteSnapshot(number, seed_routes([bytes([number])]), taken_at=T0)
            for number in range(after + 1, cluster.version + 1)
        ]

    cluster.versions = told
    cluster.version = 4
    answer = run(url)
    assert seen == [1]
    assert not [each for each in answer.warnings if "versions" in each]
    assert sorted(set(versions(url))) == [1, 2, 3, 4]
    cluster.version = 9
    cluster.versions = lambda after: [cluster.snapshot()]  # what is older is not kept any more
    [warning] = [each for each in run(url).warnings if "versions" in each]
    assert warning.startswith("4 catalog versions between 4 and 9 were not recorded")


def test_routes_are_kept_before_the_first_window_is_closed(cluster, url):
    answer = run(url)
    assert [d.name for d in answer.datasets] == ["local/route"]
    assert (answer.since, answer.until, answer.accesses) == (None, None, 0)
    cluster.numbers = [0]
    assert run(url).new_windows == 1


def test_routes_older_than_those_collected_are_told_and_not_stored(cluster, url):
    cluster.version = 5
    run(url)
    cluster.version = 3
    answer = run(url)
    assert "was the cluster restored" in answer.warnings[0]
    assert versions(url) == [5]


def test_gap_is_told_once_and_kept_with_the_data(cluster, url):
    cluster.numbers = [0, 1]
    run(url)
    cluster.numbers, cluster.oldest = [0, 1, 2, 3, 4, 5, 6], 5
    [warning] = run(url).warnings
    assert f"from {rfc3339(T0 + 2 * MINUTE)} to {rfc3339(T0 + 5 * MINUTE)}" in warning
    assert starts(url) == [0, 0, 1, 1, 5, 5, 6, 6]
    cluster.numbers.append(7)
    assert run(url).warnings == ()
    assert open_cluster(open_catalog(url), None).warnings == (warning,)


def test_gap_between_windows_of_one_round_is_told(cluster, url):
    cluster.numbers = [0, 3]
    [warning] = run(url).warnings
    assert f"from {rfc3339(T0 + MINUTE)} to {rfc3339(T0 + 3 * MINUTE)}" in warning


def test_two_collectors_at_once_store_no_window_twice(cluster, url, monkeypatch):
    cluster.numbers = [0]
    run(url)
    cluster.numbers = [0, 1]
    load, others = cluster.load, [1]

    def late(*arguments):
        told = load(*arguments)
        if others:  # between this answer and its commit, another collector comes first
            others.pop()
            assert run(url).new_windows == 1
            cluster.numbers = [0, 1, 2]
        return told

    monkeypatch.setattr(cluster, "load", late)
    answer = run(url)
    assert starts(url) == [0, 0, 1, 1, 2, 2]
    assert (answer.new_windows, answer.datasets[0].rows) == (1, 6)


def test_collector_that_always_loses_says_so(cluster, url, monkeypatch):
    cluster.numbers = [0]
    run(url)

    def lost(*_):
        raise Conflict("first", code="dataset_changed")

    monkeypatch.setattr(module, "_store", lost)
    with pytest.raises(Unavailable) as caught:
        run(url)
    assert caught.value.code == "catalog_busy"


def test_name_that_holds_a_trace_is_refused_also_with_replace(cluster, url, tmp_path):
    path = tmp_path / "local.parquet"
    path.write_bytes(accesses_bytes(generate("hot-range", accesses=2_000, seed=3)))
    collect(f"trace:{path}", url, CollectOptions())
    for replacing in (False, True):
        with pytest.raises(Conflict) as caught:
            run(url, replace=replacing)
        assert caught.value.code == "cluster_exists"
    assert run(url, cluster="other").cluster == "other"


@pytest.mark.parametrize(
    ("change", "code"),
    [({"cluster_id": "id-2"}, "cluster_id_mismatch"), ({"window_ms": 1_000}, "window_ms_mismatch")],
)
def test_another_cluster_under_the_name_is_refused_and_may_replace(cluster, url, change, code):
    cluster.numbers = [0, 1]
    run(url)
    for name, value in change.items():
        setattr(cluster, name, value)
    cluster.numbers, cluster.version = [3], 1
    with pytest.raises(Conflict) as caught:
        run(url)
    assert caught.value.code == code
    assert starts(url) == [0, 0, 1, 1]
    answer = run(url, replace=True)
    assert starts(url) == [3, 3]
    assert (answer.since, answer.datasets[0].windows) == (T0 + 3 * MINUTE, 1)
    assert open_catalog(url).get("local/load_window").properties["window_ms"] == str(
        cluster.window_ms
    )


def test_nothing_replaces_before_there_is_a_window(cluster, url):
    cluster.numbers = [0]
    run(url)
    cluster.numbers = []
    with pytest.raises(Unavailable):
        run(url, replace=True)
    assert starts(url) == [0, 0]


def test_member_that_does_not_answer_leaves_the_catalog_as_it_was(cluster, url):
    cluster.numbers = [0]
    run(url)
    cluster.down, cluster.version = 1, 2
    with pytest.raises(Unavailable):
        run(url)
    assert open_catalog(url).seq == 1
    assert cluster.closed == 2


def test_load_that_does_not_fit_its_schema_is_refused(cluster, url, monkeypatch):
    broken = LoadAnswer(pa.table({"reads": [1]}), 60_000, None)
    monkeypatch.setattr(cluster, "load", lambda *_: broken)
    with pytest.raises(InvalidInput):
        run(url)
    assert open_catalog(url).seq == 0


def told_keys(cluster, monkeypatch):
    """Have the cluster tell one heavy key and one sample per window, and return its load."""
    load = cluster.load

    def with_keys(name, since):
        answer = load(name, since)
        moments = sorted(set(answer.windows.column("window_start").to_pylist()))
        rows = [
            {"window_start": m, "window_end": m + MINUTE, "route_id": 1, "key": b"hot",
             "count": 7, "error": 0, "sample_rate": 1.0, "op": "read", "weight": 1.0}
            for m in moments
        ]  # fmt: skip
        return replace(
            answer,
            hot_keys=pa.Table.from_pylist(rows, HOT_KEY),
            key_samples=pa.Table.from_pylist(rows, KEY_SAMPLE),
        )

    monkeypatch.setattr(cluster, "load", with_keys)
    return load


def test_heavy_keys_and_samples_are_stored_with_their_windows_once(cluster, url, monkeypatch):
    told_keys(cluster, monkeypatch)
    cluster.numbers = [0, 1]
    names = [(d.name, d.rows, d.windows) for d in run(url).datasets]
    assert names == [
        ("local/load_window", 4, 2),
        ("local/hot_key", 2, None),
        ("local/key_sample", 2, None),
        ("local/route", 1, None),
    ]
    assert open_catalog(url).seq == 1
    cluster.numbers = [0, 1, 2]
    run(url)
    catalog = open_catalog(url)
    for kind in ("hot_key", "key_sample"):
        moments = catalog.read(f"local/{kind}").column("window_start").to_pylist()
        assert sorted(moments) == [T0 + n * MINUTE for n in range(3)]
        assert catalog.get(f"local/{kind}").properties["time_column"] == "window_start"


def test_keys_of_the_cluster_that_was_replaced_do_not_stay(cluster, url, monkeypatch):
    load = told_keys(cluster, monkeypatch)
    cluster.numbers = [0]
    run(url)
    cluster.cluster_id = "id-2"
    monkeypatch.setattr(cluster, "load", load)
    run(url, replace=True)
    catalog = open_catalog(url)
    assert [catalog.read(f"local/{kind}").num_rows for kind in module.KEY_KINDS] == [0, 0]


def test_heavy_keys_that_cannot_be_are_refused_and_nothing_is_written(cluster, url, monkeypatch):
    told_keys(cluster, monkeypatch)
    good = cluster.load
    monkeypatch.setattr(
        cluster, "load", lambda *a: replace(good(*a), hot_keys=pa.table({"key": [b"a"]}))
    )
    cluster.numbers = [0]
    with pytest.raises(InvalidInput):
        run(url)
    assert open_catalog(url).seq == 0


def test_source_without_load_gives_its_routes_and_a_warning(url, monkeypatch):
    monkeypatch.setattr(module, "open_routes", lambda _url: RoutesOnly())
    answer = run(url)
    assert [d.name for d in answer.datasets] == ["local/route"]
    assert "tells of no load" in answer.warnings[0]
    assert answer.window_ms is None


def test_route_file_is_collected_through_its_real_connector(url, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(
        '{"catalog_version": 3, "routes": [{"route_id": 1, "start": "", "end": null, "group": 1}]}'
    )
    answer = collect_live(f"file:{path}", url, LiveOptions())
    assert (answer.cluster, answer.catalog_version) == ("mine", 3)


def test_counter_that_was_not_measured_is_no_number_of_accesses(cluster, url, monkeypatch):
    row = cluster.row
    monkeypatch.setattr(cluster, "row", lambda *a: {**row(*a), "reads": None})
    cluster.numbers = [0]
    assert run(url).accesses is None


def test_properties_that_cannot_be_read_are_told(cluster, url):
    cluster.numbers = [0]
    run(url)
    catalog = open_catalog(url)
    manifest = catalog.get("local/load_window")
    from workbench.catalog.catalog import Registration

    catalog.register(
        [
            Registration(
                manifest.name,
                manifest.schema_fingerprint,
                manifest.objects,
                manifest.row_count,
                {**manifest.properties, "windows": "many"},
            )
        ]
    )
    with pytest.raises(Corruption):
        run(url)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("node://127.0.0.1:7001", "local"),
        ("node://localhost:7001,10.0.0.2:7001", "local"),
        ("node://[::1]:7001", "local"),
        ("node://db-1.example:7001", "db-1-example"),
        ("node://10.0.0.5:7001,10.0.0.6:7001", "10-0-0-5"),
        ("node://[fe80::2]:7001", "fe80-2"),
        ("pd+http://user@pd.example:2379/path", "pd-example"),
        ("file:some/routes.json", "routes"),
        ("node://:7001", "node"),
    ],
)
def test_cluster_name_comes_from_the_host(source, name):
    assert cluster_of_url(source) == name


def test_name_that_cannot_be_is_refused_before_anything_is_opened(url):
    with pytest.raises(InvalidArgument):
        run(url, cluster="a/b")


# --- again and again


class Watch:
    """A clock that only waiting moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 0.0
        self.waits: list[float] = []
        monkeypatch.setattr(module, "monotonic", lambda: self.time)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def rounds(url: str, watch: Watch, options: LiveOptions | None = None, **when):
    return list(
        follow(URL, url, options or LiveOptions(), Rounds(**{"every_s": 60, **when}), watch.wait)
    )


def test_rounds_end_by_their_number(cluster, url, watch):
    assert len(rounds(url, watch, rounds_max=3)) == 3
    assert watch.waits == [60, 60]


def test_rounds_end_by_time(cluster, url, watch):
    assert len(rounds(url, watch, duration_s=150)) == 3


def test_round_that_takes_long_skips_those_that_it_overran(cluster, url, watch, monkeypatch):
    load, slow = cluster.load, [130.0]

    def late(*arguments):
        watch.time += slow.pop() if slow else 0
        return load(*arguments)

    monkeypatch.setattr(cluster, "load", late)
    rounds(url, watch, rounds_max=3)
    assert watch.waits == [50, 60]


def test_cluster_that_does_not_answer_is_tried_again(cluster, url, watch):
    cluster.numbers, cluster.down = [0], 2
    first, second, third = rounds(url, watch, rounds_max=3)
    assert isinstance(first, Unavailable)
    assert isinstance(second, Unavailable)
    assert third.new_windows == 1


def test_other_errors_end_the_rounds(cluster, url, watch):
    run(url)
    cluster.cluster_id = "id-2"
    with pytest.raises(Conflict):
        rounds(url, watch, rounds_max=3)


def test_only_the_first_round_replaces(cluster, url, watch):
    cluster.numbers = [0]
    run(url)
    cluster.cluster_id = "id-2"
    answers = rounds(url, watch, LiveOptions(replace=True), rounds_max=2)
    assert [answer.new_windows for answer in answers] == [1, 0]
    assert starts(url) == [0, 0]


class CountingCluster(FakeCluster):
    """A cluster that tells totals since its start, and nothing by window."""

    def __init__(self, totals: list[int]) -> None:
        super().__init__()
        self.totals = totals

    def counters(self, since: datetime | None) -> CounterSamples:
        self.asked.append(since)
        rows = [
            {
                "at": T0 + number * MINUTE,
                "route_id": 1,
                "group": 1,
                "bucket_start": b"",
                "bucket_end": None,
                "reads": total,
                "writes": 0,
                **dict.fromkeys(("read_bytes", "write_bytes", "cpu_ns")),
            }
            for number, total in enumerate(self.totals)
            if since is None or T0 + number * MINUTE >= since
        ]
        return CounterSamples(pa.Table.from_pylist(rows, schema=COUNTER), self.window_ms)


def test_totals_since_a_start_are_collected_as_windows_round_by_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = CountingCluster([0, 5, 12])
    monkeypatch.setattr(module, "open_routes", lambda _: cluster)
    url = str(tmp_path / "catalog")
    first = collect_live(URL, url, LiveOptions(cluster="c"))
    assert (first.new_windows, first.accesses) == (2, 12)
    cluster.totals += [20, 3]
    second = collect_live(URL, url, LiveOptions(cluster="c"))
    assert cluster.asked[-1] == T0 + 2 * MINUTE
    assert (second.new_windows, second.accesses) == (2, 8 + 3)
    assert second.assumptions["note.resets"].startswith("1,")
