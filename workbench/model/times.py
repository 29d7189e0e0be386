"""Times: UTC datetimes at the edge, integer microseconds inside, RFC 3339 in text.

A hybrid logical clock value (HLC) is 48 bits of Unix milliseconds and 16 logical bits.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from workbench.errors import InvalidArgument

HLC_LOGICAL_BITS = 16
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DURATION_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def from_us(microseconds: int) -> datetime:
    """Return the UTC time so many microseconds after the Unix epoch."""
    return EPOCH + timedelta(microseconds=microseconds)


def to_us(moment: datetime) -> int:
    """Return the microseconds between the Unix epoch and an aware `moment`."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def hlc_to_us(hlc: int) -> int:
    """Return the physical part of an HLC value, in microseconds since the Unix epoch."""
    return (hlc >> HLC_LOGICAL_BITS) * 1_000


def hlc_of_ms(unix_ms: int, logical: int = 0) -> int:
    """Return the HLC value of a physical time in Unix milliseconds and its logical part."""
    return (unix_ms << HLC_LOGICAL_BITS) | logical


def hlc_ms(hlc: int) -> int:
    """Return the physical part of an HLC value, in Unix milliseconds."""
    return hlc >> HLC_LOGICAL_BITS


def rfc3339(moment: datetime) -> str:
    """Return an aware time as RFC 3339 in UTC, with `Z`, microseconds only where not zero."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def rfc3339_us(microseconds: int) -> str:
    """Return microseconds since the Unix epoch as RFC 3339 in UTC."""
    return rfc3339(from_us(microseconds))


def parse_time(text: str) -> datetime:
    """Return the UTC time that `text` names: RFC 3339 (no zone means UTC) or Unix seconds.

    Raises:
        InvalidArgument: `text` is neither.
    """
    try:
        if text.replace(".", "", 1).lstrip("-").isdigit():
            return EPOCH + timedelta(seconds=float(text))
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(
            f"time {text!r} is not RFC 3339 and not Unix seconds",
            code="time_invalid",
            hint="write 2026-01-31T12:00:00Z or 1769860800",
        ) from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_duration_ms(text: str) -> int:
    """Return the milliseconds that `text` names: a whole number with ms, s, m, h or d.

    Raises:
        InvalidArgument: `text` is not of that form, has no unit, or is not positive.
    """
    digits = text.rstrip("mshd")
    unit = text[len(digits) :]
    if digits.isascii() and digits.isdecimal() and (value := int(digits)) > 0:
        if unit in DURATION_UNITS_MS:
            return value * DURATION_UNITS_MS[unit]
        if not unit:  # a guess would be wrong by days where old versions are dropped
            raise InvalidArgument(
                f"duration {text!r} has no unit",
                code="duration_invalid",
                hint=f"{text} of what? write {text}ms, {text}s, {text}m, {text}h or {text}d",
            )
    raise InvalidArgument(
        f"duration {text!r} is not a positive whole number with a unit",
        code="duration_invalid",
        hint="write 500ms, 60s, 5m, 1h or 1d",
    )
