"""Heatmap: load by key and time to look at, point at and select in, as a notebook widget.

    HeatSurface ──overview──▶ traits ──▶ canvas in the page      paints, pans, zooms by itself
                ◀──tile, exact, table── messages                 asks for what is finer or exact
    brush, cursor, series, view ◀──▶ traits                      a reloaded page shows the same

Rules:

- The first message carries an overview of one series, at most 2 MB; finer tiles follow as they are
  asked for, none above 2 MB. The page keeps the series that it has seen.
- All state is in traits, which live in the kernel. What comes from a page is input: it is checked,
  and refused where it does not fit.
- Text that the page shows is made here or in `heat_surface`, and goes in as text, never as markup.
- Messages may be answered on another thread than the one that runs cells: a lock keeps the surface
  and what is said of it together.

Jupyter sends the page module with each widget. A kernel that has imported an older version keeps
it until it is restarted; a page that finds another `PROTOCOL` says so instead of drawing.
"""

from __future__ import annotations

from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

import anywidget
import traitlets

from workbench.errors import InvalidArgument, InvalidInput, WorkbenchError
from workbench.model.keys import Span, check_key
from workbench.model.times import from_us, parse_time, to_us
from workbench.report import palette, words
from workbench.report.heat_pieces import Box
from workbench.report.heat_surface import HeatSurface, empty_surface, exact_json, table_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

PROTOCOL: Final = 1
HEIGHT_PX: Final = 420
BRIGHTNESS_MAX: Final = 4.0
PIXELS_MAX: Final = 16_384
_STATIC: Final = Path(__file__).parent / "static"
_KINDS: Final = ["tile", "exact", "table"]
_COLOURS: Final = ("load", "group", "leader")
# Told apart with and without colour vision, where there are few; groups beyond share them.
_HUES: Final = (
    (255, 176, 59),
    (86, 180, 233),
    (64, 201, 162),
    (240, 228, 66),
    (233, 120, 165),
    (150, 150, 255),
    (240, 110, 70),
    (190, 215, 120),
    (120, 220, 225),
    (205, 160, 115),
)
_CHIPS_MAX: Final = 8
_LABEL_CHARS_MAX: Final = 26
_STEPS_S: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1_800),
    *(3_600, 7_200, 10_800, 21_600, 43_200),
    *(86_400, 172_800, 604_800, 2_592_000),
)
_HELP: Final = (
    "Drag to select, shift-drag to pan, wheel after a click to zoom. Keys: arrows move, shift and "
    "arrows select, Enter confirms, Escape clears, + and − zoom, 0 shows everything."
)
_HEADS: Final = ("Keys", "Route", "Group", "Leader", "Load", "Share", "Peak window", "Peak at")

# Lab looks at keys before a widget does, and takes arrows and Enter for its own commands unless
# the very element that has the focus says this.
_OWN_KEYS: Final = {"data-lm-suppress-shortcuts": "true"}

Brush = dict[str, Any]


def _dict_or_none() -> Any:  # noqa: ANN401 - traitlets types no Dict that may be None
    return traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)


