"""`workbench catalog register` and `import-legacy`: datasets that others have written."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli.common import catalog_option, emit, json_option, progress_bar, warn
from workbench.errors import InvalidArgument
from workbench.report.words import counted

if TYPE_CHECKING:
    from workbench.session.legacy import Imported


@click.command()
@click.argument("name")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option(
    "--from",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A Parquet file of this machine, to be uploaded; may be given several times.",
)
@click.option("--row-count", type=click.IntRange(0), help="Refuse files with another number.")
@click.option("--property", "given", multiple=True, metavar="KEY=VALUE", help="What was assumed.")
@catalog_option
@json_option
def register(
    name: str,
    keys: tuple[str, ...],
    files: tuple[Path, ...],
    row_count: int | None,
    given: tuple[str, ...],
    catalog_url: str,
    as_json: bool,
) -> None:
    """Register Parquet objects as dataset NAME: KEYs below the catalog's root, or --from files.

    A dataset of this name gets the new objects in the place of the old ones, if the schema is the
    same; another schema is a conflict (exit status 5). The schema, sizes, hashes and row counts
    are read from the objects.

    \b
    Examples:
      workbench catalog register sales raw/2026/01.parquet raw/2026/02.parquet
      workbench catalog register sales --from jan.parquet --from feb.parquet
      workbench catalog register sales --from jan.parquet --property source=shop
    """
    from workbench.session.registering import Claim, register_files, register_keys
    from workbench.session.wiring import open_catalog

    if bool(keys) == bool(files):
        raise InvalidArgument(
            "name either KEYs or --from files",
            code="usage",
            hint="KEYs lie below the catalog's root; --from uploads files of this machine",
        )
    claim = Claim(name, row_count, dict(map(_property, given)))
    started = time.perf_counter()
    opened = open_catalog(catalog_url)
    with progress_bar() as progress:
        if files:
            outcome = register_files(opened, claim, files, progress)
        else:
            outcome = register_keys(opened, claim, keys, progress)
    answer, manifest = outcome.answer, outcome.answer.manifest
    size = sum(ref.size for ref in manifest.objects)
    if as_json:
        fields = {
            "name": manifest.name,
            "dataset_id": str(manifest.dataset_id),
            "schema_fingerprint": manifest.schema_fingerprint,
            "existing": answer.existing,
            "written": answer.written,
            "objects": len(manifest.objects),
            "bytes": size,
            "row_count": manifest.row_count,
            "uploaded": outcome.uploaded,
            "uploaded_bytes": outcome.uploaded_bytes,
            "seconds": time.perf_counter() - started,
            "problems": [],
        }
        emit("catalog_register", fields)
        return
    if not answer.written:
        click.echo(f"{name} is registered with these objects already")
        return
    verb = "replaced the objects of" if answer.existing else "registered"
    rows = "" if manifest.row_count is None else f", {counted(manifest.row_count, 'row')}"
    objects = counted(len(manifest.objects), "object")
    click.echo(f"{verb} {name}: {objects}, {counted(size, 'byte')}{rows}")


@click.command(name="import-legacy")
@click.argument("source")
@catalog_option
@click.option("--no-check", is_flag=True, help="Do not look whether all objects are there.")
@click.option("--dry-run", is_flag=True, help="Read and check all, and write nothing.")
@json_option
def import_legacy(
    source: str, catalog_url: str, no_check: bool, dry_run: bool, as_json: bool
) -> None:
    """Import the catalog of the old layout at SOURCE: one Parquet manifest per dataset.

    SOURCE holds _catalog/manifests/. Where it is the catalog's own root, its objects are referred
    to where they lie; else they are copied. All or nothing: manifests that are not sound, and
    objects that are missing, are listed, and nothing is imported. It may be run again.

    \b
    Examples:
      workbench catalog import-legacy /data/old --catalog ./catalog --dry-run
      workbench catalog import-legacy s3://bucket/old --catalog s3://bucket/new
    """
    from workbench.session.legacy import import_legacy as run

    started = time.perf_counter()
    with progress_bar() as progress:
        outcome = run(source, catalog_url, check=not no_check, dry_run=dry_run, progress=progress)
    if as_json:
        fields = {
            "source": outcome.source,
            "catalog": outcome.catalog,
            "dry_run": outcome.dry_run,
            "datasets": list(outcome.names),
            "written": list(outcome.written),
            "records": outcome.records,
            "referenced": outcome.referenced,
            "copied": outcome.copied,
            "copied_bytes": outcome.copied_bytes,
            "found": outcome.found,
            "unknown_columns": list(outcome.unknown_columns),
            "unknown_keys": list(outcome.unknown_keys),
            "seconds": time.perf_counter() - started,
            "problems": [],
        }
        emit("catalog_import", fields)
        return
    _show(outcome)


def _show(outcome: Imported) -> None:
    for column in outcome.unknown_columns:
        warn(f"column {column!r} of the manifests is not known, and is not imported")
    for key in outcome.unknown_keys:
        warn(f"{key} is no manifest, and is not imported")
    held = len(outcome.names) - len(outcome.written)
    verb = "would import" if outcome.dry_run else "imported"
    click.echo(
        f"{verb} {len(outcome.written)} of {counted(len(outcome.names), 'dataset')} "
        f"from {outcome.source}" + (f"; {held} are there already" if held else "")
    )
    if outcome.copied or outcome.found:
        again = f", {outcome.found} were there" if outcome.found else ""
        copied = counted(outcome.copied, "object")
        click.echo(f"copied {copied}, {counted(outcome.copied_bytes, 'byte')}{again}")
    if outcome.referenced:
        many = "objects stay where they lie"
        click.echo(counted(outcome.referenced, "object stays where it lies", many))
    if outcome.written and not outcome.dry_run:
        click.echo("their times are kept as properties legacy_created_at and legacy_updated_at")


def _property(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InvalidArgument(
            f"{text!r} is no property", code="usage", hint="write --property key=value"
        )
    return key, value
