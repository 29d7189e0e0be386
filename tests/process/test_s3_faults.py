"""S3 through a proxy that misbehaves: each fault has one meaning, and True is always true."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.s3_servers import Act, moto, proxy
from workbench.errors import OutcomeUnknown, Storage, Unavailable
from workbench.stores import s3
from workbench.stores.s3 import S3Store

SLOW_DOWN = Act(status=503, code="SlowDown")
GATEWAY = Act(status=503)

_serials = itertools.count()


@pytest.fixture(scope="module")
def server():
    with moto() as one:
        one.make_bucket("faults")
        yield one


@pytest.fixture(scope="module")
def between(server):
    with proxy(server) as one:
        yield one


@pytest.fixture(scope="module")
def shared(between):
    """Its connections are every test's: making them takes 0.1 s."""
    one = S3Store("s3://faults", options=between.options())
    one.list_after("nothing/")
    yield one
    one.close()


@pytest.fixture
def store(shared, between, monkeypatch):
    monkeypatch.setattr(s3, "PAUSE_SECONDS", 0.001)
    store = S3Store(f"s3://faults/run-{next(_serials)}")
    store._client_of_process = shared._client()
    store.put_if_absent("there", b"0123456789")
    between.reset()
    yield store
    between.reset()


def methods(between):
    return [request.method for request in between.requests]


# --- how many requests


def test_every_call_is_one_request(store, between):
    for call in (
        lambda: store.get("there"),
        lambda: store.get_range("there", 2, 3),
        lambda: store.put_if_absent("new", b"1"),
        lambda: store.put_if_absent("there", b"1"),
        lambda: store.replace("hint", b"1"),
        lambda: store.list_after(""),
        lambda: store.list_entries("", "there"),
        lambda: store.size_of("there"),
        lambda: store.delete("new"),
    ):
        between.reset()
        call()
        assert len(between.requests) == 1


def test_conditional_put_says_so_and_is_one_whole_body(store, between):
    assert store.put_if_absent("big", b"x" * 6_000_000)
    [request] = between.requests
    assert request.headers["if-none-match"] == "*"
    assert len(request.body) == 6_000_000
    assert "uploads" not in request.query


def test_wave_is_one_request_per_object_and_many_at_a_time(store, between):
    keys = [f"w/{number}" for number in range(150)]
    store._run("write", "w", lambda client: puts(store, client, keys))
    between.reset()
    assert store.get_many(keys) == [key.encode() for key in keys]
    assert len(between.requests) == len(keys)
    assert 8 <= between.in_flight_max <= 64


async def puts(store, client, keys):
    await asyncio.gather(*(store._create(client, key, key.encode()) for key in keys))


def test_listing_of_999_keys_is_one_request(store, between):
    keys = [f"l/{number:04d}" for number in range(999)]
    page = (
        "<ListBucketResult><IsTruncated>false</IsTruncated>"
        + "".join(
            f"<Contents><Key>{store._place.prefix}{key}</Key><Size>1</Size>"
            "<LastModified>2026-11-21T00:00:00.000Z</LastModified></Contents>"
            for key in keys
        )
        + "</ListBucketResult>"
    )
    between.acts.append(Act(status=200, body=page.encode()))
    assert store.list_after("l/") == keys
    assert len(between.requests) == 1


# --- answers


def test_503_twice_and_then_it_works(store, between):
    for call, expected in (
        (lambda: store.get("there"), b"0123456789"),
        (lambda: store.get_range("there", 1, 2), b"12"),
        (lambda: store.get_many(["there"]), [b"0123456789"]),
        (lambda: store.list_after(""), ["there"]),
        (lambda: store.put_if_absent("new", b"1"), True),
        (lambda: store.delete("new"), None),
    ):
        between.reset()
        between.acts.extend([SLOW_DOWN, SLOW_DOWN])
        assert call() == expected
        assert len(between.requests) == 3


@pytest.mark.parametrize(
    "act", [SLOW_DOWN, Act(status=429, code="TooManyRequests")], ids=["503", "429"]
)
def test_server_that_stays_busy_is_unavailable_after_three_attempts(store, between, act):
    for call in (
        lambda: store.get("there"),
        lambda: store.list_after(""),
        lambda: store.put_if_absent("new", b"1"),
        lambda: store.delete("there"),
    ):
        between.reset()
        between.choose = lambda _: act
        with pytest.raises(Unavailable) as caught:
            call()
        assert caught.value.code == "store_unavailable"
        assert caught.value.retryable
        assert between.endpoint in caught.value.hint
        assert len(between.requests) == 3
    between.reset()
    assert store.list_after("") == ["there"]


@pytest.mark.parametrize("act", [GATEWAY, Act(status=500, code="InternalError"), Act(status=502)])
@pytest.mark.parametrize("landed", [False, True])
def test_server_error_leaves_a_put_unknown_and_is_not_repeated(store, between, act, landed):
    between.acts.append(Act(status=act.status, code=act.code, landed=landed))
    with pytest.raises(OutcomeUnknown) as caught:
        store.put_if_absent("new", b"1")
    assert caught.value.code == "store_outcome_unknown"
    assert methods(between) == ["PUT"]
    assert (store.list_after("new") == ["new"]) is landed


