"""`workbench jobs`: what was executed, what came of it, and what to do about the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from workbench.cli.common import (
    Duration,
    catalog_option,
    emit,
    json_option,
    print_table,
    span_json,
)
from workbench.model.keys import printable_key
from workbench.model.times import rfc3339
from workbench.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.session.receipts import Receipt

EXIT_PARTLY: Final = 4


@click.group()
def jobs() -> None:
    """Show and follow the splits that `workbench apply` executes; go on with them, or give them up.

    \b
    Examples:
      workbench jobs list --cluster prod
      workbench jobs show 3f2a90c1/split-002 --json
      workbench jobs watch 3f2a90c1
      workbench jobs abandon 3f2a90c1 --yes
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


@jobs.command()
@click.argument("reference", metavar="PLAN")
@catalog_option
@click.option(
    "--every",
    "every_ms",
    type=Duration(),
    default="1s",
    show_default=True,
    metavar="DURATION",
    help="Between looks.",
)
@click.option(
    "--for", "for_ms", type=Duration(), metavar="DURATION", help="End after so long at the latest."
)
@json_option
def watch(
    reference: str, catalog_url: str, every_ms: int, for_ms: int | None, as_json: bool
) -> int:
    """Follow the jobs of PLAN, as somebody executes it, until nothing approved is left.

    It reads the catalog alone, so it may run anywhere and be ended at any time. Status 4 where the
    time is over and something is left. With --json one object a line, whenever something changed.

    \b
    Examples:
      workbench jobs watch 3f2a90c1
      workbench jobs watch 3f2a90c1 --every 5s --for 10m --json
    """
    from workbench.session.following import follow_jobs
    from workbench.session.plans import resolve_plan
    from workbench.session.wiring import open_catalog

    catalog = open_catalog(catalog_url)
    plan = resolve_plan(catalog, reference)
    left: tuple[str, ...] = ()
    seconds = None if for_ms is None else for_ms / 1_000
    for number, look in enumerate(
        follow_jobs(catalog, plan, every_s=every_ms / 1_000, for_s=seconds)
    ):
        left = look.left
        if as_json:
            if look.changed or number == 0:
                fields = [job_fields(job) for job in look.changed]
                emit("jobs_watch", {"jobs": fields, "left": list(left)})
            continue
        for job in look.changed:
            said = f": {job.error}" if job.error else ""
            click.echo(f"{rfc3339(job.updated_at)}  {job.job_id}  {_phase(job)}{said}")
    if not as_json:
        click.echo("nothing is left to do" if not left else f"left to apply: {' '.join(left)}")
    return EXIT_PARTLY if left else 0


@jobs.command()
@click.argument("reference", metavar="PLAN")
@catalog_option
@click.option("--to", "--target", "target", metavar="URL", help="The system, as for `apply`.")
@click.option("--by", metavar="NAME", envvar="WORKBENCH_USER", help="Who applies; default: you.")
@json_option
@click.pass_context
def retry(context: click.Context, /, reference: str, **options: Any) -> int:
    """Go on with PLAN: what was approved and is not applied is tried again.

    The same as `workbench apply PLAN`, which looks before it does anything, and splits nothing
    twice.

    \b
    Examples:
      workbench jobs retry 3f2a90c1
      workbench jobs retry 3f2a90c1 --to node://127.0.0.1:7001 --json
    """
    from workbench.cli.apply import apply

    done: int = context.invoke(apply, plan_reference=reference, dry_run=False, **options)
    return done


@jobs.command()
@click.argument("reference", metavar="PLAN")
@catalog_option
@click.option("--by", metavar="NAME", envvar="WORKBENCH_USER", help="Who decides; default: you.")
@click.option("--yes", is_flag=True, help="Do it; without this it is told.")
@json_option
def abandon(reference: str, catalog_url: str, by: str | None, yes: bool, as_json: bool) -> int:
    """Give up what is left of PLAN: withdraw what was approved and is not applied.

    A process that executes it stops before its next call. What was split stays split.

    \b
    Examples:
      workbench jobs abandon 3f2a90c1
      workbench jobs abandon 3f2a90c1 --yes --json
    """
    from workbench.session.approval import approve, user
    from workbench.session.following import left_to_apply
    from workbench.session.plans import resolve_plan
    from workbench.session.wiring import open_catalog, user_name

    catalog = open_catalog(catalog_url)
    plan = resolve_plan(catalog, reference)
    left = left_to_apply(catalog, plan)
    if left and yes:
        approver = user(user_name() if by is None else by)
        approve(catalog, plan, left, approver=approver, withdraw=True)
    if as_json:
        emit("jobs_abandon", {"plan_id": plan.plan_id, "actions": list(left), "done": yes})
    elif not left:
        click.echo("nothing to do: nothing approved is left")
    elif yes:
        click.echo(f"withdrawn: {' '.join(left)}")
    else:
        click.echo(f"would withdraw: {' '.join(left)}; add --yes to do it")
    return 0


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
    print_table(f"{counted(len(found), 'job')}, newest first", columns, rows)


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
