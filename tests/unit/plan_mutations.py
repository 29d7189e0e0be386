"""One change at a time to a plan document: every leaf, every list, every part that may be null."""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any

from workbench.model.plan import Plan, hash_of, plan_from_json, plan_to_json

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

Path = tuple[Any, ...]
HASHES = {"plan_id", "content_hash"}


def document_of(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(plan_to_json(plan)))
    return found


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """Paths of every leaf, of every list with something in it, and of every null-able part."""
    if isinstance(value, dict):
        for name, each in value.items():
            if path or name not in HASHES:
                yield from leaves(each, (*path, name))
        if path and path[-1] in {"backtest", "backtest_exact", "placement", "robust"}:
            yield path
    elif isinstance(value, list):
        if value:
            yield path
        for index, each in enumerate(value):
            yield from leaves(each, (*path, index))
    elif value is not None:
        yield path


def named(path: Path) -> str:
    """The path with its positions left out: `actions.reasons`."""
    return ".".join(step for step in path if isinstance(step, str))


def mutated(document: dict[str, Any], path: Path, rng: random.Random) -> dict[str, Any]:
    """The document with one change at the path."""
    mutant = copy.deepcopy(document)
    place: Any = mutant
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = _changed(place[path[-1]], rng)
    return mutant


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + rng.choice([-2, -1, 1, 2] if isinstance(value, int) else [-0.02, 0.01, 0.3])
    if isinstance(value, list):
        return [] if rng.random() < 0.3 else value[:-1]
    if isinstance(value, dict):
        return None
    digit = re.search(r"\d", value)
    if digit is None:
        return value + "x"
    return value[: digit.start()] + str((int(digit[0]) + 1) % 10) + value[digit.end() :]


def rehashed(document: dict[str, Any]) -> Plan:
    """The plan of a document whose hash is computed anew, as a forger would."""
    content = {name: value for name, value in document.items() if name not in HASHES}
    digest = hash_of(content)
    return plan_from_json({**content, "plan_id": digest[:16], "content_hash": digest}, "a test")
