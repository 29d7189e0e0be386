"""Check, as answers: the forecast beside what came, and the report that tells all of it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pyarrow as pa

from workbench.api.places import Moment, moment_text
from workbench.api.results import Result
from workbench.api.show import NULL, printable
from workbench.api.words import python_words
from workbench.cli.verify import verdict_text
from workbench.model.times import rfc3339
from workbench.session.reporting import write_report
from workbench.session.verify import NOTHING_APPLIED, Execution, verify_plan

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from workbench.api.catalog import Catalog
    from workbench.model.plan import Plan
    from workbench.session.receipts import Applied
    from workbench.session.verify import VerifyAnswer


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Verification(Result):
    """A plan's forecast beside what came: a row per route that the plan leaves.

    Attributes:
        plan_id: Of the plan.
        since: Start of the load that was replayed.
        until: End of it, exclusive.
        outcome: `held`, `short`, `failed`; None where the plan's own numbers do not hold.
        share_before: The hottest route's share without the plan.
        share_forecast: What the plan promised.
        share_after: What came, replayed on the routes that the plan leaves.
        share_now: What came on the routes as they are; None for a trace, or not measured.
        drift: Share of the load that came on other routes than forecast, 0 to 1.
        drifted: Whether that is so much that one should plan again.
        execution: `replayed`, `applied`, `partly`, `not_applied`, `elsewhere`: whether this
            tells what came, or what would have come.
        false_claims: What of the plan's own numbers and proof does not hold; empty is good.
        answer: All of it, as the layers below know it.
    """

    plan_id: str
    since: datetime
    until: datetime
    outcome: str | None
    share_before: float
    share_forecast: float
    share_after: float
    share_now: float | None
    drift: float
    drifted: bool
    execution: str
    false_claims: tuple[str, ...]
    answer: VerifyAnswer

    @property
    def held(self) -> bool:
        """Whether the forecast held, and the plan's own numbers and proof too."""
        return self.outcome == "held"

    def by_window(self) -> Result:
        """Return the hottest route's share in each window, without the plan and with it.

        Each window has a hottest route of its own, so these shares are higher than that of all
        windows together, which the forecast is about. Null where a window has no load.

        Examples:
            >>> list(wb.verify(plan).by_window()[0])
            ['window_start', 'share_before', 'share_after']
        """
        before, after = self.answer.replayed.before, self.answer.replayed.after
        shares = {
            "window_start": pa.array(before.times, pa.timestamp("us", tz="UTC")),
            "share_before": pa.array(before.max_share_per_window, pa.float64(), from_pandas=True),
            "share_after": pa.array(after.max_share_per_window, pa.float64(), from_pandas=True),
        }
        return Result(
            pa.table(shares),
            "the hottest route's share, window by window",
            notes=(_WINDOW_COLUMNS,),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written: one HTML file that opens offline and asks nobody for anything.

    Attributes:
        path: The file.
        plan_id: Of the plan that it tells of.
        bytes: Its size.
    """

    path: Path
    plan_id: str
    bytes: int

    @property
    def html(self) -> str:
        """The page itself."""
        return self.path.read_text(encoding="utf-8")

    def _repr_html_(self) -> str:
        place, name = quote(str(self.path)), escape(printable(str(self.path)))
        return (
            f'<p>report of plan {escape(self.plan_id)}: <a href="{place}">{name}</a>, '
            f"{self.bytes:,} bytes</p>"
        )


def verification_of(  # noqa: PLR0913 - the question's own parts, named
    catalog: Catalog,
    plan: Plan,
    *,
    on: str | None,
    since: Moment,
    until: Moment,
    applied: Applied = NOTHING_APPLIED,
) -> Verification:
    """Replay the load that came after the plan's window; errors as of `wb.verify`."""
    view = catalog.view(plan.cluster)
    answer = verify_plan(
        view,
        plan,
        since=moment_text(since),
        until=moment_text(until),
        later=None if on is None else catalog.view(on),
        applied=applied,
    )
    replayed = answer.replayed
    total = int(replayed.after.totals.sum())
    rows: list[dict[str, Any]] = [
        {"start": span.start, "end": span.end, "load": int(load), "share": int(load) / total}
        for span, load in zip(replayed.after.spans, replayed.after.totals, strict=True)
        if total
    ]
    claims = answer.false_claims
    said = f"its numbers do not hold: {claims[0]}" if claims else python_words(verdict_text(answer))
    shares = (
        f"the hottest route's share: {replayed.before.max_share:.1%} without the plan, "
        f"{replayed.forecast_share:.1%} forecast, {replayed.after.max_share:.1%} "
        f"{'would have come' if answer.execution.counterfactual else 'came'}"
    )
    return Verification(
        pa.Table.from_pylist(rows, schema=_ROUTES),
        f"plan {plan.plan_id}: {said}",
        notes=(
            shares,
            f"{_CAME[answer.execution]}: {rfc3339(replayed.since)} to {rfc3339(replayed.until)}",
            _ROUTE_COLUMNS,
        ),
        warnings=answer.warnings,
        plan_id=plan.plan_id,
        since=replayed.since,
        until=replayed.until,
        outcome=None if claims else replayed.outcome.value,
        share_before=replayed.before.max_share,
        share_forecast=replayed.forecast_share,
        share_after=replayed.after.max_share,
        share_now=answer.max_share_now,
        drift=replayed.drift,
        drifted=replayed.drifted,
        execution=answer.execution.value,
        false_claims=claims,
        answer=answer,
    )


def report_of(catalog: Catalog, plan: Plan, path: Path, *, on: str | None) -> Report:
    """Write the report of a plan; errors as of `wb.report`."""
    view = catalog.view(plan.cluster)
    later = None if on is None else catalog.view(on)
    write_report(catalog.writable(), view, plan, path, later=later)
    return Report(path, plan.plan_id, path.stat().st_size)


_ROUTE_COLUMNS: Final = (
    "load: what was counted in that time on each route that the plan leaves; share: its part of "
    "all of them; .by_window() has them over time"
)
_WINDOW_COLUMNS: Final = (
    "share_before, share_after: of the load in that window, the part on the route that was hottest "
    f"in it, on the routes as they were and as the plan leaves them; {NULL} where there was no load"
)
_CAME = {
    Execution.REPLAYED: "replayed",
    Execution.APPLIED: "came after it was applied",
    Execution.PARTLY: "replayed, as it is applied in part",
    Execution.NOT_APPLIED: "replayed, as it is not applied",
    Execution.ELSEWHERE: "replayed, as the routes are others by now",
}
_ROUTES = pa.schema(
    [
        pa.field("start", pa.binary()),
        pa.field("end", pa.binary()),
        pa.field("load", pa.int64()),
        pa.field("share", pa.float64()),
    ]
)
