"""Reads the catalog that came before this one: one Parquet file per dataset.

    _catalog/manifests/<name>.parquet    dataset_id, name, schema_fingerprint, objects, created_at,
                                         updated_at, row_count: one row

The layout is known, the names of the columns are an assumption of ours, as there is no document
that gives them: see docs/formats/legacy_catalog.md. Columns are found by name, in any order; one
that is not known is reported, not refused.

Reading is all or nothing, and says all that is wrong at once. Nothing is written here, no object
is read: `missing_objects` compares with what the store lists.

It is also what a reader of that layout costs: one request per dataset, one small file each.
"""

from __future__ import annotations

import io
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from workbench.catalog.layout import CATALOG_PREFIX
from workbench.catalog.values import Problem, is_object_ref
from workbench.errors import Corruption, InvalidInput, NotFound
from workbench.model.manifest import Manifest, ObjectRef, check_name, dataset_id_of
from workbench.ports.object_store import check_object_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from workbench.ports.object_store import ObjectStore

LEGACY_PREFIX: Final = "_catalog/manifests/"
SUFFIX: Final = ".parquet"
WAVE_FILES: Final = 512  # held as bytes at a time
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
UNPACKED_BYTES_MAX: Final = 512 * 1024 * 1024  # declared sizes; stops decompression bombs
VALUES_MAX: Final = 16 * 1024 * 1024

_TIME: Final = pa.timestamp("us", "UTC")
_REFERENCE: Final = pa.struct([pa.field("key", pa.string()), pa.field("size", pa.int64())])
LEGACY_SCHEMA: Final = pa.schema(
    [
        pa.field("dataset_id", pa.string()),
        pa.field("name", pa.string()),
        pa.field("schema_fingerprint", pa.string()),
        pa.field("objects", pa.list_(_REFERENCE)),
        pa.field("created_at", _TIME),
        pa.field("updated_at", _TIME),
        pa.field("row_count", pa.int64()),
    ]
)
_TIMES: Final = ("created_at", "updated_at")


@dataclass(frozen=True, slots=True)
class Legacy:
    """What a store holds in the old layout.

    Attributes:
        manifests: By name.
        problems: Of files that are no sound manifest; nothing may be imported where there is one.
        unknown_columns: Names of columns that are not known here, ascending.
        unknown_keys: Keys among the manifests that are none, ascending.
    """

    manifests: tuple[Manifest, ...]
    problems: tuple[Problem, ...]
    unknown_columns: tuple[str, ...]
    unknown_keys: tuple[str, ...]


def scan_legacy(store: ObjectStore) -> Legacy:
    """Read all manifests of the old layout, the bad ones as problems."""
    keys = store.list_after(LEGACY_PREFIX)
    files = [key for key in keys if key.endswith(SUFFIX)]
    manifests, problems, unknown = [], [], set[str]()
    for key, data in _files(store, files):
        try:
            manifest, others = decode_legacy(data, key)
        except Corruption as error:
            problems.append(Problem(key, error.message.removeprefix(f"{key}: ")))
            continue
        unknown.update(others)
        manifests.append(manifest)
    return Legacy(
        manifests=tuple(sorted(manifests, key=lambda manifest: manifest.name)),
        problems=tuple(problems),
        unknown_columns=tuple(sorted(unknown)),
        unknown_keys=tuple(key for key in keys if not key.endswith(SUFFIX)),
    )


def read_legacy(store: ObjectStore) -> Legacy:
    """Read all manifests of the old layout, or none.

    Raises:
        NotFound: `legacy_catalog_absent`, where there is none.
        Corruption: `legacy_manifest_corrupt`, which lists every manifest that is not sound.
    """
    found = scan_legacy(store)
    raise_problems(found.problems, f"of {len(found.manifests) + len(found.problems)} manifests")
    if not found.manifests:
        raise NotFound(
            f"no manifest below {LEGACY_PREFIX} in {store.url}",
            code="legacy_catalog_absent",
            hint="name the folder or bucket that holds _catalog/manifests/",
        )
    return found


