"""How the planner says numbers in its reasons."""

from __future__ import annotations

from typing import Final

SMALLEST_SHOWN: Final = 0.0005


def share_text(part: int, total: int) -> str:
    """Return `part` of `total` as a percentage; what would round to 0.0% as `<0.1%`."""
    share = part / total
    return "<0.1%" if 0 < share < SMALLEST_SHOWN else f"{share:.1%}"


def heavy_sentence(key: str, load: int, total: int, kind: str) -> str:
    """Return what a single heavy atom means for a plan."""
    share = share_text(load, total)
    if kind == "key":
        return f"key {key} alone carries {share}: no split makes its route lighter than that"
    return f"the bucket from {key} alone carries {share}: finer evidence could tell where to cut"
