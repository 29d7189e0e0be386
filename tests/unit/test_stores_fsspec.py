"""Other filesystems of fsspec: which are refused by name, and what their errors become."""

from __future__ import annotations

import uuid

import fsspec
import fsspec.implementations.memory
import pytest

from workbench.errors import InvalidArgument, NotFound, OutcomeUnknown, Storage, Unavailable
from workbench.stores.fsspec_store import FsspecStore
from workbench.stores.open import open_store
from workbench.stores.probe import probe


class Answer(Exception):  # noqa: N818  # a library's own error
    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status = status


class Planted(fsspec.implementations.memory.MemoryFileSystem):
    """A filesystem that keeps objects in memory, and fails as it is told."""

    protocol = "planted"
    store = {}  # noqa: RUF012  # as its base
    pseudo_dirs = [""]  # noqa: RUF012
    error = None
    ignores_mode = False

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("planted://"))

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        self.check()
        if self.ignores_mode:
            mode = "overwrite"
        return super().pipe_file(path, value, mode=mode, **kwargs)

    def cat_file(self, path, start=None, end=None, **kwargs):
        self.check()
        return super().cat_file(path, start=start, end=end, **kwargs)

    def find(self, *arguments, **options):
        self.check()
        return super().find(*arguments, **options)

    def check(self):
        if self.error is not None:
            raise self.error


@pytest.fixture
def store(monkeypatch):
    fsspec.register_implementation("planted", Planted, clobber=True)
    monkeypatch.setattr(Planted, "store", {})
    monkeypatch.setattr(Planted, "error", None)
    monkeypatch.setattr(Planted, "ignores_mode", False)
    return open_store("fsspec+planted://bucket/prefix/", create=True)


def test_objects_lie_below_bucket_and_prefix(store):
    store.put_if_absent("a/k", b"1")
    assert list(Planted.store) == ["/bucket/prefix/a/k"]
    assert store.url == "fsspec+planted://bucket/prefix"


@pytest.mark.parametrize(
    "protocol", ["file", "local", "sftp", "smb", "ftp", "hdfs", "http", "simplecache", "dir", "s3"]
)
def test_protocol_that_cannot_hold_a_catalog_is_refused_by_name(protocol):
    with pytest.raises(InvalidArgument) as caught:
        open_store(f"fsspec+{protocol}://bucket/x", create=True)
    assert caught.value.code == "store_scheme_unfit"
    assert protocol in caught.value.message


def test_package_that_is_missing_is_named(monkeypatch):
    def absent(*_arguments, **_options):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(InvalidArgument) as caught:
        open_store("gs://bucket/x", create=True)
    assert caught.value.code == "store_package_missing"
    assert "gcsfs" in str(caught.value)


def test_protocol_that_fsspec_does_not_know_is_refused():
    with pytest.raises(InvalidArgument) as caught:
        open_store("fsspec+nonsense://bucket/x", create=True)
    assert caught.value.code == "store_configuration"


def test_filesystem_that_ignores_the_mode_is_refused_by_the_probe(store, monkeypatch):
    monkeypatch.setattr(Planted, "ignores_mode", True)
    with pytest.raises(Storage) as caught:
        probe(store, uuid.UUID(int=1))
    assert caught.value.code == "store_not_conditional"


@pytest.mark.parametrize("error", [FileExistsError("there"), Answer(412)])
def test_taken_key_is_false_however_it_is_said(store, monkeypatch, error):
    monkeypatch.setattr(Planted, "error", error)
    assert store.put_if_absent("k", b"1") is False


def test_status_is_found_below_a_translated_error(store, monkeypatch):
    outer = OSError(22, "precondition")
    outer.__cause__ = Answer(412)
    monkeypatch.setattr(Planted, "error", outer)
    assert store.put_if_absent("k", b"1") is False


@pytest.mark.parametrize(
    ("error", "write", "read"),
    [
        (TimeoutError("slow"), OutcomeUnknown, Unavailable),
        (ConnectionResetError("gone"), OutcomeUnknown, Unavailable),
        (Answer(503), OutcomeUnknown, Unavailable),
        (Answer(409), OutcomeUnknown, Unavailable),
        (OSError(5, "anything"), OutcomeUnknown, Unavailable),
        (PermissionError("no"), Storage, Storage),
        (Answer(403), Storage, Storage),
        (FileNotFoundError("bucket"), Storage, NotFound),
        (NotImplementedError("mode"), Storage, Storage),
    ],
)
def test_failure_of_a_write_is_unknown_unless_it_says_otherwise(
    store, monkeypatch, error, write, read
):
    store.put_if_absent("k", b"1")
    monkeypatch.setattr(Planted, "error", error)
    for call in (lambda: store.put_if_absent("n", b"1"), lambda: store.replace("k", b"1")):
        with pytest.raises(write) as caught:
            call()
        assert caught.value.hint
        assert caught.value.__cause__ is error
    with pytest.raises(read):
        store.get("k")
    with pytest.raises(read):
        store.get_many(["k"])


def test_store_that_tells_no_times_lists_but_gives_no_entries(store, monkeypatch):
    store.put_if_absent("k", b"1")
    find = Planted.find

    def timeless(self, *arguments, **options):
        found = find(self, *arguments, **options)
        return {path: info | {"created": None} for path, info in found.items()}

    monkeypatch.setattr(Planted, "find", timeless)
    assert store.list_after("") == ["k"]
    with pytest.raises(Storage) as caught:
        store.list_entries("")
    assert caught.value.code == "store_without_times"


@pytest.mark.parametrize(
    "time", [1_780_000_000, "2026-05-28T20:26:40+00:00", "2026-05-28T20:26:40"]
)
def test_times_are_read_as_utc_whatever_their_form(store, monkeypatch, time):
    store.put_if_absent("k", b"1")
    find = Planted.find

    def timed(self, *arguments, **options):
        found = find(self, *arguments, **options)
        return {path: info | {"created": None, "mtime": time} for path, info in found.items()}

    monkeypatch.setattr(Planted, "find", timed)
    [entry] = store.list_entries("")
    assert entry.modified.isoformat() == "2026-05-28T20:26:40+00:00"


def test_two_stores_share_no_instance():
    one = FsspecStore("fsspec+memory://one")
    assert one._files is not FsspecStore("fsspec+memory://one")._files
