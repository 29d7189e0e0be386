"""The ObjectStore contract, on every store that is there."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.fs
import pytest

from workbench.errors import InvalidArgument, InvalidInput, NotFound, OutcomeUnknown, Storage
from workbench.session.system import SystemClock
from workbench.stores import local
from workbench.stores.local import TEMPORARY, LocalStore
from workbench.stores.memory import MemoryStore
from workbench.stores.open import open_store


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return LocalStore(tmp_path / "root", create=True) if request.param == "local" else MemoryStore()


HOSTILE_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a//b",
    "a/",
    ".",
    "a/./b",
    "a\0b",
    "a b",
    "a'b",
    'a"; DROP',
    "a\nb",
    "é",
    "~tmp/x",
    "a\\b",
    "x" * 1025,
]


def test_replace_creates_and_overwrites_whole(store):
    store.replace("a/hint", b"1")
    assert store.get("a/hint") == b"1"
    store.replace("a/hint", b"22")
    assert store.get("a/hint") == b"22"
    assert not store.put_if_absent("a/hint", b"3")
    assert store.get("a/hint") == b"22"
    assert store.list_after("") == ["a/hint"]


def test_entries_tell_size_and_time_of_what_list_after_names(store):
    before = SystemClock().now()
    for number, key in enumerate(["a/1", "a/2", "b"]):
        store.put_if_absent(key, b"x" * number)
    store.replace("a/1", b"longer")
    after = SystemClock().now()
    entries = store.list_entries("a/")
    assert [(entry.key, entry.size) for entry in entries] == [("a/1", 6), ("a/2", 1)]
    slack = timedelta(milliseconds=50)  # a disk's clock ticks coarser than ours
    assert all(before - slack <= entry.modified <= after + slack for entry in entries)
    assert all(entry.modified.utcoffset() == timedelta(0) for entry in entries)
    assert [entry.key for entry in store.list_entries("", "a/1")] == ["a/2", "b"]
    assert store.list_entries("../") == []


def test_memory_store_takes_its_times_from_the_clock_it_is_given():
    times = iter(datetime(2026, 11, day, tzinfo=UTC) for day in (1, 2, 3))
    store = MemoryStore(now=lambda: next(times))
    store.put_if_absent("k", b"1")
    store.put_if_absent("k", b"2")
    assert [entry.modified.day for entry in store.list_entries("")] == [1]
    store.replace("k", b"3")
    assert [entry.modified.day for entry in store.list_entries("")] == [2]
    store.delete("k")
    store.put_if_absent("k", b"4")
    assert [entry.modified.day for entry in store.list_entries("")] == [3]


def test_absent_object_has_no_size_and_cannot_be_opened(store):
    store.put_if_absent("a/b", b"123")
    assert store.size_of("a/b") == 3
    for absent in ("a", "x"):
        assert store.size_of(absent) is None
        with pytest.raises(FileNotFoundError):
            store.open_native(absent)


def test_list_after_is_ascending_by_key_and_strictly_after(store):
    keys = ["a/1", "a/10", "a/2", "a-b", "b/c/d", "b"[:0] + "b/c.e"]
    for key in reversed(keys):
        store.put_if_absent(key, b"")
    assert store.list_after("") == sorted(keys)
    assert store.list_after("a/") == ["a/1", "a/10", "a/2"]
    assert store.list_after("a/1") == ["a/1", "a/10"]
    assert store.list_after("a/", "a/10") == ["a/2"]
    assert store.list_after("b/", "b/c.e") == ["b/c/d"]
    assert store.list_after("nothing/here/") == []
    assert store.list_after("../") == []


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_hostile_key_is_refused_by_every_call(store, key):
    for call in (
        lambda: store.get(key),
        lambda: store.get_many([key]),
        lambda: store.get_range(key, 0, 1),
        lambda: store.put_if_absent(key, b"x"),
        lambda: store.replace(key, b"x"),
        lambda: store.delete(key),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.code == "object_key_invalid"
    assert store.list_after("") == []


def test_filesystem_knows_files_folders_and_absent_paths(store):
    store.put_if_absent("a/b/c", b"123")
    store.put_if_absent("a/d", b"")
    filesystem = store.filesystem()
    kinds = [info.type for info in filesystem.get_file_info(["a", "a/d", "x", "../x", ""])]
    kind = pyarrow.fs.FileType
    assert kinds == [kind.Directory, kind.File, kind.NotFound, kind.NotFound, kind.NotFound]
    flat = filesystem.get_file_info(pyarrow.fs.FileSelector("a"))
    assert [info.path for info in flat] == ["a/b", "a/d"]
    deep = filesystem.get_file_info(pyarrow.fs.FileSelector("", recursive=True))
    assert [info.path for info in deep] == ["a", "a/b", "a/b/c", "a/d"]
    with pytest.raises(FileNotFoundError):
        filesystem.get_file_info(pyarrow.fs.FileSelector("nothing"))


def test_filesystem_cannot_write_delete_or_leave_the_root(store):
    store.put_if_absent("a", b"1")
    filesystem = store.filesystem()
    for call in (
        lambda: filesystem.open_output_stream("b"),
        lambda: filesystem.delete_file("a"),
        lambda: filesystem.create_dir("d"),
        lambda: filesystem.move("a", "b"),
        lambda: filesystem.copy_file("a", "b"),
    ):
        with pytest.raises(Storage) as caught:
            call()
        assert caught.value.code == "store_filesystem_read_only"
    with pytest.raises(FileNotFoundError):
        filesystem.open_input_file("../a")
    assert store.list_after("") == ["a"]


def test_filesystems_are_equal_only_over_the_same_store(store):
    assert store.filesystem() == store.filesystem()
    assert store.filesystem() != MemoryStore().filesystem()


def test_two_memory_stores_of_one_name_share_nothing():
    one, two = MemoryStore("x"), MemoryStore("x")
    one.put_if_absent("k", b"1")
    assert two.list_after("") == []
    assert two.filesystem().get_file_info("k").type == pyarrow.fs.FileType.NotFound


# --- local files


def test_absent_folder_is_refused_unless_it_may_be_created(tmp_path):
    with pytest.raises(NotFound) as caught:
        LocalStore(tmp_path / "no", create=False)
    assert caught.value.code == "store_absent"
    assert "no" in caught.value.message
    assert caught.value.hint


def test_folder_comes_into_being_with_the_first_put_only(tmp_path):
    root = tmp_path / "deep" / "root"
    store = LocalStore(root, create=True)
    assert store.list_after("") == []
    with pytest.raises(NotFound):
        store.get("k")
    store.delete("k")
    assert not (tmp_path / "deep").exists()
    store.put_if_absent("k", b"1")
    assert root.is_dir()
    assert LocalStore(str(root), create=False).get("k") == b"1"


def test_url_of_a_local_store_opens_the_same_folder(tmp_path):
    store = LocalStore(tmp_path / "with space#and%", create=True)
    store.put_if_absent("k", b"1")
    assert store.url.startswith("file:///")
    assert open_store(store.url, create=False).get("k") == b"1"


def test_file_as_root_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for create in (True, False):
        with pytest.raises(Storage) as caught:
            LocalStore(tmp_path / "file", create=create)
        assert caught.value.code == "store_not_a_directory"
    with pytest.raises(Storage) as caught:
        LocalStore(tmp_path / "file" / "below", create=True)
    assert caught.value.code == "store_not_a_directory"


@pytest.mark.parametrize("root", ["", "a\0b"])
def test_impossible_root_is_refused(root):
    with pytest.raises(InvalidArgument) as caught:
        LocalStore(root, create=True)
    assert caught.value.code == "store_path_invalid"


def test_over_long_root_is_a_storage_error():
    with pytest.raises(Storage) as caught:
        LocalStore("x" * 5000, create=True)
    assert caught.value.code == "store_name_too_long"


def test_symbolic_link_out_of_the_root_is_refused_for_reading_and_writing(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    store = LocalStore(tmp_path / "root", create=True)
    store.put_if_absent("a", b"1")
    (tmp_path / "root" / "link").symlink_to(outside)
    (tmp_path / "root" / "file").symlink_to(outside / "secret")
    for call in (
        lambda: store.get("link/secret"),
        lambda: store.get("file"),
        lambda: store.get_range("file", 0, 1),
        lambda: store.put_if_absent("link/new", b"x"),
        lambda: store.replace("link/new", b"x"),
        lambda: store.delete("link/secret"),
        lambda: store.list_after("link/"),
        lambda: store.filesystem().open_input_file("link/secret"),
        lambda: store.filesystem().get_file_info("file"),
    ):
        with pytest.raises(Storage) as caught:
            call()
        assert caught.value.code == "store_path_outside"
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_root_that_is_itself_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = LocalStore(tmp_path / "link", create=False)
    store.put_if_absent("a/b", b"1")
    assert (tmp_path / "real" / "a" / "b").read_bytes() == b"1"


def test_stale_temporary_files_are_never_listed_and_do_no_harm(tmp_path):
    store = LocalStore(tmp_path, create=True)
    store.put_if_absent("a/b", b"1")
    (tmp_path / TEMPORARY / "1-0-stale").write_bytes(b"half")
    (tmp_path / "a" / "~half").write_bytes(b"half")
    assert store.list_after("") == ["a/b"]
    assert store.put_if_absent("a/c", b"2")
    assert store.list_after("a/") == ["a/b", "a/c"]


def test_no_temporary_file_stays_behind_a_put_won_or_lost(tmp_path):
    store = LocalStore(tmp_path, create=True)
    store.put_if_absent("k", b"1")
    store.put_if_absent("k", b"2")
    assert list((tmp_path / TEMPORARY).iterdir()) == []


def test_key_below_an_object_or_above_one_is_a_storage_error(tmp_path):
    store = LocalStore(tmp_path, create=True)
    store.put_if_absent("a/b", b"1")
    with pytest.raises(Storage) as caught:
        store.put_if_absent("a/b/c", b"2")
    assert caught.value.code == "store_not_a_directory"
    with pytest.raises(Storage) as caught:
        store.put_if_absent("a", b"2")
    assert caught.value.code == "store_key_is_folder"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "store_full"),
        (errno.EDQUOT, "store_full"),
        (errno.EACCES, "store_permission"),
        (errno.EROFS, "store_read_only"),
        (errno.EIO, "store_failed"),
    ],
)
def test_disk_error_while_writing_becomes_storage_and_leaves_nothing(
    tmp_path, monkeypatch, number, code
):
    store = LocalStore(tmp_path, create=True)
    store.put_if_absent("first", b"1")

    def fail(_descriptor):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(local.os, "fsync", fail)
        with pytest.raises(Storage) as caught:
            store.put_if_absent("k", b"half")
    assert caught.value.code == code
    assert caught.value.hint
    assert "'k'" in caught.value.message
    assert store.list_after("") == ["first"]
    assert list((tmp_path / TEMPORARY).iterdir()) == []


def test_disk_error_after_the_link_is_an_unknown_outcome(tmp_path, monkeypatch):
    store = LocalStore(tmp_path, create=True)
    store.put_if_absent("first", b"1")

    def fail(_folder):
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(local, "_sync_folder", fail)
        with pytest.raises(OutcomeUnknown) as caught:
            store.put_if_absent("k", b"2")
    assert caught.value.code == "store_outcome_unknown"
    assert store.get("k") == b"2"


def test_disk_error_while_replacing_leaves_the_old_object_whole(tmp_path, monkeypatch):
    store = LocalStore(tmp_path, create=True)
    store.replace("hint", b"old")

    def fail(_source, _target):
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(local.os, "replace", fail)
        with pytest.raises(Storage) as caught:
            store.replace("hint", b"new")
    assert caught.value.code == "store_full"
    assert store.get("hint") == b"old"
    assert list((tmp_path / TEMPORARY).iterdir()) == []


def test_replaced_bytes_are_synced_before_they_get_the_name(tmp_path, monkeypatch):
    steps = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(local.os, "fsync", lambda file: (steps.append("fsync"), fsync(file)))
    monkeypatch.setattr(
        local.os, "replace", lambda one, two: (steps.append("replace"), replace(one, two))
    )
    LocalStore(tmp_path, create=True).replace("hint", b"1")
    assert steps == ["fsync", "replace"]


def test_entry_that_is_deleted_meanwhile_is_not_listed(tmp_path, monkeypatch):
    store = LocalStore(tmp_path, create=True)
    for key in ("a", "b"):
        store.put_if_absent(key, b"1")
    keys = store.list_after("")
    store.delete("a")
    monkeypatch.setattr(LocalStore, "list_after", lambda *_: keys)
    assert [entry.key for entry in store.list_entries("")] == ["b"]


def test_put_syncs_the_file_before_and_the_folder_after_the_link(tmp_path, monkeypatch):
    steps = []
    link, fsync = os.link, os.fsync

    def spy_fsync(descriptor):
        steps.append(
            str(Path(f"/proc/self/fd/{descriptor}").readlink()).removeprefix(str(tmp_path))
        )
        fsync(descriptor)

    def spy_link(source, target):
        steps.append("link")
        link(source, target)

    store = LocalStore(tmp_path, create=True)
    monkeypatch.setattr(local.os, "fsync", spy_fsync)
    monkeypatch.setattr(local.os, "link", spy_link)
    store.put_if_absent("a/b/k", b"1")
    assert steps[:2] == ["", "/a"], "new folders are made durable in their parents"
    assert steps[2].startswith(f"/{TEMPORARY}/")
    assert steps[3:] == ["link", "/a/b"]


def test_file_system_without_hard_links_is_named(tmp_path, monkeypatch):
    def fail(_source, _target):
        raise OSError(errno.EPERM, "operation not permitted")

    monkeypatch.setattr(local.os, "link", fail)
    with pytest.raises(Storage) as caught:
        LocalStore(tmp_path, create=True).put_if_absent("k", b"1")
    assert caught.value.code == "store_no_hard_links"


def test_permission_error_while_reading_is_a_storage_error(tmp_path, monkeypatch):
    store = LocalStore(tmp_path, create=True)
    store.put_if_absent("k", b"1")

    def refuse(*_arguments):
        raise PermissionError(errno.EACCES, "permission denied")

    monkeypatch.setattr(local, "open", refuse, raising=False)
    with pytest.raises(Storage) as caught:
        store.get("k")
    assert caught.value.code == "store_permission"


# --- open_store


def test_path_and_file_url_open_the_same_folder(tmp_path: Path):
    open_store(str(tmp_path / "c"), create=True).put_if_absent("k", b"1")
    assert open_store(f"file://{tmp_path}/c", create=False).get("k") == b"1"
    assert open_store(f"file://localhost{tmp_path}/c", create=False).get("k") == b"1"


def test_memory_url_names_one_store_per_process():
    with pytest.raises(NotFound) as caught:
        open_store("memory://test-stores-one", create=False)
    assert caught.value.code == "store_absent"
    store = open_store("memory://test-stores-one", create=True)
    store.put_if_absent("k", b"1")
    assert open_store("memory://test-stores-one", create=False).get("k") == b"1"
    assert open_store("memory://test-stores-two", create=True).list_after("") == []
    assert store.url == "memory://test-stores-one"


@pytest.mark.parametrize("url", ["gopher://x", "HTTP://x/y", "s3a://bucket/x", "hdfs://host/x"])
def test_unknown_scheme_is_refused_with_the_known_ones(url):
    with pytest.raises(InvalidArgument) as caught:
        open_store(url, create=True)
    assert caught.value.code == "store_scheme_unknown"
    assert "file://" in caught.value.hint
    assert "memory://" in caught.value.hint
    assert "s3://" in caught.value.hint


@pytest.mark.parametrize("url", ["file://", "file://elsewhere/x", "file://host"])
def test_file_url_of_another_machine_is_refused(url):
    with pytest.raises(InvalidArgument) as caught:
        open_store(url, create=True)
    assert caught.value.code == "store_url_invalid"


def test_temporary_files_that_killed_writers_left_are_removed_once_they_are_old(tmp_path):
    store, now = LocalStore(tmp_path, create=True), SystemClock().now()
    assert store.remove_temporary(now) == 0
    assert store.put_if_absent("a/b", b"1")
    left = tmp_path / "~tmp" / "1-2-abc"
    left.write_bytes(b"half")
    old = now - timedelta(days=2)
    os.utime(left, (old.timestamp(), old.timestamp()))
    young = tmp_path / "~tmp" / "1-3-abc"
    young.write_bytes(b"half")
    assert store.remove_temporary(now - timedelta(days=1)) == 1
    assert (left.exists(), young.exists()) == (False, True)
    assert store.get("a/b") == b"1"
