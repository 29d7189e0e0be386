"""Registers Parquet files as a dataset: objects below the catalog's root, or files of this machine.

    KEY ...   ──> opened, hashed, footer read ─┐
                                               ├─ one schema? ──> register
    FILE ...  ──> read, hashed, footer read ───┘      └── files are uploaded only then

The schema fingerprint comes from the files and nothing else, so a dataset cannot be registered
with a schema that its files do not have. Of load tables the rows are checked too (`load_content`),
since whoever plans on them would believe them. The catalog is opened before anything is uploaded,
so an upload that garbage collection has taken meanwhile is refused, not lost. Registering the same
again writes and uploads nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from workbench.catalog.layout import data_key
from workbench.catalog.uploads import upload
from workbench.catalog.values import Registered, Registration
from workbench.errors import (
    Conflict,
    FingerprintConflict,
    InvalidArgument,
    InvalidInput,
    NotFound,
    Unavailable,
    WorkbenchError,
)
from workbench.model.manifest import ObjectRef, check_name, dataset_id_of, schema_fingerprint
from workbench.ports.object_store import check_object_key
from workbench.report.words import counted
from workbench.session.files import read_file
from workbench.session.load_content import LoadFile, check_content
from workbench.session.progress import silent
from workbench.session.system import SystemClock, SystemRng

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from workbench.catalog.catalog import Catalog
    from workbench.ports.object_store import ObjectStore
    from workbench.session.progress import Progress

PIECE_BYTES: Final = 8 * 1024 * 1024
FILE_BYTES_MAX: Final = 4 * 1024**3
OWN_PREFIX: Final = "_catalog/"


@dataclass(frozen=True, slots=True)
class Claim:
    """What the user says of the dataset.

    Attributes:
        name: Of it.
        row_count: What it must be; None takes what the files say.
        properties: What was assumed when the data were made.
    """

    name: str
    row_count: int | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What registering did.

    Attributes:
        answer: Of the catalog.
        uploaded: Files that were uploaded.
        uploaded_bytes: Of them.
    """

    answer: Registered
    uploaded: int
    uploaded_bytes: int


@dataclass(frozen=True, slots=True)
class _Found:
    """One Parquet file: what users call it, what it is."""

    label: str
    schema: pa.Schema
    rows: int
    size: int
    sha256: str
    data: bytes | None = field(default=None, repr=False)


def register_keys(
    catalog: Catalog, claim: Claim, keys: Sequence[str], progress: Progress = silent
) -> Outcome:
    """Register objects that lie below the catalog's root.

    Args:
        catalog: Where.
        claim: As what.
        keys: At least one, in the order in which they are to be read.
        progress: Told of objects read.

    Raises:
        NotFound: `object_not_found`.
        InvalidInput: `object_not_parquet`, `schema_differs`, `row_count_differs`,
            `object_key_reserved`, `object_key_twice`; of a load table also those of
            `load_content`: its rows must make sense.
        FingerprintConflict: The dataset has another schema; nothing was changed.
    """
    check_name(claim.name)
    _check_keys(keys)
    found = []
    for number, key in enumerate(keys):
        progress("reading objects", number, len(keys))
        found.append(_read_object(catalog.store, key))
    progress("reading objects", len(keys), len(keys))
    refs = [_ref(key, each) for key, each in zip(keys, found, strict=True)]
    registration = _registration(claim, found, refs)
    filesystem = catalog.store.filesystem()
    openers = [partial(filesystem.open_input_file, key) for key in keys]
    _check_load(catalog, claim, found, openers)
    [answer] = catalog.register([registration])
    return Outcome(answer, 0, 0)


def register_files(
    catalog: Catalog, claim: Claim, files: Sequence[Path], progress: Progress = silent
) -> Outcome:
    """Upload Parquet files of this machine, byte for byte, and register them.

    See `register_keys`. Where the dataset holds the same content already, nothing is uploaded.
    After an error nothing refers to what was uploaded, and it is removed where no record can come
    to refer to it.

    Raises:
        NotFound: `file_absent`.
        InvalidInput: `file_too_large`, `file_not_regular` and those of `register_keys`.
        FingerprintConflict: The dataset has another schema; nothing was uploaded.
    """
    check_name(claim.name)
    found = [_read_file(path) for path in files]
    rng = SystemRng()
    dataset_id, txn = dataset_id_of(claim.name), rng.uuid()
    refs = [_ref(data_key(dataset_id, txn, n), each) for n, each in enumerate(found)]
    registration = _registration(claim, found, refs)
    openers = [partial(pa.BufferReader, each.data or b"") for each in found]
    _check_load(catalog, claim, found, openers)
    held = _held(catalog, registration)
    if held is not None:
        return Outcome(held, 0, 0)
    uploaded: list[str] = []
    try:
        for number, (ref, each) in enumerate(zip(refs, found, strict=True)):
            progress("uploading files", number, len(refs))
            uploaded.append(ref.key)
            upload(catalog.store, ref.key, each.data or b"", clock=SystemClock(), rng=rng)
        progress("uploading files", len(refs), len(refs))
        [answer] = catalog.register([registration])
    except (Conflict, InvalidInput, Unavailable):
        for key in uploaded:  # no record can come to refer to them
            with contextlib.suppress(WorkbenchError):
                catalog.store.delete(key)
        raise
    return Outcome(answer, len(refs), sum(ref.size for ref in refs))


