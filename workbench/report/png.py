"""Heat pictures: a heat matrix as PNG, as people expect it in an incident channel.

             title
    key  │ ┌───────────────┐
    axis │ │ cells         │
         │ ├───────────────┤ ◀─ cut key
         │ └───────────────┘
             time axis, UTC
             colour bar

Rules:
- A cell is a whole number of pixels. A matrix larger than the canvas is max-pooled first, so no
  hot cell is lost; a cut line gets pixels of its own between two rows, so none is covered.
- What was not measured is hatched in a grey that load never has.
- The lowest key is at the top, and the axis says so.

`bare_png` is the picture alone, one pixel per cell, see-through where nothing was measured: the
page scales it, hatches behind it and writes the axes itself.
"""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from workbench.heat.matrix import pool
from workbench.model.keys import printable_key
from workbench.report import palette, words
from workbench.report.heat_view import legend_ticks, levels_of, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from workbench.heat.matrix import HeatMatrix

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PLOT_WIDTH_MAX: Final = 960
PLOT_HEIGHT_MAX: Final = 512
# A matrix of few cells gets large ones, but not without limit.
CELL_PIXELS_MAX: Final = 40
CUT_PIXELS: Final = 2
MARGIN: Final = 16
TITLE_PIXELS: Final = 22
LABEL_PIXELS: Final = 13
LABEL_CHARS_MAX: Final = 22
KEY_LABEL_GAP: Final = 26
BAR_HEIGHT: Final = 14
TICK: Final = 5
PLOT_WIDTH_MIN: Final = 320
HATCH_PERIOD: Final = 6

