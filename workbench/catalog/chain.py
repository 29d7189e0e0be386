"""From a store to a verified state: the hash chain, read from its anchor.

    FORMAT <──parent_sha256── 1 <──parent_sha256── 2 <── … <── n      (n = head)

A record is accepted if it is intact in itself (`record`), belongs to this catalog, carries the
number of its key, and carries SHA-256 of all bytes of the record before it. Loading is all or
nothing: one record that fails, and no state comes out.

What a chain cannot show: that its newest records were deleted. A log that lost its tail is a
shorter, intact log. Only a process that had read further notices, as its head is gone.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from workbench.catalog.anchor import Anchor, decode_anchor
from workbench.catalog.faults import corrupt
from workbench.catalog.layout import CATALOG_PREFIX, FORMAT_KEY, LOG_PREFIX, log_key, seq_of
from workbench.catalog.record import decode_record
from workbench.catalog.registry import Link, State, fold
from workbench.errors import NotFound

if TYPE_CHECKING:
    from workbench.errors import Corruption
    from workbench.ports.object_store import ObjectStore

WAVE_RECORDS: Final = 256  # records held as bytes at a time


def read_anchor(store: ObjectStore) -> Anchor:
    """Return what FORMAT says.

    Raises:
        NotFound: `catalog_absent`, where the store holds no catalog.
        Corruption: `format_corrupt`, also where there are records but no FORMAT.
        InvalidInput: Another format version.
    """
    try:
        data = store.get(FORMAT_KEY)
    except NotFound as error:
        if store.list_after(CATALOG_PREFIX):
            raise corrupt(FORMAT_KEY, "is missing, its records are there", "format_corrupt") from (
                error
            )
        raise NotFound(
            f"no catalog in {store.url}",
            code="catalog_absent",
            hint="workbench collect or workbench catalog init creates one",
        ) from error
    return decode_anchor(data)


def empty_state(anchor: Anchor) -> State:
    """Return the state of a catalog without records."""
    return State(anchor.catalog_uuid, seq=0, head_sha256=anchor.sha256, manifests={})


def load(store: ObjectStore) -> State:
    """Return the state of the whole catalog: FORMAT, one listing, the records in waves."""
    state = empty_state(read_anchor(store))
    last = max((seq_of(key) or 0 for key in store.list_after(LOG_PREFIX)), default=0)
    for start in range(1, last + 1, WAVE_RECORDS):
        wave = range(start, min(start + WAVE_RECORDS, last + 1))
        links = []
        seq, parent = state.seq, state.head_sha256
        for data in _get_wave(store, wave):
            seq += 1
            link = check_link(data, seq=seq, parent_sha256=parent, state=state)
            parent = link.sha256
            links.append(link)
        state = fold(state, links)
    return state


def advance(store: ObjectStore, state: State) -> tuple[State, list[Link]]:
    """Return the state after the records that came since, and those records.

    Probes seq + 1 and on: one request each, and one more that finds nothing.

    Raises:
        Corruption: Where one is not sound; `state` is untouched.
    """
    links: list[Link] = []
    seq, parent = state.seq, state.head_sha256
    while True:
        try:
            data = store.get(log_key(seq + 1))
        except NotFound:
            break
        seq += 1
        links.append(check_link(data, seq=seq, parent_sha256=parent, state=state))
        parent = links[-1].sha256
    return (fold(state, links) if links else state), links


def check_end(store: ObjectStore, state: State) -> None:
    """Raise Corruption where the log around the head of `state` has a hole.

    That is: records follow, but not directly (a writer makes n + 1 only after it has read n), or
    the head itself is gone. One listing, and probes only where it looks wrong, as listings may
    be stale.
    """
    keys = store.list_after(LOG_PREFIX, log_key(max(state.seq - 1, 0)))
    seqs = [seq for seq in map(seq_of, keys) if seq]
    last = max(seqs, default=state.seq)
    expected = [seq for seq in (state.seq, state.seq + 1) if 0 < seq <= last]
    for seq in expected:
        if seq in seqs:
            continue
        try:
            store.get(log_key(seq))
        except NotFound as error:
            raise _gap(seq, last) from error


def check_link(data: bytes, *, seq: int, parent_sha256: str | None, state: State) -> Link:
    """Return the record that `data` holds, checked to be number `seq` of this catalog.

    Args:
        data: All bytes of the object under `log_key(seq)`.
        seq: The number that its key says.
        parent_sha256: Of the bytes of the record before; None where that is not known.
        state: Any state of the catalog.

    Raises:
        Corruption: `record_corrupt`, `record_foreign`, `record_chain_broken`,
            `record_format_unsupported`.
    """
    key = log_key(seq)
    record = decode_record(data, key)
    if record.catalog_uuid != state.catalog_uuid:
        raise corrupt(
            key,
            f"belongs to catalog {record.catalog_uuid}, this one is {state.catalog_uuid}",
            "record_foreign",
        )
    if record.seq != seq:
        raise corrupt(key, f"says that it is record {record.seq}", "record_chain_broken")
    if parent_sha256 is not None and record.parent_sha256 != parent_sha256:
        raise corrupt(
            key,
            f"follows a record of SHA-256 {record.parent_sha256}, "
            f"the one before it has {parent_sha256}",
            "record_chain_broken",
        )
    return Link(record, hashlib.sha256(data).hexdigest())


def _get_wave(store: ObjectStore, seqs: range) -> list[bytes]:
    try:
        return store.get_many([log_key(seq) for seq in seqs])
    except NotFound:
        for seq in seqs:  # which one
            try:
                store.get(log_key(seq))
            except NotFound as error:
                raise _gap(seq, seqs[-1]) from error
        raise


def _gap(missing: int, last: int) -> Corruption:
    seen = f"record {last} is there" if last > missing else "it was there before"
    return corrupt(log_key(missing), f"is missing, {seen}", "record_missing")
