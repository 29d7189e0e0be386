"""One process of `catalog_commit`: says that it is ready, waits for the start, appends, says when.

    python -m benchmarks.catalog_writers SYSTEM PLACE SLOT APPENDS

It prints `ready`, reads a line, and prints `done TIME TRIES` with the time of CLOCK_MONOTONIC,
which all processes of a machine share. Each system tries again by itself after a conflict, with
the pauses that it comes with; where it gives up, it is asked again until it succeeds. pyiceberg
loads its table before each append, as one that is stale would always lose at first.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from benchmarks.catalog_sets import local_store, open_catalog
from workbench.catalog.catalog import Write
from workbench.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = "appended"
ROWS = 100


def rows_of(number: int) -> pa.Table:
    """Return the rows of one append; no two appends have one in common."""
    return pa.table({"n": pa.array(range(number * ROWS, (number + 1) * ROWS), pa.int64())})


def ours(place: Path) -> Callable[[int], bool]:
    """Return a function that appends, and tells whether it could."""
    catalog = open_catalog(local_store(place))

    def append(number: int) -> bool:
        try:
            catalog.commit([Write(TABLE, rows_of(number), "append")])
        except Unavailable:  # lost too many races in a row; nothing was committed
            return False
        return True

    return append


def deltalake(place: Path) -> Callable[[int], bool]:
    """Likewise; it tries again by itself first."""
    from deltalake import write_deltalake  # noqa: PLC0415  # only who needs it waits for it
    from deltalake.exceptions import CommitFailedError  # noqa: PLC0415

    def append(number: int) -> bool:
        try:
            write_deltalake(str(place), rows_of(number), mode="append")
        except CommitFailedError:
            return False
        return True

    return append


def pyiceberg(place: Path) -> Callable[[int], bool]:
    """Likewise; after a conflict the table has to be loaded again."""
    from pyiceberg.exceptions import CommitFailedException  # noqa: PLC0415  # likewise
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415

    from benchmarks.catalog_rivals import NAMESPACE, iceberg  # noqa: PLC0415

    catalog = iceberg(place)

    def append(number: int) -> bool:
        try:
            catalog.load_table(f"{NAMESPACE}.{TABLE}").append(rows_of(number))
        except (CommitFailedException, OperationalError):  # a locked database among them
            return False
        return True

    return append


SYSTEMS = {"ours": ours, "deltalake": deltalake, "pyiceberg": pyiceberg}


def main() -> None:
    """Append as the arguments say."""
    system, place, slot, appends = sys.argv[1:]
    logging.getLogger("pyiceberg.table").setLevel(logging.ERROR)  # it warns of each lost race
    append = SYSTEMS[system](Path(place))
    numbers = range(int(slot) * int(appends), (int(slot) + 1) * int(appends))
    pauses = random.Random(int(slot))  # noqa: S311  # spreads retries, guards nothing
    tries = 0
    print("ready", flush=True)
    sys.stdin.readline()
    for number in numbers:
        tries += 1
        while not append(number):
            tries += 1
            time.sleep(pauses.uniform(0, 0.01))
    print(f"done {time.clock_gettime(time.CLOCK_MONOTONIC)} {tries}", flush=True)


if __name__ == "__main__":
    main()
