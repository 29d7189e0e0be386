"""Claims about the heat page."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from workbench.errors import InvalidInput
from workbench.heat.matrix import HeatMatrix
from workbench.model.keys import Span
from workbench.model.times import from_us
from workbench.report import heat_html as module
from workbench.report.heat_html import BYTES_MAX, heat_html

HOSTILE = (
    b"</script><script>alert(1)</script>",
    b"\x00\x1b[2J\xe2\x80\xae",
    b'"><img src=x>&',
    b"z",
)


def matrix(values: np.ndarray, keys: list[bytes] | None = None) -> HeatMatrix:
    rows, columns = values.shape
    starts = keys or [number.to_bytes(4, "big") for number in range(rows)]
    return HeatMatrix(
        values=values.astype(np.float64),
        spans=tuple(Span(s, e) for s, e in zip(starts, [*starts[1:], None], strict=True)),
        times=tuple(from_us(c * 60_000_000) for c in range(columns)),
        window_ms=60_000,
        series="reads",
        route_ids=tuple(range(1, rows + 1)),
    )


def document(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    content: dict[str, object] = json.loads(found[1])
    return content


def unpacked(text: str) -> list[int]:
    out, value, shift = [], 0, 0
    for byte in base64.urlsafe_b64decode(text):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            out.append(value - 1)
            value = shift = 0
    return out


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_the_page_holds_the_exact_value_of_every_cell_and_absent_is_not_zero() -> None:
    values = np.array([[0, 1, 126], [127, np.nan, 128], [2**53 - 1, 16_383, 16_384]])
    content = document(heat_html(matrix(values), title="t"))
    assert (content["rows"], content["columns"], content["sums"]) == (3, 3, None)
    expected = [-1 if np.isnan(v) else int(v) for v in values.ravel()]
    assert unpacked(str(content["loads"])) == expected


def test_a_joined_cell_tells_its_hottest_part_and_the_exact_sum() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    values = rng.integers(0, 1_000, (700, 1_500)).astype(np.float64)
    values[650, 1_400] = 10**9
    content = document(heat_html(matrix(values), title="t"))
    assert content["joined"]
    assert max(unpacked(str(content["loads"]))) == 10**9
    assert sum(unpacked(str(content["sums"]))) == int(values.sum())


def test_the_page_names_no_address_and_asks_nobody() -> None:
    page = heat_html(matrix(np.arange(12.0).reshape(4, 3), list(HOSTILE)[:0] or None), title="t")
    assert "://" not in page
    assert not re.search(r"https?:|\bsrc=|\bhref=|@import|url\(|fetch\(|XMLHttp", page)
    assert "default-src 'none'" in page


def test_the_policy_allows_the_pages_own_script_and_no_other() -> None:
    import hashlib

    page = heat_html(matrix(np.ones((2, 2))), title="t")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_hostile_keys_and_titles_stay_text() -> None:
    keys = sorted(HOSTILE)
    plain, wild = Elements(), Elements()
    plain.feed(heat_html(matrix(np.ones((4, 2))), title="t", cut_keys=[b"a", b"b"]))
    page = heat_html(
        matrix(np.ones((4, 2)), keys), title="</title><script>x</script>", cut_keys=keys[:2]
    )
    wild.feed(page)
    assert wild.tags == plain.tags
    assert [n for n, _ in wild.attributes] == [n for n, _ in plain.attributes]
    assert "\x00" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_a_page_that_would_be_too_large_joins_more_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.Generator(np.random.PCG64(8))
    values = rng.integers(2**44, 2**45, (320, 720)).astype(np.float64)
    values[7, 7] = 2**46
    monkeypatch.setattr(module, "BYTES_MAX", 900_000)
    page = heat_html(matrix(values[:, :720]), title="t")
    assert len(page.encode()) <= 900_000
    content = document(page)
    assert max(unpacked(str(content["loads"]))) == 2**46


def test_the_worst_page_is_under_3_mb() -> None:
    values = np.full((320, 720), 2.0**53 - 1)
    keys = [b"\xff" * 4_000 + number.to_bytes(4, "big") for number in range(320)]
    assert len(heat_html(matrix(values, keys), title="t" * 5_000).encode()) <= BYTES_MAX < 3_000_000


def test_a_load_that_no_page_can_show_exactly_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        heat_html(matrix(np.array([[2.0**53]])), title="t")
    assert caught.value.code == "heat_counters_too_large"


@pytest.mark.parametrize("values", [np.zeros((1, 1)), np.full((2, 3), np.nan), np.ones((1, 900))])
def test_extreme_shapes_have_a_page(values: np.ndarray) -> None:
    content = document(heat_html(matrix(values), title=""))
    assert len(unpacked(str(content["loads"]))) == content["rows"] * content["columns"]  # type: ignore[operator]


def test_the_same_matrix_gives_the_same_bytes() -> None:
    values = np.arange(30.0).reshape(5, 6)
    assert heat_html(matrix(values), title="t") == heat_html(matrix(values), title="t")
