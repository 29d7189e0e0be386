"""Write the generated sets to a folder, with a manifest that proves them.

    <folder>/<set>.parquet     accesses: time, key, op, size
    <folder>/MANIFEST.json     per set: seed, accesses, content checksum

The checksum is over the logical values, so another Parquet writer's bytes still prove equal.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq

from workbench.errors import InvalidArgument, Storage
from workbench.session.files import write_file
from workbench.session.progress import Progress, silent
from workbench.traces.generate import GENERATORS, content_checksum, generate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

MANIFEST: Final = "MANIFEST.json"
SCHEMA: Final = "workbench.datasets/1"


@dataclass(frozen=True, slots=True)
class MadeSet:
    """One generated set as written."""

    name: str
    file: str
    accesses: int
    seed: int
    checksum: str
    bytes: int


def make_datasets(
    folder: Path,
    names: Sequence[str],
    *,
    accesses: int,
    seed: int,
    progress: Progress = silent,
) -> list[MadeSet]:
    """Write the named sets, or all where none is named, and the manifest.

    Raises:
        InvalidArgument: a name is not known.
        Storage: the folder cannot be written.
    """
    unknown = [name for name in names if name not in GENERATORS]
    if unknown:
        raise InvalidArgument(
            f"there is no generated set {unknown[0]!r}",
            code="dataset_unknown",
            hint=f"known are {', '.join(GENERATORS)}",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Storage(
            f"cannot create {folder}: {error.strerror}",
            code="file_write_failed",
            hint="name another folder with --out",
        ) from error
    chosen = list(names) or list(GENERATORS)
    made = []
    for done, name in enumerate(chosen):
        progress("generating", done, len(chosen))
        table = generate(name, accesses=accesses, seed=seed)
        content = accesses_bytes(table)
        write_file(folder / f"{name}.parquet", content)
        checksum = content_checksum(table)
        made.append(MadeSet(name, f"{name}.parquet", table.num_rows, seed, checksum, len(content)))
    progress("generating", len(chosen), len(chosen))
    write_file(folder / MANIFEST, (json.dumps(_manifest(made), indent=2) + "\n").encode())
    return made


def accesses_bytes(table: pa.Table) -> bytes:
    """Return a trace as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, store_schema=False)
    return sink.getvalue()


def _manifest(made: Sequence[MadeSet]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "command": "workbench datasets make",
        "sets": [
            {
                "name": each.name,
                "file": each.file,
                "accesses": each.accesses,
                "seed": each.seed,
                "content_sha256": each.checksum,
            }
            for each in made
        ],
    }