class Heatmap(anywidget.AnyWidget):
    """Load by key and time.

    Traits that may be read, observed and set:
        series: Which load is shown.
        brush: The selection, or None: `start_us`, `end_us` (exclusive), `row_first`, `row_last`
            (inclusive), `span_start_hex`, `span_end_hex` (None is no upper bound). Setting the
            first four, or the times and the hexadecimal keys, fills in the others.
        cursor: The cell that was clicked, `row` and `column`, or None.
        colour_by: `load`, `group` or `leader`.
        brightness: From 1/4 to 4; how bright little load is. The hottest is always brightest.
        view: First row, row end, first column and column end that are on screen; None is all.
        height: Of the picture, in CSS pixels.
    """

    _esm = _STATIC / "heatmap.js"
    _css = _STATIC / "heatmap.css"

    series = traitlets.Unicode("score").tag(sync=True)
    brush: traitlets.TraitType[Brush | None, Brush | None] = _dict_or_none()
    cursor: traitlets.TraitType[dict[str, int] | None, dict[str, int] | None] = _dict_or_none()
    colour_by = traitlets.Enum(_COLOURS, "load").tag(sync=True)
    brightness = traitlets.Float(1.0, min=1 / BRIGHTNESS_MAX, max=BRIGHTNESS_MAX).tag(sync=True)
    view = traitlets.List(traitlets.Float(), allow_none=True, default_value=None).tag(sync=True)
    height = traitlets.Int(HEIGHT_PX, min=160, max=4_000).tag(sync=True)
    _parts: traitlets.List[Any] = traitlets.List().tag(sync=True)
    _frame = traitlets.Dict().tag(sync=True)
    _levels = traitlets.Bytes(b"").tag(sync=True)
    _table = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)

    def __init__(self, surface: HeatSurface | None = None, *, height: int = HEIGHT_PX) -> None:
        """Show a surface; None shows that there is nothing yet."""
        self._lock = RLock()
        self._surface = surface or empty_surface()
        self._version = 1
        first = self._surface.series[0]
        frame, levels = self._drawn(first)
        super().__init__(series=first, height=height, _parts=_parts(), _frame=frame, _levels=levels)
        self.on_msg(self._heard)
        self.observe(self._on_series, names="series")
        self.observe(self._on_brush, names="brush")

    def __repr__(self) -> str:
        """Return what it shows, in a line."""
        surface = self._surface
        return f"Heatmap({_size(surface, ' × ')}, {self.series})"

    @property
    def surface(self) -> HeatSurface:
        """What is shown."""
        return self._surface

    def update(self, surface: HeatSurface) -> None:
        """Show another surface; series and selection stay, the latter by its keys and times."""
        with self._lock:
            span, times = self._brush_span(), self.brushed_times()
            self._surface = surface
            self._version += 1
            name = self.series if self.series in surface.series else surface.series[0]
            frame, levels = self._drawn(name)
            brush = None
            if span is not None and times is not None:
                brush = self._brush_at(span, to_us(times[0]), to_us(times[1]))
            with self.hold_sync():
                self.set_trait("_levels", levels)
                self.set_trait("_frame", frame)
                self.set_trait("view", None)
                self.set_trait("cursor", None)
                self.set_trait("brush", brush)
                self.set_trait("series", name)
                self._tell_table()

    def on_brush(self, callback: Callable[[Brush | None], None]) -> Callable[[], None]:
        """Call back with every new selection, None where it is cleared; returns what undoes it."""

        def heard(change: Mapping[str, Any]) -> None:
            callback(change["new"])

        self.observe(heard, names="brush")
        return lambda: self.unobserve(heard, names="brush")

    def brushed_spans(self) -> tuple[Span, ...]:
        """Return the selected keys as ascending spans; gaps between routes are left out."""
        with self._lock:
            brush, surface = self.brush, self._surface
            if brush is None:
                return ()
            joined: list[Span] = []
            for span in surface.spans[brush["row_first"] : brush["row_last"] + 1]:
                if joined and joined[-1].end == span.start:
                    joined[-1] = Span(joined[-1].start, span.end)
                else:
                    joined.append(span)
            return tuple(joined)

    def brushed_routes(self) -> tuple[int, ...]:
        """Return the ids of the routes that hold selected keys, ascending."""
        with self._lock:
            brush, surface = self.brush, self._surface
            if brush is None:
                return ()
            return tuple(sorted(set(surface.route_ids[brush["row_first"] : brush["row_last"] + 1])))

    def brushed_times(self) -> tuple[datetime, datetime] | None:
        """Return start and end (exclusive) of the selected time, None where nothing is."""
        brush = self.brush
        return None if brush is None else (from_us(brush["start_us"]), from_us(brush["end_us"]))

    def select(
        self,
        *,
        rows: tuple[int, int] | None = None,
        span: Span | tuple[bytes, bytes | None] | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
    ) -> None:
        """Select key ranges and windows; what is not given is not narrowed.

        Args:
            rows: First and last row, both included.
            span: Keys, instead of rows: a Span, or start and end (None for no upper bound).
            since: Start of the time; aware, or text as RFC 3339.
            until: End of it, exclusive; likewise.

        Raises:
            InvalidArgument: code selection_empty: nothing of what is shown lies there.
        """
        with self._lock:
            surface = self._surface
            first_us, end_us = surface.first_us, surface.window_start_us(surface.columns)
            if isinstance(span, tuple):
                span = Span(*span)
            keys = rows if span is None else surface.rows_of(span)
            if rows is None and span is None:
                keys = (0, surface.rows - 1)
            columns = surface.columns_of(
                first_us if since is None else _us(since),
                end_us if until is None else _us(until),
            )
            if keys is None or columns is None or not 0 <= keys[0] <= keys[1] < surface.rows:
                raise InvalidArgument(
                    "nothing of what the heatmap shows lies in the selection",
                    code="selection_empty",
                    hint=f"it shows {_size(surface, ' in ')}",
                )
            self.brush = {
                "row_first": keys[0],
                "row_last": keys[1],
                "start_us": surface.window_start_us(columns[0]),
                "end_us": surface.window_start_us(columns[1] + 1),
            }

    def clear(self) -> None:
        """Select nothing."""
        self.brush = None

    @traitlets.validate("series")
    def _check_series(self, proposal: Mapping[str, Any]) -> str:
        name: str = proposal["value"]
        if name not in self._surface.series:
            known = ", ".join(self._surface.series)
            raise traitlets.TraitError(f"there is no series {name!r:.40}; known are {known}")
        return name

    @traitlets.validate("brush")
    def _check_brush(self, proposal: Mapping[str, Any]) -> Brush | None:
        given: Brush | None = proposal["value"]
        if not given:
            return None
        surface = self._surface
        start_us, end_us = (_whole(given.get(name)) for name in ("start_us", "end_us"))
        columns = surface.columns_of(start_us, end_us)
        if "row_first" in given:
            rows = (_whole(given["row_first"]), _whole(given.get("row_last")))
        else:
            span = _span(given)
            rows = surface.rows_of(span) or (0, -1)
        if columns is None or not 0 <= rows[0] <= rows[1] < surface.rows:
            raise traitlets.TraitError("the selection lies outside of what the heatmap shows")
        last = surface.spans[rows[1]].end
        return {
            "row_first": rows[0],
            "row_last": rows[1],
            "start_us": surface.window_start_us(columns[0]),
            "end_us": surface.window_start_us(columns[1] + 1),
            "span_start_hex": surface.spans[rows[0]].start.hex(),
            "span_end_hex": None if last is None else last.hex(),
        }

    @traitlets.validate("cursor")
    def _check_cursor(self, proposal: Mapping[str, Any]) -> dict[str, int] | None:
        given = proposal["value"]
        if not given:
            return None
        row, column = _whole(given.get("row")), _whole(given.get("column"))
        if not (0 <= row < self._surface.rows and 0 <= column < self._surface.columns):
            raise traitlets.TraitError("the cursor lies outside of what the heatmap shows")
        return {"row": row, "column": column}

    @traitlets.validate("view")
    def _check_view(self, proposal: Mapping[str, Any]) -> list[float] | None:
        given: list[float] | None = proposal["value"]
        if given is None:
            return None
        if len(given) != 4 or not (given[0] < given[1] and given[2] < given[3]):
            raise traitlets.TraitError("a view is first row, row end, first column, column end")
        return given

    def _drawn(self, series: str) -> tuple[dict[str, Any], bytes]:
        """Return frame and levels of a series."""
        surface = self._surface
        tile = surface.overview(series)
        frame = surface.frame(series)
        flat = [channel for colour in palette.cividis() for channel in colour]
        frame |= {
            "protocol": PROTOCOL,
            "version": self._version,
            "palette": flat,
            "hues": _HUES,
            "steps_s": _STEPS_S,
            "overview": tile.header(),
            "widest": max(tile.facts["labels"], key=len, default="")[:_LABEL_CHARS_MAX],
            "texts": _texts(surface, frame),
            "scale": _scale(frame),
            "chips": {
                "load": [],
                "group": _chips(surface.groups),
                "leader": _chips(surface.leaders),
            },
            "choices": _choices(surface.series, series),
        }
        return frame, tile.levels

    def _on_series(self, change: Mapping[str, Any]) -> None:
        with self._lock:
            if self._frame["series"] != change["new"] or self._frame["version"] != self._version:
                frame, levels = self._drawn(change["new"])
                with self.hold_sync():
                    self.set_trait("_levels", levels)
                    self.set_trait("_frame", frame)
            self._tell_table()

    def _on_brush(self, _change: Mapping[str, Any]) -> None:
        with self._lock:
            self._tell_table()

    def _tell_table(self) -> None:
        brush, surface = self.brush, self._surface
        box = None if brush is None else self._box(brush)
        told = table_json(surface.table(self.series, box))
        of = "all" if box is None else f"{box.row} {box.row_end} {box.column} {box.column_end}"
        self.set_trait("_table", {**_table_texts(told, self.series, box), "of": of})

    def _box(self, brush: Brush) -> Box:
        surface = self._surface
        columns = surface.columns_of(brush["start_us"], brush["end_us"])
        if columns is None:
            raise InvalidInput(
                "the selection lies outside of what the heatmap shows",
                code="heat_box_invalid",
                hint="select again",
            )
        return Box(brush["row_first"], brush["row_last"] + 1, columns[0], columns[1] + 1)

    def _brush_span(self) -> Span | None:
        return None if self.brush is None else _span(self.brush)

    def _brush_at(self, span: Span, start_us: int, end_us: int) -> Brush | None:
        """Return the selection of keys and times, None where nothing of them is shown."""
        if (
            self._surface.rows_of(span) is None
            or self._surface.columns_of(start_us, end_us) is None
        ):
            return None
        end = None if span.end is None else span.end.hex()
        return {
            "start_us": start_us,
            "end_us": end_us,
            "span_start_hex": span.start.hex(),
            "span_end_hex": end,
        }

    def _heard(self, _widget: object, content: object, _buffers: object) -> None:
        """Answer a message of the page; what does not fit is refused, what is old left alone."""
        if not isinstance(content, dict) or content.get("kind") not in _KINDS:
            return
        with self._lock:
            if content.get("version") != self._version:
                return
            reply = {key: content.get(key) for key in ("kind", "id", "version", "series")}
            buffers: list[bytes] = []
            try:
                buffers = self._answer(content, reply)
            except WorkbenchError as error:
                reply |= {"kind": "refused", "text": str(error)}
            if content["kind"] != "table" or reply["kind"] == "refused":
                self.send(reply, buffers)

    def _answer(self, asked: dict[str, Any], reply: dict[str, Any]) -> list[bytes]:
        if asked["kind"] == "table":
            self._tell_table()
            return []
        surface, series = self._surface, str(asked.get("series"))
        box = Box(*_pair(asked, "rows"), *_pair(asked, "columns"))
        if asked["kind"] == "exact":
            told = exact_json(surface, series, box)
            reply |= {"lines": _lines(told, series), "said": _said(told, series)}
            return []
        limits = [_pixels(asked.get(name)) for name in ("rows_max", "columns_max")]
        tile = surface.tile(series, box, rows_max=limits[0], columns_max=limits[1])
        reply |= tile.header()
        return [tile.levels]


