"""The limits of `workbench plan`, as they are written on a command line.

    --forbid START..END      no split key in [START, END); an empty side has no bound
    --boundaries FILE        a key per line: cut only there;  prefix:N: at keys of at most N bytes
    --groups                 3, or 1,2:2,5 (ID[:WEIGHT]), or without a value those there are

A key is written as the tables show it: as text, or as 0x and hex digits.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from workbench.cli.common import Fraction
from workbench.errors import InvalidArgument, InvalidInput
from workbench.model.keys import Span, check_key
from workbench.model.plan import Limits
from workbench.model.plan_parts import Boundaries, GroupWeight
from workbench.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workbench.model.routes import RouteSnapshot

F = TypeVar("F", bound="Callable[..., Any]")

SPLITS_MAX: Final = 100_000
LIMIT_MAX: Final = 2**62
GROUPS_MAX: Final = 10_000
GROUPS_NAMED_MAX: Final = 20
BOUNDARIES_MAX: Final = 100_000
BOUNDARIES_BYTES_MAX: Final = 2**26
PREFIX: Final = "prefix:"
GROUPS_THERE: Final = "those that there are"


def limit_options(command: F) -> F:
    """Add all options that limit a plan."""
    whole = click.IntRange(0, LIMIT_MAX)
    options = [
        click.option(
            "--max-splits",
            type=click.IntRange(0, SPLITS_MAX),
            default=8,
            show_default=True,
            help="At most so many splits. exact makes no more than the hottest route needs; robust "
            "also spends the rest on other routes that drift could make the hottest.",
        ),
        click.option("--max-routes", type=whole, help="At most so many routes after the plan."),
        click.option(
            "--min-gain",
            type=Fraction(),
            default=0.10,
            show_default=True,
            help="Propose nothing unless the hottest route falls by this fraction; under a moving "
            "front, that of the newest load.",
        ),
        click.option(
            "--min-span-load",
            type=whole,
            default=0,
            metavar="LOAD",
            help="No route that a split makes carries less, over the time planned on.",
        ),
        click.option(
            "--forbid",
            multiple=True,
            metavar="START..END",
            help="No split key from START up to END; may be given again.",
        ),
        click.option(
            "--boundaries",
            metavar="FILE|prefix:N",
            help="Split only at the keys in FILE, or where the first N bytes of keys change.",
        ),
        click.option(
            "--groups",
            is_flag=False,
            flag_value=GROUPS_THERE,
            metavar="[N|ID[:WEIGHT],…]",
            help="Also say which group each route goes to: N groups, or these; without a value "
            "those that there are.",
        ),
        click.option(
            "--new-groups",
            is_flag=True,
            help="With --groups: also groups on which the running cluster has no route yet.",
        ),
        click.option(
            "--max-bytes-moved", type=whole, help="With --groups: at most so many bytes move."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def limits_of(
    given: Mapping[str, Any], snapshot: RouteSnapshot, *, only_hot: bool, live: bool
) -> Limits:
    """Return the limits that the options say.

    Args:
        given: Options by name.
        snapshot: The routes, for the groups that there are.
        only_hot: As `Limits.only_hot`.
        live: The routes are a running cluster's, so its groups are not for us to make up.

    Raises:
        InvalidArgument: an option contradicts another, or cannot be read.
        NotFound: there is no such file of boundaries.
        InvalidInput: its content is no list of keys.
    """
    if given["max_bytes_moved"] is not None and given["groups"] is None:
        raise InvalidArgument(
            "--max-bytes-moved limits moves, and without --groups nothing moves",
            code="limits_contradict",
            hint="add --groups, or leave it out",
        )
    if given["new_groups"] and given["groups"] is None:
        raise InvalidArgument(
            "--new-groups permits groups of --groups, and there is no --groups",
            code="limits_contradict",
            hint="add --groups, or leave it out",
        )
    groups = _groups(given["groups"], snapshot)
    if not given["new_groups"]:
        _check_known(groups, snapshot, live=live)
    return Limits(
        max_splits=given["max_splits"],
        min_gain=given["min_gain"],
        only_hot=only_hot,
        max_routes=given["max_routes"],
        min_span_load=given["min_span_load"],
        forbidden=tuple(dict.fromkeys(_span(text) for text in given["forbid"])),
        boundaries=_boundaries(given["boundaries"]),
        groups=groups,
        max_bytes_moved=given["max_bytes_moved"],
    )


def _key(text: str, what: str) -> bytes:
    """Return the key that is written as the tables show it."""
    try:
        key = bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()
    except ValueError as error:
        raise InvalidArgument(
            f"{what} has {text!r}, which is no key: after 0x come pairs of hex digits",
            code="key_invalid",
            hint="write a key as text, or as 0x and hex digits",
        ) from error
    return check_key(key, what)


def _span(text: str) -> Span:
    start, dots, end = text.partition("..")
    if not dots:
        raise InvalidArgument(
            f"--forbid {text!r} is no START..END",
            code="span_invalid",
            hint="write two keys with two dots between; an empty side has no bound",
        )
    if ".." in end:
        raise InvalidArgument(
            f"--forbid {text!r} has two dots more than once",
            code="span_invalid",
            hint="write two keys with two dots between; a key that has two dots itself as 0x and "
            "hex digits",
        )
    first, last = _key(start, "--forbid"), _key(end, "--forbid") if end else None
    if last is not None and first >= last:
        how = "is empty" if first == last else "is reversed"
        raise InvalidArgument(
            f"--forbid {text!r} {how}: {start} is not below {end}",
            code="span_invalid",
            hint="write the smaller key first; keys compare byte by byte",
        )
    return Span(first, last)


def _boundaries(text: str | None) -> Boundaries | None:
    from workbench.session.files import read_file

    if text is None:
        return None
    if text.startswith(PREFIX):
        number = text.removeprefix(PREFIX)
        if not (number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= LIMIT_MAX):
            raise InvalidArgument(
                f"--boundaries {text!r} has no number of bytes from 1",
                code="boundaries_invalid",
                hint="write prefix:N, as prefix:8 for rows of 8 bytes",
            )
        return Boundaries(prefix_bytes=int(number))
    content = read_file(Path(text), bytes_max=BOUNDARIES_BYTES_MAX)
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{text} is no list of keys: it is not UTF-8",
            code="boundaries_invalid",
            hint="write one key per line, as text or as 0x and hex digits",
        ) from error
    keys = sorted({_key(line, text) for line in lines if line})
    if not 1 <= len(keys) <= BOUNDARIES_MAX:
        raise InvalidInput(
            f"{text} has {counted(len(keys), 'key')}, not 1 to {BOUNDARIES_MAX}",
            code="boundaries_invalid",
            hint="write one key per line, as text or as 0x and hex digits",
        )
    return Boundaries(None, tuple(keys))


def _groups(text: str | None, snapshot: RouteSnapshot) -> tuple[GroupWeight, ...]:
    if text is None:
        return ()
    if text == GROUPS_THERE:
        return tuple(GroupWeight(group) for group in sorted({r.group for r in snapshot.routes}))
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1 and ":" not in text:
        return tuple(GroupWeight(group) for group in range(1, _number(parts[0], text) + 1))
    weights: dict[int, int] = {}
    for part in parts:
        name, colon, weight = part.partition(":")
        group = _number(name, text)
        if group in weights:
            raise InvalidArgument(
                f"--groups {text!r} names group {group} twice",
                code="groups_invalid",
                hint="name each group once, as 1,2:2,5",
            )
        weights[group] = _number(weight, text) if colon else 1
    return tuple(GroupWeight(group, weights[group]) for group in sorted(weights))


def _check_known(groups: tuple[GroupWeight, ...], snapshot: RouteSnapshot, *, live: bool) -> None:
    """Raise where routes would go to a group that nothing known of the cluster names."""
    known = sorted({route.group for route in snapshot.routes})
    # A trace has no groups but those that its routes were given: one group stands for none.
    if not live and len(known) == 1:
        return
    unknown = [each.group for each in groups if each.group not in known]
    if not unknown:
        return
    named = [str(group) for group in known[:GROUPS_NAMED_MAX]]
    more = len(known) - len(named)
    listed = ", ".join(named) + (f" and {more} more" if more else "")
    raise InvalidArgument(
        f"--groups names group {unknown[0]}, and no route of the cluster is on it: "
        f"there are routes on {listed}",
        code="group_unknown",
        hint="add --new-groups where it exists and has no route yet",
    )


def _number(text: str, whole: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= GROUPS_MAX):
        raise InvalidArgument(
            f"--groups {whole!r} has {text!r}, which is no number from 1 to {GROUPS_MAX}",
            code="groups_invalid",
            hint="write a number of groups, or ids with weights over 0, as 1,2:2,5",
        )
    return int(text)
