"""Check that a system can be read as its connector promises; nothing is changed there.

open ▸ capabilities ▸ routes ▸ routes again ▸ load      each: held, not offered, or what broke
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.model.load import check_load
from workbench.model.routes import check_routes
from workbench.ports.connector import LoadSource
from workbench.session.wiring import open_routes

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.ports.connector import Capabilities, RouteSource


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What it was.
        held: Whether it is as promised; None where it is not offered.
        said: What was found, or what broke.
    """

    name: str
    held: bool | None
    said: str


def check_connector(url: str) -> tuple[Capabilities, tuple[Check, ...]]:
    """Read a system once, and return what it can do and what was found.

    Raises:
        WorkbenchError: it cannot be opened.
    """
    source = open_routes(url)
    try:
        found = source.capabilities()
        checks = [
            _check("routes", lambda: _routes(source)),
            _check("routes, read again", lambda: _again(source)),
        ]
        if found.load and isinstance(source, LoadSource):
            loads = source
            checks.append(_check("load", lambda: _load(loads)))
        else:
            checks.append(Check("load", None, "not offered"))
        return found, tuple(checks)
    finally:
        source.close()


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, held=True, said=look())
    except WorkbenchError as error:
        return Check(name, held=False, said=f"{error.code}: {error}")


def _routes(source: RouteSource) -> str:
    snapshot = source.snapshot()
    routes = check_routes(snapshot.routes)
    groups = len({route.group for route in routes})
    return f"routes: {len(routes)}, groups: {groups}, version: {snapshot.catalog_version}"


def _again(source: RouteSource) -> str:
    first, second = source.snapshot(), source.snapshot()
    if second.catalog_version < first.catalog_version:
        raise WorkbenchError(
            f"version {second.catalog_version} came after {first.catalog_version}",
            code="version_fell",
            hint="nodes of different clusters answer, or one answers from a stale copy",
        )
    same = second.catalog_version == first.catalog_version
    if same and second.routes != first.routes:
        raise WorkbenchError(
            f"version {first.catalog_version} has two sets of routes",
            code="version_ambiguous",
            hint="plans cannot be bound to a version that changes",
        )
    return "the same" if same else f"version {second.catalog_version} since"


def _load(source: LoadSource) -> str:
    answer = source.load("check", None)
    check_load(answer.windows, "load of the connector")
    rows = answer.windows.num_rows
    return f"rows: {rows}, windows of {answer.window_ms / 1_000:g} s"
