"""`workbench sql`: what it prints and writes, in every format, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.catalog.catalog import Write
from workbench.cli.sql_output import cell, plain
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor, RouteSnapshot
from workbench.model.tables import LOAD_WINDOW, VERSION, routes_to_table
from workbench.model.times import EPOCH, from_us, hlc_of_ms, rfc3339
from workbench.session.wiring import open_or_create_catalog

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., Any]

MS = 1_790_000_000_000
HOSTILE = b"\x1b[31m<b>"
VERSIONS = [
    (b"a", 3, "put", b"a3"),
    (b"a", 1, "put", b"a1"),
    (b"b", 2, "tombstone", None),
    (b"b", 1, "put", b"b1"),
    (HOSTILE, 1, "put", b"x"),
]


def stamp(step: int) -> int:
    return hlc_of_ms(MS + step)


@pytest.fixture
def catalog(tmp_path: Path) -> str:
    """A catalog with a cluster and a small export in it."""
    url = str(tmp_path / ".workbench/catalog")
    rows = [
        {"key": k, "commit_ts": stamp(n), "kind": kind, "value": v, "group": 1}
        for k, n, kind, v in sorted(VERSIONS, key=lambda each: (each[0], -each[1]))
    ]
    routes = (
        RouteDescriptor(1, Span(b"", b"b"), 1),
        RouteDescriptor(2, Span(b"b", None), 2),
    )
    route = routes_to_table(RouteSnapshot(4, routes, from_us(MS * 1_000)))
    windows = [
        {
            "cluster": "c",
            "window_start": from_us((MS + 60_000 * n) * 1_000),
            "window_end": from_us((MS + 60_000 * (n + 1)) * 1_000),
            "route_id": 1 + n % 2,
            "group": 1,
            "bucket_start": b"",
            "reads": n,
            "coverage": 1.0,
        }
        for n in range(4)
    ]
    open_or_create_catalog(url).commit(
        [
            Write("c/version", pa.Table.from_pylist(rows, schema=VERSION)),
            Write("c/route", route),
            Write("c/load_window", pa.Table.from_pylist(windows, schema=LOAD_WINDOW)),
        ]
    )
    return url


def as_of(step: int, *more: str) -> list[str]:
    named = ["sql", "--query", "as-of", "--table", "version=c/version"]
    return [*named, "-p", f"read_ts={stamp(step)}", *more]


def refused(workbench: Run, arguments: list[str], status: int, code: str, *parts: str) -> None:
    outcome = workbench(*arguments)
    assert outcome.status == status, outcome.err
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 1
    for part in parts:
        assert part in outcome.err
    assert workbench(*arguments, "--debug").err.count("Traceback") >= 1
    if "--out" not in arguments:
        found = workbench(*arguments, "--json")
        assert (found.status, found.error["code"]) == (status, code)


@pytest.mark.usefixtures("catalog")
def test_a_table_shows_keys_and_times_so_that_they_do_no_harm(workbench: Run) -> None:
    text = 'SELECT key, commit_ts, value, expire_at FROM "c/version" ORDER BY key, commit_ts'
    outcome = workbench("sql", text)
    assert outcome.status == 0
    assert "\x1b" not in outcome.out
    assert "0x" + HOSTILE.hex() in outcome.out
    assert "5 rows" in outcome.out
    assert "null" in outcome.out


@pytest.mark.usefixtures("catalog")
def test_json_has_columns_rows_and_whether_there_was_more(workbench: Run) -> None:
    text = 'SELECT key, window_start, sum(reads) AS s, sum(coverage) FROM "c/load_window", '
    text += "(SELECT $k AS key) GROUP BY ALL ORDER BY 2"
    answer = workbench("sql", text, "-p", "k:hex=00ff", "--limit", "2", "--json").json
    assert [column["name"] for column in answer["columns"]][:3] == ["key", "window_start", "s"]
    assert answer["rows"][1] == ["00ff", rfc3339(from_us((MS + 60_000) * 1_000)), 1, 1.0]
    assert (answer["row_count"], answer["truncated"]) == (2, True)


@pytest.mark.usefixtures("catalog")
def test_a_bounded_answer_says_that_it_is_one(workbench: Run) -> None:
    outcome = workbench("sql", 'SELECT * FROM "c/version"', "--limit", "2")
    assert "2 rows" in outcome.out
    assert "not all" in outcome.out
    whole = workbench("sql", 'SELECT * FROM "c/version"', "--limit", "5")
    assert "not all" not in whole.out
    lines = workbench("sql", 'SELECT * FROM "c/version"', "--limit", "2", "--csv")
    assert len(lines.out.splitlines()) == 3
    assert lines.err.startswith("warning: these are the first 2 rows")


@pytest.mark.usefixtures("catalog")
def test_csv_and_lines_of_json_hold_the_same_rows(workbench: Run) -> None:
    text = 'SELECT key, kind, value FROM "c/version" ORDER BY key, commit_ts DESC'
    by_csv = list(csv.reader(io.StringIO(workbench("sql", text, "--csv").out)))
    lines = workbench("sql", text, "--format", "jsonl").out.splitlines()
    rows = [json.loads(line) for line in lines]
    assert by_csv[0] == ["key", "kind", "value"]
    assert by_csv[1:] == [[row["key"], row["kind"], row["value"] or ""] for row in rows]
    assert rows[0] == {"key": HOSTILE.hex(), "kind": "put", "value": b"x".hex()}


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "jsonl", "json"])
@pytest.mark.usefixtures("catalog")
def test_a_file_is_written_whole_in_the_format_of_its_name(
    workbench: Run, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"rows.{suffix}"
    outcome = workbench("sql", 'SELECT key FROM "c/version" ORDER BY key', "--out", str(out))
    assert (outcome.status, outcome.out) == (0, f"wrote {out}: 5 rows\n")
    keys = sorted(each[0] for each in VERSIONS)
    match suffix:
        case "parquet":
            found = pq.read_table(out, page_checksum_verification=True).column("key").to_pylist()
        case "arrow":
            found = pa.ipc.open_file(out).read_all().column("key").to_pylist()
        case "csv":
            found = [bytes.fromhex(each) for each in out.read_text().splitlines()[1:]]
        case "jsonl":
            found = [
                bytes.fromhex(json.loads(each)["key"]) for each in out.read_text().splitlines()
            ]
        case _:
            found = [bytes.fromhex(row[0]) for row in json.loads(out.read_text())["rows"]]
    assert found == keys
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".rows")] == []


@pytest.mark.usefixtures("catalog")
def test_a_query_that_fails_leaves_the_file_as_it_was(workbench: Run, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    out.write_text("before")
    text = "SELECT CAST('x' || range AS INT) FROM range(200000)"
    refused(workbench, ["sql", text, "--out", str(out), "--format", "csv"], 1, "sql_invalid")
    assert out.read_text() == "before"
    assert sorted(each.name for each in tmp_path.iterdir()) == [".workbench", "rows.csv"]


@pytest.mark.usefixtures("catalog")
def test_named_queries_answer_the_same_by_either_engine(workbench: Run) -> None:
    for step, expected in ((3, {"61": "6133"}), (1, {"61": "6131", "62": "6231"})):
        answers = [
            workbench(*as_of(step, "--engine", engine, "--json")).json["rows"]
            for engine in ("duckdb", "polars")
        ]
        assert answers[0] == answers[1]
        assert {row[0]: row[2] for row in answers[0]} == {HOSTILE.hex(): "78", **expected}
    both = ["--table", "version=c/version", "--table", "route=c/route"]
    asked = ["-p", "catalog_version=9", "-p", f"read_ts={stamp(9)}"]
    for name, given in {
        "route-bytes": [*both, *asked],
        "key-history": ["--table", "version=c/version", "-p", "key=a"],
        "owner-at-version": ["--cluster", "c", "-p", "key=0x61", "-p", "catalog_version=4"],
        "owner-at-time": ["--cluster", "c", "-p", "key=z", "-p", f"read_ts={stamp(0)}"],
        "load-per-route": ["--cluster", "c"],
        "load-heat": ["--cluster", "c", "-p", "column_ms=120000"],
    }.items():
        calls = ["sql", "--query", name, *given, "--json", "--engine"]
        found = [workbench(*calls, engine).json["rows"] for engine in ("duckdb", "polars")]
        assert found[0] == found[1]
        assert found[0]


def test_queries_are_listed_with_their_sql(workbench: Run) -> None:
    listed = workbench("sql", "--list-queries")
    assert "owner-at-time" in listed.out
    answer = workbench("sql", "--list-queries", "--json").json
    texts = {each["name"]: each["sql"] for each in answer["queries"]}
    assert workbench("sql", "--query", "as-of", "--show-sql").out == texts["as-of"]


@pytest.mark.usefixtures("catalog")
def test_without_a_text_examples_and_datasets_are_shown(workbench: Run) -> None:
    outcome = workbench("sql")
    assert outcome.status == 0
    assert '"c/load_window"' in outcome.out
    example = outcome.out.splitlines()[2].strip().removeprefix("workbench sql '").removesuffix("'")
    assert workbench("sql", example).status == 0


@pytest.mark.usefixtures("catalog")
def test_a_text_comes_from_a_file_or_from_stdin(
    workbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "q.sql").write_text("SELECT 1 + $n AS x")
    assert workbench("sql", "--file", "q.sql", "-p", "n:int=2", "--csv").out == "x\n3\n"
    stdin = io.TextIOWrapper(io.BytesIO(b"SELECT name FROM catalog.datasets LIMIT 1"))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert workbench("sql", "-", "--csv").out == "name\nc/load_window\n"


def test_the_catalog_as_it_was_is_asked(workbench: Run, catalog: str) -> None:
    again = pa.table({"n": [1]})
    open_or_create_catalog(catalog).commit([Write("later", again)])
    count = "SELECT count(*) AS n FROM catalog.datasets"
    assert workbench("sql", count, "--csv").out == "n\n4\n"
    assert workbench("sql", count, "--csv", "--at", "1").out == "n\n3\n"
    refused(workbench, ["sql", "SELECT * FROM later", "--at", "1"], 1, "dataset_absent", "later")
    refused(workbench, ["sql", count, "--at", "yesterday"], 2, "time_invalid", "yesterday")


@pytest.mark.parametrize(
    ("arguments", "status", "code", "part"),
    [
        (["SELECT * FROM c/version"], 1, "sql_invalid", "double quotes"),
        (["SELECT * FROM nowhere"], 1, "dataset_absent", "nowhere"),
        (["COPY x TO 'y'"], 1, "sql_refused", "COPY"),
        (["SELECT * FROM read_csv('x')"], 1, "sql_refused", "read_csv"),
        (["SELECT $x"], 1, "sql_parameters_differ", "$x"),
        (["SELECT 1", "-p", "x"], 2, "parameter_invalid", "has no ="),
        (["SELECT 1", "--file", "q.sql"], 2, "usage", "TEXT and --file"),
        (["--file", "q.sql"], 1, "file_absent", "q.sql"),
        (["SELECT 1", "--cluster", "c"], 2, "usage", "--query"),
        (["SELECT 1", "--engine", "polars"], 2, "engine_needs_query", "--query"),
        (["--query", "as_of"], 2, "query_unknown", "as-of"),
        (["--query", "as-of"], 2, "parameter_missing", "read_ts"),
        (["--query", "key-history", "-p", "key=a"], 2, "relation_missing", "--export"),
        (["--query", "key-history", "-p", "kez=a"], 2, "parameter_invalid", "kez"),
        (["--query", "key-history", "-p", "key=a", "--export", "x"], 1, "export_absent", "x"),
        (["--query", "load-per-route", "--cluster", "no"], 1, "dataset_absent", "no/load_window"),
        (["--show-sql"], 2, "usage", "--query"),
        (["SELECT 1", "--out", "x.txt"], 2, "sql_format_unknown", "x.txt"),
        (["SELECT 1", "--table", "x"], 2, "table_alias_invalid", "NAME=DATASET"),
        (["SELECT 1", "--out", "no/folder/x.csv"], 1, "file_write_failed", "no/folder"),
        (["SELECT 1 AS a, 2 AS a", "--out", "x.parquet"], 1, "column_names_repeated", "'a'"),
    ],
)
@pytest.mark.usefixtures("catalog")
def test_a_wrong_call_is_refused_and_nothing_is_written(  # noqa: PLR0913, PLR0917
    workbench: Run, tmp_path: Path, arguments: list[str], status: int, code: str, part: str
) -> None:
    formats = ["--format", arguments[-1].partition(".")[2]] if "--out" in arguments else []
    formats = [] if "txt" in formats else formats
    refused(workbench, ["sql", *arguments, *formats], status, code, part)
    assert [each.name for each in tmp_path.iterdir()] == [".workbench"]


def test_a_catalog_that_is_not_there_is_not_made(workbench: Run, tmp_path: Path) -> None:
    refused(workbench, ["sql", "SELECT 1"], 1, "catalog_absent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("catalog")
def test_parquet_and_tables_do_not_go_where_they_are_of_no_use(
    workbench: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outcome = workbench("sql", "SELECT 1", "--format", "csv", "--out", "x.parquet")
    assert outcome.status == 2
    assert "'x.parquet' is parquet by its name, and --format says csv" in outcome.err
    assert [each.name for each in tmp_path.iterdir()] == [".workbench"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    outcome = workbench("sql", "SELECT 1", "--format", "parquet")
    assert outcome.status == 2
    assert "not for the terminal" in outcome.err
    assert workbench("sql", "SELECT 1", "--format", "table", "--out", "x.csv").status == 2
    assert workbench("sql", "SELECT 1", "--csv", "--json").status == 2


def piped(folder: Path, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    """Start `workbench sql` with real streams."""
    command = [sys.executable, "-m", "workbench", "sql", *arguments]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, **streams)


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
@pytest.mark.usefixtures("catalog")
def test_binary_rows_go_into_a_pipe(tmp_path: Path, format_: str) -> None:
    text = "SELECT range AS n FROM range(100000)"
    with piped(tmp_path, text, "--format", format_, stdout=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    data = pa.BufferReader(out)
    table = pq.read_table(data) if format_ == "parquet" else pa.ipc.open_file(data).read_all()
    assert table.column("n").to_pylist() == list(range(100_000))


@pytest.mark.parametrize("format_", ["csv", "jsonl", "parquet"])
@pytest.mark.usefixtures("catalog")
def test_a_reader_that_goes_away_ends_the_query_without_a_word(
    tmp_path: Path, format_: str
) -> None:
    text = "SELECT * FROM range(1000000000)"
    with piped(tmp_path, text, "--format", format_, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4)
        process.stdout.close()
        assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("format_", ["csv", "table", "parquet"])
@pytest.mark.usefixtures("catalog")
def test_a_full_disk_is_no_damage_of_stored_data(tmp_path: Path, format_: str) -> None:
    with (
        Path("/dev/full").open("wb") as full,
        piped(tmp_path, "SELECT 1", "--format", format_, stdout=full) as process,
    ):
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith(b"workbench: the output could not be written: No space left")


@pytest.mark.usefixtures("catalog")
def test_a_title_is_whole_whatever_the_width_of_the_table(workbench: Run) -> None:
    assert workbench("sql", "SELECT 42 AS x").out.splitlines()[0] == "1 row"
    assert workbench("sql", "SELECT range AS x FROM range(12)").out.splitlines()[0] == "12 rows"


@pytest.mark.usefixtures("catalog")
def test_one_row_is_one_row(workbench: Run) -> None:
    assert workbench("sql", "SELECT 1", "--out", "x.csv").out == "wrote x.csv: 1 row\n"
    outcome = workbench("sql", "SELECT * FROM range(2)", "--csv", "--limit", "1")
    assert outcome.err == "warning: this is the first row; there are more\n"


def test_the_help_shows_how_values_for_question_marks_are_written(workbench: Run) -> None:
    assert "-p :int=5" in workbench("sql", "--help").out


@pytest.mark.usefixtures("catalog")
def test_two_columns_may_have_one_name_and_odd_values_are_shown(workbench: Run) -> None:
    text = """
        SELECT 1 AS a, 2 AS a, INTERVAL 1 MONTH AS i, DATE '2020-01-01' AS d, [b'\\x00'] AS l,
            {'x': 1.5::DECIMAL(4, 2)} AS s, 'NaN'::DOUBLE AS f, 2::HUGEINT AS h,
            TIMESTAMP '99999-01-01' AS y
    """.replace("b'\\x00'", "'\\x00'::BLOB")
    answer = workbench("sql", text, "--json").json
    assert [column["name"] for column in answer["columns"]][:2] == ["a", "a"]
    assert answer["rows"][0][:2] == [1, 2]
    assert answer["rows"][0][3:8] == ["2020-01-01", ["00"], {"x": "1.50"}, "nan", 2]
    assert "out of range" in answer["rows"][0][8]  # Python counts to the year 9999
    assert workbench("sql", text).status == 0


def test_no_character_of_a_cell_controls_a_terminal() -> None:
    assert cell("a\x1b[31m\u202e\n") == "a\\x1b[31m\\u202e\\n"
    assert cell(b"") == "0x"
    assert cell(["\x1b"]) == '["\\\\u001b"]' or "\x1b" not in cell(["\x1b"])
    assert cell("x" * 1_000).endswith("(1,000 characters)")
    assert cell(None) == "null"
    assert cell(value=True) == "true"
    assert plain(EPOCH) == "1970-01-01T00:00:00Z"


SCAN = """
    SELECT count(*) FROM range(1000000000000) AS r(i), "c/version" WHERE hash(i) = commit_ts
