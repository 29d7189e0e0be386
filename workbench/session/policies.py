"""Approval policies as files: TOML, read strictly, named and hashed.

    name = "nightly"
    max_splits = 8
    min_gain = 0.2
    hours = [22, 6]
    forbidden = [["757365722f31", "757365722f32"]]
    max_age = "2h"
    require_backtest = true
    certainty = "certain"

A limit that is misspelt is refused: a policy that silently allows more than its author meant is
worse than none.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

from workbench.errors import InvalidInput, WorkbenchError
from workbench.model.keys import Span
from workbench.model.plan_given import EvidenceCertainty
from workbench.model.times import parse_duration_ms
from workbench.planner.approvals import ApprovalPolicy
from workbench.session.files import read_file

if TYPE_CHECKING:
    from pathlib import Path

POLICY_BYTES_MAX: Final = 2**20
FIELDS: Final = (
    "name",
    "max_splits",
    "max_bytes_moved",
    "min_gain",
    "hours",
    "forbidden",
    "max_age",
    "require_backtest",
    "certainty",
)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def read_policy(path: Path) -> ApprovalPolicy:
    """Return the policy in a file.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is no TOML, has an unknown field, or a field of a wrong form.
    """
    content = read_file(path, bytes_max=POLICY_BYTES_MAX)
    try:
        fields = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _invalid(path, f"it is not TOML: {error}") from error
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise _invalid(path, f"it has the unknown field {unknown[0]!r}")
    if not _NAME.fullmatch(str(fields.get("name", ""))):
        raise _invalid(path, "it has no name of 1–64 letters, digits, '.', '_', '-'")
    try:
        return ApprovalPolicy(
            name=fields["name"],
            sha256=hashlib.sha256(content).hexdigest(),
            max_splits=_whole(fields, "max_splits"),
            max_bytes_moved=_whole(fields, "max_bytes_moved"),
            min_gain=_fraction(fields),
            hours=_hours(fields),
            forbidden=tuple(_span(each) for each in fields.get("forbidden", [])),
            max_age_ms=parse_duration_ms(fields["max_age"]) if "max_age" in fields else None,
            require_backtest=_flag(fields, "require_backtest"),
            certainty=_certainty(fields),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise _invalid(path, str(error)) from error
    except WorkbenchError as error:
        raise _invalid(path, error.message) from error


def _invalid(path: Path, what: str) -> InvalidInput:
    return InvalidInput(
        f"{path} is no approval policy: {what}",
        code="policy_invalid",
        hint="docs/approvals.md lists the fields",
    )


def _whole(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"{name} is {value!r}, not a whole number from 0")
    return value


def _fraction(fields: dict[str, Any]) -> float | None:
    value = fields.get("min_gain")
    if value is None:
        return None
    if type(value) not in {int, float} or not 0 <= value <= 1:
        raise ValueError(f"min_gain is {value!r}, not a number from 0 to 1")
    return float(value)


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if type(value) is not bool:
        raise ValueError(f"{name} is {value!r}, not true or false")
    return value


def _certainty(fields: dict[str, Any]) -> EvidenceCertainty | None:
    value = fields.get("certainty")
    known = [each.value for each in EvidenceCertainty]
    if value is not None and value not in known:
        raise ValueError(f"certainty is {value!r}, not {' or '.join(known)}")
    return None if value is None else EvidenceCertainty(value)


def _hours(fields: dict[str, Any]) -> tuple[int, int] | None:
    value = fields.get("hours")
    if value is None:
        return None
    if not (
        isinstance(value, list)
        and len(value) == 2
        and all(type(hour) is int and 0 <= hour <= 24 for hour in value)
        and value[0] != value[1]
    ):
        raise ValueError(f"hours is {value!r}, not [from, to] in whole hours UTC")
    return value[0], value[1]


def _span(value: Any) -> Span:  # noqa: ANN401 - whatever the file holds
    if not (isinstance(value, list) and len(value) == 2 and all(type(k) is str for k in value)):
        raise ValueError(f"forbidden has {value!r}, not [start, end] in hex ('' for no bound)")
    start, end = (bytes.fromhex(key) for key in value)
    return Span(start, end or None)
