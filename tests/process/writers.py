"""Clients that write without a pause while a test does harm, and remember what they were told.

Each client owns its keys and writes them again and again, with values that nobody else writes. So
a key's newest acknowledged value, or one that came after it with an unknown outcome, is what a
read may return: anything older is a stale read or a lost write.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from workbench.errors import OutcomeUnknown, Unavailable
from workbench.node.kv_client import AsyncKv

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

KEYS_PER_CLIENT = 8


@dataclass
class Kept:
    """What is known of one key.

    Attributes:
        acknowledged: The newest value that was acknowledged.
        possible: Values since, whose fate nobody knows.
    """

    acknowledged: bytes | None = None
    possible: set[bytes] = field(default_factory=set)


@dataclass
class Told:
    """What the clients were told, summed up."""

    writes: int = 0
    unknown: int = 0
    refused: int = 0
    reads: int = 0
    stale: list[str] = field(default_factory=list)
    longest_s: float = 0.0


class Writers:
    """Clients in a thread of their own, for the length of a `with` block.

    Args:
        addresses: Of the nodes.
        clients: How many write at once.
        prefixes: First bytes of keys, dealt out in turn: choose them on different groups.
        read_every: Every so many writes a client reads its key again.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        clients: int = 8,
        prefixes: Sequence[bytes] = (b"\x10", b"\x50", b"\x90", b"\xd0"),
        read_every: int = 4,
    ) -> None:
        self._addresses = list(addresses)
        self._clients = clients
        self._prefixes = prefixes
        self._read_every = read_every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.failure: BaseException | None = None
        self.told = Told()
        self.keys: dict[bytes, Kept] = {}
        # When the newest write of each prefix was acknowledged, by the performance counter.
        self.acknowledged: dict[bytes, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self.failure is not None and error is None:
            raise self.failure

    def check(self) -> list[str]:
        """Read every key, now that nobody writes; return what was lost."""
        return asyncio.run(self._check())

    async def _run(self) -> None:
        try:
            async with AsyncKv(self._addresses, timeout_s=10.0) as kv:
                await asyncio.gather(*(self._write(kv, number) for number in range(self._clients)))
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            self.failure = error

    async def _write(self, kv: AsyncKv, client: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            prefix = self._prefixes[(client + number) % len(self._prefixes)]
            key = b"%b%d-%d" % (prefix, client, number % KEYS_PER_CLIENT)
            value = b"%d-%d" % (client, number)
            kept = self.keys.setdefault(key, Kept())
            began = time.perf_counter()
            try:
                await kv.put(key, value)
            except OutcomeUnknown:
                kept.possible.add(value)
                self.told.unknown += 1
            except Unavailable:
                self.told.refused += 1
            else:
                kept.acknowledged, kept.possible = value, set()
                self.told.writes += 1
                self.acknowledged[prefix] = time.perf_counter()
            self.told.longest_s = max(self.told.longest_s, time.perf_counter() - began)
            if number % self._read_every == 0:
                await self._read(kv, key, kept)

    async def _read(self, kv: AsyncKv, key: bytes, kept: Kept) -> None:
        try:
            found = await kv.get(key)
        except Unavailable:
            return
        self.told.reads += 1
        value = None if found is None else found.value
        if not allowed(kept, value):
            self.told.stale.append(f"{key!r} read as {value!r}, after {kept}")

    async def _check(self) -> list[str]:
        lost = []
        async with AsyncKv(self._addresses, timeout_s=20.0) as kv:
            for key, kept in self.keys.items():
                found = await kv.get(key)
                value = None if found is None else found.value
                if not allowed(kept, value):
                    lost.append(f"{key!r} is {value!r}, after {kept}")
        return lost


def allowed(kept: Kept, value: bytes | None) -> bool:
    """Tell whether a read may return this."""
    return value == kept.acknowledged or value in kept.possible
