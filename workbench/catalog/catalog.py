"""The catalog: a registry of datasets that lives in an object store and nowhere else.

    Catalog ── State (in memory, swapped whole) <── chain ── store
       └────── Transaction, Uploads ──────────────────────> store

Rules:

- Persist first, then swap. Memory is a cache: deleting it loses nothing.
- The state that is served is always a whole one. A record that fails a check raises, and the old
  state keeps being served.
- Many writers, no lock: see `commit`.
- What is returned shares nothing with the state.

Use one Catalog from one thread, or guard it; several, also in several processes, are fine.

Not here: repair, which works on a catalog that does not open; see `repair`.
"""

from __future__ import annotations

import builtins  # noqa: TC003  # `list` is a method here; see the annotations
import difflib
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from workbench.catalog.anchor import decode_anchor, encode_anchor
from workbench.catalog.audit import audit
from workbench.catalog.chain import empty_state, load, read_anchor, refresh
from workbench.catalog.commit import Transaction
from workbench.catalog.layout import FORMAT_KEY
from workbench.catalog.reading import open_dataset, read_table
from workbench.catalog.registry import Batch, Change, State, plan
from workbench.catalog.travel import CatalogAt, look_back
from workbench.catalog.upkeep import Keeper
from workbench.catalog.uploads import Uploads
from workbench.catalog.values import (
    Problem,
    Registered,
    Registration,
    Write,
    check_registrations,
    check_writer,
)
from workbench.errors import AlreadyExists, NotFound, OutcomeUnknown, WorkbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    import pyarrow as pa
    import pyarrow.dataset as ds

    from workbench.model.manifest import Manifest
    from workbench.ports.object_store import ObjectStore
    from workbench.ports.system import Clock, Rng

__all__ = ["Catalog", "Problem", "Registered", "Registration", "Write"]