def missing_objects(store: ObjectStore, manifests: Iterable[Manifest]) -> list[Problem]:
    """Return which objects are not there or have another size; reads none of them.

    One listing of all that the manifests name; what it does not show is asked for by itself, as
    listings may be stale.
    """
    wanted = {ref.key: ref.size for manifest in manifests for ref in manifest.objects}
    sizes = {entry.key: entry.size for entry in store.list_entries(_common_folder(wanted))}
    problems = []
    for key in sorted(wanted):
        size = wanted[key]
        if sizes.get(key) == size:
            continue
        try:
            # The last byte that should be there, and one more that should not.
            tail = store.get_range(key, max(size - 1, 0), 2)
        except NotFound:
            problems.append(Problem(key, "is missing"))
            continue
        if len(tail) != min(size, 1):
            found = f"{sizes[key]} bytes" if key in sizes else "another size"
            problems.append(Problem(key, f"has {found}, its manifest says {size}"))
    return problems


def raise_problems(problems: Sequence[Problem], among: str) -> None:
    """Raise Corruption (`legacy_manifest_corrupt`) that lists all problems, if there is one."""
    if problems:
        listed = "; ".join(f"{problem.key}: {problem.reason}" for problem in problems)
        raise Corruption(
            f"{len(problems)} {among} cannot be imported: {listed}",
            code="legacy_manifest_corrupt",
            hint="mend or remove them, then import again; nothing was imported",
        )


def decode_legacy(data: bytes, key: str) -> tuple[Manifest, list[str]]:
    """Return the manifest that one file holds, and the names of columns that are not known.

    Args:
        data: All bytes of the file.
        key: Its key; the name in it must fit.

    Raises:
        Corruption: `legacy_manifest_corrupt`, with the key and the reason.
    """
    try:
        row, unknown = _row(data)
        return _manifest(row, key), unknown
    except InvalidInput as error:
        raise _corrupt(key, error.message) from error
    # What pyarrow and the value types raise for bytes that make no sense.
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        reason = str(error) if isinstance(error, _UnsoundError) else f"cannot be read ({error!r})"
        raise _corrupt(key, reason) from error


def encode_legacy(manifest: Manifest) -> bytes:
    """Return the file of one manifest in the old layout, as a writer of it would make it."""
    row = {
        "dataset_id": str(manifest.dataset_id),
        "name": manifest.name,
        "schema_fingerprint": manifest.schema_fingerprint,
        "objects": [{"key": ref.key, "size": ref.size} for ref in manifest.objects],
        "created_at": manifest.created_at,
        "updated_at": manifest.updated_at,
        "row_count": manifest.row_count,
    }
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row], schema=LEGACY_SCHEMA), sink)
    return sink.getvalue()


def legacy_key(name: str) -> str:
    """Return where the old layout keeps the manifest of `name`."""
    return f"{LEGACY_PREFIX}{name}{SUFFIX}"


class _UnsoundError(ValueError):
    """The file can be read, and is no manifest; the text is the reason."""


