"""Users' SQL: what runs, what is refused and by which name, and where an error is."""

from __future__ import annotations

import os
import signal
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import Corruption, InvalidInput, NotFound, WorkbenchError
from workbench.query import interrupting
from workbench.query import open_sql as module
from workbench.query.open_sql import Relations, SqlLimits, open_sql, quoted, run_sql

if TYPE_CHECKING:
    from pathlib import Path

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = pa.table(
    {
        "key": pa.array([b"a", b"b", b"\xff'; ATTACH 'x"], pa.binary()),
        "n": pa.array([1, 2, 2**62], pa.int64()),
        "at": pa.array([T0, T0, None], pa.timestamp("us", tz="UTC")),
    }
)
SMALL = SqlLimits(memory_bytes=256 << 20, threads=2)


class Fake:
    """Datasets by name, and which of them were opened."""

    def __init__(self, **more: Any) -> None:
        self.data = {"cp/load_window": ROWS, "t": ROWS, **more}
        self.opened: list[str] = []

    @property
    def relations(self) -> Relations:
        return Relations(self.open, lambda: sorted(self.data), {"datasets": self.about})

    def open(self, name: str) -> Any:
        if name in self.data:
            self.opened.append(name)
        return self.data.get(name)

    def about(self) -> pa.Table:
        self.opened.append("about")
        return pa.table({"name": sorted(self.data)})


def rows(text: str, parameters: Any = (), fake: Fake | None = None) -> list[dict[str, Any]]:
    found = run_sql(text, (fake or Fake()).relations, parameters, limits=SMALL)
    answer: list[dict[str, Any]] = found.table.to_pylist()
    return answer


def refused(text: str, code: str, *parts: str, fake: Fake | None = None) -> WorkbenchError:
    with pytest.raises(WorkbenchError) as caught:
        rows(text, (), fake)
    assert caught.value.code == code
    for part in parts:
        assert part in str(caught.value)
    return caught.value


def test_a_dataset_is_a_table_under_its_name_and_values_are_bound() -> None:
    text = 'SELECT n FROM "cp/load_window" WHERE key = $key AND n < $n'
    assert rows(text, {"key": b"b", "n": 10}) == [{"n": 2}]
    assert rows('SELECT n FROM "cp/load_window" WHERE key = ? AND n < ?', [b"a", 5]) == [{"n": 1}]
    assert rows('SELECT count(*) AS c FROM t WHERE "at" = $at', {"at": T0}) == [{"c": 2}]
    hostile = b"\xff'; ATTACH 'x"
    assert rows("SELECT n FROM t WHERE key = $k", {"k": hostile}) == [{"n": 2**62}]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM t",
        "FROM t",
        "TABLE t",
        "VALUES (1), (2)",
        "WITH x AS (SELECT * FROM t) SELECT * FROM x",
        "SELECT * FROM (PIVOT t ON n IN (1, 2) USING count(*))",
        "DESCRIBE t",
        "SUMMARIZE t",
        "EXPLAIN SELECT * FROM t",
        "/* c */ EXPLAIN -- c\n ANALYZE SELECT * FROM t",
        "EXPLAIN (FORMAT json) SELECT * FROM t",
        "EXPLAIN (SELECT * FROM t)",
        "SELECT * FROM range(3) WHERE (SELECT count(*) FROM t) = 3;",
    ],
)
def test_what_reads_is_run(text: str) -> None:
    fake = Fake()
    assert rows(text, (), fake)
    assert fake.opened == (["t"] if "t" in text.replace("(t", " t").split() else fake.opened)


def test_only_what_the_text_reads_is_opened_of_ten_thousand() -> None:
    fake = Fake(**{f"cluster-{n}/load_window": ROWS for n in range(10_000)})
    text = """
        WITH mine AS (SELECT * FROM "cluster-7/load_window")
        SELECT (SELECT max(n) FROM "cluster-9000/load_window") AS m, count(*) AS c
        FROM mine JOIN (FROM t) AS u ON u.key = mine.key
        WHERE mine.key IN (SELECT key FROM "cluster-42/load_window")
    """
    assert rows(text, (), fake) == [{"m": 2**62, "c": 3}]
    wanted = ["cluster-42/load_window", "cluster-7/load_window", "cluster-9000/load_window", "t"]
    assert fake.opened == wanted


def test_a_name_of_the_texts_own_comes_before_a_dataset() -> None:
    assert rows("WITH t AS (SELECT 1 AS x) SELECT * FROM t") == [{"x": 1}]


def test_the_catalogs_own_table_is_made_only_where_it_is_read() -> None:
    fake = Fake()
    assert rows("SELECT count(*) AS c FROM catalog.datasets", (), fake) == [{"c": 2}]
    assert fake.opened == ["about"]
    fake = Fake(datasets=pa.table({"own": [1]}))
    assert rows("SELECT * FROM datasets", (), fake) == [{"own": 1}]
    assert fake.opened == ["datasets"]


