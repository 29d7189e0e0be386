"""Claims about keys that are told beside buckets: named where they alone are the bottleneck."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from tests.unit.plan_mutations import document_of, rehashed
from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, Limits, Plan
from workbench.model.routes import RouteDescriptor, RouteSnapshot
from workbench.model.tables import HOT_KEY, LOAD_WINDOW
from workbench.planner.atoms import Atoms
from workbench.planner.detect import Rule
from workbench.planner.heavy import ToldKeys, heavy_findings
from workbench.query.load import LoadReader
from workbench.session.cluster import ClusterView
from workbench.session.figures import figure_claims
from workbench.session.planning import false_claims, source_of
from workbench.session.planning import plan as plan_load
from workbench.session.remaking import remade_claims

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WINDOWS = 4
ROUTES = (RouteDescriptor(1, Span(b"", b"m"), 1), RouteDescriptor(2, Span(b"m", None), 2))
# First key, end, reads and writes of a window; `hot` is alone in its bucket.
BUCKETS = ((b"", b"hot", 10, 5), (b"hot", b"hot\x00", 300, 100), (b"hot\x00", b"m", 20, 5))
BUCKETS += ((b"m", b"t", 30, 1), (b"t", None, 20, 0))


def load_rows() -> list[dict[str, Any]]:
    return [
        {
            "cluster": "c",
            "window_start": T0 + number * MINUTE,
            "window_end": T0 + (number + 1) * MINUTE,
            "route_id": 1 if start < b"m" else 2,
            "group": 1 if start < b"m" else 2,
            "bucket_start": start,
            "bucket_end": end,
            "reads": reads,
            "writes": writes,
            "read_bytes": 10 * reads,
            "write_bytes": 10 * writes,
            "coverage": 1.0,
        }
        for number in range(WINDOWS)
        for start, end, reads, writes in BUCKETS
    ]


def told_rows(count: int = 400, error: int = 0, rate: float = 1.0, key: bytes = b"hot"):
    return [
        {
            "window_start": T0 + number * MINUTE,
            "window_end": T0 + (number + 1) * MINUTE,
            "route_id": 1,
            "key": key,
            "count": count,
            "error": error,
            "sample_rate": rate,
        }
        for number in range(WINDOWS)
    ]


def view_of(told: list[dict[str, Any]] | None) -> ClusterView:
    extras = {} if told is None else {"hot_key": pa.Table.from_pylist(told, HOT_KEY)}
    load = LoadReader(
        "c", {"load_window": pa.Table.from_pylist(load_rows(), LOAD_WINDOW), **extras}
    )
    return ClusterView("c", RouteSnapshot(1, ROUTES, T0), load, load.extent(), {})


def made(view: ClusterView, **changes: Any) -> Plan:
    asked: dict[str, Any] = {
        "since": T0,
        "until": T0 + WINDOWS * MINUTE,
        "objective": OBJECTIVES["score"],
        "limits": Limits(4, 0.1),
        "rule": Rule(20.0),
        **changes,
    }
    return plan_load(view, **asked)


def hot_keys(plan: Plan) -> list[str]:
    return [each.text for each in plan.findings if each.kind == "hot_key"]


def claims(view: ClusterView, plan: Plan) -> list[str]:
    return (
        false_claims(view, plan)
        or remade_claims(view, plan)
        or figure_claims(view, plan, source_of(plan))
    )


def test_key_that_alone_is_the_bottleneck_is_named_with_its_share_and_what_to_do():
    view = view_of(told_rows())
    plan = made(view)
    [text] = hot_keys(plan)
    # 300 reads and 100 writes of 380 reads and 111 writes: 700 of 824.
    assert text.startswith("key hot alone carries 85.0% of the load (1,600 accesses, nothing else")
    assert "no split makes its route lighter" in text
    assert "spread it over several keys" in text
    assert claims(view, plan) == []


def test_error_bound_of_the_count_widens_the_share():
    [text] = hot_keys(made(view_of(told_rows(error=5))))
    # 395 accesses of 300 reads and 100 writes weigh 300 + 95 x 4 = 680 at the least.
    assert "at least 82.5% of the load (1,580 accesses or more; its bucket carries 85.0%)" in text


def test_unprintable_key_is_escaped():
    atoms, told = Atoms([b""], [10], "bucket"), ToldKeys(((b"\x1b[31m", 10, 0),), {b"": 10})
    weighs = OBJECTIVES["reads"]
    [found] = heavy_findings(told, atoms, weighs, reachable=10, total=10, min_gain=0.1)
    assert "\x1b" not in found.text


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([], id="nothing told"),
        pytest.param(told_rows(count=200), id="the rest of its bucket outweighs it"),
        pytest.param(told_rows(error=300), id="too uncertain"),
        pytest.param(told_rows(rate=0.5), id="sampled"),
        pytest.param(told_rows(key=b"z"), id="more than its bucket has"),
    ],
)
def test_plan_is_the_same_where_nothing_of_note_is_told(told):
    view = view_of(told)
    plan = made(view)
    assert hot_keys(plan) == []
    assert document_of(plan) == document_of(made(view_of(None)))
    assert claims(view, plan) == []


@pytest.mark.parametrize("objective", ["bytes", "reads", "writes"])
def test_what_a_key_weighs_is_told_for_accesses_alone(objective):
    view = view_of(told_rows())
    plan = made(view, objective=OBJECTIVES[objective])
    assert bool(hot_keys(plan)) == (objective != "bytes")
    assert claims(view, plan) == []


@pytest.mark.parametrize("forged", ["less", "more", "other", "moved"])
def test_forged_evidence_of_a_key_is_refused(forged):
    view = view_of(told_rows())
    document = document_of(made(view))
    finding = next(each for each in document["findings"] if each["kind"] == "hot_key")
    if forged == "less":
        document["findings"].remove(finding)
    elif forged == "more":
        document["findings"].append(finding)
    elif forged == "other":
        finding["text"] = finding["text"].replace("key hot", "key hat")
    else:
        finding["text"] = finding["text"].replace("85.0%", "74.4%")
    plan = rehashed(document)
    assert claims(view, plan)
    # Without a plan made anew the verifier counts them by itself.
    assert bool(false_claims(view, plan)) == (forged in {"less", "more"})


def test_load_that_a_key_carries_is_never_told_too_high():
    """Whatever its accesses were, within what its bucket and its error bound allow."""
    chance = random.Random(4)
    for _ in range(300):
        weights = chance.choice([OBJECTIVES[name] for name in ("score", "reads", "writes")])
        reads, writes = chance.randrange(20), chance.randrange(20)
        mine = chance.randrange(reads + 1), chance.randrange(writes + 1)
        true = mine[0] * weights.read_weight + mine[1] * weights.write_weight
        load = reads * weights.read_weight + writes * weights.write_weight
        error = chance.randrange(4)
        told = ToldKeys(
            ((b"k", sum(mine) + error, error + chance.randrange(3)),), {b"": reads + writes}
        )
        for after in (true, true + 1, load + 5):
            # A key with less than `after` is told of only where it is above 90 % of that.
            found = heavy_findings(
                told,
                Atoms([b""], [load], "bucket"),
                weights,
                reachable=after,
                total=99,
                min_gain=0.1,
            )
            assert not found or after - true < 0.1 * after
