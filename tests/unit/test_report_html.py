"""Claims about the page: it is self-contained, complete, small, and escapes everything."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.browser.report_inputs import (
    ROUTES,
    SINCE,
    WINDOW_MS,
    sample_heat,
    sample_inputs,
    sample_plan,
    sample_verdicts,
    sample_verification,
    spans_of,
)
from workbench.model.plan import Declined
from workbench.report import words
from workbench.report.charts import Axis, Line, LineChart, Mark, axis, draw
from workbench.report.html import ReportInputs, report_html

SCRIPT = "</script><img src=x onerror=alert(1)>\"'><svg onload=alert(2)>{{ 7*7 }}\u202e\0\udc80"
KEY = b"<img src=x onerror=alert(1)>"
# The page has no other element than these; none of them runs or loads anything but data.
ELEMENTS = frozenset(
    re.findall(
        r"\w+",
        "html head meta title link style body header main footer section h1 h2 h3 p strong b i a "
        "br code pre span div dl dt dd ol ul li figure figcaption img svg path circle text table "
        "caption thead tbody tr th td details summary",
    )
)
ATTRIBUTES = frozenset(
    re.findall(
        r"[\w-]+",
        "lang charset http-equiv content name rel href class style id role tabindex title alt src "
        "scope colspan viewbox preserveaspectratio d x y cx cy r text-anchor",
    )
)


class Page(HTMLParser):
    """The page as elements, text and headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
        self.elements.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(tag)

    def handle_data(self, data: str):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def named(self, test_id: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.elements if attrs.get("data-testid") == test_id]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(report_html(sample_inputs()))


def assert_harmless(html: str) -> Page:
    page = Page(html)
    for tag, attrs in page.elements:
        assert tag in ELEMENTS, tag
        for name, value in attrs.items():
            assert name in ATTRIBUTES or name.startswith(("aria-", "data-")), name
            if name in {"src", "href"}:
                assert value.startswith(("data:image/png;base64,", "#")) or value == "data:,"
            if name == "style":
                assert re.fullmatch(
                    r"(--panels: \d|[a-z-]+: [\d.]+%?|background: linear-gradient\([^()]*\))", value
                )
    assert not re.search("[\0\u202a-\u202e\u2066-\u2069\u200b-\u200f\ud800-\udfff]", html)
    return page


def hostile_inputs(text: str, key: bytes) -> ReportInputs:
    keys = sorted({b"a", b"b" + key, b"c\0\xff" + key, b"d" + "\u202e".encode() + key[:4_000]})
    plan = sample_plan([(b"", 10, True), *((each, 90, False) for each in keys)])
    action = plan.actions[0]
    plan = replace(
        plan,
        cluster=text,
        policy=text,
        atom_kind=text,
        objective=replace(plan.objective, name=text),
        declined=(Declined(1, text),),
        actions=(replace(action, action_id=text, reasons=(text,)), *plan.actions[1:]),
        evidence=replace(plan.evidence, name=text, dataset=text, sql=text, parameters={text: text}),
        certificate={text: text},
    )
    verdicts = [replace(each, reasons=(text,)) for each in sample_verdicts(plan)]
    heat = replace(sample_heat(rows=5), series=text, spans=spans_of([b"", *keys]))
    return sample_inputs(
        title=text,
        cluster=text,
        source=text,
        version=text,
        assumptions={text: text},
        warnings=[text, text],
        plan=plan,
        verdicts=verdicts,
        heat=heat,
        heat_after=heat,
        approval={"by": text, "at": text},
    )


def test_nothing_hostile_becomes_markup():
    page = assert_harmless(report_html(hostile_inputs(SCRIPT, KEY)))
    assert "</script><img src=x onerror=alert(1)>" in page.text
    assert "\\u202e\\x00\\udc80" in page.text
    assert "{{ 7*7 }}" in page.text


@settings(deadline=None, max_examples=12)
@given(text=st.text(max_size=60), key=st.binary(max_size=30))
def test_no_text_and_no_key_becomes_markup(text: str, key: bytes):
    assert_harmless(report_html(hostile_inputs(text, key)))


def test_long_keys_and_texts_are_cut_and_say_so():
    html = report_html(hostile_inputs("n" * 100_000, b"<" * 4_000))
    assert len(html) < 400_000
    assert "(100,000 characters)" in html
    assert "(4001 bytes)" in html


