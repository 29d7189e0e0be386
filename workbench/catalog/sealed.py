"""Parquet files that carry their own hash: what records and checkpoints have in common.

    rows …  |  footer: pair, pair, …, workbench.sha256 = the seal  |  the library's own text

The seal is the last pair of the footer. All rows and other pairs stand before it, so nothing that
a user chose can stand behind it; see `seal`.

Reading checks, in this order: size, seal, format, columns, declared sizes; only then is anything
unpacked. What rows mean is not known here.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from workbench.catalog.faults import corrupt
from workbench.catalog.seal import BLANK, Seal, SealError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OWN: Final = b"workbench.sha256"
# Up to this size in memory, neither compression nor dictionaries: small files get larger by them,
# and take three times as long to read.
PLAIN_BYTES_MAX: Final = 64 * 1024
# Thrift compact: field 1 (string) with its length, field 2 (string) with its length.
PARQUET_SEAL: Final = Seal(b"\x18" + bytes([len(OWN)]) + OWN + b"\x18" + bytes([len(BLANK)]))


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused before it is unpacked.

    Attributes:
        file_bytes_max: Of the whole object.
        unpacked_bytes_max: Declared, over all columns; stops decompression bombs.
        values_max: Declared, over all columns, and rows; stops run-length bombs.
    """

    file_bytes_max: int
    unpacked_bytes_max: int
    values_max: int


def encode_sealed(
    table: pa.Table, footer: Mapping[str, str], *, seal: Seal, dictionary: bool | list[str] = True
) -> bytes:
    """Return a sealed file.

    Args:
        table: Of few chunks.
        footer: The pairs before the seal, in their order.
        seal: Whose marker is that of `OWN`.
        dictionary: Columns that repeat themselves, in a large table; True for all.
    """
    # One call, and no Arrow schema: the pairs of several calls come out in an order of their
    # own, and the seal would not be last.
    pairs = {**footer, OWN.decode(): BLANK.decode()}
    plain = table.nbytes <= PLAIN_BYTES_MAX
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="none" if plain else "zstd",
        use_dictionary=False if plain else dictionary,
        store_schema=False,
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(pairs)
    data = seal.stamp(sink.getvalue())
    last_pair = data.rfind(b"workbench.")  # none in the library's own text behind the pairs
    assert data.rfind(seal.marker) + 2 == last_pair, "the seal is not the last pair"
    return data


def open_sealed(
    data: bytes, key: str, *, seal: Seal, limits: Limits, kind: str
) -> tuple[pq.ParquetFile, dict[str, str]]:
    """Return the file, of which only the footer is parsed, and the footer's pairs.

    Call it, and read from what it returns, within `reading`.

    Args:
        data: All bytes of the object.
        key: For the message.
        seal: The expected one.
        limits: For `data`; see `check_sizes` for the others.
        kind: `record` or `checkpoint`; the error's code is `<kind>_corrupt`.

    Raises:
        Corruption: The file does not fit its hash, or carries two.
    """
    if len(data) > limits.file_bytes_max:
        reason = f"has {len(data)} bytes, the most is {limits.file_bytes_max}"
        raise corrupt(key, reason, f"{kind}_corrupt")
    carried = seal.check(data)
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    pairs: Mapping[bytes, bytes] = file.metadata.metadata or {}
    footer = {name.decode(): value.decode() for name, value in pairs.items()}
    if footer.get(OWN.decode()) != carried:
        raise corrupt(key, "carries a second hash of itself", f"{kind}_corrupt")
    return file, footer


def check_format(footer: Mapping[str, str], known: Mapping[str, object], key: str) -> str:
    """Return the format that a footer names; Corruption where it is not among `known`.

    The last of `known` is the one that is written today, and is named in the error.
    """
    found = footer.get("workbench.format", "")
    if found in known:
        return found
    newest = list(known)[-1]
    kind = newest.partition("/")[0].rpartition(".")[2]
    raise corrupt(
        key,
        f"is of {kind} format {found!r}, this workbench reads {newest!r}",
        f"{kind}_format_unsupported",
    )


def check_sizes(
    file: pq.ParquetFile, schema: pa.Schema, key: str, *, limits: Limits, kind: str
) -> None:
    """Raise Corruption where columns or declared sizes are not what they may be."""
    # First the schema: pyarrow aborts the process where a row group has other columns than it.
    if not file.schema_arrow.equals(schema):
        reason = f"has other columns than {kind}s of its format have"
        raise corrupt(key, reason, f"{kind}_corrupt")
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    values = sum(group.column(i).num_values for group in groups for i in range(group.num_columns))
    rows = file.metadata.num_rows
    if unpacked > limits.unpacked_bytes_max or max(values, rows) > limits.values_max:
        reason = f"declares {unpacked} bytes and {values} values unpacked"
        raise corrupt(key, reason, f"{kind}_corrupt")


@contextmanager
def reading(key: str, kind: str) -> Iterator[None]:
    """Turn what pyarrow and the value types raise for senseless bytes into Corruption."""
    try:
        yield
    except SealError as error:
        raise corrupt(key, str(error), f"{kind}_corrupt") from error
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise corrupt(key, f"cannot be read ({error!r})", f"{kind}_corrupt") from error
