"""The seed contract line by line, and what the catalog gives back."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import UTC, timedelta

import pyarrow as pa
import pytest
from unit.test_catalog_faults import START, ManualClock, create, numbers, reopen

from workbench.catalog.anchor import encode_anchor
from workbench.catalog.catalog import Registration, Write
from workbench.catalog.layout import FORMAT_KEY, log_key
from workbench.catalog.record import WRITE_BYTES_MAX
from workbench.errors import (
    AlreadyExists,
    FingerprintConflict,
    InvalidArgument,
    InvalidInput,
    NotFound,
)
from workbench.model.manifest import Manifest, ObjectRef
from workbench.stores.local import LocalStore
from workbench.stores.memory import MemoryStore

SHA = "0123456789abcdef" * 4
REF = ObjectRef("data/x/part.parquet", 10, SHA)


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return LocalStore(tmp_path / "root", create=True) if request.param == "local" else MemoryStore()


@pytest.fixture
def catalog(store):
    return create(store)


def keys(store, prefix=""):
    return store.list_after(prefix)


def mixed_table():
    return pa.table(
        {
            "key": pa.array([b"", b"\0\xff", None], pa.binary()),
            "at": pa.array([START, None, START], pa.timestamp("us", "UTC")),
            "reads": pa.array([0, 2**64 - 1, None], pa.uint64()),
        }
    )


# --- create and open


def test_created_catalog_is_one_object_and_opens_with_the_same_uuid(store):
    catalog = create(store)
    assert keys(store) == [FORMAT_KEY]
    assert (catalog.seq, catalog.list()) == (0, [])
    assert catalog.store is store
    opened = reopen(store)
    assert (opened.uuid, opened.seq) == (catalog.uuid, 0)


def test_second_create_is_refused_and_changes_nothing(store):
    create(store)
    before = store.get(FORMAT_KEY)
    with pytest.raises(AlreadyExists) as caught:
        create(store, seed=5)
    assert caught.value.code == "catalog_exists"
    assert store.url in caught.value.message
    assert store.get(FORMAT_KEY) == before


def test_opening_nothing_names_the_place_and_the_way_out(store):
    with pytest.raises(NotFound) as caught:
        reopen(store)
    assert caught.value.code == "catalog_absent"
    assert store.url in caught.value.message
    assert caught.value.hint == "workbench collect or workbench catalog init creates one"
    assert keys(store) == []


def test_other_format_version_is_refused_with_both_versions_named(store):
    store.put_if_absent(FORMAT_KEY, encode_anchor(uuid.UUID(int=1), version=7))
    with pytest.raises(InvalidInput) as caught:
        reopen(store)
    assert caught.value.code == "catalog_format_unsupported"
    assert "version 7" in caught.value.message
    assert "version 1" in caught.value.message


def test_other_id_namespace_is_refused(store):
    store.put_if_absent(FORMAT_KEY, encode_anchor(uuid.UUID(int=1), namespace=uuid.UUID(int=2)))
    with pytest.raises(InvalidInput) as caught:
        reopen(store)
    assert caught.value.code == "catalog_namespace_unsupported"


@pytest.mark.parametrize("writer", ["", "x" * 257, "\ud800"])
def test_writer_that_no_record_can_carry_is_refused(writer):
    with pytest.raises(InvalidArgument) as caught:
        create(MemoryStore(), writer=writer)
    assert caught.value.code == "writer_invalid"


# --- the seed contract


def test_dataset_id_is_uuid5_of_the_name_on_any_machine(catalog):
    [registered] = catalog.register([Registration("load/windows", "f1", (REF,))])
    namespace = uuid.UUID("a8f3c1d2-4e5b-5a6c-9d8e-7f0a1b2c3d4e")
    assert registered.manifest.dataset_id == uuid.uuid5(namespace, "load/windows")


def test_new_name_is_created_with_existing_false(catalog):
    [registered] = catalog.register([Registration("a", "f1", (REF,), 3, {"unit": "ms"})])
    assert (registered.existing, registered.written) == (False, True)
    manifest = registered.manifest
    assert manifest == catalog.get("a")
    assert manifest.created_at == manifest.updated_at
    assert (manifest.objects, manifest.row_count) == ((REF,), 3)
    assert manifest.properties == {"unit": "ms"}
    assert catalog.seq == 1


def test_same_fingerprint_reuses_the_id_replaces_objects_and_bumps_updated_at(catalog):
    [first] = catalog.register([Registration("a", "f1", (REF,), 3)])
    other = ObjectRef("data/y", 20, None)
    [second] = catalog.register([Registration("a", "f1", (other,), 4)])
    assert (second.existing, second.written) == (True, True)
    assert second.manifest.dataset_id == first.manifest.dataset_id
    assert second.manifest.created_at == first.manifest.created_at
    assert second.manifest.updated_at > first.manifest.updated_at
    assert (second.manifest.objects, second.manifest.row_count) == ((other,), 4)
    assert catalog.get("a") == second.manifest


def test_other_fingerprint_conflicts_names_both_and_changes_nothing(catalog, store):
    catalog.register([Registration("a", "f1", (REF,))])
    before = (catalog.list(), keys(store), catalog.seq)
    with pytest.raises(FingerprintConflict) as caught:
        catalog.register([Registration("b", "f1", (REF,)), Registration("a", "f2", (REF,))])
    assert (caught.value.registered, caught.value.offered) == ("f1", "f2")
    assert "'f1'" in caught.value.message
    assert "'f2'" in caught.value.message
    assert (catalog.list(), keys(store), catalog.seq) == before


HOSTILE_NAMES = [
    "",
    "../x",
    "a/../b",
    "/a",
    "a/",
    "a//b",
    ".",
    "a\0b",
    "a'b",
    'a"b',
    "'; DROP TABLE x; --",
    "a b",
    "a\n",
    "ä",
    "\ud800",
    "x" * 257,
    "x" * 10_000,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_name_is_refused_before_anything_is_written(catalog, store, name):
    before = keys(store)
    for call in (
        lambda: catalog.register([Registration(name, "f", (REF,))]),
        lambda: catalog.commit([Write(name, numbers(1))]),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.code == "name_invalid"
        assert len(caught.value.message) < 500
    assert keys(store) == before
    with pytest.raises(NotFound) as absent:
        catalog.get(name)
    assert len(str(absent.value)) < 500


def test_names_at_the_edge_are_accepted(catalog, store):
    names = ["x" * 256, "-", "_._", "a/b/c", "...", "A.b-C_9"]
    catalog.commit([Write(name, numbers(1)) for name in names])
    assert [manifest.name for manifest in catalog.list()] == sorted(names)
    assert not any("x" * 10 in key for key in keys(store)), "names never become keys"


@pytest.mark.parametrize(
    ("registration", "code"),
    [
        (Registration("a", "", (REF,)), "fingerprint_invalid"),
        (Registration("a", "\ud800", (REF,)), "fingerprint_invalid"),
        (Registration("a", "f", (ObjectRef("../x", 1),)), "object_key_invalid"),
        (Registration("a", "f", (ObjectRef("x", -1),)), "object_ref_invalid"),
        (Registration("a", "f", (ObjectRef("x", 1, "F" * 64),)), "object_ref_invalid"),
        (Registration("a", "f", (REF,), -1), "row_count_invalid"),
        (Registration("a", "f", (REF,), 1, {"k": "\udfff"}), "property_invalid"),
        (Registration("a", "f", (REF,), 1, {"k": 3}), "property_invalid"),
    ],
)
def test_registration_that_cannot_be_stored_is_invalid_input(catalog, registration, code):
    with pytest.raises(InvalidInput) as caught:
        catalog.register([Registration("good", "f", ()), registration])
    assert caught.value.code == code
    assert catalog.list() == []


def test_batch_that_names_a_dataset_twice_is_refused(catalog, store):
    for call in (
        lambda: catalog.register([Registration("a", "f", ())] * 2),
        lambda: catalog.commit([Write("a", numbers(1)), Write("a", numbers(2), "append")]),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.code == "dataset_twice_in_batch"
    assert keys(store) == [FORMAT_KEY]


def test_empty_batch_writes_nothing(catalog, store):
    assert catalog.register([]) == []
    assert catalog.commit([]) == []
    assert keys(store) == [FORMAT_KEY]


def test_returned_values_cannot_alias_the_registry(catalog):
    mine = {"unit": "ms"}
    [registered] = catalog.register([Registration("a", "f", (REF,), None, mine)])
    mine["unit"] = "changed"
    for manifest in (registered.manifest, catalog.get("a"), catalog.list()[0]):
        manifest.properties["unit"] = "changed"
        with pytest.raises(dataclasses.FrozenInstanceError):
            manifest.name = "b"
    assert catalog.get("a").properties == {"unit": "ms"}
    catalog.list().clear()
    assert len(catalog.list()) == 1
    assert dataclasses.asdict(catalog.get("a"))["properties"] == {"unit": "ms"}


def test_list_is_sorted_by_name_and_filtered_by_prefix(catalog):
    names = ["b/2", "a", "b/10", "b", "c"]
    catalog.register([Registration(name, "f", ()) for name in names])
    assert [m.name for m in catalog.list()] == ["a", "b", "b/10", "b/2", "c"]
    assert [m.name for m in catalog.list("b/")] == ["b/10", "b/2"]
    assert catalog.list("nothing") == []


def test_absent_dataset_hints_at_close_names_or_at_the_listing(catalog):
    catalog.register([Registration("load/windows", "f", ())])
    with pytest.raises(NotFound) as caught:
        catalog.get("load/window")
    assert caught.value.code == "dataset_absent"
    assert "load/windows" in caught.value.hint
    with pytest.raises(NotFound) as caught:
        catalog.get("something-else")
    assert "workbench catalog ls" in caught.value.hint


def test_batch_of_many_is_one_record(catalog, store):
    answers = catalog.register([Registration(f"d/{n}", "f", (REF,)) for n in range(1000)])
    assert catalog.seq == 1
    assert keys(store) == [FORMAT_KEY, log_key(1)]
    assert len(answers) == 1000
    assert len(store.get(log_key(1))) < WRITE_BYTES_MAX


def test_record_over_the_limit_is_refused_and_nothing_is_left(catalog, store):
    big = "".join(uuid.UUID(int=n * 7919**9 % 2**128).hex for n in range(70_000))
    with pytest.raises(InvalidInput) as caught:
        catalog.commit([Write("a", numbers(1), properties={"big": big})])
    assert caught.value.code == "record_too_large"
    assert str(WRITE_BYTES_MAX) in caught.value.message
    assert keys(store) == [FORMAT_KEY]


# --- idempotency and time


def test_same_registration_again_writes_no_record(catalog, store):
    registration = Registration("a", "f", (REF,), 3, {"unit": "ms"})
    [first] = catalog.register([registration])
    before = keys(store)
    [second] = catalog.register([registration])
    assert (second.existing, second.written) == (True, False)
    assert second.manifest == first.manifest
    assert keys(store) == before


@pytest.mark.parametrize(
    ("registered", "offered", "same"),
    [
        (ObjectRef("k1", 1, SHA), ObjectRef("k2", 1, SHA), True),
        (ObjectRef("k1", 1, SHA), ObjectRef("k1", 1, "f" * 64), False),
        (ObjectRef("k1", 1, SHA), ObjectRef("k1", 2, SHA), False),
        (ObjectRef("k1", 1, None), ObjectRef("k1", 1, SHA), True),
        (ObjectRef("k1", 1, None), ObjectRef("k2", 1, SHA), False),
        (ObjectRef("k1", 1, None), ObjectRef("k1", 1, None), True),
        (ObjectRef("k1", 1, None), ObjectRef("k1", 2, None), False),
    ],
)
def test_objects_are_the_same_by_content_where_known_else_by_key(
    catalog, registered, offered, same
):
    catalog.register([Registration("a", "f", (registered,))])
    [again] = catalog.register([Registration("a", "f", (offered,))])
    assert again.written is not same


def test_changed_properties_or_a_corrected_count_are_written(catalog):
    catalog.register([Registration("a", "f", (REF,), None, {"unit": "ms"})])
    assert catalog.register([Registration("a", "f", (REF,), None, {"unit": "s"})])[0].written
    assert catalog.register([Registration("a", "f", (REF,), 5, {"unit": "s"})])[0].written
    assert not catalog.register([Registration("a", "f", (REF,), None, {"unit": "s"})])[0].written
    assert catalog.get("a").row_count == 5


def test_batch_writes_only_the_datasets_that_changed(catalog, store):
    catalog.commit([Write("a", numbers(1)), Write("b", numbers(2))])
    before = keys(store, "data/")
    a, b = catalog.commit([Write("a", numbers(1)), Write("b", numbers(3))])
    assert (a.written, b.written) == (False, True)
    assert len(keys(store, "data/")) == len(before) + 1


def test_clock_that_runs_backwards_never_makes_an_update_before_the_creation(store):
    clock = ManualClock(step_seconds=-3600)
    catalog = create(store, clock=clock)
    for count in range(4):
        [answer] = catalog.register([Registration("a", "f", (REF,), count)])
        assert answer.manifest.updated_at >= answer.manifest.created_at
        assert answer.manifest.updated_at == START - timedelta(hours=2)
    assert reopen(store).get("a") == catalog.get("a")


def test_times_are_kept_to_the_microsecond_in_utc(store):
    create(store).register([Registration("a", "f", ())])
    created_at = reopen(store).get("a").created_at
    assert created_at == START + timedelta(seconds=2)
    assert created_at.tzinfo is UTC


# --- rehydration


def test_catalog_deleted_from_memory_rehydrates_equal(catalog, store):
    catalog.commit([Write("a", mixed_table(), properties={"unit": "ms", "é": "\0"})])
    catalog.commit([Write("b", numbers(1)), Write("a", mixed_table(), "append")])
    catalog.register([Registration("c", "any text\n☃", (ObjectRef("k", 5), REF), None)])
    before, seq, identity = catalog.list(), catalog.seq, catalog.uuid
    del catalog
    again = reopen(store)
    assert (again.list(), again.seq, again.uuid) == (before, seq, identity)
    assert all(isinstance(manifest, Manifest) for manifest in before)
    assert again.read("a").num_rows == 6


def test_local_and_memory_catalogs_are_byte_for_byte_equal(tmp_path):
    stores = [LocalStore(tmp_path / "x", create=True), MemoryStore()]
    for one in stores:
        catalog = create(one, clock=ManualClock())
        catalog.commit([Write("a", mixed_table()), Write("b", numbers(1))])
        catalog.commit([Write("b", numbers(2), "append")])
    local, memory = ({key: one.get(key) for key in keys(one)} for one in stores)
    assert local == memory
    assert reopen(stores[0]).list() == reopen(stores[1]).list()


def test_refresh_sees_what_another_process_committed(catalog, store):
    other = reopen(store)
    assert other.refresh() == 0
    catalog.commit([Write("a", numbers(1))])
    catalog.commit([Write("b", numbers(1))])
    assert other.list() == []
    assert other.refresh() == 2
    assert other.list() == catalog.list()


def test_verify_of_a_sound_catalog_finds_nothing(catalog):
    catalog.commit([Write("a", mixed_table()), Write("b", numbers())])
    assert catalog.verify() == []
