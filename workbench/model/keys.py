"""Keys and spans: byte strings in lexicographic order, and half-open intervals of them.

    b""  ≤  key  <  None            a span is [start, end), `end = None` has no upper bound

A key is any byte string up to KEY_BYTES_MAX. Nothing outside this module decides how a key is
shown: `printable_key` is the one function through which key bytes reach a human's eye.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import InvalidInput

KEY_BYTES_MAX = 4096
PRINTABLE_BYTES_MAX = 64


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open key interval `[start, end)`; `end is None` means no upper bound.

    Invariant: `start < end` unless `end is None`.
    """

    start: bytes
    end: bytes | None

    def __post_init__(self) -> None:
        if self.end is not None and self.start >= self.end:
            raise InvalidInput(
                f"span [{self.start.hex()}, {self.end.hex()}) is empty or reversed",
                code="span_invalid",
                hint="start must be smaller than end",
            )

    def __contains__(self, key: bytes) -> bool:
        """Tell whether `key` lies in the span."""
        return self.start <= key and (self.end is None or key < self.end)

    def __str__(self) -> str:
        """Return the span for a human: printable start, an arrow, printable end."""
        start = printable_key(self.start) if self.start else "-∞"
        return f"{start} → {'+∞' if self.end is None else printable_key(self.end)}"


def printable_key(key: bytes) -> str:
    r"""Return `key` as printable ASCII that cannot be mistaken for markup or control text.

    Keys made of visible ASCII are shown as they are, with backslash doubled; all other keys as
    `0x` and hex digits, so that NUL, terminal escapes and bidirectional marks never reach a
    screen. Long keys are cut in the middle and say how many bytes they have.
    """
    if key and all(0x21 <= byte <= 0x7E for byte in key):
        text = key.decode("ascii").replace("\\", "\\\\")
        if text.startswith("0x"):
            text = "0x" + key.hex()
    else:
        text = "0x" + key.hex()
    if len(text) <= PRINTABLE_BYTES_MAX:
        return text
    half = PRINTABLE_BYTES_MAX // 2 - 1
    return f"{text[:half]}…{text[-half:]} ({len(key)} bytes)"


def check_key(key: bytes, what: str = "key") -> bytes:
    """Return `key`, or raise InvalidInput where it is longer than a key may be."""
    if len(key) > KEY_BYTES_MAX:
        raise InvalidInput(
            f"{what} has {len(key)} bytes, the limit is {KEY_BYTES_MAX}",
            code="key_too_long",
            hint="shorten the key",
        )
    return key
