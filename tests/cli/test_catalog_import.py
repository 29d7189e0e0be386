"""`workbench catalog register` and `import-legacy`, as scripts and people call them."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unit.test_catalog_legacy import manifest, old_store

from workbench.catalog.legacy import legacy_key
from workbench.stores.local import LocalStore


@pytest.fixture
def catalog(workbench, tmp_path):
    assert workbench("catalog", "init", "--catalog", "cat").status == 0
    return tmp_path / "cat"


def parquet(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def register(workbench, *arguments):
    return workbench("catalog", "register", *arguments, "--catalog", "cat", "--json")


def test_objects_below_the_root_are_registered_with_what_their_files_say(workbench, catalog):
    parquet(catalog / "raw/1.parquet", n=[1, 2])
    parquet(catalog / "raw/2.parquet", n=[3])
    found = register(workbench, "sales", "raw/1.parquet", "raw/2.parquet", "--property", "from=x=y")
    assert found.status == 0, found.err
    answer = found.json
    assert (answer["existing"], answer["written"], answer["uploaded"]) == (False, True, 0)
    assert (answer["objects"], answer["row_count"]) == (2, 3)
    shown = workbench("catalog", "show", "sales", "--catalog", "cat", "--json").json
    assert [each["key"] for each in shown["objects"]] == ["raw/1.parquet", "raw/2.parquet"]
    assert all(each["sha256"] for each in shown["objects"])
    assert shown["properties"] == {"from": "x=y"}
    assert workbench("catalog", "verify", "--catalog", "cat").status == 0


def test_registering_the_same_again_writes_nothing(workbench, catalog, tmp_path):
    parquet(catalog / "raw/1.parquet", n=[1])
    local = parquet(tmp_path / "mine.parquet", n=[1, 2])
    register(workbench, "a", "raw/1.parquet")
    register(workbench, "b", "--from", str(local))
    before = LocalStore(catalog, create=False).list_after("")
    for again in (
        register(workbench, "a", "raw/1.parquet"),
        register(workbench, "b", "--from", str(local)),
    ):
        assert (again.json["existing"], again.json["written"]) == (True, False)
    assert LocalStore(catalog, create=False).list_after("") == before
    said = workbench("catalog", "register", "b", "--from", str(local), "--catalog", "cat")
    assert "already" in said.out


def test_files_of_this_machine_are_uploaded_byte_for_byte(workbench, catalog, tmp_path):
    one = parquet(tmp_path / "1.parquet", n=[1, 2])
    two = parquet(tmp_path / "2.parquet", n=[3])
    answer = register(workbench, "sales", "--from", str(one), "--from", str(two)).json
    assert (answer["uploaded"], answer["row_count"]) == (2, 3)
    assert answer["uploaded_bytes"] == one.stat().st_size + two.stat().st_size
    shown = workbench("catalog", "show", "sales", "--catalog", "cat", "--json").json
    stored = [(catalog / each["key"]).read_bytes() for each in shown["objects"]]
    assert stored == [one.read_bytes(), two.read_bytes()]


def test_a_registered_dataset_gets_the_new_objects(workbench, catalog, tmp_path):
    register(workbench, "a", "--from", str(parquet(tmp_path / "1.parquet", n=[1])))
    two = parquet(tmp_path / "2.parquet", n=[2, 3])
    said = workbench("catalog", "register", "a", "--from", str(two), "--catalog", "cat")
    assert "replaced the objects of a: 1 object," in said.out


def test_another_schema_among_the_files_names_the_columns_that_differ(workbench, catalog, tmp_path):
    one = parquet(tmp_path / "1.parquet", n=[1], gone=["x"])
    two = parquet(tmp_path / "2.parquet", n=["1"], more=[1.5])
    found = register(workbench, "a", "--from", str(one), "--from", str(two))
    assert found.status == 1
    assert found.error["code"] == "schema_differs"
    message = found.error["message"]
    assert "lacks 'gone'" in message
    assert "has 'more' too" in message
    assert "'n' is string, not int64" in message
    assert LocalStore(catalog, create=False).list_after("data/") == []


def test_another_schema_than_registered_is_a_conflict_and_uploads_nothing(
    workbench, catalog, tmp_path
):
    register(workbench, "a", "--from", str(parquet(tmp_path / "1.parquet", n=[1])))
    before = LocalStore(catalog, create=False).list_after("")
    found = register(workbench, "a", "--from", str(parquet(tmp_path / "2.parquet", n=["1"])))
    assert (found.status, found.error["code"]) == (5, "fingerprint_conflict")
    parquet(catalog / "raw/2.parquet", n=["1"])
    found = register(workbench, "a", "raw/2.parquet")
    assert (found.status, found.error["kind"]) == (5, "conflict")
    assert LocalStore(catalog, create=False).list_after("data/") == [
        key for key in before if key.startswith("data/")
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["a", "raw/absent.parquet"], 1, "object_not_found"),
        (["a", "raw/text.parquet"], 1, "object_not_parquet"),
        (["a", "--from", "absent.parquet"], 1, "file_absent"),
        (["a", "--from", "cat/raw/text.parquet"], 1, "object_not_parquet"),
        (["a", "raw/1.parquet", "--row-count", "5"], 1, "row_count_differs"),
        (["a", "raw/1.parquet", "raw/1.parquet"], 1, "object_key_twice"),
        (["a", "_catalog/v1/FORMAT"], 1, "object_key_reserved"),
        (["a", "../outside.parquet"], 1, "object_key_invalid"),
        (["../a", "raw/1.parquet"], 1, "name_invalid"),
        (["a'; DROP\0", "raw/1.parquet"], 1, "name_invalid"),
        (["a" * 10_000, "raw/1.parquet"], 1, "name_invalid"),
        (["a"], 2, "usage"),
        (["a", "raw/1.parquet", "--from", "x"], 2, "usage"),
        (["a", "raw/1.parquet", "--property", "novalue"], 2, "usage"),
    ],
)
def test_what_cannot_be_registered_is_refused_by_name(workbench, catalog, arguments, status, code):
    parquet(catalog / "raw/1.parquet", n=[1])
    (catalog / "raw/text.parquet").write_text("no parquet")
    before = LocalStore(catalog, create=False).list_after("_catalog/")
    found = register(workbench, *arguments)
    assert (found.status, found.error["code"]) == (status, code)
    assert len(found.error["message"]) < 1_000
    assert LocalStore(catalog, create=False).list_after("_catalog/") == before


# --- the old layout


@pytest.fixture
def old(tmp_path):
    store = LocalStore(tmp_path / "old", create=True)
    return old_store(manifest("a/b"), manifest("c", row_count=None), store=store)


def test_an_old_catalog_is_imported_whole_and_again_for_nothing(workbench, catalog, old):
    call = ("catalog", "import-legacy", "old", "--catalog", "cat")
    dry = workbench(*call, "--dry-run", "--json").json
    assert (dry["dry_run"], dry["written"], dry["copied"]) == (True, ["a/b", "c"], 0)
    done = workbench(*call, "--json").json
    assert (done["datasets"], done["written"], done["copied"]) == (["a/b", "c"], ["a/b", "c"], 4)
    again = workbench(*call)
    assert again.status == 0
    assert "imported 0 of 2 datasets" in again.out
    assert "2 are there already" in again.out
    assert workbench("catalog", "verify", "--catalog", "cat").status == 0


def test_an_import_into_the_same_root_refers_to_the_objects(workbench, old):
    assert workbench("catalog", "init", "--catalog", "old").status == 0
    done = workbench("catalog", "import-legacy", "old", "--catalog", "old", "--json").json
    assert (done["referenced"], done["copied"]) == (4, 0)
    assert workbench("catalog", "verify", "--catalog", "old").status == 0


def test_corrupt_manifests_are_all_listed_and_nothing_is_imported(workbench, catalog, old):
    for name in ("a/b", "c"):
        old.replace(legacy_key(name), b"junk")
    found = workbench("catalog", "import-legacy", "old", "--catalog", "cat", "--json")
    assert (found.status, found.error["code"]) == (1, "legacy_manifest_corrupt")
    assert all(legacy_key(name) in found.error["message"] for name in ("a/b", "c"))
    assert workbench("catalog", "ls", "--catalog", "cat", "--json").json["datasets"] == []


def test_missing_objects_are_found_before_anything_is_copied(workbench, catalog, old):
    old.delete("raw/c-2")
    found = workbench("catalog", "import-legacy", "old", "--catalog", "cat", "--json")
    assert "raw/c-2: is missing" in found.error["message"]
    assert LocalStore(catalog, create=False).list_after("data/") == []


def test_unknown_columns_and_keys_are_warned_of(workbench, catalog, old):
    table = pq.read_table(pa.BufferReader(old.get(legacy_key("c"))))
    sink = pa.BufferOutputStream()
    pq.write_table(table.append_column("owner", pa.array(["me"])), sink)
    old.replace(legacy_key("c"), sink.getvalue().to_pybytes())
    old.put_if_absent("_catalog/manifests/README", b"")
    found = workbench("catalog", "import-legacy", "old", "--catalog", "cat")
    assert found.status == 0
    assert "'owner'" in found.err
    assert "_catalog/manifests/README" in found.err


def test_there_is_nothing_to_import_without_manifests_or_catalog(workbench, catalog, tmp_path):
    (tmp_path / "empty").mkdir()
    for source, into, code in (
        ("empty", "cat", "legacy_catalog_absent"),
        ("nowhere", "cat", "store_absent"),
        ("empty", "nowhere", "catalog_absent"),
    ):
        found = workbench("catalog", "import-legacy", source, "--catalog", into, "--json")
        assert (found.status, found.error["code"]) == (1, code)


@pytest.mark.parametrize("path", ["/dev/zero", ".", "pipe"])
def test_what_is_no_regular_file_is_refused_at_once(workbench, catalog, tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    refused = register(workbench, "x", "--from", path)
    assert refused.status == 1
    assert refused.error["code"] == "file_not_regular"
    assert path in refused.error["message"]
