"""Charts as inline SVG: lines over time, a skyline of routes, steps of a trade-off.

    chart (values, labels)  ──draw──▶  "<svg …>"        coloured by classes, so by the page's theme

Rules:
- The drawing is built as a tree and serialised, so every text and attribute is escaped by
  construction; nothing is pasted into markup.
- A chart carries its own words (`label`), and the page puts a table beside it.
- Colours, fonts and widths of lines are the style sheet's: `before`, `after`, `forecast`, `bound`.
- Axes start at zero.

Coordinates are those of a 560 × 260 view box; the page scales it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

WIDTH: Final = 560
HEIGHT: Final = 260
LEFT: Final = 58
RIGHT: Final = 12
TOP: Final = 14
BOTTOM: Final = 34
PLOT_WIDTH: Final = WIDTH - LEFT - RIGHT
PLOT_HEIGHT: Final = HEIGHT - TOP - BOTTOM
TICKS: Final = 4


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from 0 to `top`, with (value, text) labels and a title."""

    top: float
    ticks: tuple[tuple[float, str], ...]
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A horizontal line at a value, drawn over the whole width."""

    value: float
    role: str


@dataclass(frozen=True, slots=True)
class Line:
    """Values at equal distances; None leaves a gap."""

    role: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class LineChart:
    """Lines over time. `x.top` is the number of values."""

    name: str
    label: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A bar from `low` to `high` on the x axis."""

    low: float
    high: float
    value: float


@dataclass(frozen=True, slots=True)
class Skyline:
    """Bars before a change as an outline behind the bars after it.

    Attributes:
        name: Stable, for tests and links.
        label: The chart in words.
        x: Places of routes.
        y: Load.
        before: The outline.
        after: The bars.
        expected: Short lines across the bars: what was forecast of each.
        marks: Lines across all.
    """

    name: str
    label: str
    x: Axis
    y: Axis
    before: tuple[Block, ...]
    after: tuple[Block, ...]
    expected: tuple[Block, ...] = ()
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class StepChart:
    """Points joined by steps; `chosen` is the index of the one that the plan takes."""

    name: str
    label: str
    x: Axis
    y: Axis
    points: tuple[tuple[float, float], ...]
    chosen: int | None
    marks: tuple[Mark, ...] = ()


Chart = LineChart | Skyline | StepChart


