"""Proofs: which plans this process found, or made, to be what the load in a catalog gives.

    plan made here from a view of ground G ──▶ made ──── verifier ────┐
    plan from elsewhere ──▶ verifier, made again from ground G ───────┴──▶ proven(hash, G)
    approve: hash of the content now, ground of the catalog now ──▶ proven already?

Looking at a plan means reading all of its load and making it again, which takes seconds. The
answer follows from the plan's content, from the data of its cluster and from the code alone, so it
is not sought twice in one process. ADR 0017 tells why nothing is lost by it.

Rules:

- A proof is of a hash over the content as it is when it is asked for, never of the hash that an
  object carries: a plan that was changed since, in memory too, is another plan.
- A proof is of a ground: the manifests of all data of the cluster, with the SHA-256 of every
  object, and of all exports where stored bytes count. Other routes, other load, one more window or
  another assumption in the properties are another ground. Data that nobody hashed are none.
- What was made here need not be made again. Its proof is verified all the same, once.
- Nothing is kept beyond the process, nor told to another.

Not here: what is checked (`approval`), and whether a catalog's objects have the hashes that they
are registered with (`catalog`, whenever they are read).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from workbench.model.plan import hash_of, plan_content
from workbench.session.exporting_state import EXPORT_PREFIX

if TYPE_CHECKING:
    from workbench.catalog.catalog import Catalog
    from workbench.model.manifest import Manifest
    from workbench.model.plan import Plan
    from workbench.session.cluster import ClusterView

KEPT_MAX: Final = 256
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ground:
    """What a look at a plan depends on besides the plan and the code.

    Attributes:
        data: The cluster's datasets, each object with its hash.
        exports: The exports; empty where the plan counts no stored bytes.
    """

    data: tuple[Manifest, ...]
    exports: tuple[Manifest, ...] = ()


class Proofs:
    """The proofs of one process, or of one part of it; may be used from several threads.

    Attributes:
        looking: Held while a plan is looked at, so that who comes second finds the proof.
    """

    def __init__(self) -> None:
        self.looking = threading.Lock()
        self._lock = threading.Lock()
        # At most KEPT_MAX of each, the newest.
        self._proven: OrderedDict[str, Ground] = OrderedDict()
        self._made: OrderedDict[str, None] = OrderedDict()
        # All in `_made` are from this: older load is not kept in memory for their sake.
        self._from: tuple[ClusterView, Ground] | None = None

    def proven(self, plan: Plan, ground: Ground | None) -> bool:
        """Tell whether this content was found to be what this ground gives."""
        if ground is None:
            return False
        with self._lock:
            return self._proven.get(_content_hash(plan)) == ground

    def prove(self, plan: Plan, ground: Ground | None) -> None:
        """Keep that this content was looked at on this ground, and nothing was wrong."""
        if ground is None:
            return
        with self._lock:
            _put(self._proven, _content_hash(plan), ground)

    def make(self, plan: Plan, view: ClusterView, ground: Ground | None) -> None:
        """Keep that `session.planning.plan` just made `plan` from `view`, which is of `ground`.

        Nobody has had it before, so the hash that it carries is its content's. A plan that counts
        stored bytes is not kept: exports are read when it is made, and may be others than those of
        the ground.
        """
        if ground is None or _counts_stored(plan):
            return
        with self._lock:
            if self._from is None or self._from[0] is not view or self._from[1] != ground:
                self._made.clear()
                self._from = (view, ground)
            _put(self._made, plan.content_hash, None)

    def made_from(self, plan: Plan, ground: Ground | None) -> ClusterView | None:
        """Return the view from which this content was made here; None where it was not."""
        if ground is None:
            return None
        with self._lock:
            known = self._from
            if known is None or known[1] != ground or _content_hash(plan) not in self._made:
                return None
            return known[0]


def ground_of(catalog: Catalog, cluster: str, plan: Plan | None = None) -> Ground | None:
    """Return the ground on which a catalog, as it was last refreshed, has a cluster's plans.

    Args:
        catalog: The catalog.
        cluster: Its name.
        plan: The plan to look at; None is any that counts no stored bytes.

    Returns:
        The ground; None where some object's content nobody hashed.
    """
    data = tuple(catalog.list(f"{cluster}/"))
    exports: tuple[Manifest, ...] = ()
    if plan is not None and _counts_stored(plan):
        exports = tuple(catalog.list(EXPORT_PREFIX))
    objects = [each for manifest in (*data, *exports) for each in manifest.objects]
    return None if any(each.sha256 is None for each in objects) else Ground(data, exports)


def _counts_stored(plan: Plan) -> bool:
    return plan.placement is not None and plan.placement.stored is not None


def _content_hash(plan: Plan) -> str:
    return hash_of(plan_content(plan))


def _put(kept: OrderedDict[str, _T], name: str, value: _T) -> None:
    kept[name] = value
    kept.move_to_end(name)
    while len(kept) > KEPT_MAX:
        kept.popitem(last=False)
