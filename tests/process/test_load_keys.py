"""Heavy keys of real nodes: known traffic in, exact counts out, up to `workbench hot`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from process.node_process import client_of, cluster, until
from workbench_connectors.node import connect

from workbench.model.keys import Span
from workbench.model.plan import hash_of, plan_from_json
from workbench.model.routes import RouteDescriptor
from workbench.model.times import rfc3339
from workbench.session.cluster import open_cluster
from workbench.session.planning import false_claims
from workbench.session.remaking import remade_claims
from workbench.session.wiring import open_catalog

if TYPE_CHECKING:
    from pathlib import Path

# Long enough that the traffic lies in few windows, short enough to wait for.
WINDOW_MS = 1_000
HOT = b"a0007"
TWO_ROUTES = (
    RouteDescriptor(1, Span(b"", b"m"), 1),
    RouteDescriptor(2, Span(b"m", None), 2),
)


def drive(nodes) -> Counter[bytes]:
    """Write and read known keys, one of them far oftener; return how often each was accessed."""
    true: Counter[bytes] = Counter()
    with client_of(*nodes) as client:
        for group, prefix in ((1, b"a"), (2, b"z")):
            rows = [(b"%s%04d" % (prefix, n), b"v") for n in range(120)]
            for _ in range(3):  # a repetition is no second write
                client.batch_write(group, rows, client_id=b"c" * 16, sequence=1)
            true.update(key for key, _ in rows)
        for _ in range(40):
            client.multi_get(1, [HOT, b"a0001"])
            client.multi_get(1, [HOT])
            true.update([HOT, HOT, b"a0001"])
        client.put(HOT, b"w")
        true[HOT] += 1
    return true


def accesses(windows) -> int:
    return sum(windows.column("reads").to_pylist()) + sum(windows.column("writes").to_pylist())


def test_heavy_keys_of_known_traffic_are_counted_exactly_and_named_by_hot(tmp_path: Path) -> None:
    with cluster(tmp_path, [[1], [2]], TWO_ROUTES, window_ms=WINDOW_MS) as nodes:
        url = "node://" + ",".join(node.address for node in nodes)
        true = drive(nodes)
        connector = connect(url)
        until(
            lambda: accesses(connector.load("c", None).windows) == true.total(),
            "windows with all accesses",
        )
        answer = connector.load("c", None)
        connector.close()
        told: Counter[bytes] = Counter()
        for row in answer.hot_keys.to_pylist():
            assert row["error"] == 0
            assert row["key"] in Span(b"", b"m") if row["route_id"] == 1 else row["key"] >= b"z"
            told[row["key"]] += row["count"]
        assert told[HOT] == true[HOT] == 82
        assert told[b"a0001"] == true[b"a0001"]
        assert all(count <= true[key] for key, count in told.items())
        first = {}
        for row in answer.hot_keys.to_pylist():
            first.setdefault((row["window_start"], row["route_id"]), row["key"])
        assert HOT in first.values()
        samples = answer.key_samples.to_pylist()
        assert sum(row["weight"] for row in samples) == pytest.approx(true.total())
        assert {row["key"] for row in samples} <= true.keys()

        catalog = str(tmp_path / "catalog")
        workbench(tmp_path, "collect", url, "--catalog", catalog, "--cluster", "c")
        report = json.loads(
            workbench(tmp_path, "hot", "--catalog", catalog, "--cluster", "c", "--json")
        )
        top = report["hot_keys"][0]
        assert (top["route_id"], bytes.fromhex(top["key"]), top["count"]) == (1, HOT, 82)
        # The table leaves out keys of routes that are cold at the end of the time.
        busy = [row["window_end"] for row in answer.hot_keys.to_pylist() if row["key"] == HOT]
        options = ("--threshold", "1", "--until", rfc3339(max(busy)))
        shown = workbench(tmp_path, "hot", "--catalog", catalog, "--cluster", "c", *options)
        assert HOT.decode() in shown


def test_plan_names_the_hot_key_of_a_running_cluster(tmp_path: Path) -> None:
    with cluster(tmp_path, [[1], [2]], TWO_ROUTES, window_ms=WINDOW_MS) as nodes:
        url = "node://" + ",".join(node.address for node in nodes)
        true = drive(nodes)
        with client_of(*nodes) as client:
            for _ in range(30):
                client.multi_get(1, [HOT] * 50)
                true[HOT] += 50
        connector = connect(url)
        until(
            lambda: accesses(connector.load("c", None).windows) == true.total(),
            "windows with all accesses",
        )
        connector.close()
        catalog = str(tmp_path / "catalog")
        options = ("--catalog", catalog, "--cluster", "c")
        workbench(tmp_path, "collect", url, *options)
    plan = json.loads(workbench(tmp_path, "plan", *options, "--json"))
    [told] = [each["text"] for each in plan["findings"] if each["kind"] == "hot_key"]
    assert told.startswith(f"key {HOT.decode()} alone carries ")
    assert "no split makes its route lighter" in told
    view = open_cluster(open_catalog(catalog), "c")
    found = plan_from_json(plan, "the plan")
    assert (false_claims(view, found) or remade_claims(view, found)) == []
    forged = {**plan, "findings": []}
    content = {k: v for k, v in forged.items() if k not in {"plan_id", "content_hash"}}
    hashed = hash_of(content)
    forged |= {"content_hash": hashed, "plan_id": hashed[:16]}
    assert false_claims(view, plan_from_json(forged, "a forgery"))


def workbench(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "workbench", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
