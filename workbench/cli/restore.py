"""`workbench restore`: an empty cluster, brought to the history of an export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli.common import catalog_option, emit, json_option, print_table, warn
from workbench.cli.export import export_fields, size_text, tally_bar
from workbench.errors import InvalidArgument
from workbench.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.session.exporting_state import Export
    from workbench.session.restoring import RestoreAnswer


class GroupMapping(click.ParamType[tuple[int, int]]):
    """EXPORTED=TARGET, two group numbers."""

    name = "mapping"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return both numbers; click refuses what is none."""
        if isinstance(value, tuple):
            return value
        source, equals, target = str(value).partition("=")
        digits = all(n.isascii() and n.isdecimal() and len(n) < 20 for n in (source, target))
        if not equals or not digits:
            self.fail(f"{value!r} is no mapping; write EXPORTED=TARGET, as 3=1.", param, ctx)
        return int(source), int(target)


@click.command()
@click.argument("name", required=False)
@click.option("--target", metavar="URL", help="The empty cluster, as node://HOST:PORT.")
@catalog_option
@click.option(
    "--map-group",
    "mapping",
    type=GroupMapping(),
    multiple=True,
    metavar="EXPORTED=TARGET",
    help="Give a group of the export to another one; may be repeated.",
)
@click.option("--resume", is_flag=True, help="Only go on with a restore that has begun.")
@click.option("--dry-run", is_flag=True, help="Check export and cluster; change nothing.")
@click.option("--check", is_flag=True, help="Compare every row at the end, not only some.")
@json_option
def restore(name: str | None, catalog_url: str, as_json: bool, **given: Any) -> int:
    """Bring an empty cluster to the history of the export NAME; without NAME, list the exports.

    All of the export is read and checked first, then every group takes its rows, then the routes
    are saved, and only then does the cluster serve. Killed at any point, the same command goes
    on where it stopped. A cluster that holds data is refused. See docs/export.md.

    \b
    Examples:
      workbench restore
      workbench restore nightly-2026-11-21 --target node://127.0.0.1:7101 --dry-run
      workbench restore nightly-2026-11-21 --target node://127.0.0.1:7101
      workbench restore nightly-2026-11-21 --target node://127.0.0.1:7101 --map-group 3=1 --json
    """
    if name is None:
        _list(catalog_url, as_json=as_json)
        return 0
    if given["target"] is None:
        raise InvalidArgument(
            "nothing says into which cluster to restore",
            code="target_missing",
            hint="name an empty one with --target, as node://HOST:PORT",
        )
    from workbench.session.restoring import RestoreOptions, restore_cluster

    options = RestoreOptions(
        mapping=_mapping(given["mapping"]),
        resume=given["resume"],
        dry_run=given["dry_run"],
        check=given["check"],
    )
    with tally_bar() as progress:
        answer = restore_cluster(name, given["target"], catalog_url, options, progress)
    if as_json:
        emit("restore", _fields(answer))
    else:
        _print(answer)
    return 1 if answer.problems else 0


def _mapping(pairs: Sequence[tuple[int, int]]) -> dict[int, int]:
    mapping = dict(pairs)
    for source, target in pairs:
        if mapping[source] != target:
            raise InvalidArgument(
                f"--map-group gives group {source} to {target} and to {mapping[source]}",
                code="group_mapping_invalid",
                hint="name each group of the export once",
            )
    return mapping


def _list(catalog_url: str, *, as_json: bool) -> None:
    from workbench.session.exporting_state import exports
    from workbench.session.wiring import open_catalog

    found = exports(open_catalog(catalog_url))
    if as_json:
        emit("restore", {**_of_none("listed"), "exports": [export_fields(each) for each in found]})
    elif not found:
        click.echo("there is no export; make one with workbench export --target URL")
    else:
        _print_exports(found)


