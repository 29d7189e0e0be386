"""The catalog's own constants and caches, as a schedule of some twenty commits needs them.

- Decoding records and checkpoints is a pure function of bytes and key, and half of a schedule's
  time: every writer decodes every record, the auditor too. Here the modules of the catalog share
  what was decoded from equal bytes; damaged bytes are other bytes, and are decoded as ever.
- Checkpoints every 64 records, and a floor that rises by 64, would never come up: the seed draws
  smaller numbers.

Both are undone at the end. Where a test has put something else in one of these places, that stays.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from workbench.catalog import chain, checkpoint, commit, gc, record

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from types import ModuleType

_DECODERS: Final = ((record, "decode_record"), (checkpoint, "decode_checkpoint"))


@contextmanager
def tuned(source: random.Random) -> Iterator[None]:
    """Run with shared decoding and small numbers, drawn from `source`."""
    records = source.choice((1, 2, 3, 4, 6, 8))
    changes: list[tuple[ModuleType, str, object, object]] = [
        (commit, "CHECKPOINT_RECORDS", checkpoint.CHECKPOINT_RECORDS, records),
        (chain, "TAIL_RECORDS_MAX", chain.TAIL_RECORDS_MAX, 2 * records),
        (gc, "TRIM_RECORDS", gc.TRIM_RECORDS, source.choice((1, 3, 8))),
        *_shared_decoding(),
    ]
    for module, name, _, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, before, _ in changes:
            setattr(module, name, before)


def _shared_decoding() -> list[tuple[ModuleType, str, object, object]]:
    changes: list[tuple[ModuleType, str, object, object]] = []
    for owner, name in _DECODERS:
        plain: Callable[[bytes, object], object] = getattr(owner, name)
        shared = _sharing(plain)
        changes += [
            (module, name, plain, shared)
            for module in _modules()
            if getattr(module, name, None) is plain
        ]
    return changes


def _sharing(plain: Callable[[bytes, object], object]) -> Callable[[bytes, object], object]:
    decoded: dict[tuple[bytes, object], object] = {}

    def shared(data: bytes, key: object) -> object:
        found = decoded.get((data, key))
        if found is None:
            found = decoded[data, key] = plain(data, key)
        return found

    return shared


def _modules() -> list[ModuleType]:
    prefixes = ("workbench.catalog.", "workbench.sim.")
    return [module for name, module in sorted(sys.modules.items()) if name.startswith(prefixes)]
