"""Numbers, times and untrusted text as people read them.

Two rules hold for everything that reaches a page or a picture:

- Keys pass through `printable_key` and nothing else.
- Every other text of foreign origin passes through `clean`: what cannot be seen, or would turn
  the direction of its neighbours, is shown as its code point. Markup is not touched here; the
  template and the chart builder escape all text by construction.
"""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

from workbench.model.keys import printable_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from workbench.model.keys import Span

NBSP: Final = "\u00a0"
TEXT_CHARS_MAX: Final = 400
# Other: control, format (bidirectional marks), surrogate, private, unassigned; line separators.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SUFFIXES: Final = ("", "k", "M", "G", "T", "P", "E")


def clean(text: str, chars_max: int = TEXT_CHARS_MAX, *, keep: str = "") -> str:
    r"""Return foreign text that shows what it holds.

    Args:
        text: Anything, lone surrogates included.
        chars_max: Longer text is cut and says how long it was.
        keep: Control characters that may stay, as a newline in a listing.
    """
    shown = "".join(
        char if char in keep or unicodedata.category(char) not in _UNSEEN else _escape(char)
        for char in text[:chars_max]
    )
    return shown if len(text) <= chars_max else f"{shown}… ({len(text):,} characters)"


def ascii_only(text: str) -> str:
    """Return cleaned text in the characters that the picture's font has: ASCII, `·` and `…`."""
    plain = clean(text).replace(NBSP, " ").replace("–", "-")
    return "".join(char if char.isascii() or char in "·…" else "?" for char in plain)


def key_text(key: bytes) -> str:
    """Return a key for display; the lowest key of all has a name."""
    return printable_key(key) if key else "lowest key"


def span_text(span: Span) -> str:
    """Return a span for display: first key, an arrow, first key beyond it."""
    return f"{key_text(span.start)} → {'highest key' if span.end is None else key_text(span.end)}"


def short(text: str, chars_max: int) -> str:
    """Return `text`, cut in the middle where it is longer than `chars_max`."""
    if len(text) <= chars_max:
        return text
    tail = (chars_max - 1) // 2
    return f"{text[: chars_max - 1 - tail]}…{text[len(text) - tail :]}"


def whole(value: float) -> str:
    """Return a whole number with thousands separated."""
    return f"{value:,.0f}"


def compact(value: float) -> str:
    """Return a number in three digits and a suffix, for axes: 950, 12.5k, 3M."""
    step = 0
    while abs(value) >= 999.5 and step < len(_SUFFIXES) - 1:
        value /= 1_000
        step += 1
    digits = f"{value:.3g}"
    return f"{digits}{_SUFFIXES[step]}"


def percent(fraction: float) -> str:
    """Return a share with one digit behind the point; what is there is never shown as 0."""
    if 0 < fraction < 0.0005:
        return "<0.1%"
    return f"{fraction * 100:.1f}%"


def counted(count: int, one: str, many: str | None = None, *, gap: str = " ") -> str:
    """Return a count with its noun: `1 split`, `7 splits`; the only place that knows how.

    Args:
        count: How many, from 0.
        one: The noun, and what follows it where that depends on the number (`object is`).
        many: Likewise of any other number; `one` and an s where it is left out.
        gap: Between the two.
    """
    return f"{count:,}{gap}{one if count == 1 else many or one + 's'}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return the same for a page, where a line is not broken between the two."""
    return counted(count, one, many, gap=NBSP)


def instant(moment: datetime) -> str:
    """Return a time in UTC to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def time_range(since: datetime, until: datetime) -> str:
    """Return a time window in UTC; the day is said once where it is the same."""
    low, high = since.astimezone(UTC), until.astimezone(UTC)
    seconds = "%H:%M:%S" if low.second or high.second else "%H:%M"
    if low.date() == high.date():
        return f"{low:%Y-%m-%d} {low.strftime(seconds)} – {high.strftime(seconds)} UTC"
    return f"{low:%Y-%m-%d} {low.strftime(seconds)} – {high:%Y-%m-%d} {high.strftime(seconds)} UTC"


def length(milliseconds: float) -> str:
    """Return a length of time in its largest fitting unit, as `90 s`, `5 min`, `2.5 h`."""
    for unit, unit_ms in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if milliseconds >= 2 * unit_ms or (milliseconds >= unit_ms and not milliseconds % unit_ms):
            return f"{milliseconds / unit_ms:.3g}{NBSP}{unit}"
    return f"{milliseconds:.3g}{NBSP}ms"


def time_ticks(times: Sequence[datetime], ticks_max: int) -> list[tuple[float, str]]:
    """Return at most `ticks_max` places to label, in columns, and the labels, at round times.

    A label carries the day where the times span more than one.

    Args:
        times: Starts of windows, evenly spaced, ascending.
        ticks_max: At least 1.
    """
    if not times:
        return []
    first, last = times[0].astimezone(UTC), times[-1].astimezone(UTC)
    window_s = (times[1] - times[0]).total_seconds() if len(times) > 1 else 1.0
    span_s = (last - first).total_seconds()
    step_s = next(
        (step for step in _STEPS_S if span_s < step * ticks_max and step >= window_s),
        math.ceil((span_s + 1) / ticks_max),
    )
    pattern = "%H:%M:%S" if step_s < 60 else "%H:%M"
    if step_s >= _STEPS_S[-1]:
        pattern = "%Y-%m-%d"
    elif step_s >= 86_400:
        pattern = "%m-%d"
    elif first.date() != last.date():
        pattern = "%m-%d %H:%M"
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    after_midnight_s = (first - midnight).total_seconds()
    due_s = math.ceil(after_midnight_s / step_s) * step_s - after_midnight_s
    ticks: list[tuple[float, str]] = []
    while due_s <= span_s and len(ticks) < ticks_max:
        label = (first + timedelta(seconds=due_s)).strftime(pattern)
        ticks.append((due_s / window_s, label))
        due_s += step_s
    return ticks or [(0.0, first.strftime("%H:%M:%S"))]


_STEPS_S: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1_800),
    *(3_600, 7_200, 10_800, 21_600, 43_200),
    *(86_400, 172_800, 604_800, 2_592_000),
)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
