"""Claims about load that is odd or wrong: what is refused, where, and what is merely told."""

from __future__ import annotations

import io
import random
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.catalog.catalog import Write
from workbench.errors import Conflict, InvalidInput, NotFound
from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, Limits, Objective, plan_to_json
from workbench.model.routes import RouteDescriptor, RouteSnapshot
from workbench.model.tables import HOT_KEY, LOAD_WINDOW, routes_to_table
from workbench.planner.detect import Rule, Verdict
from workbench.planner.verifier import verify
from workbench.query.load import LoadReader
from workbench.session import load_content
from workbench.session.approval import approve, user
from workbench.session.cluster import ClusterView, open_cluster
from workbench.session.look import hot
from workbench.session.planning import false_claims
from workbench.session.planning import plan as plan_load
from workbench.session.registering import Claim, register_files
from workbench.session.wiring import open_or_create_catalog

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.catalog.catalog import Catalog
    from workbench.model.plan import Plan

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ROUTES = (RouteDescriptor(1, Span(b"", b"m"), 1), RouteDescriptor(2, Span(b"m", None), 1))
KEYS = (b"", b"d", b"h", b"m", b"t")


def row(number: int = 0, bucket: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "cluster": "c",
        "window_start": T0 + number * MINUTE,
        "window_end": T0 + (number + 1) * MINUTE,
        "route_id": 1 if bucket < 3 else 2,
        "group": 1,
        "bucket_start": KEYS[bucket],
        "bucket_end": None if bucket == len(KEYS) - 1 else KEYS[bucket + 1],
        "reads": 10 + bucket,
        "writes": 1,
        "read_bytes": None,
        "write_bytes": None,
        "cpu_ns": None,
        "coverage": 1.0,
        "error_bound": None,
        **changes,
    }


def rows(windows: int = 4, **changes: Any) -> list[dict[str, Any]]:
    return [row(n, bucket, **changes) for n in range(windows) for bucket in range(len(KEYS))]


def view_of(of: list[dict[str, Any]]) -> ClusterView:
    load = LoadReader("c", {"load_window": pa.Table.from_pylist(of, LOAD_WINDOW)})
    return ClusterView("c", RouteSnapshot(1, ROUTES, T0), load, load.extent(), {})


def planned(view: ClusterView, **changes: Any) -> Plan:
    asked: dict[str, Any] = {
        "since": view.extent.since,
        "until": view.extent.until,
        "objective": OBJECTIVES["score"],
        "limits": Limits(3, 0.0),
        "rule": Rule(),
        **changes,
    }
    plan = plan_load(view, **asked)
    assert false_claims(view, plan) == []
    return plan


def verdicts(view: ClusterView) -> set[str]:
    answer = hot(
        view,
        since=view.extent.since,
        until=view.extent.until,
        objective=OBJECTIVES["score"],
        rule=Rule(10.0),
    )
    return {each.verdict.value for each in answer.verdicts}


def test_one_window_is_enough_for_a_plan_and_too_few_for_hot() -> None:
    view = view_of(rows(1))
    assert planned(view, backtest=True).backtest is None
    assert verdicts(view) == {Verdict.WARMING.value}


def test_load_that_is_all_zero_is_cold_and_no_plan() -> None:
    view = view_of(rows(reads=0, writes=0))
    assert verdicts(view) == {Verdict.COLD.value}
    with pytest.raises(NotFound) as caught:
        planned(view)
    assert caught.value.code == "load_absent"


def test_load_that_is_all_null_is_unknown_and_no_plan() -> None:
    view = view_of(rows(reads=None, writes=None))
    assert verdicts(view) == {Verdict.UNKNOWN.value}
    with pytest.raises(InvalidInput) as caught:
        planned(view)
    assert caught.value.code == "load_not_measured"


def test_counts_that_overflow_are_refused_and_not_wrapped() -> None:
    with pytest.raises(InvalidInput) as caught:
        planned(view_of(rows(reads=2**62)))
    assert caught.value.code == "load_overflow"


