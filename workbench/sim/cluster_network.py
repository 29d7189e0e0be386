"""The network between simulated nodes: batches are lost, thinned, doubled, late, and overtaken.

    send(1, 2, messages) ──cut? drop? thin?──▶ one or two arrivals ──cut?──▶ deliver(2, messages)

- A cut is of one direction, and is looked at when a batch leaves and when it arrives.
- Every batch draws its own delay, so batches overtake each other.
- What arrives at a process that is not there is lost: that is the receiver's to say.

Messages are handed over as values; how bytes are made of them is not simulated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.sim.cluster_faults import DELAY_MS_MAX

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Callable, Mapping

    from workbench.ports.peers import GroupMessage
    from workbench.sim.cluster_time import Agenda

LATENCY_US_MAX: Final = 5_000

Batch = tuple["GroupMessage", ...]


class Network:
    """Who hears whom.

    Args:
        agenda: Where arrivals go.
        source: Of chance.
        rates: As in the profile; `drop`, `thin`, `duplicate` and `delay` count.
        faults: Counts them.
        deliver: Takes (sender, receiver, messages) at its arrival.

    Attributes:
        rates: May be replaced; empty ends the faults.
        cuts: Pairs (sender, receiver) between which nothing passes.
    """

    def __init__(
        self,
        agenda: Agenda,
        source: random.Random,
        rates: Mapping[str, float],
        faults: Counter[str],
        deliver: Callable[[tuple[int, int, Batch]], None],
    ) -> None:
        self.rates = rates
        self.cuts: set[tuple[int, int]] = set()
        self._agenda = agenda
        self._random = source
        self._faults = faults
        self._deliver = deliver

    def send(self, sender: int, receiver: int, batch: Batch) -> None:
        """Let a batch leave."""
        draw, rates, faults = self._random.random, self.rates, self._faults
        if self.cuts and (sender, receiver) in self.cuts:
            return
        latency_us = int(draw() * draw() * LATENCY_US_MAX)
        copies = 1
        if rates:
            if draw() < rates.get("drop", 0.0):
                faults["drop"] += 1
                return
            if len(batch) > 1 and draw() < rates.get("thin", 0.0):
                faults["thin"] += 1
                batch = tuple(each for each in batch if draw() < 0.5)
            if draw() < rates.get("duplicate", 0.0):
                faults["duplicate"] += 1
                copies = 2
            if draw() < rates.get("delay", 0.0):
                faults["delay"] += 1
                latency_us += int(draw() * draw() * DELAY_MS_MAX * 1_000)
        for _ in range(copies):
            self._agenda.after(latency_us, self._arrive, (sender, receiver, batch))
            latency_us += int(draw() * 10 * LATENCY_US_MAX)

    def _arrive(self, arrival: tuple[int, int, Batch]) -> None:
        sender, receiver, _ = arrival
        if self.cuts and (sender, receiver) in self.cuts:
            return
        self._deliver(arrival)
