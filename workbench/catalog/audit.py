"""Reads everything again and lists what is wrong; the one reader that goes on after a fault.

Works on a store whose catalog does not open, and from the store alone: nothing that a process
remembers is believed. One cause is reported once: the record after a bad one is not blamed for
not following it. Mending is not done here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workbench.catalog.chain import check_link, empty_state, read_anchor
from workbench.catalog.layout import LOG_PREFIX, log_key, seq_of
from workbench.catalog.reading import check_object
from workbench.catalog.registry import Link, State, fold
from workbench.catalog.values import Problem
from workbench.errors import Corruption, NotFound, Storage

if TYPE_CHECKING:
    from workbench.ports.object_store import ObjectStore


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit looked at and found.

    Attributes:
        seq: Of the last record, 0 where there is none.
        records: Looked at, good or bad.
        objects: Looked at, good or bad.
        problems: By record, then by object.
    """

    seq: int
    records: int
    objects: int
    problems: tuple[Problem, ...]


def audit(store: ObjectStore) -> Audit:
    """Check FORMAT, every record and the chain, and every object of every live dataset.

    Reads all data once, 8 MiB at a time.

    Raises:
        NotFound: `catalog_absent`.
        InvalidInput: The catalog is of another format version.
        Unavailable: Where the store cannot answer now.
    """
    try:
        state = empty_state(read_anchor(store))
    except Corruption as error:
        return Audit(seq=0, records=0, objects=0, problems=(_problem(error),))
    keys = store.list_after(LOG_PREFIX)
    problems = [Problem(key, "is no record of the log") for key in keys if not seq_of(key)]
    seqs = {seq for key in keys if (seq := seq_of(key))}
    last = max(seqs, default=0)
    state, found = _audit_log(store, state, last)
    problems += found
    refs = {ref.key: ref for one in state.manifests.values() for ref in one.objects}
    for key in sorted(refs):
        try:
            check_object(store, refs[key])
        except (Corruption, Storage) as error:
            problems.append(_problem(error, key))
    return Audit(last, len(seqs), len(refs), tuple(problems))


def _audit_log(store: ObjectStore, state: State, last: int) -> tuple[State, list[Problem]]:
    problems = []
    parent: str | None = state.head_sha256
    for seq in range(1, last + 1):
        key = log_key(seq)
        try:
            link = check_link(store.get(key), seq=seq, parent_sha256=parent, state=state)
            parent = link.sha256
            state = _fold_one(state, link)
        except NotFound:
            problems.append(Problem(key, f"is missing, record {last} is there"))
            parent = None
        except (Corruption, Storage) as error:
            problems.append(_problem(error, key))
            parent = None
        state = _skip_to(state, seq)
    return state, problems


def _fold_one(state: State, link: Link) -> State:
    return fold(_skip_to(state, link.record.seq - 1), [link])


def _skip_to(state: State, seq: int) -> State:
    """Return the state as if the records up to `seq` had been read."""
    return replace(state, seq=max(seq, state.seq))


def _problem(error: Corruption | Storage, key: str = "") -> Problem:
    found, colon, reason = error.message.partition(": ")
    if isinstance(error, Corruption) and colon and key in {"", found}:
        return Problem(found, reason)
    return Problem(key, error.message)
