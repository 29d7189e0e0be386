"""What to tell of a cluster that cannot be exported: no node, or no history as far back.

an error of the first call ──▶ does something else answer there? ──▶ the error, with that
a read_ts that is too old  ──▶ halving between it and now        ──▶ from when on it can be read
"""

from __future__ import annotations

import re
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from workbench.errors import NotFound, WorkbenchError
from workbench.model.times import hlc_ms, hlc_of_ms
from workbench.session.exporting_state import hlc_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from workbench.ports.connector import Exporter

CONNECT_SECONDS: Final = 1.0
# A gRPC server without the node's services says this.
NO_SUCH_METHOD: Final = "status_unimplemented"
_ADDRESS = re.compile(r"(?:\[([^\]]+)\]|([^\[\],:@]+)):([0-9]{1,5})")


@contextmanager
def telling_of_others(url: str) -> Iterator[None]:
    """Say of a call that reached no node whether something else answers there.

    Args:
        url: Of the cluster, as node://HOST:PORT.
    """
    try:
        yield
    except WorkbenchError as error:
        hint = "check the port: `workbench cluster status` shows those of a local cluster's nodes"
        if error.code == NO_SUCH_METHOD:
            error.message = f"what answers at {url} is a gRPC server, but no node ({error.message})"
            error.hint = hint
        elif error.code == "node_unreachable" and (address := _listening(url)) is not None:
            error.message = f"something answers at {address} that is no node ({error.message})"
            error.hint = f"{hint}; a node that is just starting needs some seconds"
        raise


def too_old(source: Exporter, url: str, read_ts: int, now: int, error: WorkbenchError) -> NotFound:
    """Return the error for a read_ts before the cluster's history, with when that begins.

    Args:
        source: The cluster.
        url: Of it.
        read_ts: That was refused with `error` (HLC).
        now: A timestamp of the cluster (HLC).
        error: Its code is kept, and means "too old" of earlier moments too.
    """
    first = _first_readable(source, read_ts, now, {error.code})
    since = "" if first is None else f"; it can be read from {hlc_text(first)} on"
    wanted = "a later moment" if first is None else f"{hlc_text(first)} or a later moment"
    return NotFound(
        f"{url} has no history as of {hlc_text(read_ts)}{since}",
        code=error.code,
        hint=f"give {wanted} as --read-ts, or leave it out for now",
    )


def _first_readable(source: Exporter, refused: int, now: int, codes: Collection[str]) -> int | None:
    """Return the first millisecond as of which routes are told; None where it cannot be found."""
    low, high = hlc_ms(refused), hlc_ms(now)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            source.routes_at(hlc_of_ms(middle, 2**16 - 1))
        except WorkbenchError as error:
            if error.code not in codes:
                return None
            low = middle
        else:
            high = middle
    return hlc_of_ms(high)


def _listening(url: str) -> str | None:
    """Return the first address of the URL that takes connections; None where none does."""
    rest = url.partition("://")[2].partition("/")[0].partition("?")[0]
    for bracketed, plain, port in _ADDRESS.findall(rest):
        host = bracketed or plain
        try:
            with socket.create_connection((host, int(port)), CONNECT_SECONDS):
                return f"{host}:{port}"
        except (OSError, OverflowError, UnicodeError):
            continue
    return None
