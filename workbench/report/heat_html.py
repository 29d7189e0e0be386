"""The heat page: one HTML file to point at, which opens offline and asks nobody for anything.

    HeatMatrix ──pool, pool_sum──▶ numbers ──▶ JSON in the page ──heat.js──▶ canvas, and a line of
                                                                             exact values

Rules:
- A cell shows the hottest of the cells that were joined in it; pointing at it tells that value and
  their sum, both exact. What was not measured is hatched, and said to be so; it is not zero.
- Keys and titles are untrusted. They reach the page as JSON in which no `<` is left, and the
  screen as text nodes; nothing is pasted into markup.
- A Content-Security-Policy allows this one script, by its hash, and the page's own styles. There
  is no address in the page.
- The page stays under BYTES_MAX: rows and windows are joined further until it does.

Numbers go as LEB128 in URL-safe base64: 0 is absent, n + 1 is the load n.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from workbench.errors import InvalidInput
from workbench.heat.matrix import pool, pool_sum
from workbench.model.times import to_us
from workbench.report import palette, words
from workbench.report.heat_view import legend_ticks, levels_of, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from jinja2 import Template

    from workbench.heat.matrix import HeatMatrix

BYTES_MAX: Final = 2_900_000
ROWS_MAX: Final = 320
COLUMNS_MAX: Final = 720
_EXACT_MAX: Final = 1 << 53
_SEVEN_BITS: Final = 0x7F
_MORE: Final = 0x80


def heat_html(matrix: HeatMatrix, *, title: str, cut_keys: Sequence[bytes] = ()) -> str:
    """Return a heat matrix as one self-contained HTML document.

    Args:
        matrix: Any size; NaN is not measured.
        title: Untrusted text.
        cut_keys: Drawn as lines.

    Raises:
        InvalidInput: `heat_counters_too_large`: a load that a page cannot show exactly.
    """
    rows, columns = ROWS_MAX, COLUMNS_MAX
    while True:
        page = _page(matrix, title, cut_keys, rows, columns)
        if len(page.encode()) <= BYTES_MAX:
            return page
        if columns >= rows:
            columns = columns * 2 // 3
        else:
            rows = rows * 2 // 3


def _page(
    matrix: HeatMatrix, title: str, cut_keys: Sequence[bytes], rows: int, columns: int
) -> str:
    hottest, total = pool(matrix, rows, columns), pool_sum(matrix, rows, columns)
    top = float(np.fmax.reduce(hottest.values, axis=None, initial=0.0))
    template, script = _template()
    return template.render(
        title=words.clean(title),
        document=_document(matrix, hottest, total, top, cut_keys),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        gradient=palette.css_gradient(),
        legend=[(f"{tick.at:.2f}", tick.text) for tick in legend_ticks("log", top)],
        absent=bool(np.isnan(hottest.values).any()),
        summary=_summary(matrix, hottest),
        series=words.clean(matrix.series),
    )


def _summary(matrix: HeatMatrix, drawn: HeatMatrix) -> str:
    rows, columns = matrix.values.shape
    said = (
        f"{words.plural(rows, 'key range')} in {words.plural(columns, 'window')} of "
        f"{words.length(matrix.window_ms)}, lowest key at the top"
    )
    if drawn.values.shape == matrix.values.shape:
        return said
    down, across = drawn.values.shape
    return f"{said}; drawn as {down:,} × {across:,} cells, each as bright as its hottest part"


def _document(
    matrix: HeatMatrix,
    hottest: HeatMatrix,
    total: HeatMatrix,
    top: float,
    cut_keys: Sequence[bytes],
) -> str:
    """Return what the script draws, as JSON that cannot end its element."""
    rows, columns = hottest.values.shape
    joined = hottest.values.shape != matrix.values.shape
    content: dict[str, Any] = {
        "rows": rows,
        "columns": columns,
        "first_ms": to_us(hottest.times[0]) // 1_000,
        "window_ms": hottest.window_ms,
        "joined": joined,
        "spans": [
            [
                words.key_text(span.start),
                "no upper bound" if span.end is None else words.key_text(span.end),
            ]
            for span in hottest.spans
        ],
        "routes": list(hottest.route_ids),
        "cuts": [
            [place(hottest.spans, key) / rows, words.key_text(key)] for key in sorted(cut_keys)
        ],
        "palette": [channel for colour in palette.cividis() for channel in colour],
        "levels": _base64(levels_of(hottest, "log", top).tobytes()),
        "loads": _base64(_leb128(hottest.values)),
        "sums": _base64(_leb128(total.values)) if joined else None,
    }
    text = json.dumps(content, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode()


def _leb128(values: npt.NDArray[np.float64]) -> bytes:
    """Return 0 for NaN and n + 1 for a load n, seven bits a byte, the lowest first."""
    if np.fmax.reduce(values, axis=None, initial=0.0) >= _EXACT_MAX:
        raise InvalidInput(
            "a cell carries 2**53 or more, which a page cannot show exactly",
            code="heat_counters_too_large",
            hint="ask for a shorter time with --since and --until",
        )
    numbers = np.where(np.isnan(values), 0, np.nan_to_num(values) + 1).astype(np.uint64).ravel()
    lengths = np.ones(len(numbers), dtype=np.int64)
    rest = numbers >> np.uint64(7)
    while rest.any():
        lengths += rest > 0
        rest >>= np.uint64(7)
    ends = np.cumsum(lengths)
    out = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
    at, left, rest = ends - lengths, lengths.copy(), numbers.copy()
    while len(at):
        part = (rest & np.uint64(_SEVEN_BITS)).astype(np.uint8)
        out[at] = part | np.where(left > 1, _MORE, 0).astype(np.uint8)
        going = left > 1
        at, left, rest = at[going] + 1, left[going] - 1, rest[going] >> np.uint64(7)
    return out.tobytes()


@cache
def _template() -> tuple[Template, str]:
    # Jinja2 costs time; whoever wants only the picture need not pay it.
    from jinja2 import DictLoader, Environment, StrictUndefined  # noqa: PLC0415
    from markupsafe import Markup  # noqa: PLC0415

    environment = Environment(
        loader=DictLoader({"heat": _resource("heat.html.j2")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Our own files, and JSON that `_document` has made safe.
    environment.filters["ours"] = Markup
    return environment.get_template("heat"), _resource("heat.js")


def _resource(name: str) -> str:
    return files("workbench.report").joinpath(name).read_text(encoding="utf-8")
