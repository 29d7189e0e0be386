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
    ordered = table.sort_by("atom_start")
    keys = ordered.column("atom_start").to_pylist()
    if ordered.column("load").null_count:
        raise InvalidInput(
            f"{ordered.column('load').null_count} atoms have no measured load",
            code="load_not_measured",
            hint="choose another objective, or a time in which it was measured",
        )
    if pc.count_distinct(ordered.column("atom_start")).as_py() != len(keys):
        raise InvalidInput(
            "an atom occurs twice in the load",
            code="atom_duplicate",
            hint="load must be summed per key or bucket first",
        )
    return Atoms(keys=keys, loads=ordered.column("load").to_pylist(), kind=kind)


def routed(atoms: Atoms, routes: Sequence[RouteDescriptor]) -> Atoms:
    """Return the atoms that some route owns; load outside all routes cannot be planned."""
    keep: list[int] = []
    for route in routes:
        end = len(atoms.keys)
        if route.span.end is not None:
            end = bisect_left(atoms.keys, route.span.end)
        keep += range(bisect_left(atoms.keys, route.span.start), end)
    if len(keep) == len(atoms.keys):
        return atoms
    return Atoms([atoms.keys[i] for i in keep], [atoms.loads[i] for i in keep], atoms.kind)
