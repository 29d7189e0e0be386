"""The state machine of one group: entries of its log in, engine changes and results out.

    LogEntry ─ decode ─▶ for each command: dedupe ▸ ownership ▸ effect ─▶ one engine batch
                                             │         │         │         + applied index
                                             └─────────┴─────────┴──▶ Result

Rules:
- Apply is a pure function of the log. It never asks a clock, and what it holds in memory is
  what a restart reads from the engine; so replicas that apply the same entries are the same.
- One batch per entry, with the applied index in it; entries at or below it are skipped. The
  engine may lose its newest batches in a crash: the log brings them again.
- Dedupe comes before ownership, so a retry is answered even where the span has gone. Refusals
  change nothing and are never stored; a batch is taken or refused whole.
- Reads see owned spans only, at a read_ts strictly below the applied ceiling; rows and spans
  are of one moment, because nothing applies in between.
- While a group is being restored it answers no reads of data and takes no writes.
- A change of the members is kept and means nothing else here: what a raft_snapshot of this
  state stands for (index, term, members) is told by the state itself.
- An entry that cannot be understood raises Corruption and stops the replica at that entry, on
  every node alike.

Who may propose and read, and when a read may be answered, is `host`'s.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Final, assert_never

from workbench.errors import (
    Conflict,
    Corruption,
    Internal,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from workbench.model.keys import Span, printable_key
from workbench.model.node import GotMany, Written
from workbench.model.recovery import DAMAGED_NODE_HINT
from workbench.model.routes import RESERVED_PREFIX
from workbench.model.times import hlc_ms
from workbench.mvcc.encoding import encode_value, span_range, version_keys
from workbench.mvcc.export import after_cursor
from workbench.mvcc.pending import PendingVersions
from workbench.mvcc.versions import get_many, latest_commit_ts
from workbench.ports.entries import EntryKind
from workbench.raft.membership import decode_configuration
from workbench.replica.catalog import RESERVED_END, Catalog, catalog_absent
from workbench.replica.commands import (
    BeginRestore,
    Bootstrap,
    Bootstrapped,
    CatalogDeltas,
    CatalogListing,
    CollectGarbage,
    EndRestore,
    EnginePairs,
    ExportRange,
    GetMany,
    ImportRows,
    LatestCommitTs,
    LatestTs,
    ListCatalog,
    ListCatalogAt,
    ListCatalogVersion,
    Pin,
    ReadDeltas,
    ReadRestore,
    Refused,
    SaveRoutes,
    ScanPage,
    SetSafePoint,
    SplitRange,
    Unpin,
    WriteBatch,
)
from workbench.replica.dedupe import Dedupe
from workbench.replica.entry import decode_entry
from workbench.replica.garbage import Garbage
from workbench.replica.layout import (
    BOOTSTRAPPED,
    MEMBERS,
    META,
    PROGRESS,
    VERSIONS,
    Progress,
    decode_integer,
    decode_members,
    encode_integer,
    encode_members,
    encode_progress,
    family,
    load_progress,
)
from workbench.replica.pages import scan_page
from workbench.replica.restore import Restore, restore_ended, restore_spans_differ
from workbench.replica.spans import OwnedSpans, load_spans, ownership_unknown, span_changes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.node import RestoreStatus
    from workbench.ports.entries import Configuration, LogEntry
    from workbench.ports.storage import Change, Engine
    from workbench.replica.commands import (
        Answer,
        Command,
        Done,
        OwnedSpan,
        Precondition,
        Read,
        Result,
    )
    from workbench.routing.table import RouteTable

# What a command can be refused with; every other error stops the replica.
REFUSALS: Final = (InvalidInput, NotFound, Conflict, Unavailable, OutcomeUnknown, Internal)


class Replica:
    """The state of one group on one node.

    Args:
        group: Its id.
        engine: Where its rows are; it restores itself from there.
        is_catalog: Whether it keeps the route catalog.

    Raises:
        Corruption: a stored record cannot be decoded.
    """

    def __init__(self, group: int, engine: Engine, *, is_catalog: bool) -> None:
        self._group = group
        self._engine = engine
        self._is_catalog = is_catalog
        self._versions = family(group, VERSIONS)
        self._progress_key = family(group, META) + PROGRESS
        self._members_key = family(group, META) + MEMBERS
        self._bootstrapped_key = family(group, META) + BOOTSTRAPPED
        self.reload()

    def reload(self) -> None:
        """Take up what the engine holds now, as after a raft_snapshot took the place of it all."""
        group, engine = self._group, self._engine
        self._progress = load_progress(group, engine)
        self._members = self._load_members()
        self._bootstrapped = self._load_bootstrapped()
        self._spans = load_spans(group, engine)
        self._dedupe = Dedupe(group, engine)
        self._restore = Restore(group, engine)
        self._garbage = Garbage(group, engine)
        self._catalog = Catalog(group, engine) if self._is_catalog else None
        # False while an entry is being applied, and for good where that failed: memory may then
        # be ahead of the engine.
        self._sound = True

    @property
    def group(self) -> int:
        """Id of the group."""
        return self._group

    @property
    def applied_index(self) -> int:
        """Index of the newest entry applied; 0 for none."""
        return self._progress.applied_index

    @property
    def applied_term(self) -> int | None:
        """Term of that entry; None where an earlier version of the workbench applied it."""
        return self._progress.applied_term

    @property
    def members(self) -> Configuration | None:
        """The group's members as of the applied index; None before `found`."""
        return self._members

    @property
    def ceiling(self) -> int:
        """The largest ceiling (HLC, exclusive) of all entries applied."""
        return self._progress.ceiling

    @property
    def last_commit_ts(self) -> int:
        """The commit_ts (HLC) of the newest command applied; 0 for none."""
        return self._progress.last_commit_ts

    @property
    def bootstrapped(self) -> bool:
        """Whether the group has its first records."""
        return self._bootstrapped

    @property
    def is_catalog(self) -> bool:
        """Whether it keeps the route catalog."""
        return self._is_catalog

    @property
    def spans(self) -> tuple[OwnedSpan, ...]:
        """What the group owns, ascending."""
        return self._spans.spans

    @property
    def catalog(self) -> RouteTable | None:
        """The newest applied route table; None elsewhere than in the catalog group."""
        return None if self._catalog is None else self._catalog.table

    def found(self, members: Configuration) -> None:
        """Keep the members that the group began with, unless it knows of any.

        They are the same on every node, so that equal applied indexes mean equal rows.
        """
        if self._members is None:
            self._engine.write([(self._members_key, encode_members(members))])
            self._members = members

    def apply(self, entry: LogEntry) -> tuple[Result, ...]:
        """Apply an entry and return one result per command; none where it was applied before.

        Raises:
            Corruption: the entry is malformed or of an unknown version (deterministic).
            Storage: the engine failed. After any error the replica cannot be used again.
        """
        if entry.index <= self.applied_index:
            return ()
        assert entry.index == self.applied_index + 1, "entries are applied without holes"
        assert self._sound
        self._sound = False
        pending = PendingVersions(self._engine, self._versions)
        changes = pending.changes
        results: list[Result] = []
        ceiling, last_commit_ts = self.ceiling, self.last_commit_ts
        members = self._members
        if entry.kind is EntryKind.CONFIGURATION:
            members = decode_configuration(entry.data)
            changes.append((self._members_key, encode_members(members)))
        elif entry.data:
            decoded = decode_entry(entry.data)
            ceiling = max(ceiling, decoded.ceiling)
            for stamped in decoded.commands:
                if stamped.commit_ts <= last_commit_ts:
                    raise _not_increasing(entry.index, stamped.commit_ts, last_commit_ts)
                last_commit_ts = stamped.commit_ts
                results.append(self._result(stamped.command, last_commit_ts, entry.index, pending))
        progress = Progress(entry.index, ceiling, last_commit_ts, entry.term)
        changes.append((self._progress_key, encode_progress(progress)))
        self._engine.write(changes)
        self._progress = progress
        self._members = members
        self._sound = True
        return tuple(results)

    def read(self, read: Read) -> Answer:
        """Answer a read of what is applied now; its read_ts is not 0 and below the ceiling.

        Raises:
            Unavailable: `ownership_unknown`, `catalog_absent` or `group_restoring`.
            NotFound: `catalog_not_begun`.
            InvalidInput: `key_reserved` or `cursor_invalid`.
            Corruption: a stored record cannot be decoded; names the engine key.
        """
        assert self._sound
        match read:
            case ListCatalog():
                if self._catalog is None or self._catalog.state is None:
                    raise catalog_absent()
                state = self._catalog.state
                return CatalogListing(state.version, state.routes)
            case ListCatalogAt():
                return self._catalog_at(read.read_ts)
            case ListCatalogVersion() | ReadDeltas():
                return self._catalog_history(read)
            case ReadRestore():
                return self._restore.status
            case GetMany() | ScanPage() | LatestCommitTs() | ExportRange():
                self._restore.check_serving()
                return self._read_data(read)
            case _:
                assert_never(read)

    def _read_data(self, read: GetMany | ScanPage | LatestCommitTs | ExportRange) -> Answer:
        # A read of no keys asks for a moment alone, and finds nothing that could be gone.
        if not isinstance(read, LatestCommitTs) and read != GetMany((), read.read_ts):
            self._garbage.check_readable(read.read_ts)
        match read:
            case GetMany():
                assert 0 < read.read_ts < self.ceiling
                self._check_keys(read.keys)
                versions = get_many(self._engine, self._versions, read.keys, read.read_ts)
                return GotMany(read.read_ts, self.applied_index, tuple(versions))
            case ScanPage():
                assert 0 < read.read_ts < self.ceiling
                if read.whole:
                    self._check_whole(read.start, read.end)
                pieces = self._pieces(read.start, read.end)
                return scan_page(self._engine, self._versions, pieces, read)
            case LatestCommitTs():
                self._check_keys((read.key,))
                return LatestTs(latest_commit_ts(self._engine, self._versions, read.key))
            case ExportRange():
                assert 0 < read.read_ts < self.ceiling
                return self._export(read)
            case _:
                assert_never(read)

    def check_invariants(self) -> None:
        """Assert that memory is what the engine holds; for tests and the simulator."""
        stored = Replica(self._group, self._engine, is_catalog=self.is_catalog)
        assert stored._progress == self._progress
        assert stored.members == self.members
        assert stored.bootstrapped == self.bootstrapped
        assert stored.spans == self.spans
        assert stored._dedupe.table() == self._dedupe.table()
        assert stored._restore.status == self._restore.status
        assert stored._garbage.status == self._garbage.status
        assert stored.catalog == self.catalog
        assert self.last_commit_ts < max(self.ceiling, 1)

    def _result(
        self, command: Command, commit_ts: int, index: int, pending: PendingVersions
    ) -> Result:
        """Carry out one command, adding its changes; what refuses it adds none."""
        changes = pending.changes
        changes += self._dedupe.expire(commit_ts)
        try:
            match command:
                case WriteBatch():
                    return self._write(command, Written(commit_ts, index), pending)
                case SplitRange():
                    if self._catalog is None:
                        raise catalog_absent()
                    self._restore.check_serving()
                    done, rows = self._catalog.split(command, commit_ts)
                    changes += rows
                    return done
                case Bootstrap():
                    return self._bootstrap(command, commit_ts, index, changes)
                case BeginRestore() | ImportRows() | SaveRoutes() | EndRestore():
                    return self._carry_on_restore(command, commit_ts, changes)
                case SetSafePoint() | Pin() | Unpin() | CollectGarbage():
                    self._restore.check_serving()
                    status, rows = self._garbage.carry_out(command, commit_ts)
                    changes += rows
                    return status
                case _:
                    assert_never(command)
        except REFUSALS as error:
            return Refused(error)

    def _write(self, command: WriteBatch, written: Written, pending: PendingVersions) -> Written:
        if command.client_id:
            first = self._dedupe.find(command.client_id, command.sequence)
            if first is not None:
                return replace(first, repeated=True)
        self._restore.check_serving()
        keys = [key for key, _, _ in command.mutations]
        smallest, largest = self._check_keys([*keys, *(each.key for each in command.preconditions)])
        changes = pending.changes
        commit_ts = written.commit_ts
        for each in command.preconditions:
            self._check_precondition(each, commit_ts, pending)
        rows = version_keys(self._versions, keys, commit_ts)
        values = [encode_value(value, expire_at_ms) for _, value, expire_at_ms in command.mutations]
        changes += zip(rows, values, strict=True)
        if command.client_id:
            changes += self._dedupe.store(
                command.client_id, command.sequence, written, smallest, largest
            )
        return written

    def _check_precondition(
        self, condition: Precondition, commit_ts: int, pending: PendingVersions
    ) -> None:
        """Raise Conflict (`precondition_failed`) where it does not hold at `commit_ts`."""
        found = pending.newest(condition.key)
        shown = found is not None and found[1] is not None
        if shown and found is not None and 0 < found[2] <= hlc_ms(commit_ts):
            shown = False
        if condition.commit_ts is None:
            holds, wanted = not shown, "to have no value"
        else:
            holds = found is not None and found[0] == condition.commit_ts
            wanted = f"to be written last at {condition.commit_ts}"
        if not holds:
            when = "it was never written" if found is None else f"it was at {found[0]}"
            raise Conflict(
                f"key {printable_key(condition.key)} was expected {wanted}, and {when}",
                code="precondition_failed",
                hint="read it again; nothing was written",
            )

    def _bootstrap(
        self, command: Bootstrap, commit_ts: int, index: int, changes: list[Change]
    ) -> Bootstrapped:
        if self._bootstrapped:
            return Bootstrapped()
        spans = OwnedSpans(command.spans)
        rows = [*span_changes(self._group, spans.spans)]
        if command.routes:
            if self._catalog is None:
                raise catalog_absent()
            rows += self._catalog.seed(command.routes, commit_ts)
        changes += rows
        changes.append((self._bootstrapped_key, encode_integer(index)))
        self._spans = spans
        self._bootstrapped = True
        return Bootstrapped()

    def _carry_on_restore(
        self,
        command: BeginRestore | ImportRows | SaveRoutes | EndRestore,
        commit_ts: int,
        changes: list[Change],
    ) -> Done:
        restore = self._restore
        if isinstance(command, BeginRestore):
            return self._begin_restore(command, changes)
        running = restore.check_running(command.restore_id)
        match command:
            case SaveRoutes():
                if self._catalog is None:
                    raise catalog_absent()
                if not running:
                    raise restore_ended(self._group)
                saved, rows = self._catalog.save(command, commit_ts)
                changes += rows
                return saved
            case ImportRows():
                if running:
                    changes += restore.import_rows(command, commit_ts, self._spans, changes)
            case EndRestore():
                if running:
                    changes.append(restore.end(commit_ts))
            case _:
                assert_never(command)
        return restore.status

    def _begin_restore(self, command: BeginRestore, changes: list[Change]) -> RestoreStatus:
        restore = self._restore
        spans = OwnedSpans(command.spans)
        if restore.status.restore_id == command.restore_id:
            if restore.status.restoring and spans.spans != self.spans:
                raise restore_spans_differ(self._group)
            return restore.status
        if not self._bootstrapped:
            raise Unavailable(
                f"group {self._group} has no first records yet",
                code="group_not_begun",
                hint="try again",
            )
        changes.append(restore.begin(command.restore_id, changes))
        changes += ((key, None) for key, _ in span_changes(self._group, self._spans.spans))
        changes += span_changes(self._group, spans.spans)
        self._spans = spans
        return restore.status

    def _catalog_at(self, read_ts: int) -> CatalogListing:
        assert 0 < read_ts < self.ceiling
        if self._catalog is None:
            raise catalog_absent()
        state = self._catalog.at(self._engine, read_ts)
        if state is None:
            raise NotFound(
                f"the route catalog begins after the read_ts {read_ts}",
                code="catalog_not_begun",
                hint="ask for a later moment",
            )
        return CatalogListing(state.version, state.routes)

    def _catalog_history(self, read: ListCatalogVersion | ReadDeltas) -> Answer:
        catalog = self._catalog
        if catalog is None or catalog.state is None:
            raise catalog_absent()
        if isinstance(read, ListCatalogVersion):
            state = catalog.at_version(self._engine, read.version)
            return CatalogListing(state.version, state.routes)
        deltas = catalog.deltas(self._engine, read.after, read.limit)
        return CatalogDeltas(catalog.state.version, catalog.delta_floor, deltas)

    def _export(self, read: ExportRange) -> EnginePairs:
        """Return the owned parts of the range behind the cursor, all as of now."""
        start, end, after = read.start, read.end, read.after
        if after is not None and (after.key < start or (end is not None and after.key >= end)):
            raise InvalidInput(
                f"the cursor at {printable_key(after.key)} lies outside the range",
                code="cursor_invalid",
                hint="go on with the range that the export began with",
            )
        # A group that owns nothing has nothing to export; a part of it that it does not own
        # is asked of the wrong group.
        pieces = self._pieces(start, end) if self.spans or start or end is not None else []
        low = b"" if after is None else after_cursor(self._versions, after)
        scans = []
        for first, last in _joined(pieces):
            begin, stop = span_range(self._versions, first, last)
            if stop is None or low < stop:
                scans.append(self._engine.scan(max(begin, low), stop))
        return EnginePairs(self._versions, chain.from_iterable(scans))

    def _check_keys(self, keys: Sequence[bytes]) -> tuple[bytes, bytes]:
        """Refuse reserved keys and keys of others; return the smallest and the largest."""
        if not keys:
            return b"", b""
        smallest, largest = min(keys), max(keys)
        if smallest < RESERVED_END and largest >= RESERVED_PREFIX:
            for key in keys:
                if key.startswith(RESERVED_PREFIX):
                    raise _reserved(key)
        stranger = self._spans.stranger(keys, smallest, largest)
        if stranger is not None:
            raise ownership_unknown(self._group, stranger)
        return smallest, largest

    def _check_whole(self, start: bytes, end: bytes | None) -> None:
        """Refuse a range of which the group does not own every part."""
        covered = start
        for piece in self._spans.pieces(start, end):
            if piece.start > covered:
                break
            if piece.end is None or piece.end == end:
                return
            covered = piece.end
        raise ownership_unknown(self._group, covered)

    def _pieces(self, start: bytes, end: bytes | None) -> list[Span]:
        """Return the owned parts of [start, end), ascending, without reserved keys."""
        if start.startswith(RESERVED_PREFIX) and end is not None and end <= RESERVED_END:
            raise _reserved(start)
        owned = [*self._spans.pieces(start, end)]
        if not owned and (end is None or start < end):
            raise ownership_unknown(self._group, start)
        pieces: list[Span] = []
        for piece in owned:
            if piece.start < RESERVED_PREFIX:
                below = RESERVED_PREFIX if piece.end is None else min(piece.end, RESERVED_PREFIX)
                pieces.append(replace(piece, end=below))
            if piece.end is None or piece.end > RESERVED_END:
                pieces.append(replace(piece, start=max(piece.start, RESERVED_END)))
        return pieces

    def _load_members(self) -> Configuration | None:
        stored = self._engine.get(self._members_key)
        return None if stored is None else decode_members(self._members_key, stored)

    def _load_bootstrapped(self) -> bool:
        stored = self._engine.get(self._bootstrapped_key)
        if stored is None:
            return False
        return decode_integer(self._bootstrapped_key, stored) > 0


def _joined(pieces: Sequence[Span]) -> list[tuple[bytes, bytes | None]]:
    """Return the bounds of ascending pieces, of those that touch as one."""
    joined: list[tuple[bytes, bytes | None]] = []
    for piece in pieces:
        if joined and joined[-1][1] == piece.start:
            joined[-1] = joined[-1][0], piece.end
        else:
            joined.append((piece.start, piece.end))
    return joined


def _reserved(key: bytes) -> InvalidInput:
    return InvalidInput(
        f"key {printable_key(key)} begins with {printable_key(RESERVED_PREFIX)}",
        code="key_reserved",
        hint="choose a key outside the node's own rows",
    )


def _not_increasing(index: int, commit_ts: int, last_commit_ts: int) -> Corruption:
    return Corruption(
        f"entry {index} has commit_ts {commit_ts} after {last_commit_ts}",
        code="commit_ts_not_increasing",
        hint=f"the log is damaged, or was written by another version: {DAMAGED_NODE_HINT}",
    )
