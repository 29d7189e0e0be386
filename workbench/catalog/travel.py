"""The catalog as it was: after a record, or at a time.

    at(seq):   newest checkpoint at or before seq ──> records up to seq
    at(time):  the last record committed until then, by halving ──> at(seq)

Commit times never go back along the log (`commit`), so a time is found in about log2(records)
requests. Records of format 1 did not promise that; among them the log is read from its start.

What was trimmed is refused by its name: the floor is the oldest sequence that can be read. Data
of datasets that are gone since may have been collected; reading them says so.

A writer whose clock was far ahead leaves its time to all records after it. A time between then
and now finds what was before them, so `at(time)` says so (`ahead_notice`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from workbench.catalog.chain import WAVE_RECORDS, check_link, empty_state, extend, read_anchor
from workbench.catalog.checkpoint import read_checkpoint
from workbench.catalog.layout import CKPT_PREFIX, ckpt_seq_of, log_key
from workbench.catalog.reading import open_dataset, read_table
from workbench.errors import Corruption, InvalidArgument, InvalidInput, NotFound
from workbench.model.times import rfc3339

if TYPE_CHECKING:
    import builtins

    import pyarrow as pa
    import pyarrow.dataset as ds

    from workbench.catalog.record import Record
    from workbench.catalog.registry import State
    from workbench.model.manifest import Manifest
    from workbench.ports.object_store import ObjectStore


# Clocks that differ by less are as good as one.
AHEAD_MAX: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class CatalogAt:
    """The catalog after one record; read-only. Made by `Catalog.at`."""

    _store: ObjectStore
    _state: State
    _now: State

    @property
    def seq(self) -> int:
        """The record after which it was so; 0 for before the first."""
        return self._state.seq

    @property
    def committed_at(self) -> datetime | None:
        """When that record was committed, UTC; None before the first."""
        return self._state.committed_at

    @property
    def store(self) -> ObjectStore:
        """The store that it lives in."""
        return self._store

    def get(self, name: str) -> Manifest:
        """Return what was known of `name`; NotFound (`dataset_absent`) where nothing was."""
        manifest = self._state.get(name)
        if manifest is not None:
            return manifest
        shown = name if len(name) <= 64 else f"{name[:64]}…"
        raise NotFound(
            f"there was no dataset {shown!r} in {self._store.url} at sequence {self.seq}",
            code="dataset_absent",
            hint=f"`workbench catalog ls --at {self.seq}` lists all that were",
        )

    def list(self, prefix: str = "") -> builtins.list[Manifest]:
        """Return all datasets that there were whose name starts with `prefix`, by name."""
        return self._state.select(prefix)

    def dataset(
        self,
        name: str,
        *,
        hashed: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> ds.Dataset:
        """Return a pyarrow dataset over what it held; see `Catalog.dataset`.

        Raises:
            NotFound: `dataset_absent`; `object_collected`, where its data are gone since.
            Corruption: As `Catalog.dataset`.
        """
        manifest = self.get(name)
        try:
            return open_dataset(self._store, manifest, hashed=hashed, since=since, until=until)
        except Corruption as error:
            raise self._collected(manifest, error) from error

    def read(self, name: str) -> pa.Table:
        """Return all rows that it held; see `Catalog.read`.

        Raises:
            NotFound: `dataset_absent`; `object_collected`, where its data are gone since.
            Corruption: As `Catalog.read`.
        """
        manifest = self.get(name)
        try:
            return read_table(self._store, manifest)
        except Corruption as error:
            raise self._collected(manifest, error) from error

    def _collected(self, manifest: Manifest, error: Corruption) -> Corruption | NotFound:
        """Return the error itself, unless the object is missing as nothing refers to it now."""
        key = error.message.partition(":")[0]
        if error.code != "object_missing" or self._now.manifests.referred([key]):
            return error
        return NotFound(
            f"dataset {manifest.name!r} at sequence {self.seq} held {key!r}, which nothing refers "
            "to any more and which garbage collection (`workbench catalog gc`) has removed",
            code="object_collected",
            hint="older data than the grace period cannot be read; name a later sequence or time",
        )


def look_back(
    store: ObjectStore, state: State, point: int | datetime, *, now: datetime
) -> tuple[CatalogAt, tuple[str, ...]]:
    """Return the catalog as it was at `point`, and what was wrong and could be passed over.

    Args:
        store: Where it lives.
        state: The newest known.
        point: A sequence or an aware time.
        now: Later times are refused.

    Raises:
        NotFound: `history_trimmed`.
        InvalidInput: `point_invalid`.
        Corruption: What is needed for it is not sound.
    """
    seq = _seq_at(store, state, point, now) if isinstance(point, datetime) else point
    if not 0 <= seq <= state.seq:
        raise InvalidInput(
            f"the catalog has sequences 0 to {state.seq}, not {seq}",
            code="point_invalid",
            hint="name one of these, or a time",
        )
    if seq < state.floor:
        raise _trimmed(store, state, f"sequence {seq}")
    if seq == state.seq:
        return CatalogAt(store, state, state), ()
    then, notices = _state_at(store, state, seq)
    ahead = ahead_notice(state.committed_at, now) if isinstance(point, datetime) else None
    return CatalogAt(store, then, state), notices if ahead is None else (*notices, ahead)


def ahead_notice(committed_at: datetime | None, now: datetime) -> str | None:
    """Return what to tell where the newest record's time is ahead of ours; None where it is not.

    Args:
        committed_at: Of the newest record; None where there is none.
        now: By this machine's clock.
    """
    if committed_at is None or committed_at - now <= AHEAD_MAX:
        return None
    return (
        f"the newest record says that it was committed at {rfc3339(committed_at)}, but here it is "
        f"{rfc3339(now)}: a writer's clock was ahead. Records since then carry that time too, so "
        "looking back by time leaves them out; look back by sequence, and check the clocks"
    )


def _state_at(store: ObjectStore, state: State, seq: int) -> tuple[State, tuple[str, ...]]:
    keys = store.list_after(CKPT_PREFIX)
    known = sorted((s for s in map(ckpt_seq_of, keys) if s and s <= seq), reverse=True)
    notices: list[str] = []
    failure: Corruption | None = None
    for each in known:
        try:
            base = read_checkpoint(store, each).state
            if base.catalog_uuid == state.catalog_uuid:
                return extend(store, base, seq), tuple(notices)
        except NotFound:
            continue
        except Corruption as error:
            failure = failure or error
            notices.append(f"{error.message}; what it should give was read from elsewhere")
        if each <= state.floor:
            break  # what lies before the floor leads nowhere
    if state.floor and failure is not None:
        raise failure
    return extend(store, empty_state(read_anchor(store)), seq), tuple(notices)


def _seq_at(store: ObjectStore, state: State, moment: datetime, now: datetime) -> int:
    """Return the last record that was committed until `moment`, 0 where none was."""
    if moment.tzinfo is None:
        raise InvalidInput(
            f"{moment.isoformat()} has no time zone",
            code="point_invalid",
            hint="name a time that has passed, with its zone",
        )
    if moment > now:
        raise InvalidArgument(
            f"{rfc3339(moment)} (UTC) is to come: it is {rfc3339(now)}",
            code="point_invalid",
            hint="name a time that has passed; one without a zone is read as UTC",
        )
    if state.committed_at is None or moment >= state.committed_at:
        return state.seq
    # The record at `low` is not later than `moment`, that at `high` is.
    low, high = state.floor, state.seq
    if low and moment < _committed_at(store, state, low):
        raise _trimmed(store, state, rfc3339(moment))
    while high - low > 1:
        middle = (low + high) // 2
        record = _record(store, state, middle)
        if record.version == 1:
            return _scan(store, state, moment)
        if record.committed_at <= moment:
            low = middle
        else:
            high = middle
    return low


def _scan(store: ObjectStore, state: State, moment: datetime) -> int:
    """Return the last record such that none up to it is later than `moment`, one by one."""
    for start in range(state.floor + 1, state.seq + 1, WAVE_RECORDS):
        wave = range(start, min(start + WAVE_RECORDS, state.seq + 1))
        for seq, data in zip(wave, store.get_many([*map(log_key, wave)]), strict=True):
            link = check_link(data, seq=seq, parent_sha256=None, state=state)
            if link.record.committed_at > moment:
                return seq - 1
    return state.seq


def _record(store: ObjectStore, state: State, seq: int) -> Record:
    data = store.get(log_key(seq))
    return check_link(data, seq=seq, parent_sha256=None, state=state).record


def _committed_at(store: ObjectStore, state: State, seq: int) -> datetime:
    found = read_checkpoint(store, seq).state.committed_at
    assert found is not None, "a checkpoint without a time"
    return found.astimezone(UTC)


def _trimmed(store: ObjectStore, state: State, what: str) -> NotFound:
    since = rfc3339(_committed_at(store, state, state.floor))
    if _is_restart(store, state):
        return NotFound(
            f"{what} lies before sequence {state.floor}, at which a repair started the log of "
            f"{store.url} anew, committed at {since}",
            code="history_trimmed",
            hint="name that or a later one; what was before it cannot be read any more",
        )
    return NotFound(
        f"{what} lies before the oldest that {store.url} keeps: sequence {state.floor}, committed "
        f"at {since}",
        code="history_trimmed",
        hint="name that or a later one; `workbench catalog gc --keep` says how long to keep",
    )


def _is_restart(store: ObjectStore, state: State) -> bool:
    """Return whether a repair set the floor; False where its record is gone or not sound."""
    try:
        return _record(store, state, state.floor).restarts
    except (Corruption, NotFound):
        return False
