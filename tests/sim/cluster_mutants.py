"""One-line breakages of consensus, host and replica: what the cluster's simulator must find."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import textwrap

import pytest
from raft_mutants import (
    answer_before_its_disk,
    count_itself_before_its_disk,
    keep_the_log_after_a_snapshot,
    never_truncate,
    skip_a_piece_of_a_snapshot,
    vote_for_an_older_log,
    vote_twice,
)

from workbench.errors import Unavailable
from workbench.host import host, inbox, lane, shipping, start
from workbench.ports.consensus import EntryKind, HardState, ReadState, Role
from workbench.ports.peers import AppendResponse
from workbench.raft import core, election, following, leading
from workbench.raft.core import Raft
from workbench.raft.log import RaftLog
from workbench.raft.membership import Memberships
from workbench.raft.progress import Progress
from workbench.raft.reads import ReadRounds
from workbench.raft.state import RaftState
from workbench.replica import raft_snapshot, replica
from workbench.replica.clock import Hlc
from workbench.replica.dedupe import Dedupe
from workbench.replica.layout import META, PROGRESS, family
from workbench.replica.replica import Replica


def without(patch, owner, function, text):
    """Take `text` out of a function's source: the fault of a forgotten condition."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(text) == 1
    names: dict[str, object] = {}
    known = vars(sys.modules[function.__module__])
    exec(compile(source.replace(text, ""), __file__, "exec"), known, names)  # noqa: S102 - our own source
    patch.setattr(owner, function.__name__, names[function.__name__])


# -- votes


def forget_the_vote_in_a_crash(patch):
    """A vote does not go to the disk."""
    patch.setattr(
        RaftState,
        "hard_state",
        property(lambda raft: HardState(raft.term, 0, raft.commit)),
    )


def take_a_pre_vote_for_a_vote(patch):
    original = election.campaign

    def campaign(raft, *, pre, transfer=False):
        if not pre and not transfer and raft.pre and raft.configuration.voters != {raft.node}:
            raft.term, raft.vote = raft.term + 1, raft.node
            election._win(raft)
            return
        original(raft, pre=pre, transfer=transfer)

    patch.setattr(election, "campaign", campaign)


def promise_by_a_pre_vote(patch):
    """An answer to a pre-vote is a vote: it ties the voter down without a term of its own."""
    original = election._answer

    def answer(raft, request):
        original(raft, request)
        if request.pre and raft.messages[-1].granted:
            raft.messages[-1] = dataclasses.replace(raft.messages[-1], pre=False)

    patch.setattr(election, "_answer", answer)


def count_votes_of_anybody(patch):
    """One vote of another is enough, however many voters there are."""
    patch.setattr(election, "majority", lambda _: 1)


# -- log and commit


def truncate_at_every_request(patch):
    """A late, shorter request takes away what came after it."""
    original = following._append

    def append(raft, request):
        at = request.prev_index + 1
        if raft.commit < at <= raft.log.last_index and raft.installing is None:
            raft.log.truncate_from(at)
            raft.memberships.truncate_from(at)
        original(raft, request)

    patch.setattr(following, "_append", append)


def accept_without_looking_at_the_entry_before(patch):
    original = RaftLog.term

    def append(raft, request):
        if raft.log.compacted < request.prev_index <= raft.log.last_index:
            term = original(raft.log, request.prev_index)
            request = dataclasses.replace(request, prev_term=term)
        plain(raft, request)

    plain = following._append
    patch.setattr(following, "_append", append)


def commit_entries_of_old_terms_by_count(patch):
    """What a majority has is committed whatever its term."""
    without(patch, leading, leading._commit, " or raft.log.term(index) != raft.term")


def commit_what_one_other_has(patch):
    def most(configuration, values):
        return max(values.get(node, 0) for node in configuration.voters)

    patch.setattr(leading, "agreed", most)


def commit_what_a_heartbeat_says(patch):
    """A heartbeat's commit is taken although the log may differ there."""

    def heartbeats(raft):
        for node in raft.progress:
            raft.early.append(
                leading.Heartbeat(raft.node, node, raft.term, raft.commit, raft.reads.sent)
            )

    patch.setattr(leading, "_broadcast_heartbeats", heartbeats)


# -- reads


def read_without_a_round(patch):
    """A read's index is confirmed without asking anybody."""

    def read_index(raft, context):
        assert raft.role is Role.LEADER
        raft.read_states.append(ReadState(context, raft.commit))

    patch.setattr(Raft, "read_index", read_index)


