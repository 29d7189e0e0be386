"""Check: did the forecast come true, and one page that tells all of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workbench.api.plans import Plan, find_plan
from workbench.api.verification import Report, Verification, report_of, verification_of
from workbench.api.words import in_python
from workbench.session.receipts import applied_of

if TYPE_CHECKING:
    import os

    from workbench.api.catalog import Catalog
    from workbench.api.places import Moment


@in_python
def verify(
    plan: Plan | str,
    catalog: Catalog | str | os.PathLike[str] | None = None,
    *,
    on: str | None = None,
    since: Moment = None,
    until: Moment = None,
) -> Verification:
    """Compare a plan's forecast with the load that came after its window.

    Also checks the plan's numbers and its proof against the load from which it was made. On a
    live cluster it tells what came on the routes as they are, from the first whole window after
    the last call; on a trace, what the rest of it would have been on the plan's routes.

    Examples:
        >>> checked = wb.verify(plan)
        >>> checked.share_after < checked.share_before
        True
        >>> checked.execution
        'replayed'

    Args:
        plan: A plan, or its id, or enough of its first digits, or a file.
        catalog: Where a plan that is only named is looked up.
        on: A later collection of the same cluster under another name, to replay instead.
        since: Start of the load to replay; None is the end of the plan's window.
        until: End of it.

    Raises:
        NotFound: `load_absent`: nothing came after the plan's window yet.
        Conflict: `plan_stale`: the plan was not made from the load in this catalog.
    """
    found = plan if isinstance(plan, Plan) else find_plan(plan, catalog)
    applied = applied_of(found.catalog.writable(), found.model)
    return verification_of(
        found.catalog, found.model, on=on, since=since, until=until, applied=applied
    )


@in_python
def report(
    plan: Plan | str,
    path: str | os.PathLike[str] = "report.html",
    catalog: Catalog | str | os.PathLike[str] | None = None,
    *,
    on: str | None = None,
) -> Report:
    """Write a plan's report: heat, actions, proof, forecast and what came, in one HTML file.

    It opens offline and is under 3 MB. Parts for which there are no data yet are left out.

    Examples:
        >>> made = wb.report(plan, "incident.html")
        >>> made.path.name, made.bytes < 3_000_000
        ('incident.html', True)

    Args:
        plan: A plan, or its id, or enough of its first digits, or a file.
        path: The file; its name ends with .html.
        catalog: Where a plan that is only named is looked up.
        on: A later collection of the same cluster under another name.

    Raises:
        InvalidArgument: `report_format_unknown`.
        Storage: It cannot be written; an older one stays as it is.
    """
    found = plan if isinstance(plan, Plan) else find_plan(plan, catalog)
    return report_of(found.catalog, found.model, Path(path), on=on)
