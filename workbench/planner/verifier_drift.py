"""The verifier's own check of what a plan says of load that moves; shares no code with the planner.

It is given the load of each part of the window that the plan names, and computes all else anew:
what each part carried, what lay beyond every key seen before it, what each route carries in its
worst phase, and that no cuts within the limits are better there. Where the planner bisects over
rows of prefix sums, this walks block by block.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import datetime
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    SpanPair = tuple[bytes, bytes | None]
    PartRows = Sequence[tuple[bytes, int]]

# docs/formats/plan.md, *Load that moves*.
NEWEST: Final = 3
REPEATED: Final = 3


class DriftCheck:
    """One check of `drift`, and of `certificate.phases`.

    `expect` is told each claim, what the plan says, and what was found.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        parts: Sequence[PartRows],
        owned: Callable[[bytes], bool],
        expect: Callable[[str, object, object], None],
    ) -> None:
        self.document = document
        self.drift = document["drift"]
        self.rows = [[(key, load) for key, load in part if owned(key) and load] for part in parts]
        self.expect = expect

    def holds(self, claim: str, holds: bool) -> None:  # noqa: FBT001 - one claim, true or false
        """Record `claim` as false where it does not hold."""
        self.expect(claim, True, holds)  # noqa: FBT003

    def run(self, starts: Sequence[bytes], bounds: Sequence[int], fixed: Sequence[int]) -> None:
        """Check everything.

        Args:
            starts: First key of each block.
            bounds: Blocks at which segments begin, isolated keys included, and their number.
            fixed: Segments that must not be cut.
        """
        stated = self.drift["parts"]
        self.holds("drift: a part for each that is named", len(stated) == len(self.rows))
        self._times()
        sums = [sum(load for _, load in rows) for rows in self.rows]
        self.expect("drift.parts", [part["load"] for part in stated], sums)
        is_cyclic = self.drift["kind"] == "cyclic"
        self.expect("certificate.phases", "phases" in self.document["certificate"], is_cyclic)
        if is_cyclic:
            self._cyclic(starts, list(bounds), frozenset(fixed))
        else:
            self.expect("drift.kind", self.drift["kind"], "moving_front")
            self._front(sums)

    def _times(self) -> None:
        window = self.document["window"]
        moments = [
            (datetime.fromisoformat(part["from"]), datetime.fromisoformat(part["to"]))
            for part in self.drift["parts"]
        ]
        low, high = (datetime.fromisoformat(window[name]) for name in ("from", "to"))
        follows = all(a[1] == b[0] for a, b in pairwise(moments))
        alike = len({end - start for start, end in moments}) == 1
        inside = low <= moments[0][0] < moments[0][1] and moments[-1][1] <= high
        self.holds("drift.parts are equal parts of the window", follows and alike and inside)

    def _front(self, sums: Sequence[int]) -> None:
        beyond = []
        older = len(self.rows) - NEWEST
        for index in range(older, len(self.rows)):
            highest = max(key for rows in self.rows[:index] for key, _ in rows)
            beyond.append(sum(load for key, load in self.rows[index] if key > highest))
        self.expect("drift.beyond", self.drift["beyond"], beyond)
        newest = zip(beyond, sums[older:], strict=True)
        self.holds("drift: half of each newest part is beyond", all(2 * b >= s for b, s in newest))
        for name in ("period", "worst_before", "worst_after", "worst_of_sum"):
            self.expect(f"drift.{name}", self.drift[name], None)
        self.expect("drift.sum_cuts", self.drift["sum_cuts"], [])
        own = {isolated["key"] for isolated in self.document["isolated"]}
        last = max(key for rows in self.rows for key, _ in rows)
        tail = self.drift["tail"]
        splits = [a for a in self.document["actions"] if a["kind"] != "move"]
        if tail is None:
            self.holds("drift: nothing is cut but isolated keys", bool(own) or not splits)
            return
        key = bytes.fromhex(tail)
        self.holds("drift.tail is the last split", bool(splits) and splits[-1]["split_key"] == tail)
        self.holds("drift: nothing else is cut", bool(own) or len(splits) == 1)
        is_above = key > last if self.document["atom_kind"] == "key" else key <= last
        self.holds("drift.tail parts what comes from what was seen", is_above)
        if self.document["atom_kind"] != "key":
            inside = [k for k, _ in self.rows[-1] if k > key]
            self.holds("drift.tail is the start of the last bucket with load", not inside)

    def _cyclic(self, starts: Sequence[bytes], bounds: list[int], fixed: frozenset[int]) -> None:
        period, number = self.drift["period"], len(self.rows)
        whole = isinstance(period, int) and period > 1
        if not whole or number % period or number < REPEATED * period:
            self.holds("drift.period fits the parts three times or more", holds=False)
            return
        self.expect("drift.tail", self.drift["tail"], None)
        self.expect("drift.beyond", self.drift["beyond"], [])
        weights = [[0] * len(starts) for _ in range(period)]
        for part, rows in enumerate(self.rows):
            for key, load in rows:
                weights[part % period][bisect_right(starts, key) - 1] += load
        self.sums = [list(accumulate(each, initial=0)) for each in weights]
        self.starts, self.bounds, self.fixed = starts, bounds, fixed
        before = [_span(route) for route in self.document["routes_before"]]
        after = [_span(route) for route in self.document["routes_after"]]
        worst = max(map(self._weight_of, after))
        self.expect(
            "drift.worst_before", self.drift["worst_before"], max(map(self._weight_of, before))
        )
        self.expect("drift.worst_after", self.drift["worst_after"], worst)
        other = sorted({*bounds, *(self._block(bytes.fromhex(k)) for k in self.drift["sum_cuts"])})
        of_sum = max(self._worst(low, high) for low, high in pairwise(other))
        self.expect("drift.worst_of_sum", self.drift["worst_of_sum"], of_sum)
        claim = self.document["certificate"]["phases"]
        self.expect("phases: bottleneck (the least)", worst, claim["bottleneck"])
        allowed, routes = (self.document["limits"][n] for n in ("max_splits", "max_routes"))
        room = allowed if routes is None else min(allowed, routes - len(before))
        isolating = len(bounds) - 1 - len(before)
        self.expect("phases: splits", claim["splits"], room - isolating)
        edges = sorted({*bounds, *claim["cuts"]})
        fits = len(claim["cuts"]) <= claim["splits"] and edges[0] == 0 and edges[-1] == len(starts)
        self.holds("phases: the cuts are few enough and in range", fits)
        if not fits:
            return
        pieces = [self._worst(low, high) for low, high in pairwise(edges)]
        self.expect("phases: bottleneck", claim["bottleneck"], max(pieces))
        self.holds(
            "phases: no fixed segment is cut",
            not any(bounds[i] < cut < bounds[i + 1] for i in fixed for cut in claim["cuts"]),
        )
        proves = self._proves(claim["witness"], claim["bottleneck"] - 1, claim["splits"])
        self.holds("phases: the witness proves the bottleneck least", proves)
        made = len(after) - len(before) - isolating
        self.expect("phases: splits made", made, self._needed(claim["bottleneck"]))

    def _block(self, key: bytes) -> int:
        return bisect_left(self.starts, key)

    def _worst(self, low: int, high: int) -> int:
        return max(sums[high] - sums[low] for sums in self.sums)

    def _weight_of(self, span: SpanPair) -> int:
        high = len(self.starts) if span[1] is None else self._block(span[1])
        return self._worst(self._block(span[0]), high)

    def _needed(self, limit: int) -> int:
        """Return how many cuts bring every route to `limit` in every phase, block by block."""
        cuts = 0
        for low, high in pairwise(self.bounds):
            begin = low
            for block in range(low, high):
                if block > begin and self._worst(begin, block + 1) > limit:
                    cuts, begin = cuts + 1, block
        return cuts

    def _proves(self, witness: Mapping[str, Any], limit: int, splits: int) -> bool:
        bounds = self.bounds
        kind = witness["kind"]
        if kind == "none":
            return limit < 0
        if kind == "stops":
            return self._stops_prove(witness["segments"], limit, splits)
        phase = witness["phase"]
        if not 0 <= phase < len(self.sums):
            return False
        sums = self.sums[phase]
        if kind == "average":
            return bool((len(bounds) - 1 + splits) * limit < sums[-1])
        index = witness["index"]
        if kind == "atom":
            return bool(0 <= index < len(sums) - 1 and sums[index + 1] - sums[index] > limit)
        heavy = index in self.fixed and sums[bounds[index + 1]] - sums[bounds[index]] > limit
        return bool(kind == "fixed" and heavy)

    def _stops_prove(self, segments: Sequence[Mapping[str, Any]], limit: int, splits: int) -> bool:
        """Tell whether the stops force more cuts than there are."""
        if len({segment["index"] for segment in segments}) != len(segments):
            return False
        forced = 0
        for segment in segments:
            index = segment["index"]
            if not 0 <= index < len(self.bounds) - 1:
                return False
            at = self.bounds[index]
            for stop in segment["stops"]:
                if not at < stop < self.bounds[index + 1] or self._worst(at, stop + 1) <= limit:
                    return False
                at = stop
                forced += 1
        return forced > splits


def _span(route: Mapping[str, Any]) -> SpanPair:
    return bytes.fromhex(route["start"]), None if route["end"] is None else bytes.fromhex(
        route["end"]
    )
