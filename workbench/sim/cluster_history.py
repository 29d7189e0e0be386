"""What clients asked and were told, beside what took effect: exactly once, in real-time order.

    client ──begin──▶ Operation ──answered──▶ against the versions that took effect
    auditor ─applied─▶ versions by key        against what was told before it began

Values are unique, so a version tells which operation brought it. Checked at once:

- a version belongs to an operation that was begun, comes once, whole, at one commit_ts, and not
  where the client was told that nothing was done;
- commit_ts rise per group, hence per key, across leaders; none falls at or below a read_ts that
  was served: so every read stays repeatable;
- an acknowledged write is what took effect, at the commit_ts and index that were told, above
  everything that the group had told anybody before the write began;
- a read is exactly what the versions say at its read_ts; one of the latest is not below anything
  that the group had told anybody before the read began (linearizability: values are unique, and
  commit_ts and read_ts are one order that agrees with real time).

At the end the same once more over every read that was answered, and that every acknowledged
version is there. A host's answer counts from the moment that the host gives it, whether or not
the client ever sees it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from workbench.errors import OutcomeUnknown, WorkbenchError
from workbench.model.node import GotMany, Written
from workbench.mvcc.encoding import decode_value, split_version_key
from workbench.replica.commands import (
    CatalogListing,
    GetMany,
    LatestCommitTs,
    LatestTs,
    ListCatalog,
    Page,
    Refused,
    ScanPage,
    SplitDone,
    SplitRange,
    WriteBatch,
)
from workbench.replica.layout import VERSIONS, family

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workbench.ports.storage import Change

Asked = WriteBatch | SplitRange | GetMany | ScanPage | LatestCommitTs | ListCatalog
INTERNAL: Final = b"!"


class Violation(BaseException):  # not an Exception: no code under test may catch it
    """Something that must never happen has happened."""


@dataclass(slots=True)
class Operation:
    """One thing that a client wants, over all its attempts.

    Attributes:
        number: Unique.
        group: Of which group.
        asked: What.
        told: The largest commit_ts or read_ts that the group had told anybody when it began.
        version: The newest catalog version that anybody had been told then.
        unknown: Whether an attempt may still take effect, or has.
        status: `running`, `acknowledged`, `failed` (nothing was done) or `unknown`.
        commit_ts: At which it took effect; 0 for not yet.
        index: Of the entry that brought it.
        rows: How many of its versions came.
    """

    number: int
    group: int
    asked: Asked
    told: int
    version: int
    unknown: bool = False
    status: str = "running"
    commit_ts: int = 0
    index: int = 0
    rows: int = 0


@dataclass(slots=True)
class GroupHistory:
    """What took effect in one group, and what it has told.

    Attributes:
        prefix: Of the engine keys of its versions.
        versions: By key: (commit_ts, value), ascending.
        indexes: By commit_ts, of user writes.
        newest: The newest commit_ts that took effect.
        told: The largest commit_ts or read_ts told to anybody.
        served: The largest read_ts told to anybody.
        answers: Every read that was answered: (key, read_ts, commit_ts or 0).
    """

    prefix: bytes
    versions: dict[bytes, list[tuple[int, bytes | None]]] = field(default_factory=dict)
    indexes: dict[int, int] = field(default_factory=dict)
    newest: int = 0
    told: int = 0
    served: int = 0
    answers: list[tuple[bytes, int, int]] = field(default_factory=list)


class History:
    """All clients' operations, and the versions that took effect.

    Args:
        groups: Ids.

    Attributes:
        checks: How many were made.
        operations: By number.
        groups: What is known of each group.
        ended: How operations ended, by kind.
    """

    def __init__(self, groups: Iterable[int]) -> None:
        self.checks = 0
        self.operations: list[Operation] = []
        self.groups = {group: GroupHistory(family(group, VERSIONS)) for group in groups}
        self.ended: Counter[str] = Counter()
        self.version = 0
        self._by_value: dict[bytes, Operation] = {}
        self._splits: dict[int, int] = {}

    # -- what took effect ------------------------------------------------------------------------

    def applied(self, group: int, index: int, changes: Sequence[Change]) -> None:
        """Take in what the first replica to apply an index has written."""
        known = self.groups[group]
        prefix = known.prefix
        newest = known.newest
        for data, stored in changes:
            if stored is None or not data.startswith(prefix):
                continue
            self.checks += 1
            key, commit_ts = split_version_key(prefix, data)
            if commit_ts < newest or (commit_ts == newest and known.indexes.get(newest) != index):
                raise Violation(f"group {group}: {commit_ts} at {index} comes after {newest}")
            if commit_ts <= known.served:
                raise Violation(
                    f"group {group}: {commit_ts} at {index} is not above the served {known.served}"
                )
            newest = commit_ts
            known.newest = commit_ts
            known.indexes[commit_ts] = index
            value = decode_value(stored)
            if not key.startswith(INTERNAL):
                known.versions.setdefault(key, []).append((commit_ts, value))
                if value is not None:
                    self._took_effect(group, index, commit_ts, key, value)

    def _took_effect(
        self, group: int, index: int, commit_ts: int, key: bytes, value: bytes
    ) -> None:
        operation = self._by_value.get(value)
        if operation is None or operation.group != group:
            raise Violation(
                f"group {group} holds {value!r} under {key!r}, which nobody wrote there"
            )
        if operation.status == "failed":
            raise Violation(f"{value!r} took effect at {index}, its client was told it did not")
        if operation.commit_ts not in {0, commit_ts}:
            raise Violation(
                f"{value!r} took effect twice: at {operation.commit_ts} and {commit_ts}"
            )
        operation.commit_ts, operation.index = commit_ts, index
        operation.rows += 1
        if operation.status == "acknowledged":
            raise Violation(f"{value!r} took effect at {index}, after it was acknowledged")

    # -- what clients say ------------------------------------------------------------------------

    def begin(self, group: int, asked: Asked) -> Operation:
        """Take note of what a client is about to ask for."""
        told = self.groups[group].told
        operation = Operation(len(self.operations), group, asked, told, self.version)
        self.operations.append(operation)
        if isinstance(asked, WriteBatch):
            for mutation in asked.mutations:
                if mutation.value is not None:
                    self._by_value[mutation.value] = operation
        return operation

    def lost(self, operation: Operation) -> None:
        """Note that an attempt got no answer."""
        operation.unknown = True

    def give_up(self, operation: Operation) -> None:
        """Note that the client asks no more."""
        if operation.status == "running":
            self._end(operation, "unknown" if operation.unknown else "failed")

    def answered(self, operation: Operation, result: object) -> None:
        """Take in a host's answer."""
        self.checks += 1
        if isinstance(result, Refused):
            result = result.error
        if isinstance(result, WorkbenchError):
            operation.unknown |= isinstance(result, OutcomeUnknown)
            return
        self._take(operation, result)
        if operation.status == "running":
            self._end(operation, "acknowledged")

    def _take(self, operation: Operation, result: object) -> None:
        match operation.asked, result:
            case WriteBatch(), Written():
                self._written(operation, operation.asked, result)
            case SplitRange(), SplitDone():
                self._split(operation, operation.asked, result)
            case GetMany(), GotMany():
                self._got(operation, operation.asked, result)
            case ScanPage(), Page():
                self._page(operation, operation.asked, result)
            case LatestCommitTs(), LatestTs():
                self._latest(operation, operation.asked, result)
            case ListCatalog(), CatalogListing():
                self._listed(operation, result)
            case asked, _:
                raise Violation(f"{asked} was answered by {result}")

    def finish(self) -> None:
        """Compare everything that was told with everything that took effect."""
        for group, known in self.groups.items():
            for key, read_ts, commit_ts in known.answers:
                self.checks += 1
                found = _visible(known.versions.get(key, ()), read_ts)
                if found[0] != commit_ts:
                    raise Violation(
                        f"group {group}: {key!r} at {read_ts} was told to be of {commit_ts}, it is "
                        f"of {found[0]} in the end"
                    )
        for operation in self.operations:
            if not isinstance(operation.asked, WriteBatch):
                continue
            self.checks += 1
            puts = {m.key for m in operation.asked.mutations if m.value is not None}
            if operation.rows not in {0, len(puts)}:
                raise Violation(f"{operation} took effect by {operation.rows} of {len(puts)} rows")
            if operation.status == "acknowledged" and puts and not operation.rows:
                raise Violation(f"{operation} was acknowledged, and is lost")

    def compare(self, group: int, rows: Mapping[bytes, bytes]) -> None:
        """Compare the versions that took effect with an engine's rows."""
        known = self.groups[group]
        found: dict[bytes, list[tuple[int, bytes | None]]] = {}
        for data, stored in rows.items():
            if data.startswith(known.prefix):
                key, commit_ts = split_version_key(known.prefix, data)
                if not key.startswith(INTERNAL):
                    found.setdefault(key, []).append((commit_ts, decode_value(stored)))
        self.checks += len(found)
        for versions in found.values():
            versions.sort(key=lambda version: version[0])
        if found != known.versions:
            raise Violation(f"group {group} ends with other versions than took effect")

    # -- answers ---------------------------------------------------------------------------------

    def _written(self, operation: Operation, asked: WriteBatch, written: Written) -> None:
        known = self.groups[operation.group]
        if known.indexes.get(written.commit_ts) != written.index:
            raise Violation(
                f"{asked} was acknowledged as {written}, index {written.index} holds no such thing"
            )
        for mutation in asked.mutations:
            if (written.commit_ts, mutation.value) not in known.versions.get(mutation.key, ()):
                raise Violation(f"{asked} was acknowledged as {written}, {mutation} is not there")
        if operation.status == "acknowledged" and written.commit_ts != operation.commit_ts:
            raise Violation(f"{asked} was acknowledged as {operation.commit_ts}, then as {written}")
        operation.commit_ts, operation.index = written.commit_ts, written.index
        if written.commit_ts <= operation.told:
            raise Violation(f"{asked} began after {operation.told} was told, and got {written}")
        known.told = max(known.told, written.commit_ts)

    def _split(self, operation: Operation, asked: SplitRange, done: SplitDone) -> None:
        if done.catalog_version != asked.expected_version + 1:
            raise Violation(f"{asked} was answered by {done}")
        if self._splits.setdefault(done.catalog_version, operation.number) != operation.number:
            raise Violation(f"two splits made catalog version {done.catalog_version}")
        self.version = max(self.version, done.catalog_version)

    def _got(self, operation: Operation, asked: GetMany, got: GotMany) -> None:
        self._read(operation, asked.read_ts, got.read_ts)
        if len(got.versions) != len(asked.keys):
            raise Violation(f"{asked} was answered by {got}")
        for key, version in zip(asked.keys, got.versions, strict=True):
            told = None if version is None else (version.commit_ts, version.value)
            self._check(operation.group, key, got.read_ts, told)

    def _page(self, operation: Operation, asked: ScanPage, page: Page) -> None:
        self._read(operation, asked.read_ts, page.read_ts)
        found = dict(page.rows)
        if page.next_key is not None:
            raise Violation(f"{asked} was answered by a part: {page}")
        for key in self.groups[operation.group].versions:
            if asked.start <= key and (asked.end is None or key < asked.end):
                version = found.pop(key, None)
                told = None if version is None else (version.commit_ts, version.value)
                self._check(operation.group, key, page.read_ts, told)
        if found:
            raise Violation(f"{asked} was answered with {sorted(found)}, which nobody wrote")

    def _latest(self, operation: Operation, asked: LatestCommitTs, latest: LatestTs) -> None:
        known = self.groups[operation.group]
        versions = known.versions.get(asked.key, [])
        newest = versions[-1][0] if versions else None
        least = _visible(versions, operation.told, deleted=True)[0]
        if (latest.commit_ts or 0) < least or (latest.commit_ts or 0) > (newest or 0):
            raise Violation(f"{asked} was answered by {latest}, {least} was told before")
        known.told = max(known.told, latest.commit_ts or 0)

    def _listed(self, operation: Operation, listing: CatalogListing) -> None:
        if listing.version < operation.version:
            raise Violation(f"catalog version {listing.version} after {operation.version} was told")
        self.version = max(self.version, listing.version)

    def _read(self, operation: Operation, wanted: int, read_ts: int) -> None:
        known = self.groups[operation.group]
        if wanted not in {0, read_ts}:
            raise Violation(f"{operation.asked} was answered as of {read_ts}")
        if not wanted and read_ts < operation.told:
            raise Violation(
                f"{operation.asked} was answered as of {read_ts}, {operation.told} was told before"
            )
        known.told = max(known.told, read_ts)
        known.served = max(known.served, read_ts)

    def _check(
        self, group: int, key: bytes, read_ts: int, told: tuple[int, bytes | None] | None
    ) -> None:
        self.checks += 1
        known = self.groups[group]
        found = _visible(known.versions.get(key, ()), read_ts)
        if found != (told or (0, None)):
            raise Violation(f"group {group}: {key!r} at {read_ts} is told as {told}, it is {found}")
        known.answers.append((key, read_ts, found[0]))

    def _end(self, operation: Operation, status: str) -> None:
        if status == "failed" and operation.rows:
            raise Violation(f"{operation} took effect, its client is told that it did not")
        operation.status = status
        self.ended[f"{type(operation.asked).__name__} {status}"] += 1


def _visible(
    versions: Sequence[tuple[int, bytes | None]], read_ts: int, *, deleted: bool = False
) -> tuple[int, bytes | None]:
    """Return the newest version at or below read_ts; (0, None) for none, or a deletion."""
    at = bisect_right(versions, read_ts, key=lambda version: version[0]) - 1
    if at < 0 or (versions[at][1] is None and not deleted):
        return 0, None
    return versions[at]
