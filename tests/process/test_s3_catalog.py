"""A catalog in a bucket: commits, races and lost answers end as they do on a local disk."""

from __future__ import annotations

import itertools
import threading

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.s3_servers import Act, moto, proxy
from workbench.catalog import reading
from workbench.catalog.audit import audit
from workbench.catalog.catalog import Catalog, Write
from workbench.catalog.layout import LOG_PREFIX
from workbench.errors import AlreadyExists, NotFound, Storage, Unavailable
from workbench.session.system import SystemClock, SystemRng
from workbench.stores import s3
from workbench.stores.open import open_store
from workbench.stores.probe import probe_place
from workbench.stores.s3 import S3Store

_serials = itertools.count()


@pytest.fixture(scope="module")
def between():
    with moto() as server, proxy(server) as one:
        server.make_bucket("catalogs")
        yield one


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(s3, "PAUSE_SECONDS", 0.001)


@pytest.fixture(scope="module")
def shared(between):
    """Its connections are every test's: making them takes 0.1 s."""
    one = S3Store("s3://catalogs", options=between.options())
    one.list_after("nothing/")
    yield one
    one.close()


@pytest.fixture
def store(between, shared):
    between.reset()
    one = S3Store(f"s3://catalogs/run-{next(_serials)}")
    one._client_of_process = shared._client()
    yield one
    between.reset()


def another(store, between):
    """A second client of the same place."""
    return S3Store(store.url, options=between.options())


def create(store):
    return Catalog.create(store, clock=SystemClock(), rng=SystemRng(), writer="test")


def reopen(store):
    return Catalog.open(store, clock=SystemClock(), rng=SystemRng(), writer="test")


def rows(catalog, name="d"):
    return sorted(catalog.read(name)["n"].to_pylist())


def append(catalog, number, name="d"):
    return catalog.commit([Write(name, pa.table({"n": [number]}), mode="append")])


def test_catalog_is_created_written_opened_and_verified(store, between):
    probe_place(store, SystemRng().uuid())
    catalog = create(store)
    for number in range(5):
        [answer] = append(catalog, number)
        assert answer.written
    other = another(store, between)
    assert rows(reopen(other)) == list(range(5))
    assert reopen(other).seq == 5
    assert audit(other).problems == ()
    with pytest.raises(AlreadyExists):
        create(other)
    other.close()


def test_place_without_a_catalog_is_told_from_an_absent_bucket(store, between):
    with pytest.raises(NotFound) as caught:
        reopen(store)
    assert caught.value.code == "catalog_absent"
    absent = S3Store("s3://no-such-bucket/x", options=between.options())
    for call in (create, reopen):
        with pytest.raises(Storage) as caught:
            call(absent)
        assert caught.value.code == "store_absent"
    absent.close()


def test_two_writers_lose_nothing_and_write_nothing_twice(store, between):
    create(store)
    stores = [another(store, between) for _ in range(2)]
    catalogs = [reopen(one) for one in stores]

    def run(who):
        for number in range(6):
            append(catalogs[who], who * 100 + number)

    threads = [threading.Thread(target=run, args=(who,)) for who in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(reopen(store)) == [*range(6), *range(100, 106)]
    assert len(store.list_after(LOG_PREFIX)) == 12
    assert audit(store).problems == ()
    for one in stores:
        one.close()


LOST = Act(drop=True)
PLANTED = {
    "answer lost once": [LOST],
    "answer lost twice": [LOST, LOST],
    "never arrived": [Act(forward=False, drop=True)] * 2,
    "500 after landing": [Act(status=500, code="InternalError", landed=True)],
    "500 before landing": [Act(status=500, code="InternalError")],
    "gateway after landing": [Act(status=504, landed=True)],
    "busy four times": [Act(status=503, code="SlowDown")] * 4,
    "conflict": [Act(status=409, code="ConditionalRequestConflict")],
    "412 of one's own": [Act(status=412, code="PreconditionFailed", landed=True)],
}


@pytest.mark.parametrize("what", ["/log/", "/data/"])
@pytest.mark.parametrize("fault", PLANTED)
def test_commit_whose_put_fails_is_there_exactly_once(store, between, fault, what):
    catalog = create(store)
    append(catalog, 0)
    acts = iter(PLANTED[fault])

    def choose(request):
        if request.method == "PUT" and what in request.path:
            return next(acts, Act())
        return Act()

    between.choose = choose
    [answer] = append(catalog, 1)
    assert answer.written
    assert next(acts, None) is None, "the fault was never met"
    between.reset()
    fresh = reopen(store)
    assert rows(fresh) == [0, 1]
    assert fresh.seq == catalog.seq == 2


def test_store_that_goes_away_changes_nothing_and_comes_back(store, between):
    catalog = create(store)
    append(catalog, 0)
    between.choose = lambda _: Act(status=403, code="AccessDenied")
    with pytest.raises(Storage) as caught:
        append(catalog, 1)
    assert caught.value.code == "store_permission"
    between.reset()
    assert rows(catalog) == [0]
    append(catalog, 2)
    assert rows(reopen(store)) == [0, 2]


def test_damage_on_the_way_is_never_taken_for_the_catalog(store, between):
    catalog = create(store)
    append(catalog, 0)
    between.choose = lambda request: Act(flip="/log/" in request.path)
    with pytest.raises(Unavailable) as caught:
        reopen(store)
    assert "checksum" in caught.value.message


def test_object_that_is_not_read_whole_is_scanned_by_pyarrow_in_ranges(store, between, monkeypatch):
    monkeypatch.setattr(reading, "WHOLE_BYTES_MAX", 1000)
    catalog = create(store)
    catalog.commit([Write("large", pa.table({"n": range(300_000)}))])
    [ref] = catalog.get("large").objects
    assert ref.size > reading.WHOLE_BYTES_MAX
    between.reset()
    dataset = catalog.dataset("large")
    found = dataset.to_table(filter=pc.field("n") >= 299_997)
    assert found["n"].to_pylist() == [299_997, 299_998, 299_999]
    gets = [request for request in between.requests if request.method == "GET"]
    assert gets
    assert all("range" in request.headers for request in gets)


def test_url_and_environment_are_all_that_a_reader_needs(store, between, monkeypatch):
    append(create(store), 7)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": between.endpoint,
    }.items():
        monkeypatch.setenv(name, value)
    other = open_store(f"{store.url}/", create=False)
    assert rows(reopen(other)) == [7]
    other.close()