def read_before_the_first_commit_of_the_term(patch):
    def ask(rounds, context, commit):
        rounds.fresh.append(ReadState(context, commit or 0))

    patch.setattr(ReadRounds, "ask", ask)
    lead_before_the_own_entry_has_applied(patch)


def answer_reads_before_what_they_wait_for_has_applied(patch):
    original = lane.Lane._answer_reads

    def answer(self):
        for admitted in self._admitted.values():
            admitted.index = 0
        original(self)

    patch.setattr(lane.Lane, "_answer_reads", answer)


def forget_what_was_proposed_before_a_read(patch):
    """A read waits for the commit index only, not for what was proposed before its admission."""
    original = lane.Lane._admit

    def admit(self, clock, now_ms, **options):
        original(self, clock, now_ms, **options)
        for admitted in self._admitted.values():
            if not admitted.confirmed:
                admitted.index = 0

    patch.setattr(lane.Lane, "_admit", admit)


def let_reads_above_the_ceiling_in(patch):
    admit, answer = lane.Lane._admit, Replica.read

    def admitted(self, clock, now_ms, **options):
        ceiling, self._ceiling = self._ceiling, 2**63
        admit(self, clock, now_ms, **options)
        self._ceiling = ceiling

    def read(self, asked):
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Replica, "ceiling", property(lambda _: 2**63))
            return answer(self, asked)

    patch.setattr(lane.Lane, "_admit", admitted)
    patch.setattr(Replica, "read", read)


def apply_no_ceiling(patch):
    """An entry's ceiling does not raise that of the state."""
    original = replica.decode_entry

    def decode(data):
        entry = original(data)
        newest = entry.commands[-1].commit_ts + 1 if entry.commands else 1
        return dataclasses.replace(entry, ceiling=newest)

    patch.setattr(replica, "decode_entry", decode)


def forget_the_clock_at_a_read(patch):
    """A read's read_ts does not raise the clock."""
    original = Hlc.observe
    patch.setattr(Hlc, "observe", lambda clock, timestamp: original(clock, 0 * timestamp))


def start_the_clock_at_zero(patch):
    """A new leader's clock does not begin at the ceiling of what was applied."""
    patch.setattr(lane, "Hlc", lambda _: Hlc(0))


def lead_before_the_own_entry_has_applied(patch):
    original = lane.Lane._follow_leadership

    def follow(self):
        original(self)
        if self._term and self._clock is None:
            self._clock = Hlc(self.replica.ceiling)
            self._ceiling = self.replica.ceiling

    patch.setattr(lane.Lane, "_follow_leadership", follow)


def confirm_no_read(patch):
    """No read is ever answered (liveness)."""
    without(patch, lane.Lane, lane.Lane._confirm, "\n        admitted.confirmed = True")


def wait_for_the_round_of_an_earlier_leadership(patch):
    """A leader that comes back admits no read again (liveness)."""
    without(patch, lane.Lane, lane.Lane._follow_leadership, "\n    self._unconfirmed = 0")


# -- raft_snapshots


def install_an_older_state(patch):
    """A raft_snapshot is called newer than it is: it was taken before, and is named anew."""
    original = shipping.Shipping._current

    def current(self, applied_index):
        if self._taken is not None:
            self._taken = self._consensus.snapshot_meta(applied_index)
            self._snapshots._meta = self._taken
        return original(self, applied_index)

    patch.setattr(shipping.Shipping, "_current", current)


def never_install_again(patch):
    """An install that a crash interrupted is not done again."""
    original = start.load_progress

    def load(group, engine):
        return dataclasses.replace(original(group, engine), applied_index=2**40)

    patch.setattr(start, "load_progress", load)


def install_with_progress_first(patch):
    """The progress of a raft_snapshot is there before its rows are."""
    original = raft_snapshot.install_pieces

    def install(engine, group, meta, pieces):
        key = family(group, META) + PROGRESS
        for data in pieces.kept():
            rows = dict(raft_snapshot.decode_piece(data).rows)
            if key in rows:
                engine.write([(key, rows[key])])
                engine.flush()
        for data in pieces.kept():
            engine.write(list(raft_snapshot.decode_piece(data).rows))
        engine.flush()
        assert original

    patch.setattr(raft_snapshot, "install_pieces", install)


def install_over_the_old_rows(patch):
    """What was there before and is not in the raft_snapshot stays."""

    def install(engine, group, meta, pieces):
        rows = [row for data in pieces.kept() for row in raft_snapshot.decode_piece(data).rows]
        key = family(group, META) + PROGRESS
        engine.write([row for row in rows if row[0] != key])
        engine.write([row for row in rows if row[0] == key])
        engine.flush()

    patch.setattr(raft_snapshot, "install_pieces", install)