def test_server_error_on_a_read_is_asked_again(store, between):
    between.acts.extend([Act(status=500, code="InternalError"), GATEWAY])
    assert store.get("there") == b"0123456789"


@pytest.mark.parametrize("code", ["PreconditionFailed", "Whatever", ""])
def test_412_is_false_whatever_its_body(store, between, code):
    between.acts.append(Act(status=412, code=code))
    assert store.put_if_absent("new", b"1") is False
    assert len(between.requests) == 1


def test_409_is_asked_again_and_settled_by_looking(store, between):
    conflict = Act(status=409, code="ConditionalRequestConflict")
    between.acts.append(conflict)
    assert store.put_if_absent("new", b"1") is True
    between.reset()
    between.choose = lambda request: conflict if request.method == "PUT" else Act()
    assert store.put_if_absent("there", b"1") is False
    with pytest.raises(Unavailable):
        store.put_if_absent("absent", b"1")
    between.reset()
    assert store.list_after("absent") == []


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", "store_permission"),
        (403, "SignatureDoesNotMatch", "store_permission"),
        (403, "", "store_permission"),
        (400, "ExpiredToken", "store_permission"),
        (404, "NoSuchBucket", "store_absent"),
        (400, "AuthorizationHeaderMalformed", "store_region_wrong"),
        (400, "InvalidRequest", "store_failed"),
        (501, "NotImplemented", "store_not_conditional"),
        (507, "XMinioStorageFull", "store_full"),
    ],
)
def test_refusal_is_a_storage_error_with_its_code_and_a_hint(
    store, between, status, code, expected
):
    between.choose = lambda _: Act(status=status, code=code)
    with pytest.raises(Storage) as caught:
        store.put_if_absent("new", b"1")
    assert caught.value.code == expected
    assert caught.value.hint
    assert str(status) in caught.value.message
    assert methods(between).count("PUT") <= 2  # botocore looks for the region once


# --- bodies


def test_body_that_ends_early_is_read_again(store, between):
    for call, expected in (
        (lambda: store.get("there"), b"0123456789"),
        (lambda: store.get_range("there", 1, 8), b"12345678"),
        (lambda: store.get_many(["there", "there"]), [b"0123456789"] * 2),
    ):
        between.reset()
        between.acts.append(Act(cut=4))
        assert call() == expected
    between.choose = lambda _: Act(cut=4)
    with pytest.raises(Unavailable):
        store.get("there")


def test_flipped_bit_on_the_way_is_found_by_the_checksum(store, between):
    between.acts.append(Act(flip=True))
    assert store.get("there") == b"0123456789"
    assert len(between.requests) == 2


def test_short_range_that_claims_to_be_whole_is_read_again(store, between):
    between.acts.append(Act(lie=3))
    assert store.get_range("there", 1, 8) == b"12345678"
    assert len(between.requests) == 2


def test_server_that_ignores_range_is_understood(store, between):
    between.choose = lambda _: Act(ignore_range=True)
    assert store.get_range("there", 2, 3) == b"234"
    assert store.get_range("there", 8, 5) == b"89"
    assert store.get_range("there", 20, 5) == b""


def test_listing_that_goes_on_nowhere_is_refused(store, between):
    page = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    between.acts.append(Act(status=200, body=page))
    with pytest.raises(Storage) as caught:
        store.list_after("")
    assert caught.value.code == "store_listing_broken"


# --- lost answers


def test_put_whose_answer_is_lost_is_never_true(store, between):
    """aiohttp sends it a second time, which then meets the first one: False, by one's own hand."""
    between.acts.append(Act(drop=True))
    assert store.put_if_absent("new", b"mine") is False
    assert methods(between) == ["PUT", "PUT"]
    assert store.get("new") == b"mine"
    between.reset()
    between.acts.extend([Act(drop=True), Act(drop=True)])
    with pytest.raises(OutcomeUnknown) as caught:
        store.put_if_absent("other", b"mine")
    assert caught.value.code == "store_outcome_unknown"
    assert store.get("other") == b"mine"


def test_put_that_never_arrives_is_never_true(store, between):
    between.choose = lambda _: Act(forward=False, drop=True)
    with pytest.raises(OutcomeUnknown):
        store.put_if_absent("new", b"mine")
    between.reset()
    assert store.list_after("new") == []


def test_read_whose_answer_is_lost_is_asked_again(store, between):
    between.acts.append(Act(drop=True))
    assert store.get("there") == b"0123456789"


def test_answer_that_takes_too_long_is_given_up(between, store):
    slow = S3Store(
        store.url,
        options=between.options(
            config_kwargs={"read_timeout": 0.2, "retries": {"total_max_attempts": 2}}
        ),
    )
    assert slow.get("there") == b"0123456789"
    between.reset()
    between.choose = lambda _: Act(hold=True)
    with pytest.raises(Unavailable):
        slow.get("there")
    assert methods(between) == ["GET", "GET"]
    with pytest.raises(OutcomeUnknown):
        slow.put_if_absent("slow", b"1")
    assert methods(between) == ["GET", "GET", "PUT"]
    between.released.set()
    slow.close()
