"""What a watcher is told from the catalog group's rows: deltas, their floor, every version kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engines import MemoryEngine

from workbench.client.routes import RouteCache
from workbench.errors import Corruption, InvalidInput, NotFound, Unavailable
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor
from workbench.model.times import hlc_of_ms
from workbench.mvcc.encoding import version_key
from workbench.node import wire
from workbench.node.proto import distribution_pb2 as distribution
from workbench.ports.consensus import LogEntry
from workbench.replica import catalog as catalog_module
from workbench.replica.commands import (
    Bootstrap,
    CatalogDeltas,
    ListCatalogVersion,
    OwnedSpan,
    ReadDeltas,
    SplitDone,
    SplitRange,
)
from workbench.replica.entry import encode_command, encode_entry
from workbench.replica.layout import VERSIONS, family
from workbench.replica.replica import Replica
from workbench.routing.records import MutationOp, RouteDelta, RouteMutation, delta_key
from workbench.routing.table import RouteTable

WHOLE = Span(b"", None)
KEPT = 4


class Catalog:
    """A catalog group, and every table that it has had."""

    def __init__(self):
        self.engine = MemoryEngine()
        self.replica = Replica(1, self.engine, is_catalog=True)
        self.index = 0
        self.tables = {}
        self.apply(Bootstrap((OwnedSpan(WHOLE, 1),), (RouteDescriptor(1, WHOLE, 1),)))

    def apply(self, *commands):
        self.index += 1
        stamped = [(hlc_of_ms(self.index, at), each) for at, each in enumerate(commands, 1)]
        data = encode_entry(
            hlc_of_ms(self.index + 1), [(at, encode_command(each)) for at, each in stamped]
        )
        results = self.replica.apply(LogEntry(self.index, 1, data))
        self.tables[self.replica.catalog.version] = self.replica.catalog
        return results

    def split(self, *keys):
        """Split at these keys, all in one entry."""
        commands = []
        version, table = self.replica.catalog.version, RouteCache()
        table.replace(self.replica.catalog)
        for key in keys:
            route = table.table.lookup(key)
            commands.append(SplitRange(version, route.route_id, key))
            first = max(each.route_id for each in table.table.routes) + 1
            left = replace(route, route_id=first, span=Span(route.span.start, key))
            right = replace(route, route_id=first + 1, span=Span(key, route.span.end))
            others = [each for each in table.table.routes if each != route]
            version += 1
            table.replace(RouteTable(version, (*others, left, right)))
        assert all(isinstance(each, SplitDone) for each in self.apply(*commands))

    def deltas(self, after, limit=100):
        found = self.replica.read(ReadDeltas(after, limit))
        assert isinstance(found, CatalogDeltas)
        return found

    def at(self, version):
        listing = self.replica.read(ListCatalogVersion(version))
        assert listing.version == version
        return RouteTable(listing.version, listing.routes)


@pytest.fixture
def catalog(monkeypatch):
    monkeypatch.setattr(catalog_module, "DELTAS_MAX", KEPT)
    return Catalog()


def test_deltas_lead_from_every_version_kept_to_the_newest_and_no_further_back(catalog):
    for number in range(10):
        catalog.split(bytes([number + 1]))
    found = catalog.deltas(11)
    assert (found.version, found.floor, found.deltas) == (11, 11 - KEPT, ())
    for after in range(12):
        deltas = catalog.deltas(after).deltas
        assert bool(deltas) == (11 - KEPT <= after < 11)
        cache = RouteCache()
        if deltas:
            cache.replace(catalog.tables[after])
            assert all(cache.apply(each) for each in deltas)
            assert cache.table == catalog.tables[11]
    assert [each.version for each in catalog.deltas(7, 2).deltas] == [8, 9]


def test_versions_of_one_entry_are_told_one_by_one_also_after_a_restart(catalog):
    catalog.split(b"b", b"d", b"f")
    assert [each.version for each in catalog.deltas(1).deltas] == [2, 3, 4]
    catalog.replica = Replica(1, catalog.engine, is_catalog=True)
    assert [len(catalog.at(version).routes) for version in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert catalog.at(3).lookup(b"e").span == Span(b"d", None)


def test_every_version_kept_is_read_as_it_was(catalog):
    for number in range(10):
        catalog.split(bytes([number + 1]))
    for version in range(11 - KEPT, 12):
        assert catalog.at(version) == catalog.tables[version]
    with pytest.raises(NotFound) as gone:
        catalog.at(11 - KEPT - 1)
    assert gone.value.code == "catalog_version_not_kept"
    with pytest.raises(Unavailable) as ahead:
        catalog.at(12)
    assert ahead.value.code == "catalog_version_ahead"


def test_a_cursor_ahead_is_refused_and_a_hole_is_corruption(catalog):
    for number in range(4):
        catalog.split(bytes([number + 1]))
    with pytest.raises(InvalidInput) as ahead:
        catalog.deltas(6)
    assert ahead.value.code == "watch_cursor_ahead"
    prefix = version_key(family(1, VERSIONS), delta_key(4), 0)[:-8]
    for key in [key for key in catalog.engine.rows if key.startswith(prefix)]:
        catalog.engine.write([(key, None)])
    assert [each.version for each in catalog.deltas(4).deltas] == [5]
    with pytest.raises(Corruption) as hole:
        catalog.deltas(2)
    assert hole.value.code == "delta_missing"


def test_a_group_without_the_catalog_has_none():
    replica = Replica(2, MemoryEngine(), is_catalog=False)
    for read in (ReadDeltas(0, 1), ListCatalogVersion(1)):
        with pytest.raises(Unavailable) as absent:
            replica.read(read)
        assert absent.value.code == "catalog_absent"


# --- deltas on the wire

LEFT = RouteDescriptor(2, Span(b"", b"m"), 1, parent_route_id=1, split_at_hlc=7)
RIGHT = replace(LEFT, route_id=3, span=Span(b"m", None))
DELTA = RouteDelta(
    1,
    2,
    (
        RouteMutation(MutationOp.DELETE, 1, None),
        RouteMutation(MutationOp.UPSERT, 2, LEFT),
        RouteMutation(MutationOp.UPSERT, 3, RIGHT),
    ),
)


def test_a_delta_comes_back_from_its_message():
    message = wire.delta_message(DELTA)
    assert wire.delta_of(message) == DELTA
    assert not message.mutations[0].HasField("route")


@pytest.mark.parametrize(
    ("field", "value"), [("op", 0), ("op", 3), ("route_id", 0), ("route_id", 9)]
)
def test_a_delta_with_a_mutation_that_is_none_is_refused(field, value):
    message = wire.delta_message(DELTA)
    setattr(message.mutations[1], field, value)
    with pytest.raises(InvalidInput) as refused:
        wire.delta_of(message)
    assert refused.value.code == "delta_invalid"


def test_a_delta_without_its_route_twice_the_same_or_backwards_is_refused():
    lacking = wire.delta_message(DELTA)
    lacking.mutations[1].ClearField("route")
    twice = wire.delta_message(DELTA)
    twice.mutations.append(twice.mutations[2])
    backwards = wire.delta_message(replace(DELTA, previous_version=2))
    strange = wire.delta_message(DELTA)
    strange.mutations[1].route.state = distribution.ROUTE_STATE_UNSPECIFIED
    codes = []
    for message in (lacking, twice, backwards, strange):
        with pytest.raises(InvalidInput) as refused:
            wire.delta_of(message)
        codes.append(refused.value.code)
    assert codes == ["delta_invalid"] * 3 + ["route_state_unknown"]


def test_where_calls_go_comes_back_from_the_status_detail():
    detail = wire.moved_detail(4, "127.0.0.1:7", "elsewhere")
    moved = wire.moved_of([("other", "x"), (wire.DETAILS_KEY, detail)])
    assert (moved.group, moved.address) == (4, "127.0.0.1:7")
    for metadata in (None, [], [(wire.DETAILS_KEY, b"\xff")], [(wire.DETAILS_KEY, "text")]):
        assert wire.moved_of(metadata) is None
