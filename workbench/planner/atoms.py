"""Atoms: the indivisible pieces of load that a plan is made from."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from workbench.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from workbench.model.routes import RouteDescriptor


@dataclass(frozen=True, slots=True)
class Atoms:
    """The indivisible pieces of load, ascending by key.

    Attributes:
        keys: First key of each atom.
        loads: Load of each, whole numbers.
        kind: `key` (one key each) or `bucket`.
    """

    keys: Sequence[bytes]
    loads: Sequence[int]
    kind: str


def atoms_from_table(table: pa.Table, kind: str) -> Atoms:
    """Return atoms from columns `atom_start` (binary) and `load` (int64), ascending by key.

    Raises:
        InvalidInput: a load is null or negative, or a key occurs twice.
    """
    is_ordered = _ascends(table.column("atom_start"))
    ordered = table if is_ordered else table.sort_by("atom_start")
    # By way of numpy's objects: to_pylist makes a scalar of each value in between.
    keys = ordered.column("atom_start").to_numpy().tolist()
    if ordered.column("load").null_count:
        raise InvalidInput(
            f"{ordered.column('load').null_count} atoms have no measured load",
            code="load_not_measured",
            hint="choose another objective, or a time in which it was measured",
        )
    if not is_ordered and pc.count_distinct(ordered.column("atom_start")).as_py() != len(keys):
        raise InvalidInput(
            "an atom occurs twice in the load",
            code="atom_duplicate",
            hint="load must be summed per key or bucket first",
        )
    return Atoms(keys=keys, loads=ordered.column("load").to_numpy().tolist(), kind=kind)


def _ascends(keys: pa.ChunkedArray) -> bool:
    """Tell whether every key is above the one before it."""
    if keys.null_count:
        return False
    return bool(pc.all(pc.less(keys[:-1], keys[1:]), min_count=0).as_py())


def routed(atoms: Atoms, routes: Sequence[RouteDescriptor]) -> Atoms:
    """Return the atoms that some route owns; load outside all routes cannot be planned."""
    kept: list[slice] = []
    count, end = 0, 0
    before: bytes | None = b""
    for route in routes:
        start = end if route.span.start == before else bisect_left(atoms.keys, route.span.start)
        before, end = route.span.end, len(atoms.keys)
        if before is not None:
            end = bisect_left(atoms.keys, before, start)
        kept.append(slice(start, end))
        count += end - start
    if count == len(atoms.keys):
        return atoms
    keys = [key for here in kept for key in atoms.keys[here]]
    return Atoms(keys, [load for here in kept for load in atoms.loads[here]], atoms.kind)