def test_page_forbids_everything_but_its_own_styles_and_data_pictures(page: Page):
    (policy,) = (
        attrs["content"]
        for tag, attrs in page.elements
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_style_sheet_loads_nothing():
    style = files("workbench.report").joinpath("style.css").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|@font-face|https?:", style)


def test_whole_page_is_harmless_and_names_no_other_host():
    html = report_html(sample_inputs())
    assert_harmless(html)
    assert "http://" not in html
    assert "https://" not in html
    assert "<script" not in html


def test_headings_descend_one_level_at_a_time(page: Page):
    levels = [int(heading[1]) for heading in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_table_has_a_caption_and_every_heading_cell_a_scope(page: Page):
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption") > 5
    assert all("scope" in attrs for tag, attrs in page.elements if tag == "th")


def test_every_picture_and_chart_has_words(page: Page):
    for tag, attrs in page.elements:
        if tag == "img":
            assert len(attrs["alt"]) > 30
        if tag == "svg":
            assert attrs.get("aria-hidden") == "true" or len(attrs["aria-label"]) > 30
    for name in ("hot-ranges", "share", "routes-before", "routes-after", "pareto"):
        assert page.named(f"table-{name}")


def test_the_answer_comes_first(page: Page):
    order = [attrs["data-testid"] for _, attrs in page.elements if "data-testid" in attrs]
    assert order[:5] == [
        "figure-before",
        "figure-forecast",
        "figure-came",
        "sentence",
        "outcome",
    ]
    assert "There is no merge and no undo of a split" in page.text


def test_what_was_not_given_is_left_out():
    bare = sample_inputs(
        heat=None, heat_after=None, verification=None, approval=None, verdicts=[], warnings=[]
    )
    page = assert_harmless(report_html(replace(bare, assumptions={})))
    assert not page.named("figure-came")
    assert not page.named("heat-load")
    assert not page.named("heat-before")
    assert not page.named("table-verdicts")
    assert "No route was judged." in page.text
    assert "None were recorded." in page.text
    assert page.named("chart-routes")


def test_a_plan_without_actions_says_that_nothing_is_proposed():
    plan = sample_plan([(start, load, True) for start, load, _ in ROUTES])
    page = assert_harmless(report_html(sample_inputs(plan=plan, verification=None)))
    assert page.named("nothing")
    assert not page.named("table-actions")
    assert not page.named("figure-forecast")


def test_an_empty_cluster_has_a_page():
    plan = sample_plan([(b"", 0, True)])
    page = assert_harmless(report_html(sample_inputs(plan=plan, verification=None, heat=None)))
    assert "No load was measured in this time" in page.text


def test_1000_routes_in_1440_windows_stay_under_3_mb():
    rng = np.random.default_rng(5)
    starts = [b"", *(b"tenant/%08d" % n for n in range(1, 1_000))]
    routes = [(key, int(rng.integers(1, 9_999)), n % 2 == 0) for n, key in enumerate(starts)]
    plan = sample_plan(routes)
    heat = replace(
        sample_heat(),
        values=rng.lognormal(3, 2, (1_000, 1_440)),
        spans=spans_of(starts),
        times=tuple(SINCE + timedelta(milliseconds=WINDOW_MS * c) for c in range(1_440)),
        route_ids=(1,) * 1_000,
    )
    seen = sample_verification(plan, windows=1_440)
    noisy = [
        replace(series, loads=rng.integers(0, 9_999, series.loads.shape))
        for series in (seen.before, seen.after)
    ]
    html = report_html(
        sample_inputs(
            plan=plan,
            heat=heat,
            heat_after=heat,
            verification=replace(seen, before=noisy[0], after=noisy[1]),
        )
    )
    assert len(html.encode()) < 3_000_000


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_text_colour_has_contrast_aa_in_both_themes():
    style = files("workbench.report").joinpath("style.css").read_text(encoding="utf-8")
    themes = [dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", part)) for part in themes_of(style)]
    assert len(themes) == 2
    for theme in themes:
        for name in ("ink", "soft", "before", "after", "bound", "cut", "good", "warn", "bad"):
            for ground in ("bg", "panel"):
                assert contrast(theme[name], theme[ground]) >= 4.5, (name, ground)


def themes_of(style: str) -> list[str]:
    return re.findall(r":root \{([^}]*)\}", style)


def test_chart_text_is_escaped_by_construction():
    chart = LineChart(
        name="x",
        label='"><script>',
        x=Axis(2.0, ((0.0, "<b>"),), "</svg>"),
        y=axis(1.0, "y", lambda value: f"<{value}>"),
        lines=(Line("before", (0.5, None)),),
        marks=(Mark(0.3, "forecast"),),
    )
    root = ET.fromstring(draw(chart))  # noqa: S314 - our own text
    assert {element.tag for element in root.iter()} == {"svg", "path", "text"}
    assert root.get("aria-label") == '"><script>'


@settings(deadline=None, max_examples=200)
@given(top=st.floats(1e-6, 1e18), whole=st.booleans())
def test_axis_has_few_round_ticks_and_reaches_the_top(top: float, *, whole: bool):
    made = axis(top, "t", str, whole=whole)
    assert made.top >= top * 0.999
    assert 2 <= len(made.ticks) <= 7
    assert made.ticks[0][0] == 0


@settings(deadline=None, max_examples=100)
@given(st.text())
def test_clean_text_is_encodable_and_shows_no_control_character(text: str):
    shown = words.clean(text)
    shown.encode()
    assert words.clean(shown) == shown
    assert shown.isprintable() or any(char.isspace() for char in shown)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (999, "999"), (999.7, "1k"), (1_234, "1.23k"), (56_000_000, "56M")],
)
def test_compact_numbers_have_three_digits(value: float, shown: str):
    assert words.compact(value) == shown


@pytest.mark.parametrize(
    ("fraction", "shown"),
    [(0, "0.0%"), (0.0001, "<0.1%"), (0.0005, "0.1%"), (0.12345, "12.3%"), (1, "100.0%")],
)
def test_what_is_there_is_never_shown_as_nothing(fraction: float, shown: str):
    assert words.percent(fraction) == shown


@settings(deadline=None, max_examples=100)
@given(
    step=st.sampled_from([1, 7, 60, 90, 3_600, 86_400, 10_000_000]),
    count=st.integers(1, 400),
    ticks_max=st.integers(1, 9),
)
def test_time_ticks_are_few_and_in_order(step: int, count: int, ticks_max: int):
    times = [SINCE + timedelta(seconds=step * n) for n in range(count)]
    ticks = words.time_ticks(times, ticks_max)
    assert 1 <= len(ticks) <= ticks_max
    columns = [column for column, _ in ticks]
    assert columns == sorted(set(columns))
    assert 0 <= columns[0] <= columns[-1] < count
