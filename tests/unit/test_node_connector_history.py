"""The node connector's export and restore: what a NodeClient tells, in the words of the ports."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from fake_history import version_table
from workbench_connectors.node import NodeConnector

from workbench.errors import InvalidArgument
from workbench.model.keys import Span
from workbench.model.node import CursorTag, ExportCursor, Member, NodeStatus, RestoreStatus
from workbench.model.routes import RouteSnapshot, seed_routes
from workbench.node.client import ExportChunk
from workbench.ports.connector import Exporter, Restorer, VersionChunk

if TYPE_CHECKING:
    from collections.abc import Iterator

SNAPSHOT = RouteSnapshot(3, seed_routes([b"m"]), datetime(2026, 11, 21, tzinfo=UTC))
ID = b"r" * 16


class Client:
    """Remembers what it was asked, and answers something recognisable."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def status(self) -> NodeStatus:
        members = (Member(1, "a:1", (1, 4)), Member(2, "b:2", (2,)), Member(3, "c:3", ()))
        return NodeStatus("id", 1, 7, "1", (), members, 3, 1_000)

    def timestamp(self) -> int:
        return 77

    def catalog_at(self, read_ts: int) -> RouteSnapshot:
        self.asked.append(("catalog_at", read_ts))
        return SNAPSHOT

    def export(self, group: int, **how: Any) -> Iterator[ExportChunk]:
        self.asked.append(("export", group, how))
        cursor = ExportCursor(b"b", 5, CursorTag.SCANNED)
        yield ExportChunk(
            version_table(group, [(b"a", 5, b"x")]),
            cursor,
            done=False,
            read_ts=9,
            scanned_bytes=100,
        )
        yield ExportChunk(version_table(group, []), cursor, done=True, read_ts=9, scanned_bytes=100)

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any, **how: Any) -> Any:
            self.asked.append((name, *given, how))
            return 4 if name == "save_routes" else RestoreStatus(2, ID, restoring=True)

        return call


@pytest.fixture
def client() -> Client:
    return Client()


def connector(client: Client, *, allow_write: bool = True) -> NodeConnector:
    return NodeConnector(client, ["a:1"], allow_write=allow_write)


def test_it_says_that_it_exports_and_restores(client: Client):
    opened = connector(client)
    assert isinstance(opened, Exporter)
    assert isinstance(opened, Restorer)
    assert (opened.capabilities().export, opened.capabilities().restore) == (True, True)


def test_an_export_is_asked_for_as_it_is_and_told_chunk_by_chunk(client: Client):
    opened = connector(client, allow_write=False)
    assert opened.timestamp() == 77
    assert opened.routes_at(9) is SNAPSHOT
    after = ExportCursor(b"a", 6)
    first, last = opened.export(4, 9, start=b"a", end=b"c", after=after)
    how = {"read_ts": 9, "start": b"a", "end": b"c", "after": after}
    assert client.asked == [("catalog_at", 9), ("export", 4, how)]
    assert isinstance(first, VersionChunk)
    assert (first.table.num_rows, first.done, last.done) == (1, False, True)
    assert first.cursor == ExportCursor(b"b", 5, CursorTag.SCANNED)


def test_groups_are_those_of_all_members(client: Client):
    assert connector(client).groups() == (1, 2, 4)


def test_steps_of_a_restore_are_passed_on(client: Client):
    opened = connector(client)
    spans = [(Span(b"", None), 1)]
    tables = iter([version_table(2, [])])
    for status in (
        opened.restore_status(2),
        opened.restore_begin(2, ID, spans),
        opened.import_rows(2, ID, tables, seq=3),
        opened.restore_end(2, ID),
    ):
        assert status.restore_id == ID
    assert opened.save_routes(ID, SNAPSHOT, expected_version=1) == 4
    assert client.asked == [
        ("restore_status", 2, {}),
        ("restore_begin", 2, ID, spans, {}),
        ("import_rows", 2, ID, tables, {"seq": 3}),
        ("restore_end", 2, ID, {}),
        ("save_routes", ID, {"expected_version": 1, "snapshot": SNAPSHOT}),
    ]


def test_nothing_is_restored_through_what_was_opened_to_read(client: Client):
    opened = connector(client, allow_write=False)
    for call in (
        lambda: opened.restore_begin(2, ID, []),
        lambda: opened.import_rows(2, ID, [], seq=1),
        lambda: opened.save_routes(ID, SNAPSHOT, expected_version=1),
        lambda: opened.restore_end(2, ID),
    ):
        with pytest.raises(InvalidArgument) as caught:
            call()
        assert caught.value.code == "connector_read_only"
    assert client.asked == []
    assert opened.restore_status(2).restoring
