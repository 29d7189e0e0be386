"""Claims about the heatmap widget, without a browser: traits, messages, what a page may say."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import traitlets

from tests.widgets.test_heatmap_surface import T0, matrix
from workbench.errors import InvalidArgument
from workbench.model.keys import Span
from workbench.model.times import from_us
from workbench.report.heat_surface import surface_of_matrices
from workbench.widgets import heatmap
from workbench.widgets.heatmap import Heatmap

MINUTE_US = 60_000_000


def made(rows: int = 10, columns: int = 20) -> Heatmap:
    values = np.arange(rows * columns, dtype=np.float64).reshape(rows, columns)
    full = [matrix(values * k, series=name) for name, k in (("score", 1), ("reads", 2))]
    return Heatmap(surface_of_matrices(full))


@pytest.fixture
def widget() -> Heatmap:
    return made()


@pytest.fixture
def sent(widget: Heatmap, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    out: list[Any] = []
    monkeypatch.setattr(
        widget, "send", lambda content, buffers=None: out.append((content, buffers))
    )
    return out


def ask(widget: Heatmap, **content: Any) -> None:
    given = {"id": 1, "version": widget._frame["version"], "series": widget.series} | content
    widget._heard(widget, given, [])


def test_the_page_module_is_one_file_under_20_kb_that_asks_nobody_and_writes_no_markup():
    text = (heatmap._STATIC / "heatmap.js").read_text()
    assert len(text.encode()) < 20_000
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", text)
    assert not re.search(r"https?:|//\w+\.|\bimport\b|\bfetch\b|XMLHttp", text)
    css = (heatmap._STATIC / "heatmap.css").read_text()
    assert not re.search(r"url\(|@import|https?:", css)
    assert f"PROTOCOL = {heatmap.PROTOCOL};" in text


@pytest.mark.parametrize("shape", [(1_000, 1_440), (5_000, 2_880)])
def test_the_first_message_is_at_most_two_megabytes(shape: tuple[int, int]):
    full = matrix(np.ones(shape), prefix=b"<hostile key of \x00 any bytes>" * 20)
    state = Heatmap(surface_of_matrices([full])).get_state()
    size = sum(
        len(value) if isinstance(value, bytes) else len(json.dumps(value))
        for name, value in state.items()
        if name != "layout"
    )
    assert 1_440_000 < size <= 2_000_000


def test_a_brush_of_rows_and_times_is_filled_in_with_keys(widget: Heatmap):
    heard: list[Any] = []
    widget.on_brush(heard.append)
    widget.brush = {
        "row_first": 2,
        "row_last": 4.0,
        "start_us": T0 + 90_000_000,
        "end_us": T0 + 4 * MINUTE_US,
    }
    assert widget.brush == {
        "row_first": 2,
        "row_last": 4,
        "start_us": T0 + MINUTE_US,
        "end_us": T0 + 4 * MINUTE_US,
        "span_start_hex": b"k000002".hex(),
        "span_end_hex": b"k000005".hex(),
    }
    assert heard == [widget.brush]
    assert widget.brushed_spans() == (Span(b"k000002", b"k000005"),)
    assert widget.brushed_routes() == (3, 4, 5)
    assert widget.brushed_times() == (from_us(T0 + MINUTE_US), from_us(T0 + 4 * MINUTE_US))
    assert widget._table["of"] == "2 5 1 4"


def test_an_observer_can_be_taken_away(widget: Heatmap):
    heard: list[Any] = []
    undo = widget.on_brush(heard.append)
    widget.select(rows=(1, 2))
    undo()
    widget.clear()
    assert len(heard) == 1
    assert widget.brushed_spans() == ()
    assert widget.brushed_times() is None


def test_the_last_row_reaches_up_without_bound(widget: Heatmap):
    widget.select(rows=(9, 9))
    assert widget.brush is not None
    assert widget.brush["span_end_hex"] is None
    assert widget.brushed_spans() == (Span(b"k000009", None),)


def test_selecting_by_span_and_time_takes_whole_cells(widget: Heatmap):
    widget.select(span=Span(b"k0000015", b"k000003"), since=from_us(T0 + 1), until=from_us(T0 + 2))
    assert widget.brush is not None
    assert (widget.brush["row_first"], widget.brush["row_last"]) == (1, 2)
    assert widget.brush["end_us"] - widget.brush["start_us"] == MINUTE_US


@pytest.mark.parametrize("given", [{"rows": (3, 99)}, {"until": from_us(T0 - 1)}])
def test_selecting_nothing_says_what_is_shown(widget: Heatmap, given: dict[str, Any]):
    with pytest.raises(InvalidArgument) as refused:
        widget.select(**given)
    assert refused.value.code == "selection_empty"


@pytest.mark.parametrize(
    "brush",
    [
        {"row_first": 0, "row_last": 99, "start_us": T0, "end_us": T0 + 1},
        {"row_first": 3, "row_last": 2, "start_us": T0, "end_us": T0 + 1},
        {"row_first": "0", "row_last": 1, "start_us": T0, "end_us": T0 + 1},
        {"row_first": 0, "row_last": 1, "start_us": T0 - 9, "end_us": T0},
        {"row_first": 0, "row_last": 1, "start_us": float("nan"), "end_us": T0},
        {"row_first": 0, "row_last": 1, "start_us": 1e400, "end_us": T0},
        {"span_start_hex": "zz", "span_end_hex": None, "start_us": T0, "end_us": T0 + 1},
        {"span_start_hex": "", "span_end_hex": "00" * 5_000, "start_us": T0, "end_us": T0 + 1},
        {"row_first": True, "row_last": 1},
    ],
)
def test_a_brush_that_does_not_fit_is_refused_and_changes_nothing(
    widget: Heatmap, brush: dict[str, Any]
):
    widget.select(rows=(1, 1))
    before = widget.brush
    with pytest.raises(traitlets.TraitError):
        widget.brush = brush
    assert widget.brush == before


def test_pointing_is_answered_with_exact_text(widget: Heatmap, sent: list[Any]):
    ask(widget, kind="exact", rows=[3, 4], columns=[5, 6])
    ((reply, _),) = sent
    assert dict(reply["lines"])["load"] == "65 score"
    assert dict(reply["lines"])["span"] == "k000003 → k000004"
    ask(widget, kind="exact", rows=[0, 2], columns=[0, 20])
    assert dict(sent[1][0]["lines"])["joined"] == "hottest of 40 cells here, 780 in all"


def test_a_tile_is_sent_as_bytes(widget: Heatmap, sent: list[Any]):
    ask(widget, kind="tile", rows=[2, 6], columns=[0, 10], rows_max=3, columns_max=5)
    ((reply, buffers),) = sent
    assert (reply["down"], reply["across"], reply["factor"]) == (3, 5, 2)
    assert len(buffers[0]) == 15


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "exact", "rows": [0, 99], "columns": [0, 1]},
        {"kind": "exact", "rows": "abc", "columns": [0, 1]},
        {"kind": "exact", "rows": [0.5, 1], "columns": [0, 1]},
        {"kind": "exact", "rows": [0, 1], "columns": [0, 1], "series": "__class__"},
        {"kind": "tile", "rows": [0, 1], "columns": [0, 1], "rows_max": 0, "columns_max": 5},
        {"kind": "tile", "rows": [0, 1], "columns": [0, 1], "rows_max": 10**9, "columns_max": 5},
    ],
)
def test_messages_that_do_not_fit_are_refused_in_words(
    widget: Heatmap, sent: list[Any], content: dict[str, Any]
):
    ask(widget, **content)
    assert [reply["kind"] for reply, _ in sent] == ["refused"]


@pytest.mark.parametrize("content", [None, [], "exact", {"kind": "other"}, {"kind": []}])
def test_messages_of_no_known_kind_are_left_alone(
    widget: Heatmap, sent: list[Any], content: object
):
    widget._heard(widget, content, [])
    assert sent == []


def test_questions_about_an_older_surface_are_not_answered(widget: Heatmap, sent: list[Any]):
    ask(widget, kind="exact", rows=[0, 1], columns=[0, 1], version=0)
    assert sent == []


def test_switching_the_series_sends_its_picture_and_table(widget: Heatmap):
    first = widget._levels
    widget.series = "reads"
    assert widget._frame["series"] == "reads"
    assert widget._levels != first
    assert widget._levels[-1] == 255
    assert widget._table["said"].startswith("In all: 39,800 reads")
    with pytest.raises(traitlets.TraitError):
        widget.series = "colour"
    assert widget.series == "reads"


def test_a_new_surface_keeps_series_and_selection_by_keys_and_times(widget: Heatmap):
    widget.series = "reads"
    widget.select(rows=(6, 7), since=from_us(T0 + 5 * MINUTE_US))
    keys = widget.brushed_spans()
    after = made(rows=8, columns=30)
    widget.update(after.surface)
    assert widget.series == "reads"
    assert widget.brushed_spans() == (Span(b"k000006", None),)
    assert keys == (Span(b"k000006", b"k000008"),)
    assert widget._frame["version"] == 2
    widget.select(rows=(7, 7))
    widget.update(made(rows=3, columns=2).surface)
    assert widget.brush is None or widget.brush["row_last"] <= 2
    widget.update(Heatmap().surface)
    assert widget.brush is None
    assert widget.series == "score"


def test_two_widgets_share_nothing():
    first, second = made(), made(rows=3)
    first.select(rows=(0, 1))
    assert second.brush is None
    assert first._frame["rows"] != second._frame["rows"]


def test_an_empty_heatmap_can_be_made_and_filled_later():
    widget = Heatmap()
    assert "No load to show yet" in widget._frame["texts"]["empty"]
    with pytest.raises(InvalidArgument):
        widget.select()
    widget.update(made().surface)
    assert widget._frame["rows"] == 10
    assert repr(widget) == "Heatmap(10 key ranges × 20 windows, score)"


def test_all_text_of_the_page_is_data_not_markup(widget: Heatmap):
    parts = json.dumps(widget._parts)
    assert "<" not in parts
    focusable = re.findall(r'"(?:button|select|input|summary)", (\{[^}]*\})', parts)
    assert focusable
    assert all("data-lm-suppress-shortcuts" in given for given in focusable)
    assert all("aria-label" in given or "radio" in given for given in focusable[:-1])


def test_selecting_takes_times_as_text_and_keys_as_a_pair(widget: Heatmap) -> None:
    surface = widget.surface
    start = from_us(surface.window_start_us(1))
    widget.select(rows=(0, 0), since=start)
    chosen = widget.brush
    widget.clear()
    widget.select(rows=(0, 0), since=start.isoformat())
    assert widget.brush == chosen
    widget.select(span=(b"", None))
    assert widget.brush["row_last"] == surface.rows - 1
    with pytest.raises(InvalidArgument):
        widget.select(since="noon")
