"""The desk: look, plan, approve, apply, watch and verify, composed over the session's functions.

    catalog ──▶ view, load ──▶ board (routes)     brush ──▶ proposal
       ▲                            │                          │
       └── decisions, receipts ◀── approve, reject ◀───────────┤
       └── receipts, lease ◀────── run in the background ◀── apply

Rules:

- What is shown comes from the catalog and the receipts: a new desk on the same catalog shows the
  same, after a reload, in a new kernel, at another person's.
- A decision is recorded only if nobody decided since it was shown; who comes second is told who
  was first. The same thing asked for twice is done once.
- Reading and deciding happen in the caller's thread, under one lock; applying in a thread of its
  own, with a catalog of its own. No event loop is needed, and a running one is not disturbed.
- Decisions and applying raise nothing at whoever presses a button: `Told` says what came of it.

Not here: what it looks like (the widgets), and what is decided by rule (planner, session).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from workbench.errors import NotFound, WorkbenchError
from workbench.model.plan import Plan
from workbench.report import words
from workbench.report.route_rows import EVERYTHING, Brush
from workbench.session.applying import Application
from workbench.session.approval import user
from workbench.session.cluster import ClusterView, open_cluster
from workbench.session.collect_live import LiveOptions, collect_live
from workbench.session.lease import Machine, this_machine
from workbench.session.planning import is_live
from workbench.session.plans import record_plan, resolve_plan
from workbench.session.proofs import Proofs
from workbench.session.receipts import applied_of
from workbench.session.system import SystemClock
from workbench.session.verify import VerifyAnswer, verify_plan
from workbench.session.wiring import user_name
from workbench.widgets import standing
from workbench.widgets.board import board_of, judged, opened, route_windows, with_verdicts
from workbench.widgets.deciding import Request, record, seek_proof
from workbench.widgets.lookout import EVERY_S, Lookout, Seen
from workbench.widgets.options import DeskOptions
from workbench.widgets.proposing import Proposer, planned_anew
from workbench.widgets.records import Records
from workbench.widgets.running import Run
from workbench.widgets.standing import Known
from workbench.widgets.telling import Bulletin, Telling, Told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workbench.catalog.catalog import Catalog
    from workbench.report.job_rows import JobFacts
    from workbench.report.plan_review import ActionStanding
    from workbench.report.route_rows import RouteBoard
    from workbench.session.approval import Decision
    from workbench.session.look import HotAnswer
    from workbench.session.proofs import Ground
    from workbench.session.receipts import Receipt

    Shown = tuple[str, Mapping[str, Decision]]

__all__ = ["Desk", "DeskOptions", "Told"]

TRACE: Final = "trace:"
FOLLOW_S: Final = 1.0
LOOKING_AHEAD: Final = "looking ahead"
OUTDATED: Final = frozenset({"plan_stale", "plan_executed"})


class Desk(Telling):
    """One cluster of a catalog, one plan, and what is being done with it."""

    def __init__(  # noqa: PLR0913 - what a desk is about, named
        self,
        catalog: Catalog,
        target: str | None = None,
        who: str | None = None,
        *,
        cluster: str | None = None,
        plan: Plan | str | None = None,
        options: DeskOptions | None = None,
        machine: Machine | None = None,
    ) -> None:
        """Open the desk.

        Args:
            catalog: Of the cluster; used under the desk's lock from now on.
            target: URL of the system; None takes the one that the cluster was collected from.
            who: Who approves and applies; None is the user of this machine.
            cluster: None takes the only one.
            plan: To begin with; None takes the newest of the cluster.
            options: How to look and plan.
            machine: Where we run; tests bring their own.

        Raises:
            InvalidArgument: the name cannot be recorded, or there are several clusters.
        """
        self.who = user_name() if who is None else who
        self._approver = user(self.who)
        self._target = target
        self._cluster = cluster
        self._machine = machine or this_machine()
        self._options = DeskOptions() if options is None else options
        self._lock = threading.RLock()
        self._bulletin = Bulletin()
        self._records = Records(catalog, self._machine, self.who)
        self._seen = Seen()
        self._lookout = Lookout(self.glance, self._bulletin, self._machine.clock)
        self._elsewhere: standing.Elsewhere | None = None
        # Why a plan was refused that looked fresh: its hash, what was seen then, and what was said.
        self._refused: tuple[str, int, str] | None = None
        self._brush = EVERYTHING
        self._epoch = 0
        self._view: ClusterView | None = None
        self._proofs = Proofs()
        self._ground: Ground | None = None
        self._absent = ""
        self._answer: HotAnswer | None = None
        self._board: RouteBoard | None = None
        self._proposer: Proposer | None = None
        self._plan: Plan | None = None
        self._suggestion: Plan | None = None
        self._verified: VerifyAnswer | None = None
        # What whoever looks at the desk has seen: a decision is about that.
        self._shown: Shown | None = None
        self._run: Run | None = None
        self._recording: frozenset[str] = frozenset()
        self._open()
        if plan is None:
            self._plan = self._records.newest_plan(self.cluster)
        else:
            self._plan = plan if isinstance(plan, Plan) else resolve_plan(catalog, plan)

    # What there is to see

    @property
    def view(self) -> ClusterView | None:
        """The cluster; None where the catalog holds no load."""
        return self._view

    @property
    def cluster(self) -> str:
        """Name of the cluster; empty where there is none."""
        return "" if self._view is None else self._view.name

    @property
    def absent(self) -> str:
        """Why there is nothing to see; empty where there is."""
        return self._absent

    @property
    def brush(self) -> Brush:
        """The part of the picture that is looked at."""
        return self._brush

    @property
    def current(self) -> Plan | None:
        """The plan under review."""
        return self._plan

    @property
    def suggestion(self) -> Plan | None:
        """The proposal for the brush, where another plan is under review; else None."""
        return self._suggestion

    @property
    def verified(self) -> VerifyAnswer | None:
        """What the newest verification of the plan found; None where there was none."""
        return self._verified

    @property
    def options(self) -> DeskOptions:
        """How the desk looks and plans."""
        return self._options

    @property
    def target(self) -> str | None:
        """URL of the system that a plan is applied to; None where there is none, as of a trace."""
        if self._target is not None:
            return self._target
        source = "" if self._view is None else self._view.properties.get("source", "")
        return None if not source or source.startswith(TRACE) else source

    @property
    def running(self) -> bool:
        """Whether a run of this desk goes on."""
        return self._run is not None and self._run.running

    @property
    def answer(self) -> HotAnswer | None:
        """The verdicts; computed when first asked for."""
        with self._lock:
            if self._answer is None and self._view is not None:
                table = route_windows(self._view, self._options)
                self._answer = judged(self._view, self._options, table)
            return self._answer

    @property
    def board(self) -> RouteBoard | None:
        """The routes with their loads, and verdicts once judged; read when first asked for."""
        with self._lock:
            if self._board is None and self._view is not None:
                table = route_windows(self._view, self._options)
                self._board = board_of(self._view, self._options, table)
            return self._board

    @property
    def ready_board(self) -> RouteBoard | None:
        """The board as far as it was read; None before."""
        return self._board

    @property
    def proposer(self) -> Proposer | None:
        """What plans for a brush, its load in memory; made when first asked for."""
        with self._lock:
            if self._proposer is None and self._view is not None:
                self._proposer = Proposer(self._view, self._options, self._proofs, self._ground)
            return self._proposer

    @property
    def stale(self) -> str:
        """Why the plan cannot be applied any more; empty where it can, or where it is."""
        with self._lock:
            if self._plan is None or self._view is None:
                return ""
            run = self._mine(self._plan)
            if run is not None and run.error is not None and run.error.code == "plan_stale_version":
                return run.error.message
            seen = self._view.snapshot.catalog_version
            if text := standing.outdated(self._plan, self.known(), seen):
                return text
            told, now = self._refused, (self._plan.content_hash, self._epoch)
            return told[2] if told is not None and told[:2] == now else ""

    def known(self) -> Known:
        """Return decisions, receipts and the run of the plan, read anew where they changed."""
        with self._lock:
            found, view = self._plan, self._view
            if found is None:
                return Known({}, {})
            cluster_id = None if view is None else view.properties.get("cluster_id")
            return self._records.known(found, self._mine(found), self._recording, cluster_id)

    def standings(self) -> dict[str, ActionStanding]:
        """Return where each action of the plan stands, by its id; what is shown is known."""
        with self._lock:
            if self._plan is None:
                return {}
            known = self.known()
            self._shown = (self._plan.content_hash, known.decisions)
            return standing.standings(self._plan, known)

    def jobs(self) -> list[JobFacts]:
        """Return the plan's jobs, in the plan's order."""
        with self._lock:
            return [] if self._plan is None else standing.jobs(self._plan, self.known())

    def earlier_jobs(self) -> list[Receipt]:
        """Return the jobs of the cluster's other plans, newest first."""
        with self._lock:
            return self._records.earlier_jobs(self.cluster, self._plan)

    # What can be done

    def judge(self) -> None:
        """Read the routes' load and judge them, with a view of its own: nobody waits for it."""
        while not self._bulletin.closed.is_set():
            with self._lock:
                epoch, seen = self._epoch, self._view
                another = self._records.another()
            if seen is None:
                return
            view = open_cluster(another, seen.name)
            table = route_windows(view, self._options)
            board = board_of(view, self._options, table)
            if not self._adopt(epoch, board, None):
                continue
            self._tell("look")
            answer = judged(view, self._options, table)
            board = with_verdicts(board, answer)
            if self._adopt(epoch, board, answer):
                self._tell("look")
                return

    def look(self, brush: Brush | None = None) -> None:
        """Look at a part of the picture, or at all of it."""
        self._brush = EVERYTHING if brush is None else brush
        self._tell("look")

    def propose(self) -> Plan | None:
        """Plan for the brushed part; it is kept once something of it is approved.

        It comes under review at once, unless something of the plan there is decided already: then
        it is the `suggestion`, until `take_suggestion`.

        Raises:
            WorkbenchError: as `session.planning.plan`.
        """
        proposer = self.proposer
        if proposer is None:
            return None
        made = proposer.propose(self._brush)
        with self._lock:
            known = self.known()
            if known.decisions or known.receipts:
                same = self._plan is not None and self._plan.content_hash == made.content_hash
                self._suggestion = None if same else made
            else:
                self._take(made)
        self._tell("plan")
        return made

    def take_suggestion(self) -> Told:
        """Review the proposal for the brush instead of the plan there is."""
        if self._suggestion is None:
            return self._say("nothing is proposed for the brush", ok=False)
        self.open_plan(self._suggestion)
        return self._say("the proposal for the brush is under review")

    def plan_again(self) -> Plan | None:
        """Collect from the running cluster where there is one, and plan with a back-test.

        Raises:
            WorkbenchError: as `collect_live` and `session.planning.plan`.
        """
        self._collect_where_live()
        self.refresh()
        with self._lock:
            catalog, seen, brush = self._records.another(), self._view, self._brush
        if seen is None:
            return None
        made = planned_anew(open_cluster(catalog, seen.name), self._options, brush)
        record_plan(catalog, made)
        self.open_plan(made)
        # So that the first approval finds the proof.
        self._bulletin.later(LOOKING_AHEAD, self.look_ahead, quiet=True)
        return made

    def look_ahead(self) -> None:
        """Look at the plan under review as approving will, so that approving need not wait."""
        with self._lock:
            found, another = self._plan, self._records.another()
        if found is not None and not self.stale:
            seek_proof(another, found, self._proofs)

    def collect(self) -> None:
        """Collect from the running cluster, and read everything anew.

        Raises:
            NotFound: `target_absent`: there is no system to collect from.
            WorkbenchError: as `collect_live`.
        """
        if self.target is None:
            raise NotFound(
                f"cluster {self.cluster!r} was collected from no running system",
                code="target_absent",
                hint="open the desk with a target, as node://HOST:PORT",
            )
        store = self._records.catalog.store
        collect_live(self.target, store.url, LiveOptions(cluster=self.cluster or None))
        self.refresh()

    def open_plan(self, reference: Plan | str) -> Plan:
        """Review another plan: a document, its id, or a file."""
        with self._lock:
            found = reference
            if not isinstance(found, Plan):
                self._records.catalog.refresh()
                found = resolve_plan(self._records.catalog, found)
            self._take(found)
        self._tell("plan", "jobs")
        return found

    def approve(self, *action_ids: str) -> Told:
        """Approve actions; all that nobody rejected where none is named."""
        return self._decide(action_ids, withdraw=False)

    def reject(self, *action_ids: str) -> Told:
        """Reject actions, or take their approval back; all that can be where none is named."""
        return self._decide(action_ids, withdraw=True)

    def apply(self) -> Told:
        """Execute what is approved, in the background; once, however often it is asked for."""
        with self._lock:
            told = self._start()
        # Never under the lock: who listens draws, and drawing asks the desk.
        return self._bulletin.say(told, "jobs", "plan")

    def abandon(self) -> Told:
        """Withdraw all that is not applied; a run stops before its next call."""
        with self._lock:
            todo = [] if self._plan is None else self.known().todo(self._plan)
        if not todo:
            return self._say("nothing is left to abandon", ok=False)
        return self._decide(todo, withdraw=True)

    def verify(self) -> VerifyAnswer | None:
        """Check the plan's forecast on the load that came after; collect first where one can.

        Raises:
            WorkbenchError: as `verify_plan`.
        """
        self._collect_where_live()
        with self._lock:
            found, seen, another = self._plan, self._view, self._records.another()
        if found is None or seen is None:
            return None
        applied = applied_of(another, found)
        answer = verify_plan(open_cluster(another, found.cluster), found, applied=applied)
        self._verified = answer
        self._tell("plan")
        return answer

    def refresh(self) -> None:
        """Read everything anew."""
        with self._lock:
            self._records.catalog.refresh()
            self._open()
            if self._plan is None:
                self._plan = self._records.newest_plan(self.cluster)
        self._tell("look", "plan", "jobs")

    def glance(self) -> bool:
        """See what others changed in the catalog, and read that anew; tell whether they did.

        Raises:
            WorkbenchError: the catalog cannot be read now.
        """
        with self._lock:
            topics = self._noticed()
        self._tell(*topics)
        return bool(topics)

    def heed(self) -> bool:
        """Glance in the background, unless that was done just now; pages that show us ask."""
        return self._lookout.heed()

    def attend(self, every_s: float = EVERY_S) -> bool:
        """Glance every so often until `close`; False where that is done already."""
        return self._lookout.attend(every_s)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for all that goes on in the background; tell whether it has ended."""
        ended = self._bulletin.wait(timeout_s)
        run = self._run
        return (run is None or run.wait(timeout_s)) and ended

    def follow(self, every_s: float = FOLLOW_S) -> bool:
        """Look every so often while somebody else applies the plan, in the background."""
        other = self.known().elsewhere
        live = other is not None and other.live
        return live and self.later("following", lambda: self._follow(every_s))

    def close(self) -> None:
        """Tell nobody any more; a run goes on to its end."""
        self._bulletin.close()

    # How

    def _open(self) -> None:
        # At once: who draws in another thread reads the old or the new, never that there is none.
        self._view, self._ground, self._absent = opened(self._records.catalog, self._cluster)
        self._answer, self._board, self._proposer = None, None, None
        self._epoch += 1
        self._seen.take(self._records.catalog, self.cluster)

    def _noticed(self) -> tuple[str, ...]:
        """Read anew what changed, under the lock; return what is to be told of."""
        catalog = self._records.catalog
        catalog.refresh()
        changed, data = self._seen.news(catalog, self.cluster)
        if data:
            self._open()
        if changed and self._plan is None:
            self._plan = self._records.newest_plan(self.cluster)
        # A lease ends by time, without a change in the catalog.
        before, self._elsewhere = self._elsewhere, self.known().elsewhere
        if changed or before != self._elsewhere:
            return ("look", "plan", "jobs") if data else ("plan", "jobs")
        return ()

    def _adopt(self, epoch: int, board: RouteBoard, answer: HotAnswer | None) -> bool:
        """Take what was read, unless the cluster was read anew meanwhile."""
        with self._lock:
            if epoch != self._epoch:
                return False
            self._board, self._answer = board, answer or self._answer
            return True

    def _collect_where_live(self) -> None:
        """Look at the system, so that what came, and what others changed, is seen."""
        if self._view is not None and is_live(self._view) and self.target is not None:
            self.collect()

    def _take(self, found: Plan) -> None:
        if self._plan is None or self._plan.content_hash != found.content_hash:
            self._verified = None
        self._plan, self._suggestion, self._shown = found, None, None

    def _mine(self, found: Plan) -> Run | None:
        """Return the run of this plan in this process; None where there was none."""
        run = self._run
        return run if run is not None and run.plan_hash == found.content_hash else None

    def _decide(self, action_ids: Sequence[str], *, withdraw: bool) -> Told:
        """Record a decision, if nobody decided otherwise since it was shown."""
        found = self._plan
        if found is None:
            return self._say("there is no plan to decide on", ok=False)
        # Before anybody draws: what is drawn because of this press was not seen by who pressed.
        shown = self._shown
        if not withdraw:
            # What is asked for is seen at once; that it is kept takes a look at the load.
            self._recording = frozenset(action_ids or (a.action_id for a in found.actions))
            self._tell("jobs")
        topics: tuple[str, ...] = ()
        try:
            with self._lock:
                topics = self._noticed()
                told = self._decided(found, action_ids, shown, withdraw=withdraw)
        except WorkbenchError as error:
            told = Told(ok=False, text=self._why_not(found, error))
        finally:
            self._recording = frozenset()
        return self._bulletin.say(told, *dict.fromkeys((*topics, "plan", "jobs")))

    def _why_not(self, found: Plan, error: WorkbenchError) -> str:
        """Return why a decision was refused; that the plan is stale is known from then on."""
        if error.code in OUTDATED:
            with self._lock:
                if not self.stale and error.code == "plan_stale":
                    self._refused = (found.content_hash, self._epoch, words.clean(error.message))
                if why := self.stale:
                    return f"this plan is stale, nothing was recorded: {why}; plan again"
        return words.clean(str(error))

    def _decided(
        self, found: Plan, asked: Sequence[str], shown: Shown | None, *, withdraw: bool
    ) -> Told:
        known = self.known()
        seen = known.decisions
        if shown is not None and shown[0] == found.content_hash:
            seen = shown[1]
        applied = frozenset(a.action_id for a in found.actions if known.applied(a.action_id))
        request = Request(found, tuple(asked), withdraw, self._approver)
        ok, text = record(self._records.catalog, request, seen, applied, self._proofs)
        # What was told of others is seen now: who asks again means it.
        self._shown = (found.content_hash, self.known().decisions)
        return Told(ok, text)

    def _start(self) -> Told:
        """Begin a run, if there is something to do and nobody does it."""
        found = self._plan
        if found is None:
            return Told(ok=False, text="there is no plan to apply")
        if self.running:
            return Told(ok=False, text="it is being applied already")
        known = self.known()
        if why := standing.nothing_to_apply(found, known):
            return Told(ok=False, text=why)
        another = self._records.another()
        self._run = Run(
            lambda: Application(another, found, self._target, by=self.who, machine=self._machine),
            plan_hash=found.content_hash,
            by=self.who,
            now=SystemClock().now,
            publish=self._published,
        )
        self._run.start()
        return Told(ok=True, text=f"applying {words.plural(len(known.todo(found)), 'action')}")

    def _published(self) -> None:
        """Tell how the run fares; called by its publisher."""
        run = self._run
        if run is None or run.running:
            self._tell("jobs", "plan")
            return
        self.speaker = None
        done = "applied: all that is approved is done"
        text = done if run.error is None else words.clean(str(run.error))
        self._say(text, "jobs", "plan", ok=run.error is None)

    def _follow(self, every_s: float) -> None:
        while not self._bulletin.closed.wait(every_s):
            other = self.known().elsewhere
            self._tell("jobs", "plan")
            if other is None or not other.live:
                return
