"""A workload: recorded accesses, made against a live cluster while somebody else changes it.

    accesses ──by group──▶ lanes ──batches──▶ client: write, multi_get ──▶ what was acknowledged
                                                                             │
                                             check(): read all of it again ◀─┘

Rules:
- One lane per group, one thread per lane: accesses of one key keep their order.
- The recorded times are stretched or squeezed to the seconds asked for; a cluster that cannot
  keep up is given the accesses as fast as it takes them.
- Where asked, the first half is made again and again until `go_on`: clients that do not stop
  while somebody plans and executes, however long that takes. The second half comes after.
- Every write carries a value that no other write has, and is made exactly once by the client,
  which repeats what was not answered.
- `check` reads every acknowledged batch as of its commit_ts, and every key as of now. What does
  not come back is lost; nothing is sampled.

Values are cut to VALUE_BYTES_MAX: the load is counted in accesses, and a laptop's disk is small.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.client.values import Mutation
from workbench.errors import InvalidInput, OutcomeUnknown, Unavailable
from workbench.model.keys import KEY_BYTES_MAX, printable_key
from workbench.model.routes import RESERVED_PREFIX
from workbench.session.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workbench.model.node import GotMany, Written
    from workbench.model.routes import RouteDescriptor

BATCH_KEYS_MAX: Final = 128
VALUE_BYTES_MAX: Final = 256
NUMBER_BYTES: Final = 8
# How long one batch is tried before the workload gives up on the cluster.
BATCH_DEADLINE_S: Final = 20.0
# And how long those under way when somebody stops it.
STOP_S: Final = 1.0
# A lane that waits looks so often whether it should go on.
WAIT_S_MAX: Final = 0.05
LOST_SHOWN: Final = 5
T = TypeVar("T")


class KeyValueClient(Protocol):
    """What a workload needs of the node's client library (`node.kv_client.Kv`)."""

    @property
    def repeats(self) -> int:
        """How many requests had to be made again."""
        ...

    def write(self, mutations: Sequence[Mutation], *, timeout_s: float | None = None) -> Written:
        """Write keys of one group, all or nothing, exactly once."""
        ...

    def multi_get(
        self, keys: Sequence[bytes], *, read_ts: int = 0, timeout_s: float | None = None
    ) -> GotMany:
        """Read keys as of one time."""
        ...

    def hurry(self, left_s: float) -> None:
        """Let the calls under way end within so many seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Played:
    """What was done so far.

    Attributes:
        accesses: Made, of all kinds.
        writes: Acknowledged.
        reads: Answered.
        stale_reads: Answered with an older version than one acknowledged before the read.
        retries: Requests that had to be made again.
        seconds: Since the start.
    """

    accesses: int
    writes: int
    reads: int
    stale_reads: int
    retries: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of the acknowledged writes.

    Attributes:
        writes: How many were looked for: all but those whose own time cannot be read any more.
        lost: How many did not come back as they were written.
        examples: Of the lost ones, in words.
    """

    writes: int
    lost: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Acknowledged:
    """A batch that was written: the numbers of the accesses in it, and when it became visible."""

    numbers: tuple[int, ...]
    commit_ts: int


@dataclass(slots=True)
class _Lane:
    """The accesses of one group, in order, and what came of them."""

    group: int
    rows: np.ndarray
    acknowledged: list[_Acknowledged] = field(default_factory=list)
    newest: dict[bytes, int] = field(default_factory=dict)
    done: int = 0
    writes: int = 0
    reads: int = 0
    stale_reads: int = 0
    forgotten: int = 0


