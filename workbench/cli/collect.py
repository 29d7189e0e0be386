"""`workbench collect`: a source into the catalog."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from workbench.cli.common import (
    Duration,
    Positive,
    catalog_option,
    emit,
    json_option,
    print_table,
    progress_bar,
    warn,
)
from workbench.errors import InvalidArgument
from workbench.model.times import rfc3339
from workbench.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workbench.errors import WorkbenchError
    from workbench.session.collect import Collected, CollectedDataset, CollectOptions
    from workbench.session.collect_live import LiveCollected, LiveOptions
    from workbench.traces.readers import TraceOptions

_LIVE_ONLY: Final = frozenset({"every_ms", "times", "for_ms", "require_all"})
_TRACE_ONLY: Final = frozenset(
    {
        "routes",
        "trace_format",
        "columns",
        "key_encoding",
        "time_unit",
        "rate",
        "speedup",
        "sort",
        "window_ms",
        "buckets",
    }
)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a trace is read."""
    formats = click.Choice(["auto", "arc", "cloudphysics", "csv", "parquet", "u32"])
    for option in reversed(
        [
            click.option(
                "--format",
                "trace_format",
                type=formats,
                default="auto",
                show_default=True,
                help="Of the trace; auto goes by its content, and by the name for .lis and .trace.",
            ),
            click.option(
                "--columns",
                metavar="key=NAME,…",
                default="",
                help="Names of the columns time, key, op, size where they differ.",
            ),
            click.option(
                "--key-encoding",
                type=click.Choice(["utf8", "hex", "u64"]),
                help="How keys in text are written; u64 is 8 bytes, big-endian.",
            ),
            click.option(
                "--time-unit",
                type=click.Choice(["s", "ms", "us", "ns"]),
                default="s",
                show_default=True,
                help="Unit of times that are numbers.",
            ),
            click.option(
                "--rate",
                type=float,
                metavar="OPS_PER_S",
                help="For traces without times; arc and u32 have none.",
            ),
            click.option(
                "--speedup", type=Positive(), default=1.0, help="Divide all time spans by this."
            ),
            click.option("--sort", is_flag=True, help="Sort a trace whose times go back."),
        ]
    ):
        command = option(command)
    return command