PAPER: Final = (255, 255, 255)
INK: Final = (34, 38, 43)
FAINT: Final = (96, 102, 110)
CUT: Final = (214, 39, 40)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things are, in pixels.

    Attributes:
        left: Left edge of the cells.
        top: Upper edge of the cells.
        cell_width: Of one cell.
        cell_height: Of one cell.
        width: Of all cells.
        height: Of all cells and cut lines.
        row_tops: Upper edge of each row below `top`, and the lower edge of the last.
        cuts: Text of the cut lines by the row above which they lie.
        size: Of the picture.
    """

    left: int
    top: int
    cell_width: int
    cell_height: int
    width: int
    height: int
    row_tops: tuple[int, ...]
    cuts: tuple[tuple[int, str], ...]
    size: tuple[int, int]


def heat_png(
    matrix: HeatMatrix,
    *,
    title: str,
    cut_keys: Sequence[bytes] = (),
    top: float | None = None,
    labels: bool = True,
) -> bytes:
    """Return a heat matrix as a PNG with axes, colour bar and cut lines.

    Args:
        matrix: Any size; NaN is not measured.
        title: Untrusted text; what the font lacks is shown as `?`.
        cut_keys: Drawn as thin lines; a cut inside a row lies on the row's nearer edge.
        top: Load of the brightest colour; the matrix's own maximum where None.
        labels: Whether keys are written out. Without, the picture shows no key to anybody.
    """
    drawn = pool(matrix, PLOT_HEIGHT_MAX, PLOT_WIDTH_MAX)
    if top is None:
        top = float(np.nanmax(np.nan_to_num(matrix.values), initial=0.0))
    label_font = ImageFont.load_default(size=LABEL_PIXELS)
    layout = _layout(drawn, cut_keys, label_font, labels=labels)
    image = Image.new("RGB", layout.size, PAPER)
    _paste_cells(image, levels_of(drawn, "log", top), layout)
    draw = ImageDraw.Draw(image)
    title_font = ImageFont.load_default(size=TITLE_PIXELS)
    room = layout.size[0] - 2 * MARGIN
    draw.text((MARGIN, MARGIN), _fitted(words.ascii_only(title), title_font, room), INK, title_font)
    _draw_cuts(draw, layout, label_font, labels=labels)
    _draw_key_axis(draw, drawn, layout, label_font, labels=labels)
    _draw_time_axis(draw, drawn, layout, label_font)
    _draw_colour_bar(draw, drawn, layout, label_font, top)
    return _encoded(image)


def bare_png(levels: npt.NDArray[np.uint8]) -> bytes:
    """Return colour levels as a palette PNG, one pixel per cell, level 0 see-through."""
    image = Image.fromarray(levels)
    image.putpalette([channel for colour in palette.cividis() for channel in colour])
    return _encoded(image, transparency=palette.LEVEL_ABSENT)


def data_uri(png: bytes) -> str:
    """Return a PNG as a `data:` URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _layout(matrix: HeatMatrix, cut_keys: Sequence[bytes], font: Font, *, labels: bool) -> _Layout:
    rows, columns = matrix.values.shape
    cell_width = min(max(PLOT_WIDTH_MAX // max(columns, 1), 1), CELL_PIXELS_MAX)
    cell_height = min(max(PLOT_HEIGHT_MAX // max(rows, 1), 1), CELL_PIXELS_MAX)
    by_row: dict[int, list[bytes]] = defaultdict(list)
    for key in sorted(cut_keys):
        by_row[min(round(place(matrix.spans, key)), rows)].append(key)
    cuts = tuple((row, _cut_text(keys, labels=labels)) for row, keys in sorted(by_row.items()))
    row_tops = [
        row * cell_height + CUT_PIXELS * sum(at <= row for at, _ in cuts) for row in range(rows + 1)
    ]
    key_labels = [_key_label(span.start) for span in matrix.spans] if labels else ["lowest key"]
    left = MARGIN + max((_width(text, font) for text in key_labels), default=0) + TICK + 4
    right = max((_width(text, font) for _, text in cuts), default=0) + TICK + 4
    width, height = max(columns * cell_width, 1), max(row_tops[-1], 1)
    top = MARGIN + TITLE_PIXELS + MARGIN + LABEL_PIXELS + 6
    bottom = top + height + TICK + 2 * LABEL_PIXELS + MARGIN + BAR_HEIGHT + TICK
    return _Layout(
        left=left,
        top=top,
        cell_width=cell_width,
        cell_height=cell_height,
        width=width,
        height=height,
        row_tops=tuple(row_tops),
        cuts=cuts,
        size=(
            left + max(width, PLOT_WIDTH_MIN) + right + MARGIN,
            bottom + 2 * LABEL_PIXELS + MARGIN,
        ),
    )


def _paste_cells(image: Image.Image, levels: npt.NDArray[np.uint8], layout: _Layout) -> None:
    """Paint the cells, and the hatch where nothing was measured; cut rows stay paper."""
    colours = np.array(palette.cividis(), dtype=np.uint8)
    wide = np.repeat(np.repeat(levels, layout.cell_height, 0), layout.cell_width, 1)
    pixels = np.full((layout.height, layout.width, 3), PAPER, dtype=np.uint8)
    owners = np.concatenate(
        [np.arange(top, top + layout.cell_height) for top in layout.row_tops[:-1]]
        or [np.zeros(0, dtype=np.int64)]
    )
    down, across = np.indices(wide.shape)
    hatched = (wide == palette.LEVEL_ABSENT) & ((down + across) % HATCH_PERIOD < 2)
    painted = colours[wide]
    painted[hatched] = palette.ABSENT_HATCH
    pixels[owners, : wide.shape[1]] = painted
    image.paste(Image.fromarray(pixels), (layout.left, layout.top))


def _draw_cuts(draw: ImageDraw.ImageDraw, layout: _Layout, font: Font, *, labels: bool) -> None:
    """Draw each cut in the pixels that were kept free for it, and its key beside it."""
    right = layout.left + layout.width
    next_free = 0
    for row, text in layout.cuts:
        y = layout.top + layout.row_tops[row] - CUT_PIXELS
        draw.rectangle((layout.left, y, right + TICK - 1, y + CUT_PIXELS - 1), CUT)
        at = max(y - LABEL_PIXELS // 2, next_free)
        if labels and at - y < 3 * LABEL_PIXELS:
            draw.text((right + TICK + 4, at), text, CUT, font)
            next_free = at + LABEL_PIXELS + 1
    if layout.cuts:
        draw.text((right + TICK + 4, layout.top - LABEL_PIXELS - 6), "cuts", CUT, font)


def _draw_key_axis(
    draw: ImageDraw.ImageDraw,
    matrix: HeatMatrix,
    layout: _Layout,
    font: Font,
    *,
    labels: bool,
) -> None:
    edge = layout.left - TICK - 3
    heading = f"key, lowest at the top ({words.plural(len(matrix.spans), 'range')})"
    draw.text((MARGIN, layout.top - LABEL_PIXELS - 6), words.ascii_only(heading), FAINT, font)
    if not labels:
        return
    next_free = layout.top
    for row, span in enumerate(matrix.spans):
        y = layout.top + layout.row_tops[row]
        if y < next_free:
            continue
        draw.line((layout.left - TICK, y, layout.left - 1, y), FAINT)
        draw.text((edge, y), _key_label(span.start), INK, font, anchor="ra" if row == 0 else "rm")
        next_free = y + KEY_LABEL_GAP


def _draw_time_axis(
    draw: ImageDraw.ImageDraw, matrix: HeatMatrix, layout: _Layout, font: Font
) -> None:
    y = layout.top + layout.height
    for column, text in words.time_ticks(matrix.times, max(layout.width // 110, 1)):
        x = layout.left + round(column * layout.cell_width)
        draw.line((x, y, x, y + TICK - 1), FAINT)
        draw.text((x, y + TICK + 2), text, INK, font, anchor="la" if column < 1 else "ma")
    if matrix.times:
        until = matrix.times[-1] + timedelta(milliseconds=matrix.window_ms)
        window = f"windows of {words.length(matrix.window_ms)}"
        said = f"{words.time_range(matrix.times[0], until)}, {window}"
        place_at = (layout.left, y + TICK + 4 + LABEL_PIXELS)
        draw.text(place_at, words.ascii_only(said), FAINT, font)


def _draw_colour_bar(
    draw: ImageDraw.ImageDraw,
    matrix: HeatMatrix,
    layout: _Layout,
    font: Font,
    top: float,
) -> None:
    """Draw the scale below the time axis: absent, zero, and load up to `top` with its numbers."""
    y = layout.top + layout.height + TICK + 2 * LABEL_PIXELS + MARGIN
    colours = palette.cividis()
    x = layout.left
    _swatch(draw, x, y, "not measured", font, hatch=True)
    x += BAR_HEIGHT + 6 + _width("not measured", font) + MARGIN
    _swatch(draw, x, y, "0", font, hatch=False)
    x += BAR_HEIGHT + 6 + _width("0", font) + MARGIN
    reach = min(max(layout.left + max(layout.width, PLOT_WIDTH_MIN) - x, 90), 420)
    steps = len(colours) - palette.LEVEL_LOAD
    for pixel in range(reach):
        level = palette.LEVEL_LOAD + pixel * steps // reach
        draw.line((x + pixel, y, x + pixel, y + BAR_HEIGHT - 1), colours[level])
    next_free = x - LABEL_PIXELS
    ticks = legend_ticks("log", top)
    for index, tick in enumerate(ticks):
        at = x + round(tick.at / 100 * (reach - 1))
        half = _width(tick.text, font) // 2
        if at - half < next_free and index < len(ticks) - 1:
            continue
        draw.line((at, y + BAR_HEIGHT, at, y + BAR_HEIGHT + TICK - 2), FAINT)
        draw.text((at, y + BAR_HEIGHT + TICK), tick.text, INK, font, anchor="ma")
        next_free = at + half + 8
    said = f"{words.ascii_only(matrix.series)} per cell, log scale"
    draw.text((x, y + BAR_HEIGHT + TICK + LABEL_PIXELS + 3), said, FAINT, font)


def _swatch(  # noqa: PLR0913 - leaf
    draw: ImageDraw.ImageDraw,
    x: int,
    y: int,
    text: str,
    font: Font,
    *,
    hatch: bool,
) -> None:
    for down in range(BAR_HEIGHT):
        for across in range(BAR_HEIGHT):
            colour = palette.cividis()[palette.LEVEL_ABSENT if hatch else palette.LEVEL_ZERO]
            if hatch and (down + across) % HATCH_PERIOD < 2:
                colour = palette.ABSENT_HATCH
            draw.point((x + across, y + down), colour)
    draw.text((x + BAR_HEIGHT + 6, y), text, INK, font)


def _key_label(key: bytes) -> str:
    return words.ascii_only(words.short(words.key_text(key), LABEL_CHARS_MAX))


def _cut_text(keys: Sequence[bytes], *, labels: bool) -> str:
    if not labels:
        return ""
    text = words.ascii_only(words.short(printable_key(keys[0]), LABEL_CHARS_MAX))
    return text if len(keys) == 1 else f"{text} +{len(keys) - 1}"


def _fitted(text: str, font: Font, room: int) -> str:
    """Return `text`, cut at the end where it is wider than `room` pixels."""
    if _width(text, font) <= room:
        return text
    while text and _width(f"{text}…", font) > room:
        text = text[:-1]
    return f"{text}…"


def _width(text: str, font: Font) -> int:
    return int(font.getlength(text)) + 1


def _encoded(image: Image.Image, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True, **options)
    return buffer.getvalue()
