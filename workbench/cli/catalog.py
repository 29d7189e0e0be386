"""`workbench catalog`: create, list, show, check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli.common import catalog_option, emit, json_option, print_table, progress_bar
from workbench.model.times import rfc3339

if TYPE_CHECKING:
    from workbench.model.manifest import Manifest


@click.group()
def catalog() -> None:
    """Create, list and check the catalog.

    \b
    Examples:
      workbench catalog init
      workbench catalog ls --prefix plan/
      workbench catalog verify --json
    """


@catalog.command()
@catalog_option
@json_option
def init(catalog_url: str, as_json: bool) -> None:
    """Create an empty catalog.

    \b
    Example:
      workbench catalog init --catalog ./catalog
    """
    from workbench.session.wiring import create_catalog

    created = create_catalog(catalog_url)
    if as_json:
        emit("catalog_init", {"catalog": created.store.url, "catalog_uuid": str(created.uuid)})
        return
    click.echo(f"created catalog {created.uuid} at {created.store.url}")


@catalog.command()
@catalog_option
@click.option("--prefix", default="", help="Only names that start with this.")
@json_option
def ls(catalog_url: str, prefix: str, as_json: bool) -> None:
    """List the datasets, by name.

    \b
    Example:
      workbench catalog ls --prefix plan/
    """
    from workbench.session.wiring import open_catalog

    opened = open_catalog(catalog_url)
    manifests = opened.list(prefix)
    if as_json:
        datasets = [_fields(manifest) for manifest in manifests]
        emit("catalog_ls", {"seq": opened.seq, "datasets": datasets})
        return
    print_table(
        f"{len(manifests)} datasets at sequence {opened.seq}",
        [("name", "left"), ("rows", "right"), ("bytes", "right"), ("updated", "left")],
        [
            [
                m.name,
                "" if m.row_count is None else f"{m.row_count:,}",
                f"{sum(o.size for o in m.objects):,}",
                rfc3339(m.updated_at),
            ]
            for m in manifests
        ],
    )


@catalog.command()
@click.argument("name")
@catalog_option
@json_option
def show(name: str, catalog_url: str, as_json: bool) -> None:
    """Show one dataset: id, schema fingerprint, objects, and what was assumed.

    \b
    Example:
      workbench catalog show cloudphysics/access
    """
    from workbench.session.wiring import open_catalog

    manifest = open_catalog(catalog_url).get(name)
    if as_json:
        emit("catalog_show", _fields(manifest))
        return
    for label, value in (
        ("name", manifest.name),
        ("id", str(manifest.dataset_id)),
        ("fingerprint", manifest.schema_fingerprint),
        ("rows", "not counted" if manifest.row_count is None else f"{manifest.row_count:,}"),
        ("created", rfc3339(manifest.created_at)),
        ("updated", rfc3339(manifest.updated_at)),
    ):
        click.echo(f"{label:<12} {value}")
    for key, value in sorted(manifest.properties.items()):
        click.echo(f"{key:<20} {value}")
    for each in manifest.objects:
        click.echo(f"object       {each.key}, {each.size:,} bytes, sha256 {each.sha256}")


@catalog.command()
@catalog_option
@json_option
def verify(catalog_url: str, as_json: bool) -> int:
    """Read every record and object and check hashes and chain; exit status 1 where one is bad.

    Works on a catalog that does not open.

    \b
    Example:
      workbench catalog verify --catalog ./catalog
    """
    from workbench.session.wiring import audit_catalog

    with progress_bar() as progress:
        progress("checking", 0, None)
        found = audit_catalog(catalog_url)
    if as_json:
        problems = [{"key": each.key, "reason": each.reason} for each in found.problems]
        counts = {"seq": found.seq, "records": found.records, "checkpoints": 0}
        emit("catalog_verify", {**counts, "objects": found.objects, "problems": problems})
        return 1 if problems else 0
    for each in found.problems:
        click.echo(f"{each.key}: {each.reason}")
    state = f"{len(found.problems)} problems" if found.problems else "no problem"
    click.echo(f"{found.records} records and {found.objects} objects checked: {state}")
    return 1 if found.problems else 0


def _fields(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "dataset_id": str(manifest.dataset_id),
        "schema_fingerprint": manifest.schema_fingerprint,
        "row_count": manifest.row_count,
        "objects": [{"key": o.key, "size": o.size, "sha256": o.sha256} for o in manifest.objects],
        "created_at": rfc3339(manifest.created_at),
        "updated_at": rfc3339(manifest.updated_at),
        "properties": dict(manifest.properties),
    }
