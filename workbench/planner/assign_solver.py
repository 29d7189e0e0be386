"""Placement by integer programming, where SciPy is installed (extra `placement`).

HiGHS works in floating point; what it answers is read as a placement and counted anew in whole
numbers by the caller. No limit on time is given, only on size and nodes: the same input gives
the same answer on one machine and version, however busy it is.

    1. least heaviest group     2. of those, least moved
"""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from workbench.planner.assign import Point

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import numpy.typing as npt

    from workbench.planner.assign import Assignment

    Around = Callable[[], AbstractContextManager[None]]

CHOICES_MAX: Final = 4_000
NODES_MAX: Final = 2_000
OPTIMAL: Final = 0


def is_installed() -> bool:
    """Tell whether there is a solver."""
    return find_spec("scipy") is not None


def solve(given: Assignment, around: Around = nullcontext) -> tuple[Point, bool] | None:
    """Return the solver's placement, and whether it says that none is lighter.

    `around` is open while the solver runs: it prints, and who calls knows whether it may.

    None where there is no solver, where it is too large for it, or where it finds none.
    """
    movable, targets = given.movable, given.targets
    if not is_installed() or not movable or len(movable) * len(targets) > CHOICES_MAX:
        return None
    with around():
        first = _run(given, None)
        if first is None:
            return None
        weighted, optimal = first[0].weighted, first[1]
        second = _run(given, weighted)
    if second is not None and second[0].weighted <= weighted:
        return min(first[0], second[0]), optimal
    return first


def _run(given: Assignment, limit: int | None) -> tuple[Point, bool] | None:
    """Minimise the heaviest group, or what moves where that is at most `limit`."""
    optimize: Any = import_module("scipy.optimize")
    sparse: Any = import_module("scipy.sparse")
    movable, targets = given.movable, given.targets
    count = len(movable) * len(targets)
    unit = float(max(sum(given.loads), 1))
    loads = np.array([given.loads[route] / unit for route in movable])
    size_unit = float(max(sum(given.sizes), 1))
    costs = np.array(
        [
            0.0 if group == given.home[route] else given.sizes[route] / size_unit
            for route in movable
            for group in targets
        ]
    )
    rows = [_once(len(movable), len(targets), sparse), _groups(given, loads, unit, sparse)]
    stays = _staying(given, unit)
    constraints = [
        optimize.LinearConstraint(rows[0], np.ones(len(movable)), np.ones(len(movable))),
        optimize.LinearConstraint(rows[1], -np.inf, -stays),
    ]
    if given.cap is not None:
        spent = sparse.csr_array(np.append(costs, 0.0)[np.newaxis, :])
        constraints.append(optimize.LinearConstraint(spent, -np.inf, given.cap / size_unit))
    top = np.inf if limit is None else limit / given.scale / unit * (1 + 1e-9)
    aim = np.append(np.zeros(count), 1.0) if limit is None else np.append(costs, 0.0)
    answer = optimize.milp(
        aim,
        constraints=constraints,
        integrality=np.append(np.ones(count), 0.0),
        bounds=optimize.Bounds(0.0, np.append(np.ones(count), top)),
        options={"node_limit": NODES_MAX, "mip_rel_gap": 0.0},
    )
    if answer.x is None:
        return None
    return _point(given, answer.x[:count]), bool(answer.status == OPTIMAL)


def _once(routes: int, groups: int, sparse: Any) -> Any:  # noqa: ANN401 - SciPy is not typed here
    """Every route is on one group."""
    row = np.repeat(np.arange(routes), groups)
    column = np.arange(routes * groups)
    shape = (routes, routes * groups + 1)
    return sparse.csr_array((np.ones(routes * groups), (row, column)), shape=shape)


def _groups(
    given: Assignment,
    loads: npt.NDArray[np.float64],
    unit: float,
    sparse: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401 - SciPy is not typed here
    """Every group's load less its weight times the heaviest is at most minus what stays."""
    targets = given.targets
    count = len(loads) * len(targets)
    row = np.append(np.tile(np.arange(len(targets)), len(loads)), np.arange(len(targets)))
    column = np.append(np.arange(count), np.full(len(targets), count))
    weights = -np.array([float(given.weights[group]) for group in targets])
    value = np.append(np.repeat(loads, len(targets)), weights)
    return sparse.csr_array((value, (row, column)), shape=(len(targets), count + 1))


def _staying(given: Assignment, unit: float) -> npt.NDArray[np.float64]:
    """Return the load that stays on each group whatever is moved."""
    free = set(given.movable)
    loads = [0.0] * len(given.weights)
    for route, home in enumerate(given.home):
        if route not in free:
            loads[home] += given.loads[route] / unit
    return np.array([loads[group] for group in given.targets])


def _point(given: Assignment, answer: npt.NDArray[np.float64]) -> Point:
    """Read the answer as a placement, and count it in whole numbers."""
    movable, targets = given.movable, given.targets
    chosen = answer.reshape(len(movable), len(targets)).argmax(axis=1)
    places = list(given.home)
    for route, at in zip(movable, chosen.tolist(), strict=True):
        places[route] = targets[at]
    weighted = given.heaviest(places)
    assert weighted is not None
    return Point(weighted, given.moved(places), tuple(places))
