"""One schedule: writers over one catalog in one failing store, all from one seed.

    writer-0 ─┐
    writer-1 ─┼── FaultyObjectStore each ──> SimStore ──> Auditor
    writer-n ─┘        every call gives the turn away

The seed decides how many writers there are, what they do, how often, which faults the store has,
and who goes on at each store call. A writer that crashes starts anew with another identity, as a
process would. When all have done their work the faults stop, and each must be able to go on.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from workbench.catalog.audit import audit
from workbench.catalog.catalog import Catalog
from workbench.catalog.gc import GRACE_MIN, collect
from workbench.errors import Internal, WorkbenchError
from workbench.sim.catalog_actions import ACTIONS, TABLES, TIMED, append
from workbench.sim.catalog_auditor import Auditor, Intent, Violation
from workbench.sim.catalog_upkeep import UPKEEP, nothing
from workbench.sim.faults import CALM, FaultProfile, FaultSource
from workbench.sim.object_store import Crash, FaultyObjectStore, SimStore
from workbench.sim.ports import SimClock, SimRng
from workbench.sim.scheduler import Abandoned, Scheduler
from workbench.sim.tuning import tuned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STEPS_MAX: Final = 20_000
OPENINGS_MAX: Final = 400
PLAIN_ACTIONS: Final = (8, 12, 20)
UPKEEP_ACTIONS: Final = (16, 24, 40)
THINK_SECONDS_MAX: Final = 5.0
SLEEP_SECONDS_MAX: Final = 36 * 3_600.0
UPKEEP_SHARE: Final = 0.4
SLEEPER_SECONDS_MAX: Final = 5 * 86_400.0
UPKEEP_PAUSED_RATE: Final = 0.02
SETTLE_SECONDS: Final = 2 * 86_400.0
SWEEPS: Final = 3  # one condemns, one deletes, one trims what the second left


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one schedule did.

    Attributes:
        seed: Which.
        trace_sha256: Over every step; equal for equal seeds and code.
        steps: Turns given.
        calls: Store calls.
        checks: Of the auditor.
        records: In the log at the end.
        faults: Dealt out, by kind.
        ends: How actions that commit ended: acknowledged, unknown, failed.
        actions: Begun that commit, by kind.
        reached: How often what is rare came up, by kind.
        violation: What broke; None where nothing did.
    """

    seed: int
    trace_sha256: str
    steps: int
    calls: int
    checks: int
    records: int
    faults: Counter[str]
    ends: Counter[str]
    actions: Counter[str]
    reached: Counter[str]
    violation: str | None

    def sums(self) -> Mapping[str, int]:
        """Return what else is counted."""
        return {"store calls": self.calls, "records": self.records}

    def counts(self) -> Mapping[str, Counter[str]]:
        """Return what is counted by kind."""
        return {
            "commits": self.ends,
            "actions": self.actions,
            "reached": self.reached,
            "faults": self.faults,
        }


