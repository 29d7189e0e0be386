"""The manifests of a state by name: a sorted Arrow table, and what changed since.

    Index ── base: Rows (one checkpoint, sorted by name; shared by all that follow from it)
       └──── changes: {name: Manifest | None}, laid over the base; None where one is gone

An Index never changes. `updated` copies the changes and shares the base, so a commit on a
catalog of 100,000 datasets costs what it changes. The columns of the base are unpacked when the
first row is asked for; a row becomes a Manifest when it is, and is kept then. Its id is checked
against its name at that moment, as doing so for every row would make up most of an open.

Values are the index's own: whoever hands them out copies them (`State.get`, `State.select`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from workbench.catalog.record import MANIFEST_SCHEMA, manifest_of, manifest_row

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from workbench.model.manifest import Manifest

DECODE_ROWS: Final = 256  # at a time where many are wanted
REBASE_CHANGES: Final = 256  # more than that are not carried along behind a checkpoint
_ABOVE_ALL: Final = "\x7f"  # sorts behind every character of a name


class Rows:
    """The rows of one checkpoint, which are sorted by name, no name twice.

    Args:
        names: Of the datasets.
        unpack: Returns the whole rows, columns of `MANIFEST_SCHEMA`; called when the first is
            asked for.
        key: Of the checkpoint, for errors.
    """

    __slots__ = ("_column", "_decoded", "_key", "_names", "_table", "_unpack")

    def __init__(self, names: pa.ChunkedArray, unpack: Callable[[], pa.Table], key: str) -> None:
        self._column = names
        self._unpack = unpack
        self._key = key
        self._names: list[str] | None = None
        self._table: pa.Table | None = None
        self._decoded: dict[int, Manifest] = {}

    @classmethod
    def of(cls, table: pa.Table, key: str) -> Rows:
        """Return the rows of a table that is unpacked already."""
        return cls(table.column("name"), lambda: table, key)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._column)

    @property
    def table(self) -> pa.Table:
        """The rows as they came."""
        if self._table is None:
            self._table = self._unpack().combine_chunks()
        return self._table

    @property
    def names(self) -> list[str]:
        """All names, ascending. Not to be changed."""
        if self._names is None:
            self._names = self._column.to_pylist()
        return self._names

    def find(self, name: str) -> int | None:
        """Return the row of `name`, None where there is none."""
        names = self.names
        row = bisect_left(names, name)
        return row if row < len(names) and names[row] == name else None

    def manifest(self, row: int) -> Manifest:
        """Return what a row says; Corruption where it makes no sense."""
        found = self._decoded.get(row)
        return self._decode(row, row + 1) if found is None else found

    def decode(self, first: int, end: int) -> None:
        """Decode the rows from `first` to `end` now, many at a time."""
        for start in range(first, end, DECODE_ROWS):
            self._decode(start, min(start + DECODE_ROWS, end))

    def referring(self, keys: Collection[str]) -> list[tuple[str, str]]:
        """Return (name, key) for each of `keys` that a row's objects hold; no row is decoded."""
        found = []
        objects = self.table.column("objects")
        wanted = pa.array(keys, pa.string())
        start = 0
        for chunk in objects.chunks:
            held = pc.struct_field(pc.list_flatten(chunk), "key")
            hits = pc.indices_nonzero(pc.is_in(held, value_set=wanted))
            rows = pc.take(pc.list_parent_indices(chunk), hits).to_pylist()
            texts = pc.take(held, hits).to_pylist()
            found += [(self.names[start + r], k) for r, k in zip(rows, texts, strict=True)]
            start += len(chunk)
        return found

    def _decode(self, first: int, end: int) -> Manifest:
        for row, fields in enumerate(self.table.slice(first, end - first).to_pylist(), first):
            if row not in self._decoded:
                self._decoded[row] = manifest_of(fields, self._key)
        return self._decoded[first]


_NO_ROWS: Final = Rows.of(MANIFEST_SCHEMA.empty_table(), "")


