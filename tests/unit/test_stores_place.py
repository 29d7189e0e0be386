"""URLs of remote stores: what they may hold, and that no secret in one is ever shown."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InvalidArgument
from workbench.stores.open import open_store
from workbench.stores.place import parse_place, shown
from workbench.stores.s3_options import s3_options


@pytest.mark.parametrize(
    ("url", "bucket", "prefix", "canonical"),
    [
        ("s3://bucket", "bucket", "", "s3://bucket"),
        ("s3://bucket/", "bucket", "", "s3://bucket"),
        ("s3://bucket//", "bucket", "", "s3://bucket"),
        ("s3://my.bucket-1/a/b", "my.bucket-1", "a/b/", "s3://my.bucket-1/a/b"),
        ("s3://bucket/a/b/", "bucket", "a/b/", "s3://bucket/a/b"),
        ("gs://Bucket_1/x=1", "Bucket_1", "x=1/", "gs://Bucket_1/x=1"),
        ("obstore+s3://bucket/a", "bucket", "a/", "obstore+s3://bucket/a"),
    ],
)
def test_slashes_around_a_path_do_not_count(url, bucket, prefix, canonical):
    place = parse_place(url)
    assert (place.bucket, place.prefix, place.url) == (bucket, prefix, canonical)
    assert parse_place(place.url) == place


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:secret@bucket/x",
        "s3://AKIA:sec/ret@bucket/x",
        "s3://secret@bucket/x",
        "s3://bucket:9000/x",
        "gs://user:secret@bucket",
        "obstore+s3://AKIA:secret@bucket",
        "fsspec+memory://user:secret@bucket",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_shown(url):
    with pytest.raises(InvalidArgument) as caught:
        open_store(url, create=True)
    assert caught.value.code == "store_url_credentials"
    for secret in ("secret", "sec/", "AKIA"):
        assert secret not in str(caught.value)
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


@pytest.mark.parametrize("url", ["gopher://me:secret@host/x", "file://me:secret@host"])
def test_a_refused_scheme_shows_no_secret_either(url):
    with pytest.raises(InvalidArgument) as caught:
        open_store(url, create=True)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///x",
        "s3://ab/x",
        "s3://Bucket/x",
        "s3://under_score/x",
        "s3://127.0.0.1/x",
        "s3://dots..dots/x",
        f"s3://{'b' * 64}/x",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "s3://bucket/a/./b",
        "s3://bucket/a b",
        "s3://bucket/a%20b",
        "s3://bucket/a\0b",
        "s3://bucket/é",
        f"s3://bucket/{'x' * 513}",
        "s3://bucket/x?endpoint_url=http://evil",
        "s3://bucket/x#y",
        "gs://bucket with space/x",
        f"gs://{'b' * 223}",
    ],
)
def test_url_that_names_no_place_is_refused_with_a_hint(url):
    with pytest.raises(InvalidArgument) as caught:
        open_store(url, create=True)
    assert caught.value.code == "store_url_invalid"
    assert caught.value.hint


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="@")))
def test_nothing_before_the_last_at_is_shown(before, after):
    assert shown(f"s3://{before}@{after}").startswith("s3://…@")
    assert shown(f"s3://{before}@{after}") == shown(f"s3://@{after}")


def test_long_urls_are_cut_in_messages():
    assert len(shown("s3://bucket/" + "x" * 10_000)) == 256


def test_scheme_is_read_in_any_case():
    assert open_store("S3://bucket/x", create=True).url == "s3://bucket/x"


def test_opening_a_local_store_loads_no_library_of_a_remote_one():
    script = (
        "import sys, workbench.stores.open as o\n"
        "o.open_store('memory://x', create=True)\n"
        "o.open_store('absent-folder-of-a-test', create=True)\n"
        "remote = {'s3fs', 'fsspec', 'obstore', 'botocore', 'aiobotocore', 'aiohttp'}\n"
        "print(sorted(remote & set(sys.modules)))\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert outcome.stdout.strip() == "[]"


# --- options of S3


def test_limits_of_ours_hold_where_the_user_says_nothing():
    options = s3_options({}, {})
    config = options.arguments["config_kwargs"]
    assert (config["connect_timeout"], config["read_timeout"]) == (5, 30)
    assert config["max_pool_connections"] == 64
    assert options.attempts == 3
    assert options.is_plain
    assert options.arguments["client_kwargs"] == {}


def test_what_the_user_set_wins():
    options = s3_options(
        {
            "key": "k",
            "client_kwargs": {"region_name": "eu-west-1"},
            "config_kwargs": {"read_timeout": 7},
        },
        {"AWS_REGION": "us-west-2"},
    )
    assert options.arguments["key"] == "k"
    assert options.arguments["client_kwargs"] == {"region_name": "eu-west-1"}
    assert options.arguments["config_kwargs"]["read_timeout"] == 7
    assert options.arguments["config_kwargs"]["connect_timeout"] == 5


def test_region_comes_from_aws_region_which_botocore_does_not_read():
    assert s3_options({}, {"AWS_REGION": "eu-west-1"}).arguments["client_kwargs"] == {
        "region_name": "eu-west-1"
    }


@pytest.mark.parametrize(
    ("retries", "variable", "attempts"),
    [
        (None, None, 3),
        (None, "5", 5),
        (None, "many", 3),
        ({"total_max_attempts": 2}, "5", 2),
        ({"max_attempts": 2}, None, 3),
        ({"max_attempts": 0}, None, 1),
        ({"total_max_attempts": 1000}, None, 10),
    ],
)
def test_attempts_are_ours_and_the_client_never_repeats(retries, variable, attempts):
    configured = {"config_kwargs": {"retries": retries}} if retries else {}
    environment = {"AWS_MAX_ATTEMPTS": variable} if variable else {}
    options = s3_options(configured, environment)
    assert options.attempts == attempts
    assert options.arguments["config_kwargs"]["retries"]["total_max_attempts"] == 1


def test_instances_and_listings_are_never_shared():
    options = s3_options({"skip_instance_cache": False, "use_listings_cache": True}, {})
    assert options.arguments["skip_instance_cache"] is True
    assert options.arguments["use_listings_cache"] is False


@pytest.mark.parametrize(
    "configured",
    [
        {"requester_pays": True},
        {"s3_additional_kwargs": {"SSECustomerKey": "x"}},
        {"client_kwargs": {"verify": False}},
        {"config_kwargs": {"proxies": {}}},
        {"anon": True},
    ],
)
def test_options_that_another_client_lacks_are_not_plain(configured):
    assert not s3_options(configured, {}).is_plain
