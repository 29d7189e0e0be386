"""Claims about errors of `wb`: they say what to do in Python, and no raw error comes through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import workbench as wb
from workbench.api.show import counted
from workbench.api.verification import _CAME
from workbench.api.words import in_python, python_words
from workbench.session.verify import Execution

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("words")
    made = wb.datasets("hot-range", out=folder, accesses=4_000, seed=5)
    url = str(folder / "catalog")
    for name in ("shop", "bar"):
        wb.collect(made.path("hot-range"), url, cluster=name, routes=4)
    return url


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("name one with --cluster", "name one with cluster="),
        ("--cluster shop", 'cluster="shop"'),
        ("--max-splits 6 or fewer", "max_splits=6 or fewer"),
        ("plan with --max-splits 0", "plan with max_splits=0"),
        ("pass --on NAME, or", 'pass on="NAME", or'),
        ("--columns time=NAME", 'columns={"time": "NAME"}'),
        ("--map-group 1=2", "map_group={1: 2}"),
        ("(`--since`, `--until`)", "(`since=`, `until=`)"),
        ("--since 2026-11-20T12:00:00Z", 'since="2026-11-20T12:00:00Z"'),
        ("--to, as node://HOST:PORT", "to=, as node://HOST:PORT"),
        ("`workbench collect` reads them", "`wb.collect` reads them"),
        ("`workbench catalog init`", "`wb.open(create=True)`"),
        ("workbench plan --until 50%", 'wb.plan(until="50%")'),
        (
            "workbench approve 3f2a, then workbench apply 3f2a; or plan again",
            "plan.approve(), then plan.apply(); or plan again",
        ),
        (
            "workbench collect or workbench catalog init creates one",
            "wb.collect or wb.open(create=True) creates one",
        ),
        ("workbench approve 3f2a split-001 --withdraw", "plan.withdraw()"),
    ],
)
def test_commands_and_options_become_calls_and_arguments(said: str, told: str) -> None:
    assert python_words(said) == told
    assert python_words(told) == told


@pytest.mark.parametrize(
    "text",
    [
        "`workbench catalog gc --keep 7d` says how long",
        "`workbench export --abandon e1`",
        "the key 'a--by' is held",
        "--byte --tools --online",
        "SELECT 1 --nothing",
    ],
)
def test_what_python_does_not_offer_stays_as_it_is(text: str) -> None:
    assert python_words(text) == text


def test_a_translated_error_keeps_class_code_kind_and_cause() -> None:
    cause = OSError("gone")

    @in_python
    def fails() -> None:
        raise wb.Conflict("held", code="dataset_exists", hint="pass --replace") from cause

    with pytest.raises(wb.Conflict) as caught:
        fails()
    error = caught.value
    assert (error.code, error.kind, error.__cause__) == ("dataset_exists", "conflict", cause)
    assert str(error) == "held; pass replace=True"
    assert fails.__name__ == "fails"


def test_where_there_is_no_catalog_the_error_names_what_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORKBENCH_CATALOG", raising=False)
    with pytest.raises(wb.NotFound) as caught:
        wb.open()
    assert "wb.open(create=True)" in caught.value.hint
    assert "wb.collect" in caught.value.hint
    assert "--" not in str(caught.value)


def test_no_usual_error_tells_options_of_the_command_line(place: str) -> None:
    catalog = wb.open(place)
    made = wb.plan(catalog, cluster="shop", backtest=False, max_splits=2)
    calls: list[Callable[[], Any]] = [
        lambda: wb.hot(catalog),
        lambda: wb.heatmap(catalog),
        lambda: wb.plan(catalog),
        lambda: wb.verify(made),
        made.apply,
        lambda: made.approve(by="a:b"),
        lambda: catalog.read("nothing"),
        lambda: catalog.query("load-per-route"),
        lambda: wb.find_plan("00000000", catalog),
    ]
    for call in calls:
        with pytest.raises(wb.WorkbenchError) as caught:
            call()
        assert " --" not in str(caught.value), caught.value
        assert "`workbench " not in str(caught.value), caught.value


@pytest.mark.parametrize(
    "arguments",
    [
        {"until": 0.5},
        {"max_splits": "6"},
        {"max_splits": 2.5},
        {"min_gain": "x"},
        {"threshold": "x"},
        {"objective": ["score"]},
    ],
)
def test_a_plan_refuses_arguments_of_another_kind(place: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(wb.InvalidArgument) as caught:
        wb.plan(place, cluster="shop", **arguments)
    assert caught.value.hint


def test_arguments_of_another_kind_are_refused_with_what_to_give(place: str) -> None:
    wrong: Any = 42
    calls: list[Callable[[], Any]] = [
        lambda: wb.hot(wrong),
        lambda: wb.open(wrong),
        lambda: wb.collect("node://127.0.0.1:1", wrong),
        lambda: wb.find_plan(wrong, place),
        lambda: wb.datasets(*[["zipf"]]),  # type: ignore[arg-type]
        lambda: wb.hot(place, cluster="shop", threshold="x"),  # type: ignore[arg-type]
        lambda: wb.hot(place, cluster="shop", windows="x"),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(wb.InvalidArgument) as caught:
            call()
        assert caught.value.hint


def test_a_slice_of_an_answer_is_a_list_of_its_rows(place: str) -> None:
    routes = wb.open(place).routes("shop")
    assert routes[0:2] == [routes[0], routes[1]]
    assert routes[::-1] == list(routes)[::-1]
    assert routes[4:] == []


def test_a_policy_that_refuses_shows_what_stands_approved(place: str, tmp_path: Path) -> None:
    made = wb.plan(place, cluster="shop", until="50%", backtest=False, max_splits=2)
    rules = tmp_path / "n.toml"
    rules.write_text('name = "night"\nmax_splits = 1\n')
    made.approve(by="anna")
    for dry_run in (False, True):
        refused = made.approve(policy=rules, dry_run=dry_run)
        assert refused.broken
        assert refused.changed == ()
        assert refused.approved == made.approved != ()
        assert all(row["approved"] for row in refused)


def test_a_picture_shows_its_title_and_not_its_bytes(place: str) -> None:
    shown = repr(wb.picture(place, cluster="shop"))
    assert shown.startswith("Picture('shop: score")
    assert len(shown) < 120


def test_one_is_not_many(place: str) -> None:
    assert [counted(n, "plan") for n in (0, 1, 2_000)] == ["no plans", "1 plan", "2,000 plans"]
    catalog = wb.open("memory://plurals", create=True)
    assert catalog.plans().title == "no plans"


def test_what_was_executed_is_told_as_the_execution_has_it(place: str) -> None:
    made = wb.plan(place, cluster="shop", until="50%", backtest=False, max_splits=2)
    assert made.replay().notes[1].startswith("replayed: ")
    assert set(_CAME) == set(Execution)
    assert not _CAME[Execution.APPLIED].startswith("replayed")
