"""The client library and three nodes with three voters per group: it goes on when leaders die."""

from __future__ import annotations

import asyncio
import time

from tests.process.node_process import client_of, cluster, until
from workbench.errors import WorkbenchError
from workbench.node.client import NodeClient
from workbench.node.kv_client import AsyncKv

KEYS = [b"\x10kv", b"\xf0kv"]  # of group 1 and of group 2


def leader_of(nodes, group):
    """Return the node that serves a group, None where none says so."""
    for node in nodes:
        try:
            with NodeClient([node.address], timeout_s=1.0) as client:
                status = client.status()
        except WorkbenchError:
            continue
        if any(each.group == group and each.serving for each in status.groups):
            return node
    return None


def test_no_acknowledged_write_is_lost_or_made_twice_when_leaders_are_killed(tmp_path):
    with cluster(tmp_path, [[1, 2]] * 3) as nodes:
        for group in (1, 2):
            until(lambda group=group: leader_of(nodes, group) is not None, "it is led")
        acknowledged, versions, failures, gaps = asyncio.run(scenario(nodes))
    assert failures == []
    assert len(acknowledged) > 100
    for key, written in acknowledged.items():
        assert versions[key] is not None, key
        assert versions[key].commit_ts == written.commit_ts, key
    assert max(gaps) < 15


async def more(acknowledged):
    """Wait for 100 more writes."""
    wanted = len(acknowledged) + 100
    await asyncio.to_thread(until, lambda: len(acknowledged) >= wanted, "writes go on", 60.0)


def split(nodes):
    """Split the newest route and return the catalog version."""
    with client_of(*nodes) as client:
        snapshot = client.list_routes()
        return client.split_range(
            expected_version=snapshot.catalog_version,
            route_id=snapshot.routes[-1].route_id,
            split_key=snapshot.routes[-1].span.start + b"split",
            request_id="replicated",
        ).catalog_version


async def scenario(nodes):
    acknowledged, failures, gaps = {}, [], []
    stop = asyncio.Event()
    async with AsyncKv([node.address for node in nodes], timeout_s=30) as kv:

        async def write(number):
            step = 0
            while not stop.is_set():
                key = KEYS[number % 2] + b"%d-%d" % (number, step)
                began = time.perf_counter()
                try:
                    acknowledged[key] = await kv.put(key, b"v")
                except WorkbenchError as error:
                    failures.append(error)
                gaps.append(time.perf_counter() - began)
                step += 1

        writers = [asyncio.create_task(write(number)) for number in range(8)]
        for group in (2, 1):
            await more(acknowledged)
            victim = await asyncio.to_thread(leader_of, nodes, group)
            if victim is not None:
                await asyncio.to_thread(victim.kill)
                await more(acknowledged)
                await asyncio.to_thread(victim.start)
        stop.set()
        await asyncio.gather(*writers)
        # The catalog's leader has changed meanwhile, and the watch with it.
        version = await asyncio.to_thread(split, nodes)
        await asyncio.to_thread(until, lambda: kv.routes.version == version, "the watch tells")
        found = {}
        keys = sorted(acknowledged)
        for at in range(0, len(keys), 500):
            got = await kv.multi_get(keys[at : at + 500])
            found.update(zip(keys[at : at + 500], got.versions, strict=True))
        return acknowledged, found, failures, gaps