class World:
    """All of one schedule.

    Args:
        seed: Decides everything.
        tell: Told of every step as a line of text, for a person who replays a seed.
    """

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - a schedule, not a secret
        self.time = Scheduler(self.random.getrandbits(64), steps_max=STEPS_MAX)
        self.store = SimStore(self.time)
        self.auditor = Auditor(self.store)
        self.store.observer = self.auditor
        self.upkeep = self.random.random() < UPKEEP_SHARE
        profile = FaultProfile.draw(
            self.random, paused_least=UPKEEP_PAUSED_RATE if self.upkeep else 0.0
        )
        self.faults = FaultSource(profile, self._fork())
        # Fewer names, more to keep of each; and time passes, so that graces end.
        most = 1 if self.upkeep else len(TABLES)
        self.tables = TABLES[: self.random.randint(1, most)]
        self.timed = TIMED[: self.random.randint(1, most)]
        self.actions = UPKEEP if self.upkeep else ACTIONS
        self.sleep_rate = 0.4 if self.upkeep else 0.05
        self.busy = 0
        self.calls = 0
        self._number = 0
        self._tell = tell
        self._hash = hashlib.sha256()

    def run(self) -> Outcome:
        """Play the schedule, and return what came of it; never raises Violation."""
        violation = None
        try:
            if self.random.random() < 0.7:
                Catalog.create(
                    self.store, clock=self.clock(), rng=SimRng(self._fork()), writer="first"
                )
            count = self.random.choice((2, 2, 3, 3, 4, 5, 8))
            actions = self.random.choice(UPKEEP_ACTIONS if self.upkeep else PLAIN_ACTIONS)
            self.busy = count
            for number in range(count):
                share = actions // count + (number < actions % count)
                writer = Writer(self, f"w{number}", self._fork(), share)
                self.time.spawn(writer.name, writer.run, self.random.random())
            self.time.run()
            self.auditor.finish(self._opened_calmly(), audit(self.store).problems)
            if self.upkeep:
                self._sweep()
        except Violation as error:
            violation = str(error)
        except Internal as error:
            violation = error.message
        return self._outcome(violation)

    def number(self) -> int:
        """Return the next of the numbers by which values and actions are known."""
        self._number += 1
        return self._number

    def clock(self) -> SimClock:
        """Return the clock of a new process."""
        return SimClock(self.time, self.faults)

    def rest(self) -> None:
        """Say that one writer is done; with the last one the faults stop."""
        self.busy -= 1
        if not self.busy:
            self.faults.profile = CALM

    def note(self, who: str, call: str, key: str, fault: str) -> None:
        """Add a step to the trace."""
        self.calls += 1
        line = f"{self.time.now_us} {who} {call} {key} {fault}\n"
        self._hash.update(line.encode())
        if self._tell is not None:
            self._tell(line.rstrip())

    def fork(self) -> random.Random:
        """Return a generator of its own for somebody."""
        return self._fork()

    def _fork(self) -> random.Random:
        return random.Random(self.random.getrandbits(64))  # noqa: S311 - likewise

    def _sweep(self) -> None:
        """Let time pass and collect garbage; then look whether all of it is gone."""
        catalog = self._opened_calmly()
        for _ in range(SWEEPS):
            self.time.wait(SETTLE_SECONDS)
            self.auditor.begin(Intent(self.number(), "reader", "gc", (), nothing, many=True))
            with catalog.keeping() as keeper:
                collect(keeper, keep=timedelta(0), grace=GRACE_MIN)
            self.auditor.end("reader", "acknowledged")
        self.auditor.swept(catalog, audit(self.store).problems)

    def _opened_calmly(self) -> Catalog:
        rng = SimRng(self._fork(), lambda made: self.auditor.drew("reader", made))
        try:
            return Catalog.open(self.store, clock=self.clock(), rng=rng, writer="reader")
        except WorkbenchError as error:
            raise Violation(f"the catalog does not open at the end: {error}") from error

    def _outcome(self, violation: str | None) -> Outcome:
        return Outcome(
            seed=self.seed,
            trace_sha256=self._hash.hexdigest(),
            steps=self.time.steps,
            calls=self.calls,
            checks=self.auditor.checks,
            records=self.auditor.head,
            faults=self.faults.counts,
            ends=Counter(intent.status for intent in self.auditor.intents),
            actions=Counter(intent.kind for intent in self.auditor.intents),
            reached=self.auditor.reached,
            violation=violation,
        )