def _check_load(
    catalog: Catalog,
    claim: Claim,
    found: Sequence[_Found],
    openers: Sequence[Callable[[], pa.NativeFile]],
) -> None:
    pairs = zip(found, openers, strict=True)
    files = [LoadFile(each.label, each.rows, opener) for each, opener in pairs]
    check_content(catalog, claim.name, files)


def _check_keys(keys: Sequence[str]) -> None:
    for number, key in enumerate(keys):
        check_object_key(key)
        if key.startswith(OWN_PREFIX):
            raise InvalidInput(
                f"{key!r} belongs to the catalog itself",
                code="object_key_reserved",
                hint=f"name data, not what lies below {OWN_PREFIX}",
            )
        if key in keys[:number]:
            raise InvalidInput(
                f"{key!r} is named twice", code="object_key_twice", hint="name each object once"
            )


def _read_object(store: ObjectStore, key: str) -> _Found:
    filesystem = store.filesystem()
    try:
        with filesystem.open_input_file(key) as file:
            hasher, size = hashlib.sha256(), 0
            while piece := file.read(PIECE_BYTES):
                hasher.update(piece)
                size += len(piece)
            file.seek(0)
            schema, rows = _footer(file, key)
    except FileNotFoundError as error:
        raise NotFound(
            f"no object {key!r} in {store.url}",
            code="object_not_found",
            hint="keys are relative to the catalog's root; --from uploads files of this machine",
        ) from error
    return _Found(key, schema, rows, size, hasher.hexdigest())


def _read_file(path: Path) -> _Found:
    _check_regular(path)
    data = read_file(path, bytes_max=FILE_BYTES_MAX)
    schema, rows = _footer(pa.BufferReader(data), str(path))
    return _Found(str(path), schema, rows, len(data), hashlib.sha256(data).hexdigest(), data)


def _check_regular(path: Path) -> None:
    """Refuse devices, pipes and folders: their size tells nothing, and they may never end."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # reading it says why
    if not stat.S_ISREG(mode):
        raise InvalidInput(
            f"{path} is no regular file",
            code="file_not_regular",
            hint="name Parquet files; copy what comes from a pipe or device into a file first",
        )


def _footer(file: pa.NativeFile, label: str) -> tuple[pa.Schema, int]:
    try:
        parquet = pq.ParquetFile(file)
        schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InvalidInput(
            f"{label} is not a Parquet file ({error})",
            code="object_not_parquet",
            hint="only Parquet files can be registered",
        ) from error
    if not schema.names or len(set(schema.names)) != len(schema.names):
        raise InvalidInput(
            f"{label} has columns {schema.names}",
            code="table_columns_invalid",
            hint="a dataset needs at least one column, and no two of one name",
        )
    return schema, rows


def _registration(claim: Claim, found: Sequence[_Found], refs: Sequence[ObjectRef]) -> Registration:
    if not found:
        raise InvalidArgument(
            f"dataset {claim.name!r}: no object is named",
            code="objects_missing",
            hint="name keys below the catalog's root, or files with --from",
        )
    for other in found[1:]:
        _check_same_schema(found[0], other)
    rows = sum(each.rows for each in found)
    if claim.row_count not in {None, rows}:
        raise InvalidInput(
            f"dataset {claim.name!r}: the files have {counted(rows, 'row')}, not {claim.row_count}",
            code="row_count_differs",
            hint="leave --row-count out to take what the files say",
        )
    return Registration(
        name=claim.name,
        schema_fingerprint=schema_fingerprint(found[0].schema),
        objects=tuple(refs),
        row_count=rows,
        properties=dict(claim.properties),
    )


def _check_same_schema(first: _Found, other: _Found) -> None:
    if schema_fingerprint(first.schema) == schema_fingerprint(other.schema):
        return
    ours = {column.name: column for column in first.schema}
    theirs = {column.name: column for column in other.schema}
    differences = [
        *(f"lacks {column!r}" for column in ours if column not in theirs),
        *(f"has {column!r} too" for column in theirs if column not in ours),
        *(
            f"{column!r} is {_type(theirs[column])}, not {_type(ours[column])}"
            for column in ours
            if column in theirs and _type(ours[column]) != _type(theirs[column])
        ),
    ]
    raise InvalidInput(
        f"{other.label} has another schema than {first.label}: "
        f"{'; '.join(differences) or 'the columns stand in another order'}",
        code="schema_differs",
        hint="all objects of a dataset have the same columns, types and nullability",
    )


def _type(column: pa.Field) -> str:
    return f"{column.type}{'' if column.nullable else ' required'}"


def _ref(key: str, found: _Found) -> ObjectRef:
    return ObjectRef(key, found.size, found.sha256, rows=found.rows)


def _held(catalog: Catalog, wanted: Registration) -> Registered | None:
    """Return the registered dataset where it holds this very content; look for conflicts.

    Raises:
        FingerprintConflict: Before anything is uploaded.
    """
    with contextlib.suppress(NotFound):
        manifest = catalog.get(wanted.name)
        if manifest.schema_fingerprint != wanted.schema_fingerprint:
            raise FingerprintConflict(
                wanted.name, manifest.schema_fingerprint, wanted.schema_fingerprint
            )
        same = [(ref.size, ref.sha256) for ref in manifest.objects] == [
            (ref.size, ref.sha256) for ref in wanted.objects
        ]
        if same and dict(manifest.properties) == dict(wanted.properties):
            return Registered(manifest, existing=True, written=False)
    return None
