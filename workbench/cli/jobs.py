"""`workbench jobs`: what was executed, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli.common import catalog_option, emit, json_option, print_table, span_json
from workbench.model.keys import printable_key
from workbench.model.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.session.receipts import Receipt


@click.group()
def jobs() -> None:
    """Show the splits that `workbench apply` executed, and what came of them.

    \b
    Examples:
      workbench jobs list --cluster prod
      workbench jobs show 3f2a90c1
      workbench jobs show 3f2a90c1/split-002 --json
    """


@jobs.command(name="list")
@catalog_option
@click.option("--cluster", metavar="NAME", help="Only jobs on this cluster.")
@click.option("--plan", "plan_reference", metavar="PLAN", help="Only jobs of this plan.")
@json_option
def list_(catalog_url: str, cluster: str | None, plan_reference: str | None, as_json: bool) -> None:
    """List the jobs, newest first: one per action that was tried, with its newest try.

    \b
    Examples:
      workbench jobs list
      workbench jobs list --plan 3f2a90c1 --json
    """
    from workbench.session.plans import resolve_plan
    from workbench.session.receipts import list_jobs
    from workbench.session.wiring import open_catalog

    catalog = open_catalog(catalog_url)
    plan_id = None if plan_reference is None else resolve_plan(catalog, plan_reference).plan_id
    found = list_jobs(catalog, cluster=cluster, plan_id=plan_id)
    if as_json:
        emit("jobs", {"jobs": [job_fields(job) for job in found]})
    elif not found:
        click.echo("nothing was executed yet")
    else:
        _print_jobs(found)


@jobs.command()
@click.argument("reference", metavar="PLAN[/ACTION]")
@catalog_option
@json_option
def show(reference: str, catalog_url: str, as_json: bool) -> None:
    """Show the jobs of a plan, or one job with all that is known of it.

    \b
    Examples:
      workbench jobs show 3f2a90c1
      workbench jobs show 3f2a90c1/split-002
    """
    from workbench.session.receipts import find_jobs
    from workbench.session.wiring import open_catalog

    found = find_jobs(open_catalog(catalog_url), reference)
    if as_json:
        emit("jobs", {"jobs": [job_fields(job) for job in found]})
    elif len(found) > 1:
        _print_jobs(found)
    else:
        _print_job(found[0])


def job_fields(job: Receipt) -> dict[str, Any]:
    """Return the JSON of one job.

    A split within a group moves nothing: rows and bytes are zero, there is no target group, and
    neither a fence nor a gap to be measured.
    """
    return {
        "job_id": job.job_id,
        "phase": _phase(job),
        "route_id": job.route_id,
        "split_key": job.split_key.hex(),
        "source_group": job.source_group,
        "target_group": job.target_group,
        "rows": 0,
        "bytes": 0,
        "fence_ms": None,
        "read_gap_ms": None,
        "last_error": job.error,
        "started_at": rfc3339(job.started_at),
        "updated_at": rfc3339(job.updated_at),
        "cluster": job.cluster,
        "plan_id": job.plan_id,
        "action_id": job.action_id,
        "status": job.status.value,
        "span": span_json(job.span),
        "expected_version": job.expected_version,
        "catalog_version": job.catalog_version,
        "children": [each for each in (job.left_route_id, job.right_route_id) if each is not None],
        "repeated": job.repeated,
        "request_id": job.request_id,
        "by": job.by,
    }


def _phase(job: Receipt) -> str:
    return "DONE" if job.catalog_version is not None else "FAILED"


def _children(job: Receipt) -> str:
    ids = (job.left_route_id, job.right_route_id)
    return " and ".join(str(each) for each in ids if each is not None)


def _found_made(job: Receipt) -> str:
    if job.catalog_version is None:
        return ""
    return "yes" if job.repeated else "no"


def _print_jobs(found: Sequence[Receipt]) -> None:
    names = "job,cluster,phase,route,split key,children,found made,version,updated,error"
    right = {"route", "version"}
    rows = [
        [
            job.job_id,
            job.cluster,
            _phase(job),
            str(job.route_id),
            printable_key(job.split_key),
            _children(job),
            _found_made(job),
            "" if job.catalog_version is None else str(job.catalog_version),
            rfc3339(job.updated_at),
            job.error or "",
        ]
        for job in found
    ]
    columns = [(name, "right" if name in right else "left") for name in names.split(",")]
    print_table(f"{len(found)} jobs, newest first", columns, rows)


def _print_job(job: Receipt) -> None:
    lines = (
        ("job", job.job_id),
        ("cluster", job.cluster),
        ("phase", f"{_phase(job)} ({job.status.value})"),
        ("route", f"{job.route_id}, {job.span}, on group {job.source_group}"),
        ("split key", printable_key(job.split_key)),
        ("children", _children(job) or "none"),
        ("version expected", str(job.expected_version)),
        ("version after", "unchanged" if job.catalog_version is None else str(job.catalog_version)),
        ("request id", job.request_id),
        ("found made", _found_made(job) or "no"),
        ("by", job.by),
        ("started", rfc3339(job.started_at)),
        ("updated", rfc3339(job.updated_at)),
        ("error", job.error or "none"),
    )
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name:<{width}}  {value}")
