"""The hotspot workbench: find hot key ranges, plan splits with a bound, approve, check.

    import workbench as wb

    catalog = wb.open()                          the catalog of the command line
    wb.collect("node://127.0.0.1:7001")          routes and load into it
    wb.hot(catalog)                              which routes are hot, and why not the others
    plan = wb.plan(catalog)                      splits, with evidence and a proven bound
    plan.approve(by="anna")                      recorded with who, when and the plan's hash
    plan.apply()                                 on the live cluster; killed, run it again
    wb.verify(plan)                              what came, against the forecast

Rules: importing this costs nothing; DuckDB, Polars and the like are loaded by the first call that
needs them. There is no global state: the catalog is an argument, else WORKBENCH_CATALOG, else
./.workbench/catalog, as on the command line. Every answer is a table that Arrow, Polars, pandas
and DuckDB read. Errors are of one tree, `wb.WorkbenchError`, with a stable `code` and a `hint`.

What the names do is in `workbench.api`; this module only finds them (PEP 562). `wb.report` is the
package of that name and a function too, because Python gives a package's name to its parent.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from workbench._version import __version__

if TYPE_CHECKING:
    import os

    from workbench.api.approving import Application, Approval
    from workbench.api.backup import Export, Restored, export, restore
    from workbench.api.catalog import Catalog, open  # noqa: A004 - called as wb.open
    from workbench.api.clusters import (
        Clients,
        Cluster,
        LocalCluster,
        cluster_down,
        cluster_up,
        connect,
        connectors,
    )
    from workbench.api.collecting import Collection, Datasets, collect, datasets, follow
    from workbench.api.looking import Comparison, Hot, Picture, compare, hot, picture
    from workbench.api.planning import plan
    from workbench.api.plans import Plan, find_plan
    from workbench.api.results import Result
    from workbench.api.verification import Report, Verification
    from workbench.api.verifying import report, verify
    from workbench.api.widgets import heatmap, workbench
    from workbench.errors import (
        Conflict,
        Corruption,
        InvalidArgument,
        InvalidInput,
        NotFound,
        OutcomeUnknown,
        Storage,
        Unavailable,
        WorkbenchError,
    )

# name: the module of it
_PLACES: Final = {
    **dict.fromkeys(("Application", "Approval"), "workbench.api.approving"),
    **dict.fromkeys(("Export", "Restored", "export", "restore"), "workbench.api.backup"),
    **dict.fromkeys(("Catalog", "open"), "workbench.api.catalog"),
    **dict.fromkeys(
        (
            "Clients",
            "Cluster",
            "LocalCluster",
            "cluster_down",
            "cluster_up",
            "connect",
            "connectors",
        ),
        "workbench.api.clusters",
    ),
    **dict.fromkeys(
        ("Collection", "Datasets", "collect", "datasets", "follow"), "workbench.api.collecting"
    ),
    **dict.fromkeys(
        ("Comparison", "Hot", "Picture", "compare", "hot", "picture"), "workbench.api.looking"
    ),
    **dict.fromkeys(("plan",), "workbench.api.planning"),
    **dict.fromkeys(("Plan", "find_plan"), "workbench.api.plans"),
    **dict.fromkeys(("Result",), "workbench.api.results"),
    **dict.fromkeys(("Report", "Verification"), "workbench.api.verification"),
    **dict.fromkeys(("verify",), "workbench.api.verifying"),
    **dict.fromkeys(("heatmap", "workbench"), "workbench.api.widgets"),
    **dict.fromkeys(
        (
            "Conflict",
            "Corruption",
            "InvalidArgument",
            "InvalidInput",
            "NotFound",
            "OutcomeUnknown",
            "Storage",
            "Unavailable",
            "WorkbenchError",
        ),
        "workbench.errors",
    ),
}
_REPORT: Final = "report"

__all__ = [
    "Application",
    "Approval",
    "Catalog",
    "Clients",
    "Cluster",
    "Collection",
    "Comparison",
    "Conflict",
    "Corruption",
    "Datasets",
    "Export",
    "Hot",
    "InvalidArgument",
    "InvalidInput",
    "LocalCluster",
    "NotFound",
    "OutcomeUnknown",
    "Picture",
    "Plan",
    "Report",
    "Restored",
    "Result",
    "Storage",
    "Unavailable",
    "Verification",
    "WorkbenchError",
    "__version__",
    "cluster_down",
    "cluster_up",
    "collect",
    "compare",
    "connect",
    "connectors",
    "datasets",
    "export",
    "find_plan",
    "follow",
    "heatmap",
    "hot",
    "open",
    "picture",
    "plan",
    "report",
    "restore",
    "verify",
    "workbench",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Find a public name when it is first used; a package of the same name stays reachable."""
    if name == _REPORT:
        return importlib.import_module(f"{__name__}.{_REPORT}")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """List the public names alone: what tab completion is to offer."""
    return sorted(__all__)


class _Facade(ModuleType):
    """This module, which makes its package `report` callable when that is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == _REPORT and isinstance(value, ModuleType):
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


class _CallablePackage(ModuleType):
    """The package `workbench.report`, and the function `wb.report`."""

    def __call__(
        self,
        plan: Plan | str,
        path: str | os.PathLike[str] = "report.html",
        catalog: Catalog | str | os.PathLike[str] | None = None,
        *,
        on: str | None = None,
    ) -> Report:
        """Write a plan's report as one HTML file; see `workbench.api.verifying.report`."""
        module = importlib.import_module("workbench.api.verifying")
        made: Report = module.report(plan, path, catalog, on=on)
        return made


sys.modules[__name__].__class__ = _Facade
