"""Bad input: one line with the value and the way out, the documented status, nothing written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.catalog.anchor import encode_anchor
from workbench.catalog.layout import FORMAT_KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CSV = "time,key,op,size\n1,a,read,10\n2,b,write,20\n3,c,read,5\n"


def refused(
    workbench: Callable[..., Any], arguments: list[str], status: int, code: str, *parts: str
) -> None:
    """The call ends with this status and one line that names the parts; its JSON twin too."""
    outcome = workbench(*arguments)
    assert outcome.status == status, outcome.err
    assert outcome.out == ""
    [line] = outcome.err.splitlines()
    assert line.startswith("workbench: ")
    for part in parts:
        assert part in line, line
    twin = workbench(*arguments, "--json")
    assert (twin.status, twin.error["code"]) == (status, code)
    assert twin.error["hint"]


TRACES: dict[str, tuple[bytes, int, str, str]] = {
    # name: (content, status, code, what the line must name)
    "unknown format": (b"\x00\x01\x02 no trace", 1, "trace_format_unknown", "--format"),
    "empty file": (b"", 1, "trace_empty", "t.csv"),
    "header only": (b"time,key\n", 1, "trace_empty", "t.csv"),
    "missing column": (b"time,name\n1,a\n", 1, "trace_columns_missing", "--columns key="),
    "unsorted times": (b"time,key\n5,a\n4,b\n", 1, "trace_unsorted", "--sort"),
    "cut last line": (CSV[:-8].encode(), 1, "trace_truncated", "t.csv"),
    "unknown op": (b"time,key,op\n1,a,frobnicate\n", 1, "trace_op_unknown", "frobnicate"),
    "time that is none": (b"time,key\nyesterday,a\n", 1, "trace_time_invalid", "yesterday"),
}


@pytest.mark.parametrize("name", TRACES)
def test_a_bad_trace_is_refused_and_leaves_no_catalog(
    workbench: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    content, status, code, part = TRACES[name]
    (tmp_path / "t.csv").write_bytes(content)
    refused(workbench, ["collect", "trace:t.csv"], status, code, part)
    assert [each.name for each in tmp_path.iterdir()] == ["t.csv"]


def test_a_truncated_compressed_trace_is_refused(
    workbench: Callable[..., Any], tmp_path: Path, cloudphysics: Path
) -> None:
    content = cloudphysics.read_bytes()
    (tmp_path / "cut.csv.zst").write_bytes(content[: len(content) // 2])
    refused(workbench, ["collect", "trace:cut.csv.zst"], 1, "trace_truncated", "cut.csv.zst")
    assert not (tmp_path / ".workbench").exists()


def test_a_truncated_parquet_trace_is_refused(
    workbench: Callable[..., Any], tmp_path: Path, trace: Path
) -> None:
    (tmp_path / "cut.parquet").write_bytes(trace.read_bytes()[:5_000])
    refused(workbench, ["collect", "trace:cut.parquet"], 1, "trace_truncated", "cut.parquet")
    assert not (tmp_path / ".workbench").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "code", "part"),
    [
        (["collect", "t.csv"], 2, "source_unknown", "trace:FILE"),
        (["collect", "trace:absent.csv"], 1, "trace_absent", "absent.csv"),
        (["collect", "trace:."], 1, "trace_unreadable", "Is a directory"),
        (["collect", "trace:t.csv", "--window", "0s"], 2, "duration_invalid", "0s"),
        (["collect", "trace:t.csv", "--columns", "lbn"], 2, "columns_option_invalid", "key=NAME"),
        (["collect", "trace:t.csv", "--cluster", "../x"], 2, "name_invalid", "../x"),
        (["collect", "trace:t.csv", "--cluster", "a/b"], 2, "cluster_name_invalid", "a/b"),
        (["collect", "trace:t.csv", "--cluster", "plan"], 2, "cluster_name_invalid", "plan"),
        (["collect", "trace:t.csv", "--routes", "0"], 2, "routes_invalid", "at least one"),
        (["collect", "trace:t.csv", "--routes", "pd://x"], 2, "connector_unknown", "pd"),
        (["collect", "trace:t.csv", "--routes", "file:no.json"], 1, "file_absent", "no.json"),
        (["collect", "trace:t.csv", "--catalog", "s3x://b"], 2, "store_scheme_unknown", "s3x"),
        (["hot"], 1, "catalog_absent", "workbench collect"),
        (["plan", "--catalog", "nowhere"], 1, "catalog_absent", "nowhere"),
        (["frobnicate"], 2, "usage", "frobnicate"),
        (["plan", "--max-splits", "-1"], 2, "usage", "max-splits"),
        (["plan", "--out", "plan.txt"], 2, "plan_format_unknown", "plan.txt"),
        (["datasets", "make", "nosuch"], 2, "dataset_unknown", "zipf"),
        (["demo", "--report", "no/folder/r.html"], 2, "report_folder_absent", "no/folder"),
    ],
)
def test_a_wrong_call_is_refused(  # noqa: PLR0913, PLR0917
    workbench: Callable[..., Any],
    tmp_path: Path,
    arguments: list[str],
    status: int,
    code: str,
    part: str,
) -> None:
    (tmp_path / "t.csv").write_text(CSV)
    refused(workbench, arguments, status, code, part)
    assert [each.name for each in tmp_path.iterdir()] == ["t.csv"]


def collected(workbench: Callable[..., Any], tmp_path: Path) -> Path:
    """A catalog with one cluster; returns its folder."""
    (tmp_path / "t.csv").write_text(CSV)
    assert workbench("collect", "trace:t.csv").status == 0
    return tmp_path / ".workbench/catalog"


def contents(folder: Path) -> dict[str, bytes]:
    files = [each for each in folder.rglob("*") if each.is_file()]
    return {str(each.relative_to(folder)): each.read_bytes() for each in files}


def test_another_trace_under_the_same_name_is_a_conflict(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    catalog = collected(workbench, tmp_path)
    before = contents(catalog)
    (tmp_path / "t.csv").write_text(CSV + "4,d,read,1\n")
    refused(workbench, ["collect", "trace:t.csv"], 5, "cluster_exists", "--cluster", "--replace")
    assert contents(catalog) == before
    assert workbench("collect", "trace:t.csv", "--replace").status == 0


def test_a_catalog_of_another_format_version_is_refused(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    catalog = collected(workbench, tmp_path)
    place = catalog / FORMAT_KEY
    opened = workbench("catalog", "verify", "--json").json
    assert opened["problems"] == []
    place.chmod(0o644)
    place.write_bytes(encode_anchor(UUID(int=7), version=9))
    refused(workbench, ["hot"], 1, "catalog_format_unsupported", "9", "1")


def flip(victim: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(victim.read_bytes())
    content[len(content) // 3] ^= 0x01
    victim.chmod(0o644)
    victim.write_bytes(content)


def test_one_flipped_byte_in_the_log_is_refused_with_key_and_reason(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    catalog = collected(workbench, tmp_path)
    [victim] = (catalog / "_catalog/v1/log").glob("*.parquet")
    flip(victim)
    refused(workbench, ["catalog", "ls"], 1, "record_corrupt", victim.name)
    found = workbench("catalog", "verify", "--json")
    assert found.status == 1
    [problem] = found.json["problems"]
    assert problem["key"].endswith(victim.name)
    assert problem["reason"]


def test_one_flipped_byte_in_the_data_gives_no_wrong_answer(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    catalog = collected(workbench, tmp_path)
    good = {each: each.read_bytes() for each in (catalog / "data").rglob("*.parquet")}
    assert len(good) == 3
    for victim, content in good.items():
        key = str(victim.relative_to(catalog))
        flip(victim)
        [problem] = workbench("catalog", "verify", "--json").json["problems"]
        assert problem["key"] == key
        for command in ("plan", "hot", "heatmap"):
            refused(workbench, [command], 1, "object_hash_mismatch", key)
        victim.write_bytes(content)
    assert workbench("plan").status == 0


def test_a_changed_plan_is_refused(workbench: Callable[..., Any], tmp_path: Path) -> None:
    collected(workbench, tmp_path)
    assert workbench("plan", "--out", "p.json").status == 0
    document = json.loads((tmp_path / "p.json").read_text())
    document["limits"]["max_splits"] += 1
    (tmp_path / "p.json").write_text(json.dumps(document))
    before = contents(tmp_path)
    for command in (["approve", "p.json"], ["verify", "p.json"], ["report", "p.json"]):
        refused(workbench, command, 1, "plan_hash_mismatch", "content hash", "workbench plan")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "plan_unreadable"),
        (b"not json", "plan_unreadable"),
        (b"PAR1 and no more", "plan_unreadable"),
        (b"[]", "plan_schema_unknown"),
        (b'{"schema": "workbench.plan/9"}', "plan_schema_unknown"),
        (b"[" * 100_000, "plan_unreadable"),
    ],
)
def test_what_is_no_plan_is_refused(
    workbench: Callable[..., Any], tmp_path: Path, content: bytes, code: str
) -> None:
    collected(workbench, tmp_path)
    (tmp_path / "p.json").write_bytes(content)
    refused(workbench, ["approve", "p.json"], 1, code)


def test_a_plan_parquet_whose_columns_were_changed_is_refused(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    collected(workbench, tmp_path)
    workbench("plan", "--out", "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    index = table.schema.get_field_index("max_share_after")
    changed = table.set_column(index, table.schema.field(index), pa.array([0.01]))
    pq.write_table(changed, tmp_path / "p.parquet")
    refused(workbench, ["approve", "p.parquet"], 1, "plan_hash_mismatch")


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["plan", "--since", "2030-01-01"], 1, "load_absent"),
        (["plan", "--out", "no/such/p.json"], 1, "file_write_failed"),
        (["hot", "--since", "1970-01-01T00:00:02Z"], 1, "load_absent"),
        (["approve", "0000", "--by", ""], 1, "plan_absent"),
        (["plan", "--since", "2030-01-01", "--until", "2031-01-01"], 1, "load_absent"),
        (["plan", "--since", "10", "--until", "5"], 2, "window_empty"),
        (["plan", "--until", "noon"], 2, "time_invalid"),
        (["plan", "--until", "150%"], 2, "time_invalid"),
        (["plan", "--cluster", "nosuch"], 1, "cluster_absent"),
        (["hot", "--since", "2030-01-01", "--until", "2031-01-01"], 1, "load_absent"),
        (["approve", "xyz"], 2, "plan_reference_invalid"),
        (["approve", "0000"], 1, "plan_absent"),
        (["approve", "absent.json"], 1, "file_absent"),
        (["catalog", "show", "nosuch"], 1, "dataset_absent"),
        (["catalog", "init"], 1, "catalog_exists"),
    ],
)
def test_a_wrong_question_to_a_good_catalog_is_refused(
    workbench: Callable[..., Any], tmp_path: Path, arguments: list[str], status: int, code: str
) -> None:
    catalog = collected(workbench, tmp_path)
    before = contents(tmp_path)
    refused(workbench, arguments, status, code)
    assert contents(tmp_path) == before
    assert catalog.is_dir()


def test_a_plan_that_saw_everything_has_nothing_to_be_verified_with(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    collected(workbench, tmp_path)
    plan = workbench("plan", "--json").json
    refused(workbench, ["verify", plan["plan_id"]], 1, "load_absent", "--until 50%")


def test_an_unwritable_output_leaves_no_part(workbench: Callable[..., Any], tmp_path: Path) -> None:
    collected(workbench, tmp_path)
    refused(workbench, ["plan", "--out", "no/such/plan.json"], 1, "file_write_failed")


def test_debug_shows_the_traceback_and_only_then(workbench: Callable[..., Any]) -> None:
    assert "Traceback" not in workbench("hot").err
    assert "Traceback" in workbench("hot", "--debug").err
