"""An independent check of a plan's proof. Shares no code with the planner, on purpose.

It reads the plan document as JSON values and the atoms as the evidence query gives them, and
believes nothing else: route loads, cuts, optima and bounds are computed anew in plain integers.

    verify(document, atoms) ──▶ [] or the claims that are false, as sentences

What it proves, once it finds nothing:
1. every action splits a route that exists then, inside its span, in a chain of versions;
2. the routes after the plan carry the loads that the plan says;
3. with the boundaries that exist and `splits` cuts, no cut has a smaller bottleneck than the plan;
4. `optimum` is the least bottleneck of any cut into as many routes as the plan leaves.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def verify(document: Mapping[str, Any], keys: Sequence[bytes], loads: Sequence[int]) -> list[str]:
    """Return the false claims of a plan document as sentences; empty where it holds.

    Args:
        document: The plan as JSON values.
        keys: First key of each atom, ascending.
        loads: Load of each atom, whole numbers.
    """
    try:
        return _Check(document, keys, loads).run()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        return [f"the document is malformed: {error!r}"]


class _Check:
    """One run of the verifier; `false` collects the claims that do not hold."""

    def __init__(
        self, document: Mapping[str, Any], keys: Sequence[bytes], loads: Sequence[int]
    ) -> None:
        self.document = document
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

    def run(self) -> list[str]:
        """Check everything and return what is false."""
        self._atoms()
        if self.false:
            return self.false  # a proof about other atoms proves nothing
        before = self._routes("routes_before")
        after = self._routes("routes_after")
        self._actions(before, after)
        self._marks(before, after)
        fixed = self.proof["incremental"]["fixed"]
        self.expect("incremental.fixed", fixed, self.document["limits"]["fixed_routes"])
        self._claim("incremental", self._bounds(before), [int(index) for index in fixed])
        self._claim("optimum", [0, len(self.loads)], [])
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
            if span not in spans or key <= span[0] or (end is not None and key >= end):
                self.false.append(f"{name} does not split a route that exists then")
                continue
            self._evidence(name, action["evidence"], ascending, span, key)
            spans.remove(span)
            spans |= {(span[0], key), (key, end)}
        if spans != set(after):
            self.false.append("routes_after are not what the actions leave")

    def _evidence(
        self,
        name: str,
        evidence: Mapping[str, Any],
        ascending: list[int],
        span: tuple[bytes, bytes | None],
        key: bytes,
    ) -> None:
        """Check an action's numbers; `ascending` holds all route loads and is kept up to date."""
        left, right = self._load((span[0], key)), self._load((key, span[1]))
        bottleneck_before = ascending[-1]
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
        bound = max([-(-total // len(after)), *self.loads])
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
        if self.document["atom_kind"] == "key":
            self.expect("resolution.low", marks["resolution"]["low"], heaviest_after)
        self.expect("max_share_before", forecast["max_share_before"], heaviest_before / total)
        self.expect("max_share_after", forecast["max_share_after"], heaviest_after / total)
        self.expect("optimum.splits", self.proof["optimum"]["splits"], len(after) - 1)
        allowed = self.document["limits"]["max_splits"]
        self.expect("incremental.splits", self.proof["incremental"]["splits"], allowed)
        if len(self.document["actions"]) > allowed:
            self.false.append(f"{len(self.document['actions'])} actions, {allowed} allowed")
        if self.document["actions"]:
            least = self.proof["incremental"]["bottleneck"]
            self.expect("bottleneck.after (the least possible)", heaviest_after, least)

    def _claim(self, name: str, bounds: list[int], fixed: list[int]) -> None:
        """Check that the cuts reach the claimed bottleneck and that nothing lower is possible."""
        claim = self.proof[name]
        edges = sorted({*bounds, *claim["cuts"]})
        if len(claim["cuts"]) > claim["splits"] or edges[0] < 0 or edges[-1] > len(self.loads):
            self.false.append(f"{name}: the cuts are too many or out of range")
            return
        pieces = [self.sums[b] - self.sums[a] for a, b in pairwise(edges)]
        self.expect(f"{name}: bottleneck", claim["bottleneck"], max(pieces))
        for index in fixed:
            if any(bounds[index] < cut < bounds[index + 1] for cut in claim["cuts"]):
                self.false.append(f"{name}: the fixed segment {index} is cut")
        routes = len(bounds) - 1 + claim["splits"]
        if not self._proves(claim["witness"], claim, bounds, fixed, routes):
            self.false.append(f"{name}: the witness does not prove the bottleneck least")

    def _proves(
        self,
        witness: Mapping[str, Any],
        claim: Mapping[str, Any],
        bounds: list[int],
        fixed: list[int],
        routes: int,
    ) -> bool:
        limit = claim["bottleneck"] - 1
        match witness["kind"]:
            case "none":
                return bool(limit < 0)
            case "average":
                return bool(routes * limit < self.sums[-1])
            case "atom":
                index = witness["index"]
                return bool(0 <= index < len(self.loads) and self.loads[index] > limit)
            case "fixed":
                index = witness["index"]
                low, high = bounds[index], bounds[index + 1]
                return index in fixed and self.sums[high] - self.sums[low] > limit
            case "stops":
                return self._stops_prove(witness["segments"], claim["splits"], bounds, limit)
            case _:
                return False

    def _stops_prove(
        self, segments: Sequence[Mapping[str, Any]], splits: int, bounds: list[int], limit: int
    ) -> bool:
        """Tell whether the stops force more cuts than there are."""
        if len({segment["index"] for segment in segments}) != len(segments):
            return False
        forced = 0
        for segment in segments:
            index = segment["index"]
            if not 0 <= index < len(bounds) - 1:
                return False
            at = bounds[index]
            for stop in segment["stops"]:
                if not at < stop < bounds[index + 1]:
                    return False
                if self.sums[stop + 1] - self.sums[at] <= limit:
                    return False
                at = stop
                forced += 1
        return forced > splits

    def _bounds(self, spans: list[tuple[bytes, bytes | None]]) -> list[int]:
        """Return where the segments of these routes begin and end, in atoms."""
        return [0, *(self._atom_range(span)[1] for span in spans)]

    def _atom_range(self, span: tuple[bytes, bytes | None]) -> tuple[int, int]:
        low = bisect_left(self.keys, span[0])
        return low, len(self.keys) if span[1] is None else bisect_left(self.keys, span[1])

    def _load(self, span: tuple[bytes, bytes | None]) -> int:
        low, high = self._atom_range(span)
        return self.sums[high] - self.sums[low]
