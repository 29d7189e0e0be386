"""`workbench report`: one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from workbench.cli.common import catalog_option, emit, json_option, progress_bar
from workbench.cli.verify import on_option
from workbench.report.words import counted


@click.command()
@click.argument("plan_reference", metavar="PLAN")
@catalog_option
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
)
@on_option
@json_option
def report(
    plan_reference: str, catalog_url: str, out: Path, later: str | None, as_json: bool
) -> None:
    """Write the report of PLAN: heat, actions, proof, forecast and what came, in one HTML file.

    The file needs no network. What came after the plan's window is in it where it was collected,
    in the same collection or in a later one (--on).

    \b
    Examples:
      workbench report 3f2a90c1
      workbench report plan.json --out incident-42.html
    """
    from workbench.session.cluster import open_cluster
    from workbench.session.plans import resolve_plan
    from workbench.session.reporting import write_report
    from workbench.session.wiring import open_catalog

    catalog = open_catalog(catalog_url)
    found = resolve_plan(catalog, plan_reference)
    with progress_bar() as progress:
        progress("writing the report", 0, None)
        view = open_cluster(catalog, found.cluster)
        after = None if later is None else open_cluster(catalog, later)
        write_report(catalog, view, found, out, later=after)
    size = out.stat().st_size
    if as_json:
        emit("report", {"plan_id": found.plan_id, "report": str(out), "bytes": size})
        return
    click.echo(f"wrote {out}: {counted(size, 'byte')}")
