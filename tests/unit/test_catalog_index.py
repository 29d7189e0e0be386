"""The index of manifests does what a dict would, over an Arrow table that is decoded when asked."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.test_catalog_faults import START

from workbench.catalog.index import Draft, Index, Rows
from workbench.catalog.record import MANIFEST_SCHEMA, manifest_of, manifest_row
from workbench.errors import Corruption
from workbench.model.manifest import Manifest, ObjectRef, dataset_id_of

NAMES = st.sampled_from(["a", "a/b", "a/c", "aa", "b", "b/1", "c", "z.y", "Z"])


def manifest(name, version=0, objects=1):
    refs = tuple(
        ObjectRef(f"data/{name}/{version}-{n}", n, f"{n:064x}", n, START, START)
        for n in range(objects)
    )
    return Manifest(
        dataset_id=dataset_id_of(name),
        name=name,
        schema_fingerprint="f",
        objects=refs,
        created_at=START,
        updated_at=START,
        row_count=version,
        properties={"v": str(version), "ü": "\0"},
    )


def over(manifests):
    """Return an index whose base is a table, as a checkpoint gives it."""
    rows = [manifest_row(one) for _, one in sorted(manifests.items())]
    return Index.over(Rows.of(pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA), "key"))


@pytest.fixture(autouse=True)
def _few_changes_are_carried_along(monkeypatch):
    monkeypatch.setattr("workbench.catalog.index.REBASE_CHANGES", 2)


@given(
    base=st.dictionaries(NAMES, st.integers(0, 3)),
    steps=st.lists(st.dictionaries(NAMES, st.none() | st.integers(0, 3)), max_size=5),
    packed=st.integers(0, 5),
    prefix=st.sampled_from(["", "a", "a/", "b/1", "zz", "é"]),
)
@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_index_is_a_dict_whatever_is_laid_over_its_base(base, steps, packed, prefix):
    model = {name: manifest(name, version, version) for name, version in base.items()}
    index, seen = over(model), []
    for number, step in enumerate(steps):
        if number == packed:
            index.table()  # as for a checkpoint
        seen.append((index, dict(model)))
        changes = {
            name: None if version is None else manifest(name, version, version)
            for name, version in step.items()
        }
        index = index.updated(changes)
        model.update({k: v for k, v in changes.items() if v is not None})
        for name in (k for k, v in changes.items() if v is None):
            model.pop(name, None)
    for each, expected in [*seen, (index, model)]:
        assert dict(each) == expected
        assert list(each) == sorted(expected)
        assert len(each) == len(expected)
        assert each.names(prefix) == sorted(n for n in expected if n.startswith(prefix))
        assert [m.name for m in each.select(prefix)] == each.names(prefix)
        assert {n: n in each for n in ("a", "b", "no", 3)} == {
            n: n in expected for n in ("a", "b", "no", 3)
        }
        assert over(expected).table() == each.table(), "as a checkpoint would hold it"
        every = {ref.key for one in expected.values() for ref in one.objects}
        asked = [*every, "data/a/9-9", "data/a/1-0"]
        assert each.referred(asked) == every & set(asked)


@given(
    base=st.dictionaries(NAMES, st.integers(0, 2)),
    steps=st.lists(st.tuples(NAMES, st.none() | st.integers(0, 2)), max_size=8),
)
@settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_draft_changes_as_a_dict_does_and_leaves_its_index_alone(base, steps):
    model = {name: manifest(name, version) for name, version in base.items()}
    index, before = over(model), dict(model)
    draft = Draft(index)
    for name, version in steps:
        if version is not None:
            draft[name] = model[name] = manifest(name, version)
        elif name in model:
            del draft[name], model[name]
        else:
            with pytest.raises(KeyError):
                del draft[name]
        assert draft.get(name) == model.get(name)
        keys = [ref.key for one in model.values() for ref in one.objects]
        assert draft.referred([*keys, "x"]) == set(keys)
    assert dict(draft) == model
    assert len(draft) == len(model)
    assert dict(draft.done()) == model
    assert dict(index) == before


def test_a_row_is_decoded_once_and_only_when_it_is_asked_for(monkeypatch):
    index = over({name: manifest(name) for name in ("a", "b", "c")})
    decoded = []

    def noting(row, key):
        decoded.append(row["name"])
        return manifest_of(row, key)

    monkeypatch.setattr("workbench.catalog.index.manifest_of", noting)
    assert len(index) == 3
    assert "b" in index
    assert index.names() == ["a", "b", "c"]
    assert index.referred(["data/c/0-0"]) == {"data/c/0-0"}
    assert decoded == []
    assert index["b"] is index["b"]
    assert decoded == ["b"]
    assert index.updated({"a": None})["b"] is index["b"], "the base is shared"
    assert len(index.select("")) == 3
    assert sorted(decoded) == ["a", "b", "c"]


def test_a_row_whose_id_does_not_fit_its_name_is_corruption_when_it_is_asked_for():
    bad = replace(manifest("b"), dataset_id=uuid.UUID(int=1))
    index = over({"a": manifest("a"), "b": bad})
    assert index["a"] == manifest("a")
    with pytest.raises(Corruption, match="its name has the id"):
        index["b"]


def test_a_prefix_of_a_large_base_is_decoded_in_pieces(monkeypatch):
    monkeypatch.setattr("workbench.catalog.index.DECODE_ROWS", 7)
    every = {f"d/{n:03d}": manifest(f"d/{n:03d}", n) for n in range(50)}
    index = over(every).updated({"d/010": None, "e": manifest("e")})
    assert [m.row_count for m in index.select("d/0")] == [n for n in range(50) if n != 10]
    assert index.select("e") == [manifest("e")]