REFUSED = {
    "COPY": "COPY t TO '{tmp}/out.csv'",
    "COPY ": "COPY (SELECT 1) TO '{tmp}/out.parquet'",
    "ATTACH": "ATTACH '{tmp}/x.db'",
    "DETACH": "DETACH memory",
    "INSTALL": "INSTALL httpfs",
    "LOAD": "LOAD httpfs",
    "SET": "SET enable_external_access = true",
    "RESET": "RESET lock_configuration",
    "PRAGMA": "PRAGMA database_list",
    "CALL": "CALL pragma_version()",
    "CREATE": "CREATE TABLE x AS SELECT 1",
    "INSERT": "INSERT INTO t VALUES (1)",
    "INSERT ": "WITH x AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT * FROM x",
    "UPDATE": "UPDATE t SET n = 1",
    "DELETE": "DELETE FROM t",
    "DROP": "DROP VIEW t",
    "EXPORT": "EXPORT DATABASE '{tmp}/x'",
    "PREPARE": "PREPARE x AS SELECT 1",
    "BEGIN": "BEGIN",
    "VACUUM": "VACUUM",
    "CHECKPOINT": "CHECKPOINT",
    "USE": "USE memory",
    "PIVOT": "PIVOT t ON n USING count(*)",
    "2 statements": "SELECT 1; ATTACH '{tmp}/x.db'",
    "EXPLAIN": "EXPLAIN ANALYZE COPY t TO '{tmp}/out.csv'",
    "EXPLAIN ": "EXPLAIN CREATE TABLE x(a INT)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_only_read_is_refused_by_name_and_leaves_nothing(
    name: str, tmp_path: Path
) -> None:
    fake = Fake()
    refused(REFUSED[name].format(tmp=tmp_path), "sql_refused", name.strip(), fake=fake)
    assert fake.opened == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "call",
    [
        "read_csv('{file}')",
        "read_parquet('{file}')",
        "parquet_scan('{file}')",
        "read_json('{file}')",
        "read_text('{file}')",
        "read_blob('{file}')",
        "glob('{file}')",
        "sniff_csv('{file}')",
        "parquet_metadata('{file}')",
        "duckdb_secrets()",
        "duckdb_extensions()",
        "query('SELECT 1')",
        "query_table('t')",
        "json_execute_serialized_sql('x')",
        "arrow_scan(1, 2, 3)",
    ],
)
def test_table_functions_that_reach_out_are_refused_by_name(call: str, tmp_path: Path) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("a\n1\n")
    text = " ".join(["SELECT * FROM", call.format(file=file)])
    refused(text, "sql_refused", call.partition("(")[0])
    refused("SELECT (" + text + ")", "sql_refused", call.partition("(")[0])


@pytest.mark.parametrize("call", ["read_csv('{file}')", "glob('{file}')", "read_text('{file}')"])
def test_the_engine_itself_reaches_no_file(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("a\n1\n")
    name = call.partition("(")[0]
    monkeypatch.setattr(module, "TABLE_FUNCTIONS", frozenset({name}))
    refused(" ".join(["SELECT * FROM", call.format(file=file)]), "sql_refused", "file")


def test_a_file_is_no_table_and_neither_is_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("a\n1\n")
    local = pa.table({"a": [1]})
    assert local.num_rows == 1
    refused(f"FROM '{file}'", "dataset_absent", str(file)[:40])
    refused("SELECT * FROM local", "dataset_absent", "'local'")
    refused("SELECT getenv('HOME')", "sql_invalid", "getenv", "line 1, column 8")


def test_the_configuration_is_locked_and_says_what_the_rules_say() -> None:
    asked = {
        "enable_external_access": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",
        "lock_configuration": "true",
        "temp_directory": "",
        "secret_directory": "",
        "allow_persistent_secrets": "false",
        "threads": "2",
        "TimeZone": "UTC",
    }
    for name, value in asked.items():
        [row] = rows("SELECT CAST(current_setting($name) AS VARCHAR) AS v", {"name": name})
        assert row["v"] == value, name
    with duckdb.connect() as connection:
        module._confine(connection, SMALL)
        with pytest.raises(duckdb.Error):
            connection.execute("SET threads = 1")


@pytest.mark.parametrize(
    ("text", "line", "column", "part"),
    [
        ("SELECT nope FROM t", 1, 8, "nope"),
        ("SELECT\n  key,\n  nope FROM t", 3, 3, "nope"),
        ("SELECT 'é', nope FROM t", 1, 13, "nope"),
        ("SELECT 'a'::INT", 1, 11, "INT"),
        ("SELECT 1 +", 1, 10, "syntax error"),
        ("SELECT 'open", 1, 8, "unterminated"),
        ("SELECT lower(1, 2)", 1, 8, "lower"),
        ("SELECT sum(x::INT) FROM (SELECT 'x' || key AS x FROM t)", 1, 13, "INT"),
    ],
)
def test_an_error_says_where_it_is(text: str, line: int, column: int, part: str) -> None:
    refused(text, "sql_invalid", f"line {line}, column {column}", part)


def test_a_name_that_is_not_quoted_gets_the_hint() -> None:
    refused("SELECT * FROM cp/load_window", "sql_invalid", "double quotes", "line 1, column 17")


def test_an_absent_dataset_is_told_with_close_ones() -> None:
    error = refused('SELECT * FROM "cp/load_windo"', "dataset_absent", "cp/load_window")
    assert isinstance(error, NotFound)


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ("temp.t", 'write FROM "t"'),
        ("memory.main.t", 'write FROM "t"'),
        ("cp.load_window", 'write FROM "cp/load_window"'),
        ("cp.nothing", "catalog.datasets"),
        ("catalog.tables", "catalog.datasets"),
    ],
)
def test_a_table_of_a_schema_is_told_how_datasets_are_named(table: str, part: str) -> None:
    short = table.removeprefix("memory.")
    refused(f"FROM {table}", "dataset_absent", f"there is no table {short}", part)


