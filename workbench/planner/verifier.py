"""An independent check of a plan's proof. Shares no code with the planner, on purpose.

It reads the plan document as JSON values and the atoms as the evidence query gives them, and
believes nothing else: route loads, cuts, optima and bounds are computed anew in plain integers.
`verifier_blocks` reads the limits and probes, `verifier_groups` checks where the routes go,
`verifier_drift` what is said of load that moves, `verifier_claims` which routes are meant, and
whether what is done is worth it.

    verify(document, atoms) ──▶ [] or the claims that are false, as sentences

What it proves, once it finds nothing:
1. every action splits a route that exists then, inside its span, in a chain of versions;
2. the routes after the plan carry the loads that the plan says;
3. with the boundaries that exist and `splits` cuts, no cut that the limits permit has a smaller
   bottleneck than an exact plan, nor by shrunk load than a robust one, whose price is right;
4. `optimum` is the least bottleneck of any permitted cut into as many routes as the plan leaves;
5. every split keeps the limits, isolated keys are hot by themselves, every point of the fronts is
   least, groups carry what the plan says, and no placement is better where the plan says so;
6. ids chain as a catalog gives them, every other route is declined, `min_gain` is kept;
7. a plan for cyclic load has the least bottleneck in the worst phase, and a tail cut is above all
   that was seen of a front.

A document of version 1 has no limits on keys, no shrunk load and no groups.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from workbench.planner.verifier_blocks import (
    Ground,
    KeyLimits,
    block_firsts,
    finest,
    pareto_tried,
    shrunk_sums,
)
from workbench.planner.verifier_claims import ClaimCheck
from workbench.planner.verifier_drift import DriftCheck
from workbench.planner.verifier_groups import GroupCheck

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workbench.planner.verifier_claims import Told

SCHEMA_1: Final = "workbench.plan/1"
NO_LIMITS: Final[dict[str, Any]] = {
    "forbidden": [],
    "boundaries": None,
    "max_routes": None,
    "min_span_load": 0,
}


def verify(  # noqa: PLR0913, PLR0917 - what is claimed, and each thing it is checked by
    document: Mapping[str, Any],
    keys: Sequence[bytes],
    loads: Sequence[int],
    sizes: Sequence[tuple[bytes, int]] | None = None,
    parts: Sequence[Sequence[tuple[bytes, int]]] = (),
    told: Told | None = None,
) -> list[str]:
    """Return the false claims of a plan document as sentences; empty where it holds.

    Args:
        document: The plan as JSON values.
        keys: First key of each atom, ascending.
        loads: Load of each atom, whole numbers.
        sizes: First key and bytes of each atom, where the plan's moves are counted in bytes.
        parts: First key and load of each atom, for each of `drift.parts`.
        told: Key, count and error of single keys, and each atom's accesses by its first key, where
            load was told by bucket; None where findings of such keys are not to be checked.
    """
    try:
        return _Check(document, keys, loads, sizes, parts).run(told)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        return [f"the document is malformed: {error!r}"]


class _Check:
    """One run of the verifier; `false` collects the claims that do not hold."""

    def __init__(
        self,
        document: Mapping[str, Any],
        keys: Sequence[bytes],
        loads: Sequence[int],
        sizes: Sequence[tuple[bytes, int]] | None,
        parts: Sequence[Sequence[tuple[bytes, int]]],
    ) -> None:
        self.document = document
        self.sizes = sizes
        self.parts = parts
        self.is_later = document["schema"] != SCHEMA_1
        self.limits = dict(document["limits"]) if self.is_later else NO_LIMITS | document["limits"]
        self.key_limits = KeyLimits(self.limits)
        self.proof = document["certificate"]
        self.starts = [bytes.fromhex(route["start"]) for route in document["routes_before"]]
        self.ends = [
            None if route["end"] is None else bytes.fromhex(route["end"])
            for route in document["routes_before"]
        ]
        # Load that no route owned cannot be planned; it is no part of any claim.
        routed = [
            (key, int(load)) for key, load in zip(keys, loads, strict=True) if self._owned(key)
        ]
        self.keys = [key for key, _ in routed]
        self.loads = [load for _, load in routed]
        self.sums = [0]
        for load in self.loads:
            self.sums.append(self.sums[-1] + load)
        self.false: list[str] = []

    def run(self, told: Told | None) -> list[str]:
        """Check everything and return what is false."""
        self._atoms()
        if self.false:
            return self.false  # a proof about other atoms proves nothing
        before = self._routes("routes_before")
        after = self._routes("routes_after")
        self._blocks(before)
        self._actions(before, after)
        self._marks(before, after)
        self._proofs(before, after)
        ClaimCheck(self.document, self._load, self.expect).run(
            self.keys, self.loads, len(self.isolating), told
        )
        if self.is_later:
            self._fronts(before)
            GroupCheck(self.document, self._load, self.sizes, self.expect).run()
            if "drift" in self.document:
                starts = [self.keys[first] for first in self.firsts]
                drift = DriftCheck(self.document, self.parts, self._owned, self.expect)
                drift.run(starts, self.segments, self.fixed)
        return self.false

    def expect(self, claim: str, stated: object, found: object) -> None:
        """Record `claim` as false where what is stated is not what was found."""
        if type(stated) is not type(found) or stated != found:
            self.false.append(f"{claim}: the plan says {stated}, the load gives {found}")

    def _owned(self, key: bytes) -> bool:
        """Tell whether a route of the plan's start holds the key."""
        at = bisect_right(self.starts, key) - 1
        if at < 0:
            return False
        end = self.ends[at]
        return end is None or key < end

    def _atoms(self) -> None:
        digest = hashlib.sha256()
        for key, load in zip(self.keys, self.loads, strict=True):
            digest.update(f"{key.hex()} {load}\n".encode())
        self.expect("atoms_sha256", self.proof["atoms_sha256"], digest.hexdigest())
        self.expect("atoms", self.proof["atoms"], len(self.loads))
        self.expect("atoms of the plan", self.document["atoms"], len(self.loads))
        self.expect("total", self.proof["total"], self.sums[-1])
        self.expect("total_load", self.document["total_load"], self.sums[-1])
        if any(a >= b for a, b in pairwise(self.keys)):
            self.false.append("the atoms are not in ascending order")

    def _blocks(self, before: list[tuple[bytes, bytes | None]]) -> None:
        """Part the atoms where the limits permit, and find the cuts of isolated keys."""
        ranges = [self._atom_range(span) for span in before]
        kind = self.document["atom_kind"]
        self.firsts = block_firsts(self.keys, kind, ranges, self.key_limits)
        self.block_sums = [*(self.sums[first] for first in self.firsts), self.sums[-1]]
        self.bounds = [0, *(bisect_left(self.firsts, high) for _, high in ranges)]
        self.isolating: list[int] = []
        if self.is_later:
            self.expect("blocks", self.proof["blocks"], len(self.firsts))
            for isolated in self.document["isolated"]:
                self._isolated(isolated, ranges)
        self.segments = sorted([*self.bounds, *self.isolating])
        self.fixed = []
        for route in self.document["limits"]["fixed_routes"]:
            low, high = self.bounds[route], self.bounds[route + 1]
            if any(low < cut < high for cut in self.isolating):
                self.false.append(f"a key of the fixed route {route} is isolated")
            self.fixed.append(route + sum(cut < low for cut in self.isolating))

    def _isolated(self, isolated: Mapping[str, Any], ranges: list[tuple[int, int]]) -> None:
        """Check that a key is hot by itself and alone on its route, and note the cuts."""
        key = bytes.fromhex(isolated["key"])
        name, atom = f"isolated {isolated['key']}", bisect_left(self.keys, key)
        low, high = next((pair for pair in ranges if pair[0] <= atom < pair[1]), (0, 0))
        if atom >= len(self.keys) or self.keys[atom] != key or low == high:
            self.false.append(f"{name}: no such key carries load")
            return
        load, route_load = self.loads[atom], self.sums[high] - self.sums[low]
        self.expect(f"{name}: load", isolated["load"], load)
        self.expect(f"{name}: route_load", isolated["route_load"], route_load)
        rate = self.document["threshold_per_minute"]
        window = self.document["window"]
        over = rate is not None and load * 120_000_000 > rate * _length_us(window)
        if not over or load * 5 < route_load * 4 or self.document["atom_kind"] != "key":
            self.false.append(f"{name}: it is not hot by itself")
        starts = [bytes.fromhex(route["start"]) for route in self.document["routes_after"]]
        for edge, beside in (
            (atom, self.sums[atom] - self.sums[low]),
            (atom + 1, self.sums[high] - self.sums[atom + 1]),
        ):
            if not beside:
                continue
            block = bisect_left(self.firsts, edge)
            cut = bisect_right(starts, self.keys[edge]) - 1
            if self.firsts[block] != edge or starts[cut] <= self.keys[edge - 1]:
                self.false.append(f"{name}: it is not alone on its route")
            else:
                self.isolating.append(block)

    def _proofs(
        self, before: list[tuple[bytes, bytes | None]], after: list[tuple[bytes, bytes | None]]
    ) -> None:
        """Check the optima, and that the plan is what its policy says."""
        fixed, least = frozenset(self.fixed), self.limits["min_span_load"]
        self.expect("incremental.fixed", self.proof["incremental"]["fixed"], self.fixed)
        recorded = Ground(self.block_sums, self.block_sums, self.segments, fixed, least)
        whole = Ground(self.block_sums, self.block_sums, [0, len(self.firsts)], frozenset(), 0)
        self._claim("incremental", recorded)
        self._claim("optimum", whole)
        splits = self._splits_allowed(before) - len(self.isolating)
        made = len(after) - len(before) - len(self.isolating)
        if made > splits or splits < 0:
            self.false.append(f"{len(after) - len(before)} splits, fewer are allowed")
        heaviest = max(map(self._load, after))
        incremental = self.proof["incremental"]
        if self.document["policy"] == "exact":
            self.expect("incremental.splits", incremental["splits"], splits)
            if made:
                least_load = incremental["bottleneck"]
                self.expect("bottleneck.after (the least possible)", heaviest, least_load)
        if not self.is_later:
            return
        self.expect("robust", self.document["robust"] is not None, self._is_robust())
        self.expect("certificate.robust", self.proof["robust"] is not None, self._is_robust())
        if "drift" in self.document:
            self.expect("policy", self.document["policy"], "robust")
            self.expect("incremental.splits", incremental["splits"], made)
        if self._is_robust():
            self.expect("incremental.splits", incremental["splits"], made)
            price = heaviest - incremental["bottleneck"]
            self.expect("robust.price", self.document["robust"]["price"], price)
            self._robust(recorded, after, splits, made)

    def _is_robust(self) -> bool:
        return bool(self.document["policy"] == "robust" and "drift" not in self.document)

    def _splits_allowed(self, before: list[tuple[bytes, bytes | None]]) -> int:
        allowed, routes = self.limits["max_splits"], self.limits["max_routes"]
        return int(allowed if routes is None else min(allowed, routes - len(before)))

    def _robust(
        self,
        recorded: Ground,
        after: list[tuple[bytes, bytes | None]],
        splits: int,
        made: int,
    ) -> None:
        """Check what a robust plan says of shrunk loads, and that it spends splits by its rule."""
        stated, proof = self.document["robust"], self.proof["robust"]
        shrink = stated["shrink"]
        self.expect("robust.shrink", shrink, [1, 10])
        sums = shrunk_sums(self.block_sums, self.loads, self.firsts, shrink)
        ground = Ground(sums, self.block_sums, self.segments, recorded.fixed, recorded.least)
        self.expect("robust.keys", stated["keys"], sum(1 for load in self.loads if load))
        self.expect("robust.total", stated["total"], sums[-1])
        self.expect("robust.optimum", stated["optimum"], self.proof["incremental"]["bottleneck"])
        self.expect("robust: splits", proof["splits"], splits)
        self._claim("robust", ground)
        fewest = ground.cuts_needed(proof["bottleneck"], lone=False, most=splits)
        self.expect("robust.fewest", proof["fewest"], fewest)
        for name, number in (("shared_fewest", proof["fewest"]), ("shared_all", splits)):
            if not ground.is_least(proof[name], number, lone=True):
                self.false.append(f"robust.{name} is not the least with {number} splits")
        edges = [bisect_left(self.firsts, self._atom_range(span)[0]) for span in after]
        edges.append(len(self.firsts))
        fixed = {(self.segments[i], self.segments[i + 1]) for i in ground.fixed}
        pieces = list(pairwise(edges))
        shared = [sums[b] - sums[a] for a, b in pieces if b - a > 1 and (a, b) not in fixed]
        heaviest = max(sums[b] - sums[a] for a, b in pieces)
        self.expect("robust.bottleneck", stated["bottleneck"], heaviest)
        self.expect("robust.shared", stated["shared"], max(shared, default=0))
        few, all_ = proof["shared_fewest"], proof["shared_all"]
        end = self._end(proof)
        aim = all_ if end is None else end
        gains = aim < few and few - aim >= self.limits["min_gain"] * few
        # Plans of before 2026-11 have no `further`, and spent splits however light the rest was.
        if "further" in proof:
            near = few * (len(self.segments) - 1 + proof["fewest"]) > sums[-1]
            gains = gains and near
            further = {
                "splits": max(made - proof["fewest"], 0),
                "shared_from": few,
                "shared_to": aim if gains and made else few,
                "near": near,
                **({} if end is None else {"end": end}),
            }
            self.expect("robust.further", proof["further"], further)
        if not made:
            return
        reached = aim if gains else few
        self.expect("robust.bottleneck (the least)", heaviest, proof["bottleneck"])
        if max(shared, default=0) > reached:
            self.false.append("robust.shared is above the least")
        needed = ground.cuts_needed(reached, lone=True, most=splits)
        self.expect("robust: splits made", made, needed)

    def _end(self, proof: Mapping[str, Any]) -> int | None:
        """Return where further splits end: at half the bottleneck, where all splits go below."""
        further = proof.get("further")
        # Plans that do not say what they were made from may have spent all splits.
        if further is None or ("given" not in self.document and "end" not in further):
            return None
        half = -(-proof["bottleneck"] // 2)
        routes = len(self.segments) - 1 + proof["fewest"]
        near = proof["shared_fewest"] * routes > self.document["robust"]["total"]
        return int(half) if near and half > proof["shared_all"] else None

    def _fronts(self, before: list[tuple[bytes, bytes | None]]) -> None:
        """Check that every point of the Pareto front is the least for its number of splits."""
        fixed = frozenset(self.document["limits"]["fixed_routes"])
        least = self.limits["min_span_load"]
        ground = Ground(self.block_sums, self.block_sums, self.bounds, fixed, least)
        last: tuple[int, int] | None = None
        for each in self.document["pareto"]:
            splits, load = each["splits"], each["bottleneck"]
            if not 0 <= splits <= self._splits_allowed(before):
                self.false.append(f"pareto: {splits} splits are not allowed")
            elif not ground.is_least(load, splits, lone=False):
                self.false.append(f"pareto: {load} is not the least with {splits} splits")
            if last is not None and (splits <= last[0] or load >= last[1]):
                self.false.append("pareto is not a front")
            last = (splits, load)
        tried = pareto_tried(self._splits_allowed(before), is_slow=least > 0)
        front = {each["splits"]: each["bottleneck"] for each in self.document["pareto"]}
        if not front.keys() <= {*tried} or 0 not in front:
            self.false.append("pareto does not begin without splits, or has points of its own")
            return
        load = front[0]
        for splits, following in zip(tried, [*tried[1:], None], strict=True):
            load = front.get(splits, load)
            # The last number of splits that the point before stands for; it is the least there too.
            is_last = splits not in front and (following is None or following in front)
            if is_last and not ground.is_least(load, splits, lone=False):
                self.false.append(f"pareto leaves out a point of at most {splits} splits")

    def _routes(self, name: str) -> list[tuple[bytes, bytes | None]]:
        """Check spans and loads of a list of routes, and return the spans."""
        spans: list[tuple[bytes, bytes | None]] = []
        for route in self.document[name]:
            end = None if route["end"] is None else bytes.fromhex(route["end"])
            spans.append((bytes.fromhex(route["start"]), end))
            low, high = self._atom_range(spans[-1])
            self.expect(
                f"load of {name} from {route['start'] or 'the lowest key'}",
                route["load"],
                self.sums[high] - self.sums[low],
            )
        for (_, end), (start, _) in pairwise(spans):
            if end is None or end > start:
                self.false.append(f"{name} overlap at {start.hex()}")
        return spans

    def _actions(
        self, before: list[tuple[bytes, bytes | None]], after: list[tuple[bytes, bytes | None]]
    ) -> None:
        spans = set(before)
        ascending = sorted(map(self._load, before))
        version = int(self.document["catalog_version"])
        for action in self.document["actions"]:
            end = None if action["end"] is None else bytes.fromhex(action["end"])
            span = (bytes.fromhex(action["start"]), end)
            key = bytes.fromhex(action["split_key"])
            name = f"action {action['id']}"
            self.expect(f"{name}: expected_version", action["expected_version"], version)
            version += 1
            moves = self.is_later and action["kind"] == "move"
            if span not in spans or key < span[0] or (end is not None and key >= end):
                self.false.append(f"{name} does not split a route that exists then")
                continue
            if (key == span[0]) is not moves:
                self.false.append(f"{name} does not split a route that exists then")
                continue
            self._evidence(name, action["evidence"], ascending, span, key)
            if moves:
                continue
            spans.remove(span)
            spans |= {(span[0], key), (key, end)}
            self._limited(name, span, key, set(after))
        if spans != set(after):
            self.false.append("routes_after are not what the actions leave")

    def _limited(
        self,
        name: str,
        span: tuple[bytes, bytes | None],
        key: bytes,
        after: set[tuple[bytes, bytes | None]],
    ) -> None:
        """Check that a split keeps the limits on keys and on what its children carry."""
        if not self.key_limits.permit(key):
            self.false.append(f"{name} cuts where the limits forbid it")
        at = bisect_left(self.keys, key)
        in_bucket = at == len(self.keys) or self.keys[at] != key
        if self.document["atom_kind"] != "key" and in_bucket:
            self.false.append(f"{name} cuts inside a bucket")
        for child in ((span[0], key), (key, span[1])):
            if child in after and self._load(child) < self.limits["min_span_load"]:
                self.false.append(f"{name} leaves a route below min_span_load")

    def _evidence(
        self,
        name: str,
        evidence: Mapping[str, Any],
        ascending: list[int],
        span: tuple[bytes, bytes | None],
        key: bytes,
    ) -> None:
        """Check an action's numbers; `ascending` holds all route loads and is kept up to date."""
        left, right = 0, self._load((key, span[1]))
        bottleneck_before = ascending[-1]
        if key != span[0]:
            left = self._load((span[0], key))
            ascending.pop(bisect_left(ascending, left + right))
            insort(ascending, left)
            insort(ascending, right)
        self.expect(f"{name}: parent_load", evidence["parent_load"], left + right)
        self.expect(f"{name}: left_load", evidence["left_load"], left)
        self.expect(f"{name}: right_load", evidence["right_load"], right)
        self.expect(f"{name}: bottleneck_before", evidence["bottleneck_before"], bottleneck_before)
        self.expect(f"{name}: bottleneck_after", evidence["bottleneck_after"], ascending[-1])

    def _marks(
        self, before: list[tuple[bytes, bytes | None]], after: list[tuple[bytes, bytes | None]]
    ) -> None:
        marks, forecast = self.document["bottleneck"], self.document["forecast"]
        heaviest_before = max(map(self._load, before))
        heaviest_after = max(map(self._load, after))
        total = self.sums[-1]
        blocks = [high - low for low, high in pairwise(self.block_sums)]
        bound = max([-(-total // len(after)), *blocks])
        self.expect("bottleneck.before", marks["before"], heaviest_before)
        self.expect("bottleneck.after", marks["after"], heaviest_after)
        self.expect("bottleneck.lower_bound", marks["lower_bound"], bound)
        self.expect("bottleneck.optimum", marks["optimum"], self.proof["optimum"]["bottleneck"])
        heavy = sorted(
            (-load, key)
            for key, load in zip(self.keys, self.loads, strict=True)
            if load * len(after) > total
        )
        found = [{"key": key.hex(), "load": -negative} for negative, key in heavy]
        self.expect("unsplittable", self.document["unsplittable"], found)
        self.expect("resolution.high", marks["resolution"]["high"], heaviest_after)
        low = heaviest_after
        if self.document["atom_kind"] != "key":
            low = min(low, finest([self._load(span) for span in before], len(after) - len(before)))
        self.expect("resolution.low", marks["resolution"]["low"], low)
        self.expect("max_share_before", forecast["max_share_before"], heaviest_before / total)
        self.expect("max_share_after", forecast["max_share_after"], heaviest_after / total)
        self.expect("optimum.splits", self.proof["optimum"]["splits"], len(after) - 1)

    def _claim(self, name: str, ground: Ground) -> None:
        """Check that the cuts reach the claimed bottleneck and that nothing lower is possible."""
        claim = self.proof[name]
        bounds, sums = ground.bounds, ground.sums
        edges = sorted({*bounds, *claim["cuts"]})
        if len(claim["cuts"]) > claim["splits"] or edges[0] < 0 or edges[-1] > len(self.firsts):
            self.false.append(f"{name}: the cuts are too many or out of range")
            return
        pieces = [sums[b] - sums[a] for a, b in pairwise(edges)]
        self.expect(f"{name}: bottleneck", claim["bottleneck"], max(pieces))
        for index in ground.fixed:
            if any(bounds[index] < cut < bounds[index + 1] for cut in claim["cuts"]):
                self.false.append(f"{name}: the fixed segment {index} is cut")
        if not self._proves(claim["witness"], claim, ground):
            self.false.append(f"{name}: the witness does not prove the bottleneck least")

    def _proves(self, witness: Mapping[str, Any], claim: Mapping[str, Any], ground: Ground) -> bool:
        limit, splits = claim["bottleneck"] - 1, claim["splits"]
        sums, bounds = ground.sums, ground.bounds
        match witness["kind"]:
            case "none":
                proves = limit < 0
            case "average":
                proves = (len(bounds) - 1 + splits) * limit < sums[-1]
            case "atom":
                index = witness["index"]
                proves = 0 <= index < len(sums) - 1 and sums[index + 1] - sums[index] > limit
            case "fixed":
                index = witness["index"]
                heavy = sums[bounds[index + 1]] - sums[bounds[index]] > limit
                proves = index in ground.fixed and heavy
            case "stops":
                proves = self._stops_prove(witness["segments"], splits, ground, limit)
            case "search":
                found = None if limit < 0 else ground.cuts_needed(limit, lone=False, most=splits)
                proves = self.is_later and found is None
            case _:
                proves = False
        return bool(proves)

    def _stops_prove(
        self, segments: Sequence[Mapping[str, Any]], splits: int, ground: Ground, limit: int
    ) -> bool:
        """Tell whether the stops force more cuts than there are."""
        sums, bounds = ground.sums, ground.bounds
        if len({segment["index"] for segment in segments}) != len(segments):
            return False
        forced = 0
        for segment in segments:
            index = segment["index"]
            if not 0 <= index < len(bounds) - 1:
                return False
            at = bounds[index]
            for stop in segment["stops"]:
                if not at < stop < bounds[index + 1] or sums[stop + 1] - sums[at] <= limit:
                    return False
                at = stop
                forced += 1
        return forced > splits

    def _atom_range(self, span: tuple[bytes, bytes | None]) -> tuple[int, int]:
        low = bisect_left(self.keys, span[0])
        return low, len(self.keys) if span[1] is None else bisect_left(self.keys, span[1])

    def _load(self, span: tuple[bytes, bytes | None]) -> int:
        low, high = self._atom_range(span)
        return self.sums[high] - self.sums[low]


def _length_us(window: Mapping[str, str]) -> int:
    """Return the length of a plan's time window in microseconds."""
    since, until = (datetime.fromisoformat(window[name]) for name in ("from", "to"))
    return (until - since) // timedelta(microseconds=1)
