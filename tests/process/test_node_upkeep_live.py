"""Real nodes let old versions go by themselves, and never what a pin or an export still needs."""

from __future__ import annotations

import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING

from process.node_process import NodeProcess, client_of, configs, free_ports, until

from workbench.errors import InvalidInput
from workbench.node.kv_client import Kv

if TYPE_CHECKING:
    from pathlib import Path

PIN = b"p" * 16
KEY = b"overwritten"


def refused(kv: Kv, read_ts: int) -> bool:
    """Tell whether a moment can be read no more."""
    try:
        kv.get(KEY, read_ts=read_ts)
    except InvalidInput as error:
        return error.code == "read_ts_below_safe_point"
    return False


def metrics(address: str) -> dict[str, float]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in found}


def test_old_versions_go_by_themselves_and_a_pinned_moment_stays_readable(tmp_path: Path) -> None:
    [config] = configs(tmp_path, [[1]])
    [port] = free_ports(1)
    monitored = f"127.0.0.1:{port}"
    config = replace(config, versions_kept_ms=1_000, metrics_listen=monitored)
    node = NodeProcess(config, tmp_path).start()
    try:
        with Kv([node.address]) as kv, client_of(node) as client:
            written = [kv.put(KEY, b"%d" % number).commit_ts for number in range(30)]
            assert client.pin(1, PIN, written[10]).pins == 1
            until(lambda: refused(kv, written[9]), "what lies below the pin is collected")
            assert kv.get(KEY, read_ts=written[10]).value == b"10"
            assert kv.get(KEY, read_ts=written[20]).value == b"20"
            until(
                lambda: metrics(monitored).get('workbench_garbage_dropped_total{group="1"}') == 10,
                "the ten versions below the pin are gone",
            )
            told = metrics(monitored)
            assert told['workbench_pins{group="1"}'] == 1
            assert told['workbench_safe_point_timestamp_seconds{group="1"}'] == (
                (written[10] >> 16) / 1_000
            )
            client.unpin(1, PIN)
            until(lambda: refused(kv, written[28]), "the rest is collected")
            assert kv.get(KEY).value == b"29"
            until(
                lambda: sum(e["dropped"] for e in node.events("garbage_collected")) == 29,
                "every hidden version is gone",
            )
    finally:
        node.kill()


def test_what_is_exported_stays_readable_while_it_is(tmp_path: Path) -> None:
    [config] = configs(tmp_path, [[1]])
    node = NodeProcess(replace(config, versions_kept_ms=1_000), tmp_path).start()
    try:
        with Kv([node.address]) as kv, client_of(node) as client:
            written = [kv.put(KEY, b"%d" % number).commit_ts for number in range(30)]
            exported = client.export(1, read_ts=written[15], chunk_bytes=1)
            first = next(exported)
            until(lambda: refused(kv, written[14]), "what lies below the export is collected")
            rows = [first, *exported]
            assert rows[-1].done
            assert written[15] in [at for row in rows for at in row.table["commit_ts"].to_pylist()]
            assert kv.get(KEY, read_ts=written[15]).value == b"15"
    finally:
        node.kill()


def without_founded(node: NodeProcess) -> None:
    """Let the configuration be one that somebody wrote by hand."""
    lines = node.file.read_text().splitlines()
    node.file.write_text("\n".join(line for line in lines if "founded" not in line) + "\n")


def test_a_node_that_shares_groups_starts_from_nothing_only_where_it_is_told_to(
    tmp_path: Path,
) -> None:
    node = NodeProcess(configs(tmp_path, [[1], [1]])[0], tmp_path)
    without_founded(node)
    node.launch()
    assert node.wait() == 1
    last = node.log.read_text().splitlines()[-1]
    assert "founded = false" in last
    assert [event["code"] for event in node.events("failed")] == ["founded_unsaid"]


def test_a_node_that_has_its_promises_needs_no_word(tmp_path: Path) -> None:
    pair = [NodeProcess(each, tmp_path) for each in configs(tmp_path, [[1], [1]])]
    try:
        for node in pair:
            node.launch()
        for node in pair:
            until(lambda node=node: bool(node.events("serving")), "it serves")
        pair[0].kill()
        without_founded(pair[0])
        pair[0].start()
    finally:
        for node in pair:
            node.kill()
