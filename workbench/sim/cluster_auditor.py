"""Watches every effect of every node of a simulated cluster, and knows what must hold.

    disks ───appended, applied──┐
    network ─────────────sent───┼──▶ Auditor ──▶ Violation, at the very step that breaks a rule
    world ──────after each turn─┘         └────▶ History: what clients were told (`cluster_history`)

Raft's five invariants (paper, figure 3), each incrementally:

- election safety: a term of a group has one leader;
- a leader only appends: what its log ended with stays there while it leads;
- log matching: an entry's (index, term) has one content and one predecessor, on every disk;
- leader completeness: a leader has what was committed before its term;
- state-machine safety: an index has one entry, whoever applies it.

And what they rest on: a promise (vote, accepted append) leaves only when the sender's disk holds
it; nobody votes twice in a term, neither on disk nor in messages; what the first replica applies
is durable at a majority of some configuration that may be in force; a replica applies each index
once, in order, and only what its own disk holds; replicas that applied the same index have equal
rows; commit_ts rise along the log.

It keeps its own copies and uses nothing of the code under test but its values and codecs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from workbench.ports.consensus import Configuration, EntryKind, Role
from workbench.ports.peers import AppendResponse, VoteRequest, VoteResponse
from workbench.raft.membership import decode_configuration, majority
from workbench.replica.layout import META, PROGRESS, decode_progress, family
from workbench.sim.cluster_history import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from workbench.ports.consensus import LogEntry
    from workbench.ports.peers import GroupMessage, Message
    from workbench.ports.storage import Change, GroupWrite
    from workbench.raft.core import Raft
    from workbench.sim.cluster_disk import Kept
    from workbench.sim.cluster_history import History

PROMISES: Final = (VoteResponse, AppendResponse)


@dataclass(slots=True)
class GroupAudit:
    """What is known of one group.

    Attributes:
        leaders: By term.
        votes: By (node, term): whom a vote was sent to.
        entries: By (index, term): the entry, and the term of the one before.
        configurations: By (index, term), of entries that bring one; the first members at 0.
        committed: By index, of what some replica has applied.
        digests: Of all rows, by applied index.
        newest: Index of the newest entry that some replica has applied.
        newest_term: A term in which it was certainly committed.
        last_commit_ts: As of it.
    """

    leaders: dict[int, int] = field(default_factory=dict)
    votes: dict[tuple[int, int], int] = field(default_factory=dict)
    entries: dict[tuple[int, int], tuple[LogEntry, int]] = field(default_factory=dict)
    configurations: dict[tuple[int, int], Configuration] = field(default_factory=dict)
    committed: dict[int, LogEntry] = field(default_factory=dict)
    digests: dict[int, int] = field(default_factory=dict)
    newest: int = 0
    newest_term: int = 0
    last_commit_ts: int = 0


class Auditor:
    """Keeps its own picture of a cluster; raises Violation.

    Args:
        first: The founding members of every group.
        groups: Their ids.
        history: Told of every command that takes effect.

    Attributes:
        checks: How many were made.
        reached: How often what is rare came up, by kind.
        logs: Every disk's logs, by node; those of lost disks too: what they promised counts.
        rafts: Of every process that runs, by node.
        groups: What is known of each.
    """

    def __init__(self, first: Configuration, groups: Iterable[int], history: History) -> None:
        self.checks = 0
        self.reached: Counter[str] = Counter()
        self.logs: dict[int, Mapping[int, Kept]] = {}
        self.rafts: dict[int, Mapping[int, Raft]] = {}
        self.groups = {group: GroupAudit() for group in groups}
        for audit in self.groups.values():
            audit.configurations[0, 0] = first
        self._history = history
        self._progress_keys = {group: family(group, META) + PROGRESS for group in self.groups}
        # By (node, group): the newest index applied in this life of the process.
        self._applied: dict[tuple[int, int], int] = {}
        # By (node, group): term, index and term of the newest entry, of a leader.
        self._leading: dict[tuple[int, int], tuple[int, int, int]] = {}

    def started(self, node: int, rafts: Mapping[int, Raft], applied: Mapping[int, int]) -> None:
        """Take note of a process that has started on what its disk held."""
        self.rafts[node] = rafts
        for group, index in applied.items():
            self._applied[node, group] = index
            self._leading.pop((node, group), None)

    def stopped(self, node: int) -> None:
        """Take note of a process that is no more; what it had applied may be lost."""
        self.rafts.pop(node, None)
        for group in self.groups:
            self._applied[node, group] = 0

    # -- effects ---------------------------------------------------------------------------------

    def appended(self, node: int, write: GroupWrite, kept: Kept) -> None:
        """See what is about to be added to a log; log matching, votes, terms."""
        self.checks += 1
        audit = self.groups[write.group]
        before, after = kept.hard_state, write.hard_state
        if after is not None:
            if after.term < before.term or after.commit < before.commit:
                raise Violation(f"hard state of {_at(node, write.group)}: {before} then {after}")
            if after.term == before.term and before.vote not in {0, after.vote}:
                raise Violation(f"{_at(node, write.group)} votes twice: {before} then {after}")
        if write.reset is not None:
            self.reached["log reset"] += 1
            entry = audit.committed.get(write.reset.index)
            if entry is None or entry.term != write.reset.term:
                raise Violation(f"{_at(node, write.group)} resets to {write.reset}, not {entry}")
            return
        if not write.entries:
            return
        first = write.entries[0].index
        if first <= kept.last_index:
            self.reached["log truncated"] += 1
        previous = kept.term(first - 1)
        if previous is None:
            raise Violation(f"{_at(node, write.group)} appends {first} behind {kept.last_index}")
        for entry in write.entries:
            self._append(node, write.group, kept, entry, previous)
            previous = entry.term

    def applied(self, node: int, group: int, changes: Sequence[Change], digest: int) -> None:
        """See an engine batch; order, state-machine safety, equal state at equal index."""
        key = self._progress_keys[group]
        value = next((value for at, value in reversed(changes) if at == key), None)
        if value is None:
            return  # rows that a replica writes at its start, or parts of an installation
        self.checks += 1
        progress = decode_progress(key, value)
        index, last = progress.applied_index, self._applied.get((node, group), 0)
        audit = self.groups[group]
        if index <= last:
            raise Violation(f"{_at(node, group)} applies {index} again, it was at {last}")
        self._applied[node, group] = index
        known = audit.digests.get(index)
        reset = self.logs[node][group].reset
        if reset is not None and reset.index == index:
            self.reached["raft_snapshot installed"] += 1
        elif index != last + 1:
            raise Violation(f"{_at(node, group)} goes from {last} to {index}")
        elif known is not None:
            self._same(node, group, index)
        else:
            self._commit(node, group, index)
            audit.digests[index] = digest
            if progress.last_commit_ts < audit.last_commit_ts:
                raise Violation(f"commit_ts of group {group} falls at {index}: {progress}")
            audit.last_commit_ts = progress.last_commit_ts
            self._history.applied(group, index, changes)
            return
        if known != digest:
            raise Violation(f"{_at(node, group)} has other rows than others at {index}")

    def sent(self, node: int, messages: Iterable[GroupMessage]) -> None:
        """See what leaves a node after its disk: promises are kept, and given once."""
        logs = self.logs[node]
        for each in messages:
            message = each.message
            if isinstance(message, PROMISES):
                self._promised(node, each.group, message, logs[each.group])
            elif isinstance(message, VoteRequest) and not message.pre:
                self.checks += 1
                if logs[each.group].hard_state.term < message.term:
                    raise Violation(f"{_at(node, each.group)} campaigns before its disk: {message}")

    # -- after each turn -------------------------------------------------------------------------

    def look(self, node: int) -> None:
        """See who leads; election safety, append-only leader, leader completeness."""
        for group, raft in self.rafts[node].items():
            if raft.role is not Role.LEADER:
                self._leading.pop((node, group), None)
                continue
            self.checks += 1
            term, log = raft.term, raft.log
            known = self._leading.get((node, group))
            if known is None or known[0] != term:
                self._elected(node, group, raft)
            else:
                _, index, entry_term = known
                if log.last_index < index or log.term(index) not in {None, entry_term}:
                    raise Violation(f"{_at(node, group)} leads {term} and loses entry {index}")
            self._leading[node, group] = term, log.last_index, log.last_term

    def may_be_in_force(self, group: int) -> list[Configuration]:
        """Return every configuration that some log may still bring into force."""
        audit = self.groups[group]
        committed = max(
            index
            for index, term in audit.configurations
            if index <= audit.newest and (index == 0 or audit.committed[index].term == term)
        )
        return [each for (index, _), each in audit.configurations.items() if index >= committed]

    # -- parts -----------------------------------------------------------------------------------

    def _append(self, node: int, group: int, kept: Kept, entry: LogEntry, previous: int) -> None:
        audit, at = self.groups[group], (entry.index, entry.term)
        known = audit.entries.get(at)
        if known is None:
            audit.entries[at] = entry, previous
            if entry.kind is EntryKind.CONFIGURATION:
                audit.configurations[at] = decode_configuration(entry.data)
        elif known[1] != previous or (known[0] is not entry and known[0] != entry):
            raise Violation(
                f"{_at(node, group)} has {entry} behind term {previous}, another log {known}"
            )
        committed = audit.committed.get(entry.index)
        if committed is not None and entry.term != committed.term == kept.term(entry.index):
            raise Violation(f"{_at(node, group)} replaces the committed {committed} by {entry}")

    def _commit(self, node: int, group: int, index: int) -> None:
        """Take note of an index that nobody had applied before."""
        audit, kept = self.groups[group], self.logs[node][group]
        term = kept.term(index)
        if term is None or index <= kept.base:
            raise Violation(f"{_at(node, group)} applies {index}, which its disk does not hold")
        entry = kept.entries[index - kept.base - 1]
        audit.committed[index] = entry
        audit.newest = index
        audit.newest_term = max(entry.term, self.rafts[node][group].term)
        holders = {
            each
            for each, logs in self.logs.items()
            if logs[group].base >= index or logs[group].term(index) == term
        }
        if not any(
            len(holders & each.voters) >= majority(each) for each in self.may_be_in_force(group)
        ):
            raise Violation(
                f"{_at(node, group)} applies {index} of term {term}, durable at {sorted(holders)}"
            )

    def _same(self, node: int, group: int, index: int) -> None:
        """Compare what a replica applies with what another one has applied there."""
        kept, committed = self.logs[node][group], self.groups[group].committed[index]
        if index <= kept.base or kept.term(index) != committed.term:
            raise Violation(f"{_at(node, group)} applies another {index} than {committed}")

    def _promised(self, node: int, group: int, message: Message, kept: Kept) -> None:
        self.checks += 1
        match message:
            case VoteResponse(granted=True, pre=False):
                votes, hard = self.groups[group].votes, kept.hard_state
                if votes.setdefault((node, message.term), message.receiver) != message.receiver:
                    raise Violation(f"{_at(node, group)} votes twice: {message}")
                voted = hard.term == message.term and hard.vote == message.receiver
                if not voted and hard.term <= message.term:
                    raise Violation(f"{_at(node, group)} votes before its disk: {message}, {hard}")
            case AppendResponse(rejected=False):
                if message.index > kept.last_index:
                    raise Violation(
                        f"{_at(node, group)} accepts before its disk: {message}, {kept.last_index}"
                    )
            case _:
                pass

    def _elected(self, node: int, group: int, raft: Raft) -> None:
        audit, term = self.groups[group], raft.term
        if audit.leaders.setdefault(term, node) != node:
            raise Violation(
                f"group {group} has two leaders of {term}: {audit.leaders[term]}, {node}"
            )
        self.reached["leader elected"] += 1
        newest = audit.newest
        if newest and audit.newest_term < term and raft.log.compacted < newest:
            held = raft.log.term(newest)
            if held != audit.committed[newest].term:
                raise Violation(
                    f"{_at(node, group)} leads {term} without {audit.committed[newest]}: {held}"
                )


def compare_logs(auditor: Auditor, tell: Callable[[str], None] = lambda _: None) -> None:
    """Compare every log whole with what was committed; Violation where one differs."""
    for node, logs in auditor.logs.items():
        for group, kept in logs.items():
            auditor.checks += 1
            audit = auditor.groups[group]
            commit = min(kept.hard_state.commit, audit.newest)
            for entry in kept.entries:
                if entry.index <= commit and audit.committed[entry.index] != entry:
                    raise Violation(f"{_at(node, group)} holds {entry} as committed")
            tell(f"node {node} group {group}: {kept.base} to {kept.last_index}")


def _at(node: int, group: int) -> str:
    return f"node {node}, group {group}"