def drop_the_pieces_before_they_are_installed(patch):
    def install(self, meta):
        pieces = list(self._incoming.kept())
        self._incoming.discard()

        class Kept:
            def kept(self):
                return iter(pieces)

        raft_snapshot.install_pieces(self._engine, self._group, meta, Kept())

    patch.setattr(raft_snapshot.EngineSnapshots, "install", install)


def tell_the_log_before_the_pieces_are_durable(patch):
    patch.setattr(raft_snapshot.EngineSnapshots, "sync", lambda _: None)


# -- membership


def change_many_members_at_once(patch):
    patch.setattr(core, "check_change", lambda *_: None)


def change_members_before_the_last_change(patch):
    original = Raft.propose_configuration

    def propose(raft, wanted):
        own, raft.first_own = raft.first_own, 0
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Memberships, "changed_at", 0)
            try:
                return original(raft, wanted)
            finally:
                raft.first_own = own

    patch.setattr(Raft, "propose_configuration", propose)


def keep_members_of_a_truncated_change(patch):
    patch.setattr(Memberships, "truncate_from", lambda *_: None)


def count_learners(patch):
    """Whom only the log is sent to decides with the others."""

    def most(configuration, values):
        reached = sorted((values.get(node, 0) for node in configuration.members), reverse=True)
        return reached[len(configuration.voters) // 2]

    patch.setattr(leading, "agreed", most)


def forget_the_members_at_a_restart(patch):
    """The state does not keep the members that it was told."""
    original = Replica.apply

    def apply(self, entry):
        members = self._members
        results = original(self, entry)
        if entry.kind is EntryKind.CONFIGURATION:
            self._members = members
            self._engine.write([(self._members_key, replica.encode_members(members))])
        return results

    patch.setattr(Replica, "apply", apply)


# -- host and replica


def never_sync(patch):
    """A turn is finished before it is durable."""
    original = lane.Lane.begin

    def begin(self, now_ms, messages=()):
        return dataclasses.replace(original(self, now_ms, messages), must_sync=False)

    patch.setattr(lane.Lane, "begin", begin)


def acknowledge_before_the_commit(patch):
    """A write is answered once it is proposed."""
    original = lane.Lane._propose

    def propose(self, ceiling, commands, proposal):
        index = original(self, ceiling, commands, proposal)
        for token, (commit_ts, command) in zip(proposal.tokens, commands, strict=False):
            if command.kind == 1:
                self._replies.append(lane.Reply(token, replica.Written(commit_ts, index)))
        return index

    patch.setattr(lane.Lane, "_propose", propose)


def send_promises_early(patch):
    """Messages that rest on the disk leave before it has them."""
    original = Raft.ready

    def ready(raft):
        taken = original(raft)
        if taken.messages:
            taken = dataclasses.replace(
                taken, early=(*taken.early, *taken.messages), messages=(), must_sync=False
            )
            raft.taken = taken
        return taken

    patch.setattr(Raft, "ready", ready)


def skip_the_dedupe(patch):
    patch.setattr(Dedupe, "find", lambda *_: None)
    original = Dedupe.store

    def store(self, client_id, sequence, *arguments):
        if (client_id, sequence) in self._kept:
            return iter(())
        return original(self, client_id, sequence, *arguments)

    patch.setattr(Dedupe, "store", store)


def apply_again_after_a_restart(patch):
    """The state says that it is one entry behind what it is."""
    original = replica.encode_progress

    def encode(progress):
        return original(
            dataclasses.replace(progress, applied_index=max(progress.applied_index - 1, 0))
        )

    patch.setattr(replica, "encode_progress", encode)


def write_the_progress_apart(patch):
    """The applied index is written in a batch of its own, before the entry's effect."""
    original = Replica.apply

    def apply(self, entry):
        engine = self._engine
        key = self._progress_key

        class Apart:
            def write(self, changes):
                engine.write([each for each in changes if each[0] == key])
                engine.write([each for each in changes if each[0] != key])

            def __getattr__(self, name):
                return getattr(engine, name)

        self._engine = Apart()
        try:
            return original(self, entry)
        finally:
            self._engine = engine

    patch.setattr(Replica, "apply", apply)


def tell_a_lost_proposal_as_failed(patch):
    """What may still commit is told as not done."""
    patch.setattr(
        lane,
        "leadership_lost",
        lambda _: Unavailable("not leader", code="not_leader", hint=""),
    )


def cut_the_log_behind_the_engine(patch):
    """The log lets go of what the engine has not flushed."""

    def flushed(self, applied):
        return {group: self._lanes[group].consensus.compacted for group in applied}

    patch.setattr(host.Host, "flushed", flushed)


def flush_nothing_before_the_log_is_cut(patch):
    from workbench.sim.cluster_disk import SimEngine

    patch.setattr(SimEngine, "flush", lambda _: None)


def answer_another_leaders_entry(patch):
    """A proposal is answered by whatever entry took its place."""
    original = lane.Lane._apply

    def apply(self, entry):
        proposal = self._proposals.get(entry.index)
        if proposal is not None and proposal.term != entry.term:
            self._proposals[entry.index] = dataclasses.replace(proposal, term=entry.term)
        original(self, entry)

    patch.setattr(lane.Lane, "_apply", apply)
    patch.setattr(lane.Lane, "_lose_proposals", lambda self, *, above: None)


def read_any_state(patch):
    """A follower answers reads of its own state."""
    original = lane.Lane._refuse_queued

    def refuse(self):
        for read, token in self._reads:
            if isinstance(read, lane.GetMany) and self.replica.ceiling > 1:
                asked = dataclasses.replace(read, read_ts=read.read_ts or self.replica.ceiling - 1)
                if asked.read_ts < self.replica.ceiling and self.replica.bootstrapped:
                    self._replies.append(lane.Reply(token, self.replica.read(asked)))
        self._reads = []
        original(self)

    patch.setattr(lane.Lane, "_refuse_queued", refuse)


def lose_a_message_class(patch):
    """Accepted appends are never heard of: nothing can commit (liveness)."""
    original = inbox.Inbox.put

    def put(self, messages):
        original(
            self,
            [each for each in messages if not isinstance(each.message, AppendResponse)],
        )

    patch.setattr(inbox.Inbox, "put", put)


def never_step_down(patch):
    """A leader without a majority leads on, and never times out (liveness)."""
    patch.setattr(leading, "_hears_majority", lambda _: True)
    original = Raft.step

    def step(raft, message):
        if raft.role is Role.LEADER and message.term > raft.term:
            return
        original(raft, message)

    patch.setattr(Raft, "step", step)


def never_probe_again(patch):
    """What was lost on the way is never sent again (liveness)."""
    patch.setattr(leading, "_catch_up", lambda *_: None)
    patch.setattr(Progress, "rejected", lambda *_: False)


# Found by schedules of chance; `commit_entries_of_old_terms_by_count` by test_cluster_figure_8.
MUTANTS = [
    forget_the_vote_in_a_crash,
    vote_twice,
    vote_for_an_older_log,
    take_a_pre_vote_for_a_vote,
    promise_by_a_pre_vote,
    count_votes_of_anybody,
    never_truncate,
    truncate_at_every_request,
    accept_without_looking_at_the_entry_before,
    commit_what_one_other_has,
    count_itself_before_its_disk,
    answer_before_its_disk,
    commit_what_a_heartbeat_says,
    read_without_a_round,
    read_before_the_first_commit_of_the_term,
    answer_reads_before_what_they_wait_for_has_applied,
    forget_what_was_proposed_before_a_read,
    let_reads_above_the_ceiling_in,
    apply_no_ceiling,
    forget_the_clock_at_a_read,
    start_the_clock_at_zero,
    lead_before_the_own_entry_has_applied,
    keep_the_log_after_a_snapshot,
    skip_a_piece_of_a_snapshot,
    install_an_older_state,
    never_install_again,
    install_with_progress_first,
    install_over_the_old_rows,
    drop_the_pieces_before_they_are_installed,
    tell_the_log_before_the_pieces_are_durable,
    change_many_members_at_once,
    change_members_before_the_last_change,
    keep_members_of_a_truncated_change,
    count_learners,
    forget_the_members_at_a_restart,
    never_sync,
    acknowledge_before_the_commit,
    send_promises_early,
    skip_the_dedupe,
    apply_again_after_a_restart,
    write_the_progress_apart,
    tell_a_lost_proposal_as_failed,
    cut_the_log_behind_the_engine,
    flush_nothing_before_the_log_is_cut,
    answer_another_leaders_entry,
    read_any_state,
    lose_a_message_class,
    never_step_down,
    never_probe_again,
    confirm_no_read,
    wait_for_the_round_of_an_earlier_leadership,
]