class Index(Mapping[str, "Manifest"]):
    """Manifests by name, ascending; immutable. Make one with `of` or `over`."""

    __slots__ = ("_base", "_changes", "_count", "_names", "_table")

    def __init__(self, base: Rows, changes: Mapping[str, Manifest | None], count: int) -> None:
        self._base = base
        self._changes = changes
        self._count = count
        self._names: list[str] | None = None
        self._table: pa.Table | None = None  # of all, where it was asked for

    @classmethod
    def of(cls, manifests: Mapping[str, Manifest]) -> Index:
        """Return an index of these; an Index is returned as it is."""
        if isinstance(manifests, Index):
            return manifests
        return cls(_NO_ROWS, dict(manifests), len(manifests))

    @classmethod
    def over(cls, rows: Rows) -> Index:
        """Return an index of the rows of a checkpoint."""
        return cls(rows, {}, len(rows))

    def __len__(self) -> int:
        """Return the number of datasets."""
        return self._count

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, ascending."""
        return iter(self._all_names())

    def __contains__(self, name: object) -> bool:
        """Return whether a dataset has this name; no row is decoded."""
        if name in self._changes:
            return self._changes[name] is not None  # type: ignore[index]  # a str, as it is in
        return isinstance(name, str) and self._base.find(name) is not None

    def __getitem__(self, name: str) -> Manifest:
        """Return the manifest; KeyError where absent, Corruption where its row is not sound."""
        if name in self._changes:
            changed = self._changes[name]
            if changed is None:
                raise KeyError(name)
            return changed
        row = self._base.find(name)
        if row is None:
            raise KeyError(name)
        return self._base.manifest(row)

    def names(self, prefix: str = "") -> list[str]:
        """Return the names that start with `prefix`, ascending; no row is decoded."""
        names = self._all_names()
        return names[bisect_left(names, prefix) : bisect_left(names, prefix + _ABOVE_ALL)]

    def select(self, prefix: str) -> list[Manifest]:
        """Return the manifests whose names start with `prefix`, by name."""
        names = self._base.names
        first, end = bisect_left(names, prefix), bisect_left(names, prefix + _ABOVE_ALL)
        self._base.decode(first, end)
        return [self[name] for name in self.names(prefix)]

    def updated(self, changes: Mapping[str, Manifest | None]) -> Index:
        """Return the index with these changes, None where a name goes. The base is shared."""
        count = self._count
        for name, manifest in changes.items():
            count += (manifest is not None) - (name in self)
        if self._table is not None and len(self._changes) > REBASE_CHANGES:
            # A checkpoint was made: what follows stands on it, and the next one costs less.
            return Index(Rows.of(self._table, ""), dict(changes), count)
        return Index(self._base, {**self._changes, **changes}, count)

    def referred(self, keys: Collection[str]) -> set[str]:
        """Return those of `keys` that are objects of a dataset."""
        wanted = set(keys)
        if not wanted:
            return set()
        changed = (one for one in self._changes.values() if one is not None)
        found = {ref.key for one in changed for ref in one.objects} & wanted
        for name, key in self._base.referring(wanted):
            if name not in self._changes:
                found.add(key)
        return found

    def table(self) -> pa.Table:
        """Return all as rows of `MANIFEST_SCHEMA`, sorted by name."""
        if self._table is None:
            self._table = self._merged() if self._changes else self._base.table
        return self._table

    def _merged(self) -> pa.Table:
        live = [one for _, one in sorted(self._changes.items()) if one is not None]
        changed = pa.Table.from_pylist([*map(manifest_row, live)], schema=MANIFEST_SCHEMA)
        gone = pa.array(self._changes, pa.string())
        kept = self._base.table
        kept = kept.filter(pc.invert(pc.is_in(kept.column("name"), value_set=gone)))
        return pa.concat_tables([kept, changed]).sort_by("name").combine_chunks()

    def _all_names(self) -> list[str]:
        if self._names is None:
            if self._changes:
                kept = [name for name in self._base.names if name not in self._changes]
                kept += [name for name, one in self._changes.items() if one is not None]
                self._names = sorted(kept)
            else:
                self._names = self._base.names
        return self._names


class Draft(MutableMapping[str, "Manifest"]):
    """An index that is being changed: what `fold` works on. The index itself stays as it is."""

    __slots__ = ("_changes", "_index")

    def __init__(self, index: Index) -> None:
        self._index = index
        self._changes: dict[str, Manifest | None] = {}

    def done(self) -> Index:
        """Return the index with all changes so far."""
        return self._index.updated(self._changes) if self._changes else self._index

    def referred(self, keys: Collection[str]) -> set[str]:
        """Return those of `keys` that are objects of a dataset."""
        # Taken in, so that many questions do not repeat the work.
        self._index, self._changes = self.done(), {}
        return self._index.referred(keys)

    def __getitem__(self, name: str) -> Manifest:
        """Return the manifest as it is now."""
        if name not in self._changes:
            return self._index[name]
        changed = self._changes[name]
        if changed is None:
            raise KeyError(name)
        return changed

    def __setitem__(self, name: str, manifest: Manifest) -> None:
        """Put a manifest in."""
        self._changes[name] = manifest

    def __delitem__(self, name: str) -> None:
        """Take one out."""
        if name not in self:
            raise KeyError(name)
        self._changes[name] = None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, ascending."""
        return iter(self.done())

    def __len__(self) -> int:
        """Return the number of datasets."""
        return len(self.done())