def _files(store: ObjectStore, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for start in range(0, len(keys), WAVE_FILES):
        wave = keys[start : start + WAVE_FILES]
        yield from zip(wave, store.get_many(wave), strict=True)


def _row(data: bytes) -> tuple[dict[str, Any], list[str]]:
    """Return the only row by column name, and the names of the other columns."""
    if len(data) > FILE_BYTES_MAX:
        raise _UnsoundError(f"has {len(data)} bytes, the most is {FILE_BYTES_MAX}")
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    metadata = file.metadata
    if metadata.num_rows != 1:
        raise _UnsoundError(f"has {metadata.num_rows} rows, a manifest has one")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    values = sum(group.column(i).num_values for group in groups for i in range(group.num_columns))
    if sum(group.total_byte_size for group in groups) > UNPACKED_BYTES_MAX or values > VALUES_MAX:
        raise _UnsoundError("declares more than a manifest can hold")
    names = file.schema_arrow.names
    known = [name for name in LEGACY_SCHEMA.names if name in names]
    for name in LEGACY_SCHEMA.names:
        if names.count(name) != 1 and (name != "row_count" or name in names):
            raise _UnsoundError(f"has column {name!r} {names.count(name)} times")
    table = file.read(columns=known, use_threads=False).select(known)
    schema = pa.schema([_wanted_field(table.schema.field(name)) for name in known])
    [row] = (
        table.cast(schema, safe=False).to_pylist()
        if table.schema != schema
        else (table.to_pylist())
    )
    return row, [name for name in names if name not in known]


def _wanted_field(found: pa.Field) -> pa.Field:
    """Return the column as we read it; raise where what was found is something else."""
    wanted = LEGACY_SCHEMA.field(found.name).type
    if found.type == wanted or _is_alike(found.type, wanted):
        return pa.field(found.name, found.type if found.name == "objects" else wanted)
    raise _UnsoundError(f"column {found.name!r} is {found.type}, a manifest has {wanted}")


def _is_alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether the types differ only in what does not change a value that we keep."""
    if pa.types.is_timestamp(wanted):
        return bool(pa.types.is_timestamp(found))  # other units; without a zone it is UTC
    if pa.types.is_list(wanted):
        if not (pa.types.is_list(found) or pa.types.is_large_list(found)):
            return False
        element = found.value_type
        return bool(pa.types.is_struct(element)) and all(
            element.get_field_index(field.name) >= 0
            and (
                element.field(field.name).type == field.type
                or _is_alike(element.field(field.name).type, field.type)
            )
            for field in wanted.value_type
        )
    if pa.types.is_string(wanted):
        return bool(pa.types.is_large_string(found))
    return bool(pa.types.is_integer(found)) and found != pa.uint64()


def _manifest(row: dict[str, Any], key: str) -> Manifest:
    empty = [name for name, value in row.items() if value is None and name != "row_count"]
    if empty:
        raise _UnsoundError(f"has null in {', '.join(empty)}")
    name = check_name(row["name"])
    if key != legacy_key(name):
        raise _UnsoundError(f"holds dataset {name!r}, whose file is {legacy_key(name)}")
    if row["dataset_id"] != str(dataset_id_of(name)):
        raise _UnsoundError(
            f"gives dataset {name!r} the id {row['dataset_id']!r:.80}, its name has the id "
            f"{dataset_id_of(name)}"
        )
    created_at, updated_at = (_utc(row[column]) for column in _TIMES)
    if updated_at < created_at:
        raise _UnsoundError(f"was updated at {updated_at}, before it was created at {created_at}")
    if not row["schema_fingerprint"]:
        raise _UnsoundError("has an empty schema fingerprint")
    row_count = row.get("row_count")
    if row_count is not None and row_count < 0:
        raise _UnsoundError(f"has row count {row_count}")
    return Manifest(
        dataset_id=uuid.UUID(row["dataset_id"]),
        name=name,
        schema_fingerprint=row["schema_fingerprint"],
        objects=tuple(map(_object, row["objects"])),
        created_at=created_at,
        updated_at=updated_at,
        row_count=row_count,
    )


def _object(item: dict[str, Any] | None) -> ObjectRef:
    if item is None or item["key"] is None or item["size"] is None:
        raise _UnsoundError("has null in an object")
    ref = ObjectRef(check_object_key(item["key"]), item["size"])
    if not is_object_ref(ref):
        raise _UnsoundError(f"gives object {ref.key!r} the size {ref.size}")
    if ref.key.startswith((CATALOG_PREFIX, LEGACY_PREFIX)):
        raise _UnsoundError(f"counts {ref.key!r} among its objects, which is the catalog's own")
    return ref


def _common_folder(keys: Iterable[str]) -> str:
    """Return the longest folder that all keys lie below, with its slash; empty for the root."""
    ordered = sorted(keys)
    if not ordered:
        return LEGACY_PREFIX
    first, last = ordered[0].split("/")[:-1], ordered[-1].split("/")[:-1]
    shared = []
    for one, other in zip(first, last, strict=False):
        if one != other:
            break
        shared.append(f"{one}/")
    return "".join(shared)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _corrupt(key: str, reason: str) -> Corruption:
    return Corruption(
        f"{key}: {reason}",
        code="legacy_manifest_corrupt",
        hint="mend or remove it, then import again; nothing was imported",
    )
