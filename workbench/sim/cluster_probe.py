"""Clients of the time after the faults: every group must do everything that it can be asked for.

    wanted: (group, WriteBatch) (group, GetMany) … ──acknowledged──▶ the next one ──▶ nothing lacks

Rules:
- A probe asks for one thing until it is acknowledged, however often it has to begin anew; being
  refused, told that the outcome is unknown, or not answered at all is no answer.
- It asks every group for a write and for a read of every kind, and the catalog's for its routes.

How long that may take is the world's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.replica.commands import (
    GetMany,
    LatestCommitTs,
    ListCatalog,
    ScanPage,
    WriteBatch,
)
from workbench.sim.cluster_clients import PAGE_BYTES, PAGE_ROWS, Client
from workbench.sim.cluster_node import CATALOG_GROUP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.sim.cluster_clients import Cluster
    from workbench.sim.cluster_history import Asked, Operation

KINDS: Final = (WriteBatch, GetMany, ScanPage, LatestCommitTs)


class Probe(Client):
    """One such client; made as `Client` is."""

    def __init__(self, cluster: Cluster, number: int, think_us: int) -> None:
        super().__init__(cluster, number, think_us)
        wanted: list[tuple[int, type[Asked]]] = [
            (group, kind) for kind in KINDS for group in cluster.spans
        ]
        self._wanted = [(CATALOG_GROUP, ListCatalog), *wanted]

    @property
    def lacks(self) -> Sequence[str]:
        """What has not been acknowledged yet."""
        return [f"{kind.__name__} of group {group}" for group, kind in self._wanted]

    def _choose(self) -> tuple[int, Asked] | None:
        if not self._wanted:
            return None
        group, kind = self._wanted[0]
        if kind is WriteBatch:
            return group, self._write(group)
        if kind is ListCatalog:
            return group, ListCatalog()
        key = self._keys(group, 1)[0]
        if kind is GetMany:
            return group, GetMany((key,))
        if kind is LatestCommitTs:
            return group, LatestCommitTs(key)
        span = self._cluster.spans[group]
        return group, ScanPage(span.start, span.end, 0, PAGE_ROWS, PAGE_BYTES)

    def _succeeded(self, operation: Operation) -> None:
        if self._wanted and self._wanted[0] == (operation.group, type(operation.asked)):
            del self._wanted[0]
