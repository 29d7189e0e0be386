"""Clusters of bundled nodes: `node://HOST:PORT[,HOST:PORT…]`. Verified for real.

    snapshot ──ListRoutes──▶            routes of one catalog version, and the cluster's id
    versions ──WatchCatalog──▶          routes of every catalog version since one
    load ──────StreamWindows──▶         closed load windows of all members, as tables
    apply ─────SplitRange──▶            one split, at most once, whatever answer gets lost
    export ────Export──▶                all versions of a group as of one read_ts
    restore_… ─Restore──▶               an empty cluster, brought to the history of an export

Any address of the cluster will do; several keep it reachable while one is down. Read-only unless
opened with `allow_write`. Only splits inside a group: nothing here moves a span.

A window is told only when every member that answers has closed it. Who does not answer is named:
of routes that it led, nothing, or a part of the window, is told. A split whose outcome is not
known is looked for among the routes before the call is repeated, under the same request id.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from workbench.errors import (
    Conflict,
    Corruption,
    Internal,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    Storage,
    Unavailable,
    WorkbenchError,
)
from workbench.model.keys import Span
from workbench.model.tables import LOAD_WINDOW, check_table
from workbench.model.times import from_us, to_us
from workbench.node.client import NodeClient
from workbench.ports.connector import (
    Capabilities,
    LoadAnswer,
    PreparedCall,
    SplitReceipt,
    VersionChunk,
)
from workbench_connectors.node_load import (
    TIME_US_MAX,
    check_windows,
    hot_key_table,
    key_sample_table,
    load_table,
    malformed,
    told_by_all,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    import pyarrow as pa

    from workbench.model.node import (
        ExportCursor,
        NodeStatus,
        RestoreStatus,
    )
    from workbench.model.routes import RouteSnapshot
    from workbench.node.client import ExportChunk, Windows
    from workbench.ports.connector import SplitCall

SCHEME: Final = "node://"
SPLIT_METHOD: Final = "/Distribution/SplitRange"
REQUEST_ID: Final = "x-workbench-request-id"
# Before the second attempt, the third, …; one more attempt than there are pauses.
PAUSES_S: Final = (0.1, 0.3, 1.0, 2.0)
ADDRESSES_MAX: Final = 64
PORT_MAX: Final = 65_535
PORT_DIGITS_MAX: Final = 9
NOTES: Final = {"load": "every access was counted", "cpu_ns": "not measured"}


class Client(Protocol):
    """What is needed of a NodeClient."""

    def status(self) -> NodeStatus:
        """Return how the first node that answers is."""
        ...

    def list_routes(self) -> RouteSnapshot:
        """Return the newest routes."""
        ...

    def versions_since(self, after: int) -> list[RouteSnapshot]:
        """Return the routes of every catalog version above one."""
        ...

    def split_range(
        self, *, expected_version: int, route_id: int, split_key: bytes, request_id: str
    ) -> SplitReceipt:
        """Make one call, once."""
        ...

    def windows(self, since_us: int | None = None) -> Windows:
        """Return the closed windows of all members that answer."""
        ...

    def timestamp(self) -> int:
        """Return a read_ts that is safe for all groups."""
        ...

    def catalog_at(self, read_ts: int) -> RouteSnapshot:
        """Return the routes as of a read_ts."""
        ...

    def export(
        self,
        group: int,
        *,
        read_ts: int,
        start: bytes = b"",
        end: bytes | None = None,
        after: ExportCursor | None = None,
    ) -> Iterator[ExportChunk]:
        """Yield the versions of a group, piece by piece."""
        ...

    def restore_status(self, group: int) -> RestoreStatus:
        """Return how far the restore of a group is."""
        ...

    def restore_begin(
        self, group: int, restore_id: bytes, spans: Sequence[tuple[Span, int]]
    ) -> RestoreStatus:
        """Close an empty group, and give it spans."""
        ...

    def import_rows(
        self, group: int, restore_id: bytes, tables: Iterable[pa.Table], *, seq: int
    ) -> RestoreStatus:
        """Store versions, numbered from `seq`."""
        ...

    def save_routes(
        self, restore_id: bytes, *, expected_version: int, snapshot: RouteSnapshot
    ) -> int:
        """Replace the route catalog of a group that is being restored."""
        ...

    def restore_end(self, group: int, restore_id: bytes) -> RestoreStatus:
        """Open a restored group."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class NodeConnector:
    """One cluster of bundled nodes: its routes, its load, and splits of it.

    Args:
        client: Of the cluster.
        addresses: Of the cluster's nodes, as the URL has them.
        allow_write: Whether splits may be executed.
        sleep: Waits for so many seconds between attempts.
    """

    def __init__(
        self,
        client: Client,
        addresses: Sequence[str],
        *,
        allow_write: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._addresses = tuple(addresses)
        self._allow_write = allow_write
        self._sleep = sleep

    def capabilities(self) -> Capabilities:
        """Return that routes can be split at any key, bound to a catalog version; not moved."""
        return Capabilities(
            ordered=True,
            watch=True,
            split=True,
            compare_and_set=True,
            load=True,
            buckets=True,
            idempotent=True,
            export=True,
            restore=True,
        )

    def snapshot(self) -> RouteSnapshot:
        """Return the routes of the newest catalog version.

        Raises:
            Unavailable: no node answers, or none knows a leader of the catalog group.
            Corruption: the answer breaks a rule of routes.
        """
        return self._client.list_routes()

    def versions(self, after: int) -> list[RouteSnapshot]:
        """Return the routes of every catalog version above `after`, ascending.

        Versions that the cluster no longer keeps are left out; the newest never is.

        Raises:
            InvalidInput: `watch_cursor_ahead`: the cluster has not come to `after` yet.
            Unavailable: no node answers, or none leads the catalog group.
            Corruption: the versions do not follow from one another.
        """
        return self._client.versions_since(after)

    def load(self, cluster: str, since: datetime | None) -> LoadAnswer:
        """Return the windows that start at `since` or later, closed by all members that answer.

        Args:
            cluster: Name to put into each row.
            since: Aware; None for all that are kept.

        Raises:
            Unavailable: no member answers.
            InvalidInput: `load_malformed`, `load_told_twice`: an answer cannot be accepted.
        """
        status = self._client.status()
        if status.window_ms < 1:
            raise malformed(f"windows of {status.window_ms} ms")
        answer = self._client.windows(None if since is None else to_us(since))
        check_windows(answer.closed, status.window_ms)
        members = [each.node for each in status.members if each.node not in answer.missing]
        whole = told_by_all(answer.closed, members)
        oldest_us = answer.oldest_us or None  # servers without windows may say 0
        if oldest_us is not None and not 0 <= oldest_us <= TIME_US_MAX:
            raise malformed(f"an oldest window at {oldest_us} µs")
        return LoadAnswer(
            windows=check_table(load_table(cluster, whole), LOAD_WINDOW, "load of the node"),
            window_ms=status.window_ms,
            oldest=None if oldest_us is None else from_us(oldest_us),
            notes=NOTES,
            hot_keys=hot_key_table(whole),
            key_samples=key_sample_table(whole),
            missing=tuple(f"node {node}" for node in answer.missing),
        )

    def prepare(self, split: SplitCall, idempotency_key: str) -> PreparedCall:
        """Return the literal SplitRange call; makes none."""
        return PreparedCall(
            split=split,
            address=self._addresses[0],
            method=SPLIT_METHOD,
            fields={
                "expected_catalog_version": split.expected_version,
                "route_id": split.route.route_id,
                "split_key": split.split_key.hex(),
            },
            metadata={REQUEST_ID: idempotency_key},
        )

    def apply(self, call: PreparedCall) -> SplitReceipt:
        """Make the split, or find it made; try again, a bounded number of times, where safe.

        The request id and the expected version stay the same in every attempt, so that at most
        one of them takes effect. After an answer that leaves the outcome open, or that another
        change came first, the routes are looked at for the two children before anything else.

        Raises:
            InvalidArgument: `connector_read_only`.
            Conflict: `catalog_version_mismatch`, and the children are not there.
            NotFound: `route_absent`.
            InvalidInput: the split key is not inside the route.
            Unavailable: nothing was done.
            OutcomeUnknown: it may have been done, and nobody could be asked.
        """
        self._check_may_write()
        unknown: WorkbenchError | None = None
        failure: WorkbenchError
        for pause_s in (0.0, *PAUSES_S):
            if pause_s:
                self._sleep(pause_s)
            try:
                return self._split(call)
            except Unavailable as error:
                if not error.retryable:
                    raise
                failure = error
            except (OutcomeUnknown, Conflict, NotFound, Internal, Storage, Corruption) as error:
                made = self._settle(error, call.split)
                if made is not None:
                    return made
                failure = unknown = error
        if unknown is None:
            raise failure
        raise OutcomeUnknown(
            f"the split of route {call.split.route.route_id} at 0x{call.split.split_key.hex()} may "
            f"or may not have been made: {failure.message}",
            code="split_outcome_unknown",
            hint="run the same command again: it looks for the children first",
        ) from unknown

    def find(self, span: Span, split_key: bytes) -> SplitReceipt | None:
        """Return the split of `span` at `split_key` where both its children are there.

        The receipt has the catalog version at which they were seen, the split's own or a later
        one. None also where a child was split again: its own row is gone then.
        """
        return _children(self.snapshot(), span, split_key)

    def timestamp(self) -> int:
        """Return a read_ts (HLC) as of which every group can be exported from now on."""
        return self._client.timestamp()

    def routes_at(self, read_ts: int) -> RouteSnapshot:
        """Return the routes as they were at `read_ts` (HLC).

        Raises:
            NotFound: `catalog_not_begun`: the cluster is younger.
        """
        return self._client.catalog_at(read_ts)

    def export(
        self,
        group: int,
        read_ts: int,
        *,
        start: bytes = b"",
        end: bytes | None = None,
        after: ExportCursor | None = None,
    ) -> Iterator[VersionChunk]:
        """Yield the versions of [start, end) that a group owns and had by `read_ts` (HLC).

        Raises:
            Unavailable: the group does not answer; `export_interrupted` where it stopped midway.
        """
        for chunk in self._client.export(group, read_ts=read_ts, start=start, end=end, after=after):
            yield VersionChunk(chunk.table, chunk.cursor, chunk.done)

    def groups(self) -> tuple[int, ...]:
        """Return the ids of all groups, ascending."""
        members = self._client.status().members
        return tuple(sorted({group for member in members for group in member.groups}))

    def restore_status(self, group: int) -> RestoreStatus:
        """Return how far the restore of a group is; also of one that has ended."""
        return self._client.restore_status(group)

    def restore_begin(
        self, group: int, restore_id: bytes, spans: Sequence[tuple[Span, int]]
    ) -> RestoreStatus:
        """Let a group own these spans, each with its generation, and take imports alone.

        Raises:
            InvalidArgument: `connector_read_only`.
            Conflict: `group_not_empty`, `restore_other`, `restore_spans_differ`.
        """
        self._check_may_write()
        return self._client.restore_begin(group, restore_id, spans)

    def import_rows(
        self, group: int, restore_id: bytes, tables: Iterable[pa.Table], *, seq: int
    ) -> RestoreStatus:
        """Store versions; table number i has the sequence number `seq` + i.

        Raises:
            InvalidArgument: `connector_read_only`.
            Conflict: `import_differs`, `restore_not_running`.
            InvalidInput: a row that no client could have written, or outside the group's spans.
        """
        self._check_may_write()
        return self._client.import_rows(group, restore_id, tables, seq=seq)

    def save_routes(
        self, restore_id: bytes, snapshot: RouteSnapshot, *, expected_version: int
    ) -> int:
        """Put these routes in the place of what is there; return the catalog version.

        Raises:
            InvalidArgument: `connector_read_only`.
            Conflict: `catalog_version_mismatch`, `restore_ended`.
        """
        self._check_may_write()
        return self._client.save_routes(
            restore_id, expected_version=expected_version, snapshot=snapshot
        )

    def restore_end(self, group: int, restore_id: bytes) -> RestoreStatus:
        """Let a group serve what it was given.

        Raises:
            InvalidArgument: `connector_read_only`.
            Unavailable: `import_ahead_of_clock`: not before the newest version's time.
        """
        self._check_may_write()
        return self._client.restore_end(group, restore_id)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _check_may_write(self) -> None:
        if not self._allow_write:
            raise InvalidArgument(
                f"{SCHEME}{','.join(self._addresses)} was opened read-only",
                code="connector_read_only",
                hint="open it with allow_write, as `workbench apply` and `restore` do",
            )

    def _split(self, call: PreparedCall) -> SplitReceipt:
        return self._client.split_range(
            expected_version=call.split.expected_version,
            route_id=call.split.route.route_id,
            split_key=call.split.split_key,
            request_id=call.metadata[REQUEST_ID],
        )

    def _settle(self, error: WorkbenchError, split: SplitCall) -> SplitReceipt | None:
        """Look what came of an attempt; None where that is still open, `error` where nothing."""
        try:
            made = self.find(split.route.span, split.split_key)
        except Unavailable:
            return None
        if made is not None and made.left.parent_route_id == split.route.route_id:
            return made
        if isinstance(error, OutcomeUnknown):
            return None  # the call may still be on its way
        raise error


def connect(url: str, *, allow_write: bool = False) -> NodeConnector:
    """Open `node://HOST:PORT[,HOST:PORT…]`; no connection is made before the first call.

    Raises:
        InvalidArgument: `url_invalid`.
    """
    addresses = _addresses(url)
    return NodeConnector(NodeClient(addresses), addresses, allow_write=allow_write)


def _addresses(url: str) -> tuple[str, ...]:
    addresses = tuple(url.removeprefix(SCHEME).removesuffix("/").split(","))
    if not url.startswith(SCHEME):
        raise _url_invalid(f"{url!r} names no node")
    for address in addresses:
        if (problem := _problem(address)) is not None:
            raise _url_invalid(f"{url!r}: {problem}")
    if len(addresses) > ADDRESSES_MAX:
        raise InvalidArgument(
            f"the URL names {len(addresses)} nodes, the limit is {ADDRESSES_MAX}",
            code="url_invalid",
            hint="a few addresses are enough: any node tells of all",
        )
    return addresses


def _problem(address: str) -> str | None:
    """Return what is wrong with HOST:PORT; None for nothing."""
    host, colon, port = address.rpartition(":")
    if not colon or (address.startswith("[") and address.endswith("]")):
        return f"{address!r} has no port" if address else "a node is missing"
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host.replace(":", "/")
    if not bare or not all(each.isascii() and (each.isalnum() or each in ".-_:%") for each in bare):
        return f"{host!r} is no host"
    if not port:
        return f"{address!r} has no port"
    # Far longer digits than a port's are no number that is worth reading.
    digits = port.isascii() and port.isdecimal() and len(port) <= PORT_DIGITS_MAX
    if not digits or not 1 <= int(port) <= PORT_MAX:
        return f"the port {port!r} is no number from 1 to {PORT_MAX}"
    return None


def _url_invalid(what: str) -> InvalidArgument:
    return InvalidArgument(
        what, code="url_invalid", hint=f"write {SCHEME}HOST:PORT[,HOST:PORT], with a port each"
    )


def _children(snapshot: RouteSnapshot, span: Span, split_key: bytes) -> SplitReceipt | None:
    if split_key not in span or split_key == span.start:
        return None
    routes = {route.span: route for route in snapshot.routes}
    left = routes.get(Span(span.start, split_key))
    right = routes.get(Span(split_key, span.end))
    if left is None or right is None or left.parent_route_id == 0:
        return None
    if left.parent_route_id != right.parent_route_id:
        return None
    return SplitReceipt(snapshot.catalog_version, left, right, repeated=True)
