"""`workbench catalog compact`, `expire`, `rm` and `gc`: what a catalog needs now and then."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from workbench.cli.common import (
    Duration,
    catalog_option,
    emit,
    json_option,
    print_table,
    progress_bar,
    warn,
)
from workbench.model.times import rfc3339
from workbench.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workbench.catalog.compact import Compaction
    from workbench.catalog.expire import Expiry
    from workbench.catalog.gc import Found
    from workbench.session.upkeep import Collected

TARGET_MIB: Final = 128
_yes_option = click.option("--yes", "apply", is_flag=True, help="Do it; without this it is told.")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--target-mib",
    type=click.IntRange(1, 1024),
    default=TARGET_MIB,
    show_default=True,
    help="About how large an object becomes; from half of it on it counts as large.",
)
@click.option("--dry-run", is_flag=True, help="Tell what would be merged; write nothing.")
@catalog_option
@json_option
def compact(
    names: tuple[str, ...], target_mib: int, dry_run: bool, catalog_url: str, as_json: bool
) -> None:
    """Merge many small objects of datasets into few: all datasets, or those that NAMEs fit.

    No row comes, goes or changes. Load is merged by UTC day. The old objects stay, for time
    travel, until `workbench catalog gc` takes them. Others may write meanwhile.

    \b
    Examples:
      workbench catalog compact --dry-run
      workbench catalog compact
      workbench catalog compact 'orders/*' --target-mib 64
    """
    from workbench.session.upkeep import compact_catalog

    with progress_bar() as progress:
        found = compact_catalog(
            catalog_url,
            names,
            target_bytes=target_mib * 1024 * 1024,
            apply=not dry_run,
            progress=progress,
        )
    if as_json:
        fields = {"applied": not dry_run, "datasets": [_merged(each) for each in found]}
        emit("catalog_compact", fields)
        return
    if not found:
        click.echo("no dataset has small objects to merge")
        return
    columns = [("name", "left"), ("objects", "right"), ("small", "right"), ("bytes", "right")]
    rows = [
        [each.name, f"{each.objects_before:,}", f"{each.merged:,}", f"{each.merged_bytes:,}"]
        for each in found
    ]
    if not dry_run:
        columns.append(("objects now", "right"))
        rows = [[*row, f"{each.objects:,}"] for row, each in zip(rows, found, strict=True)]
    print_table("To be merged" if dry_run else "Merged", columns, rows)


@click.command()
@click.option(
    "--older-than",
    type=Duration(),
    required=True,
    metavar="DURATION",
    help="Drop rows whose time is so long ago, as 30d or 12h.",
)
@click.option(
    "--dataset",
    "names",
    multiple=True,
    metavar="PATTERN",
    help="A name, or a pattern with * and ?; may be given several times.  "
    "[default: all that have a time column]",
)
@_yes_option
@catalog_option
@json_option
def expire(
    older_than: int, names: tuple[str, ...], apply: bool, catalog_url: str, as_json: bool
) -> None:
    """Drop old load windows and accesses; without --yes it is only told what would go.

    Plans, approvals, receipts and routes stay unless one is named in full. What goes can be read
    with `--at` for as long as `workbench catalog gc` keeps it.

    \b
    Examples:
      workbench catalog expire --older-than 30d
      workbench catalog expire --older-than 30d --dataset 'orders/*' --yes
    """
    from workbench.session.upkeep import expire_catalog

    with progress_bar() as progress:
        found = expire_catalog(
            catalog_url,
            timedelta(milliseconds=older_than),
            names,
            apply=apply,
            progress=progress,
        )
    if found.plans:
        verb = "can no longer" if apply else "could no longer"
        warn(
            f"{counted(len(found.plans), 'plan')} ({', '.join(found.plans[:3])}"
            f"{', …' if len(found.plans) > 3 else ''}), made from load that goes, {verb} "
            "be verified"
        )
    if as_json:
        emit(
            "catalog_expire",
            {
                "applied": apply,
                "cutoff": rfc3339(found.cutoff),
                "datasets": [_expired(each) for each in found.datasets],
                "plans": list(found.plans),
                "unmatched": list(found.unmatched),
            },
        )
        return
    if names and set(found.unmatched) == set(names):
        fit = ", ".join(map(repr, found.unmatched))
        click.echo(f"no dataset matches {fit}; `workbench catalog ls` lists all")
        return
    for each in found.unmatched:
        warn(f"no dataset matches {each!r}")
    if not found.datasets:
        click.echo(f"no row is older than {rfc3339(found.cutoff)}")
        return
    print_table(
        f"{'Dropped' if apply else 'To be dropped'}: rows before {rfc3339(found.cutoff)}",
        [
            ("name", "left"),
            ("rows", "right"),
            ("rows left", "right"),
            ("objects", "right"),
            ("bytes", "right"),
            ("rewritten", "right"),
        ],
        [
            [
                each.name,
                _count(each.rows),
                _count(each.rows_left),
                f"{each.objects:,}",
                f"{each.bytes:,}",
                f"{each.rewritten:,}",
            ]
            for each in found.datasets
        ],
    )
    _say_undone(apply)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_yes_option
@catalog_option
@json_option
def rm(names: tuple[str, ...], apply: bool, catalog_url: str, as_json: bool) -> None:
    """Take datasets out of the catalog, all or none; without --yes it is only told.

    They can be read with `--at` for as long as `workbench catalog gc` keeps them.

    \b
    Examples:
      workbench catalog rm old-trace/access old-trace/load_window old-trace/route
      workbench catalog rm old-trace/access --yes
    """
    from workbench.session.upkeep import remove_datasets

    gone = remove_datasets(catalog_url, names, apply=apply)
    if as_json:
        datasets = [
            {
                "name": each.name,
                "row_count": each.row_count,
                "objects": len(each.objects),
                "bytes": sum(ref.size for ref in each.objects),
            }
            for each in gone
        ]
        emit("catalog_rm", {"applied": apply, "datasets": datasets})
        return
    for each in gone:
        rows = "rows not counted" if each.row_count is None else counted(each.row_count, "row")
        size = counted(sum(ref.size for ref in each.objects), "byte")
        click.echo(f"{'removed' if apply else 'to remove'}: {each.name}, {rows}, {size}")
    _say_undone(apply)


@click.command()
@click.option(
    "--keep",
    type=Duration(),
    default="90d",
    show_default=True,
    metavar="DURATION",
    help="How far back the catalog can be read with --at.",
)
@click.option(
    "--grace",
    type=Duration(),
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How long a writer or reader may take, 12h or more.",
)
@_yes_option
@catalog_option
@json_option
def gc(keep: int, grace: int, apply: bool, catalog_url: str, as_json: bool) -> None:
    """Delete objects that nothing refers to, and the log before what is kept.

    Without --yes it is only told. In two runs: what a run finds is condemned, by a record that
    no writer can overlook; a run that comes after the grace deletes it. Safe while others write;
    run it once a day.

    \b
    Examples:
      workbench catalog gc
      workbench catalog gc --yes
      workbench catalog gc --keep 14d --yes
    """
    from workbench.session.upkeep import collect_garbage

    with progress_bar() as progress:
        found = collect_garbage(
            catalog_url,
            keep=timedelta(milliseconds=keep),
            grace=timedelta(milliseconds=grace),
            apply=apply,
            progress=progress,
        )
    if as_json:
        emit("catalog_gc", _garbage(found))
        return
    _print_garbage(found)
    _say_undone(apply or found.survey.empty)


def _print_garbage(found: Collected) -> None:
    survey = found.survey
    kinds = (
        ("in use", survey.live, ""),
        ("kept for time travel", survey.held, ""),
        ("unreferenced, young", survey.young, _until(survey.young, survey.grace, "condemned")),
        ("condemned now" if found.applied else "to be condemned", survey.condemn, ""),
        ("condemned, waiting", survey.waiting, _until(survey.waiting, survey.grace, "deleted")),
        ("deleted" if found.applied else "to be deleted", survey.sweep, ""),
        ("not the catalog's own", survey.foreign, "stays"),
    )
    rows = [
        [name, f"{len(each):,}", f"{sum(one.size for one in each):,}", note]
        for name, each, note in kinds
    ]
    columns = [("objects", "left"), ("number", "right"), ("bytes", "right"), ("", "left")]
    print_table(f"Catalog at sequence {survey.seq}", columns, rows)
    floor = survey.floor if survey.new_floor is None else survey.new_floor
    if survey.new_floor is not None:
        verb = "can be read" if found.applied else "would be readable"
        click.echo(f"the catalog {verb} from sequence {floor} on, so far from {survey.floor}")
    if survey.trim:
        verb = "deleted" if found.applied else "to be deleted"
        click.echo(f"{verb}: {_trimmed(len(survey.trim))} before what is kept")
    if survey.trim_later and survey.trim_since is not None:
        when = rfc3339(survey.trim_since + survey.grace)
        click.echo(f"{_trimmed(survey.trim_later)} to be deleted from {when} on")
    if found.temporary:
        click.echo(f"deleted: {counted(found.temporary, 'abandoned temporary file')}")


def _trimmed(number: int) -> str:
    return counted(number, "record or checkpoint", "records and checkpoints")


def _garbage(found: Collected) -> dict[str, Any]:
    survey = found.survey
    kinds = ("live", "held", "young", "condemn", "waiting", "sweep", "foreign")
    objects = {
        kind: {
            "objects": len(getattr(survey, kind)),
            "bytes": sum(each.size for each in getattr(survey, kind)),
        }
        for kind in kinds
    }
    since = survey.trim_since
    return {
        "applied": found.applied,
        "seq": survey.seq,
        "floor": survey.floor,
        "new_floor": survey.new_floor,
        **objects,
        "young_until": _until_json(survey.young, survey.grace),
        "waiting_until": _until_json(survey.waiting, survey.grace),
        "condemn_keys": [each.key for each in survey.condemn],
        "sweep_keys": [each.key for each in survey.sweep],
        "trim_keys": list(survey.trim),
        "trim_later": survey.trim_later,
        "trim_until": None if since is None else rfc3339(since + survey.grace),
        "temporary_files": found.temporary,
    }


def _merged(each: Compaction) -> dict[str, Any]:
    return {
        "name": each.name,
        "objects_before": each.objects_before,
        "objects": each.objects,
        "merged": each.merged,
        "merged_bytes": each.merged_bytes,
        "made_bytes": each.made_bytes,
        "records": each.records,
    }


def _expired(each: Expiry) -> dict[str, Any]:
    return {
        "name": each.name,
        "rows": each.rows,
        "rows_left": each.rows_left,
        "objects": each.objects,
        "bytes": each.bytes,
        "rewritten": each.rewritten,
    }


def _count(number: int | None) -> str:
    return "not counted yet" if number is None else f"{number:,}"


def _until(found: Iterable[Found], grace: timedelta, verb: str) -> str:
    until = _until_json(found, grace)
    return "" if until is None else f"{verb} from {until} on"


def _until_json(found: Iterable[Found], grace: timedelta) -> str | None:
    first = min((each.since for each in found), default=None)
    return None if first is None else rfc3339(first + grace)


def _say_undone(done: bool) -> None:
    if not done:
        click.echo("nothing was changed; repeat with --yes to do it")
