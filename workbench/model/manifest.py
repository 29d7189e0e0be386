"""Manifests: what the catalog knows of one dataset.

A dataset's id is UUIDv5 of its name in a fixed namespace, so the same name gives the same id
on any machine, also after the catalog was lost. Names never become paths or object keys.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import pyarrow as pa

ID_NAMESPACE: Final = uuid.UUID("a8f3c1d2-4e5b-5a6c-9d8e-7f0a1b2c3d4e")
NAME_CHARS_MAX: Final = 256
_NAME = re.compile(rf"[A-Za-z0-9._\-/]{{1,{NAME_CHARS_MAX}}}")


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One immutable object of a dataset.

    Attributes:
        key: Below the store's root.
        size: In bytes.
        sha256: Of its bytes; None where nobody hashed it.
        rows: How many it holds; None where nobody counted.
        time_min: Smallest value of the dataset's time column (its property `time_column`), UTC;
            None where it has none.
        time_max: Largest one, inclusive.
        tail_size: How many bytes at the end are no pages: indexes and footer, which no page
            checksum covers. Known of objects that are not read whole; None of others.
        tail_sha256: SHA-256 of those bytes.
    """

    key: str
    size: int
    sha256: str | None = None
    rows: int | None = None
    time_min: datetime | None = None
    time_max: datetime | None = None
    tail_size: int | None = None
    tail_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the catalog knows of one dataset.

    Attributes:
        dataset_id: `dataset_id_of(name)`.
        name: 1–256 characters of letters, digits, `.`, `_`, `-`, `/`; no empty or dot segment.
        schema_fingerprint: Never empty; data of another fingerprint need another name.
        objects: In the order in which they are read.
        created_at: First registration, UTC.
        updated_at: Last change, UTC.
        row_count: Null where the writer did not count.
        properties: What was assumed when the data were made (source, time unit, …).
    """

    dataset_id: uuid.UUID
    name: str
    schema_fingerprint: str
    objects: tuple[ObjectRef, ...]
    created_at: datetime
    updated_at: datetime
    row_count: int | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


def dataset_id_of(name: str) -> uuid.UUID:
    """Return the id that `name` has on every machine."""
    return uuid.uuid5(ID_NAMESPACE, name)


def check_name(name: str) -> str:
    """Return `name`, or raise InvalidInput where it is no dataset name."""
    segments = name.split("/")
    if not _NAME.fullmatch(name) or any(part in {"", ".", ".."} for part in segments):
        shown = name if len(name) <= 64 else f"{name[:64]}… ({len(name)} characters)"
        raise InvalidInput(
            f"{shown!r} is not a dataset name",
            code="name_invalid",
            hint=f"use 1–{NAME_CHARS_MAX} letters, digits, '.', '_', '-', '/', "
            "without empty or dot segments",
        )
    return name


def schema_fingerprint(schema: pa.Schema) -> str:
    """Return SHA-256 over the names, types and nullability of an Arrow schema's columns."""
    text = "\n".join(f"{f.name}\t{f.type}\t{'null' if f.nullable else 'required'}" for f in schema)
    return hashlib.sha256(text.encode()).hexdigest()
