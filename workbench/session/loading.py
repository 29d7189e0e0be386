"""Load on a running cluster: a trace's accesses, made by clients of this machine, then checked.

    trace, or the generated set ──▶ Workload on the cluster's routes ──▶ what was acknowledged
                                          │ Ctrl-C, or a cluster that does not answer
                                          └────▶ what was done so far  ──read again──▶ lost

Rules: only `node://` clusters; the routes are asked for once, since a split stays in its group.
An interrupt ends the load after the batches under way; what was acknowledged until then is read
again all the same. Where the cluster stopped answering, nothing is: None, not zero.

Not here: how accesses are made and checked (`session.workload`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidArgument, Unavailable
from workbench.node.client import NodeClient
from workbench.node.kv_client import Kv
from workbench.session.collect import read_trace_file
from workbench.session.demo import generated_accesses, source_name
from workbench.session.progress import Progress, silent
from workbench.session.wiring import open_routes
from workbench.session.workload import Workload
from workbench.traces.readers import Trace

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.session.workload import Checked, Played
    from workbench.traces.readers import TraceOptions

SCHEME: Final = "node://"


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What load to put on a cluster.

    Attributes:
        url: Of the cluster, `node://HOST:PORT[,…]`.
        trace: A recorded trace; None generates one with a hot range.
        reading: How to read it.
        seconds: How long the trace's recorded time shall take.
    """

    url: str
    trace: Path | None
    reading: TraceOptions
    seconds: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of it.

    Attributes:
        trace: What was made, in words.
        warnings: What the user should know of the trace.
        played: What the clients did.
        checked: What became of the acknowledged writes; None where they were not read again.
        ended: What ended it before its time, to be raised once all is told; None for nothing.
    """

    trace: str
    warnings: tuple[str, ...]
    played: Played
    checked: Checked | None
    ended: KeyboardInterrupt | Unavailable | None

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended it."""
        return isinstance(self.ended, KeyboardInterrupt)


def put_load(options: LoadOptions, progress: Progress = silent) -> Loaded:
    """Make the accesses against the cluster, then read every acknowledged write again.

    Raises:
        InvalidArgument: the URL is not understood, or is no bundled cluster's.
        InvalidInput: the trace cannot be accepted, or holds keys that no route or user may have.
        Unavailable: no node answers; nothing was done.
    """
    addresses = _addresses(options.url)
    with NodeClient(addresses) as client:
        progress("asking for the routes", 0, None)
        routes = client.list_routes().routes
    progress("reading the trace", 0, None)
    trace = _trace(options, progress)
    with Kv(addresses) as kv:
        work = Workload(trace.accesses, routes, kv, seconds=options.seconds)
        ended = _play(work, progress)
        checked: Checked | None = None
        if not isinstance(ended, Unavailable):
            try:
                checked = work.check(progress)
            except (KeyboardInterrupt, Unavailable) as error:
                ended = ended or error
        return Loaded(source_name(options.trace), trace.warnings, work.played(), checked, ended)


def _addresses(url: str) -> list[str]:
    """Return the addresses in a URL that the connector accepts."""
    open_routes(url).close()
    if not url.startswith(SCHEME):
        raise InvalidArgument(
            f"no load can be put on {url!r}",
            code="load_not_for_source",
            hint=f"name a bundled cluster, as {SCHEME}127.0.0.1:7001",
        )
    return url.removeprefix(SCHEME).removesuffix("/").split(",")


def _trace(options: LoadOptions, progress: Progress) -> Trace:
    if options.trace is not None:
        return read_trace_file(options.trace, options.reading, progress)
    return Trace(generated_accesses(), {}, ())


def _play(work: Workload, progress: Progress) -> KeyboardInterrupt | Unavailable | None:
    """Let the clients work in the background, and return what ended them early.

    A signal reaches this thread alone, so that it can tell them to stop.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="workload") as pool:
        future = pool.submit(work.play, progress)
        try:
            future.result()
        except (KeyboardInterrupt, Unavailable) as error:
            work.stop()
            return error
        except BaseException:
            work.stop()
            raise
    return None
