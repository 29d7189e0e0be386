"""Export and restore in one group's state machine: closed, filled, opened; repeated, refused."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest
from engines import MemoryEngine

from workbench.errors import Corruption, WorkbenchError
from workbench.model.keys import KEY_BYTES_MAX, Span
from workbench.model.limits import VALUE_BYTES_MAX
from workbench.model.node import CursorTag, ExportCursor, RestoreStatus, Written
from workbench.model.routes import RouteDescriptor, seed_routes
from workbench.model.times import hlc_of_ms
from workbench.mvcc.block import block_of, decode_block, encode_block
from workbench.mvcc.encoding import decode_value
from workbench.mvcc.export import export_page
from workbench.ports.consensus import LogEntry
from workbench.replica.clock import ceiling_of
from workbench.replica.commands import (
    BeginRestore,
    Bootstrap,
    CatalogListing,
    EndRestore,
    ExportRange,
    GetMany,
    ImportRows,
    LatestCommitTs,
    ListCatalog,
    ListCatalogAt,
    Mutation,
    OwnedSpan,
    ReadRestore,
    Refused,
    RoutesSaved,
    SaveRoutes,
    ScanPage,
    SplitDone,
    SplitRange,
    WriteBatch,
)
from workbench.replica.entry import decode_entry, encode_command, encode_entry
from workbench.replica.layout import META, RESTORE, VERSIONS, family
from workbench.replica.replica import Replica
from workbench.replica.restore import IMPORT_AHEAD_MS_MAX

WHOLE = (OwnedSpan(Span(b"", None), 1),)
OWNED = (OwnedSpan(Span(b"", b"m"), 1), OwnedSpan(Span(b"p", b"t"), 2))
ID = b"restore-of-today"
OTHER = b"another-restore!"
T0 = hlc_of_ms(500)
LAST = True


@dataclass
class Group:
    """A replica, the log that it applied, and a clock."""

    spans: tuple[OwnedSpan, ...] = WHOLE
    is_catalog: bool = True
    now_ms: int = 1_000
    log: list[LogEntry] = field(default_factory=list)
    engine: MemoryEngine = field(default_factory=MemoryEngine)

    def __post_init__(self) -> None:
        self.replica = Replica(1, self.engine, is_catalog=self.is_catalog)
        self.apply(Bootstrap(self.spans, seed_routes([]) if self.is_catalog else ()))

    def apply_all(self, *commands):
        self.now_ms += 1
        stamped = [
            (hlc_of_ms(self.now_ms, at), encode_command(each)) for at, each in enumerate(commands)
        ]
        index = self.replica.applied_index + 1
        self.log.append(LogEntry(index, 1, encode_entry(ceiling_of(self.now_ms), stamped)))
        results = self.replica.apply(self.log[-1])
        self.replica.check_invariants()
        return results

    def apply(self, command):
        return self.apply_all(command)[0]

    def refused(self, command) -> str:
        rows = dict(self.engine.rows)
        result = self.apply(command)
        assert isinstance(result, Refused), result
        left = {key: value for key, value in self.engine.rows.items() if rows.get(key) != value}
        assert all(key.endswith(b"progress") for key in left), left
        return result.error.code

    def unread(self, read) -> str:
        with pytest.raises(WorkbenchError) as caught:
            self.replica.read(read)
        return caught.value.code

    def write(self, *pairs: tuple[bytes, bytes | None]) -> int:
        written = self.apply(WriteBatch(tuple(Mutation(*pair) for pair in pairs)))
        assert isinstance(written, Written)
        return written.commit_ts

    @property
    def now(self) -> int:
        return hlc_of_ms(self.now_ms, 100)

    def begin(self, restore_id=ID, spans=None):
        return self.apply(BeginRestore(restore_id, self.spans if spans is None else spans))

    def load(self, seq, *rows, **how):
        return self.apply(part(seq, rows, **how))

    def value(self, key, read_ts=0):
        [found] = self.replica.read(GetMany((key,), read_ts or self.now)).versions
        return found and found.value

    def export(self, read_ts=0, *, bounds=(b"", None), after=None, chunk=2**20, scanned=2**22):
        """Yield pages of a whole export."""
        while True:
            asked = ExportRange(*bounds, read_ts or self.now, after)
            found = self.replica.read(asked)
            page = export_page(
                found.pairs, found.prefix, asked.read_ts, chunk_bytes=chunk,
                scanned_bytes_max=scanned,
            )  # fmt: skip
            yield page
            if page.done:
                return
            assert page.cursor is not None
            after = page.cursor

    def rows(self, read_ts=0, **how):
        return [row for page in self.export(read_ts, **how) for row in rows_of(page.block)]


def part(seq, rows, *, offset=0, last=LAST, restore_id=ID):
    return ImportRows(restore_id, seq, offset, last, block_of(rows))


def rows_of(block):
    """Return the rows of a block as (key, commit_ts, value or None)."""
    checked = decode_block(encode_block(block))
    assert checked == block
    values = [decode_value(value) for value in block.value_list()]
    return list(zip(block.key_list(), block.commit_ts_list(), values, strict=True))


@pytest.fixture
def group() -> Group:
    return Group()


@pytest.fixture
def restoring(group: Group) -> Group:
    group.begin()
    return group


def test_an_export_has_every_version_at_or_below_read_ts_and_no_row_of_the_node(group):
    first = group.write((b"a", b"1"), (b"b", b"1"))
    second = group.write((b"a", None))
    third = group.write((b"a", b"3"), (b"\x00", b""))
    assert group.rows() == [
        (b"\x00", third, b""),
        (b"a", third, b"3"),
        (b"a", second, None),
        (b"a", first, b"1"),
        (b"b", first, b"1"),
    ]
    assert group.rows(second) == [(b"a", second, None), (b"a", first, b"1"), (b"b", first, b"1")]
    assert group.rows(first - 1) == []


def test_an_export_has_only_what_the_group_owns_in_the_range():
    group = Group(OWNED, is_catalog=False)
    group.write((b"a", b"v"), (b"k", b"v"), (b"p", b"v"), (b"s", b"v"))
    assert [key for key, _, _ in group.rows()] == [b"a", b"k", b"p", b"s"]
    assert [key for key, _, _ in group.rows(bounds=(b"b", b"s"))] == [b"k", b"p"]
    assert group.unread(ExportRange(b"m", b"p", group.now)) == "ownership_unknown"
    assert group.unread(ExportRange(b"x", None, group.now)) == "ownership_unknown"
    nothing = Group((), is_catalog=False)
    assert nothing.rows() == []


def test_an_export_of_the_reserved_keys_alone_is_refused_and_a_strange_cursor_too(group):
    assert group.unread(ExportRange(b"!dist|", b"!dist|z", group.now)) == "key_reserved"
    strange = ExportCursor(b"z", 5, CursorTag.EMITTED)
    assert group.unread(ExportRange(b"a", b"c", group.now, strange)) == "cursor_invalid"


def test_a_sparse_range_moves_its_cursor_by_what_was_only_scanned(group):
    stamps = [group.write((b"hot", b"%d" % n)) for n in range(30)]
    pages = list(group.export(stamps[0], scanned=60))
    assert len(pages) > 10
    assert [row for page in pages for row in rows_of(page.block)] == [(b"hot", stamps[0], b"0")]
    tags = {page.cursor.tag for page in pages[:-1]}
    assert CursorTag.SCANNED in tags
    assert all(page.scanned_bytes <= 60 for page in pages)


def test_a_damaged_row_ends_an_export_with_its_engine_key(group):
    group.write((b"a", b"1"), (b"b\x00c", b"2"), (b"d", b"3"), (b"\xff", b"4"))
    [key] = [key for key in group.engine.rows if b"b\x00\xffc" in key]
    prefix = family(1, VERSIONS)
    for damaged in (
        key.replace(b"\x00\xff", b"\x00\xfe"),
        key[:-9],
        prefix + b"b\x00\x01short",
        prefix + b"b" + bytes(10),
        # Ends with a zero, and the next key begins with what would make it an escaped one.
        prefix + b"z\x00\x00\x01" + bytes(8),
    ):
        copy = MemoryEngine({**group.engine.rows, damaged: b"\x01v"})
        replica = Replica(1, copy, is_catalog=True)
        found = replica.read(ExportRange(b"", None, group.now))
        with pytest.raises(Corruption, match=damaged.hex()) as caught:
            export_page(
                found.pairs, found.prefix, group.now, chunk_bytes=10**6, scanned_bytes_max=10**6
            )
        assert caught.value.code == "mvcc_key_invalid"
    for value in (b"", b"\x03", b"\x02x"):
        copy = MemoryEngine({**group.engine.rows, key: value})
        found = Replica(1, copy, is_catalog=True).read(ExportRange(b"", None, group.now))
        with pytest.raises(Corruption, match=key.hex()) as caught:
            export_page(
                found.pairs, found.prefix, group.now, chunk_bytes=10**6, scanned_bytes_max=10**6
            )
        assert caught.value.code == "mvcc_value_invalid"


def test_a_group_that_is_restored_answers_nothing_until_the_end_and_everything_then(group):
    assert group.begin() == RestoreStatus(1, ID, restoring=True)
    assert group.refused(WriteBatch((Mutation(b"k", b"v"),))) == "group_restoring"
    assert group.refused(SplitRange(1, 1, b"m")) == "group_restoring"
    for read in (
        GetMany((), group.now),
        GetMany((b"a",), group.now),
        ScanPage(b"", None, group.now, 9, 9),
        LatestCommitTs(b"a"),
        ExportRange(b"", None, group.now),
    ):
        assert group.unread(read) == "group_restoring"
    assert isinstance(group.replica.read(ListCatalog()), CatalogListing)
    status = group.load(1, (b"a", T0, b"old"), (b"a", T0 + 5, None))
    assert status == RestoreStatus(1, ID, restoring=True, seq=1, rows=2, max_commit_ts=T0 + 5)
    assert group.apply(EndRestore(ID)).restoring is False
    assert group.value(b"a", T0) == b"old"
    assert group.value(b"a", T0 + 5) is None
    assert group.rows() == [(b"a", T0 + 5, None), (b"a", T0, b"old")]
    assert group.write((b"a", b"new")) > T0 + 5
    assert group.value(b"a") == b"new"


def test_only_a_group_without_any_version_of_a_users_key_is_restored(group):
    group.write((b"a", None))
    assert group.refused(BeginRestore(ID, WHOLE)) == "group_not_empty"
    above = Group()
    above.write((b"!dist}", b"v"))
    assert above.refused(BeginRestore(ID, WHOLE)) == "group_not_empty"


def test_a_write_of_the_same_entry_counts_too():
    group = Group()
    written, begun = group.apply_all(WriteBatch((Mutation(b"a", b"v"),)), BeginRestore(ID, WHOLE))
    assert isinstance(written, Written)
    assert begun.error.code == "group_not_empty"
    later = Group()
    begun, written = later.apply_all(BeginRestore(ID, WHOLE), WriteBatch((Mutation(b"a", b"v"),)))
    assert begun.restoring
    assert written.error.code == "group_restoring"


def test_a_group_without_first_records_is_not_restored():
    group = Group(is_catalog=False)
    empty = Replica(1, MemoryEngine(), is_catalog=False)
    entry = encode_entry(ceiling_of(9), [(hlc_of_ms(9), encode_command(BeginRestore(ID, WHOLE)))])
    [result] = empty.apply(LogEntry(1, 1, entry))
    assert result.error.code == "group_not_begun"
    assert group.begin().restoring


def test_a_restore_replaces_the_spans_of_the_group(group):
    group.begin(spans=OWNED)
    assert group.replica.spans == OWNED
    outside = part(1, [(b"a", T0, b""), (b"n", T0, b"")])
    assert group.refused(outside) == "import_outside_spans"
    reserved = part(1, [(b"!dist|route|x", T0, b"")])
    assert group.refused(reserved) == "key_reserved"
    group.load(1, (b"s", T0, b"v"))
    group.apply(EndRestore(ID))
    assert group.value(b"s") == b"v"
    assert group.unread(GetMany((b"n",), group.now)) == "ownership_unknown"


def test_every_command_of_a_restore_may_be_repeated_also_after_the_end(restoring):
    begun = restoring.begin()
    assert begun.restoring
    first = restoring.load(1, (b"a", T0, b"v"))
    assert restoring.load(1, (b"a", T0, b"v")) == first
    assert restoring.load(1, (b"b", T0, b"other rows")) == first
    assert restoring.load(3, (b"b", T0, b"v")) == first
    assert restoring.begin() == first
    ended = restoring.apply(EndRestore(ID))
    assert restoring.apply(EndRestore(ID)) == ended
    assert restoring.load(2, (b"b", T0, b"v")) == ended
    assert restoring.begin() == ended
    assert restoring.rows() == [(b"a", T0, b"v")]
    assert restoring.replica.read(ReadRestore()) == ended


def test_another_restore_and_other_spans_are_refused(restoring):
    assert restoring.refused(BeginRestore(OTHER, WHOLE)) == "restore_other"
    assert restoring.refused(BeginRestore(ID, OWNED)) == "restore_spans_differ"
    assert restoring.refused(part(1, [], restore_id=OTHER)) == "restore_other"
    assert restoring.refused(EndRestore(OTHER)) == "restore_other"
    restoring.apply(EndRestore(ID))
    assert restoring.refused(EndRestore(OTHER)) == "restore_not_running"
    assert restoring.begin(OTHER) == RestoreStatus(1, OTHER, restoring=True)
    assert restoring.refused(EndRestore(ID)) == "restore_other"


def test_an_import_in_parts_goes_on_at_its_row_and_at_no_other(restoring):
    rows = [(b"k%02d" % n, T0 + n, b"v") for n in range(6)]
    part = restoring.load(1, *rows[:2], last=False)
    assert (part.seq, part.offset, part.rows) == (0, 2, 2)
    # Another sender that cuts the import differently: nothing is lost, nothing comes twice.
    assert restoring.load(1, *rows[:4], last=False) == part
    assert restoring.load(1, *rows[4:], offset=4) == part
    assert restoring.load(2, *rows) == part
    done = restoring.load(1, *rows[2:], offset=2)
    assert (done.seq, done.offset, done.rows) == (1, 0, 6)
    assert restoring.load(2).seq == 2
    restoring.apply(EndRestore(ID))
    assert restoring.rows() == [(key, ts, value) for key, ts, value in rows]


def test_the_same_version_again_is_fine_and_with_other_content_refused(restoring):
    restoring.load(1, (b"a", T0, b"v"), (b"b", T0, None))
    assert restoring.load(2, (b"b", T0, None), (b"a", T0, b"v"), (b"a", T0, b"v")).rows == 5
    for rows in (
        [(b"a", T0, b"w")],
        [(b"a", T0, None)],
        [(b"b", T0, b"")],
        [(b"c", T0, b"1"), (b"c", T0, b"2")],
    ):
        command = part(3, rows)
        assert restoring.refused(command) == "import_differs"
    # In one entry, before the engine has seen the first.
    first, second = restoring.apply_all(
        part(3, [(b"d", T0, b"1")]),
        part(4, [(b"d", T0, b"2")]),
    )
    assert first.seq == 3
    assert second.error.code == "import_differs"
    # Among many rows that lie between, too.
    restoring.load(4, *((b"m%03d" % n, T0, b"v") for n in range(50)))
    command = part(5, [(b"m000", T0 + 1, b""), (b"m049", T0, b"w")])
    assert restoring.refused(command) == "import_differs"


def test_a_commit_ts_of_0_or_of_next_year_is_refused(restoring):
    def imported(commit_ts):
        return part(1, [(b"a", commit_ts, b"v")])

    assert restoring.refused(imported(0)) == "import_ts_invalid"
    assert restoring.refused(imported(2**64 - 1)) == "import_ts_ahead"
    ahead = hlc_of_ms(restoring.now_ms + IMPORT_AHEAD_MS_MAX + 5)
    assert restoring.refused(imported(ahead)) == "import_ts_ahead"


def test_a_version_from_a_fast_clock_delays_the_end_and_then_lies_below_every_write(restoring):
    ahead = hlc_of_ms(restoring.now_ms + 10_000)
    ceiling = restoring.replica.ceiling
    restoring.load(1, (b"a", ahead, b"v"))
    assert restoring.replica.ceiling < ceiling + hlc_of_ms(1_000), "the clock is not driven"
    assert restoring.refused(EndRestore(ID)) == "import_ahead_of_clock"
    restoring.now_ms += 10_000
    assert not restoring.apply(EndRestore(ID)).restoring
    assert restoring.replica.ceiling > ahead
    assert restoring.replica.last_commit_ts > ahead
    assert restoring.value(b"a") == b"v"


def test_what_no_client_could_have_written_is_not_imported(restoring):
    long_key = block_of([(b"k" * (KEY_BYTES_MAX + 1), T0, b"v")])
    assert restoring.refused(ImportRows(ID, 1, 0, LAST, long_key)) == "key_too_long"
    long_value = block_of([(b"k", T0, b"v" * (VALUE_BYTES_MAX + 1))])
    assert restoring.refused(ImportRows(ID, 1, 0, LAST, long_value)) == "value_too_long"
    largest = block_of([(b"k" * KEY_BYTES_MAX, T0, b"v" * VALUE_BYTES_MAX)])
    assert restoring.apply(ImportRows(ID, 1, 0, LAST, largest)).rows == 1


def test_a_restart_in_the_middle_finds_the_restore_as_it_was(restoring):
    restoring.load(1, (b"a", T0, b"v"), last=False)
    again = Replica(1, restoring.engine, is_catalog=True)
    assert again.read(ReadRestore()) == restoring.replica.read(ReadRestore())
    assert again.spans == WHOLE
    with pytest.raises(WorkbenchError, match="being restored"):
        again.read(GetMany((b"a",), restoring.now))
    # A crash that lost everything since the bootstrap: the log brings it again.
    lost = Replica(1, MemoryEngine(), is_catalog=True)
    for entry in restoring.log:
        lost.apply(entry)
    assert lost._engine.rows == restoring.engine.rows


def test_a_damaged_record_of_a_restore_is_corruption(restoring):
    key = family(1, META) + RESTORE
    for bad in (b"", restoring.engine.rows[key][:-1], b"\x01\x07" + restoring.engine.rows[key][2:]):
        with pytest.raises(Corruption, match=key.hex()) as caught:
            Replica(1, MemoryEngine({**restoring.engine.rows, key: bad}), is_catalog=True)
        assert caught.value.code == "state_malformed"


ROUTES = (
    RouteDescriptor(7, Span(b"", b"c"), 1, parent_route_id=1, split_at_hlc=T0),
    RouteDescriptor(8, Span(b"c", None), 1, parent_route_id=1, split_at_hlc=T0),
)


def save(version=9, routes=ROUTES, expected=1, next_route_id=0, restore_id=ID):
    return SaveRoutes(restore_id, expected, version, next_route_id, routes)


def test_saved_routes_replace_all_others_and_no_id_is_used_again(restoring):
    assert restoring.apply(save(next_route_id=40)) == RoutesSaved(9)
    assert restoring.apply(save(next_route_id=40)) == RoutesSaved(9)
    assert restoring.replica.read(ListCatalog()) == CatalogListing(9, ROUTES)
    restoring.apply(EndRestore(ID))
    done = restoring.apply(SplitRange(9, 8, b"m"))
    assert isinstance(done, SplitDone)
    assert (done.catalog_version, done.left.route_id, done.right.route_id) == (10, 40, 41)
    assert restoring.replica._catalog.delta_floor == 9


def test_saving_routes_writes_only_rows_that_differ_and_forgets_older_deltas():
    group = Group()
    for version in range(1, 5):
        group.apply(SplitRange(version, max(1, 2 * version - 2), b"z" * (10 - version)))
    kept = group.replica.read(ListCatalog()).routes
    group.begin()
    before = set(group.engine.rows)
    moved = (*kept[:-1], RouteDescriptor(77, kept[-1].span, 1))
    assert group.apply(save(20, moved, expected=5)) == RoutesSaved(20)
    written = [key for key in group.engine.rows if key not in before]
    assert sum(b"!dist|route|" in key for key in written) == 2
    assert sum(b"!dist|delta|" in key for key in written) == 4
    assert group.replica.read(ListCatalog()) == CatalogListing(20, moved)


def test_saved_routes_must_be_newer_or_the_same_and_keep_the_rules(restoring):
    assert restoring.refused(save(expected=2)) == "catalog_version_mismatch"
    assert restoring.refused(save(version=1)) == "catalog_version_not_above"
    assert restoring.apply(save(1, seed_routes([]))) == RoutesSaved(1)
    assert restoring.refused(save(routes=(*ROUTES, ROUTES[0]))) == "route_id_duplicate"
    assert restoring.refused(save(routes=())) == "routes_empty"
    assert restoring.refused(save(version=0)) == "catalog_version_invalid"
    misplaced = (RouteDescriptor(1, Span(b"", None), 2),)
    assert restoring.refused(save(routes=misplaced)) == "catalog_group_misplaced"
    assert restoring.refused(save(restore_id=OTHER)) == "restore_other"
    restoring.apply(EndRestore(ID))
    assert restoring.refused(save()) == "restore_ended"


def test_another_group_than_the_catalogs_has_no_routes_to_save():
    group = Group(is_catalog=False)
    group.begin()
    assert group.refused(save()) == "catalog_absent"


def test_the_catalog_is_told_as_it_was_at_any_moment(group):
    seen = [(group.now, group.replica.read(ListCatalog()))]
    for version in range(1, 6):
        group.apply(SplitRange(version, max(1, 2 * version - 2), b"z" * (10 - version)))
        seen.append((group.now, group.replica.read(ListCatalog())))
    for read_ts, listing in seen:
        assert group.replica.read(ListCatalogAt(read_ts)) == listing
    assert group.unread(ListCatalogAt(hlc_of_ms(1))) == "catalog_not_begun"


def test_commands_of_a_restore_are_bytes_and_come_back(group):
    commands = [
        BeginRestore(ID, OWNED),
        part(3, [(b"a\x00", 5, b""), (b"", 2**63, None)], offset=2, last=False),
        part(4, []),
        SaveRoutes(ID, 1, 9, 40, ROUTES),
        EndRestore(ID),
    ]
    stamped = [(at, encode_command(each)) for at, each in enumerate(commands, start=1)]
    decoded = decode_entry(encode_entry(99, stamped))
    assert [each.command for each in decoded.commands] == commands


def test_a_block_is_the_bytes_of_the_format_document():
    packed = bytes.fromhex(
        "01 00000002 0000000000000102 0000000000000001 00000001 00000002 00000002 00000001"
        "61 6100 0176 02"
    )
    assert encode_block(block_of([(b"a", 258, b"v"), (b"a\x00", 1, None)])) == packed


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (ID + struct.pack(">QQB", 1, 0, 2) + encode_block(block_of([])), "last part 2"),
        (ID + struct.pack(">QQB", 1, 0, 1) + b"\x07", "no head"),
        (ID + struct.pack(">QQB", 1, 0, 1) + b"\x01\x00\x00\x00\x01", "do not fit"),
        (ID[:-1], "restore id"),
    ],
)
def test_a_malformed_import_in_the_log_is_corruption_with_its_offset(body, what):
    entry = struct.pack(">BQIBQI", 1, 99, 1, 5, 1, len(body)) + body
    with pytest.raises(Corruption, match=what) as caught:
        decode_entry(entry)
    assert caught.value.code == "entry_malformed"
    assert "offset" in caught.value.message
