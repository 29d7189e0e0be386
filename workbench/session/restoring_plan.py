"""What a restore will do, worked out before anything is changed.

    export, routes, parts, target's groups, mapping ──▶ per target group: spans, parts, tables

A group of the export becomes the group of the same number unless it is mapped; several may
become one. The routes keep their ids and the catalog version, so that what was planned for the
old cluster, and every redirect by generation, means the same in the new one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from workbench.errors import InvalidArgument, InvalidInput
from workbench.model.routes import RESERVED_PREFIX, RouteSnapshot
from workbench.session.restoring_parts import CUT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workbench.model.keys import Span
    from workbench.model.routes import RouteDescriptor
    from workbench.session.exporting_state import Export
    from workbench.session.restoring_parts import Part

RESTORE_ID_BYTES: Final = 16


class TargetGroups(NamedTuple):
    """The cluster that is restored into: its groups, ascending, and its routes as they are."""

    groups: tuple[int, ...]
    snapshot: RouteSnapshot


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """What one group of the target is given.

    Attributes:
        group: Of the target.
        sources: Groups of the export that become it, ascending; may be empty.
        spans: What it is to own, each with its generation.
        parts: With its rows, in the order in which they are imported.
    """

    group: int
    sources: tuple[int, ...]
    spans: tuple[tuple[Span, int], ...]
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """Rows to import."""
        return sum(part.rows for part in self.parts)

    @property
    def tables(self) -> int:
        """Tables in which they are imported: the number of the last one."""
        return sum(part.tables for part in self.parts)

    @property
    def size(self) -> int:
        """Bytes of the rows in memory."""
        return sum(part.size for part in self.parts)

    @property
    def keeps_catalog(self) -> bool:
        """Whether the cluster's own keys, its routes among them, are in this group."""
        return any(RESERVED_PREFIX in span for span, _ in self.spans)


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore does.

    Attributes:
        restore_id: The same for every try of the same restore; 16 bytes.
        groups: Every group of the target, ascending.
        snapshot: The routes as they will be.
        warnings: What the user should know.
    """

    restore_id: bytes
    groups: tuple[GroupPlan, ...]
    snapshot: RouteSnapshot
    warnings: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows to import."""
        return sum(group.rows for group in self.groups)

    @property
    def size(self) -> int:
        """Bytes of the rows in memory."""
        return sum(group.size for group in self.groups)


def make_plan(
    export: Export,
    routes: RouteSnapshot,
    parts: Sequence[Part],
    target: TargetGroups,
    mapping: Mapping[int, int],
) -> RestorePlan:
    """Return what restoring `export` into a cluster does.

    Args:
        export: A complete one.
        routes: Its routes.
        parts: Of it, checked.
        target: The cluster.
        mapping: Which group of the export becomes which group of the cluster, where not itself.

    Raises:
        InvalidArgument: `group_mapping_invalid`.
        InvalidInput: `groups_missing`; `catalog_group_moved` where the reserved keys' route
            would be in another group than the cluster's own.
    """
    groups = target.groups
    needed = sorted({route.group for route in routes.routes})
    _check_mapping(needed, groups, mapping)
    missing = sorted({mapping.get(group, group) for group in needed} - set(groups))
    if missing:
        raise InvalidInput(
            f"the target has no group {', '.join(map(str, missing))}, which routes of export "
            f"{export.name!r} need; it has {', '.join(map(str, groups))}",
            code="groups_missing",
            hint="make a cluster with these groups, or give them to others: "
            + " ".join(f"--map-group {group}={groups[0] if groups else 1}" for group in missing),
        )
    mapped = tuple(
        replace(route, group=mapping.get(route.group, route.group)) for route in routes.routes
    )
    version, warnings = _version(routes.catalog_version, mapped, target.snapshot)
    snapshot = RouteSnapshot(
        version, mapped, routes.taken_at, cluster_id=target.snapshot.cluster_id
    )
    _check_reserved(snapshot, target.snapshot)
    plans = []
    for group in groups:
        sources = tuple(each for each in needed if mapping.get(each, each) == group)
        plans.append(
            GroupPlan(
                group=group,
                sources=sources,
                spans=tuple((r.span, r.route_id) for r in mapped if r.group == group),
                parts=tuple(p for source in sources for p in parts if p.group == source),
            )
        )
    restore_id = _restore_id(export, target.snapshot, mapping)
    return RestorePlan(restore_id, tuple(plans), snapshot, warnings)


def _check_mapping(
    needed: Sequence[int], groups: Sequence[int], mapping: Mapping[int, int]
) -> None:
    for source, target in mapping.items():
        if source not in needed or target not in groups:
            where = f"the export has routes on {', '.join(map(str, needed))}"
            if source in needed:
                where = f"the target has {', '.join(map(str, groups))}"
            raise InvalidArgument(
                f"--map-group {source}={target} maps nothing: {where}",
                code="group_mapping_invalid",
                hint="write EXPORTED=TARGET, with groups that are there",
            )


def _version(
    exported: int, routes: Sequence[RouteDescriptor], target: RouteSnapshot
) -> tuple[int, tuple[str, ...]]:
    """Return the catalog version that the routes get, which is never below the cluster's own."""
    if target.catalog_version < exported:
        return exported, ()
    if tuple(target.routes) == tuple(routes):
        return target.catalog_version, ()
    version = target.catalog_version + 1
    warning = (
        f"the target is at catalog version {target.catalog_version} with other routes, so those of "
        f"version {exported} become version {version}: plans for the old cluster are stale there"
    )
    return version, (warning,)


def _check_reserved(snapshot: RouteSnapshot, target: RouteSnapshot) -> None:
    """Refuse routes that put a cluster's own keys into a group that does not keep them."""
    planned, own = (
        {r.group for r in each.routes if RESERVED_PREFIX in r.span} for each in (snapshot, target)
    )
    if planned and own and planned != own:
        raise InvalidInput(
            f"the route of the reserved keys would be in group {min(planned)}, the target keeps "
            f"them in group {min(own)}",
            code="catalog_group_moved",
            hint=f"leave group {min(planned)} as it is, or map it to {min(own)}",
        )


def _restore_id(export: Export, target: RouteSnapshot, mapping: Mapping[int, int]) -> bytes:
    """Return the id of a restore: of what, into which cluster, how mapped and how cut."""
    hasher = hashlib.sha256()
    for text in (
        CUT,
        str(export.manifest.dataset_id),
        str(export.read_ts),
        str(target.cluster_id),
        ",".join(f"{source}={group}" for source, group in sorted(mapping.items())),
        *(f"{ref.key} {ref.sha256}" for ref in export.manifest.objects),
    ):
        hasher.update(text.encode() + b"\n")
    return hasher.digest()[:RESTORE_ID_BYTES]
