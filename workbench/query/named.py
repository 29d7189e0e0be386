"""The package's SQL texts that users run by name: what each reads, and what it must be given.

    name ──▶ NamedQuery(relations, parameters) ──▶ sql_text ──▶ open_sql

The texts are in `sql/`; a relation is what a text reads, under the name that it uses for it, and
a parameter is a `$name` in it. A test compares both with the texts.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidArgument
from workbench.query.engine import sql_text

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION_RELATION: Final = "version"
ROUTE_RELATION: Final = "route"
LOAD_RELATION: Final = "load_window"


class Kind(StrEnum):
    """What a parameter is, and so how a user writes it."""

    KEY = "key"
    HLC = "hlc"
    TIME = "time"
    INT = "int"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A `$name` of a text.

    Attributes:
        kind: What it is.
        about: What it means, in a few words.
        default: Used where none is given and `required` is False.
        required: Whether it has to be given.
    """

    kind: Kind
    about: str
    default: bytes | int | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A text of the package.

    Attributes:
        name: As users call it.
        about: What it answers, in one line.
        relations: What it reads.
        parameters: What it takes, by name.
    """

    name: str
    about: str
    relations: tuple[str, ...]
    parameters: Mapping[str, Parameter]

    @property
    def sql(self) -> str:
        """The text."""
        return sql_text(self.name.replace("-", "_"))


_KEY: Final = Parameter(Kind.KEY, "the key", required=True)
_READ_TS: Final = Parameter(Kind.HLC, "as of when: a time, or an HLC value", required=True)
_CATALOG_VERSION: Final = Parameter(Kind.INT, "the route catalog's version", required=True)
_SINCE: Final = Parameter(Kind.TIME, "windows that start from then on")
_UNTIL: Final = Parameter(Kind.TIME, "windows that start before")

QUERIES: Final = (
    NamedQuery(
        "as-of",
        "the value of every key as of a time",
        (VERSION_RELATION,),
        {
            "read_ts": _READ_TS,
            "start": Parameter(Kind.KEY, "first key", default=b""),
            "end": Parameter(Kind.KEY, "first key after the last; absent for no upper bound"),
        },
    ),
    NamedQuery(
        "key-history", "every version of one key, newest first", (VERSION_RELATION,), {"key": _KEY}
    ),
    NamedQuery(
        "owner-at-version",
        "the route and group that owned a key at a catalog version",
        (ROUTE_RELATION,),
        {"key": _KEY, "catalog_version": _CATALOG_VERSION},
    ),
    NamedQuery(
        "owner-at-time",
        "the route and group that owned a key at a time",
        (ROUTE_RELATION,),
        {"key": _KEY, "read_ts": _READ_TS},
    ),
    NamedQuery(
        "route-bytes",
        "keys, tombstones, versions and bytes of every route",
        (VERSION_RELATION, ROUTE_RELATION),
        {"catalog_version": _CATALOG_VERSION, "read_ts": _READ_TS},
    ),
    NamedQuery(
        "load-per-route",
        "the load of every route as it was measured",
        (LOAD_RELATION,),
        {"since": _SINCE, "until": _UNTIL},
    ),
    NamedQuery(
        "load-heat",
        "load by bucket and time",
        (LOAD_RELATION,),
        {
            "column_ms": Parameter(Kind.INT, "length of a column in ms", default=60_000),
            "since": _SINCE,
            "until": _UNTIL,
        },
    ),
)


def named_query(name: str) -> NamedQuery:
    """Return the query of that name; InvalidArgument (`query_unknown`) where there is none."""
    for query in QUERIES:
        if query.name == name:
            return query
    names = [query.name for query in QUERIES]
    close = difflib.get_close_matches(name.replace("_", "-"), names, n=1)
    raise InvalidArgument(
        f"there is no query {name[:64]!r}",
        code="query_unknown",
        hint=f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}",
    )
