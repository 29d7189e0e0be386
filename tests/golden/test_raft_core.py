"""Runs the scripts of tests/golden/raft_core: a group of replicas, driven by hand.

    pytest tests/golden                    compares
    GOLDEN_REWRITE=1 pytest tests/golden   writes what is printed now; review it as a diff

A script is a list of blocks with a blank line between them; a block is one command per line,
then `----`, then the output of them all. Commands; N, A and B are node ids:

    group VOTERS [learners=IDS]     new replicas with empty disks, ids separated by commas
    node N [log=T,T,…] [term=T] [vote=V] [commit=C]   a replica with entries of these terms
    timeout N [TICKS]               let the election time pass at N; or that many ticks
    tick N [TICKS]                  let time pass
    propose N DATA | read N CONTEXT | transfer N TO | compact N INDEX
    members N VOTERS [learners=IDS]
    turn [N …]                      ready, durable, sent, applied, advance; prints what is in it
    sync N                          as turn, without printing
    deliver [A>B …]                 hand over what is under way, or only on these ways
    settle                          turns and deliveries until nothing is under way; prints nothing
    drop [A>B …] | double A>B       lose, or repeat, what is under way
    begin N                         take the Ready and make nothing of it durable yet
    end N                           finish what `begin` took
    crash N                         lose what is not durable; start again
    say A>B MESSAGE k=v …           hand a message of one's own over: heartbeat, append, vote, …
    state [N …] | log N | way       print replicas, a log, or what is under way
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.ports.consensus import (
    Configuration,
    EntryKind,
    HardState,
    LogEntry,
    Ready,
    Role,
    SnapshotMeta,
)
from workbench.ports.peers import (
    AppendRequest,
    AppendResponse,
    CampaignNow,
    Heartbeat,
    HeartbeatResponse,
    Message,
    SnapshotChunk,
    SnapshotResponse,
    VoteRequest,
    VoteResponse,
)
from workbench.ports.storage import GroupLog
from workbench.raft import following, leading
from workbench.raft.core import Raft
from workbench.raft.log import RaftLog
from workbench.raft.membership import Memberships, decode_configuration
from workbench.raft.state import ELECTION_TICKS

SCRIPTS = sorted((Path(__file__).parent / "raft_core").glob("*.txt"))
REWRITE = bool(os.environ.get("GOLDEN_REWRITE"))
CHUNK_BYTES = 8


@dataclass
class Disk:
    """What a replica keeps."""

    base: SnapshotMeta
    hard: HardState = field(default_factory=HardState)
    entries: list[LogEntry] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)
    applied_index: int = 0
    chunks: bytes = b""

    def applied_as_of(self) -> SnapshotMeta:
        """What the state machine would tell of itself."""
        members, term = self.base.configuration, self.base.term
        for entry in self.entries[: self.applied_index - self.base.index]:
            term = entry.term
            if entry.kind is EntryKind.CONFIGURATION:
                members = decode_configuration(entry.data)
        return SnapshotMeta(self.applied_index, term, members)


class Group:
    """Replicas, and what is under way between them."""

    def __init__(self) -> None:
        self.disks: dict[int, Disk] = {}
        self.rafts: dict[int, Raft] = {}
        self.way: list[Message] = []
        self.open: dict[int, Ready] = {}
        self.out: list[str] = []

    def run(self, line: str) -> None:
        name, *words = line.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        try:
            getattr(self, f"do_{name}")(*plain, **options)
        except WorkbenchError as error:
            self.out.append(f"{error.kind} {error.code}")
        for raft in self.rafts.values():
            raft.check_invariants()

    # -- replicas --------------------------------------------------------------------------------

    def do_group(self, voters: str, learners: str = "") -> None:
        first = SnapshotMeta(0, 0, Configuration(ids(voters), ids(learners)))
        for node in sorted(first.configuration.members):
            self.disks[node] = Disk(first)
            self.start(node)

    def do_node(self, name: str, log: str = "", **hard: str) -> None:
        node = int(name)
        first = next(iter(self.disks.values())).base if self.disks else None
        disk = self.disks.setdefault(
            node, Disk(first or SnapshotMeta(0, 0, Configuration(ids(name))))
        )
        terms = [int(term) for term in log.split(",") if term]
        disk.entries = [
            LogEntry(at, term, f"t{term}".encode()) for at, term in enumerate(terms, start=1)
        ]
        disk.hard = HardState(**{key: int(value) for key, value in hard.items()})
        self.start(node)

    def start(self, node: int) -> None:
        disk = self.disks[node]
        last = disk.entries[-1] if disk.entries else LogEntry(disk.base.index, disk.base.term, b"")
        first, base = disk.base.index + 1, disk.base.term
        log = GroupLog(disk.hard, first, last.index, last.term, tuple(disk.entries), base)
        self.open.pop(node, None)
        applied = disk.applied_as_of()
        self.rafts[node] = Raft(node, log, applied=applied, draw=lambda _: node % 3)

    def do_crash(self, name: str) -> None:
        self.start(int(name))

    def do_timeout(self, name: str) -> None:
        raft = self.rafts[int(name)]
        for _ in range(raft.timeout - raft.elapsed):
            raft.tick()

    def do_tick(self, name: str, ticks: str = "1") -> None:
        for _ in range(int(ticks)):
            self.rafts[int(name)].tick()

    def do_propose(self, name: str, data: str) -> None:
        self.out.append(f"index {self.rafts[int(name)].propose(data.encode())}")

    def do_read(self, name: str, context: str) -> None:
        self.rafts[int(name)].read_index(int(context))

    def do_transfer(self, name: str, to: str) -> None:
        self.rafts[int(name)].transfer_leader(int(to))

    def do_compact(self, name: str, index: str) -> None:
        raft, disk = self.rafts[int(name)], self.disks[int(name)]
        disk.base = raft.snapshot_meta(int(index))
        disk.entries = [each for each in disk.entries if each.index > int(index)]
        raft.compact(int(index))

    def do_members(self, name: str, voters: str, learners: str = "") -> None:
        wanted = Configuration(ids(voters), ids(learners))
        self.out.append(f"index {self.rafts[int(name)].propose_configuration(wanted)}")

    # -- turns -----------------------------------------------------------------------------------

    def do_turn(self, *names: str) -> None:
        for node in map(int, names or sorted(map(str, self.rafts))):
            if self.rafts[node].has_ready():
                self.out += [f"{node}: {line}" for line in rendered(self.rafts[node].ready())]
                self.sync(node)

    def do_sync(self, *names: str) -> None:
        for node in map(int, names or map(str, self.rafts)):
            if self.rafts[node].has_ready():
                self.sync(node)

    def do_begin(self, name: str) -> None:
        node = int(name)
        self.open[node] = self.rafts[node].ready()
        self.out += [f"{node}: {line}" for line in rendered(self.open[node])]
        self.way += self.open[node].early

    def do_end(self, name: str) -> None:
        self.finish(int(name), self.open.pop(int(name)))

    def sync(self, node: int) -> None:
        ready = self.rafts[node].ready()
        self.way += ready.early
        self.finish(node, ready)

    def finish(self, node: int, ready: Ready) -> None:
        raft, disk = self.rafts[node], self.disks[node]
        disk.hard = ready.hard_state or disk.hard
        if ready.entries:
            first = ready.entries[0].index
            disk.entries = [e for e in disk.entries if e.index < first] + list(ready.entries)
        for chunk in ready.chunks:
            disk.chunks = (disk.chunks if chunk.offset else b"") + chunk.data
        if ready.snapshot is not None:
            disk.base, disk.entries = ready.snapshot, []
            disk.applied, disk.applied_index = disk.chunks.decode().split(), ready.snapshot.index
        self.way += ready.messages
        for entry in ready.committed:
            disk.applied.append(shown(entry))
            disk.applied_index = entry.index
        for wanted in ready.snapshots_wanted:
            raft.offer_snapshot(wanted, raft.snapshot_meta(raft.applied))
        for wanted in ready.chunks_wanted:
            data = " ".join(disk.applied[: wanted.meta.index]).encode()
            piece = data[wanted.offset : wanted.offset + CHUNK_BYTES]
            raft.supply_chunk(wanted, piece, done=wanted.offset + CHUNK_BYTES >= len(data))
        raft.advance(ready)

    # -- the network -----------------------------------------------------------------------------

    def take(self, ways: tuple[str, ...]) -> list[Message]:
        chosen = [m for m in self.way if not ways or f"{m.sender}>{m.receiver}" in ways]
        self.way = [m for m in self.way if m not in chosen]
        return chosen

    def do_deliver(self, *ways: str) -> None:
        for message in self.take(ways):
            self.out.append(f"{message.sender}>{message.receiver} {told(message)}")
            self.rafts[message.receiver].step(message)

    def do_drop(self, *ways: str) -> None:
        self.take(ways)

    def do_double(self, way: str) -> None:
        self.way += [m for m in self.way if f"{m.sender}>{m.receiver}" == way]

    def do_settle(self) -> None:
        for _ in range(200):
            self.do_sync(*map(str, sorted(self.rafts)))
            if not self.way and not any(raft.has_ready() for raft in self.rafts.values()):
                return
            for message in self.take(()):
                self.rafts[message.receiver].step(message)
        self.out.append("does not settle")

    def do_say(self, way: str, kind: str, **values: str) -> None:
        sender, receiver = map(int, way.split(">"))
        numbers = {k: v for k, v in values.items() if k != "entries"}
        fields: dict[str, object] = {
            key: value == "yes" if value in {"yes", "no"} else int(value)
            for key, value in numbers.items()
        }
        if "entries" in values:  # index:term,index:term
            pairs = [each.split(":") for each in values["entries"].split(",") if each]
            fields["entries"] = tuple(LogEntry(int(a), int(b), b"said") for a, b in pairs)
        if kind == "chunk":
            meta = SnapshotMeta(
                int(str(fields.pop("index"))),
                int(str(fields.pop("meta_term"))),
                self.rafts[receiver].configuration,
            )
            fields |= {"meta": meta, "data": b"said"}
        message = SAID[kind](sender, receiver, **fields)  # type: ignore[arg-type]
        self.rafts[receiver].step(message)

    # -- looking ---------------------------------------------------------------------------------

    def do_state(self, *names: str) -> None:
        for node in map(int, names or map(str, sorted(self.rafts))):
            raft = self.rafts[node]
            soft, hard = raft.soft_state, raft.hard_state
            pre = "pre-" if raft.pre else ""
            self.out.append(
                f"{node}: {pre}{soft.role} of {soft.leader}, term {hard.term}, vote {hard.vote}, "
                f"commit {hard.commit}, last {raft.last_index}, applied "
                f"{' '.join(self.disks[node].applied) or 'nothing'}"
            )

    def do_log(self, name: str) -> None:
        raft = self.rafts[int(name)]
        terms = " ".join(f"{entry.index}:{entry.term}" for entry in raft.log.entries)
        base = f"{raft.log.compacted}:{raft.log.compacted_term}"
        members = ",".join(map(str, sorted(raft.configuration.voters)))
        self.out.append(f"{name}: from {base}: {terms or 'nothing'}; voters {members}")

    def do_way(self) -> None:
        self.out += [f"{m.sender}>{m.receiver} {told(m)}" for m in self.way] or ["nothing"]


SAID = {
    "vote": VoteRequest,
    "voted": VoteResponse,
    "append": AppendRequest,
    "appended": AppendResponse,
    "heartbeat": Heartbeat,
    "heard": HeartbeatResponse,
    "chunk": SnapshotChunk,
    "chunked": SnapshotResponse,
    "campaign": CampaignNow,
}


def ids(text: str) -> frozenset[int]:
    return frozenset(int(each) for each in text.split(",") if each)


def shown(entry: LogEntry) -> str:
    if entry.kind is EntryKind.CONFIGURATION:
        members = decode_configuration(entry.data)
        learners = ",".join(map(str, sorted(members.learners)))
        return f"[{','.join(map(str, sorted(members.voters)))}{'+' + learners if learners else ''}]"
    return entry.data.decode() or "-"


def told(message: Message) -> str:  # noqa: C901, PLR0911 - one line per kind of message
    match message:
        case VoteRequest():
            kind = "would you vote" if message.pre else "vote"
            forced = ", transferred" if message.transfer else ""
            return (
                f"term {message.term}: {kind}, log {message.last_index}:{message.last_term}{forced}"
            )
        case VoteResponse():
            kind = "would" if message.pre else "votes"
            return f"term {message.term}: {kind} {'yes' if message.granted else 'no'}"
        case AppendRequest():
            entries = " ".join(f"{e.index}:{e.term}" for e in message.entries) or "nothing"
            after = f"{message.prev_index}:{message.prev_term}"
            return f"term {message.term}: after {after} append {entries}, commit {message.commit}"
        case AppendResponse(rejected=True):
            hint = f"{message.hint_index}:{message.hint_term}"
            return f"term {message.term}: rejects after {message.index}, try {hint}"
        case AppendResponse():
            return f"term {message.term}: has up to {message.index}"
        case Heartbeat():
            return f"term {message.term}: heartbeat, commit {message.commit}, round {message.round}"
        case HeartbeatResponse():
            return f"term {message.term}: heard, round {message.round}"
        case SnapshotChunk():
            at = f"{message.meta.index}:{message.meta.term}"
            last = ", the last" if message.done else ""
            return f"term {message.term}: snapshot {at}, piece at {message.offset}{last}"
        case SnapshotResponse():
            return f"term {message.term}: snapshot {message.index}, wants {message.offset}"
        case CampaignNow():
            return f"term {message.term}: campaign now"


def rendered(ready: Ready) -> list[str]:
    lines = ["ready, must sync" if ready.must_sync else "ready, no sync"]
    if ready.hard_state is not None:
        hard = ready.hard_state
        lines.append(f"  hard state: term {hard.term}, vote {hard.vote}, commit {hard.commit}")
    if ready.entries:
        lines.append(
            "  append " + " ".join(f"{e.index}:{e.term}={shown(e)}" for e in ready.entries)
        )
    if ready.snapshot is not None:
        lines.append(f"  install {ready.snapshot.index}:{ready.snapshot.term}")
    lines += [f"  keep piece at {each.offset}" for each in ready.chunks]
    if ready.committed:
        lines.append("  apply " + " ".join(f"{e.index}={shown(e)}" for e in ready.committed))
    lines += [f"  read {each.context} at {each.index}" for each in ready.read_states]
    lines += [f"  at once to {m.receiver}: {told(m)}" for m in ready.early]
    lines += [f"  then to {m.receiver}: {told(m)}" for m in ready.messages]
    lines += [f"  wants a snapshot for {each}" for each in ready.snapshots_wanted]
    lines += [f"  wants piece {w.offset} for {w.receiver}" for w in ready.chunks_wanted]
    return lines


def played(text: str) -> str:
    group, blocks = Group(), []
    for block in text.strip().split("\n\n"):
        commands = [line for line in block.split("\n----")[0].splitlines() if line]
        group.out = []
        for line in commands:
            if not line.startswith("#"):
                group.run(line)
        blocks.append("\n".join([*commands, "----", *group.out]))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_prints_what_it_always_did(script):
    text = script.read_text()
    printed = played(text)
    if REWRITE:
        script.write_text(printed)
        text = printed
    assert printed == text


def commits_entries_of_older_terms(patch):
    def commit(raft):
        with pytest.MonkeyPatch.context() as inner:
            known = RaftLog.term
            inner.setattr(RaftLog, "term", lambda log, at: raft.term if known(log, at) else None)
            original(raft)

    original = leading._commit
    patch.setattr(leading, "_commit", commit)


def truncates_what_equals(patch):
    patch.setattr(RaftLog, "first_conflict", lambda _, found: found[0].index if found else None)


def forgets_its_vote(patch):
    patch.setattr(Raft, "hard_state", property(lambda r: HardState(r.term, 0, r.commit)))


def confirms_reads_by_itself(patch):
    def send(raft):
        if raft.role is Role.LEADER and raft.reads.begin_round():
            raft.read_states += raft.reads.confirmed(raft.reads.sent)

    patch.setattr(leading, "send_rounds", send)


def keeps_the_members_after_a_snapshot(patch):
    def installed(raft, meta):
        before = raft.memberships
        original(raft, meta)
        raft.memberships = before

    original = following.installed
    patch.setattr(following, "installed", installed)


def keeps_truncated_members(patch):
    patch.setattr(Memberships, "truncate_from", lambda *_: None)


@pytest.mark.parametrize(
    ("plant", "script"),
    [
        (commits_entries_of_older_terms, "figure_8_an_old_entry_does_not_commit_by_count"),
        (truncates_what_equals, "a_late_shorter_request_truncates_nothing"),
        (forgets_its_vote, "a_voter_votes_once_in_a_term"),
        (confirms_reads_by_itself, "a_deposed_leader_answers_no_read"),
        (keeps_the_members_after_a_snapshot, "a_snapshot_brings_its_members"),
        (keeps_truncated_members, "truncation_brings_the_old_members_back"),
    ],
)
def test_a_planted_fault_changes_its_script(plant, script, monkeypatch):
    text = (Path(__file__).parent / "raft_core" / f"{script}.txt").read_text()
    assert played(text) == text
    plant(monkeypatch)
    assert played(text) != text


def test_every_rule_has_its_script():
    assert len(SCRIPTS) >= 30
    assert ELECTION_TICKS == 10
