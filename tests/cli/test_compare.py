"""`workbench compare`: figures on load that no policy saw, or a refusal."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.errors import InvalidInput
from workbench.model.plan import OBJECTIVES
from workbench.model.times import parse_time
from workbench.planner.plan import Atoms
from workbench.planner.policies import POLICIES, policies_named
from workbench.query.load import LoadReader, Source
from workbench.session.cluster import ClusterView, open_cluster
from workbench.session.comparing import compare
from workbench.session.wiring import open_catalog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def compared(workbench: Callable[..., Any], *extra: str) -> dict[str, Any]:
    assert workbench("collect", "trace:hot.parquet", "--routes", "4").status == 0
    document: dict[str, Any] = workbench("compare", "--until", "50%", "--json", *extra).json
    return document


@pytest.mark.usefixtures("trace")
def test_compare_answers_for_every_policy_and_number_of_routes(
    workbench: Callable[..., Any],
) -> None:
    answer = compared(workbench)
    rows = answer["policies"]
    assert [(r["routes"], r["name"]) for r in rows] == [
        (routes, name) for routes in (6, 12, 20) for name in POLICIES
    ]
    assert answer["window"]["to"] == answer["heldout_window"]["from"]
    for row in rows:
        assert row["routes_made"] <= row["routes"]
        over = row["max_load"] / row["optimum"] - 1
        assert row["over_optimum"] == pytest.approx(over)
        mean = answer["heldout_load"] / row["routes"]
        assert row["heldout_max_over_mean"] == pytest.approx(row["heldout_max_load"] / mean)
        if row["name"] == "exact":
            assert row["over_optimum"] == 0
        if row["name"] == "none":
            assert row["max_load"] == answer["total_load"]
            assert row["heldout_max_over_mean"] == row["routes"]


def test_held_out_figures_equal_a_count_of_the_trace(
    workbench: Callable[..., Any], trace: Path
) -> None:
    answer = compared(workbench, "--policies", "exact", "--routes", "5", "--objective", "reads")
    table = pq.read_table(trace)
    split = parse_time(answer["window"]["to"])
    reads = [row for row in table.to_pylist() if row["op"] == "read"]
    later = [row["key"] for row in reads if row["time"] >= split]
    earlier: dict[bytes, int] = {}
    for row in reads:
        if row["time"] < split:
            earlier[row["key"]] = earlier.get(row["key"], 0) + 1
    # A key with writes only is an atom of load 0, and even it may be cut at.
    keys = sorted({row["key"] for row in table.to_pylist() if row["time"] < split})
    assert answer["total_load"] == sum(earlier.values())
    assert answer["heldout_load"] == len(later)
    atoms = Atoms(keys, [earlier.get(key, 0) for key in keys], "key")
    bounds = [b"", *(keys[at] for at in POLICIES["exact"].cut(atoms, 5, 1)), b"\xff" * 9]
    counts = [sum(low <= key < high for key in later) for low, high in pairwise(bounds)]
    assert answer["policies"][0]["heldout_max_load"] == max(counts)


@pytest.mark.usefixtures("trace")
def test_compare_is_the_same_for_the_same_seed_and_writes_nothing(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    sampling = ("--policies", "cockroachdb, tikv", "--routes", "12")
    first = compared(workbench, *sampling)
    files = sorted(tmp_path.rglob("*"))
    again = workbench("compare", "--until", "50%", "--json", *sampling).json
    other = workbench("compare", "--until", "50%", "--json", "--seed", "7", *sampling).json
    assert again == first
    assert other["policies"] != first["policies"]
    assert sorted(tmp_path.rglob("*")) == files


@pytest.mark.usefixtures("trace")
def test_the_table_marks_the_best_of_each_column_among_as_many_routes(
    workbench: Callable[..., Any],
) -> None:
    rows = compared(workbench, "--routes", "6,12")["policies"]
    lines = workbench("compare", "--until", "50%", "--routes", "6,12").out.splitlines()
    for row in rows:
        [line] = [x for x in lines if x.split()[:2] == [row["name"], str(row["routes"])]]
        peers = [peer for peer in rows if peer["routes"] == row["routes"]]
        best = [
            row[name] == min(peer[name] for peer in peers)
            for name in ("max_load", "over_optimum", "heldout_max_over_mean")
        ]
        assert line.count("*") == sum(best)
    assert any("re-implementations" in line for line in lines)


@pytest.mark.usefixtures("trace")
@pytest.mark.parametrize(
    ("arguments", "status", "code", "part"),
    [
        ([], 1, "load_absent", "--until 50%"),
        (["--until", "100%"], 1, "load_absent", "--until 50%"),
        (["--until", "50%", "--policies", "exact,nosuch"], 2, "policy_unknown", "elastickv"),
        (["--until", "50%", "--policies", ""], 2, "policy_unknown", "median"),
        (["--until", "50%", "--routes", "0"], 2, "compare_routes_invalid", "1 to 10000"),
        (["--until", "50%", "--routes", "6,"], 2, "compare_routes_invalid", "6,12,20"),
        (["--until", "50%", "--routes", "6;7"], 2, "compare_routes_invalid", "6;7"),
        (["--until", "50%", "--routes", "99999999999"], 2, "compare_routes_invalid", "9999"),
        (["--until", "50%", "--seed", "-1"], 2, "usage", "seed"),
        (["--until", "50%", "--cluster", "nosuch"], 1, "cluster_absent", "hot"),
        (["--since", "60%", "--until", "50%"], 2, "window_empty", "--since"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused(
    workbench: Callable[..., Any], arguments: list[str], status: int, code: str, part: str
) -> None:
    assert workbench("collect", "trace:hot.parquet").status == 0
    outcome = workbench("compare", *arguments)
    assert (outcome.status, outcome.out) == (status, "")
    [line] = outcome.err.splitlines()
    assert part in line
    assert workbench("compare", "--json", *arguments).error["code"] == code


@pytest.mark.usefixtures("trace")
def test_objectives_without_measured_load_are_refused(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("time,key,size\n1,a,5\n2,b,5\n9,c,\n")
    assert workbench("collect", "trace:t.csv").status == 0
    outcome = workbench("compare", "--until", "5", "--objective", "bytes", "--json")
    assert (outcome.status, outcome.error["code"]) == (1, "load_not_measured")
    none = workbench("compare", "--until", "5", "--objective", "writes", "--json")
    assert (none.status, none.error["code"]) == (1, "load_absent")


def by_buckets(view: ClusterView, change: Callable[[pa.Table], pa.Table]) -> ClusterView:
    """The view with load windows only, changed."""
    windows = view.load.data[Source.LOAD_WINDOW.value].to_table()
    reader = LoadReader(view.name, {Source.LOAD_WINDOW.value: change(windows)})
    return ClusterView(view.name, view.snapshot, reader, view.extent, view.properties)


@pytest.mark.usefixtures("trace")
def test_buckets_are_compared_where_they_stay_and_refused_where_a_cut_crosses_them(
    workbench: Callable[..., Any],
) -> None:
    assert workbench("collect", "trace:hot.parquet", "--routes", "4").status == 0
    view = open_cluster(open_catalog("./.workbench/catalog"), None)
    since, until = view.window(None, "50%")

    def run(changed: ClusterView) -> int:
        policies = policies_named(["exact"])
        answer = compare(
            changed,
            policies,
            [6],
            since=since,
            until=until,
            objective=OBJECTIVES["score"],
            seed=1,
        )
        return answer.results[0].heldout_max_load

    def coarser(windows: pa.Table) -> pa.Table:
        later = [
            {**row, "bucket_end": None} if row["window_start"] >= until else row
            for row in windows.to_pylist()
        ]
        return pa.Table.from_pylist(later, schema=windows.schema)

    assert run(by_buckets(view, lambda windows: windows)) > 0
    with pytest.raises(InvalidInput) as caught:
        run(by_buckets(view, coarser))
    assert caught.value.code == "bucket_crosses_split"
