"""A TCP proxy between two nodes that can hold bytes back: partitions and delays, one way or both.

    node 1 ──▶ Wire 1→2 ──▶ node 2        one for each ordered pair: node 1 takes it for node 2

`hold` keeps what node 1 sends from node 2, while what node 2 answers on this wire still arrives;
nothing is refused or closed, as with a firewall that drops packets. It looks at no byte.

A node tells clients where it sees the others, and so leads them to its own wires: what is held
back there is held back from them too. They have to find another way by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

CHUNK_BYTES = 64 * 2**10


class Wire:
    """One way from one node to another.

    Attributes:
        held: What is sent waits.
        delay_s: How long it waits at any rate.
    """

    def __init__(self, port: int, upstream: int) -> None:
        self.port = port
        self.upstream = upstream
        self.held = False
        self.delay_s = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection on."""
        try:
            there, thither = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.close()
            return
        ways = (self._pass(reader, thither, harmed=True), self._pass(there, writer, harmed=False))
        tasks = [asyncio.ensure_future(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in (writer, thither):
                each.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, harmed: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if harmed:
                    await asyncio.sleep(self.delay_s)
                    while self.held:  # noqa: ASYNC110 - it is set from another thread
                        await asyncio.sleep(0.01)
                writer.write(data)
                await writer.drain()


class Wires:
    """All wires of a cluster, in a thread of their own; a context manager.

    Args:
        ports: Listening port and upstream's, by (from node, to node).
    """

    def __init__(self, ports: Mapping[tuple[int, int], tuple[int, int]]) -> None:
        self.wires = {pair: Wire(*each) for pair, each in ports.items()}
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(20)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def heal(self) -> None:
        """Let everything pass at once again."""
        for wire in self.wires.values():
            wire.held, wire.delay_s = False, 0.0

    async def _run(self) -> None:
        servers = [
            await asyncio.start_server(wire.serve, "127.0.0.1", wire.port)
            for wire in self.wires.values()
        ]
        self._up.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        own = asyncio.current_task()
        rest = [task for task in asyncio.all_tasks() if task is not own]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