def _size(surface: HeatSurface, joint: str) -> str:
    ranges, windows = words.counted(surface.rows, "key range"), surface.columns
    return f"{ranges}{joint}{words.counted(windows, 'window')}"


def _whole(value: object) -> int:
    """Return a whole number that came from a page, which knows only one kind of number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0:
        return int(value)
    raise traitlets.TraitError(f"{value!r:.40} is not a whole number")


def _span(given: Brush) -> Span:
    start, end = given.get("span_start_hex"), given.get("span_end_hex")
    try:
        first, last = bytes.fromhex(start or ""), None if end is None else bytes.fromhex(end)
        return Span(check_key(first), None if last is None else check_key(last))
    except (ValueError, TypeError, InvalidInput) as error:
        raise traitlets.TraitError(f"the selection's keys are not hexadecimal: {error}") from error


def _pair(asked: dict[str, Any], name: str) -> tuple[int, int]:
    pair = asked.get(name)
    if isinstance(pair, list) and len(pair) == 2 and all(type(each) is int for each in pair):
        return pair[0], pair[1]
    raise InvalidInput(
        f"{name} of a message are {pair!r:.80}",
        code="heat_box_invalid",
        hint="give two whole numbers, first and end",
    )


def _pixels(value: object) -> int:
    if type(value) is int and 1 <= value <= PIXELS_MAX:
        return value
    raise InvalidInput(
        f"a picture of {value!r:.40} pixels",
        code="heat_box_invalid",
        hint=f"ask for 1 to {PIXELS_MAX} joined rows and columns",
    )


def _texts(surface: HeatSurface, frame: Mapping[str, Any]) -> dict[str, str]:
    sizes = f"{words.plural(surface.rows, 'key range')} × {words.plural(surface.columns, 'window')}"
    if not surface.is_empty:
        sizes += f" of {words.length(surface.window_us / 1_000)}, UTC"
    if frame["prefix"]:
        sizes += f", keys begin with {frame['prefix']}"
    if frame["lineage_more"]:
        sizes += f", {words.plural(frame['lineage_more'], 'older split')} not drawn"
    return {
        "title": surface.title or "Load by key and time",
        "sizes": sizes,
        "label": f"Heatmap of {frame['series']}, {sizes}. Lowest key at the top.",
        "empty": "No load to show yet. Collect some, then update the heatmap.",
    }


def _who(told: Mapping[str, Any]) -> str:
    leader = f" · leader {told['leader']}" if told["leader"] else ""
    return f"route {told['route']} · group {told['group']}{leader}"


def _lines(told: Mapping[str, Any], series: str) -> list[tuple[str, str]]:
    """Return what is shown at the pointer, as names and lines."""
    load = told["load"] if told["total"] is None else f"{told['load']} {series}"
    lines = [("load", load), ("span", told["span"]), ("time", told["time"]), ("who", _who(told))]
    if told["cells"] > 1:
        joined = f"hottest of {told['cells']:,} cells here"
        joined += "" if told["total"] is None else f", {told['total']} in all"
        joined += f", {told['absent']:,} not measured" if told["absent"] else ""
        lines.append(("joined", joined))
    return lines


def _said(told: Mapping[str, Any], series: str) -> str:
    load = told["load"] if told["total"] is None else f"{told['load']} {series}"
    return f"{load}, {told['span']}, {told['time']}, {_who(told)}"


def _table_texts(told: Mapping[str, Any], series: str, box: Box | None) -> dict[str, Any]:
    what = (
        f"{words.plural(told['ranges'], 'key range')} of {words.plural(told['routes'], 'route')} "
        f"in {words.plural(told['windows'], 'window')}"
    )
    absent = f"; {words.plural(told['absent'], 'cell')} not measured" if told["absent"] else ""
    load = told["load"] if told["share"] == "–" else f"{told['load']} {series}"
    if box is None:
        said = f"In all: {load} in {what}{absent}"
    else:
        said = f"Selected: {load} in {what}, {told['share']} of all; {told['time']}{absent}"
    return {
        "rows": told["rows"],
        "summary": "Table" if box is None else "Table of the selection",
        "caption": f"The {len(told['rows'])} heaviest of {what}",
        "said": said,
    }


def _scale(frame: Mapping[str, Any]) -> list[Any]:
    """Return the labels of the colour scale."""
    return [["", "span", {"style": f"left:{100 * at:.1f}%"}, text] for at, text in frame["legend"]]


def _chips(names: Sequence[str]) -> list[Any]:
    """Return who has which colour, as parts."""
    chips: list[Any] = []
    for (red, green, blue), name in zip(_HUES, names[:_CHIPS_MAX], strict=False):
        swatch = ["", "i", {"style": f"background:rgb({red} {green} {blue})"}]
        chips.append(["", "span", {}, swatch, words.short(name, _LABEL_CHARS_MAX)])
    if len(names) > _CHIPS_MAX:
        chips.append(f"{len(names) - _CHIPS_MAX:,} more")
    return chips


def _choices(names: Sequence[str], chosen: str) -> list[Any]:
    """Return the switch of series; its form keeps the buttons of two heatmaps apart."""
    choices = []
    for name in names:
        given = {"type": "radio", "name": "series", "value": name, **_OWN_KEYS}
        given |= {"checked": ""} if name == chosen else {}
        choices.append(["", "label", {}, ["", "input", given], ["", "span", {}, name]])
    return choices


def _parts() -> list[Any]:
    """Return the elements that the page builds: name, tag, attributes, children."""

    def button(do: str, text: str, tip: str, **more: str) -> list[Any]:
        given = {"type": "button", "data-do": do, "title": tip, "aria-label": tip}
        given |= {**_OWN_KEYS, **more}
        return [do, "button", given, text]

    options = [["", "option", {"value": name}, f"by {name}"] for name in _COLOURS]
    bright = {"type": "range", "min": "-2", "max": "2", "step": "0.1", "aria-label": "Brightness"}
    colour = {"aria-label": "Colour", **_OWN_KEYS}
    tools = [
        ["", "label", {}, "Colour", ["colour", "select", colour, *options]],
        ["", "label", {}, "Brightness", ["bright", "input", {**bright, **_OWN_KEYS}]],
        ["", "span", {"class": "wb-space"}],
        button("pan", "Pan", "Drag pans instead of selecting", **{"aria-pressed": "false"}),
        button("out", "−", "Zoom out"),
        button("in", "+", "Zoom in"),
        button("fit", "Fit", "Show everything"),
        button("selection", "Zoom to selection", "Zoom to the selection"),
        button("clear", "Clear", "Clear the selection"),
        button("png", "PNG", "Save the picture as PNG"),
    ]
    root = {"class": "wb-heat", "aria-label": "Heatmap"}
    names = ["", "div", {}, ["title", "strong", {}], ["sizes", "span", {"class": "wb-sizes"}]]
    choices = ["choices", "form", {"class": "wb-choices", "role": "radiogroup"}]
    choices[2] |= {"aria-label": "Series"}  # type: ignore[operator]
    over = {"class": "wb-over", "tabindex": "0", "role": "application", **_OWN_KEYS}
    plot = [
        ["cells", "canvas", {"class": "wb-cells", "aria-hidden": "true"}],
        ["over", "canvas", over],
        ["tip", "div", {"class": "wb-tip", "hidden": ""}],
        ["empty", "div", {"class": "wb-empty"}],
    ]
    absent = ["", "span", {}, ["", "i", {"class": "wb-absent"}], "not measured"]
    legend = [["scale", "div", {"class": "wb-scale"}], ["chips", "span", {}], absent]
    said = ["said", "div", {"class": "wb-said", "role": "status", "aria-live": "polite"}]
    heads = [["", "th", {"scope": "col"}, text] for text in _HEADS]
    table = [
        ["caption", "caption", {}],
        ["", "thead", {}, ["", "tr", {}, *heads]],
        ["body", "tbody", {}],
    ]
    scroll = [
        "",
        "div",
        {"class": "wb-scroll", "tabindex": "0", **_OWN_KEYS},
        ["", "table", {}, *table],
    ]
    return [
        "",
        "section",
        root,
        ["", "header", {}, names, choices],
        ["", "div", {"class": "wb-tools"}, *tools],
        ["plot", "div", {"class": "wb-plot"}, *plot],
        ["", "footer", {}, ["", "div", {"class": "wb-legend"}, *legend], said],
        ["", "div", {"class": "wb-help"}, _HELP],
        ["", "details", {"class": "wb-table"}, ["summary", "summary", _OWN_KEYS, "Table"], scroll],
    ]


def _us(time: datetime | str) -> int:
    """Return a time in Unix microseconds; InvalidArgument where text is none."""
    return to_us(parse_time(time) if isinstance(time, str) else time)
