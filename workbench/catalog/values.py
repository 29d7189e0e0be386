"""What goes into the catalog and what comes out of it.

All values are frozen. `check_registrations` is the one gate through which names, fingerprints
and object keys come in; behind it every name is a dataset name and every text can be stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from workbench.errors import InvalidArgument, InvalidInput
from workbench.model.manifest import check_name
from workbench.ports.object_store import check_object_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from workbench.catalog.parquet import Layout
    from workbench.model.manifest import Manifest, ObjectRef

WRITER_CHARS_MAX: Final = 256
TIME_COLUMN: Final = "time_column"  # the property that names it
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Registration:
    """A dataset as it is to be from now on; its objects are already in the store.

    Attributes:
        name: See `check_name`.
        schema_fingerprint: Never empty.
        objects: In the order in which they are read.
        row_count: None where the writer did not count.
        properties: What was assumed when the data were made.
    """

    name: str
    schema_fingerprint: str
    objects: tuple[ObjectRef, ...]
    row_count: int | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Write:
    """Rows to store under a name.

    Attributes:
        name: See `check_name`.
        table: At least one column, no two of one name.
        mode: `replace` puts the rows in the place of what was there. `append` adds them, and
            lays the new properties over the old ones. `create` needs a free name, or one that
            holds the very same.
        properties: What was assumed when the data were made.
        expected_rows: Only for `append`: how many rows must be registered when the record is
            written, 0 for an absent dataset; None means any. Another count is a Conflict, so
            that rows which were chosen by looking at the others are never added twice.
        parquet_metadata: Goes into the schema metadata of the data files.
        layout: How the rows lie in the files; None where their order is not known.
        time_column: A column of UTC microseconds without nulls: the rows are cut into one object
            per UTC day of it, and stand in the order of days. None keeps them as they come.
    """

    name: str
    table: pa.Table
    mode: Literal["replace", "append", "create"] = "replace"
    properties: Mapping[str, str] = field(default_factory=dict)
    parquet_metadata: Mapping[str, str] = field(default_factory=dict)
    expected_rows: int | None = None
    layout: Layout | None = None
    time_column: str | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """What came of one registration or write.

    Attributes:
        manifest: As it is in the catalog now.
        existing: Whether a dataset of this name was there before.
        written: Whether anything was written; False where it was all there already.
    """

    manifest: Manifest
    existing: bool
    written: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that `verify` found: the object's key, and what is wrong with it."""

    key: str
    reason: str


def check_registrations(registrations: Sequence[Registration]) -> None:
    """Raise InvalidInput where one of a batch cannot be stored, before anything is written."""
    check_distinct([registration.name for registration in registrations])
    for registration in registrations:
        _check_registration(registration)


def check_distinct(names: Sequence[str]) -> None:
    """Raise InvalidInput for a name that is none, or that a batch holds twice."""
    seen: set[str] = set()
    for name in names:
        check_name(name)
        if name in seen:
            raise InvalidInput(
                f"dataset {name!r} stands twice in one batch",
                code="dataset_twice_in_batch",
                hint="merge the two, or commit them one after the other",
            )
        seen.add(name)


def check_writer(writer: str) -> str:
    """Return `writer`, or raise InvalidArgument where no record could carry it."""
    if not 1 <= len(writer) <= WRITER_CHARS_MAX or not _storable(writer):
        raise InvalidArgument(
            f"{writer[:64]!r} is no writer name",
            code="writer_invalid",
            hint=f"use 1–{WRITER_CHARS_MAX} characters, as host and process",
        )
    return writer


def is_sha256(text: str) -> bool:
    """Return whether `text` is a SHA-256 as we write it: 64 lowercase hex digits."""
    return _SHA256.fullmatch(text) is not None


def is_object_ref(ref: ObjectRef) -> bool:
    """Return whether size, hashes, row count and time bounds make sense."""
    bounds = (ref.time_min, ref.time_max)
    size, digest = ref.tail_size, ref.tail_sha256
    tail = size is None if digest is None else is_sha256(digest) and 0 < (size or 0) <= ref.size
    return tail and (
        ref.size >= 0
        and (ref.sha256 is None or is_sha256(ref.sha256))
        and (ref.rows is None or ref.rows >= 0)
        and (bounds == (None, None) or None not in bounds)
        and (ref.time_min is None or ref.time_max is None or ref.time_min <= ref.time_max)
    )


def check_properties(name: str, what: str, properties: Mapping[str, str]) -> None:
    """Raise InvalidInput where keys or values are not text that UTF-8 can carry."""
    for key, value in properties.items():
        if not (_storable(key) and _storable(value)):
            raise InvalidInput(
                f"dataset {name!r}: {what} {key!r:.80} = {value!r:.80} is not text for UTF-8",
                code="property_invalid",
                hint="convert keys and values to str, without lone surrogates",
            )


def _check_registration(registration: Registration) -> None:
    name, fingerprint = registration.name, registration.schema_fingerprint
    if not fingerprint or not _storable(fingerprint):
        raise InvalidInput(
            f"dataset {name!r}: {fingerprint!r} is no schema fingerprint",
            code="fingerprint_invalid",
            hint="pass schema_fingerprint(table.schema), or a text of your own, not empty",
        )
    for ref in registration.objects:
        check_object_key(ref.key)
        if not is_object_ref(ref):
            raise InvalidInput(
                f"dataset {name!r}: object {ref.key!r} has size {ref.size}, SHA-256 "
                f"{ref.sha256!r}, {ref.rows} rows from {ref.time_min} to {ref.time_max}",
                code="object_ref_invalid",
                hint="size and rows are zero or more, SHA-256 is 64 lowercase hex digits or None, "
                "and times are both given, in order, or neither",
            )
    if registration.row_count is not None and registration.row_count < 0:
        raise InvalidInput(
            f"dataset {name!r}: row count {registration.row_count}",
            code="row_count_invalid",
            hint="zero or more, or None for not counted",
        )
    check_properties(name, "property", registration.properties)


def _storable(text: object) -> bool:
    """Return whether it is text that UTF-8 can carry; callers are not always type-checked."""
    if not isinstance(text, str):
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
