"""The verifier's own check of what a plan says beside its loads; shares no code with the planner.

    who      ids of routes, in a chain; `declined` names the routes that no action touches, only
    whether  what is cut or moved brings `min_gain`, and what is not would not have
    which    keys that the threshold makes hot are isolated, or a finding says why not; and each key
             is told of that alone is the bottleneck among buckets
    tested   a back-test was asked for where one is told of, and cuts as it says

Sentences are not read here: `session.remaking` compares them with those of a plan made again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    SpanPair = tuple[bytes, bytes | None]
    # Key, count and error of single keys; accesses of the atoms that hold them by first key.
    Told = tuple[Sequence[tuple[bytes, int, int]], Mapping[bytes, int | None]]


class ClaimCheck:
    """One check; `expect` is told each claim, what the plan says, and what was found."""

    def __init__(
        self,
        document: Mapping[str, Any],
        load_of: Callable[[SpanPair], int],
        expect: Callable[[str, object, object], None],
    ) -> None:
        self.document = document
        self.load_of = load_of
        self.expect = expect
        self.actions = document["actions"]
        self.before = [_span(route) for route in document["routes_before"]]
        self.after = [_span(route) for route in document["routes_after"]]
        self.given = document.get("given")

    def holds(self, claim: str, found: bool) -> None:  # noqa: FBT001 - one claim, true or false
        """Record `claim` as false where it does not hold."""
        self.expect(claim, True, found)  # noqa: FBT003

    def run(
        self, keys: Sequence[bytes], loads: Sequence[int], isolating: int, told: Told | None = None
    ) -> None:
        """Check everything.

        Args:
            keys: Of the atoms that routes own, ascending.
            loads: Of the same.
            isolating: How many cuts isolated keys take.
            told: Of single keys beside buckets; None where that is not looked at.
        """
        later = self.document["schema"] != "workbench.plan/1"
        form = "workbench.certificate/2" if later else "workbench.certificate/1"
        self.expect("certificate.schema", self.document["certificate"]["schema"], form)
        self._who()
        self._gain(isolating)
        if later:
            self._isolated(keys, loads)
            if told is not None and self.document["atom_kind"] != "key":
                self._told(keys, loads, told)
        self._backtests()

    def _who(self) -> None:
        """Follow the ids of routes through the actions."""
        first: dict[SpanPair, int] = {}
        made: set[SpanPair] = set()
        for action in self.actions:
            span, key = _span(action), bytes.fromhex(action["split_key"])
            if span not in made:
                first.setdefault(span, action["route_id"])
            if key != span[0]:
                made |= {(span[0], key), (key, span[1])}
        left = [span for span in self.before if span not in first]
        named = [each["route_id"] for each in self.document["declined"]]
        self.expect("declined: one for each route that no action touches", len(named), len(left))
        ids = {**first, **dict(zip(left, named, strict=False))}
        listed = [ids.get(span) for span in self.before]
        if self.given is not None:
            listed = [each["route_id"] for each in self.given["routes"]]
            self.expect("given.routes", len(listed), len(self.before))
            ids = dict(zip(self.before, listed, strict=False))
            self.expect("declined", named, [ids.get(span) for span in left])
        whole = [number for number in listed if type(number) is int and number > 0]
        self.holds("routes have ids of their own", len({*whole}) == len(self.before))
        new_id = max(whole, default=0) + 1
        names = [action["id"] for action in self.actions]
        self.holds("actions have ids of their own", len({*names}) == len(names))
        for action in self.actions:
            span, key = _span(action), bytes.fromhex(action["split_key"])
            self.expect(f"action {action['id']}: route_id", action["route_id"], ids.get(span))
            kind = "split" if action["target_group"] is None else "split_and_move"
            kind = "move" if key == span[0] else kind
            self.expect(f"action {action['id']}: kind", action["kind"], kind)
            if key != span[0]:
                ids |= {(span[0], key): new_id, (key, span[1]): new_id + 1}
                new_id += 2

    def _gain(self, isolating: int) -> None:
        """Check that what is done brings `min_gain`, and by `exact` that no more was to be had."""
        least = self.document["limits"]["min_gain"]
        drift = self.document.get("drift")
        made = len(self.after) - len(self.before) - isolating
        before = max(map(self.load_of, self.before))
        after = max(map(self.load_of, self.after))
        if drift is not None and drift["kind"] == "cyclic":
            gained, worst = drift["worst_after"], drift["worst_before"]
            of_sum = drift["worst_of_sum"]
            enough = worst - gained >= least * worst and of_sum - gained >= least * of_sum
            self.holds("the splits bring min_gain in the worst phase", enough)
        elif drift is None and made:
            gains = after < before and before - after >= least * before
            self.holds("the splits bring min_gain", gains)
        elif drift is None and self.document["policy"] == "exact":
            reached = self.document["certificate"]["incremental"]["bottleneck"]
            # What isolates keys may bring it already: then there is nothing to be had on top.
            could = reached < after and before - reached >= least * before
            self.holds("no splits bring min_gain", not could)
        placed = self.document.get("placement")
        if placed is not None and placed["before"] is not None:
            heavy, light = placed["before"], placed["after"]
            moves = any(action["target_group"] is not None for action in self.actions)
            enough = light < heavy and heavy - light >= least * heavy
            self.holds("the moves bring min_gain", enough or not moves)

    def _isolated(self, keys: Sequence[bytes], loads: Sequence[int]) -> None:
        """Check that hot keys stay where they are only where a finding tells of each of them."""
        rate = self.document["threshold_per_minute"]
        if self.given is not None:
            told = self.given["rule"]["threshold_per_minute"]
            # The default counts reads and writes: of anything else it is no threshold.
            self.holds("threshold_per_minute is the rule's", rate is None or rate == told)
        if rate is None or self.document["atom_kind"] != "key":
            return
        self.holds("threshold_per_minute is a rate", type(rate) in {int, float} and rate > 0)
        window = self.document["window"]
        since, until = (datetime.fromisoformat(window[name]) for name in ("from", "to"))
        length_us = (until - since) // timedelta(microseconds=1)
        own = {bytes.fromhex(each["key"]) for each in self.document["isolated"]}
        bounds = [bisect_left(keys, start) for start, _ in self.before]
        bounds.append(len(keys))
        hot = 0
        for low, high in pairwise(bounds):
            total = sum(loads[low:high])
            if not total:
                continue
            heaviest = max(loads[low:high])
            key = keys[loads.index(heaviest, low, high)]
            over = heaviest * 5 >= total * 4 and heaviest * 120_000_000 > rate * length_us
            hot += over and key not in own
        kinds = [each["kind"] for each in self.document["findings"]]
        self.expect("findings of hot keys that stay", kinds.count("hot_key"), hot)

    def _told(self, keys: Sequence[bytes], loads: Sequence[int], told: Told) -> None:
        """Check that a finding tells of each key that alone is the bottleneck, and of no other."""
        rows, accesses_of = told
        weights, least_gain = self.document["weights"], self.document["limits"]["min_gain"]
        # That each point of the front is least is checked elsewhere.
        reachable = self.document["pareto"][-1]["bottleneck"]
        found = []
        for key, count, error in rows:
            at = bisect_right(keys, key) - 1
            accesses = accesses_of.get(keys[at]) if at >= 0 else None
            if accesses is None or count <= error or count - error > accesses:
                continue
            # The least over all numbers of reads among them that the bucket's own numbers allow.
            reads, writes = _kinds(accesses, loads[at], weights)
            sure = count - error
            ends = (max(0, sure - writes), min(sure, reads))
            load = min(n * weights["reads"] + (sure - n) * weights["writes"] for n in ends)
            if reachable - load < least_gain * reachable:
                found.append(key.hex())
        kinds = [each["kind"] for each in self.document["findings"]]
        self.expect("findings of keys that are the bottleneck", kinds.count("hot_key"), len(found))

    def _backtests(self) -> None:
        """Check what can be told of back-tests without the load of their halves."""
        forecast = self.document["forecast"]
        tests = {name: forecast.get(name) for name in ("backtest", "backtest_exact")}
        if self.given is not None and not self.given["backtest"]:
            self.holds("no back-test was asked for", not any(tests.values()))
        exact = self.document["policy"] == "exact"
        self.holds(
            "backtest_exact is beside a robust plan", not (exact and tests["backtest_exact"])
        )
        for name, test in tests.items():
            if test is None:
                continue
            window = self.document["window"]
            moments = [window["from"], test["split_at"], window["to"]]
            low, middle, high = map(datetime.fromisoformat, moments)
            self.holds(f"{name}.split_at lies in the window", low < middle < high)
            shares = [value for part, value in test.items() if part[:3] == "max" or part == "drift"]
            self.holds(f"{name}: shares are shares", all(0 <= each <= 1 for each in shares))
            if test.get("cuts") is not None:
                self.expect(f"{name}.splits", test["splits"], len(test["cuts"]))


def _kinds(accesses: int, load: int, weights: Mapping[str, int]) -> tuple[int, int]:
    """Return how many of a bucket's accesses were reads and writes; any where both weigh alike."""
    apart = weights["writes"] - weights["reads"]
    if not apart:
        return accesses, accesses
    writes = (load - weights["reads"] * accesses) // apart
    return accesses - writes, writes


def _span(value: Mapping[str, Any]) -> SpanPair:
    end = value["end"]
    return bytes.fromhex(value["start"]), None if end is None else bytes.fromhex(end)
