"""A route's load stays as fine as it was where its leader changes, and a plan can still cut it."""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from process.node_process import cluster, until
from process.test_replicated import addresses, await_leader
from workbench_connectors.node import connect

from workbench.errors import Unavailable
from workbench.model.plan import OBJECTIVES, Limits
from workbench.node.admin_client import AdminClient
from workbench.node.kv_client import Kv
from workbench.planner.detect import Rule
from workbench.session.cluster import open_cluster
from workbench.session.coarse import coarse_windows
from workbench.session.collect_live import LiveOptions, collect_live
from workbench.session.planning import plan
from workbench.session.wiring import open_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from process.node_process import NodeProcess
    from workbench_connectors.node import NodeConnector

GROUPS = (1, 2, 3, 4)
WINDOW_MS = 500
BUCKETS = 16
KEYS = [b"\x10%04d" % number for number in range(200)]


@contextmanager
def read_without_a_pause(nodes: Sequence[NodeProcess]) -> Iterator[None]:
    """Have a thread read keys again and again, whoever leads.

    Drawn ones: leaders that choose buckets by themselves are to choose different ones.
    """
    draw = random.Random(7)
    stop = threading.Event()

    def read() -> None:
        with Kv(addresses(nodes), timeout_s=5.0) as kv:
            while not stop.wait(0.02):
                with suppress(Unavailable):
                    kv.multi_get(sorted(draw.sample(KEYS, 100)))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def layouts(connector: NodeConnector) -> Mapping[datetime, tuple[bytes, ...]]:
    """Return by which buckets each window tells the load of route 1, where there is any."""
    rows = [row for row in connector.load("c", None).windows.to_pylist() if row["route_id"] == 1]
    loaded = {row["window_start"] for row in rows if row["reads"] or row["writes"]}
    return {
        start: tuple(row["bucket_start"] for row in rows if row["window_start"] == start)
        for start in sorted(loaded)
    }


def await_windows(connector: NodeConnector, more: int) -> None:
    """Wait until so many more windows with load are told by every member."""
    newest = max(layouts(connector), default=None)
    until(
        lambda: sum(1 for start in layouts(connector) if newest is None or start > newest) >= more,
        f"{more} windows with load",
        deadline_s=30.0,
    )


# Not among the tests that CI runs: of some 15 runs one failed, for a reason that is not found yet.
@pytest.mark.slow
def test_windows_keep_their_buckets_where_the_leader_changes_or_is_killed(tmp_path: Path) -> None:
    catalog = str(tmp_path / "catalog")
    with cluster(tmp_path, [GROUPS] * 3, window_ms=WINDOW_MS) as nodes:
        url = "node://" + ",".join(addresses(nodes))
        connector = connect(url)
        with read_without_a_pause(nodes):
            until(
                lambda: any(len(each) == BUCKETS for each in layouts(connector).values()),
                "all buckets",
                deadline_s=30.0,
            )
            await_windows(connector, 2)
            since, fine = list(layouts(connector).items())[-1]
            first = nodes.index(await_leader(nodes, 1)) + 1
            for step in (1, 2):
                with AdminClient(addresses(nodes), timeout_s=10.0) as client:
                    client.transfer_leader(1, (first - 1 + step) % 3 + 1)
                await_windows(connector, 2)
            handed = {start: each for start, each in layouts(connector).items() if start >= since}
            assert set(handed.values()) == {fine}
            collected = collect_live(url, catalog, LiveOptions(cluster="c"))
            assert collected.warnings == ()

            victim = await_leader(nodes, 1)
            victim.kill()
            await_leader([node for node in nodes if node is not victim], 1)
            victim.start()
            await_windows(connector, 2)
            # Back with empty hands, it leads again what it once led.
            with AdminClient(addresses(nodes), timeout_s=10.0) as client:
                client.transfer_leader(1, nodes.index(victim) + 1)
            await_windows(connector, 2)
            assert set(layouts(connector).values()) == {fine}
        connector.close()

    view = open_cluster(open_catalog(catalog), "c")
    end, score = view.extent.until, OBJECTIVES["score"]
    assert coarse_windows(view, since, end, score) is None
    question = {"objective": score, "limits": Limits(3, 0.1), "rule": Rule()}
    assert len(plan(view, since=since, until=end, **question).actions) == 3
