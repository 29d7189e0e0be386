"""Content of load tables from elsewhere: what their rows say must make sense, or none count.

    footers ──rows few enough?──▶ read ──▶ model.load's checks, with dataset and row ──▶ accepted

A table is known for load by its dataset's name: `<cluster>/load_window`, `hot_key`, `key_sample`.
It is checked whole, since buckets may overlap and windows may differ between its files. What a
footer claims is judged before anything is read, so that no claim of a billion rows takes memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from workbench.errors import InvalidInput, NotFound
from workbench.model.keys import Span
from workbench.model.load import check_hot_keys, check_key_samples, check_load
from workbench.model.tables import HOT_KEY, KEY_SAMPLE, LOAD_WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workbench.catalog.catalog import Catalog

# Some 1.5 GB as they are checked. More is collected, or registered in parts.
LOAD_ROWS_MAX: Final = 10_000_000
SCHEMAS: Final = {"load_window": LOAD_WINDOW, "hot_key": HOT_KEY, "key_sample": KEY_SAMPLE}


@dataclass(frozen=True, slots=True)
class LoadFile:
    """One Parquet file of a load table.

    Attributes:
        label: As users call it.
        rows: By its footer.
        open: Returns it opened, to be closed by the caller.
    """

    label: str
    rows: int
    open: Callable[[], pa.NativeFile]


def kind_of(dataset: str) -> str | None:
    """Return which load table a dataset of this name is; None where it is none."""
    cluster, _, kind = dataset.rpartition("/")
    return kind if cluster and kind in SCHEMAS else None


def check_content(catalog: Catalog | None, dataset: str, files: Sequence[LoadFile]) -> None:
    """Refuse files whose rows make no sense as the load table that `dataset` is.

    Args:
        catalog: Where the cluster's routes are looked up; None where there is none yet.
        dataset: Its name; what is no load table is not looked at.
        files: All of it.

    Raises:
        InvalidInput: `load_rows_too_many`, `object_not_parquet`, and those of `model.load`, with
            the dataset and the number of the row among all rows of the files.
    """
    kind = kind_of(dataset)
    if kind is None:
        return
    rows = sum(each.rows for each in files)
    if rows > LOAD_ROWS_MAX:
        raise InvalidInput(
            f"dataset {dataset!r}: the files claim {rows:,} rows, more than the "
            f"{LOAD_ROWS_MAX:,} that are checked at once",
            code="load_rows_too_many",
            hint="collect from the source itself, or register it in parts",
        )
    names = SCHEMAS[kind].names
    table = pa.concat_tables([_read(each, names) for each in files])
    what = f"dataset {dataset!r}" + (f" ({files[0].label})" if len(files) == 1 else "")
    if kind == "hot_key":
        check_hot_keys(table, what)
    elif kind == "key_sample":
        check_key_samples(table, what)
    else:
        check_load(table, what, spans=_spans(catalog, dataset.rpartition("/")[0]))


def _read(file: LoadFile, names: Sequence[str]) -> pa.Table:
    """Return the columns that are checked; one that is missing is for the check to name."""
    try:
        with file.open() as opened:
            parquet = pq.ParquetFile(opened)
            present = set(parquet.schema_arrow.names)
            return parquet.read([name for name in names if name in present])
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InvalidInput(
            f"{file.label} cannot be read as Parquet ({str(error).splitlines()[0]})",
            code="object_not_parquet",
            hint="write the file anew",
        ) from error


def _spans(catalog: Catalog | None, cluster: str) -> Mapping[int, Sequence[Span]] | None:
    """Return the spans that the cluster's routes ever had; None where it has no routes yet."""
    if catalog is None:
        return None
    try:
        routes = catalog.read(f"{cluster}/route")
    except NotFound:
        return None
    found: dict[int, list[Span]] = {}
    columns = routes.select(["route_id", "start", "end"]).to_pylist()
    for row in columns:
        found.setdefault(row["route_id"], []).append(Span(row["start"], row["end"]))
    return found
