"""`workbench compare`: rival policies on the same load, replayed on what came next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from workbench.cli.common import (
    catalog_option,
    cluster_option,
    emit,
    json_option,
    print_table,
    progress_bar,
    window_options,
)
from workbench.cli.look import objective_option
from workbench.model.plan import OBJECTIVES
from workbench.model.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.session.comparing import Comparison, PolicyResult

ROUTES_MAX: Final = 10_000
SEED_MAX: Final = 2**63 - 1
BEST: Final = "*"


@click.command()
@catalog_option
@cluster_option
@window_options
@objective_option
@click.option(
    "--policies",
    default="all",
    show_default=True,
    metavar="NAME,...",
    help="Which to compare: all, or some of robust, exact, elastickv, cockroachdb, tikv, pd, "
    "median, even-keys, none.",
)
@click.option(
    "--routes",
    default="6,12,20",
    show_default=True,
    metavar="N,...",
    help="Into how many routes each policy cuts, from 1.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, SEED_MAX),
    default=1,
    show_default=True,
    help="Decides what the sampling policies sample.",
)
@json_option
def compare(
    catalog_url: str,
    cluster: str | None,
    since: str | None,
    until: str | None,
    objective: str,
    policies: str,
    routes: str,
    seed: int,
    as_json: bool,
) -> None:
    """Cut the load up to --until by rival policies, and replay what came after it.

    Every policy starts from one route over everything. The rivals are re-implementations of
    published rules, not the systems they come from: see docs/policies.md. The column that
    counts is held-out max/mean: how many times the mean the hottest route carried of load that
    no policy had seen; 1 is even. Nothing is written.

    \b
    Examples:
      workbench compare --until 50%
      workbench compare --until 50% --policies robust,median --routes 6,24 --json
    """
    from workbench.planner.policies import policies_named
    from workbench.session.cluster import open_cluster
    from workbench.session.comparing import compare as run
    from workbench.session.wiring import open_catalog

    chosen = policies_named([name.strip() for name in policies.split(",")])
    numbers = _route_numbers(routes)
    view = open_cluster(open_catalog(catalog_url), cluster)
    start, end = view.window(since, until)
    with progress_bar() as progress:
        answer = run(
            view,
            chosen,
            numbers,
            since=start,
            until=end,
            objective=OBJECTIVES[objective],
            seed=seed,
            progress=progress,
        )
    if as_json:
        emit("compare", compare_fields(answer))
    else:
        print_comparison(answer)


def _route_numbers(text: str) -> list[int]:
    """Return the numbers of a comma-separated list, ascending, each once."""
    from workbench.errors import InvalidArgument

    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdigit() and 1 <= int(part[:9]) <= ROUTES_MAX):
            raise InvalidArgument(
                f"--routes {text!r} has {part!r}, which is no number from 1 to {ROUTES_MAX}",
                code="compare_routes_invalid",
                hint="write numbers of routes with commas, as --routes 6,12,20",
            )
    return sorted({int(part) for part in parts})


def compare_fields(answer: Comparison) -> dict[str, Any]:
    """Return the JSON of `workbench compare`."""
    return {
        "cluster": answer.cluster,
        "objective": answer.objective,
        "seed": answer.seed,
        "window": {"from": rfc3339(answer.since), "to": rfc3339(answer.until)},
        "heldout_window": {"from": rfc3339(answer.until), "to": rfc3339(answer.heldout_until)},
        "total_load": answer.total_load,
        "heldout_load": answer.heldout_load,
        "policies": [
            {
                "name": result.name,
                "routes": result.routes,
                "routes_made": result.routes_made,
                "max_load": result.max_load,
                "optimum": result.optimum,
                "over_optimum": result.over_optimum,
                "heldout_max_load": result.heldout_max_load,
                "heldout_max_over_mean": result.heldout_max_over_mean,
            }
            for result in answer.results
        ],
    }


def print_comparison(answer: Comparison) -> None:
    """Print one table; the best of a column among as many routes is marked."""
    shown: dict[str, tuple[Callable[[PolicyResult], float], str]] = {
        "max load": (lambda result: result.max_load, ",.0f"),
        "over optimum": (lambda result: result.over_optimum, "+.1%"),
        "held-out max/mean": (lambda result: result.heldout_max_over_mean, ".2f"),
    }
    rows = []
    for result in answer.results:
        peers = [peer for peer in answer.results if peer.routes == result.routes]
        cells = [
            f"{value(result):{style}} {BEST if value(result) == min(map(value, peers)) else ' '}"
            for value, style in shown.values()
        ]
        rows.append([result.name, str(result.routes), str(result.routes_made), *cells])
    columns = [("policy", "left"), *((name, "right") for name in ("routes", "made", *shown))]
    print_table(f"Policies on {answer.cluster} by {answer.objective}", columns, rows)
    click.echo(
        f"planned on {rfc3339(answer.since)} to {rfc3339(answer.until)}, "
        f"replayed on {rfc3339(answer.until)} to {rfc3339(answer.heldout_until)}"
    )
    click.echo(f"{BEST} the best of its column among as many routes; mean is load / routes asked")
    click.echo("re-implementations of published rules, not the systems: docs/policies.md")
