"""`workbench collect`: a source into the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

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

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.session.collect import Collected, CollectOptions


def trace_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a trace is read and divided."""
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
            click.option(
                "--window",
                "window_ms",
                type=Duration(),
                default="60s",
                show_default=True,
                help="Length of a load window.",
            ),
            click.option(
                "--buckets",
                type=click.IntRange(1, 65_536),
                help="Buckets per route; default 16, or 128 over all.",
            ),
        ]
    ):
        command = option(command)
    return command


def collect_options(given: dict[str, Any], *, cluster: str | None, routes: str) -> CollectOptions:
    """Return the options of `trace_options` as the session takes them."""
    from workbench.session.collect import CollectOptions
    from workbench.traces.readers import TraceOptions

    return CollectOptions(
        cluster=cluster,
        trace=TraceOptions(
            format=given["trace_format"],
            columns=_columns(given["columns"]),
            key_encoding=given["key_encoding"],
            time_unit=given["time_unit"],
            rate=given["rate"],
            speedup=given["speedup"],
            sort=given["sort"],
        ),
        window_ms=given["window_ms"],
        buckets=given["buckets"],
        routes=routes,
        replace=given.get("replace", False),
    )


@click.command()
@click.argument("source")
@catalog_option
@click.option("--cluster", metavar="NAME", help="Name to keep it under; default from the file.")
@click.option(
    "--routes",
    default="1",
    show_default=True,
    metavar="N|URL",
    help="Routes that the trace starts with: N even ones, or those of file:ROUTES.json.",
)
@click.option("--replace", is_flag=True, help="Replace another collection of the same name.")
@trace_options
@json_option
def collect(
    source: str, catalog_url: str, cluster: str | None, routes: str, as_json: bool, **given: Any
) -> None:
    """Read routes and load from SOURCE into the catalog; creates it where there is none.

    SOURCE is trace:FILE: CloudPhysics CSV, CSV with a header, Parquet, ARC .lis, or .trace of
    4-byte numbers, also compressed with zstd, gzip or xz. Columns are time, key, and optionally
    op (read, write) and size.

    \b
    Examples:
      workbench collect trace:cloudphysics.csv.zst --routes 8
      workbench collect trace:requests.csv --columns key=path,time=ts --time-unit ms
      workbench collect trace:requests.parquet --routes file:routes.json --json
      workbench collect trace:arc-P3.lis.zst --rate 1000
    """
    from workbench.session.collect import collect as run

    options = collect_options(given, cluster=cluster, routes=routes)
    with progress_bar() as progress:
        answer = run(source, catalog_url, options, progress)
    for warning in answer.warnings:
        warn(warning)
    if as_json:
        emit("collect", _fields(answer))
        return
    state = "collected" if answer.written else "already collected"
    click.echo(
        f"{state} {answer.accesses:,} accesses of cluster {answer.cluster}, "
        f"{rfc3339(answer.since)} to {rfc3339(answer.until)}, {answer.routes} routes"
    )
    print_table(
        "Datasets",
        [("name", "left"), ("rows", "right"), ("windows", "right"), ("id", "left")],
        [
            [d.name, f"{d.rows:,}", "" if d.windows is None else str(d.windows), d.dataset_id]
            for d in answer.datasets
        ],
    )


def _fields(answer: Collected) -> dict[str, Any]:
    return {
        "cluster": answer.cluster,
        "datasets": [
            {"name": d.name, "dataset_id": d.dataset_id, "rows": d.rows, "windows": d.windows}
            for d in answer.datasets
        ],
        "accesses": answer.accesses,
        "routes": answer.routes,
        "window": {"from": rfc3339(answer.since), "to": rfc3339(answer.until)},
        "written": answer.written,
        "seconds": round(answer.seconds, 3),
        "assumptions": answer.assumptions,
        "warnings": list(answer.warnings),
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
