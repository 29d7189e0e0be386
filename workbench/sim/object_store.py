"""Object stores for the simulator: one in memory with an observer, and one that fails around it.

    writer ──> FaultyObjectStore (one per process) ──> SimStore (one per world) ──> Observer
                 │ draws a fault, waits, crashes          │ every effect, also late ones
                 └── FaultSource, Timeline                └── knows when keys came and went

A call waits first and then has its effect in one step, so between two calls of a writer anything
may happen to the store, and nothing while it has its effect. What a fault looks like to the
caller is in the table of `faults`.

`FaultyObjectStore` works around any ObjectStore; stale listings need one that knows times
(`Aged`). Not here: networks, multi-part uploads, anything that the port does not show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar, runtime_checkable

from workbench.errors import NotFound, OutcomeUnknown, Storage, Unavailable, WorkbenchError
from workbench.ports.object_store import ObjectEntry, ObjectStore, check_object_key
from workbench.sim.faults import (
    LATE_SECONDS_MAX,
    OUTAGE_SECONDS_MAX,
    PAUSED_SECONDS_MAX,
    SLOW_SECONDS_MAX,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import pyarrow.fs

    from workbench.sim.faults import FaultSource
    from workbench.sim.scheduler import Timeline

T = TypeVar("T")
_BEFORE: Final = frozenset(
    {"timeout_before", "conflict_409", "unavailable", "failed_before", "full"}
)
_AFTER: Final = frozenset({"timeout_after", "unavailable_after", "failed_after"})


class Crash(BaseException):
    """The process ends here; whoever plays it starts a new one."""


class Observer(Protocol):
    """Told of every effect on a SimStore, at the moment at which it happens."""

    def stored(self, key: str, data: bytes) -> None:
        """An object came into being, or was overwritten."""
        ...

    def deleted(self, key: str) -> None:
        """An object is about to go."""
        ...


@runtime_checkable
class Aged(Protocol):
    """A store that knows which keys are younger than some seconds, and which went since."""

    def came_since(self, seconds: float) -> set[str]:
        """Return the keys that came into being in the last `seconds`."""
        ...

    def went_since(self, seconds: float) -> list[str]:
        """Return the keys that were deleted in the last `seconds`."""
        ...


class SimStore:
    """Objects in a dict, with the times of a Timeline; every effect is told to an observer."""

    def __init__(self, time: Timeline) -> None:
        self.observer: Observer | None = None
        self._time = time
        self._objects: dict[str, bytes] = {}
        self._came_us: dict[str, int] = {}
        self._modified: dict[str, datetime] = {}
        self._went_us: dict[str, int] = {}

    @property
    def url(self) -> str:
        """A name for messages."""
        return "sim://store"

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """Refuse: objects of the simulator are small, and are read whole."""
        raise Storage(
            "the simulated store has no filesystem",
            code="store_filesystem_absent",
            hint="read whole objects",
        )

    def get(self, key: str) -> bytes:
        """Return the whole object; NotFound where absent."""
        data = self._objects.get(check_object_key(key))
        if data is None:
            raise NotFound(f"no object {key!r} in {self.url}", code="object_not_found")
        return data

    def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Return the objects in the order asked for."""
        return [self.get(key) for key in keys]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer where the object ends before."""
        return self.get(key)[start : start + length]

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create the object; False, and nothing changed, where the key exists."""
        if check_object_key(key) in self._objects:
            return False
        self._came_us[key] = self._time.now_us
        self._store(key, data)
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite the object."""
        self._came_us.setdefault(check_object_key(key), self._time.now_us)
        self._store(key, data)

    def list_after(self, prefix: str, after: str = "") -> list[str]:
        """Return the keys that start with `prefix` and are greater than `after`, ascending."""
        return sorted(key for key in self._objects if key.startswith(prefix) and key > after)

    def list_entries(self, prefix: str, after: str = "") -> list[ObjectEntry]:
        """Return what `list_after` names, each with its size and time."""
        return [
            ObjectEntry(key, len(self._objects[key]), self._modified[key])
            for key in self.list_after(prefix, after)
        ]

    def delete(self, key: str) -> None:
        """Remove the object; absent keys are fine."""
        if check_object_key(key) in self._objects:
            if self.observer is not None:
                self.observer.deleted(key)
            del self._objects[key], self._modified[key], self._came_us[key]
            self._went_us[key] = self._time.now_us

    def came_since(self, seconds: float) -> set[str]:
        """Return the keys that came into being in the last `seconds`."""
        since = self._time.now_us - round(seconds * 1e6)
        return {key for key, came_us in self._came_us.items() if came_us > since}

    def went_since(self, seconds: float) -> list[str]:
        """Return the keys that were deleted in the last `seconds`."""
        since = self._time.now_us - round(seconds * 1e6)
        return sorted(
            key
            for key, went_us in self._went_us.items()
            if went_us > since and key not in self._objects
        )

    def _store(self, key: str, data: bytes) -> None:
        self._objects[key] = bytes(data)
        self._modified[key] = self._time.now()
        self._went_us.pop(key, None)
        if self.observer is not None:
            self.observer.stored(key, data)


class FaultyObjectStore:
    """An ObjectStore as one process sees it: slow, failing, and gone after a crash.

    Args:
        inner: What really holds the objects.
        faults: Deals out the faults; shared by all processes of a schedule.
        time: Where waiting happens, and late effects.
        name: Of the process, for the trace.
        trace: Told of every call as (process, call, key, fault or "").

    Attributes:
        calls: How many were made.
    """

    def __init__(
        self,
        inner: ObjectStore,
        faults: FaultSource,
        time: Timeline,
        *,
        name: str = "",
        trace: Callable[[str, str, str, str], None] = lambda *_: None,
    ) -> None:
        self.calls = 0
        self._inner = inner
        self._faults = faults
        self._time = time
        self._name = name
        self._trace = trace
        self._dead = False
        self._out_until_us = 0

    @property
    def url(self) -> str:
        """That of the inner store."""
        return self._inner.url

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """Return the inner store's; reading through it does not fail."""
        return self._inner.filesystem()

    def get(self, key: str) -> bytes:
        """Return the whole object, or what the fault makes of it."""
        return self._read(key, lambda: self._inner.get(key))

    def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Return the objects; each read may fail on its own."""
        return [self.get(key) for key in keys]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return a part of the object, or what the fault makes of it."""
        return self._read(key, lambda: self._inner.get_range(key, start, length))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create the object, unless the fault has it otherwise."""
        fault, won = self._write("put", key, lambda: self._inner.put_if_absent(key, data))
        return won and fault != "own_412"

    def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite the object, unless the fault has it otherwise."""
        self._write("replace", key, lambda: self._inner.replace(key, data))

    def delete(self, key: str) -> None:
        """Remove the object, unless the fault has it otherwise."""
        self._write("delete", key, lambda: self._inner.delete(key))

    def list_after(self, prefix: str, after: str = "") -> list[str]:
        """Return the keys; a stale listing lacks new ones and has some that are gone."""
        fault = self._begin("list", prefix)
        keys = self._inner.list_after(prefix, after)
        if fault == "stale" and isinstance(self._inner, Aged):
            seconds = self._faults.profile.stale_seconds
            young = self._inner.came_since(seconds)
            gone = [
                k for k in self._inner.went_since(seconds) if k.startswith(prefix) and k > after
            ]
            keys = sorted([*(key for key in keys if key not in young), *gone])
        self._end("list", prefix, fault)
        return keys

    def list_entries(self, prefix: str, after: str = "") -> list[ObjectEntry]:
        """Return the entries; a stale listing lacks new ones."""
        fault = self._begin("list", prefix)
        entries = self._inner.list_entries(prefix, after)
        if fault == "stale" and isinstance(self._inner, Aged):
            young = self._inner.came_since(self._faults.profile.stale_seconds)
            entries = [entry for entry in entries if entry.key not in young]
        self._end("list", prefix, fault)
        return entries

    def _read(self, key: str, run: Callable[[], bytes]) -> bytes:
        fault = self._begin("get", key)
        data = run()
        self._end("get", key, fault)
        if data and fault == "truncated":
            return data[: self._faults.random.randrange(len(data))]
        if data and fault == "garbage":
            at, bit = self._faults.random.randrange(len(data)), self._faults.random.randrange(8)
            return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
        return data

    def _write(self, call: str, key: str, run: Callable[[], T]) -> tuple[str | None, T]:
        fault = self._begin(call, key)
        if fault == "delayed":
            self._time.later(
                self._faults.upto(LATE_SECONDS_MAX), lambda: self._land(call, key, run)
            )
            raise _error("timeout_after", call, key)
        if fault == "duplicated":
            self._time.later(
                self._faults.upto(LATE_SECONDS_MAX), lambda: self._land(call, key, run)
            )
        answer = run()
        self._end(call, key, fault)
        return fault, answer

    def _land(self, call: str, key: str, run: Callable[[], object]) -> None:
        self._trace(self._name, f"late {call}", key, "")
        run()

    def _begin(self, call: str, key: str) -> str | None:
        """Wait, and fail where the call fails without an effect; return the fault."""
        if self._dead:
            raise Crash
        self.calls += 1
        fault = "unavailable" if self._is_out() else self._faults.draw(call)
        seconds = self._faults.latency()
        if fault == "outage":
            until = self._faults.upto(OUTAGE_SECONDS_MAX)
            self._out_until_us = self._time.now_us + round(until * 1e6)
            fault = "unavailable"
        if fault == "slow":
            seconds += self._faults.upto(SLOW_SECONDS_MAX)
        if fault == "paused":
            seconds += self._faults.upto(PAUSED_SECONDS_MAX)
        self._time.wait(seconds)
        self._trace(self._name, call, key, fault or "")
        if fault == "crash_before":
            self._crash()
        if fault in _BEFORE:
            raise _error(fault, call, key)
        return fault

    def _is_out(self) -> bool:
        return self._time.now_us < self._out_until_us and bool(self._faults.profile.rates)

    def _end(self, call: str, key: str, fault: str | None) -> None:
        """Fail where the call fails although it had its effect."""
        if fault == "crash_after":
            self._crash()
        if fault in _AFTER:
            raise _error(fault, call, key)

    def _crash(self) -> None:
        self._dead = True
        raise Crash


def _error(fault: str, call: str, key: str) -> WorkbenchError:
    """Return the error as which a fault shows."""
    what = f"simulated {fault} of {call} {key!r}"
    if fault.startswith("timeout") and call in {"put", "replace", "delete"}:
        return OutcomeUnknown(what, code="store_outcome_unknown")
    if fault.startswith("failed"):
        return Storage(what, code="store_failed")
    if fault == "full":
        return Storage(what, code="store_full")
    return Unavailable(what, code="store_unavailable")
