"""`workbench export`: all versions of all keys of a cluster, as of one moment, into the catalog."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from workbench.cli.common import (
    catalog_option,
    emit,
    json_option,
    late_bar,
    print_table,
    warn,
)
from workbench.errors import InvalidArgument
from workbench.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workbench.session.exporting import ExportAnswer
    from workbench.session.exporting_lanes import Tally
    from workbench.session.exporting_state import Export

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


@contextmanager
def tally_bar() -> Iterator[Callable[[str, Tally], None]]:
    """Give a callback that tells rows, bytes, groups and rate on stderr, where it is a terminal.

    Nothing is drawn for what takes less than half a second.
    """
    from workbench.session.exporting_lanes import silent_tally

    if sys.stderr is None or not sys.stderr.isatty():
        yield silent_tally
        return
    with late_bar() as (bar, shown):
        task = bar.add_task("")

        def show(stage: str, tally: Tally) -> None:
            bar.update(task, description=f"{stage}: {tally_text(tally)}")
            shown()

        yield show


def tally_text(tally: Tally) -> str:
    """Return how far it is, for a human."""
    rate = tally.rows_per_second
    groups = f", {tally.groups_done} of {counted(tally.groups, 'group')}" if tally.groups else ""
    speed = "" if rate is None else f", {rate:,.0f} rows/s"
    return f"{counted(tally.rows, 'row')}, {size_text(tally.size)}{groups}{speed}"


def size_text(size: float) -> str:
    """Return so many bytes for a human."""
    unit = 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:,.0f} B" if unit == 0 else f"{size:,.1f} {_UNITS[unit]}"


@click.command()
@click.option("--target", metavar="URL", help="The cluster, as node://HOST:PORT.")
@catalog_option
@click.option(
    "--name", metavar="NAME", help="Of the export; default: cluster and time, as prod-20261121T…Z."
)
@click.option(
    "--cluster", metavar="NAME", help="Name of the cluster; default from the host, or `local`."
)
@click.option(
    "--read-ts",
    "read_ts",
    metavar="HLC|TIME",
    help="As of when: an HLC value, RFC 3339 or Unix seconds; default: now.",
)
@click.option("--resume", metavar="NAME", help="Go on with this export, which must be there.")
@click.option(
    "--abandon", metavar="NAME", help="Remove this export, which must not be complete; no more."
)
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Count the stored rows again at the end.",
)
@json_option
def export(catalog_url: str, abandon: str | None, as_json: bool, **given: Any) -> None:
    """Export every version of every key, as of one moment, with the routes of that moment.

    All groups are read at one timestamp while clients go on; the rows become Parquet in the
    catalog, datasets export/NAME/version and export/NAME/route. Killed at any point, the same
    command goes on where it stopped, at the same timestamp; so does --resume NAME. `workbench
    restore` brings an empty cluster to the same history. See docs/export.md.

    \b
    Examples:
      workbench export --target node://127.0.0.1:7001
      workbench export --target node://127.0.0.1:7001 --name nightly-2026-11-21
      workbench export --target node://127.0.0.1:7001 --read-ts 2026-11-21T12:00:00Z --json
      workbench export --target node://127.0.0.1:7001 --resume nightly-2026-11-21
      workbench export --abandon nightly-2026-11-21
    """
    if abandon is not None:
        _abandon(catalog_url, abandon, as_json=as_json, given=given)
        return
    if given["target"] is None:
        raise InvalidArgument(
            "nothing says what to export",
            code="target_missing",
            hint="name a cluster with --target, as node://HOST:PORT",
        )
    from workbench.session.exporting import ExportOptions, export_cluster
    from workbench.session.exporting_state import parse_read_ts

    options = ExportOptions(
        name=given["name"],
        resume=given["resume"],
        cluster=given["cluster"],
        read_ts=None if given["read_ts"] is None else parse_read_ts(given["read_ts"]),
        check=given["check"],
    )
    with tally_bar() as progress:
        answer = export_cluster(given["target"], catalog_url, options, progress)
    if as_json:
        emit("export", _fields(answer))
        return
    for warning in answer.warnings:
        warn(warning)
    _print(answer)


def _abandon(catalog_url: str, name: str, *, as_json: bool, given: dict[str, Any]) -> None:
    from workbench.session.exporting import abandon

    others = [
        f"--{each.replace('_', '-')}" for each in ("name", "resume", "read_ts") if given[each]
    ]
    if others:
        raise InvalidArgument(
            f"--abandon does not go with {others[0]}",
            code="export_options_conflict",
            hint="it removes an export, and makes none",
        )
    removed = abandon(catalog_url, name)
    if as_json:
        own = {"status": "abandoned", "routes": None, "new_rows": 0}
        emit("export", {**export_fields(removed), **own, **_nothing_ran()})
        return
    objects = len(removed.manifest.objects)
    click.echo(
        f"abandoned export {name}: {counted(removed.rows, 'row')} in "
        f"{counted(objects, 'object is', 'objects are')} no longer registered; "
        "`workbench catalog gc` frees their space"
    )


def export_fields(export: Export) -> dict[str, Any]:
    """Return the JSON of one export, as the catalog has it."""
    from workbench.session.exporting_state import route_name, version_name

    return {
        "name": export.name,
        "datasets": [version_name(export.name), route_name(export.name)],
        "dataset_id": str(export.manifest.dataset_id),
        "cluster": export.cluster,
        "cluster_id": export.cluster_id,
        "source": export.source,
        "read_ts": export.read_ts,
        "read_at": export.read_at,
        "catalog_version": export.catalog_version,
        "status": "complete" if export.complete else "exporting",
        "groups": [
            {"group": state.group, "rows": state.rows, "parts": state.parts, "done": state.done}
            for state in export.groups.values()
        ],
        "rows": export.rows,
        "bytes": export.size,
    }


def _nothing_ran() -> dict[str, Any]:
    return {
        "resumed": False,
        "existing": True,
        "checked": False,
        "seconds": 0.0,
        "rows_per_second": None,
        "problems": [],
        "warnings": [],
    }


def _fields(answer: ExportAnswer) -> dict[str, Any]:
    rate = answer.rows_per_second
    return {
        **export_fields(answer.export),
        "routes": answer.routes,
        "new_rows": answer.new_rows,
        "resumed": answer.resumed,
        "existing": answer.existing,
        "checked": answer.checked,
        "seconds": round(answer.seconds, 3),
        "rows_per_second": None if rate is None else round(rate),
        "problems": [],
        "warnings": list(answer.warnings),
    }


def _print(answer: ExportAnswer) -> None:
    export = answer.export
    rate = answer.rows_per_second
    speed = "" if rate is None else f" ({rate:,.0f} rows/s)"
    again = ", resumed" if answer.resumed and not answer.existing else ""
    click.echo(f"export {export.name} of cluster {export.cluster} as of {export.read_at}")
    print_table(
        "Groups",
        [("group", "right"), ("rows", "right"), ("objects", "right")],
        [[str(s.group), f"{s.rows:,}", str(s.parts)] for s in export.groups.values()],
    )
    click.echo(
        f"{counted(answer.new_rows, 'row')} exported in {answer.seconds:.1f} s{speed}{again}; "
        f"{counted(export.rows, 'row')}, {size_text(export.size)} and "
        f"{counted(answer.routes, 'route')} of version {export.catalog_version} are stored"
        f"{', counted again' if answer.checked else ''}"
    )
    click.echo(f"next: workbench restore {export.name} --target URL")
