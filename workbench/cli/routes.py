"""`workbench routes`: who owns which keys, now and in earlier catalog versions."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from workbench.cli.common import catalog_option, emit, json_option, print_table, span_json, warn
from workbench.cli.kv import addresses_of, key_of
from workbench.errors import InvalidArgument, NotFound
from workbench.model.keys import printable_key
from workbench.model.times import hlc_to_us, rfc3339, rfc3339_us

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workbench.model.routes import RouteDescriptor, RouteSnapshot
    from workbench.node.client import NodeClient

HISTORY_ROWS: Final = 50
VERSION_DIGITS_MAX: Final = 19

F = TypeVar("F", bound="Callable[..., Any]")


class CatalogVersion(click.ParamType[int]):
    """A version of the route catalog; 0 is what the nodes' configuration has."""

    name = "version"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it as a number."""
        if isinstance(value, int):
            return value
        if not (value.isascii() and value.isdecimal() and len(value) <= VERSION_DIGITS_MAX):
            self.fail(
                f"{value!r} is no catalog version: write a number, as `workbench routes history` "
                "lists them",
                param,
                ctx,
            )
        return int(value)


def source_options(command: F) -> F:
    """Add `--target`, else `--catalog` and `--cluster`."""
    target = click.option(
        "--target",
        metavar="URL",
        help="Ask this cluster, node://HOST:PORT; default: what was collected.",
    )
    cluster = click.option(
        "--cluster",
        metavar="NAME",
        help="Which of the collected clusters, where there are several.",
    )
    return target(catalog_option(cluster(command)))


@click.group()
def routes() -> None:
    """Show who owns which keys: of a running cluster, or as they were collected.

    With --target a running cluster is asked; it keeps the newest 1,024 changes. Without, the
    catalog is, where `workbench collect` records every version. A key is written as text, or as
    0x and hex digits.

    \b
    Examples:
      workbench routes list --target node://127.0.0.1:40101
      workbench routes owner user/17 --target node://127.0.0.1:40101
      workbench routes history --cluster local
      workbench routes at 7 --cluster local --json
    """


@routes.command(name="list")
@source_options
@json_option
def list_(as_json: bool, **given: Any) -> None:
    """List the newest routes.

    \b
    Examples:
      workbench routes list --target node://127.0.0.1:40101
      workbench routes list --cluster local --json
    """
    if given["target"] is None:
        snapshot = _collected(given)[-1]
    else:
        with _client(given) as client:
            snapshot = client.list_routes()
    _show(snapshot.catalog_version, snapshot.routes, given, as_json=as_json)


@routes.command()
@click.argument("version", type=CatalogVersion())
@source_options
@json_option
def at(version: int, as_json: bool, **given: Any) -> None:
    """List the routes of one catalog version.

    Of a running cluster, version 0 is what its nodes' configuration has: the routes before the
    first version that `routes history` lists.

    \b
    Examples:
      workbench routes at 7 --target node://127.0.0.1:40101
      workbench routes at 7 --cluster local --json
    """
    snapshot = _of_version(version, given)
    _show(snapshot.catalog_version, snapshot.routes, given, as_json=as_json)


@routes.command()
@click.argument("key")
@click.option("--version", type=CatalogVersion(), help="In this one; default: the newest.")
@source_options
@json_option
def owner(key: str, version: int | None, as_json: bool, **given: Any) -> None:
    """Show the route that holds a key, now or in an earlier catalog version.

    \b
    Examples:
      workbench routes owner user/17 --target node://127.0.0.1:40101
      workbench routes owner 0x0102 --version 7 --cluster local --json
    """
    data = key_of(key)
    if version is not None:
        snapshot = _of_version(version, given)
    elif given["target"] is None:
        snapshot = _collected(given)[-1]
    else:
        with _client(given) as client:
            snapshot = client.list_routes()
    found = [route for route in snapshot.routes if data in route.span]
    if not found:
        raise NotFound(
            f"no route of version {snapshot.catalog_version} holds {printable_key(data)}",
            code="route_absent",
            hint="list the routes: there is a gap between them",
        )
    _show(snapshot.catalog_version, found, given, as_json=as_json)


@routes.command()
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=HISTORY_ROWS,
    show_default=True,
    help="Of versions, the newest.",
)
@source_options
@json_option
def history(limit: int, as_json: bool, **given: Any) -> None:
    """List the catalog versions, newest first, and what each of them changed.

    \b
    Examples:
      workbench routes history --target node://127.0.0.1:40101
      workbench routes history --cluster local --limit 10 --json
    """
    snapshots = _collected(given) if given["target"] is None else _kept(given, limit)
    live = given["target"] is not None
    rows = [_change(before, after, live=live) for before, after in pairwise(snapshots)]
    # What led to the oldest one is known to nobody any more.
    rows = [_change(None, snapshots[0], live=live), *rows][-limit:][::-1]
    if as_json:
        newest = snapshots[-1].catalog_version
        emit("routes_history", {"catalog_version": newest, "versions": rows})
        return
    print_table(
        "Catalog versions",
        [("version", "right"), ("at", "left"), ("routes", "right"), ("changed", "left")],
        [
            [str(row["catalog_version"]), row["at"] or "", f"{row['routes']:,}", _words(row)]
            for row in rows
        ],
    )


def _client(given: dict[str, Any]) -> NodeClient:
    from workbench.node.client import NodeClient

    return NodeClient(addresses_of(given["target"]))


def _of_version(version: int, given: dict[str, Any]) -> RouteSnapshot:
    if given["target"] is not None:
        with _client(given) as client:
            return client.routes_of_version(version)
    for snapshot in _collected(given):
        if snapshot.catalog_version == version:
            return snapshot
    raise NotFound(
        f"catalog version {version} was not collected",
        code="catalog_version_not_kept",
        hint="see `workbench routes history` for those that were",
    )


def _kept(given: dict[str, Any], limit: int) -> list[RouteSnapshot]:
    """Return the newest versions that a running cluster keeps, ascending, and the one before."""
    with _client(given) as client:
        told = client.catalog_capabilities()
        oldest = (told.oldest_delta_version or told.current_version + 1) - 1
        first = client.routes_of_version(max(oldest, told.current_version - limit))
        return [first, *client.versions_since(first.catalog_version)]


def _collected(given: dict[str, Any]) -> list[RouteSnapshot]:
    """Return all versions in the catalog, ascending."""
    import pyarrow.compute as pc

    from workbench.model.tables import table_to_routes
    from workbench.session.wiring import open_catalog

    catalog = open_catalog(given["catalog_url"])
    table = catalog.read(f"{_cluster(catalog.list(), given['cluster'])}/route")
    versions = sorted(pc.unique(table.column("catalog_version")).to_pylist())
    column = table.column("catalog_version")
    return [table_to_routes(table.filter(pc.equal(column, version))) for version in versions]


def _cluster(manifests: Sequence[Any], name: str | None) -> str:
    """Return the cluster to show."""
    names = [
        each.name.removesuffix("/route")
        for each in manifests
        if each.name.endswith("/route") and each.name.count("/") == 1
    ]
    if name is not None and name not in names:
        listed = f"it has {', '.join(names)}" if names else "collect some first"
        raise NotFound(
            f"the catalog holds no routes of cluster {name!r}", code="cluster_absent", hint=listed
        )
    if not names:
        raise NotFound(
            "the catalog holds no routes",
            code="routes_absent",
            hint="collect some first, or ask a running cluster with --target",
        )
    if name is None and len(names) > 1:
        raise InvalidArgument(
            f"the catalog holds {len(names)} clusters: {', '.join(names)}",
            code="cluster_ambiguous",
            hint="name one with --cluster",
        )
    return names[0] if name is None else name


def _change(before: RouteSnapshot | None, after: RouteSnapshot, *, live: bool) -> dict[str, Any]:
    """Return what a version changed; nothing where the one before is not known."""
    gone, came = [], []
    if before is not None:
        old = {route.route_id: route for route in before.routes}
        new = {route.route_id: route for route in after.routes}
        gone = sorted(old.keys() - new.keys())
        came = [route for route in after.routes if old.get(route.route_id) != route]
    split_at = max((route.split_at_hlc for route in came), default=0)
    seen = None if live else rfc3339(after.taken_at)
    return {
        "catalog_version": after.catalog_version,
        "at": rfc3339_us(hlc_to_us(split_at)) if split_at else seen,
        "routes": len(after.routes),
        "previous_version": None if before is None else before.catalog_version,
        "removed": gone,
        "added": [_fields(route) for route in came],
    }


def _words(row: dict[str, Any]) -> str:
    if row["previous_version"] is None:
        return "the oldest that is known"
    added = ", ".join(str(each["route_id"]) for each in row["added"]) or "nothing"
    removed = ", ".join(map(str, row["removed"])) or "nothing"
    return f"{removed} became {added}"


def _fields(route: RouteDescriptor) -> dict[str, Any]:
    return {
        "route_id": route.route_id,
        **span_json(route.span),
        "group": route.group,
        "state": route.state.value,
        "parent_route_id": route.parent_route_id,
        "split_at_hlc": route.split_at_hlc,
    }


def _show(
    version: int, found: Sequence[RouteDescriptor], given: dict[str, Any], *, as_json: bool
) -> None:
    if as_json:
        emit("routes", {"catalog_version": version, "routes": [_fields(route) for route in found]})
        return
    if not found:
        warn(f"{_named(version, given)} has no routes")
        return
    print_table(
        f"Routes of {_named(version, given)}",
        [
            ("route", "right"),
            ("group", "right"),
            ("state", "left"),
            ("parent", "right"),
            ("span", "left"),
        ],
        [
            [
                str(route.route_id),
                str(route.group),
                route.state.value,
                str(route.parent_route_id or ""),
                str(route.span),
            ]
            for route in found
        ],
    )


def _named(version: int, given: dict[str, Any]) -> str:
    configured = version == 0 and given["target"] is not None
    rest = ": as configured, before the first version" if configured else ""
    return f"catalog version {version}{rest}"