def _print_exports(found: Sequence[Export]) -> None:
    names = "name,cluster,as of,status,groups,rows,bytes"
    right = {"groups", "rows", "bytes"}
    print_table(
        "Exports",
        [(name, "right" if name in right else "left") for name in names.split(",")],
        [
            [
                each.name,
                each.cluster,
                each.read_at,
                "complete" if each.complete else "exporting",
                str(len(each.groups)),
                f"{each.rows:,}",
                f"{each.size:,}",
            ]
            for each in found
        ],
    )


def _of_none(status: str) -> dict[str, Any]:
    """Return the answer's fields as they are before anything is known."""
    return {
        "name": None,
        "target": None,
        "status": status,
        "dry_run": False,
        "restore_id": None,
        "read_ts": None,
        "read_at": None,
        "catalog_version": None,
        "groups": [],
        "routes": None,
        "rows": None,
        "bytes": None,
        "new_rows": 0,
        "resumed": False,
        "checked": False,
        "seconds": 0.0,
        "rows_per_second": None,
        "exports": None,
        "problems": [],
        "warnings": [],
    }


def _status(answer: RestoreAnswer) -> str:
    if answer.problems:
        return "damaged"
    if answer.dry_run:
        return "planned"
    return "already_restored" if answer.existing else "restored"


def _fields(answer: RestoreAnswer) -> dict[str, Any]:
    export, plan, rate = answer.export, answer.plan, answer.rows_per_second
    fields = {
        **_of_none(_status(answer)),
        "name": export.name,
        "target": answer.target,
        "dry_run": answer.dry_run,
        "read_ts": export.read_ts,
        "read_at": export.read_at,
        "rows": export.rows,
        "bytes": export.size,
        "new_rows": answer.new_rows,
        "resumed": answer.resumed,
        "checked": answer.checked,
        "seconds": round(answer.seconds, 3),
        "rows_per_second": None if rate is None else round(rate),
        "problems": [{"key": each.key, "reason": each.reason} for each in answer.problems],
        "warnings": list(answer.warnings),
    }
    if plan is not None:
        fields |= {
            "restore_id": plan.restore_id.hex(),
            "catalog_version": plan.snapshot.catalog_version,
            "routes": len(plan.snapshot.routes),
            "groups": [
                {
                    "group": group.group,
                    "sources": list(group.sources),
                    "routes": len(group.spans),
                    "rows": group.rows,
                    "imports": group.tables,
                }
                for group in plan.groups
            ],
        }
    return fields


def _print(answer: RestoreAnswer) -> None:
    export, plan = answer.export, answer.plan
    for problem in answer.problems:
        click.echo(f"{problem.key}: {problem.reason}")
    if plan is None:
        problems = counted(len(answer.problems), "problem")
        click.echo(f"export {export.name} cannot be restored: {problems}")
        return
    for warning in answer.warnings:
        warn(warning)
    click.echo(f"export {export.name} as of {export.read_at} into {answer.target}")
    print_table(
        "Groups",
        [("group", "right"), ("from groups", "left"), ("routes", "right"), ("rows", "right")],
        [
            [str(g.group), ", ".join(map(str, g.sources)), str(len(g.spans)), f"{g.rows:,}"]
            for g in plan.groups
        ],
    )
    routes = counted(len(plan.snapshot.routes), "route")
    routes += f" of version {plan.snapshot.catalog_version}"
    if answer.dry_run:
        state = "would go on" if answer.resumed else "would be restored"
        click.echo(
            f"{counted(plan.rows, 'row')}, {size_text(plan.size)} and {routes} {state}; "
            "none was sent"
        )
        return
    rate = answer.rows_per_second
    speed = "" if rate is None else f" ({rate:,.0f} rows/s)"
    again = ", resumed" if answer.resumed and not answer.existing else ""
    compared = "every row compared" if answer.checked else "some rows of each object compared"
    done = "was restored before" if answer.existing else "restored"
    new, there = counted(answer.new_rows, "row"), counted(plan.rows, "row")
    click.echo(
        f"{done}: {new} imported in {answer.seconds:.1f} s{speed}{again}; "
        f"{there} and {routes} are there, {compared}"
    )
