"""How much of callers' requests a node holds at once: per caller, and in all.

    request ──enter──▶ answered ──leave──▶         beyond a bound: `queue_full`, nothing was done

A caller is a connection. Calls that other nodes send on count in all only: they carry what many
callers asked. A caller that is told `queue_full` has more under way than the node will hold for
it, and waits for some of it before it sends more.

Not here: the queues of each group, which are bounded on their own (`host.lane`), and answers: reads
of many keys take turns (`Kv.multi_get`).
"""

from __future__ import annotations

from typing import Final

from workbench.errors import Unavailable

CALLER_BYTES_MAX: Final = 64 * 2**20
NODE_BYTES_MAX: Final = 256 * 2**20
# What a call takes beside its request: small ones are bounded by their number.
CALL_BYTES: Final = 4 * 2**10


class Admission:
    """Bytes of the calls that are under way.

    Args:
        caller_max: Of one caller.
        node_max: Of all.
    """

    def __init__(self, caller_max: int = CALLER_BYTES_MAX, node_max: int = NODE_BYTES_MAX) -> None:
        self._caller_max = caller_max
        self._node_max = node_max
        self._of_caller: dict[str, int] = {}
        self.held = 0

    def enter(self, caller: str | None, request_bytes: int) -> None:
        """Count a call in; every one that is has to `leave`.

        Args:
            caller: Whose it is; None for one that another node sent on.
            request_bytes: Of its request.

        Raises:
            Unavailable: `queue_full`; it does not count.
        """
        size = request_bytes + CALL_BYTES
        held = self._of_caller.get(caller, 0) if caller is not None else 0
        if self.held + size > self._node_max:
            raise _full("in all", self.held, self._node_max)
        if held + size > self._caller_max:
            raise _full("of this caller", held, self._caller_max)
        self.held += size
        if caller is not None:
            self._of_caller[caller] = held + size

    def leave(self, caller: str | None, request_bytes: int) -> None:
        """Count a call out that `enter` counted in."""
        size = request_bytes + CALL_BYTES
        self.held -= size
        if caller is None:
            return
        left = self._of_caller[caller] - size
        if left:
            self._of_caller[caller] = left
        else:
            del self._of_caller[caller]


def _full(whose: str, held: int, limit: int) -> Unavailable:
    return Unavailable(
        f"calls of {held} bytes {whose} are under way, the limit is {limit}",
        code="queue_full",
        hint="nothing was done: send it again when some of them have been answered",
    )
