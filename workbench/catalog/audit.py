"""Reads everything again and lists what is wrong: the catalog itself (`survey`), then all data.

Works on a store whose catalog does not open. Mending is `repair`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.catalog.layout import DATA_PREFIX
from workbench.catalog.reading import check_object
from workbench.catalog.survey import reason_of, survey
from workbench.catalog.values import Problem
from workbench.errors import Corruption, Storage

if TYPE_CHECKING:
    from datetime import datetime

    from workbench.catalog.registry import State
    from workbench.catalog.survey import Progress, Survey
    from workbench.ports.object_store import ObjectStore


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit looked at and found.

    Attributes:
        seq: Of the last record, 0 where there is none.
        records: Looked at, good or bad.
        objects: Looked at, good or bad.
        problems: Of the catalog by key, then by object.
        checkpoints: Looked at, good or bad.
        condemned: Objects that garbage collection will remove.
        committed_at: Of the last record; None where there is none.
    """

    seq: int
    records: int
    objects: int
    problems: tuple[Problem, ...]
    checkpoints: int = 0
    condemned: int = 0
    committed_at: datetime | None = None


def audit(store: ObjectStore, *, progress: Progress = lambda *_: None) -> Audit:
    """Check FORMAT, the log from the floor on, the checkpoints, and every object of every dataset.

    Reads all data once, 8 MiB at a time.

    Args:
        store: One that holds a catalog.
        progress: Told what is being read, how much of it is done, and of how much.

    Raises:
        NotFound: `catalog_absent`.
        InvalidInput: The catalog is of another format version.
        Unavailable: Where the store cannot answer now.
    """
    found = survey(store, progress=progress)
    problems = [Problem(each.key, each.reason) for each in found.findings]
    objects, condemned = 0, 0
    if found.state is not None:
        objects, bad = check_objects(store, found.state, progress=progress)
        problems += bad
        problems += _check_swept(store, found, found.state)
        condemned = len(found.state.condemned)
    return Audit(
        seq=found.last,
        records=found.records,
        objects=objects,
        problems=tuple(problems),
        checkpoints=found.checkpoints,
        condemned=condemned,
        committed_at=None if found.state is None else found.state.committed_at,
    )


def check_objects(
    store: ObjectStore, state: State, *, progress: Progress = lambda *_: None
) -> tuple[int, list[Problem]]:
    """Return the number of objects that datasets hold, and what is wrong with them."""
    refs = {ref.key: ref for one in state.manifests.select("") for ref in one.objects}
    problems = []
    for done, key in enumerate(sorted(refs)):
        progress("objects", done, len(refs))
        try:
            check_object(store, refs[key])
        except (Corruption, Storage) as error:
            problems.append(Problem(key, reason_of(error, key)))
    doomed = sorted(refs.keys() & state.condemned.keys())
    reason = "is held by a dataset, but garbage collection will remove it"
    return len(refs), problems + [Problem(key, reason) for key in doomed]


def _check_swept(store: ObjectStore, found: Survey, state: State) -> list[Problem]:
    """Return the objects that records say are gone and that are still there."""
    if not found.swept:
        return []
    there = found.swept.intersection(store.list_after(DATA_PREFIX))
    there -= state.manifests.referred(there)  # registered again since
    reason = "was removed by garbage collection, says the log, but is there"
    return [Problem(key, reason) for key in sorted(there)]
