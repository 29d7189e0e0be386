"""obstore as an extra: what is said without it, and what its one error for all becomes."""

from __future__ import annotations

import sys

import pytest

from workbench.errors import InvalidArgument, NotFound, OutcomeUnknown, Storage, Unavailable
from workbench.stores.open import open_store

obstore = pytest.importorskip("obstore")


@pytest.fixture
def store(monkeypatch):
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    return open_store("obstore+s3://bucket/x", create=True)


def planted(error):
    def fail(*_arguments, **_options):
        raise error

    return fail


def test_without_the_extra_opening_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(InvalidArgument) as caught:
        open_store("obstore+s3://bucket/x", create=True)
    assert caught.value.code == "store_package_missing"
    assert "pip install 'hotspot-workbench[obstore]'" in caught.value.hint


def test_profile_that_obstore_cannot_use_is_refused(monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_PROFILE", "work")
    with pytest.raises(InvalidArgument) as caught:
        open_store("obstore+s3://bucket/x", create=True)
    assert caught.value.code == "store_configuration"
    assert "s3://" in caught.value.hint


def test_existing_key_is_false_and_a_409_of_an_absent_one_is_not(store, monkeypatch):
    taken = obstore.exceptions.AlreadyExistsError
    monkeypatch.setattr(obstore, "put", planted(taken("412 Precondition Failed")))
    assert store.put_if_absent("k", b"1") is False
    monkeypatch.setattr(obstore, "put", planted(taken("409 Conflict")))
    monkeypatch.setattr(obstore, "head", planted(FileNotFoundError("k")))
    with pytest.raises(Unavailable):
        store.put_if_absent("k", b"1")
    monkeypatch.setattr(obstore, "head", lambda *_: {"size": 1})
    assert store.put_if_absent("k", b"1") is False


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (obstore.exceptions.GenericError("operation timed out"), OutcomeUnknown),
        (obstore.exceptions.GenericError("503 Service Unavailable"), OutcomeUnknown),
        (obstore.exceptions.GenericError("error trying to connect: refused"), Unavailable),
        (obstore.exceptions.PermissionDeniedError("403"), Storage),
        (obstore.exceptions.UnauthenticatedError("401"), Storage),
        (obstore.exceptions.NotSupportedError("conditional put"), Storage),
        (FileNotFoundError("NoSuchBucket"), Storage),
    ],
)
def test_failed_put_is_unknown_unless_it_says_otherwise(store, monkeypatch, error, expected):
    monkeypatch.setattr(obstore, "put", planted(error))
    for call in (lambda: store.put_if_absent("k", b"1"), lambda: store.replace("k", b"1")):
        with pytest.raises(expected) as caught:
            call()
        assert caught.value.hint
        assert caught.value.__cause__ is error


def test_failed_read_is_unavailable_or_not_found(store, monkeypatch):
    monkeypatch.setattr(obstore, "get", planted(obstore.exceptions.GenericError("broken")))
    with pytest.raises(Unavailable):
        store.get("k")
    monkeypatch.setattr(obstore, "get", planted(FileNotFoundError("NoSuchKey")))
    with pytest.raises(NotFound):
        store.get("k")
    monkeypatch.setattr(obstore, "get", planted(FileNotFoundError("<Code>NoSuchBucket</Code>")))
    with pytest.raises(Storage) as caught:
        store.get("k")
    assert caught.value.code == "store_absent"


def test_store_of_a_parent_process_is_refused(store, monkeypatch):
    monkeypatch.setattr(store, "_pid", -1)
    with pytest.raises(Storage) as caught:
        store.list_after("")
    assert caught.value.code == "store_forked"


def test_closed_port_is_unavailable(store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    quick = type(store)("obstore+s3://bucket/x", options={"retry_config": {"max_retries": 0}})
    with pytest.raises(Unavailable):
        quick.get("k")
    with pytest.raises(Unavailable):
        quick.put_if_absent("k", b"1")
