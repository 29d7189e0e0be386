"""Real processes on one folder: no append lost, none twice; a killed writer leaves no trace."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from workbench.catalog.catalog import Catalog, Write
from workbench.catalog.layout import LOG_PREFIX, log_key
from workbench.catalog.record import decode_record
from workbench.session.system import SystemClock, SystemRng
from workbench.stores.local import TEMPORARY, LocalStore

ROOT = Path(__file__).resolve().parents[2]
WRITERS = 4
APPENDS = 25

APPENDER = """
import sys
import pyarrow as pa
from workbench.catalog.catalog import Catalog, Write
from workbench.session.system import SystemClock, SystemRng
from workbench.stores.local import LocalStore

root, number, appends = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
catalog = Catalog.open(
    LocalStore(root, create=False), clock=SystemClock(), rng=SystemRng(), writer=f"w{number}"
)
print("ready", flush=True)
sys.stdin.readline()
for value in range(number * appends, (number + 1) * appends):
    [answer] = catalog.commit([Write("shared", pa.table({"n": [value]}), mode="append")])
    assert answer.written
"""

# Dies by SIGKILL inside the put of its record, after its rows are uploaded.
KILLED = """
import os, signal, sys
import pyarrow as pa
from workbench.catalog.catalog import Catalog, Write
from workbench.session.system import SystemClock, SystemRng
from workbench.stores.local import LocalStore

class Killed(LocalStore):
    def put_if_absent(self, key, data):
        if "/log/" in key:
            os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        return super().put_if_absent(key, data)

catalog = Catalog.open(
    Killed(sys.argv[1], create=False), clock=SystemClock(), rng=SystemRng(), writer="killed"
)
catalog.commit([Write("shared", pa.table({"n": [-1]}), mode="append")])
"""


@pytest.fixture
def root(tmp_path):
    catalog = Catalog.create(
        LocalStore(tmp_path / "catalog", create=True),
        clock=SystemClock(),
        rng=SystemRng(),
        writer="test",
    )
    assert catalog.seq == 0
    return tmp_path / "catalog"


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def opened(root):
    return Catalog.open(
        LocalStore(root, create=False), clock=SystemClock(), rng=SystemRng(), writer="test"
    )


def test_four_processes_appending_to_one_dataset_lose_and_double_nothing(root):
    processes = [start(APPENDER, root, number, APPENDS) for number in range(WRITERS)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:  # all at once, when the last one is ready
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors

    catalog = opened(root)
    values = catalog.read("shared")["n"].to_pylist()
    assert Counter(values) == Counter(range(WRITERS * APPENDS))
    for number in range(WRITERS):
        mine = [value for value in values if value // APPENDS == number]
        assert mine == sorted(mine), "a writer's own appends keep their order"
    assert catalog.get("shared").row_count == WRITERS * APPENDS
    assert catalog.seq == WRITERS * APPENDS, "one record per commit"
    assert catalog.verify() == []

    store = LocalStore(root, create=False)
    keys = store.list_after(LOG_PREFIX)
    records = [decode_record(store.get(key), key) for key in keys]
    assert len({record.txn for record in records}) == len(records)
    assert Counter(record.writer for record in records) == {
        f"w{number}": APPENDS for number in range(WRITERS)
    }


def test_writer_killed_inside_its_commit_leaves_the_catalog_as_it_was(root):
    opened(root).commit([Write("shared", table_of(1))])
    before = opened(root).list()
    process = start(KILLED, root)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors

    catalog = opened(root)
    assert catalog.list() == before
    assert catalog.verify() == []
    assert [path.name for path in (root / TEMPORARY).iterdir()], "its temporary file stays"
    assert LocalStore(root, create=False).list_after(LOG_PREFIX) == [log_key(1)]
    catalog.commit([Write("shared", table_of(2), mode="append")])
    assert opened(root).read("shared")["n"].to_pylist() == [1, 2]


def table_of(value: int):
    return pa.table({"n": [value]})
