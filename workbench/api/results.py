"""Answers: rows that go wherever Arrow goes, with what has to be said beside them.

    Result ── __arrow_c_stream__ ──▶ Polars, DuckDB, pandas, pyarrow: no copy of ours
           ── _repr_html_ ─────────▶ a notebook, everything escaped
           ── iteration ───────────▶ one dict per row

Rules: an answer never changes; asking again gives a new one. Null means not measured, never
zero. Warnings are part of the answer, so that they are where the numbers are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from workbench.api.show import html_of, text_of
from workbench.api.words import python_words
from workbench.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd  # type: ignore[import-untyped]  # it brings no types
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A table with a title; the last line of a notebook's cell shows it.

    Examples:
        >>> routes = wb.open().routes()
        >>> len(routes)
        8
        >>> routes[0]["group"]
        1
        >>> routes.to_polars().height
        8

    Attributes:
        rows: The table.
        title: What it is, in a line.
        notes: What to know when reading it.
        warnings: What is wrong with it.
        shown: Columns that are shown, in their order; all where empty.
    """

    rows: pa.Table
    title: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Say in Python what the layers below say for the command line."""
        for name in ("notes", "warnings"):
            said = tuple(map(python_words, getattr(self, name)))
            object.__setattr__(self, name, said)  # the one time that it is not frozen

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        names: list[str] = self.rows.column_names
        return names

    def to_arrow(self) -> pa.Table:
        """Return the rows as a pyarrow table; nothing is copied."""
        return self.rows

    def to_polars(self) -> pl.DataFrame:
        """Return the rows as a Polars frame."""
        import polars as pl  # noqa: PLC0415 - not every user of an answer needs it

        frame = pl.from_arrow(self.rows)
        assert isinstance(frame, pl.DataFrame)  # noqa: S101 - of a table
        return frame

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a pandas frame.

        Raises:
            InvalidArgument: `package_missing`: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415, F401 - an optional package
        except ImportError as error:
            raise InvalidArgument(
                "pandas is not installed",
                code="package_missing",
                hint="pip install pandas, or use .to_polars() or .to_arrow()",
            ) from error
        return self.rows.to_pandas()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Give the rows to whoever speaks Arrow's PyCapsule interface."""
        stream: object = self.rows.__arrow_c_stream__(requested_schema)
        return stream

    def __len__(self) -> int:
        """Return the number of rows."""
        count: int = self.rows.num_rows
        return count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows as dicts, by column."""
        for batch in self.rows.to_batches(max_chunksize=1_024):
            yield from batch.to_pylist()

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return one row as a dict, from the end where `index` is negative; a slice as a list."""
        if isinstance(index, slice):
            places = range(len(self))[index]
            rows: list[dict[str, Any]] = self.rows.take(list(places)).to_pylist() if places else []
            return rows
        place = range(len(self))[index]
        row: dict[str, Any] = self.rows.slice(place, 1).to_pylist()[0]
        return row

    def __repr__(self) -> str:
        """Return the first rows as text."""
        return text_of(self._shown(), self.title, notes=self.notes, warnings=self.warnings)

    def _repr_html_(self) -> str:
        """Return the first rows as HTML, for notebooks."""
        return html_of(self._shown(), self.title, notes=self.notes, warnings=self.warnings)

    def _shown(self) -> pa.Table:
        return self.rows.select(list(self.shown)) if self.shown else self.rows
