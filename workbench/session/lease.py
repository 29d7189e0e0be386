"""Who may execute plans on a cluster: one holder at a time, for a minute, renewed while it works.

    lease/<cluster>    one row per acquire, renew and release; the newest one counts

    free ──acquire──▶ held ──renew──▶ held ──release──▶ free
                        └── expired, or its process is gone ──▶ free

Every row is appended only if the dataset has as many rows as were read, so of two operators who
find the lease free one gets it. A holder that was killed on this host is taken over at once, by
its process id; on another host, or in another process namespace, when its minute is over.

A lease keeps operators from interleaving; it does not make a call safe. What does is the
catalog version that each call is bound to.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from workbench.catalog.catalog import Write
from workbench.errors import Conflict, WorkbenchError
from workbench.model.tables import LEASE, check_table
from workbench.model.times import rfc3339
from workbench.session.system import SystemClock, SystemRng

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from workbench.catalog.catalog import Catalog
    from workbench.ports.system import Clock, Rng

LEASE_PREFIX: Final = "lease/"
TTL: Final = timedelta(seconds=60)
RENEW_BELOW: Final = TTL / 2
# Each round that is lost was won by somebody else, who then holds the lease.
ROUNDS_MAX: Final = 8
CHANGED: Final = "dataset_changed"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks for a lease.

    Attributes:
        name: `user:NAME`.
        host: Where its process runs.
        pid: Of its process.
        plan_id: What it wants to execute.
    """

    name: str
    host: str
    pid: int
    plan_id: str


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a process runs, and what it may ask there; tests bring their own.

    Attributes:
        clock: Tells the time.
        rng: Gives tokens.
        host: Its name.
        pid: Of this process.
        is_running: Tells whether a process of this host is there.
    """

    clock: Clock
    rng: Rng
    host: str
    pid: int
    is_running: Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """One row of the lease's dataset."""

    token: str
    holder: Holder
    at: datetime
    expires_at: datetime


class Lease:
    """A lease that is held. Make it with `acquire`.

    Attributes:
        token: Names this holding; two of the same process differ.
        expires_at: Until when it is held unless renewed.
    """

    def __init__(
        self, catalog: Catalog, cluster: str, row: LeaseRow, rows: int, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._cluster = cluster
        self._holder = row.holder
        self._clock = clock
        # Rows of the dataset when we wrote the newest: as long as it has no more, it is ours.
        self._rows = rows
        self.token = row.token
        self.expires_at = row.expires_at

    def keep(self) -> None:
        """Renew where less than half of the time is left.

        Raises:
            Conflict: `lease_lost`: it ran out, and somebody else took it.
        """
        now = self._clock.now()
        if self.expires_at - now < RENEW_BELOW:
            self._append(now, now + TTL)

    def release(self) -> str | None:
        """Let go; return what to warn of where that could not be written, None otherwise."""
        now = self._clock.now()
        until = rfc3339(self.expires_at)
        try:
            self._append(now, now)
        except Conflict as error:
            return None if error.code == "lease_lost" else f"the lease stays until {until}: {error}"
        except WorkbenchError as error:
            return f"the lease stays until {until}: {error}"
        return None

    def _append(self, at: datetime, expires_at: datetime) -> None:
        row = LeaseRow(self.token, self._holder, at, expires_at)
        try:
            self._catalog.commit([_write(self._cluster, row, self._rows)])
        except Conflict as error:
            if error.code != CHANGED:
                raise
            raise Conflict(
                f"the lease on cluster {self._cluster!r} ran out and was taken by another",
                code="lease_lost",
                hint="see `workbench jobs list` for what was done, then apply again",
            ) from error
        self._rows += 1
        self.expires_at = expires_at


def this_machine() -> Machine:
    """Return the machine and process that we are."""
    return Machine(SystemClock(), SystemRng(), socket.gethostname(), os.getpid(), process_is_there)


def acquire(catalog: Catalog, cluster: str, *, by: str, plan_id: str, machine: Machine) -> Lease:
    """Return the lease on a cluster, held from now on.

    Args:
        catalog: Where it is kept; refreshed.
        cluster: Whose routes are to be changed.
        by: Who asks, as `user:NAME`.
        plan_id: What is to be executed.
        machine: Where we run.

    Raises:
        Conflict: `lease_held`: somebody else holds it; says who, where, for which plan, until
            when.
    """
    holder = Holder(by, machine.host, machine.pid, plan_id)
    token = str(machine.rng.uuid())
    newest: LeaseRow | None = None
    for _ in range(ROUNDS_MAX):
        catalog.refresh()
        rows = read_lease(catalog, cluster)
        newest = rows[-1] if rows else None
        now = machine.clock.now()
        if newest is not None and _is_live(newest, machine, now):
            break
        row = LeaseRow(token, holder, now, now + TTL)
        try:
            catalog.commit([_write(cluster, row, len(rows))])
        except Conflict as error:
            if error.code != CHANGED:
                raise
            continue
        return Lease(catalog, cluster, row, len(rows) + 1, machine.clock)
    assert newest is not None, "a round is lost only to somebody"
    other = newest.holder
    raise Conflict(
        f"{other.name} is applying plan {other.plan_id} to cluster {cluster!r} "
        f"from {other.host}, process {other.pid}",
        code="lease_held",
        hint=f"wait until it is done; if its process is gone, until {rfc3339(newest.expires_at)}",
    )


def read_lease(catalog: Catalog, cluster: str) -> list[LeaseRow]:
    """Return all that happened to the lease on a cluster, newest last."""
    name = LEASE_PREFIX + cluster
    if not any(manifest.name == name for manifest in catalog.list(name)):
        return []
    return [
        LeaseRow(
            token=row["token"],
            holder=Holder(row["holder"], row["host"], row["pid"], row["plan_id"]),
            at=row["at"],
            expires_at=row["expires_at"],
        )
        for row in check_table(catalog.read(name), LEASE, name).to_pylist()
    ]


def process_is_there(pid: int) -> bool:
    """Tell whether this host has a process of that id that can still do something."""
    if pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True
    # A zombie has an id until its parent reads its status. The state follows the name, which is
    # in brackets and may hold any byte.
    return stat.rpartition(b")")[2].split()[:1] != [b"Z"]


def _is_live(row: LeaseRow, machine: Machine, now: datetime) -> bool:
    if row.expires_at <= now:
        return False
    return row.holder.host != machine.host or machine.is_running(row.holder.pid)


def _write(cluster: str, row: LeaseRow, expected_rows: int) -> Write:
    values = {
        "cluster": cluster,
        "token": row.token,
        "holder": row.holder.name,
        "host": row.holder.host,
        "pid": row.holder.pid,
        "plan_id": row.holder.plan_id,
        "at": row.at,
        "expires_at": row.expires_at,
    }
    table = pa.Table.from_pylist([values], schema=LEASE)
    return Write(LEASE_PREFIX + cluster, table, mode="append", expected_rows=expected_rows)