class Workload:
    """Recorded accesses to be made against a cluster.

    Args:
        accesses: ACCESS schema, ascending by time, not empty.
        routes: Which group owns which keys.
        client: Thread-safe.
        seconds: How long the recorded time shall take.
        hold_at_half: Repeat the first half until `go_on`.

    Raises:
        InvalidInput: no group owns a key, or a key is reserved or too long.
    """

    def __init__(
        self,
        accesses: pa.Table,
        routes: Sequence[RouteDescriptor],
        client: KeyValueClient,
        *,
        seconds: float,
        hold_at_half: bool = False,
    ) -> None:
        self._client = client
        self._seconds = seconds
        self._keys: list[bytes] = accesses.column("key").to_pylist()
        self._writes = pc.equal(accesses.column("op"), "write").to_numpy()
        self._sizes = pc.fill_null(accesses.column("size"), 0).to_numpy()
        self._due = _due_seconds(accesses, seconds)
        self._half_s = seconds / 2 if hold_at_half else 0.0
        self._lanes = self._divided(routes)
        self._repeats = client.repeats
        self._stop = threading.Event()
        self._go_on = threading.Event()
        self._second_half_s = self._half_s
        self._progress = threading.Condition()
        self._started = 0.0
        self._ended: float | None = None

    def play(self, progress: Progress = silent) -> Played:
        """Make all accesses; returns when the last is answered.

        Raises:
            Unavailable: a batch found no answer for BATCH_DEADLINE_S; the rest is left out.
        """
        self._started = monotonic()
        try:
            with ThreadPoolExecutor(len(self._lanes), thread_name_prefix="lane") as pool:
                futures = [pool.submit(self._play_lane, lane) for lane in self._lanes]
                for future in futures:
                    while not future.done():
                        with self._progress:
                            self._progress.wait(0.25)
                        made = self.played().accesses
                        progress("playing accesses", made, max(made, len(self._keys)))
                for future in futures:
                    future.result()
        finally:
            self._stop.set()
            with self._progress:
                self._ended = monotonic()
                self._progress.notify_all()
        return self.played()

    def stop(self) -> None:
        """Let the lanes end after the batch that they are at, which gets STOP_S at most."""
        self._stop.set()
        self._client.hurry(STOP_S)

    def wait_for_half(self) -> bool:
        """Wait until half of the asked time has passed; False where it ended before."""
        with self._progress:
            self._progress.wait_for(
                lambda: (
                    self._ended is not None
                    or (self._started > 0 and self._now_s() >= self._seconds / 2)
                )
            )
        return self._ended is None

    def go_on(self) -> None:
        """Let the second half follow, from now on."""
        self._second_half_s = max(self._now_s(), self._half_s)
        self._go_on.set()

    def played(self) -> Played:
        """Return what was done so far."""
        until = monotonic() if self._ended is None else self._ended
        return Played(
            accesses=sum(lane.done for lane in self._lanes),
            writes=sum(lane.writes for lane in self._lanes),
            reads=sum(lane.reads for lane in self._lanes),
            stale_reads=sum(lane.stale_reads for lane in self._lanes),
            retries=self._client.repeats - self._repeats,
            seconds=until - self._started if self._started else 0.0,
        )

    def check(self, progress: Progress = silent) -> Checked:
        """Read every acknowledged write again, as of its commit_ts and as of now."""
        self._stop.clear()
        with ThreadPoolExecutor(len(self._lanes), thread_name_prefix="check") as pool:
            found = list(pool.map(lambda lane: self._check_lane(lane, progress), self._lanes))
        lost = [each for lane in found for each in lane]
        return Checked(
            writes=sum(lane.writes - lane.forgotten for lane in self._lanes),
            lost=len(lost),
            examples=tuple(lost[:LOST_SHOWN]),
        )

    def value_of(self, number: int) -> bytes:
        """Return the value that access `number` writes; no other access writes it."""
        size = min(int(self._sizes[number % len(self._keys)]), VALUE_BYTES_MAX)
        return number.to_bytes(NUMBER_BYTES, "big").ljust(size, b"\0")

    def _key_of(self, number: int) -> bytes:
        return self._keys[number % len(self._keys)]

    def _now_s(self) -> float:
        return monotonic() - self._started

    def _divided(self, routes: Sequence[RouteDescriptor]) -> list[_Lane]:
        """Return one lane per group that owns any of the keys."""
        distinct = pa.array(self._keys, pa.binary()).dictionary_encode()
        owners = np.array([_owner(key, routes) for key in distinct.dictionary.to_pylist()])
        groups = owners[distinct.indices.to_numpy()]
        return [_Lane(int(group), np.flatnonzero(groups == group)) for group in np.unique(groups)]

    def _play_lane(self, lane: _Lane) -> None:
        """Make one lane's accesses, the first half as often as it takes."""
        held = int(np.searchsorted(self._due[lane.rows], self._half_s)) if self._half_s else 0
        first, second = lane.rows[:held], lane.rows[held:]
        try:
            repeat = 0
            while self._half_s and not (repeat and self._go_on.is_set()) and not self._ends():
                # The first time it is made whole, also where somebody is quick.
                self._stretch(lane, first, repeat * self._half_s, repeat)
                repeat += 1
                if len(first) == 0:
                    self._go_on.wait(WAIT_S_MAX)
            self._stretch(lane, second, self._second_half_s - self._half_s, 0)
        except BaseException:
            self._stop.set()
            raise

    def _ends(self) -> bool:
        return self._stop.is_set()

    def _stretch(self, lane: _Lane, rows: np.ndarray, shift_s: float, repeat: int) -> None:
        """Make accesses, each when it is due, `shift_s` later than recorded."""
        at = 0
        while at < len(rows) and not self._ends() and not (repeat and self._go_on.is_set()):
            some = rows[at : at + BATCH_KEYS_MAX]
            due = some[self._due[some] + shift_s <= self._now_s()]
            if len(due) == 0:
                ahead = float(self._due[some[0]]) + shift_s - self._now_s()
                self._stop.wait(min(max(ahead, 0.001), WAIT_S_MAX))
                continue
            self._make(lane, due, repeat * len(self._keys))
            at += len(due)
            lane.done += len(due)
            with self._progress:
                self._progress.notify_all()

    def _make(self, lane: _Lane, rows: np.ndarray, offset: int) -> None:
        written = [int(row) + offset for row in rows[self._writes[rows]]]
        read = [self._keys[row] for row in rows[~self._writes[rows]]]
        if written:
            mutations = [
                Mutation(self._key_of(number), self.value_of(number)) for number in written
            ]
            answer = _answered(
                lane, lambda: self._client.write(mutations, timeout_s=BATCH_DEADLINE_S)
            )
            lane.acknowledged.append(_Acknowledged(tuple(written), answer.commit_ts))
            lane.newest.update((each.key, answer.commit_ts) for each in mutations)
            lane.writes += len(written)
        if read:
            got = self._read(lane, read, 0)
            for key, version in zip(read, got.versions, strict=True):
                seen = 0 if version is None else version.commit_ts
                lane.stale_reads += seen < lane.newest.get(key, 0)
            lane.reads += len(read)

    def _read(self, lane: _Lane, keys: Sequence[bytes], read_ts: int) -> GotMany:
        return _answered(
            lane,
            lambda: self._client.multi_get(keys, read_ts=read_ts, timeout_s=BATCH_DEADLINE_S),
        )

    def _check_lane(self, lane: _Lane, progress: Progress) -> list[str]:
        lost: list[str] = []
        lane.forgotten = 0
        for number, batch in enumerate(lane.acknowledged):
            # Of several writes to one key in a batch the last one stands.
            last = {self._key_of(number): number for number in batch.numbers}
            try:
                lost += self._missing(lane, last, batch.commit_ts, exact=True)
            except InvalidInput as error:
                if error.code != "read_ts_below_safe_point":
                    raise
                # A long run outlives what the cluster keeps; the newest values are still read.
                lane.forgotten += len(batch.numbers)
            if number % 16 == 0:
                progress("reading the writes again", number, len(lane.acknowledged))
        newest: dict[bytes, int] = {}
        for batch in lane.acknowledged:
            newest.update((self._key_of(number), number) for number in batch.numbers)
        keys = list(newest)
        for low in range(0, len(keys), BATCH_KEYS_MAX):
            some = {key: newest[key] for key in keys[low : low + BATCH_KEYS_MAX]}
            lost += self._missing(lane, some, 0, exact=False)
        return lost

    def _missing(
        self, lane: _Lane, last: dict[bytes, int], read_ts: int, *, exact: bool
    ) -> list[str]:
        """Return a sentence for every key whose version as of `read_ts` is not the expected."""
        keys = list(last)
        got = self._read(lane, keys, read_ts)
        lost = []
        for key, version in zip(keys, got.versions, strict=True):
            expected = self.value_of(last[key])
            commit_ts = read_ts if exact else lane.newest[key]
            if version is None or (version.value, version.commit_ts) != (expected, commit_ts):
                found = "nothing" if version is None else f"a version of {version.commit_ts}"
                lost.append(f"{printable_key(key)} written at {commit_ts}: found {found}")
        return lost


