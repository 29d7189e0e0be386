"""How an answer is shown: as HTML in a notebook, as text elsewhere.

    table, title, notes, warnings ──▶ html_of │ text_of

What is shown comes from outside: keys are bytes of anybody's, names and errors are texts of other
systems. So every cell goes through `shown`, which knows keys by `printable_key` alone and leaves
no character that could be markup for a terminal or change the direction of what follows, and
every text goes through `html.escape` before it becomes HTML. Nothing is formatted as HTML first.

Null is shown as a dash, never as zero: it means not measured, or none.
"""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any, Final

from workbench.cli.sql_output import cell, is_number
from workbench.model.times import rfc3339
from workbench.report import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

ROWS_SHOWN: Final = 20
TEXT_CHARACTERS_MAX: Final = 64
NULL: Final = "–"
# Numbers that name something are not grouped by thousands.
_NAMES: Final = frozenset({"group", "source_group", "target_group", "node", "pid", "seed", "port"})
_NAME_ENDS: Final = ("_id", "version", "_ts", "seq", "_index")
_STARTS: Final = frozenset({"start", "bucket_start"})
_ENDS: Final = frozenset({"end", "bucket_end"})


def html_of(table: pa.Table, title: str, *, notes: Sequence[str], warnings: Sequence[str]) -> str:
    """Return the first rows as an HTML table with what has to be said beside it; all escaped."""
    parts = ['<div class="workbench-result">']
    parts += [
        f'<p role="note" style="margin:.2em 0"><strong>warning:</strong> {_text(each)}</p>'
        for each in warnings
    ]
    parts.append("<table>")
    parts.append(f'<caption style="text-align:left;caption-side:top">{_text(title)}</caption>')
    parts.append("<thead><tr>")
    for field in table.schema:
        parts.append(f'<th scope="col" style="{_side(field)}">{_text(field.name)}</th>')
    parts.append("</tr></thead><tbody>")
    for row in _rows(table):
        parts.append("<tr>")
        for field, value in zip(table.schema, row, strict=True):
            parts.append(f'<td style="{_side(field)}">{escape(value)}</td>')
        parts.append("</tr>")
    parts.append("</tbody></table>")
    if hidden := _hidden(table):
        parts.append(f'<p style="margin:.2em 0">{escape(hidden)}</p>')
    parts += [f'<p style="margin:.2em 0">{_text(each)}</p>' for each in notes]
    parts.append("</div>")
    return "".join(parts)


def text_of(table: pa.Table, title: str, *, notes: Sequence[str], warnings: Sequence[str]) -> str:
    """Return the same for a terminal."""
    names = [printable(name) for name in table.column_names]
    rows = [[_cut(value) for value in row] for row in _rows(table)]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    right = [is_number(field.type) for field in table.schema]
    lines = [*(f"warning: {printable(each)}" for each in warnings), printable(title)]
    for row in [names, *rows] if names else []:
        cells = zip(row, widths, right, strict=True)
        lines.append(
            "  ".join(c.rjust(w) if is_right else c.ljust(w) for c, w, is_right in cells).rstrip()
        )
    if hidden := _hidden(table):
        lines.append(hidden)
    return "\n".join([*lines, *map(printable, notes)])


def shown(name: str, value: Any) -> str:  # noqa: ANN401 - whatever a table holds
    """Return a value as the column `name` shows it, on one line; not escaped for HTML."""
    match value:
        case None:
            text = "+∞" if name in _ENDS else NULL
        case b"" if name in _STARTS:
            text = "-∞"
        case datetime() if value.tzinfo is not None:
            text = rfc3339(value)
        case bool():
            text = "yes" if value else "no"
        case int():
            is_name = name in _NAMES or name.endswith(_NAME_ENDS)
            text = str(value) if is_name else f"{value:,}"
        case float() if "share" in name or name == "drift":
            text = f"{value:.1%}"
        case float():
            text = f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
        case list() if value and all(isinstance(each, str) for each in value):
            text = cell("; ".join(value))
        case _:
            text = cell(value)
    return text


def counted(count: int, noun: str, many: str | None = None) -> str:
    """Return a number of things as one says it: "no plans", "1 plan", "2 plans"."""
    return words.counted(count, noun, many) if count else f"no {many or noun + 's'}"


def printable(text: str) -> str:
    """Return a text on one line, without characters that control a terminal or a direction."""
    return "".join(
        c if c.isprintable() else " " if c in "\n\t" else f"\\u{ord(c):04x}" for c in text
    )


def _text(text: str) -> str:
    return escape(printable(text))


def _rows(table: pa.Table) -> list[list[str]]:
    first = table.slice(0, ROWS_SHOWN)
    columns = [
        [shown(name, value) for value in column.to_pylist()]
        for name, column in zip(first.column_names, first.columns, strict=True)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _hidden(table: pa.Table) -> str:
    rows: int = table.num_rows
    return f"… {rows - ROWS_SHOWN:,} more of {rows:,} rows" if rows > ROWS_SHOWN else ""


def _side(field: pa.Field) -> str:
    return "text-align:right" if is_number(field.type) else "text-align:left"


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[: TEXT_CHARACTERS_MAX - 1]}…"
