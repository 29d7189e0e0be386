"""Which faults a store has, and how often: drawn anew for every seed.

Each seed switches every kind on or off and draws a rate for those that are on (swarm testing): a
store that fails in one way only, and often, reaches states that one failing in all ways never
does, as there nothing gets far enough.

| kind | calls | what happens | what the caller sees |
|---|---|---|---|
| `timeout_before` | all | nothing | OutcomeUnknown; Unavailable for reads |
| `timeout_after` | put, replace, delete | it has happened | OutcomeUnknown |
| `delayed` | put, replace, delete | it happens later, or much later | OutcomeUnknown |
| `own_412` | put | it has happened, by the client's first try | False |
| `conflict_409` | put | nothing | Unavailable |
| `unavailable` | all | nothing | Unavailable |
| `unavailable_after` | put, replace, delete | it has happened | Unavailable |
| `duplicated` | put, replace, delete | it happens now and once more later | the truth |
| `failed_before`, `failed_after` | all; writes | nothing; it has happened | Storage |
| `full` | put, replace | nothing | Storage, `store_full` |
| `truncated`, `garbage` | get | | fewer bytes; a flipped bit |
| `stale` | list | | without the newest keys, with some that are gone |
| `slow` | all | seconds pass before it happens | the truth |
| `paused` | all | the caller stands still, up to days | the truth |
| `outage` | all | the process reaches nothing for up to minutes | Unavailable, each time |
| `crash_before`, `crash_after` | all | nothing; it has happened | the process ends |

The rates are small numbers per call. `FaultSource` counts what it handed out, by kind.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

_ALL: Final = frozenset({"get", "put", "replace", "list", "delete"})
_WRITES: Final = frozenset({"put", "replace", "delete"})

CALLS_OF: Final[Mapping[str, frozenset[str]]] = {
    "timeout_before": _ALL,
    "timeout_after": _WRITES,
    "delayed": _WRITES,
    "own_412": frozenset({"put"}),
    "conflict_409": frozenset({"put"}),
    "unavailable": _ALL,
    "unavailable_after": _WRITES,
    "duplicated": _WRITES,
    "failed_before": _ALL,
    "failed_after": _WRITES,
    "full": frozenset({"put", "replace"}),
    "truncated": frozenset({"get"}),
    "garbage": frozenset({"get"}),
    "stale": frozenset({"list"}),
    "slow": _ALL,
    "paused": _ALL,
    "outage": _ALL,
    "crash_before": _ALL,
    "crash_after": _ALL,
}
KINDS: Final = tuple(CALLS_OF)
_HEAVY: Final = ("crash", "paused", "outage")  # each costs more than one call

SLOW_SECONDS_MAX: Final = 30.0
PAUSED_SECONDS_MAX: Final = 3 * 86_400.0
OUTAGE_SECONDS_MAX: Final = 120.0
LATE_SECONDS_MAX: Final = 3_600.0
STALE_SECONDS_MAX: Final = 600.0
CLOCK_JUMP_SECONDS: Final = 5.0
LATENCY_SECONDS_MAX: Final = 0.02
# More faults per call than this, and nobody would get through opening the catalog.
FAILING_MAX: Final = 0.5


@dataclass(frozen=True, slots=True)
class FaultProfile:
    """How a store fails in one schedule.

    Attributes:
        rates: Probability per call and kind; kinds that are off are absent.
        clock_jump_rate: Probability that a clock jumps by up to `CLOCK_JUMP_SECONDS` when asked.
        stale_seconds: How old a key must be to be in every listing, where `stale` is on.
    """

    rates: Mapping[str, float] = field(default_factory=dict)
    clock_jump_rate: float = 0.0
    stale_seconds: float = 0.0

    @classmethod
    def draw(cls, source: random.Random, *, paused_least: float = 0.0) -> FaultProfile:
        """Return the profile of a seed: about half of the kinds, each at its own rate.

        Args:
            source: Of the seed.
            paused_least: The rate of `paused` is at least this.
        """
        share = source.choice((0.2, 0.5, 0.8))
        most = source.choice((0.02, 0.08, 0.25))
        rates = {}
        for kind in KINDS:
            on, rate = source.random() < share, most * source.random() ** 2
            if on:
                rates[kind] = rate / 4 if kind.startswith(_HEAVY) else rate
        scale = FAILING_MAX / max(sum(rates.values()), FAILING_MAX)
        rates = {kind: rate * scale for kind, rate in rates.items()}
        rates["paused"] = max(rates.get("paused", 0.0), paused_least)
        return cls(
            rates,
            clock_jump_rate=source.choice((0.0, 0.1, 0.5)),
            stale_seconds=STALE_SECONDS_MAX * source.random() ** 3,
        )


CALM: Final = FaultProfile()


class FaultSource:
    """Deals out faults by a profile, from one seeded generator.

    Attributes:
        profile: May be replaced; `CALM` ends the faults.
        counts: Faults dealt out so far, by kind.
        random: Everything that faults need chance for.
    """

    def __init__(self, profile: FaultProfile, source: random.Random) -> None:
        self.profile = profile
        self.random = source
        self.counts: Counter[str] = Counter()

    def draw(self, call: str) -> str | None:
        """Return the fault of one call (`get`, `put`, `replace`, `list`, `delete`), or None."""
        chance = self.random.random()
        for kind, rate in self.profile.rates.items():
            if call not in CALLS_OF[kind]:
                continue
            chance -= rate
            if chance < 0:
                self.counts[kind] += 1
                return kind
        return None

    def latency(self) -> float:
        """Return the seconds that an ordinary call takes; mostly few, sometimes many."""
        return LATENCY_SECONDS_MAX * self.random.random() ** 4

    def upto(self, most: float) -> float:
        """Return some seconds up to `most`, short ones far more often."""
        return most * self.random.random() ** 4

    def clock_jump(self) -> float | None:
        """Return the new offset of a clock in seconds, None where it stays as it is."""
        if self.random.random() >= self.profile.clock_jump_rate:
            return None
        self.counts["clock_jump"] += 1
        return self.random.uniform(-CLOCK_JUMP_SECONDS, CLOCK_JUMP_SECONDS)
