"""S3 that cannot be reached, or not by us: what one is told, and what to do about it."""

from __future__ import annotations

import os

import pytest

from tests.s3_servers import closed_port, enforce_credentials, moto, options_for
from workbench.errors import InvalidArgument, NotFound, Storage, Unavailable
from workbench.stores import s3
from workbench.stores.open import open_store
from workbench.stores.s3 import S3Store


@pytest.fixture(scope="module")
def server():
    with moto() as one:
        one.make_bucket("faults")
        yield one


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(s3, "PAUSE_SECONDS", 0.001)


# --- nobody there, and nobody we know


def test_closed_port_is_unavailable_and_the_hint_names_the_endpoint():
    endpoint = f"http://127.0.0.1:{closed_port()}"
    store = S3Store("s3://faults", options=options_for(endpoint))
    for call in (
        lambda: store.get("k"),
        lambda: store.get_many(["k"]),
        lambda: store.put_if_absent("k", b"1"),
        lambda: store.list_after(""),
    ):
        with pytest.raises(Unavailable) as caught:
            call()
        assert caught.value.code == "store_unavailable"
        assert endpoint in caught.value.hint
    store.close()


def test_name_that_does_not_resolve_is_unavailable():
    store = S3Store("s3://faults", options=options_for("http://nowhere.invalid:9"))
    with pytest.raises(Unavailable) as caught:
        store.put_if_absent("k", b"1")
    assert "nowhere.invalid" in caught.value.hint
    store.close()


def test_endpoint_that_is_none_is_a_wrong_argument():
    store = S3Store("s3://faults", options=options_for("localhost:9000"))
    with pytest.raises(InvalidArgument) as caught:
        store.get("k")
    assert caught.value.code == "store_configuration"
    assert "AWS_ENDPOINT_URL" in caught.value.hint


def test_option_that_nobody_knows_is_a_wrong_argument(server):
    store = S3Store("s3://faults", options=server.options(colour="red"))
    with pytest.raises(InvalidArgument) as caught:
        store.get("k")
    assert "colour" in caught.value.message


def test_wrong_credentials_are_refused_with_a_hint(server):
    store = S3Store("s3://faults", options=server.options())
    with enforce_credentials(server):
        for call in (
            lambda: store.get("k"),
            lambda: store.get_many(["k"]),
            lambda: store.put_if_absent("k", b"1"),
            lambda: store.list_after(""),
            lambda: store.delete("k"),
            lambda: store.size_of("k"),
        ):
            with pytest.raises(Storage) as caught:
                call()
            assert caught.value.code == "store_permission"
            assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    store.close()


def test_no_credentials_at_all_are_refused_with_a_hint(server, monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    store = open_store("s3://faults/none", create=True)
    with pytest.raises(Storage) as caught:
        store.get("k")
    assert caught.value.code == "store_permission"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(Storage) as caught:
        open_store("s3://faults/none", create=True).get("k")
    assert caught.value.code == "store_permission"
    assert "nobody" in caught.value.message


def test_absent_bucket_is_not_an_absent_object(server):
    store = S3Store("s3://no-such-bucket/x", options=server.options())
    for call in (
        lambda: store.get("k"),
        lambda: store.get_many(["k"]),
        lambda: store.get_range("k", 0, 1),
        lambda: store.put_if_absent("k", b"1"),
        lambda: store.replace("k", b"1"),
        lambda: store.list_after(""),
    ):
        with pytest.raises(Storage) as caught:
            call()
        assert caught.value.code == "store_absent"
        assert "bucket" in caught.value.hint
    store.close()


def test_environment_alone_reaches_a_server(server, monkeypatch):
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    store = open_store("s3://faults/environment/", create=False)
    assert store.url == "s3://faults/environment"
    assert store.put_if_absent("k", b"1")
    with store.open_native("k") as file:
        assert file.read() == b"1"
    with pytest.raises(NotFound):
        store.get("other")
    assert store._client().files.client_kwargs == {"region_name": "us-east-1"}
    store.close()
