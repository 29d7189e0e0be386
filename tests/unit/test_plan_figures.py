"""Claims about evidence: every number of a plan is recomputed by SQL, or given, or a search's."""

from __future__ import annotations

import copy
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, Limits, hash_of, plan_from_json, plan_to_json
from workbench.model.plan_parts import Boundaries, DriftKind, GroupWeight
from workbench.planner.detect import Rule
from workbench.query.load import Source
from workbench.session.cluster import open_cluster
from workbench.session.collect import CollectOptions, collect
from workbench.session.datasets import accesses_bytes
from workbench.session.figures import NOT_COMPUTED, compare_figures, figure_claims, numbers_of
from workbench.session.planning import false_claims, source_of
from workbench.session.planning import plan as plan_load
from workbench.session.verify import verify_plan
from workbench.session.wiring import open_catalog
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.model.plan import Plan
    from workbench.session.cluster import ClusterView

GROUPS = (GroupWeight(1), GroupWeight(2, 3))
CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "robust": ("hot-range", 4_000, {}),
    "exact": ("hot-range", 4_000, {"policy": "exact"}),
    "windows": ("hot-range", 4_000, {"source": Source.LOAD_WINDOW}),
    "hot key": ("hot-key", 4_000, {"rule": Rule(20.0)}),
    "groups": ("hot-range", 4_000, {"limits": Limits(4, 0.1, groups=GROUPS)}),
    "rows": (
        "hot-range",
        4_000,
        {
            "limits": Limits(
                5,
                0.05,
                forbidden=(Span(b"user/00001", b"user/00002"),),
                boundaries=Boundaries(prefix_bytes=12),
            )
        },
    ),
    "least load": ("hot-range", 4_000, {"limits": Limits(4, 0.1, min_span_load=200)}),
    "nothing": ("uniform", 4_000, {"limits": Limits(0, 0.1)}),
    "front": ("moving-front", 6_000, {}),
    "phases": ("diurnal", 20_000, {"limits": Limits(11, 0.05)}),  # four cycles in two hours
}


def view_of(folder: Path, name: str, accesses: int) -> ClusterView:
    trace = folder / "t.parquet"
    trace.write_bytes(accesses_bytes(generate(name, accesses=accesses, seed=1)))
    url = str(folder / "catalog")
    collect(f"trace:{trace}", url, CollectOptions(routes="2", cluster="c"))
    return open_cluster(open_catalog(url), "c")


def made(view: ClusterView, until: str | None = None, **changes: Any) -> Plan:
    since, end = view.window(None, until)
    asked: dict[str, Any] = {
        "since": since,
        "until": end,
        "objective": OBJECTIVES["score"],
        "limits": Limits(5, 0.1),
        "rule": Rule(),
        "backtest": True,
        **changes,
    }
    return plan_load(view, **asked)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if case in {"rows", "groups", "front"} else pytest.mark.slow)
        for case in CASES
    ],
)
def test_every_number_of_a_plan_is_recomputed_by_sql_or_listed_with_a_reason(
    case: str, tmp_path: Path
) -> None:
    name, accesses, changes = CASES[case]
    view = view_of(tmp_path, name, accesses)
    plan = made(view, **changes)
    seen = compare_figures(view, plan, source_of(plan))
    assert seen.differing == ()
    assert seen.unexplained == ()
    numbers = dict(numbers_of(plan_to_json(plan)))
    computed = numbers.keys() & seen.computed.keys()
    assert len(computed) > len(numbers) / 4
    assert all(NOT_COMPUTED.values())
    assert false_claims(view, plan) == []
    drifts = {"front": DriftKind.MOVING_FRONT, "phases": DriftKind.CYCLIC}
    assert (None if plan.drift is None else plan.drift.kind) == drifts.get(case)


def tampered(plan: Plan, path: str, rng: random.Random) -> Plan:
    """The plan with one other number, and the hash of what it says then."""
    document = copy.deepcopy(plan_to_json(plan))
    place: Any = document
    steps = path.replace("[", ".[").split(".")
    for step in steps[:-1]:
        place = place[int(step[1:-1])] if step.startswith("[") else place[step]
    last: Any = int(steps[-1][1:-1]) if steps[-1].startswith("[") else steps[-1]
    place[last] += rng.choice([-2, -1, 1, 2]) if isinstance(place[last], int) else 0.01
    content = {k: v for k, v in document.items() if k not in {"plan_id", "content_hash"}}
    digest = hash_of(content)
    return plan_from_json({**content, "plan_id": digest[:16], "content_hash": digest}, "a test")


