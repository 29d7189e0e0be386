"""Datasets and tables back from the store, with the checks that belong to each way of reading.

| way | what is read | what is checked |
|---|---|---|
| `open_dataset` | small objects whole | size and SHA-256 before parsing, then every page |
| | large ones page by page | size, SHA-256 of what follows the pages, every page |
| the same, hashed | large ones whole, then pages | SHA-256 of all too |
| `read_table` | whole objects | size and SHA-256 before parsing, then every page |
| `check_object` | whole objects, piece by piece | size and SHA-256 |

A dataset can be opened for a time: then only objects that can hold rows of it are opened. Whatever
is asked for, each object carries what is known of its times into the dataset, so that a scan with
a filter on the time column leaves objects out as well.

No page checksum covers a footer, and one flipped bit there makes readers give wrong answers, hang
or abort the process: so nothing is parsed whose footer was not hashed. A large object of which no
hash of its tail is known (registered by hand, say) is hashed whole.

Only pyarrow verifies page checksums, and only if told to; so catalog files are opened here and
nowhere else, and DuckDB and Polars get the pyarrow dataset. A page that fails while a dataset is
scanned comes as pyarrow's OSError.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs

from workbench.catalog.faults import corrupt
from workbench.catalog.parquet import WHOLE_BYTES_MAX, decode_table
from workbench.catalog.partitions import bounds_filter, select, time_column_of
from workbench.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from workbench.model.manifest import Manifest, ObjectRef
    from workbench.ports.object_store import ObjectStore

CHECK_BYTES: Final = 8 * 1024 * 1024
# What is held of them in all; beyond it, small ones are open files too.
WHOLE_TOTAL_BYTES_MAX: Final = 1024 * 1024 * 1024
# Small objects that are asked for at once.
WAVE_OBJECTS: Final = 256
WAVE_BYTES: Final = 64 * 1024 * 1024


def open_dataset(
    store: ObjectStore,
    manifest: Manifest,
    *,
    hashed: bool,
    since: datetime | None = None,
    until: datetime | None = None,
) -> ds.Dataset:
    """Return a pyarrow dataset over the objects of `manifest`, in their order.

    Args:
        store: Where the objects are.
        manifest: Which they are.
        hashed: Read every object once to check its SHA-256 before it is opened.
        since: Leave out objects whose rows are all before it. No row is filtered.
        until: Leave out objects whose rows are all at it or later.

    Raises:
        Corruption: `object_missing`, `object_size_mismatch`, `object_hash_mismatch`,
            `object_unreadable`.
        InvalidInput: `dataset_without_objects`.
    """
    _check_objects(manifest)
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    parquet = ds.ParquetFileFormat(default_fragment_scan_options=options)
    key = ""
    try:
        refs = select(manifest, since, until)
        first = (refs or manifest.objects)[0]
        column = time_column_of(manifest)
        fragments = []
        for ref, source in _sources(store, refs or [first], hashed=hashed):
            key = ref.key
            known = bounds_filter(ref, column)
            fragments.append(parquet.make_fragment(source, partition_expression=known))
        key = first.key
        schema = fragments[0].physical_schema
        return ds.FileSystemDataset(fragments if refs else [], schema, parquet)
    except (pa.ArrowException, OSError) as error:
        raise corrupt(key, f"cannot be read ({error})", "object_unreadable") from error


def read_table(store: ObjectStore, manifest: Manifest) -> pa.Table:
    """Return all rows of `manifest`, in the order of its objects.

    Raises:
        Corruption: `object_missing`, `object_size_mismatch`, `object_hash_mismatch`,
            `object_unreadable`.
        InvalidInput: `dataset_without_objects`.
    """
    _check_objects(manifest)
    tables: list[pa.Table] = []
    for ref, data in read_objects(store, manifest.objects):
        try:
            tables.append(decode_table(data))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise corrupt(ref.key, f"cannot be read ({error})", "object_unreadable") from error
        if not tables[-1].schema.equals(tables[0].schema):
            raise corrupt(ref.key, "has other columns than the first object", "object_unreadable")
    schema = tables[0].schema  # parts may differ in schema metadata
    return pa.concat_tables([table.replace_schema_metadata(schema.metadata) for table in tables])


def read_objects(
    store: ObjectStore, refs: Iterable[ObjectRef]
) -> Iterator[tuple[ObjectRef, bytes]]:
    """Yield objects whole, in their order, several at a time, each checked against its SHA-256.

    Raises:
        Corruption: `object_missing`, `object_size_mismatch`, `object_hash_mismatch`.
    """
    for wave in _waves(refs):
        for ref, data in zip(wave, _get_wave(store, wave), strict=True):
            _check_content(ref, [data])
            yield ref, data


def _waves(refs: Iterable[ObjectRef]) -> Iterator[list[ObjectRef]]:
    wave: list[ObjectRef] = []
    size = 0
    for ref in refs:
        if wave and (len(wave) == WAVE_OBJECTS or size + ref.size > WAVE_BYTES):
            yield wave
            wave, size = [], 0
        wave.append(ref)
        size += ref.size
    if wave:
        yield wave


def _get_wave(store: ObjectStore, wave: Sequence[ObjectRef]) -> Sequence[bytes]:
    try:
        return store.get_many([ref.key for ref in wave])
    except NotFound:
        for ref in wave:  # which one
            try:
                store.get_range(ref.key, 0, 1)
            except NotFound as error:
                raise corrupt(ref.key, "is missing", "object_missing") from error
        raise


def _sources(
    store: ObjectStore, refs: Sequence[ObjectRef], *, hashed: bool
) -> Iterator[tuple[ObjectRef, pa.Buffer | pa.NativeFile]]:
    """Yield each object with what pyarrow's threads read it from without a call into Python.

    A dataset over a filesystem that is written in Python deadlocks now and then: a thread of
    pyarrow waits for the interpreter with a lock that the interpreter's thread wants. So objects
    are opened here, before anything is scanned; small ones, of which there may be many, are read
    whole and hold no file open.
    """
    whole, total = [], 0
    for ref in refs:
        if ref.size <= WHOLE_BYTES_MAX and total + ref.size <= WHOLE_TOTAL_BYTES_MAX:
            whole.append(ref)
            total += ref.size
    ahead = read_objects(store, whole)
    left = iter([*whole, None])
    following = next(left)
    for ref in refs:
        if ref is following:
            yield ref, pa.py_buffer(next(ahead)[1])
            following = next(left)
        else:
            yield ref, _open(store, ref, hashed=hashed)


def open_source(store: ObjectStore, ref: ObjectRef) -> pa.Buffer | pa.NativeFile:
    """Return one object, checked against its SHA-256, for pyarrow to read."""
    [(_, source)] = _sources(store, [ref], hashed=True)
    return source


def _open(store: ObjectStore, ref: ObjectRef, *, hashed: bool) -> pa.NativeFile:
    filesystem = store.filesystem()
    [info] = filesystem.get_file_info([ref.key])
    if info.type != pyarrow.fs.FileType.File:
        raise corrupt(ref.key, "is missing", "object_missing")
    _check_size(ref, info.size)
    if hashed or ref.tail_sha256 is None:
        check_object(store, ref)
    else:
        _check_tail(store, ref)
    return filesystem.open_input_file(ref.key)


def _check_tail(store: ObjectStore, ref: ObjectRef) -> None:
    """Check what stands behind the pages: a flipped bit there misleads or stops the reader."""
    assert ref.tail_size is not None
    tail = store.get_range(ref.key, ref.size - ref.tail_size, ref.tail_size)
    found = hashlib.sha256(tail).hexdigest()
    if found != ref.tail_sha256:
        raise corrupt(
            ref.key,
            f"ends in {len(tail)} bytes of SHA-256 {found}, registered is {ref.tail_sha256}",
            "object_hash_mismatch",
        )


def check_object(store: ObjectStore, ref: ObjectRef) -> None:
    """Raise Corruption where the object is missing, or of another size or content."""
    try:
        _check_content(ref, _pieces(store, ref))
    except NotFound as error:
        raise corrupt(ref.key, "is missing", "object_missing") from error


def _pieces(store: ObjectStore, ref: ObjectRef) -> Iterable[bytes]:
    start, end = 0, ref.size + 1  # one byte more than the size, so that a longer object shows
    while start < end:
        asked = min(CHECK_BYTES, end - start)
        piece = store.get_range(ref.key, start, asked)
        yield piece
        if len(piece) < asked:
            return
        start += asked


def _check_content(ref: ObjectRef, pieces: Iterable[bytes]) -> None:
    hasher, size = hashlib.sha256(), 0
    for piece in pieces:
        hasher.update(piece)
        size += len(piece)
    _check_size(ref, size)
    if ref.sha256 is not None and hasher.hexdigest() != ref.sha256:
        raise corrupt(
            ref.key,
            f"has SHA-256 {hasher.hexdigest()}, registered is {ref.sha256}",
            "object_hash_mismatch",
        )


def _check_size(ref: ObjectRef, size: int) -> None:
    if size != ref.size:
        more = "more than " if size > ref.size else ""
        raise corrupt(
            ref.key,
            f"has {more}{ref.size if more else size} bytes, registered are {ref.size}",
            "object_size_mismatch",
        )


def _check_objects(manifest: Manifest) -> None:
    if not manifest.objects:
        raise InvalidInput(
            f"dataset {manifest.name!r} has no objects",
            code="dataset_without_objects",
            hint="it was registered empty; write rows under its name first",
        )