class Catalog:
    """One catalog, opened. Make it with `create` or `open`."""

    def __init__(
        self, store: ObjectStore, state: State, *, clock: Clock, rng: Rng, writer: str
    ) -> None:
        self._store = store
        self._state = state
        self._clock = clock
        self._rng = rng
        self._writer = writer
        self._notices: tuple[str, ...] = ()

    @classmethod
    def create(cls, store: ObjectStore, *, clock: Clock, rng: Rng, writer: str) -> Catalog:
        """Make an empty catalog.

        Args:
            store: One that holds none.
            clock: For times and pauses.
            rng: For uuids and pauses.
            writer: Who we are, for people who read the log; 1–256 characters.

        Raises:
            AlreadyExists: `catalog_exists`.
            Corruption: There are records, but their FORMAT is gone.
        """
        check_writer(writer)
        data = encode_anchor(rng.uuid())
        try:
            read_anchor(store)
        except NotFound:
            created = _put_anchor(store, data)
        else:
            created = False
        if not created:
            raise AlreadyExists(
                f"there is a catalog in {store.url}",
                code="catalog_exists",
                hint="open it, or name another place",
            )
        state = empty_state(decode_anchor(data))
        return cls(store, state, clock=clock, rng=rng, writer=writer)

    @classmethod
    def open(cls, store: ObjectStore, *, clock: Clock, rng: Rng, writer: str) -> Catalog:
        """Read a catalog, verified: its newest checkpoint that holds, and the log behind it.

        Args:
            store: One that holds a catalog.
            clock: For times and pauses.
            rng: For uuids and pauses.
            writer: Who we are, for people who read the log; 1–256 characters.

        Raises:
            NotFound: `catalog_absent`.
            Corruption: One object of it is not sound, and nothing else says the same; nothing
                was loaded.
            InvalidInput: `catalog_format_unsupported`.
        """
        check_writer(writer)
        loaded = load(store)
        opened = cls(store, loaded.state, clock=clock, rng=rng, writer=writer)
        opened._notices = loaded.notices
        return opened

    @property
    def uuid(self) -> UUID:
        """The catalog's own id."""
        return self._state.catalog_uuid

    @property
    def seq(self) -> int:
        """The number of the newest record that is known here, 0 for none."""
        return self._state.seq

    @property
    def committed_at(self) -> datetime | None:
        """When that record was committed, UTC; None where there is none."""
        return self._state.committed_at

    @property
    def store(self) -> ObjectStore:
        """The store that it lives in."""
        return self._store

    @property
    def notices(self) -> tuple[str, ...]:
        """What was wrong and could be passed over, as a damaged checkpoint; for people."""
        return self._notices

    def refresh(self) -> int:
        """Read what others committed since; return the newest record's number.

        Raises:
            Corruption: The old state keeps being served.
        """
        state, notices = refresh(self._store, self._state)
        self._notices += notices
        self._adopt(state)
        return self.seq

    def at(self, point: int | datetime) -> CatalogAt:
        """Return the catalog as it was after record `point`, or at that time; read-only.

        Where the newest record's time is far ahead of this clock, `notices` says so: a time then
        finds an older state than it should.

        Args:
            point: A sequence, 0 for before the first record; or a time that is aware: what was
                committed until then, inclusive.

        Raises:
            NotFound: `history_trimmed`, with the oldest sequence and its time.
            InvalidInput: `point_invalid`; InvalidArgument for a time in the future.
            Corruption: A record or checkpoint that is needed is not sound.
        """
        if isinstance(point, datetime) or point > self.seq:
            self.refresh()
        view, notices = look_back(self._store, self._state, point, now=self._clock.now())
        self._notices += notices
        return view

    def get(self, name: str) -> Manifest:
        """Return what is known of `name`; NotFound (`dataset_absent`) where nothing is."""
        manifest = self._state.get(name)
        if manifest is not None:
            return manifest
        shown = name if len(name) <= 64 else f"{name[:64]}…"
        close = difflib.get_close_matches(name[:256], self._state.manifests, n=3)
        raise NotFound(
            f"no dataset {shown!r} in {self._store.url}",
            code="dataset_absent",
            hint=f"close: {', '.join(close)}" if close else "`workbench catalog ls` lists all",
        )

    def list(self, prefix: str = "") -> builtins.list[Manifest]:
        """Return all datasets whose name starts with `prefix`, by name."""
        return self._state.select(prefix)

    def register(self, registrations: Sequence[Registration]) -> builtins.list[Registered]:
        """Register datasets whose objects are in the store already, all or none of them.

        A name that is new is created. One that exists keeps its id and created_at, gets the new
        objects, row count and properties, and a newer updated_at. What holds already is not
        written: same fingerprint, objects and properties, and no other row count given.

        Raises:
            InvalidInput: A name, fingerprint, object or property that cannot be; a name twice.
            FingerprintConflict: A dataset has another fingerprint; nothing was changed.
            Unavailable: `catalog_busy`.
            OutcomeUnknown: `commit_outcome_unknown`.
        """
        check_registrations(registrations)
        changes = [Change(registration) for registration in registrations]
        return self._run(self._transaction(), changes, None)

    def commit(self, writes: Sequence[Write]) -> builtins.list[Registered]:
        """Store tables and register them, all or none of them.

        The rows are encoded and hashed first: what is there already is neither uploaded nor
        written. After an error nothing refers to what was uploaded, and it is removed where no
        record can come to refer to it.

        Raises:
            InvalidInput: A name or table that cannot be stored; a name twice.
            FingerprintConflict: A dataset has columns of other names, types or nullability;
                nothing was changed.
            Conflict: `dataset_exists`, for a `create` of a name that holds something else;
                `dataset_changed`, for an `append` that expects another number of rows.
            Unavailable: `catalog_busy`, `upload_failed`.
            OutcomeUnknown: `commit_outcome_unknown`.
            Storage: The store refused, as for a full disk.
        """
        transaction = self._transaction()
        uploads = Uploads(self._store, transaction.txn, writes, clock=self._clock, rng=self._rng)
        changes = uploads.changes
        check_registrations([change.registration for change in changes])
        return self._run(transaction, changes, uploads)

    def dataset(
        self,
        name: str,
        *,
        hashed: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> ds.Dataset:
        """Return a pyarrow dataset that checks every page it reads.

        Args:
            name: Of the dataset.
            hashed: Check the SHA-256 of whole objects first; page checksums leave footers out.
            since: Leave out objects whose rows are all before it, by the dataset's time column.
                Rows are not filtered.
            until: Leave out objects whose rows are all at it or later.

        Raises:
            NotFound: `dataset_absent`.
            Corruption: `object_missing`, `object_size_mismatch`, `object_hash_mismatch`, with
                the object's key.
        """
        manifest = self.get(name)
        return open_dataset(self._store, manifest, hashed=hashed, since=since, until=until)

    def read(self, name: str) -> pa.Table:
        """Return all rows; every object's SHA-256 is checked before it is parsed.

        Raises:
            NotFound: `dataset_absent`.
            Corruption: `object_missing`, `object_size_mismatch`, `object_hash_mismatch`.
        """
        return read_table(self._store, self.get(name))

    def verify(self) -> builtins.list[Problem]:
        """Read the whole catalog and all its data from the store; return what is wrong."""
        return [*audit(self._store).problems]

    @contextmanager
    def keeping(self) -> Iterator[Keeper]:
        """Give what `compact`, `expire` and `gc` work with; serve what they leave."""
        keeper = Keeper(
            self._store, self._state, clock=self._clock, rng=self._rng, writer=self._writer
        )
        try:
            yield keeper
        finally:
            self._adopt(keeper.state)

    def _transaction(self) -> Transaction:
        return Transaction(
            self._store, self._state, clock=self._clock, rng=self._rng, writer=self._writer
        )

    def _run(
        self, transaction: Transaction, changes: Sequence[Change], uploads: Uploads | None
    ) -> builtins.list[Registered]:
        def planner(state: State) -> Batch:
            return plan(state, changes, self._clock.now())

        def prepare(batch: Batch) -> None:
            if uploads is not None:
                uploads.ensure(batch)

        if not changes:
            return []
        try:
            batch = transaction.run(planner, prepare)
        except WorkbenchError:
            if uploads is not None and not transaction.uncertain:
                uploads.discard()
            raise
        finally:
            self._adopt(transaction.state)
        if uploads is not None:
            uploads.discard(batch)
        return [*batch.answers]

    def _adopt(self, state: State) -> None:
        """Serve `state` from now on, unless a newer one is served."""
        if state.seq >= self._state.seq:
            self._state = state


def _put_anchor(store: ObjectStore, data: bytes) -> bool:
    """Put FORMAT; True where it is ours, also where the store did not say so."""
    try:
        return store.put_if_absent(FORMAT_KEY, data)
    except OutcomeUnknown:
        try:
            return store.get(FORMAT_KEY) == data
        except NotFound:
            return store.put_if_absent(FORMAT_KEY, data) or store.get(FORMAT_KEY) == data