@pytest.mark.parametrize("text", ["SHOW TABLES", "SHOW ALL TABLES", "DESCRIBE", "SHOW DATABASES"])
def test_what_lists_the_engines_own_tables_is_sent_to_the_list_of_datasets(text: str) -> None:
    refused(text, "sql_refused", "SELECT * FROM catalog.datasets")


@pytest.mark.parametrize(
    ("text", "given_", "parts"),
    [
        ("SELECT $a", {}, ("$a", "not given")),
        ("SELECT $a", {"a": 1, "b": 2}, ("$b", "not in")),
        ("SELECT ?, ?", [1], ("$2", "not given")),
        ("SELECT 1", [1], ("$1", "not in")),
    ],
)
def test_parameters_that_do_not_fit_are_named(
    text: str, given_: Any, parts: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        rows(text, given_)
    assert caught.value.code == "sql_parameters_differ"
    assert all(part in str(caught.value) for part in parts)


def test_names_that_differ_only_in_case_are_refused_and_each_alone_is_itself() -> None:
    fake = Fake(T=pa.table({"n": [7]}))
    refused('SELECT * FROM t, "T"', "sql_names_differ_in_case", '"T"', '"t"', fake=fake)
    assert rows('SELECT n FROM "T"', (), fake) == [{"n": 7}]
    assert len(rows("SELECT n FROM t", (), fake)) == 3
    refused('SELECT * FROM "CP/load_window"', "dataset_absent", fake=fake)


hostile = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@settings(max_examples=25, deadline=None)
@given(hostile | st.sampled_from(['a"b', "'; ATTACH 'x' AS y; --", '";DROP TABLE t;--', "a--b"]))
def test_any_name_is_quoted_by_one_function(name: str) -> None:
    fake = Fake(**{name: pa.table({"own": [5]})})
    assert rows(f"FROM {quoted(name)}", (), fake) == [{"own": 5}]
    assert fake.opened == [name]


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_answered_or_refused_with_a_code(text: str) -> None:
    found = None
    try:
        rows(text)
    except WorkbenchError as error:
        found = error.code
    assert found is None or found.startswith(("sql_", "dataset_absent"))


def test_texts_that_are_none_are_refused() -> None:
    refused("", "sql_empty")
    refused("-- nothing", "sql_empty")
    refused(";;", "sql_empty")
    refused("SELECT '\0'", "sql_invalid", "character 9")
    refused("SELECT '" + "x" * (1 << 20) + "'", "sql_too_long")
    refused("SELECT " + "1 + " * 500 + "1", "sql_too_deep")


def test_a_bound_on_rows_stops_the_query_and_says_so() -> None:
    fake = Fake()
    endless = "SELECT * FROM range(1000000000000)"
    found = run_sql(endless, fake.relations, rows_max=100_000, limits=SMALL)
    assert (found.table.num_rows, found.truncated) == (100_000, True)
    assert found.table.column(0).to_pylist() == list(range(100_000))
    whole = run_sql("SELECT * FROM t", fake.relations, rows_max=3, limits=SMALL)
    assert (whole.table.num_rows, whole.truncated) == (3, False)


def test_rows_come_as_they_are_made_and_leaving_stops_the_query() -> None:
    with open_sql("SELECT * FROM range(1000000000000)", Fake().relations, limits=SMALL) as found:
        assert next(found.batches).num_rows > 0


def test_too_little_memory_is_an_error_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    limits = SqlLimits(memory_bytes=64 << 20, threads=2)
    with pytest.raises(InvalidInput) as caught:
        run_sql("SELECT * FROM range(100000000000) ORDER BY 1", Fake().relations, limits=limits)
    assert caught.value.code == "sql_memory_exceeded"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_ends_a_running_query() -> None:
    main = threading.get_ident()
    finished = threading.Event()

    def place() -> tuple[int, int]:
        frame = sys._current_frames()[main]
        return id(frame.f_code), frame.f_lasti

    def interrupt() -> None:
        places = [place()]
        while not finished.wait(0.05):
            places.append(place())
            if len(places) > 8 and len(set(places[-8:])) == 1:  # it is in the engine, and stays
                os.kill(os.getpid(), signal.SIGINT)
                return

    thread = threading.Thread(target=interrupt)
    thread.start()
    text = "SELECT count(*) FROM range(1000000000000) AS r(i), t WHERE hash(i) = n"
    try:
        with pytest.raises(KeyboardInterrupt):
            run_sql(text, Fake().relations, limits=SMALL)
    finally:
        finished.set()
        thread.join()


class Stubborn:
    """A connection that ends its query on the third interrupt; the user presses twice more."""

    def __init__(self) -> None:
        self.interrupts = 0
        self.started = threading.Event()
        self.ended = threading.Event()

    def query(self) -> None:
        self.started.set()
        assert self.ended.wait(30)

    def interrupt(self) -> None:
        self.interrupts += 1
        if self.interrupts == 3:
            self.ended.set()
        else:
            raise KeyboardInterrupt


def test_further_interrupts_do_not_leave_the_engine_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Stubborn()
    waits = [KeyboardInterrupt]

    def wait(*given_: Any, **more: Any) -> Any:
        assert connection.started.wait(30)
        if waits:
            raise waits.pop()
        return real(*given_, **more)

    real = interrupting.wait
    monkeypatch.setattr(interrupting, "wait", wait)
    with interrupting.worker(connection) as work:  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            work.call(connection.query)
        assert connection.ended.is_set()


def test_an_interrupt_while_the_engine_asks_for_a_schema_is_one() -> None:
    error = duckdb.InvalidInputException("reading the schema of 't' failed: KeyboardInterrupt: ")
    with pytest.raises(KeyboardInterrupt), module._translating("", Fake().relations):
        raise error


@pytest.mark.parametrize("text", ["SELECT a FROM bad", "SELECT sum(a) FROM bad"])
def test_a_damaged_page_is_corruption_whatever_the_query(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": range(300_000)}), path, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    parquet = ds.ParquetFileFormat(default_fragment_scan_options=options)
    with pytest.raises(Corruption) as caught:
        rows(text, (), Fake(bad=ds.dataset(path, format=parquet)))
    assert caught.value.code == "data_unreadable"
    assert 'stored data of "bad" cannot be read' in str(caught.value)


@pytest.mark.parametrize("kind", [BrokenPipeError, pa.ArrowInvalid, RuntimeError])
@pytest.mark.parametrize("text", ["SELECT * FROM t", "EXPLAIN SELECT 1"])
def test_what_fails_at_the_caller_is_passed_on_as_it_is(text: str, kind: type[Exception]) -> None:
    error = kind("interrupted")

    def call() -> None:
        with open_sql(text, Fake().relations, limits=SMALL) as found:
            next(found.batches)
            raise error

    with pytest.raises(kind) as caught:
        call()
    assert caught.value is error


def test_a_value_that_does_not_convert_while_rows_come_is_no_corruption() -> None:
    data = pa.table({"a": ["1"] * 200_000 + ["x"]})
    with pytest.raises(InvalidInput) as caught:
        rows("SELECT a::INT FROM many", (), Fake(many=data))
    assert caught.value.code == "sql_invalid"


def test_an_error_of_whoever_opens_a_dataset_is_passed_on() -> None:
    def broken(name: str) -> Any:
        raise Corruption(f"{name} is damaged", code="object_hash_mismatch")

    with pytest.raises(Corruption) as caught:
        run_sql("SELECT * FROM t", Relations(broken, list), limits=SMALL)
    assert caught.value.code == "object_hash_mismatch"


def test_filters_and_columns_reach_the_dataset(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": range(1000), "b": range(1000)}), path)
    [row] = rows("EXPLAIN SELECT a FROM x WHERE a = 5", (), Fake(x=ds.dataset(path)))
    assert "Filters" in row["plan"]
    assert "b" not in row["plan"].partition("Projections:")[2].splitlines()[0]
