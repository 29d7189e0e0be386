"""Appends that build on a known number of rows: one of two writers wins, never both."""

from __future__ import annotations

import pytest
from unit.test_catalog_commit import interleave, rows, writer_on
from unit.test_catalog_faults import create, numbers, once, reopen

from workbench.catalog.catalog import Registration, Write
from workbench.errors import Conflict, InvalidArgument
from workbench.model.manifest import schema_fingerprint
from workbench.stores.memory import MemoryStore


@pytest.fixture
def inner():
    store = MemoryStore()
    create(store).commit([Write("a", numbers(1))])
    return store


def append(value, expected, name="a"):
    return Write(name, numbers(value), "append", expected_rows=expected)


def test_append_that_builds_on_the_registered_rows_is_kept(inner):
    [answer] = reopen(inner).commit([append(2, 1)])
    assert answer.manifest.row_count == 2
    assert rows(inner) == [1, 2]


@pytest.mark.parametrize("expected", [0, 2])
def test_append_that_builds_on_other_rows_changes_nothing(inner, expected):
    with pytest.raises(Conflict) as caught:
        reopen(inner).commit([append(2, expected), Write("b", numbers(5))])
    assert caught.value.code == "dataset_changed"
    assert "has 1 rows" in caught.value.message
    assert rows(inner) == [1]
    assert [each.name for each in reopen(inner).list()] == ["a"]


def test_absent_dataset_has_zero_rows(inner):
    catalog = reopen(inner)
    with pytest.raises(Conflict):
        catalog.commit([append(2, 1, name="b")])
    [answer] = catalog.commit([append(2, 0, name="b")])
    assert not answer.existing
    assert rows(inner, "b") == [2]


def test_dataset_that_was_never_counted_is_no_known_number_of_rows(inner):
    catalog = reopen(inner)
    [known] = catalog.list("a")
    fingerprint = schema_fingerprint(numbers(1).schema)
    catalog.register([Registration("c", fingerprint, known.objects)])
    with pytest.raises(Conflict) as caught:
        catalog.commit([append(2, 0, name="c")])
    assert "uncounted rows" in caught.value.message


def test_loser_of_a_race_is_told_so_and_removes_its_upload(inner):
    one, store = writer_on(inner)
    other = reopen(inner, seed=8)
    interleave(store, lambda: other.commit([append(3, 1)]))
    with pytest.raises(Conflict) as caught:
        one.commit([append(2, 1)])
    assert caught.value.code == "dataset_changed"
    assert rows(inner) == [1, 3]
    assert len(inner.list_after("data/")) == 2


def test_race_over_another_dataset_does_not_matter(inner):
    one, store = writer_on(inner)
    other = reopen(inner, seed=8)
    interleave(store, lambda: other.commit([Write("b", numbers(9))]))
    one.commit([append(2, 1)])
    assert rows(inner) == [1, 2]


@pytest.mark.parametrize("fault", ["landed", "landed_storage", "landed_false"])
def test_own_record_whose_answer_was_lost_is_not_taken_for_another_writer(inner, fault):
    one, _ = writer_on(inner, once("put", "log/", fault))
    one.commit([append(2, 1)])
    assert rows(inner) == [1, 2]


@pytest.mark.parametrize(("mode", "expected"), [("replace", 1), ("create", 0), ("append", -1)])
def test_expectation_that_means_nothing_is_refused(inner, mode, expected):
    with pytest.raises(InvalidArgument) as caught:
        reopen(inner).commit([Write("a", numbers(2), mode, expected_rows=expected)])
    assert caught.value.code == "expected_rows_invalid"