def axis(top: float, title: str, text: Callable[[float], str], *, whole: bool = False) -> Axis:
    """Return an axis that reaches at least to `top`, with ticks at round values.

    Args:
        top: The largest value to show.
        title: What is measured.
        text: How a value is written.
        whole: Whether only whole numbers may be ticks.
    """
    if top <= 0:
        return Axis(1.0, ((0.0, text(0)),), title)
    step = _round_step(top / TICKS)
    if whole:
        step = max(round(step), 1)
    count = -(-top // step)
    ticks = tuple((index * step, text(index * step)) for index in range(int(count) + 1))
    return Axis(float(count * step), ticks, title)


def draw(chart: Chart) -> str:
    """Return a chart as one `<svg>` element."""
    root = _frame(chart)
    match chart:
        case LineChart():
            for line in chart.lines:
                _add(root, "path", d=_line_path(line.values, chart), class_=f"line {line.role}")
        case Skyline():
            _draw_skyline(root, chart)
        case StepChart():
            _draw_steps(root, chart)
        case _:
            assert_never(chart)
    for mark in chart.marks:
        y = _number(_y(mark.value, chart.y))
        _add(root, "path", d=f"M{LEFT} {y}H{WIDTH - RIGHT}", class_=f"mark {mark.role}")
    return ET.tostring(root, encoding="unicode")


def _frame(chart: Chart) -> ET.Element:
    """Return the root with grid lines, labels and titles of both axes."""
    root = ET.Element(
        "svg",
        {
            "viewBox": f"0 0 {WIDTH} {HEIGHT}",
            "class": "chart",
            "role": "img",
            "aria-label": chart.label,
            "data-testid": f"chart-{chart.name}",
        },
    )
    for value, text in chart.y.ticks:
        y = _y(value, chart.y)
        _add(root, "path", d=f"M{LEFT} {_number(y)}H{WIDTH - RIGHT}", class_="grid")
        _text(root, LEFT - 7, y + 4, text, "end")
    for value, text in chart.x.ticks:
        x = _x(value, chart.x)
        anchor = "end" if x > WIDTH - 40 else "middle"
        _text(root, x, HEIGHT - BOTTOM + 18, text, anchor)
    _text(root, WIDTH - RIGHT, HEIGHT - 3, chart.x.title, "end", role="title")
    _add(root, "path", d=f"M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}", class_="base")
    return root


def _draw_skyline(root: ET.Element, chart: Skyline) -> None:
    outline = "".join(_outline(blocks, chart) for blocks in _runs(chart.before))
    _add(root, "path", d=outline, class_="area before")
    gap = 1.5 if len(chart.after) <= 120 else 0.0
    bars = "".join(
        f"M{_number(_x(bar.low, chart.x) + gap)} {HEIGHT - BOTTOM}"
        f"V{_number(_y(bar.value, chart.y))}"
        f"H{_number(_x(bar.high, chart.x) - gap)}V{HEIGHT - BOTTOM}Z"
        for bar in chart.after
    )
    _add(root, "path", d=bars, class_="bars after")
    _add(root, "path", d=outline, class_="outline before")
    expected = "".join(
        f"M{_number(_x(bar.low, chart.x))} {_number(_y(bar.value, chart.y))}"
        f"H{_number(_x(bar.high, chart.x))}"
        for bar in chart.expected
    )
    if expected:
        _add(root, "path", d=expected, class_="line forecast")


def _draw_steps(root: ET.Element, chart: StepChart) -> None:
    path = ""
    for index, (x, y) in enumerate(chart.points):
        right, up = _number(_x(x, chart.x)), _number(_y(y, chart.y))
        path += f"H{right}V{up}" if index else f"M{right} {up}"
    _add(root, "path", d=path, class_="line after")
    for index, (x, y) in enumerate(chart.points):
        chosen = index == chart.chosen
        _add(
            root,
            "circle",
            cx=_number(_x(x, chart.x)),
            cy=_number(_y(y, chart.y)),
            r="6.5" if chosen else "3",
            class_="dot chosen" if chosen else "dot",
        )


def _line_path(values: Sequence[float | None], chart: LineChart) -> str:
    """Return steps of one window each, so that a single window between gaps is seen."""
    path, pen_down = "", False
    for index, value in enumerate(values):
        if value is None:
            pen_down = False
            continue
        y = _number(_y(value, chart.y))
        path += f"V{y}" if pen_down else f"M{_number(_x(index, chart.x))} {y}"
        path += f"H{_number(_x(index + 1, chart.x))}"
        pen_down = True
    return path


def _outline(blocks: Sequence[Block], chart: Skyline) -> str:
    base = HEIGHT - BOTTOM
    path = f"M{_number(_x(blocks[0].low, chart.x))} {base}"
    for block in blocks:
        path += f"V{_number(_y(block.value, chart.y))}H{_number(_x(block.high, chart.x))}"
    return f"{path}V{base}"


def _runs(blocks: Iterable[Block]) -> list[list[Block]]:
    """Return blocks grouped where each touches the next."""
    runs: list[list[Block]] = []
    for block in blocks:
        if runs and runs[-1][-1].high == block.low:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5 times a power of ten that is at least `least`."""
    power = 1.0
    while power * 10 <= least:
        power *= 10
    while power > least:
        power /= 10
    return next(power * m for m in (1, 2, 2.5, 5, 10, 20) if power * m >= least * 0.999)


def _x(value: float, x: Axis) -> float:
    return LEFT + PLOT_WIDTH * value / x.top


def _y(value: float, y: Axis) -> float:
    return TOP + PLOT_HEIGHT * (1 - value / y.top)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _text(  # noqa: PLR0913, PLR0917 - leaf
    root: ET.Element, x: float, y: float, text: str, anchor: str, role: str = "tick"
) -> None:
    element = ET.SubElement(
        root,
        "text",
        {"x": _number(x), "y": _number(y), "text-anchor": anchor, "class": role},
    )
    element.text = text


def _add(root: ET.Element, tag: str, *, class_: str, **attributes: str) -> None:
    ET.SubElement(root, tag, {**attributes, "class": class_})
