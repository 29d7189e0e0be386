"""A group of one voter, by the scripts of tests/golden/raft.

Commands, a line `----`, and what they print.

    pytest tests/golden                    compares
    GOLDEN_REWRITE=1 pytest tests/golden   writes what is printed now; review it as a diff

A script is a list of blocks with a blank line between them; a block is one command per line,
then `----`, then the output of them all. Commands:

    start [applied=N]     a voter of node 1 over the durable log
    propose DATA          append an entry
    read CONTEXT          ask for a read index
    ready                 take and print the Ready; its entries are on the disk, unsynced
    advance               sync it all and advance
    crash [applied=N]     lose what was not synced, start again
    compact N             let the durable log go of entries up to N
    log index=N term=T    put an entry into the durable log
    hard term=T vote=V commit=C
    state                 print role, term, commit and last index
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.ports.consensus import Configuration, HardState, LogEntry, Ready, SnapshotMeta
from workbench.ports.storage import GroupLog
from workbench.raft.core import Raft

SCRIPTS = sorted((Path(__file__).parent / "raft").glob("*.txt"))
REWRITE = bool(os.environ.get("GOLDEN_REWRITE"))


@dataclass
class Bench:
    """One voter and its disk."""

    hard_state: HardState = field(default_factory=HardState)
    entries: list[LogEntry] = field(default_factory=list)
    compacted: int = 0
    voter: Raft | None = None
    taken: Ready | None = None
    out: list[str] = field(default_factory=list)

    def run(self, line: str) -> None:
        name, *words = line.split()
        options = {k: int(v) for k, v in (word.split("=") for word in words if "=" in word)}
        plain = [word for word in words if "=" not in word]
        try:
            getattr(self, f"do_{name}")(*plain, **options)
        except WorkbenchError as error:
            self.out.append(f"{error.kind} {error.code}")
        except AssertionError as error:
            self.out.append(f"assertion: {str(error).splitlines()[0]}")
        if self.voter is not None:
            self.voter.check_invariants()

    def do_start(self, applied: int = 0) -> None:
        last = self.entries[-1] if self.entries else LogEntry(0, 0, b"")
        kept = tuple(entry for entry in self.entries if entry.index > self.compacted)
        log = GroupLog(
            self.hard_state,
            kept[0].index if kept else last.index + 1,
            last.index,
            last.term,
            kept,
            self.entries[self.compacted - 1].term if self.compacted else 0,
        )
        term = self.entries[applied - 1].term if 0 < applied <= len(self.entries) else 0
        state = SnapshotMeta(applied, term, Configuration(frozenset({1})))
        self.voter = Raft(1, log, applied=state, draw=lambda _: 0)

    def do_crash(self, applied: int = 0) -> None:
        self.voter = self.taken = None
        self.do_start(applied)

    def do_log(self, index: int, term: int) -> None:
        self.entries.append(LogEntry(index, term, f"old{index}".encode()))

    def do_hard(self, term: int, vote: int, commit: int) -> None:
        self.hard_state = HardState(term, vote, commit)

    def do_compact(self, index: str) -> None:
        self.compacted = int(index)

    def do_propose(self, data: str = "") -> None:
        assert self.voter is not None
        self.out.append(f"index {self.voter.propose(data.encode())}")

    def do_read(self, context: str) -> None:
        assert self.voter is not None
        self.voter.read_index(int(context))

    def do_tick(self) -> None:
        assert self.voter is not None
        self.voter.tick()

    def do_ready(self) -> None:
        assert self.voter is not None
        if not self.voter.has_ready():
            self.out.append("nothing to do")
            return
        self.taken = self.voter.ready()
        assert self.voter.ready() is self.taken
        self.out += rendered(self.taken)

    def do_advance(self) -> None:
        assert self.voter is not None
        assert self.taken is not None, "no Ready was taken"
        self.hard_state = self.taken.hard_state or self.hard_state
        self.entries += self.taken.entries
        self.voter.advance(self.taken)
        self.taken = None

    def do_state(self) -> None:
        assert self.voter is not None
        soft, hard = self.voter.soft_state, self.voter.hard_state
        self.out.append(
            f"{soft.role} of node {soft.leader}, term {hard.term}, vote {hard.vote}, "
            f"commit {hard.commit}, last {self.voter.last_index}"
        )


def rendered(ready: Ready) -> list[str]:
    lines = [f"ready, {'must sync' if ready.must_sync else 'no sync'}"]
    if ready.hard_state is not None:
        hard = ready.hard_state
        lines.append(f"  hard state: term {hard.term}, vote {hard.vote}, commit {hard.commit}")
    for title, entries in (("append", ready.entries), ("apply", ready.committed)):
        lines += [
            f"  {title} {entry.index} (term {entry.term}): {entry.data.decode() or 'empty'}"
            for entry in entries
        ]
    lines += [f"  read {each.context} at index {each.index}" for each in ready.read_states]
    return lines


def played(script: str) -> str:
    bench = Bench()
    blocks = []
    for block in script.strip().split("\n\n"):
        commands = block.split("\n----", maxsplit=1)[0]
        for line in commands.splitlines():
            if not line.startswith("#"):
                bench.run(line)
        blocks.append("\n".join([commands, "----", *bench.out]))
        bench.out.clear()
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    before = path.read_text()
    after = played(before)
    if REWRITE:
        path.write_text(after)
    assert REWRITE or after == before


def test_there_are_scripts_and_none_is_empty() -> None:
    assert len(SCRIPTS) >= 8
    assert all("----" in path.read_text() for path in SCRIPTS)
