"""Rules of exported rows against a row by row oracle; exports and restores of any history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fake_history import NOW, ROUTES, FakeHistory, Row, all_rows, empty_like, order, version_table
from fakes import FakeClock, FakeRng
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.catalog.catalog import Catalog
from workbench.errors import OutcomeUnknown, Unavailable
from workbench.session import exporting, restoring, restoring_parts
from workbench.session.exporting import ExportOptions, export_cluster
from workbench.session.exporting_rows import owned_spans, problem_of
from workbench.session.restoring import RestoreOptions, restore_cluster
from workbench.session.restoring_parts import bounds, cut
from workbench.stores.memory import MemoryStore

if TYPE_CHECKING:
    from workbench.model.keys import Span

KEYS = st.sampled_from([b"", b"a", b"a\x00", b"b", b"f\xff", b"g", b"m", b"p", b"s", b"t", b"\xff"])
TIMES = st.integers(NOW - 3, NOW + 1)
VALUES = st.none() | st.binary(max_size=6)
ROWS = st.lists(st.tuples(KEYS, TIMES, VALUES), max_size=8)


def keeps_the_rules(rows: list[Row], spans: tuple[Span, ...], read_ts: int) -> bool:
    places = [order(row) for row in rows]
    return (
        places == sorted(set(places))
        and all(commit_ts <= read_ts for _, commit_ts, _ in rows)
        and all(any(key in span for span in spans) for key, _, _ in rows)
    )


@given(ROWS, st.sampled_from([1, 2, 3]), st.booleans())
@settings(max_examples=400, deadline=None)
def test_the_rules_are_those_of_the_oracle(rows: list[Row], group: int, sorted_first: bool):  # noqa: FBT001
    if sorted_first:
        rows = sorted(rows, key=order)
    spans = owned_spans(ROUTES, group)
    found = problem_of(version_table(group, rows), group, spans, NOW)
    assert (found is None) == keeps_the_rules(rows, spans, NOW)


@given(st.lists(st.tuples(KEYS, TIMES, VALUES), max_size=40), st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_tables_of_a_part_are_its_rows_and_bounded(rows: list[Row], limit: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restoring_parts, "CUT_BYTES", limit)
        table = version_table(1, rows)
        tables = cut(table)
        assert [row for each in tables for row in each.to_pylist()] == table.to_pylist()
        assert len(tables) == len(bounds(table))
        for each in tables:
            sizes = [24 + len(r["key"]) + len(r["value"] or b"") for r in each.to_pylist()]
            assert sizes
            assert sum(sizes[1:]) < limit


@st.composite
def histories(draw: st.DrawFn) -> FakeHistory:
    made = FakeHistory(chunk_rows=draw(st.integers(1, 5)))
    versions = draw(st.dictionaries(st.tuples(KEYS, TIMES), VALUES, max_size=25))
    for (key, commit_ts), value in versions.items():
        group = next(route.group for route in made.routes if key in route.span)
        made.rows.setdefault(group, []).append((key, commit_ts, value))
    return made


def flaky(faults: list[bool]):
    """Fail with the next fault of the list at every call, but never four times in a row."""
    left = iter(faults)

    def on_call(name: str) -> None:
        if next(left, False) and name not in {"snapshot", "timestamp", "routes_at"}:
            if name.endswith(":done"):
                raise OutcomeUnknown("lost", code="deadline_exceeded")
            raise Unavailable("gone", code="node_unreachable")

    return on_call


@given(
    histories(),
    st.integers(1, 600),
    st.integers(20, 300),
    st.lists(st.booleans(), max_size=40),
    st.lists(st.booleans(), max_size=40),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_history_comes_back_through_any_outages(
    source: FakeHistory,
    part_bytes: int,
    cut_bytes: int,
    export_faults: list[bool],
    restore_faults: list[bool],
):
    pauses = (0.0,) * 50
    store, clock, rng = MemoryStore("x"), FakeClock(), FakeRng()
    Catalog.create(store, clock=clock, rng=rng, writer="test")
    target = empty_like(source)
    # Of the empty cluster's own answers, only those of the restore itself are disturbed.
    with pytest.MonkeyPatch.context() as patch:
        for module, system in ((exporting, source), (restoring, target)):
            patch.setattr(
                module,
                "open_catalog",
                lambda _url: Catalog.open(store, clock=clock, rng=rng, writer="test"),
            )
            patch.setattr(module, "open_routes", lambda _url, system=system, **_how: system)
        patch.setattr(restoring_parts, "CUT_BYTES", cut_bytes)
        source.on_call = flaky(export_faults)
        made = ExportOptions(name="a", threads=1, part_bytes=part_bytes, pauses_s=pauses)
        answer = export_cluster("node://a:1", "x", made)
        assert answer.export.rows == len(all_rows(source, NOW))
        disturb = flaky(restore_faults)
        target.on_call = lambda name: disturb(name) if target.restores else None
        options = RestoreOptions(threads=1, check=True, pauses_s=pauses)
        try:
            restore_cluster("a", "node://b:1", "x", options)
        except Unavailable:  # while it only looked, before the first step that is repeated
            target.on_call = lambda _name: None
            restore_cluster("a", "node://b:1", "x", options)
    assert all_rows(target, 2**64) == all_rows(source, NOW)
    assert target.routes == source.routes
