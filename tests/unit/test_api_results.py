"""Claims about answers: Arrow everywhere, the same in every frame, and nothing unescaped."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import polars.testing
import pyarrow as pa
import pytest

import workbench as wb
from workbench.model.tables import ACCESS
from workbench.session.datasets import accesses_bytes

HOSTILE = [
    b"<img src=x onerror=alert(1)>",
    b"\x00",
    "\u202egnp.exe".encode(),
    b"k" * 4_096,
    b"\xff\xfe<script>",
    b"\x1b[31mred",
    b"&amp;\"'",
]


class Page(HTMLParser):
    """Collects tags and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not any(name.startswith("on") or name in {"src", "srcdoc"} for name, _ in attrs)

    def handle_data(self, data):
        self.text += data


ALLOWED = {
    "div", "p", "strong", "table", "caption", "thead", "tbody", "tr", "th", "td"
}  # fmt: skip


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> wb.Catalog:
    folder = tmp_path_factory.mktemp("api")
    made = wb.datasets("hot-range", out=folder, accesses=4_000, seed=5)
    wb.collect(made.path("hot-range"), folder / "catalog", cluster="shop", routes=4)
    return wb.open(folder / "catalog")


@pytest.fixture(scope="module")
def results(catalog: wb.Catalog) -> dict[str, wb.Result]:
    plan = wb.plan(catalog, until="50%", max_splits=3, backtest=False)
    approval = plan.approve(by="anna")
    hot = wb.hot(catalog, threshold=10, windows=2)
    verification = plan.replay()
    return {
        "datasets": catalog.datasets(),
        "routes": catalog.routes(),
        "load": catalog.load(),
        "hot": hot,
        "keys": hot.keys,
        "plan": plan,
        "declined": plan.declined,
        "pareto": plan.pareto,
        "explained": plan.explain(plan[0]["id"]),
        "approval": approval,
        "approvals": catalog.approvals(plan.plan_id),
        "plans": catalog.plans(),
        "jobs": catalog.jobs(),
        "exports": catalog.exports(),
        "verification": verification,
        "windows": verification.by_window(),
        "comparison": wb.compare(catalog, policies=["robust", "none"], routes=4),
        "sql": catalog.sql("SELECT 1 AS one, NULL AS nothing"),
        "query": catalog.query("load-per-route", cluster="shop"),
        "queries": catalog.queries(),
        "connectors": wb.connectors(),
    }


def test_every_answer_is_the_same_in_arrow_polars_pandas_and_duckdb(
    results: dict[str, wb.Result],
) -> None:
    for name, result in results.items():
        table = result.to_arrow()
        assert pa.table(result).equals(table), name
        frame = result.to_polars()
        polars.testing.assert_frame_equal(frame, pl.DataFrame(result))
        assert frame.to_dicts() == [*result] == table.to_pylist(), name
        panda = result.to_pandas()
        pd.testing.assert_frame_equal(panda, table.to_pandas())
        assert list(panda.columns) == result.columns
        assert duckdb.sql("SELECT count(*) FROM result").fetchall() == [(len(result),)], name
        assert len(result) == table.num_rows


def test_rows_are_dicts_from_either_end(results: dict[str, wb.Result]) -> None:
    routes = results["routes"]
    rows = list(routes)
    assert routes[0] == rows[0]
    assert routes[-1] == rows[-1]
    with pytest.raises(IndexError):
        routes[len(routes)]
    assert not results["jobs"]


def test_every_answer_shows_as_text_and_as_a_table_with_a_caption(
    results: dict[str, wb.Result],
) -> None:
    for name, result in results.items():
        page = Page(result._repr_html_())
        assert set(page.tags) <= ALLOWED, name
        assert page.tags.count("caption") == 1
        assert page.tags.count("th") == len(result.shown or result.columns)
        first, *_ = [line for line in repr(result).splitlines() if not line.startswith("warning")]
        assert first == result.title


def test_pandas_that_is_not_installed_is_said(
    results: dict[str, wb.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(wb.InvalidArgument) as caught:
        results["routes"].to_pandas()
    assert caught.value.code == "package_missing"
    assert "to_polars" in caught.value.hint


def test_hostile_keys_are_shown_and_never_become_markup_or_control(tmp_path: Path) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {"time": start.replace(minute=i % 60, hour=i // 60), "key": key, "op": "write", "size": 8}
        for i, key in enumerate(sorted(HOSTILE) * 20)
    ]
    trace = tmp_path / "t.parquet"
    trace.write_bytes(accesses_bytes(pa.Table.from_pylist(rows, schema=ACCESS)))
    wb.collect(trace, tmp_path / "catalog", routes=5)
    catalog = wb.open(tmp_path / "catalog")
    plan = wb.plan(catalog, max_splits=3, backtest=False)
    hot = wb.hot(catalog, threshold=1, windows=1)
    answers = [
        catalog.routes(),
        catalog.load(),
        hot,
        hot.keys,
        plan,
        plan.declined,
        catalog.sql('SELECT DISTINCT key FROM "t/access"'),
        catalog.sql("SELECT '<b>&' || chr(8238) || chr(27) AS \"<i>\", [1, NULL] AS list"),
        catalog.sql("SELECT {'k': '<script>'} AS s"),
    ]
    for answer in answers:
        html, text = answer._repr_html_(), repr(answer)
        page = Page(html)
        assert set(page.tags) <= ALLOWED
        for shown in (html, text):
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", shown)
            assert "\ufffd" not in shown
    key = Page(answers[6]._repr_html_()).text
    assert "<img" not in answers[6]._repr_html_()
    assert "0x3c696d67" in key


def test_null_is_a_dash_and_never_zero() -> None:
    result = wb.Result(pa.table({"reads": pa.array([None, 0], pa.int64())}), "load")
    assert [line.strip() for line in repr(result).splitlines()[-2:]] == ["–", "0"]
    bounds = wb.Result(pa.table({"start": [b""], "end": pa.array([None], pa.binary())}), "routes")
    assert repr(bounds).splitlines()[-1].split() == ["-∞", "+∞"]


def test_long_answers_say_how_much_is_not_shown() -> None:
    result = wb.Result(pa.table({"n": list(range(1_000))}), "numbers", warnings=("<b>cut",))
    assert "980 more of 1,000 rows" in repr(result)
    html = result._repr_html_()
    assert "980 more of 1,000 rows" in html
    assert html.count("<tr>") == 21
    assert "&lt;b&gt;cut" in html
    assert wb.Result(pa.table({}), "nothing")._repr_html_()
    assert repr(wb.Result(pa.table({}), "nothing")) == "nothing"


def test_a_catalog_is_shown_with_what_it_holds(catalog: wb.Catalog) -> None:
    assert "shop/access" in catalog._repr_html_()
    assert set(Page(catalog._repr_html_()).tags) <= ALLOWED
    assert "clusters=['shop']" in repr(catalog)


def test_an_approval_and_a_plan_are_of_one_hash(results: dict[str, wb.Result]) -> None:
    plan, approval = results["plan"], results["approval"]
    assert isinstance(plan, wb.Plan)
    assert isinstance(approval, wb.Approval)
    assert approval.content_hash == plan.content_hash
    assert len(approval) == len(plan)


def test_a_report_of_a_hostile_name_is_a_link_and_nothing_else(tmp_path: Path) -> None:
    shown = wb.Report(Path("javascript:alert(1)/<b>.html"), "3f2a", 5)._repr_html_()
    assert "<b>" not in shown
    assert 'href="javascript%3Aalert%281%29/%3Cb%3E.html"' in shown