def _answered(lane: _Lane, call: Callable[[], T]) -> T:
    """Return what the client brings; Unavailable (`workload_stuck`) where it gave up."""
    try:
        return call()
    except (Unavailable, OutcomeUnknown) as error:
        raise Unavailable(
            f"group {lane.group} did not answer: {error.message}",
            code="workload_stuck",
            hint="look at `workbench cluster status` and the nodes' logs",
        ) from error


def _due_seconds(accesses: pa.Table, seconds: float) -> np.ndarray:
    """Return when each access is due, in seconds from the start."""
    times = accesses.column("time").cast(pa.int64()).to_numpy()
    span = max(int(times[-1] - times[0]), 1)
    due: np.ndarray = (times - times[0]) / span * seconds
    return due


def _owner(key: bytes, routes: Sequence[RouteDescriptor]) -> int:
    if key.startswith(RESERVED_PREFIX) or len(key) > KEY_BYTES_MAX:
        raise InvalidInput(
            f"the accesses hold the key {printable_key(key)}, which no user may write",
            code="workload_key_refused",
            hint=f"keys have up to {KEY_BYTES_MAX} bytes and do not start with '!dist|'",
        )
    for route in routes:
        if key in route.span:
            return route.group
    raise InvalidInput(
        f"no route holds the key {printable_key(key)}",
        code="workload_key_unrouted",
        hint="give the cluster routes that cover the accesses",
    )
