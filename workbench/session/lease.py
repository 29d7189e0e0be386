"""Who may execute plans on a cluster: one holder at a time, for a minute, renewed while it works.

    lease/<cluster>    one row per acquire, renew and release; the newest one counts
                       <cluster>: what the cluster calls itself, else the collection's name

    free ──acquire──▶ held ──renew──▶ held ──release──▶ free
                        └── expired, or its process is gone ──▶ free

Every row is appended only if the dataset has as many rows as were read, so of two operators who
find the lease free one gets it, under whatever names they collected the cluster.

A holder that was killed is taken over at once where its process id can be looked up, or where
this machine was started anew since. That is so only on the same machine and in the same process
namespace; for anybody else its minute has to be over.

A lease keeps operators from interleaving; it does not make a call safe. What does is the
catalog version that each call is bound to.
"""

from __future__ import annotations

import hashlib
import os
import re
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
# What may stand for a cluster as it is; any other id, which a server may make up, is hashed.
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MACHINE_ID: Final = re.compile(r"[0-9a-f]{32}")
_UNKNOWN: Final = "-"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process runs, so that its process id means something.

    Attributes:
        host: Name of the machine; others may have the same.
        machine: Which machine it is, across restarts; None where that is not known.
        boot: Which start of the machine; None where that is not known.
        namespace: Of its process ids; None where there are no such namespaces.
    """

    host: str
    machine: str | None = None
    boot: str | None = None
    namespace: str | None = None

    def __str__(self) -> str:
        """Return it as a row has it: `HOST MACHINE BOOT NAMESPACE`, `-` for what is not known."""
        parts = (self.machine, self.boot, self.namespace)
        return " ".join([self.host, *(part or _UNKNOWN for part in parts)])

    @classmethod
    def parse(cls, text: str) -> Place:
        """Return the place that a row has; all of it is the host where it has no four parts."""
        host, *rest = text.rsplit(" ", 3)
        if len(rest) != 3:
            return cls(text)
        return cls(host, *(None if part == _UNKNOWN else part for part in rest))

    def has_lost(self, pid: int, there: Place, is_running: Callable[[int], bool]) -> bool:
        """Tell whether a process of `there` is certainly gone, as seen from here."""
        mine = (self.host, self.machine, self.namespace)
        if mine != (there.host, there.machine, there.namespace):
            return False
        if self.boot != there.boot:
            # Without a machine id this may be another machine of the same name.
            return None not in {self.machine, self.boot, there.boot}
        return not is_running(pid)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks for a lease.

    Attributes:
        name: `user:NAME`.
        place: Where its process runs.
        pid: Of its process.
        plan_id: What it wants to execute.
    """

    name: str
    place: Place
    pid: int
    plan_id: str


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a process runs, and what it may ask there; tests bring their own.

    Attributes:
        clock: Tells the time.
        rng: Gives tokens.
        place: Which machine it is.
        pid: Of this process.
        is_running: Tells whether a process of this machine is there.
    """

    clock: Clock
    rng: Rng
    place: Place
    pid: int
    is_running: Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """One row of the lease's dataset; `cluster` is the name that its holder knows it by."""

    cluster: str
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

    def __init__(self, catalog: Catalog, name: str, row: LeaseRow, rows: int, clock: Clock) -> None:
        self._catalog = catalog
        self._name = name
        self._cluster = row.cluster
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
        row = LeaseRow(self._cluster, self.token, self._holder, at, expires_at)
        try:
            self._catalog.commit([_write(self._name, row, self._rows)])
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
    return Machine(SystemClock(), SystemRng(), _this_place(), os.getpid(), process_is_there)


