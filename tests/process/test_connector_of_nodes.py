"""The node connector against real nodes: load, splits, and what goes wrong in between."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from process.node_process import CLUSTER_ID, client_of, cluster, until
from workbench_connectors.node import connect

from workbench.errors import Conflict, InvalidInput, NotFound, OutcomeUnknown, Unavailable
from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES
from workbench.model.routes import RouteDescriptor, seed_routes
from workbench.planner.detect import Rule
from workbench.ports.connector import SplitCall
from workbench.session.cluster import open_cluster
from workbench.session.collect_live import LiveOptions, collect_live
from workbench.session.look import hot
from workbench.session.wiring import open_catalog, open_routes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from process.node_process import NodeProcess
    from workbench_connectors.node import NodeConnector

WINDOW_MS = 200
TWO_ROUTES = (
    RouteDescriptor(1, Span(b"", b"m"), 1),
    RouteDescriptor(2, Span(b"m", None), 2),
)


def url_of(*nodes: NodeProcess) -> str:
    return "node://" + ",".join(node.address for node in nodes)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[NodeProcess]]:
    with cluster(tmp_path, [[1], [2]], TWO_ROUTES, window_ms=WINDOW_MS) as running:
        yield running


@pytest.fixture
def connector(nodes: list[NodeProcess]) -> Iterator[NodeConnector]:
    opened = connect(url_of(*nodes), allow_write=True)
    yield opened
    opened.close()


def write(nodes: list[NodeProcess], count: int) -> None:
    """Write `count` keys below m and as many above it."""
    with client_of(*nodes) as client:
        for group, prefix in ((1, b"a"), (2, b"z")):
            rows = [(b"%s%04d" % (prefix, n), b"v" * 10) for n in range(count)]
            client.batch_write(group, rows, client_id=b"c" * 16, sequence=1)


def totals(table) -> tuple[int, int]:
    return sum(table.column("reads").to_pylist()), sum(table.column("writes").to_pylist())


def test_every_access_is_in_the_load_that_the_connector_reads(nodes, connector):
    write(nodes, 300)
    with client_of(*nodes) as client:
        client.multi_get(1, [b"a0001", b"a0002"])
    until(
        lambda: totals(connector.load("c", None).windows) == (2, 600), "windows with all accesses"
    )
    answer = connector.load("c", None)
    assert answer.window_ms == WINDOW_MS
    assert answer.oldest is not None
    for start in set(answer.windows.column("window_start").to_pylist()):
        rows = [row for row in answer.windows.to_pylist() if row["window_start"] == start]
        assert {row["route_id"] for row in rows} <= {1, 2}
        for route in (1, 2):
            mine = [row for row in rows if row["route_id"] == route]
            assert all(a["bucket_end"] == b["bucket_start"] for a, b in pairwise(mine))
    loaded = [row for row in answer.windows.to_pylist() if row["writes"]]
    assert len(loaded) >= 16, "buckets were chosen from the keys"
    assert sum(row["write_bytes"] for row in loaded) == 600 * 15
    since = max(answer.windows.column("window_start").to_pylist())
    later = connector.load("c", since).windows.column("window_start").to_pylist()
    assert min(later) == since


def test_split_takes_effect_once_and_is_found(nodes, connector):
    before = connector.snapshot()
    assert before.cluster_id == CLUSTER_ID
    route = before.routes[0]
    call = connector.prepare(SplitCall(route, b"c", before.catalog_version), "plan-1:a1")
    made = connector.apply(call)
    assert (made.left.span, made.right.span) == (Span(b"", b"c"), Span(b"c", b"m"))
    assert not made.repeated
    again = connector.apply(call)
    assert again.repeated
    assert (again.left, again.right) == (made.left, made.right)
    found = connector.find(route.span, b"c")
    assert found is not None
    assert (found.left, found.right, found.repeated) == (made.left, made.right, True)
    assert connector.snapshot().catalog_version == before.catalog_version + 1


def test_split_that_was_made_under_another_request_id_is_found_after_the_conflict(connector):
    before = connector.snapshot()
    split = SplitCall(before.routes[0], b"c", before.catalog_version)
    made = connector.apply(connector.prepare(split, "one"))
    assert connector.apply(connector.prepare(split, "two")) == connector.find(
        split.route.span, b"c"
    )
    assert connector.snapshot().catalog_version == made.catalog_version


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"expected_version": 99}, Conflict, "catalog_version_mismatch"),
        ({"split_key": b"m"}, InvalidInput, "split_key_at_bound"),
        ({"split_key": b"x"}, InvalidInput, "split_key_outside"),
        ({"route": RouteDescriptor(77, Span(b"", b"m"), 1)}, NotFound, "route_absent"),
    ],
)
def test_split_that_cannot_be_changes_nothing(connector, change, error, code):
    before = connector.snapshot()
    fields = {"route": before.routes[0], "split_key": b"c"} | change
    fields.setdefault("expected_version", before.catalog_version)
    with pytest.raises(error) as caught:
        connector.apply(connector.prepare(SplitCall(**fields), "bad"))
    assert caught.value.code == code
    assert connector.snapshot().routes == before.routes


def test_member_that_is_gone_is_named_and_what_the_others_measured_is_collected(
    nodes, connector, tmp_path
):
    catalog, url = str(tmp_path / "catalog"), url_of(*nodes)
    write(nodes, 50)
    nodes[1].kill()
    until(lambda: totals(connector.load("c", None).windows) == (0, 50), "what node 1 measured")
    answer = connector.load("c", None)
    assert answer.missing == ("node 2",)
    assert set(answer.windows.column("route_id").to_pylist()) == {1}, "nothing is made up"
    with pytest.raises(Unavailable) as strict:
        collect_live(url, catalog, LiveOptions(cluster="c", require_all=True))
    assert strict.value.code == "load_incomplete"
    assert "node 2" in strict.value.message
    done = collect_live(url, catalog, LiveOptions(cluster="c"))
    assert (done.missing, done.new_windows > 0, done.routes) == (("node 2",), True, 2)
    assert any("node 2 did not answer" in warning for warning in done.warnings)
    view = open_cluster(open_catalog(catalog), "c")
    manifest = open_catalog(catalog).get("c/load_window")
    assert "node 2 did not answer" in manifest.properties["warnings"]
    since, until_ = view.window(None, None)
    said = hot(view, since=since, until=until_, objective=OBJECTIVES["score"], rule=Rule())
    verdicts = {each.route.route_id: each for each in said.verdicts}
    # Of route 1 too nothing may have come in the very last window.
    told = open_catalog(catalog).read("c/load_window").column("route_id").to_pylist()
    assert set(told) == {1}
    assert (verdicts[2].verdict, verdicts[2].load) == ("unknown", None)
    nodes[0].kill()
    with pytest.raises(Unavailable):
        collect_live(url, catalog, LiveOptions(cluster="c"))


def test_split_while_the_catalogs_node_is_gone_did_nothing_or_is_unknown(nodes, connector):
    before = connector.snapshot()
    nodes[0].kill()
    call = connector.prepare(SplitCall(before.routes[0], b"c", before.catalog_version), "x")
    with pytest.raises((Unavailable, OutcomeUnknown)):
        connector.apply(call)
    nodes[0].start()
    assert connector.apply(call).left.span == Span(b"", b"c")


def test_collected_cluster_has_every_access_and_every_version_once(nodes, tmp_path):
    catalog_url, url = str(tmp_path / "catalog"), url_of(*nodes)
    options = LiveOptions(cluster="c")
    write(nodes, 200)

    def collected() -> int:
        collect_live(url, catalog_url, options)
        try:
            return sum(totals(open_catalog(catalog_url).read("c/load_window")))
        except NotFound:
            return 0

    until(lambda: collected() == 400, "all accesses are collected")
    source = open_routes(url, allow_write=True)
    before = source.snapshot()
    source.apply(
        source.prepare(SplitCall(before.routes[0], b"a0100", before.catalog_version), "one")
    )
    source.close()
    answer = collect_live(url, catalog_url, options)
    assert answer.new_routes
    assert (answer.routes, answer.cluster_id) == (3, CLUSTER_ID)
    catalog = open_catalog(catalog_url)
    assert sorted(set(catalog.read("c/route").column("catalog_version").to_pylist())) == [1, 2]
    table = catalog.read("c/load_window")
    keys = [
        (row["window_start"], row["route_id"], row["bucket_start"]) for row in table.to_pylist()
    ]
    assert len(set(keys)) == len(keys)
    assert sum(totals(table)) == 400
    view = open_cluster(catalog, "c")
    assert view.snapshot.catalog_version == 2
    assert view.extent.window_ms == WINDOW_MS


def test_children_of_a_split_have_the_bounds_of_their_parent(nodes, connector):
    write(nodes, 300)
    until(lambda: totals(connector.load("c", None).windows)[1] == 600, "windows with all writes")
    rows = connector.load("c", None).windows.to_pylist()
    known = {row["bucket_start"] for row in rows if row["route_id"] == 1}
    assert len(known) == 16
    key = sorted(known)[8]
    before = connector.snapshot()
    made = connector.apply(
        connector.prepare(SplitCall(before.routes[0], key, before.catalog_version), "one")
    )
    ids = {made.left.route_id, made.right.route_id}

    def told() -> list[dict]:
        rows = connector.load("c", None).windows.to_pylist()
        return [row for row in rows if row["route_id"] in ids]

    until(lambda: {row["route_id"] for row in told()} == ids, "windows of the children")
    assert {row["bucket_start"] for row in told()} == known


def test_one_node_is_a_cluster_too_and_its_first_window_is_covered_in_part(tmp_path):
    with cluster(tmp_path, [[1]], seed_routes([]), window_ms=WINDOW_MS) as [node]:
        connector = connect(url_of(node))
        until(lambda: connector.load("c", None).windows.num_rows >= 2, "two windows")
        first, *later = connector.load("c", None).windows.column("coverage").to_pylist()
        assert 0 < first <= 1
        assert set(later) == {1.0}
        connector.close()
