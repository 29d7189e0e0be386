"""What the sum over a window does not tell: a front that moves, and load that goes in circles.

The window is cut into SLICES equal parts; the load by atom of each is compared.

    moving front   most of the newest slices' load lies beyond every key that was seen before:
                   sequential appends. No cut inside what was seen catches what comes; a cut at
                   the end (tail cut) gives it a route of its own.
    cyclic         slices are alike at some distance p and unlike at half of it, again and again.
                   The sum evens out what is never even at any time: a plan is as good as it is
                   in its worst phase, and the phases are told.

What is seen is said, and `drift` decides what a plan does about it. Whole-number sums in, so that
the same load gives the same words; alike is measured by the overlap of shares (1 minus half their
distance).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from workbench.model.keys import printable_key
from workbench.model.plan_parts import DriftKind, Finding
from workbench.model.times import rfc3339
from workbench.planner.atoms import Atoms

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    import numpy.typing as npt

SLICES: Final = 12
# Slices at the end that are looked at for a front, and the share of their load beyond it.
NEWEST: Final = 3
FRONT_SHARE: Final = 0.5
# Periods that can be told: at least twice in the window, at least two slices long.
PERIOD_MIN: Final = 2
ALIKE_GAP: Final = 0.1
LOAD_MIN: Final = 100
GRID: Final = 64


@dataclass(frozen=True, slots=True)
class Slice:
    """The load of one part of the window."""

    start: datetime
    atoms: Atoms


@dataclass(frozen=True, slots=True)
class Drift:
    """A pattern, with the load that shows it.

    Attributes:
        kind: Which.
        slices: Of equal length, ascending, keys with load only; of cyclic load whole periods.
        finding: What is said of it.
        period: How many slices cyclic load takes to come back; 0 for a front.
        beyond: Of the NEWEST slices, the load beyond every key seen before; none for cyclic load.
    """

    kind: DriftKind
    slices: tuple[Slice, ...]
    finding: Finding
    period: int = 0
    beyond: tuple[int, ...] = ()

    @property
    def length(self) -> timedelta:
        """Of one slice."""
        return self.slices[1].start - self.slices[0].start


def patterns(slices: Sequence[Slice]) -> tuple[Finding, ...]:
    """Return what is said of the slices, ascending in time; nothing for fewer than SLICES."""
    found = drift_of(slices)
    return () if found is None else (found.finding,)


def drift_of(slices: Sequence[Slice]) -> Drift | None:
    """Return the pattern in the slices, ascending in time; None for fewer than SLICES."""
    if len(slices) < SLICES or any(sum(each.atoms.loads) < LOAD_MIN for each in slices):
        return None
    loaded = [Slice(each.start, _loaded(each.atoms)) for each in slices]
    # A front that moves leaves no keys behind that could come again.
    return moving_front(loaded) or cyclic(loaded)


def _loaded(atoms: Atoms) -> Atoms:
    """Return the atoms that carried load."""
    kept = [index for index, load in enumerate(atoms.loads) if load]
    return Atoms([atoms.keys[i] for i in kept], [atoms.loads[i] for i in kept], atoms.kind)


def moving_front(slices: Sequence[Slice]) -> Drift | None:
    """Return the pattern where each of the newest slices is mostly beyond all before it."""
    highest = max(each.atoms.keys[-1] for each in slices[:-NEWEST])
    beyond: list[int] = []
    shares: list[float] = []
    for each in slices[-NEWEST:]:
        pairs = zip(each.atoms.keys, each.atoms.loads, strict=True)
        beyond.append(sum(load for key, load in pairs if key > highest))
        shares.append(beyond[-1] / sum(each.atoms.loads))
        highest = max(highest, each.atoms.keys[-1])
    if min(shares) < FRONT_SHARE:
        return None
    last = slices[-1].atoms.keys[-1]
    text = (
        f"moving front: at least {min(shares):.0%} of the load of each of the newest parts of the "
        f"window lies beyond every key seen before (now up to {printable_key(last)}). Cuts inside "
        "what was seen do not part what comes"
    )
    starts = tuple(rfc3339(each.start) for each in slices[-NEWEST:])
    finding = Finding(DriftKind.MOVING_FRONT.value, text, starts)
    return Drift(DriftKind.MOVING_FRONT, tuple(slices), finding, beyond=tuple(beyond))


def cyclic(slices: Sequence[Slice]) -> Drift | None:
    """Return the pattern where load comes back to the same keys after leaving them."""
    shares = _shares(slices)
    count = len(slices)
    alike = 1 - np.abs(shares[:, None, :] - shares[None, :, :]).sum(axis=2) / 2
    best: tuple[float, int] | None = None
    for period in range(PERIOD_MIN, count // 2 + 1):
        again = np.array([alike[i, i + period] for i in range(count - period)])
        half = period // 2
        away = np.array([alike[i, i + half] for i in range(count - half)])
        gap = float(again.mean() - away.mean())
        if gap >= ALIKE_GAP and (best is None or gap > best[0] + 1e-9):
            best = (gap, period)
    if best is None:
        return None
    period = best[1]
    worst = max(range(count), key=lambda i: (float(shares[i].max()), -i))
    phases = list(range(worst % period, count, period))
    length = slices[1].start - slices[0].start
    text = (
        f"cyclic load: every {length * period} it comes back to the same keys and is elsewhere "
        f"in between; in the worst phase one range of {1 / GRID:.1%} of the keys carries "
        f"{shares[worst].max():.0%} of its load"
    )
    starts = tuple(rfc3339(slices[i].start) for i in phases)
    finding = Finding(DriftKind.CYCLIC.value, text, starts)
    whole = tuple(slices[count % period :])
    return Drift(DriftKind.CYCLIC, whole, finding, period=period)


def _shares(slices: Sequence[Slice]) -> npt.NDArray[np.float64]:
    """Return shares by slice (rows) and range of keys (columns), of equally many keys each."""
    keys = sorted({key for each in slices for key in each.atoms.keys})
    place = {key: index * GRID // len(keys) for index, key in enumerate(keys)}
    cells = np.zeros((len(slices), GRID), dtype=np.float64)
    for row, each in enumerate(slices):
        for key, load in zip(each.atoms.keys, each.atoms.loads, strict=True):
            cells[row, place[key]] += load
    shares: npt.NDArray[np.float64] = cells / cells.sum(axis=1, keepdims=True)
    return shares