"""
CROSS = """
    SELECT count(*) FROM range(1000000) AS a, range(10000000) AS b WHERE (a.range * b.range) % 7 = 3
"""


@pytest.mark.parametrize(
    ("text", "more"), [(SCAN, ()), (CROSS, ()), (CROSS, ("--out", "x.parquet"))]
)
@pytest.mark.usefixtures("catalog")
def test_ctrl_c_ends_a_long_query(tmp_path: Path, text: str, more: tuple[str, ...]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "workbench", "sql", text, *more],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        busy_until = time.monotonic() + 60  # noqa: TID251 - bounds the polling
        ticks = os.sysconf("SC_CLK_TCK")
        used = 0.0
        while used < 4:  # more than it takes to start
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < busy_until  # noqa: TID251 - likewise
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            used = (int(fields[11]) + int(fields[12])) / ticks
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "workbench: interrupted\n")
    assert [each.name for each in tmp_path.iterdir()] == [".workbench"]


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_a_damaged_page_is_corruption_by_either_engine(
    workbench: Run, catalog: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"key": b"%06d" % n, "commit_ts": stamp(n), "kind": "put", "value": b"v" * 40, "group": 1}
        for n in range(20_000)
    ]
    # As if it were large: the hash of its tail is kept.
    monkeypatch.setattr("workbench.catalog.uploads.WHOLE_BYTES_MAX", 0)
    opened = open_or_create_catalog(catalog)
    opened.commit([Write("big/version", pa.Table.from_pylist(rows, schema=VERSION))])
    [ref] = opened.get("big/version").objects
    victim = Path(catalog) / ref.key
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(content)
    asked = ["sql", "--query", "as-of", "--table", "version=big/version", "--engine", engine]
    outcome = workbench(*asked, "-p", f"read_ts={stamp(9**6)}", "--csv", "--json")
    assert outcome.status == 2  # one format at a time
    # A small object is hashed whole before any page is read.
    outcome = workbench(*asked, "-p", f"read_ts={stamp(9**6)}", "--json")
    assert (outcome.status, outcome.error["code"]) == (1, "object_hash_mismatch")
    assert ref.key in outcome.error["message"]
    monkeypatch.setattr("workbench.catalog.reading.WHOLE_BYTES_MAX", 0)
    outcome = workbench(*asked, "-p", f"read_ts={stamp(9**6)}", "--json")
    assert (outcome.status, outcome.error["code"]) == (1, "data_unreadable")
    assert outcome.error["kind"] == "corruption"
    assert '"big/version"' in outcome.error["message"]
