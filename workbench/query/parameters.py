"""Values for SQL as users write them: `name=value`, or `name:type=value`.

| type   | what is written                                             | bound as  |
|--------|-------------------------------------------------------------|-----------|
| text   | as it is; the default                                       | VARCHAR   |
| int    | 5, -12                                                      | integer   |
| float  | 0.25                                                        | DOUBLE    |
| bool   | true or false                                               | BOOLEAN   |
| time   | RFC 3339, or Unix seconds                                   | TIMESTAMP |
| hlc    | an HLC value; or a time, for all commits of its millisecond | UBIGINT   |
| key    | a key as the workbench prints it: text, or 0x and hex       | BLOB      |
| hex    | hex digits                                                  | BLOB      |
| base64 | base64                                                      | BLOB      |
| null   | nothing                                                     | NULL      |

An empty name (`:int=5`, `=text`) is a value for the next `?`.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Final

from workbench.errors import InvalidArgument
from workbench.model.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

INT_MAX: Final = (1 << 127) - 1
# What stands in the middle of a long key where it is shown.
_CUT: Final = "…"


def parse_parameters(
    given: Iterable[str],
    kinds: Mapping[str, str] | None = None,
    *,
    parse_hlc: Callable[[str], int],
) -> dict[str, Any] | list[Any]:
    """Return values by name, or in their order where no value has a name.

    Args:
        given: As users write them.
        kinds: The type of a parameter that is written without one, by name.
        parse_hlc: Reads a value of type hlc.

    Raises:
        InvalidArgument: `parameter_invalid`, or as `parse_hlc` and `parse_time` raise.
    """
    named: dict[str, Any] = {}
    ordered: list[Any] = []
    for text in given:
        head, equals, value = text.partition("=")
        name, _, kind = head.partition(":")
        if not equals:
            raise InvalidArgument(
                f"parameter {_shown(text)!r} has no =",
                code="parameter_invalid",
                hint="write NAME=VALUE or NAME:TYPE=VALUE for $NAME; for the next ? "
                "=VALUE or :TYPE=VALUE, as in -p =text -p :int=2",
            )
        if name in named:
            raise InvalidArgument(
                f"parameter {_shown(name)} comes twice",
                code="parameter_invalid",
                hint="give each name once",
            )
        try:
            kind = kind or (kinds or {}).get(name, "text")
            parsed = parse_value(value, kind, parse_hlc=parse_hlc)
        except InvalidArgument as error:
            which = _shown(name) or f"?{len(ordered) + 1}"
            raise InvalidArgument(
                f"parameter {which}: {error.message}", code=error.code, hint=error.hint
            ) from error
        if name:
            named[name] = parsed
        else:
            ordered.append(parsed)
    if named and ordered:
        raise InvalidArgument(
            "some parameters have names and some have none",
            code="parameter_invalid",
            hint="use $name throughout, or ? throughout",
        )
    return named or ordered


def parse_value(text: str, kind: str, *, parse_hlc: Callable[[str], int]) -> Any:  # noqa: ANN401 - whatever SQL can bind
    """Return the value that `text` is as a `kind` of the table above.

    Raises:
        InvalidArgument: `parameter_invalid`, or as `parse_hlc` and `parse_time` raise.
    """
    if kind == "hlc":
        return parse_hlc(text)
    if kind not in _PARSERS:
        known = ", ".join(sorted({"hlc", *_PARSERS}))
        raise _invalid(text, f"has the unknown type {kind[:32]!r}", f"known are {known}")
    parse, example = _PARSERS[kind]
    try:
        return parse(text)
    except (ValueError, binascii.Error) as error:
        raise _invalid(text, f"is no {kind}", f"{kind} is written as {example}") from error


def _int(text: str) -> int:
    number = int(text)
    if abs(number) > INT_MAX:
        raise ValueError(number)
    return number


def _bool(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError(text)
    return text.lower() == "true"


def _key(text: str) -> bytes:
    """Return the key that `printable_key` shows so."""
    if text.startswith("0x"):
        return bytes.fromhex(text[2:])
    if _CUT in text or "\\" in text.replace("\\\\", ""):
        raise ValueError(text)
    return text.replace("\\\\", "\\").encode()


def _null(text: str) -> None:
    if text:
        raise ValueError(text)


def _invalid(text: str, what: str, hint: str) -> InvalidArgument:
    return InvalidArgument(f"{_shown(text)!r} {what}", code="parameter_invalid", hint=hint)


def _shown(text: str) -> str:
    return text if len(text) <= 64 else f"{text[:64]}…"


# How each type is read, and an example.
_PARSERS: Final[Mapping[str, tuple[Callable[[str], Any], str]]] = {
    "text": (str, "some text"),
    "int": (_int, "5"),
    "float": (float, "0.25"),
    "bool": (_bool, "true"),
    "time": (parse_time, "2026-01-31T12:00:00Z"),
    "key": (_key, "user/17 or 0x00ff, with each backslash doubled"),
    "hex": (bytes.fromhex, "00ff"),
    "base64": (lambda text: base64.b64decode(text, validate=True), "AP8="),
    "null": (_null, "nothing after ="),
}
