"""What a group tells, through whatever passes: a broken stream goes on behind its last cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import Unavailable, WorkbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workbench.model.keys import Span
    from workbench.model.node import ExportCursor
    from workbench.ports.connector import Exporter, VersionChunk
    from workbench.session.exporting_lanes import Lanes, Patience


def stream(  # noqa: PLR0913 - what is asked for, and how patiently
    source: Exporter,
    group: int,
    read_ts: int,
    *,
    lanes: Lanes,
    patience: Patience,
    span: Span | None = None,
    after: ExportCursor | None = None,
) -> Iterator[VersionChunk]:
    """Yield the chunks of a group up to the one that is `done`.

    Args:
        source: The cluster.
        group: Of it.
        read_ts: As of when (HLC).
        lanes: Tell when to stop.
        patience: Tells how often to try again without a new chunk.
        span: Of keys; None for all that the group owns.
        after: Begin strictly behind this cursor.

    Raises:
        Unavailable: the group does not answer any more.
        WorkbenchError: what trying again does not mend, at once.
    """
    start, end = (b"", None) if span is None else (span.start, span.end)
    while True:
        try:
            for chunk in source.export(group, read_ts, start=start, end=end, after=after):
                lanes.look()
                patience.gained()
                after = chunk.cursor or after
                yield chunk
                if chunk.done:
                    return
            failure: WorkbenchError = Unavailable(
                "the export ended before its end", code="export_interrupted", hint="try again"
            )
        except WorkbenchError as error:
            failure = error
        failure.message = f"group {group}: {failure.message}"
        patience.wait(failure)