def acquire(  # noqa: PLR0913 - who, what for, where from: all of it is told to the next one
    catalog: Catalog,
    cluster: str,
    *,
    by: str,
    plan_id: str,
    machine: Machine,
    cluster_id: str | None = None,
) -> Lease:
    """Return the lease on a cluster, held from now on.

    Args:
        catalog: Where it is kept; refreshed.
        cluster: Whose routes are to be changed, by the name of its collection.
        by: Who asks, as `user:NAME`.
        plan_id: What is to be executed.
        machine: Where we run.
        cluster_id: What the cluster calls itself; None or empty where it has no such name.

    Raises:
        Conflict: `lease_held`: somebody else holds it; says who, where, for which plan, until
            when.
    """
    holder = Holder(by, machine.place, machine.pid, plan_id)
    name = _lease_name(cluster, cluster_id)
    token = str(machine.rng.uuid())
    newest: LeaseRow | None = None
    for _ in range(ROUNDS_MAX):
        catalog.refresh()
        rows = read_lease(catalog, cluster, cluster_id)
        newest = rows[-1] if rows else None
        now = machine.clock.now()
        if newest is not None and _is_live(newest, machine, now):
            break
        row = LeaseRow(cluster, token, holder, now, now + TTL)
        try:
            catalog.commit([_write(name, row, len(rows))])
        except Conflict as error:
            if error.code != CHANGED:
                raise
            continue
        return Lease(catalog, name, row, len(rows) + 1, machine.clock)
    assert newest is not None, "a round is lost only to somebody"
    other = newest.holder
    same = "" if newest.cluster == cluster else f", which is {cluster!r} too,"
    raise Conflict(
        f"{other.name} is applying plan {other.plan_id} to cluster {newest.cluster!r}{same} "
        f"from {other.place.host}, process {other.pid}",
        code="lease_held",
        hint=f"wait until it is done; if its process is gone, until {rfc3339(newest.expires_at)}",
    )


def read_lease(catalog: Catalog, cluster: str, cluster_id: str | None = None) -> list[LeaseRow]:
    """Return all that happened to the lease on a cluster, newest last."""
    name = _lease_name(cluster, cluster_id)
    if not any(manifest.name == name for manifest in catalog.list(name)):
        return []
    return [
        LeaseRow(
            cluster=row["cluster"],
            token=row["token"],
            holder=Holder(row["holder"], Place.parse(row["host"]), row["pid"], row["plan_id"]),
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


def _this_place() -> Place:
    # The machine id is meant to stay on its machine, so only a hash of it gets into the catalog.
    machine_id = _text(Path("/etc/machine-id"))
    machine = None
    if machine_id is not None and _MACHINE_ID.fullmatch(machine_id):
        machine = hashlib.sha256(b"workbench lease " + machine_id.encode()).hexdigest()[:16]
    try:
        namespace: str | None = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = None
    boot = _text(Path("/proc/sys/kernel/random/boot_id"))
    return Place(socket.gethostname(), machine, boot, namespace)


def _text(path: Path) -> str | None:
    """Return the one word that a file of the system has, None where it has none."""
    try:
        words = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return None
    return words[0] if len(words) == 1 else None


def _lease_name(cluster: str, cluster_id: str | None) -> str:
    """Return the dataset of a cluster's lease; one cluster has one, whatever it is called here."""
    if not cluster_id:
        return LEASE_PREFIX + cluster
    if _PLAIN_ID.fullmatch(cluster_id):
        return LEASE_PREFIX + cluster_id
    data = cluster_id.encode("utf-8", "surrogatepass")
    return LEASE_PREFIX + hashlib.sha256(data).hexdigest()


def _is_live(row: LeaseRow, machine: Machine, now: datetime) -> bool:
    if row.expires_at <= now:
        return False
    holder = row.holder
    return not machine.place.has_lost(holder.pid, holder.place, machine.is_running)


def _write(name: str, row: LeaseRow, expected_rows: int) -> Write:
    values = {
        "cluster": row.cluster,
        "token": row.token,
        "holder": row.holder.name,
        "host": str(row.holder.place),
        "pid": row.holder.pid,
        "plan_id": row.holder.plan_id,
        "at": row.at,
        "expires_at": row.expires_at,
    }
    table = pa.Table.from_pylist([values], schema=LEASE)
    return Write(name, table, mode="append", expected_rows=expected_rows)
