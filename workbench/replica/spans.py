"""The spans that a group owns: replicated state, and what every key is checked against.

    start₀ ── span ── end₀      start₁ ── span ── end₁      ascending, disjoint; gaps are legal

A key outside every span is refused as "ownership unknown", never answered as absent: the group
that receives a request decides, not the route table that sent it there. A record carries its
mode from the start, so that spans on the move need no other format; SERVING is the only one yet.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidInput, Unavailable
from workbench.model.keys import Span, printable_key
from workbench.replica.commands import OwnedSpan
from workbench.replica.layout import FORMAT, SPANS, check_format, corrupt, family, family_end

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from workbench.ports.storage import Change, Engine

SERVING: Final = 1

_RECORD: Final = struct.Struct(">BBQBI")


class OwnedSpans:
    """What a group owns, all of it SERVING; immutable.

    Attributes:
        spans: Ascending, disjoint.
    """

    __slots__ = ("_starts", "spans")

    def __init__(self, spans: Iterable[OwnedSpan] = ()) -> None:
        self.spans = check_owned(spans)
        self._starts = [owned.span.start for owned in self.spans]

    def owner(self, key: bytes) -> OwnedSpan | None:
        """Return the span of `key`, None where the group does not own it."""
        index = bisect_right(self._starts, key) - 1
        if index < 0 or key not in self.spans[index].span:
            return None
        return self.spans[index]

    def stranger(self, keys: Sequence[bytes], smallest: bytes, largest: bytes) -> bytes | None:
        """Return a key that the group does not own; None where it owns all.

        `smallest` and `largest` are of `keys`: batches mostly lie within one span.
        """
        owned = self.owner(smallest)
        if owned is not None and largest in owned.span:
            return None
        return next((key for key in keys if self.owner(key) is None), None)

    def pieces(self, start: bytes, end: bytes | None) -> Iterator[Span]:
        """Yield the parts of [start, end) that the group owns, ascending."""
        for owned in self.spans:
            piece = intersection(owned.span, start, end)
            if piece is not None:
                yield piece


def intersection(span: Span, start: bytes, end: bytes | None) -> Span | None:
    """Return what `span` and [start, end) share, None for nothing."""
    low = max(span.start, start)
    ends = [each for each in (span.end, end) if each is not None]
    high = min(ends) if ends else None
    return Span(low, high) if high is None or low < high else None


def check_owned(spans: Iterable[OwnedSpan]) -> tuple[OwnedSpan, ...]:
    """Return `spans` ascending; InvalidInput (`span_overlap`) where two share a key."""
    ordered = sorted(spans, key=lambda owned: owned.span.start)
    for left, right in pairwise(ordered):
        if left.span.end is None or left.span.end > right.span.start:
            raise InvalidInput(
                f"the group's spans [{left.span}] and [{right.span}] overlap",
                code="span_overlap",
                hint="the spans that a group owns are disjoint",
            )
    return tuple(ordered)


def ownership_unknown(group: int, key: bytes) -> Unavailable:
    """Return the error for a key that the group does not own."""
    return Unavailable(
        f"group {group} does not know who owns key {printable_key(key)}",
        code="ownership_unknown",
        hint="read the routes again and send it to the group that they name",
    )


def span_changes(group: int, spans: Iterable[OwnedSpan]) -> Iterator[Change]:
    """Yield the engine rows of these spans."""
    prefix = family(group, SPANS)
    for owned in spans:
        end = owned.span.end or b""
        bounded = owned.span.end is not None
        record = _RECORD.pack(FORMAT, SERVING, owned.generation, bounded, len(end))
        yield prefix + owned.span.start, record + end


def load_spans(group: int, engine: Engine) -> OwnedSpans:
    """Return the spans that the engine holds for a group.

    Raises:
        Corruption: a record cannot be decoded, or two overlap.
    """
    prefix = family(group, SPANS)
    rows = engine.scan(prefix, family_end(group, SPANS))
    spans = [_decode(key, key[len(prefix) :], value) for key, value in rows]
    try:
        return OwnedSpans(spans)
    except InvalidInput as error:
        raise corrupt(prefix, error.message) from error


def _decode(key: bytes, start: bytes, value: bytes) -> OwnedSpan:
    check_format(key, value, _RECORD.size)
    _, mode, generation, bounded, end_bytes = _RECORD.unpack_from(value)
    end = value[_RECORD.size :]
    if mode != SERVING or bounded > 1 or len(end) != end_bytes:
        raise corrupt(key, f"a span of mode {mode}, end flag {bounded} and {len(end)} bytes")
    if bool(end) != bool(bounded) or (bounded and start >= end):
        raise corrupt(key, "an empty or reversed span")
    return OwnedSpan(Span(start, end if bounded else None), generation)