def check_changes(folder: Path, changes: int) -> None:
    view = view_of(folder, "hot-range", 1_000)
    plan = made(view, limits=Limits(3, 0.1, groups=GROUPS))
    rng = random.Random(3)
    computed = compare_figures(view, plan, source_of(plan)).computed
    paths = [path for path, _ in numbers_of(plan_to_json(plan)) if path in computed]
    of_backtest = [path for path in paths if "backtest" in path]
    assert len(of_backtest) == 10
    for path in [*rng.sample(of_backtest, 2), *rng.sample(paths, changes)]:
        found = figure_claims(view, tampered(plan, path, rng), source_of(plan))
        assert found, path


def test_sql_tells_of_a_number_that_was_changed(tmp_path: Path) -> None:
    check_changes(tmp_path, 2)


@pytest.mark.slow
def test_sql_tells_of_every_number_that_was_changed(tmp_path: Path) -> None:
    check_changes(tmp_path, 60)


def test_verify_runs_the_packages_own_texts_and_tells_of_others(tmp_path: Path) -> None:
    view = view_of(tmp_path, "hot-range", 1_000)
    plan = made(view, until="50%")
    assert verify_plan(view, plan).false_claims == ()
    assert set(plan.evidence.figures) > {"plan_marks", "plan_spans"}
    other = {**plan.evidence.figures, "plan_marks": "SELECT 1"}
    changed = replace(plan, evidence=replace(plan.evidence, figures=other))
    said = verify_plan(view, changed).false_claims
    assert said == ("the evidence query differs from the package's own",)
    before = replace(plan, given=None, evidence=replace(plan.evidence, figures={}))
    assert verify_plan(view, before).false_claims == ()
    wrong = tampered(plan, "forecast.backtest.max_share_came", random.Random(1))
    assert any("max_share_came" in each for each in verify_plan(view, wrong).false_claims)


def test_the_texts_that_a_plan_carries_give_its_loads_from_the_parquet_itself(
    tmp_path: Path,
) -> None:
    view = view_of(tmp_path, "hot-range", 1_000)
    plan = made(view)
    [path] = {
        path
        for path in tmp_path.rglob("*.parquet")
        if "access" not in path.name
        and b"op" in path.read_bytes()
        and path.name != "t.parquet"
        and set(duckdb.sql(f"FROM '{path}' LIMIT 0").columns) == {"time", "key", "op", "size"}
    }
    routes = [(r.span.start, r.span.end) for r in plan.routes_after]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE VIEW access AS FROM '{path}'")
        connection.execute(
            "CREATE TABLE atom AS "
            + plan.evidence.sql.replace("$since", "$since::TIMESTAMPTZ").replace(
                "$until", "$until::TIMESTAMPTZ"
            ),
            dict(plan.evidence.parameters),
        )
        connection.execute(
            "CREATE TABLE span (list VARCHAR, position INT, span_start BLOB, span_end BLOB)"
        )
        for index, (start, end) in enumerate(routes):
            connection.execute("INSERT INTO span VALUES ('after', ?, ?, ?)", [index, start, end])
        rows = connection.sql(plan.evidence.figures["plan_spans"]).fetchall()
    assert [load for _, _, load in rows] == [route.load for route in plan.routes_after]


def test_numbers_of_finds_every_number_and_nothing_else() -> None:
    found = dict(numbers_of({"a": [1, {"b": 2.5}], "c": True, "d": None, "e": "7"}))
    assert found == {"a[0]": 1, "a[1].b": 2.5}
    assert math.isclose(found["a[1].b"], 2.5)


def test_documents_of_before_there_were_figures_keep_their_bytes(tmp_path: Path) -> None:
    view = view_of(tmp_path, "hot-range", 1_000)
    plan = made(view)
    assert plan.backtest is not None
    assert plan.backtest_exact is not None
    before = replace(
        plan,
        given=None,
        evidence=replace(plan.evidence, figures={}),
        backtest=replace(plan.backtest, cuts=None),
        backtest_exact=replace(plan.backtest_exact, cuts=None),
    )
    document = plan_to_json(before)
    assert "drift" not in document
    assert "figures" not in document["evidence"]
    assert "cuts" not in document["forecast"]["backtest"]
    read = plan_from_json(document, "a test")
    assert read.content_hash == document["content_hash"]
    assert plan_to_json(read) == document
    assert false_claims(view, read) == []
    assert figure_claims(view, read, source_of(read)) == []
