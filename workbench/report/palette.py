"""Colours of load: Cividis, which reads the same with and without colour vision.

    level 0      not measured: never in the palette, hatched or see-through
    level 1      measured, and zero: the darkest blue
    level 2 … n  load, from dark blue over grey to yellow

Between zero and the least load there is a small jump, so that a quiet key shows. The anchor
colours are samples of Cividis (Nuñez, Anderton and Renslow 2018, PLoS ONE 13(7)); what lies
between them is interpolated linearly.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

LEVELS: Final = 256
LEVEL_ABSENT: Final = 0
LEVEL_ZERO: Final = 1
LEVEL_LOAD: Final = 2
# Where the least load sits between the darkest colour (0) and the brightest (1).
LEAST_LOAD: Final = 0.1
ABSENT: Final = (236, 236, 236)
ABSENT_HATCH: Final = (170, 170, 170)

_ANCHORS: Final = (
    (0, 32, 77),
    (0, 48, 111),
    (57, 72, 107),
    (87, 93, 109),
    (112, 113, 115),
    (138, 134, 120),
    (165, 156, 116),
    (195, 179, 105),
    (225, 204, 85),
    (255, 234, 70),
)


@cache
def cividis() -> tuple[tuple[int, int, int], ...]:
    """Return the colour of every level, 0 to LEVELS - 1; level 0 has the absent grey."""
    levels = np.arange(LEVELS, dtype=np.float64)
    place = LEAST_LOAD + (1 - LEAST_LOAD) * (levels - LEVEL_LOAD) / (LEVELS - 1 - LEVEL_LOAD)
    place[:LEVEL_LOAD] = 0
    stops = np.linspace(0, 1, len(_ANCHORS))
    anchors = np.array(_ANCHORS, dtype=np.float64)
    channels = [np.rint(np.interp(place, stops, anchors[:, c])).astype(int) for c in range(3)]
    colours = [(int(r), int(g), int(b)) for r, g, b in zip(*channels, strict=True)]
    return (ABSENT, *colours[1:])


def linear_levels(values: npt.NDArray[np.float64], top: float) -> npt.NDArray[np.uint8]:
    """Return the level of each value on a linear scale up to `top`.

    The log scale of `heat.matrix.quantise` shows where load is; this one shows how much, so
    that half the load looks like half. NaN is absent, what exceeds `top` is as bright as it.
    """
    share = np.clip(np.nan_to_num(values, nan=0.0) / top if top > 0 else 0 * values, 0.0, 1.0)
    levels = np.rint(LEVEL_LOAD + np.nan_to_num(share) * (LEVELS - 1 - LEVEL_LOAD))
    levels = np.where(values == 0, LEVEL_ZERO, levels)
    return np.where(np.isnan(values), LEVEL_ABSENT, levels).astype(np.uint8)


def css_gradient(steps: int = 10) -> str:
    """Return the loaded part of the palette as the stops of a CSS gradient, low to high."""
    colours = cividis()
    picks = np.linspace(LEVEL_LOAD, LEVELS - 1, steps).astype(int)
    return ", ".join("#{:02x}{:02x}{:02x}".format(*colours[pick]) for pick in picks)
