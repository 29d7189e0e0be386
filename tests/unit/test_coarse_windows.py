"""Which windows a plan can make little of, and which part of the time is without them."""

from __future__ import annotations

import pytest

from tests.unit.test_query_islands import MINUTE, SCORE, T0
from tests.unit.test_settled import FINE, WHOLE, view_of
from workbench.cli.plan import coarse_sentence
from workbench.model.plan import OBJECTIVES
from workbench.session.coarse import CoarseWindows, coarse_windows

OTHER = [(b"", b"c"), (b"c", b"k"), (b"k", None)]


def coarse(windows, objective=SCORE):
    view = view_of(windows)
    return coarse_windows(view, view.extent.since, view.extent.until, objective)


def test_windows_of_the_same_buckets_are_not_coarse():
    assert coarse([(FINE, 9)] * 4) is None
    assert coarse([(FINE, 9), (WHOLE, 0), (FINE, 9)]) is None


def test_one_coarse_window_is_named_and_the_part_with_more_load_is_proposed():
    at = T0 + 2 * MINUTE
    late = coarse([(FINE, 9)] * 2 + [(WHOLE, 9)] + [(FINE, 9)] * 3)
    assert late == CoarseWindows(((at, at + MINUTE),), (1,), at + MINUTE, T0 + 6 * MINUTE)
    early = coarse([(FINE, 99)] * 2 + [(WHOLE, 9)] + [(FINE, 9)] * 3)
    assert early is not None
    assert (early.since, early.until) == (T0, at)


def test_of_two_leaders_that_cut_otherwise_one_is_left_out():
    found = coarse([(FINE, 9)] * 2 + [(OTHER, 9)] * 3)
    assert found is not None
    assert len(found.windows) == 5
    assert (found.since, found.until) == (T0 + 2 * MINUTE, T0 + 5 * MINUTE)


def test_where_no_even_part_has_load_none_is_proposed():
    found = coarse([(WHOLE, 9), (FINE, 0), (WHOLE, 9)], OBJECTIVES["writes"])
    assert found is not None
    assert (found.since, found.until) == (None, None)


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        (
            [(FINE, 9), (WHOLE, 9), (FINE, 9), (FINE, 9)],
            [
                "1 window tells the load in buckets",
                "(route 1)",
                "between 2026-01-01T00:01:00Z and 2026-01-01T00:02:00Z,",
                "plan without: --since 2026-01-01T00:02:00Z",
            ],
        ),
        (
            [(FINE, 99), (WHOLE, 9), (WHOLE, 9), (FINE, 9)],
            ["2 windows tell the load in", "plan without: --until 2026-01-01T00:01:00Z"],
        ),
    ],
)
def test_the_sentence_names_the_windows_and_the_option_that_leaves_them_out(windows, words):
    found = coarse(windows)
    assert found is not None
    assert all(each in coarse_sentence(found) for each in words)
    nowhere = CoarseWindows(found.windows, (3, 4), None, None)
    assert "routes 3, 4" in coarse_sentence(nowhere)
    assert "collect again" in coarse_sentence(nowhere)
