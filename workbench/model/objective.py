"""What is balanced: a weighted sum of what windows and accesses count.

    score = reads + 4 x writes      reads      writes      bytes      cpu (named cpu_ns)

CPU time is told by load windows only; recorded accesses do not tell it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Objective:
    """What is balanced: the weighted sum of reads, writes, bytes and nanoseconds of CPU."""

    name: str
    read_weight: int
    write_weight: int
    byte_weight: int
    cpu_weight: int = 0


# By the name that users give; documents carry `Objective.name`, as detection does.
OBJECTIVES: Final[Mapping[str, Objective]] = {
    "score": Objective("score", read_weight=1, write_weight=4, byte_weight=0),
    "reads": Objective("reads", read_weight=1, write_weight=0, byte_weight=0),
    "writes": Objective("writes", read_weight=0, write_weight=1, byte_weight=0),
    "bytes": Objective("bytes", read_weight=0, write_weight=0, byte_weight=1),
    "cpu": Objective("cpu_ns", read_weight=0, write_weight=0, byte_weight=0, cpu_weight=1),
}


def weights_to_json(objective: Objective) -> dict[str, int]:
    """Return the weights as a document carries them; CPU only where it counts."""
    return {
        "reads": objective.read_weight,
        "writes": objective.write_weight,
        "bytes": objective.byte_weight,
        **({"cpu_ns": objective.cpu_weight} if objective.cpu_weight else {}),
    }


def objective_from_json(name: str, weights: Mapping[str, Any]) -> Objective:
    """Return the objective of a document."""
    return Objective(
        name, weights["reads"], weights["writes"], weights["bytes"], weights.get("cpu_ns", 0)
    )


def is_known(objective: Objective) -> bool:
    """Tell whether a name stands for these weights; what a write weighs in `score` is free."""
    for known in OBJECTIVES.values():
        if known.name == objective.name:
            free = known.name == "score" and objective.write_weight >= 0
            return objective == known or (
                free
                and (objective.read_weight, objective.byte_weight, objective.cpu_weight)
                == (known.read_weight, known.byte_weight, known.cpu_weight)
            )
    return False
