"""Turns, ratios and the tables that show them.

    Contestant, Contestant, …  ──turn by turn──▶  Contest  ──Aims──▶  lines of one Markdown table

Ours and its rivals take turns in one process, so that a machine whose speed drifts slows all of
them. A ratio is rival / ours of one turn: above 1, ours is faster. All must give the same answer,
or the run stops: a fast wrong answer is no figure.

Setting up and looking at answers is never timed. Cyclic garbage is collected before each timed
call, so that nobody pays for what another left behind.
"""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TURNS = 5
HEAD = (
    "| what | ours | rival | its figure | rival / ours, median (range) | turns | aim |\n"
    "|---|---|---|---|---|---|---|"
)


def _itself(result: object) -> object:
    return result


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Contestant:
    """One way to do it.

    Attributes:
        name: As the table shows it.
        run: What is timed.
        answer: Makes of its result what all must agree on; not timed.
        before: Called before each turn; not timed.
        seconds: Makes of its result how long it took, where it was timed elsewhere.
        share: How many of the things that the contest is about one run does.
    """

    name: str
    run: Callable[[], Any]
    answer: Callable[[Any], Any] = _itself
    before: Callable[[], object] = _nothing
    seconds: Callable[[Any], float] | None = None
    share: float = 1.0


@dataclass(frozen=True)
class Aims:
    """What is to be reached, as the specification gives it; None and absent are no aim.

    Attributes:
        ms_max: Of ours.
        rows_s_min: Of ours.
        ratio_min: By rival: how many times faster than it.
    """

    ms_max: float | None = None
    rows_s_min: float | None = None
    ratio_min: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Contest:
    """What came of some turns.

    Attributes:
        what: As the table shows it.
        seconds: By contestant, one per turn; the first is ours.
        rows: How many rows one run handles, where a rate is what matters.
    """

    what: str
    seconds: Mapping[str, Sequence[float]]
    rows: int | None = None

    def without(self, name: str) -> Contest:
        """Return it without a contestant that only says what the answer must be."""
        return replace(self, seconds={k: v for k, v in self.seconds.items() if k != name})

    def lines(self, aims: Aims | None = None) -> list[str]:
        """Return one line of the table per rival, or one where there is none."""
        aims = aims or Aims()
        (_, ours), *rivals = self.seconds.items()
        own = self._own_aims(statistics.median(ours), aims)
        turns = len(ours)
        if not rivals:
            return [f"| {self.what} | {self._shown(ours)} | – | – | – | {turns} | {own or '–'} |"]
        lines = []
        for name, theirs in rivals:
            ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
            middle, least = statistics.median(ratios), aims.ratio_min.get(name)
            parts = [own] if own else []
            if least is not None:
                parts.append(_verdict(f"≥ {least:g} ×", reached=middle >= least))
            lines.append(
                f"| {self.what} | {self._shown(ours)} | {name} | {self._shown(theirs)} "
                f"| {_ratio(middle)} ({_ratio(min(ratios))} – {_ratio(max(ratios))}) | {turns} "
                f"| {'; '.join(parts) or '–'} |"
            )
            own = ""
        return lines

    def _own_aims(self, seconds: float, aims: Aims) -> str:
        parts = []
        if aims.ms_max is not None:
            parts.append(_verdict(f"≤ {aims.ms_max:g} ms", reached=seconds * 1e3 <= aims.ms_max))
        if aims.rows_s_min is not None and self.rows is not None:
            reached = self.rows / seconds >= aims.rows_s_min
            parts.append(_verdict(f"≥ {aims.rows_s_min / 1e6:g} M rows/s", reached=reached))
        return "; ".join(parts)

    def _shown(self, seconds: Sequence[float]) -> str:
        middle = statistics.median(seconds)
        if self.rows is not None:
            return f"{self.rows / middle / 1e6:.2f} M rows/s"
        if middle < 0.000_1:
            return f"{middle * 1e6:.1f} µs"
        return f"{middle * 1e3:,.2f} ms" if middle < 0.01 else f"{middle * 1e3:,.0f} ms"


def compete(
    what: str,
    contestants: Sequence[Contestant],
    *,
    turns: int = TURNS,
    rows: int | None = None,
    every_turn: bool = False,
) -> Contest:
    """Let contestants take turns, after one turn that is not counted; the first is ours.

    Args:
        what: As the table shows it.
        contestants: Their answers must be equal.
        turns: How many count.
        rows: How many rows one run handles.
        every_turn: Look at the answers of every turn, not only of the first.
    """
    seconds: dict[str, list[float]] = {each.name: [] for each in contestants}
    for turn in range(turns + 1):
        answers: dict[str, Any] = {}
        for each in contestants:
            took, result = _timed(each)
            if turn:
                seconds[each.name].append(took / each.share)
            if every_turn or not turn:
                answers[each.name] = each.answer(result)
            del result
        first, *others = answers.items() or [("", None)]
        for name, answer in others:
            if answer != first[1]:
                raise SystemExit(
                    f"{what}: {first[0]} and {name} disagree: {first[1]!r:.200} and {answer!r:.200}"
                )
    return Contest(what, seconds, rows)


def _timed(contestant: Contestant) -> tuple[float, Any]:
    contestant.before()
    gc.collect()
    started = time.perf_counter()
    result = contestant.run()
    took = time.perf_counter() - started
    if contestant.seconds is not None:
        took = contestant.seconds(result)
    return took, result


def _verdict(aim: str, *, reached: bool) -> str:
    return f"{aim}: {'met' if reached else '**MISSED**'}"


def _ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}" if value >= 2 else f"{value:.2f}"