def test_rows_in_any_order_are_the_same_plan() -> None:
    shuffled = rows()
    random.Random(4).shuffle(shuffled)
    assert plan_to_json(planned(view_of(shuffled))) == plan_to_json(planned(view_of(rows())))


def test_one_atom_alone_is_not_split_and_named_unsplittable() -> None:
    view = view_of([row(n, 4) for n in range(4)])
    plan = planned(view)
    assert plan.actions == ()
    assert [atom.key for atom in plan.unsplittable] == [b"t"]
    assert any("one bucket alone carries 100.0%" in each.reason for each in plan.declined)


def test_more_splits_than_atoms_make_no_more_routes_than_there_are_atoms() -> None:
    plan = planned(view_of(rows()), limits=Limits(1_000, 0.0))
    assert len(plan.routes_after) <= len(KEYS)
    assert plan.bottleneck.after == max(atom.load for atom in plan.unsplittable)


def test_weights_of_zero_leave_no_load_to_plan_on() -> None:
    with pytest.raises(NotFound) as caught:
        planned(view_of(rows()), objective=Objective("score", 0, 0, 0))
    assert caught.value.code == "load_absent"


def test_a_certificate_that_was_tampered_with_proves_nothing() -> None:
    view = view_of(rows())
    document = plan_to_json(planned(view))
    atoms = view.load.atoms(
        view.load.finest, OBJECTIVES["score"], view.extent.since, view.extent.until
    )
    keys, loads = (column.to_pylist() for column in atoms.columns)
    assert verify(document, keys, loads) == []
    document["certificate"]["incremental"]["bottleneck"] -= 1
    assert verify(document, keys, loads)


def catalog_of(folder: Path, of: list[dict[str, Any]] | None = None) -> Catalog:
    catalog = open_or_create_catalog(str(folder / "catalog"))
    routes = Write("c/route", routes_to_table(RouteSnapshot(1, ROUTES, T0)))
    load = [Write("c/load_window", pa.Table.from_pylist(of, LOAD_WINDOW))] if of else []
    catalog.commit([routes, *load])
    return catalog


def test_a_plan_of_routes_that_moved_on_is_not_approved(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, rows())
    plan = planned(open_cluster(catalog, "c"))
    moved = routes_to_table(RouteSnapshot(2, ROUTES, T0))
    catalog.commit([Write("c/route", moved)])
    with pytest.raises(Conflict):
        approve(catalog, plan, [], approver=user("ann"))


def registered(folder: Path, table: pa.Table, name: str = "c/load_window") -> Any:
    catalog = catalog_of(folder)
    pq.write_table(table, folder / "from.parquet")
    return register_files(catalog, Claim(name), [folder / "from.parquet"])


def test_load_that_makes_sense_can_be_registered_and_planned_on(tmp_path: Path) -> None:
    registered(tmp_path, pa.Table.from_pylist(rows(), LOAD_WINDOW))
    view = open_cluster(open_or_create_catalog(str(tmp_path / "catalog")), "c")
    assert planned(view).actions


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        (row(9, reads=-1), "counter_negative", "reads"),
        (row(9, bucket_start=b"d", bucket_end=b"c"), "load_bucket_reversed", "row 21"),
        (row(3, 1), "load_buckets_overlap", "route 1"),
        (row(9, bucket_start=b"c", bucket_end=b"z"), "load_bucket_outside_route", "route 1"),
        (row(9, window_end=T0), "load_window_reversed", "row 21"),
        (row(2, 2, window_end=T0 + 4 * MINUTE), "load_windows_overlap", "windows that overlap"),
        (row(9, coverage=2.0), "load_coverage_invalid", "row 21"),
        (row(9, error_bound=-1.0), "load_error_bound_invalid", "row 21"),
    ],
)
def test_registered_load_that_makes_no_sense_is_refused_with_dataset_and_row(
    wrong: dict[str, Any], code: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput) as caught:
        registered(tmp_path, pa.Table.from_pylist([*rows(), wrong], LOAD_WINDOW))
    assert caught.value.code == code
    assert said in caught.value.message
    assert "'c/load_window'" in caught.value.message
    names = [m.name for m in open_or_create_catalog(str(tmp_path / "catalog")).list()]
    assert names == ["c/route"]