class Writer:
    """One writer over its lives; a Hand for the actions.

    Args:
        world: Where it lives.
        name: Of all its lives.
        source: Its own chance.
        actions: How many it does.
    """

    def __init__(self, world: World, name: str, source: random.Random, actions: int) -> None:
        self.name = name
        self.random = source
        self.auditor = world.auditor
        self.tables = world.tables
        self.timed = world.timed
        self._world = world
        self._actions = actions
        # One that others trim the log away from.
        self._sleeper = world.upkeep and source.random() < 0.3
        self._lives = 0
        self._catalog: Catalog | None = None
        self.store = self._new_store()

    @property
    def catalog(self) -> Catalog:
        """The open catalog."""
        if self._catalog is None:
            raise Internal("no catalog is open", code="simulator_no_catalog")
        return self._catalog

    def number(self) -> int:
        """Return a number that nobody else gets."""
        return self._world.number()

    def run(self) -> None:
        """Do the work, wait for the others, then show that it can go on."""
        actions = self._world.actions
        weights = [weight for _, weight in actions.values()]
        for _ in range(self._actions):
            [name] = self.random.choices(list(actions), weights)
            self._live(actions[name][0])
            self._think()
        self._world.rest()
        pause_seconds = 60.0
        while self._world.busy:
            self._world.time.wait(pause_seconds)
            pause_seconds = min(2 * pause_seconds, SLEEP_SECONDS_MAX)
        self._go_on()

    def reopen(self) -> None:
        """Open the catalog anew; what was served before stays where that fails."""
        try:
            self._catalog = self._open()
        except WorkbenchError:
            return
        self.auditor.opened(self.name)

    def _live(self, action: Callable[[Writer], None]) -> None:
        """Do one thing; a crash begins a new life."""
        try:
            self._ensure_open()
            action(self)
        except Crash:
            self.store = self._new_store()
            self._catalog = None
            self.auditor.opened(self.name)
        except WorkbenchError:
            pass  # an upload of its own that failed: nothing was begun
        except Exception as error:
            raise Violation(f"{self.name} fails by a bug: {error!r}") from error
        else:
            self.auditor.served(self.name, self.catalog)

    def _ensure_open(self) -> None:
        for _ in range(OPENINGS_MAX):
            if self._catalog is not None:
                return
            try:
                self._catalog = self._open()
            except WorkbenchError as error:
                if error.code == "catalog_absent":
                    self._create()
                self._world.time.wait(self.random.random() * 10)
        raise Violation(f"{self.name} cannot open the catalog in {OPENINGS_MAX} attempts")

    def _create(self) -> None:
        with contextlib.suppress(WorkbenchError):  # another was first, or the store failed
            self._catalog = Catalog.create(
                self.store, clock=self._world.clock(), rng=self._rng(), writer=self._writer()
            )

    def _open(self) -> Catalog:
        return Catalog.open(
            self.store, clock=self._world.clock(), rng=self._rng(), writer=self._writer()
        )

    def _rng(self) -> SimRng:
        return SimRng(self._world.fork(), lambda made: self.auditor.drew(self.name, made))

    def _writer(self) -> str:
        return f"{self.name}.{self._lives}"

    def _new_store(self) -> FaultyObjectStore:
        self._lives += 1
        return FaultyObjectStore(
            self._world.store,
            self._world.faults,
            self._world.time,
            name=self._writer(),
            trace=self._world.note,
        )

    def _think(self) -> None:
        sleeps = self.random.random() < self._world.sleep_rate
        if self._sleeper and self.random.random() < 0.7:
            self._world.time.wait(SLEEPER_SECONDS_MAX * self.random.random())
            return
        if sleeps:
            self._world.time.wait(SLEEP_SECONDS_MAX * self.random.random() ** 1.5)
        else:
            self._world.time.wait(THINK_SECONDS_MAX * self.random.random() ** 3)

    def _go_on(self) -> None:
        """Commit once more, now that nothing fails; that must succeed."""
        before = len(self.auditor.intents)
        try:
            self._ensure_open()
            self.catalog.refresh()
            append(self)
        except (Violation, Abandoned):
            raise
        except BaseException as error:
            raise Violation(f"{self.name} cannot go on after the faults: {error!r}") from error
        mine = [i for i in self.auditor.intents[before:] if i.actor == self.name]
        if [intent.status for intent in mine] != ["acknowledged"]:
            ends = ", ".join(f"{intent} {intent.status}" for intent in mine)
            raise Violation(f"{self.name} cannot commit after the faults: {ends}")
        self.auditor.served(self.name, self.catalog)


def play(seed: int, tell: Callable[[str], None] | None = None) -> Outcome:
    """Play the schedule of a seed.

    Args:
        seed: Which.
        tell: Told of every step, for people.
    """
    world = World(seed, tell)
    with tuned(world.fork()):
        return world.run()
