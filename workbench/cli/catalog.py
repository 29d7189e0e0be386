"""`workbench catalog`: create, list, show, look back, check, repair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli.catalog_import import import_legacy, register
from workbench.cli.catalog_upkeep import compact, expire, gc, rm
from workbench.cli.common import catalog_option, emit, json_option, print_table, progress_bar, warn
from workbench.model.times import parse_time, rfc3339
from workbench.report.words import counted

if TYPE_CHECKING:
    from workbench.catalog.catalog import Catalog
    from workbench.catalog.travel import CatalogAt
    from workbench.model.manifest import Manifest


_at_option = click.option(
    "--at", metavar="SEQ|TIME", help="As it was after this record, or at this time (RFC 3339)."
)


@click.group()
def catalog() -> None:
    """Create, list, check and repair the catalog.

    \b
    Examples:
      workbench catalog init
      workbench catalog ls --prefix plan/
      workbench catalog at 2026-11-21T12:00:00Z
      workbench catalog verify --json
    """


for _command in (register, import_legacy, compact, expire, rm, gc):
    catalog.add_command(_command)


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
@_at_option
@json_option
def ls(catalog_url: str, prefix: str, at: str | None, as_json: bool) -> None:
    """List the datasets, by name.

    \b
    Examples:
      workbench catalog ls --prefix plan/
      workbench catalog ls --at 128
    """
    opened = _open(catalog_url, at)
    manifests = opened.list(prefix)
    if as_json:
        datasets = [_fields(manifest) for manifest in manifests]
        emit("catalog_ls", {"seq": opened.seq, "datasets": datasets})
        return
    _print_datasets(manifests, f"at sequence {opened.seq}")


@catalog.command(name="at")
@click.argument("point", metavar="SEQ|TIME")
@catalog_option
@json_option
def look_back(point: str, catalog_url: str, as_json: bool) -> None:
    """Show what the catalog was after record SEQ, or at TIME (RFC 3339).

    \b
    Examples:
      workbench catalog at 128
      workbench catalog at 2026-11-21T12:00:00Z
    """
    then = _open(catalog_url, point)
    manifests = then.list()
    since = None if then.committed_at is None else rfc3339(then.committed_at)
    if as_json:
        datasets = [_fields(manifest) for manifest in manifests]
        emit("catalog_at", {"seq": then.seq, "committed_at": since, "datasets": datasets})
        return
    click.echo("before the first record" if since is None else f"committed {since}")
    _print_datasets(manifests, f"at sequence {then.seq}")


@catalog.command()
@click.argument("name")
@catalog_option
@_at_option
@json_option
def show(name: str, catalog_url: str, at: str | None, as_json: bool) -> None:
    """Show one dataset: id, schema fingerprint, objects, and what was assumed.

    \b
    Examples:
      workbench catalog show cloudphysics/access
      workbench catalog show cloudphysics/access --at 2026-11-21T12:00:00Z
    """
    manifest = _open(catalog_url, at).get(name)
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
        click.echo(f"object       {each.key}, {counted(each.size, 'byte')}, sha256 {each.sha256}")


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
    from workbench.catalog.travel import ahead_notice
    from workbench.session.system import SystemClock
    from workbench.session.wiring import audit_catalog

    with progress_bar() as progress:
        found = audit_catalog(catalog_url, progress)
    ahead = ahead_notice(found.committed_at, SystemClock().now())
    notes = [] if ahead is None else [ahead]
    if as_json:
        problems = [{"key": each.key, "reason": each.reason} for each in found.problems]
        counts = {"seq": found.seq, "records": found.records, "checkpoints": found.checkpoints}
        rest = {"objects": found.objects, "condemned": found.condemned, "problems": problems}
        rest["information"] = notes
        emit("catalog_verify", {**counts, **rest})
        return 1 if problems else 0
    for each in found.problems:
        click.echo(f"{each.key}: {each.reason}")
    for note in notes:
        click.echo(f"information: {note}")
    state = counted(len(found.problems), "problem") if found.problems else "no problem"
    click.echo(
        f"{counted(found.records, 'record')}, {counted(found.checkpoints, 'checkpoint')} and "
        f"{counted(found.objects, 'object')} checked: {state}"
    )
    if found.problems:
        click.echo("`workbench catalog repair` says what can be done")
    return 1 if found.problems else 0


@catalog.command()
@catalog_option
@click.option("--yes", "apply", is_flag=True, help="Do it; without this it is only said.")
@json_option
def repair(catalog_url: str, apply: bool, as_json: bool) -> int:
    """Say what makes a damaged catalog open and verify again; do it with --yes.

    What is damaged is moved to `_catalog/v1/quarantine/`, with all its bytes; nothing that is
    intact is removed. Where a record is lost, or the past that was before it, the dry run says so
    first. The exit status is 1 where something is left to do, or cannot be repaired. What to do
    for each kind of damage: docs/catalog.md.

    \b
    Examples:
      workbench catalog repair
      workbench catalog repair --yes
    """
    from workbench.session.wiring import repair_catalog

    with progress_bar() as progress:
        found = repair_catalog(catalog_url, apply=apply, progress=progress)
    unfinished = bool(found.left) or (bool(found.actions) and not found.applied)
    if as_json:
        actions = [{"step": a.step.value, "key": a.key, "text": a.text} for a in found.actions]
        left = [{"key": each.key, "reason": each.reason} for each in found.left]
        done = {"applied": found.applied, "actions": actions, "lost": list(found.lost)}
        clues = {"changed": list(found.changed), "suspected": list(found.suspected)}
        told = {"floor": found.floor, **clues, "notes": list(found.notes)}
        emit("catalog_repair", {**done, "left": left, **told})
        return 1 if unfinished else 0
    for action in found.actions:
        click.echo(f"{'done' if found.applied else 'to do'}: {action.key}: {action.text}")
    for note in found.notes:
        click.echo(f"note: {note}")
    for each in found.left:
        click.echo(f"beyond repair: {each.key}: {each.reason}")
    if not (found.actions or found.left):
        click.echo("nothing to repair")
    elif found.actions and not found.applied:
        click.echo("nothing was changed; run `workbench catalog repair --yes` to do this")
    return 1 if unfinished else 0


def _open(url: str, at: str | None) -> Catalog | CatalogAt:
    """Open the catalog, as it is or as it was; what could be passed over goes to stderr."""
    from workbench.session.wiring import open_catalog

    opened = open_catalog(url)
    if at is None:
        return opened
    told = opened.notices  # by opening it
    try:
        return opened.at(int(at) if at.isdecimal() and at.isascii() else parse_time(at))
    finally:
        for notice in opened.notices:
            if notice not in told:
                warn(notice)


def _print_datasets(manifests: list[Manifest], when: str) -> None:
    print_table(
        f"{counted(len(manifests), 'dataset')} {when}",
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
