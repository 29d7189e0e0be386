"""What an argument stands for where it is left out, and in which forms it may be given.

catalog   argument, else WORKBENCH_CATALOG, else ./.workbench/catalog
by        argument, else WORKBENCH_USER, else the user of this machine
times     text as on the command line (RFC 3339, Unix seconds, "50%"), or an aware datetime
lengths   text as "60s", a timedelta, or a whole number of milliseconds
keys      bytes, or text that is encoded as UTF-8
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from workbench.errors import InvalidArgument
from workbench.model.times import parse_duration_ms, rfc3339
from workbench.session.wiring import DEFAULT_CATALOG, user_name

if TYPE_CHECKING:
    from pathlib import Path

CATALOG_VARIABLE: Final = "WORKBENCH_CATALOG"
USER_VARIABLE: Final = "WORKBENCH_USER"

Moment = str | datetime | None
Length = str | int | timedelta
Key = str | bytes


class HasUrl(Protocol):
    """A system that was connected to, as `wb.connect` and `wb.cluster_up` return it."""

    @property
    def url(self) -> str:
        """What names it."""


def url_of(system: str | HasUrl) -> str:
    """Return the URL of a system.

    Raises:
        InvalidArgument: `source_unknown`: it is neither a URL nor something that has one.
    """
    url = system if isinstance(system, str) else getattr(system, "url", None)
    if not isinstance(url, str):
        raise InvalidArgument(
            f"{system!r:.64} is no system",
            code="source_unknown",
            hint='give a URL as "node://127.0.0.1:7001", or what wb.connect returned',
        )
    return url


def catalog_url(place: str | Path | os.PathLike[str] | None) -> str:
    """Return the URL or path of the catalog that is meant.

    Raises:
        InvalidArgument: `catalog_invalid`: it is neither text nor a path.
    """
    if place is None:
        return os.environ.get(CATALOG_VARIABLE) or DEFAULT_CATALOG
    if not isinstance(place, str | os.PathLike):
        raise InvalidArgument(
            f"{place!r} is no catalog",
            code="catalog_invalid",
            hint="give what wb.open returned, a folder, or a URL as s3://BUCKET/PREFIX",
        )
    return os.fspath(place)


def name_of(by: str | None) -> str:
    """Return the name of who acts."""
    return by or os.environ.get(USER_VARIABLE) or user_name()


def moment_text(moment: Moment) -> str | None:
    """Return a time as the command line takes it.

    Raises:
        InvalidArgument: `time_invalid`: a datetime without a time zone, or no time at all.
    """
    if moment is None or isinstance(moment, str):
        return moment
    if not isinstance(moment, datetime):
        raise InvalidArgument(
            f"{moment!r} is no time",
            code="time_invalid",
            hint='give text as "50%" or "2026-11-20T12:00:00Z", or an aware datetime',
        )
    if moment.tzinfo is None:
        raise InvalidArgument(
            f"{moment.isoformat()} has no time zone",
            code="time_invalid",
            hint="give an aware datetime, as datetime.now(UTC)",
        )
    return rfc3339(moment)


def length_ms(length: Length) -> int:
    """Return a length of time in milliseconds.

    Raises:
        InvalidArgument: `duration_invalid`, or it is not over 0.
    """
    if isinstance(length, str):
        return parse_duration_ms(length)
    found = round(length.total_seconds() * 1_000) if isinstance(length, timedelta) else length
    if found <= 0:
        raise InvalidArgument(
            f"{length!r} is no length of time over 0",
            code="duration_invalid",
            hint='write "60s", a timedelta, or a whole number of milliseconds',
        )
    return found


def number_of(name: str, value: float) -> float:
    """Return the argument `name` as a number.

    Raises:
        InvalidArgument: `number_invalid`: it is none.
    """
    if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
        raise InvalidArgument(
            f"{name} is {value!r}, not a number", code="number_invalid", hint=f"as {name}=10"
        )
    return float(value)


def count_of(name: str, value: int) -> int:
    """Return the argument `name` as a whole number.

    Raises:
        InvalidArgument: `number_invalid`: it is none.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InvalidArgument(
            f"{name} is {value!r}, not a whole number", code="number_invalid", hint=f"as {name}=6"
        )
    return int(value)


def key_bytes(key: Key) -> bytes:
    """Return a key's bytes."""
    return key.encode() if isinstance(key, str) else key