def trace_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a trace is read and divided."""
    window = click.option(
        "--window",
        "window_ms",
        type=Duration(),
        default="60s",
        show_default=True,
        help="Length of a load window.",
    )
    buckets = click.option(
        "--buckets",
        type=click.IntRange(1, 65_536),
        help="Buckets per route; default 16, or 128 over all.",
    )
    return reading_options(window(buckets(command)))


def reading(given: dict[str, Any]) -> TraceOptions:
    """Return the options of `reading_options` as the reader takes them."""
    from workbench.traces.readers import TraceOptions

    return TraceOptions(
        format=given["trace_format"],
        columns=_columns(given["columns"]),
        key_encoding=given["key_encoding"],
        time_unit=given["time_unit"],
        rate=given["rate"],
        speedup=given["speedup"],
        sort=given["sort"],
    )


def collect_options(given: dict[str, Any], *, cluster: str | None, routes: str) -> CollectOptions:
    """Return the options of `trace_options` as the session takes them."""
    from workbench.session.collect import CollectOptions

    return CollectOptions(
        cluster=cluster,
        trace=reading(given),
        window_ms=given["window_ms"],
        buckets=given["buckets"],
        routes=routes,
        replace=given.get("replace", False),
    )


@click.command()
@click.argument("source")
@catalog_option
@click.option(
    "--cluster",
    metavar="NAME",
    help="Name to keep it under; default from the file or host, `local` for this machine.",
)
@click.option(
    "--routes",
    default="1",
    show_default=True,
    metavar="N|URL",
    help="Routes that the trace starts with: N even ones, or those of file:ROUTES.json.",
)
@click.option("--replace", is_flag=True, help="Replace another collection of the same name.")
@click.option(
    "--every", "every_ms", type=Duration(), help="Collect from a cluster again and again."
)
@click.option("--times", type=click.IntRange(1), help="With --every: end after so many rounds.")
@click.option("--for", "for_ms", type=Duration(), help="With --every: end after so long.")
@click.option(
    "--require-all",
    is_flag=True,
    help="Collect nothing where a part of the cluster does not answer.",
)
@trace_options
@json_option
@click.pass_context
def collect(ctx: click.Context, /, source: str, as_json: bool, **given: Any) -> None:
    """Read routes and load from SOURCE into the catalog; creates it where there is none.

    SOURCE is trace:FILE: CloudPhysics CSV, CSV with a header, Parquet, ARC .lis, or .trace of
    4-byte numbers, also compressed with zstd, gzip or xz. Columns are time, key, and optionally
    op (read, write) and size.

    Or SOURCE is the URL of a running cluster, as node://HOST:PORT: what is new of its load windows
    and routes is added to what was collected before. With --every that is done until Ctrl-C, or
    as long as --times and --for say; a cluster that does not answer is tried again. With --json
    each round is then one line. Where a node does not answer, what the others tell is collected,
    and a warning names it; with --require-all nothing is.

    \b
    Examples:
      workbench collect trace:cloudphysics.csv.zst --routes 8
      workbench collect trace:requests.csv --columns key=path,time=ts --time-unit ms
      workbench collect trace:requests.parquet --routes file:routes.json --json
      workbench collect trace:arc-P3.lis.zst --rate 1000
      workbench collect node://127.0.0.1:7001
      workbench collect node://127.0.0.1:7001 --every 60s --for 1h
    """
    from workbench.session.collect import trace_path
    from workbench.session.wiring import has_connector

    live = not source.startswith("trace:") and has_connector(source)
    if not live:
        trace_path(source)  # before its options are judged: it may be no source at all
    _check_options(ctx, live=live)
    if live:
        _collect_live(source, as_json, given)
    else:
        _collect_trace(source, as_json, given)


def _check_options(ctx: click.Context, *, live: bool) -> None:
    """Raise InvalidArgument for options that the other kind of source has."""
    for parameter in ctx.command.params:
        name = parameter.name or ""
        is_set = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_set and name in (_TRACE_ONLY if live else _LIVE_ONLY):
            raise InvalidArgument(
                f"{parameter.opts[0]} says nothing of this source",
                code="option_not_for_source",
                hint="it is for a trace" if live else "it is for a running cluster",
            )
    if live and ctx.params["every_ms"] is None and (ctx.params["times"] or ctx.params["for_ms"]):
        raise InvalidArgument(
            "--times and --for say nothing without --every",
            code="option_without_every",
            hint="add --every 60s",
        )


def _collect_trace(source: str, as_json: bool, given: dict[str, Any]) -> None:
    from workbench.session.collect import collect as run

    options = collect_options(given, cluster=given["cluster"], routes=given["routes"])
    with progress_bar() as progress:
        answer = run(source, given["catalog_url"], options, progress)
    for warning in answer.warnings:
        warn(warning)
    if as_json:
        emit("collect", _fields(answer))
        return
    state = "collected" if answer.written else "already collected"
    click.echo(
        f"{state} {_accesses(answer.accesses)} of cluster {answer.cluster}, "
        f"{rfc3339(answer.since)} to {rfc3339(answer.until)}, "
        f"{counted(answer.routes, 'route')}"
    )
    _print_datasets(answer.datasets)


def _collect_live(source: str, as_json: bool, given: dict[str, Any]) -> None:
    from workbench.session.collect_live import LiveOptions, collect_live

    options = LiveOptions(
        cluster=given["cluster"], replace=given["replace"], require_all=given["require_all"]
    )
    if given["every_ms"] is not None:
        _follow(source, options, as_json, given)
        return
    with progress_bar() as progress:
        answer = collect_live(source, given["catalog_url"], options, progress)
    for warning in answer.warnings:
        warn(warning)
    if as_json:
        emit("collect", _live_fields(answer))
        return
    click.echo(_round_line(answer))
    _print_datasets(answer.datasets)


def _follow(source: str, options: LiveOptions, as_json: bool, given: dict[str, Any]) -> None:
    """Collect again and again; one line per round, and a summary on stderr however it ends."""
    from workbench.session.collect_live import LiveCollected, Rounds, follow

    rounds = Rounds(
        every_s=given["every_ms"] / 1_000,
        rounds_max=given["times"],
        duration_s=given["for_ms"] / 1_000 if given["for_ms"] else None,
    )
    done = windows = failed = 0
    failure: WorkbenchError | None = None
    try:
        for answer in follow(source, given["catalog_url"], options, rounds):
            if not isinstance(answer, LiveCollected):
                failed, failure = failed + 1, answer
                warn(f"not collected: {answer}")
                continue
            done, windows = done + 1, windows + answer.new_windows
            for warning in answer.warnings:
                warn(warning)
            line = {"schema": "workbench.collect/1", **_live_fields(answer)}
            click.echo(json.dumps(line) if as_json else _round_line(answer))
    finally:
        without = f", {failed} without an answer" if failed else ""
        found = counted(windows, "window")
        click.echo(f"collected {found} in {counted(done, 'round')}{without}", err=True)
    if not done and failure is not None:
        raise failure


def _round_line(answer: LiveCollected) -> str:
    """Return one round as a line for a human."""
    if answer.new_windows and answer.until is not None:
        load = "" if answer.accesses is None else f", {_accesses(answer.accesses)}"
        windows = f"{counted(answer.new_windows, 'window')}{load}, up to {rfc3339(answer.until)}"
    else:
        windows = "no new window"
    state = "new" if answer.new_routes else "known"
    return (
        f"cluster {answer.cluster}: {windows}; {counted(answer.routes, 'route')} of "
        f"version {answer.catalog_version}, {state}"
    )


def _print_datasets(datasets: Sequence[CollectedDataset]) -> None:
    print_table(
        "Datasets",
        [("name", "left"), ("rows", "right"), ("windows", "right"), ("id", "left")],
        [
            [d.name, f"{d.rows:,}", "" if d.windows is None else str(d.windows), d.dataset_id]
            for d in datasets
        ],
    )


def _dataset_fields(datasets: Sequence[CollectedDataset]) -> list[dict[str, Any]]:
    return [
        {"name": d.name, "dataset_id": d.dataset_id, "rows": d.rows, "windows": d.windows}
        for d in datasets
    ]


def _fields(answer: Collected) -> dict[str, Any]:
    return {
        "cluster": answer.cluster,
        "datasets": _dataset_fields(answer.datasets),
        "accesses": answer.accesses,
        "routes": answer.routes,
        "window": {"from": rfc3339(answer.since), "to": rfc3339(answer.until)},
        "written": answer.written,
        "seconds": round(answer.seconds, 3),
        "assumptions": answer.assumptions,
        "warnings": list(answer.warnings),
    }


def _live_fields(answer: LiveCollected) -> dict[str, Any]:
    window = None
    if answer.since is not None and answer.until is not None:
        window = {"from": rfc3339(answer.since), "to": rfc3339(answer.until)}
    return {
        "cluster": answer.cluster,
        "source": answer.source,
        "cluster_id": answer.cluster_id,
        "datasets": _dataset_fields(answer.datasets),
        "added": {"windows": answer.new_windows, "rows": answer.new_rows},
        "accesses": answer.accesses,
        "routes": answer.routes,
        "catalog_version": answer.catalog_version,
        "new_routes": answer.new_routes,
        "window": window,
        "window_ms": answer.window_ms,
        "written": answer.written,
        "seconds": round(answer.seconds, 3),
        "assumptions": answer.assumptions,
        "warnings": list(answer.warnings),
        "missing": list(answer.missing),
    }


def _columns(text: str) -> dict[str, str]:
    """Return `key=lbn,time=ts` as a mapping."""
    columns = {}
    for part in filter(None, text.split(",")):
        canonical, equals, name = part.partition("=")
        if not equals or canonical not in {"time", "key", "op", "size"} or not name:
            raise InvalidArgument(
                f"--columns {part!r} maps nothing",
                code="columns_option_invalid",
                hint="write key=NAME, with time, key, op or size before the '='",
            )
        columns[canonical] = name
    return columns


def _accesses(count: int) -> str:
    return counted(count, "access", "accesses")