def test_buckets_that_overlap_between_two_files_are_refused(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path)
    for name in ("a", "b"):
        pq.write_table(pa.Table.from_pylist(rows(), LOAD_WINDOW), tmp_path / f"{name}.parquet")
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    with pytest.raises(InvalidInput) as caught:
        register_files(catalog, Claim("c/load_window"), paths)
    assert caught.value.code == "load_buckets_overlap"


def test_registered_hot_keys_are_checked_too(tmp_path: Path) -> None:
    told = {
        "cluster": "c",
        "window_start": T0,
        "window_end": T0 + MINUTE,
        "route_id": 1,
        "key": b"k",
        "count": 3,
        "error": 0,
        "sample_rate": 2.0,
    }
    table = pa.Table.from_pylist([{n: told.get(n) for n in HOT_KEY.names}], HOT_KEY)
    with pytest.raises(InvalidInput) as caught:
        registered(tmp_path, table, "c/hot_key")
    assert caught.value.code == "sample_rate_invalid"


@pytest.mark.parametrize(
    ("table", "code"),
    [
        (pa.table({"window_start": [1]}), "columns_missing"),
        (
            pa.Table.from_pylist(rows(1), LOAD_WINDOW).set_column(
                7, "reads", pa.array(["many"] * len(KEYS))
            ),
            "schema_mismatch",
        ),
    ],
)
def test_parquet_of_another_schema_is_refused_as_load(
    table: pa.Table, code: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput) as caught:
        registered(tmp_path, table)
    assert caught.value.code == code


def varint(number: int) -> bytes:
    """A whole number of Thrift's compact protocol: zigzag, seven bits a byte."""
    number, out = number << 1, bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def claiming(table: pa.Table, claimed: int) -> bytes:
    """A Parquet file of the table whose footer claims so many rows, in the file and its group."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    data = sink.getvalue()
    length = int.from_bytes(data[-8:-4], "little")
    body, footer = data[: -8 - length], data[-8 - length : -8]
    # Field 3 of FileMetaData, and of RowGroup: the type i64 one field on, and the number of rows.
    told, forged = b"\x16" + varint(table.num_rows), b"\x16" + varint(claimed)
    at = -1
    while (at := footer.find(told, at + 1)) >= 0:
        tried = footer[:at] + forged + footer[at + len(told) :]
        made = body + tried + len(tried).to_bytes(4, "little") + b"PAR1"
        try:
            metadata = pq.read_metadata(io.BytesIO(made))
        except (OSError, pa.ArrowException):
            continue
        if claimed in {metadata.num_rows, metadata.row_group(0).num_rows}:
            footer, at = tried, at + len(forged) - 1
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def test_a_footer_that_claims_a_billion_rows_is_refused_before_anything_is_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "billion.parquet"
    path.write_bytes(claiming(pa.Table.from_pylist(rows(), LOAD_WINDOW), 10**9))
    metadata = pq.read_metadata(path)
    assert (metadata.num_rows, metadata.row_group(0).num_rows) == (10**9, 10**9)
    assert path.stat().st_size < 100_000
    pool, catalog = pa.default_memory_pool(), catalog_of(tmp_path)
    before = pool.bytes_allocated()
    tracemalloc.start()
    with pytest.raises(InvalidInput) as caught:
        register_files(catalog, Claim("c/load_window"), [path])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "load_rows_too_many"
    assert "1,000,000,000 rows" in caught.value.message
    # A billion rows of one byte each would be 1,000 MB.
    assert peak < 20_000_000
    assert pool.bytes_allocated() - before < 20_000_000
    assert not catalog.list("c/load_window")


def test_a_file_that_claims_too_many_rows_is_not_opened() -> None:
    def opened() -> pa.NativeFile:
        raise AssertionError("it was opened")

    file = load_content.LoadFile("x.parquet", 10**9, opened)
    with pytest.raises(InvalidInput) as caught:
        load_content.check_content(None, "c/load_window", [file])
    assert caught.value.code == "load_rows_too_many"
    # What is no load table is not read at all.
    load_content.check_content(None, "sales", [replace(file, rows=3)])
