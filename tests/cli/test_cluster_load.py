"""`workbench cluster load`: against a real small cluster; every acknowledged write is found."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli.conftest import check_schema

from workbench.errors import Unavailable
from workbench.node.client import NodeClient
from workbench.node.kv_client import Kv
from workbench.session.local_cluster import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workbench.session.local_cluster import ClusterStatus


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterStatus]:
    """A cluster of one node and two groups."""
    folder = tmp_path_factory.mktemp("load") / "cluster"
    with running(folder, nodes=1, groups=2) as found:
        yield found


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Six accesses within a minute, three of them writes."""
    path = tmp_path / "small.csv"
    rows = [f"{10 * i},key-{i % 3},{'write' if i % 2 else 'read'},10" for i in range(6)]
    path.write_text("\n".join(["time,key,op,size", *rows]) + "\n")
    return path


def test_the_accesses_of_a_trace_are_made_and_found_again(
    workbench: Callable[..., Any], cluster: ClusterStatus, small: Path
) -> None:
    folder = str(cluster.dir)
    given = ("--dir", folder, "--trace", str(small), "--seconds", "0.3")
    answer = workbench("cluster", "load", *given, "--json")
    assert answer.status == 0
    assert answer.json["url"] == cluster.url
    counted = {name: answer.json[name] for name in ("accesses", "writes", "reads", "stale_reads")}
    assert counted == {"accesses": 6, "writes": 3, "reads": 3, "stale_reads": 0}
    assert (answer.json["lost_writes"], answer.json["interrupted"]) == (0, False)
    with Kv(cluster.addresses) as kv:
        assert kv.get(b"key-1") is not None
    shown = workbench("cluster", "load", cluster.url, *given[2:])
    assert shown.status == 0
    assert "3 writes acknowledged, 3 reads answered, 0 requests made again" in shown.out
    assert "lost      0 of 3 acknowledged writes, all read again" in shown.out


def test_the_generated_set_is_made_where_no_trace_is_given(
    workbench: Callable[..., Any], cluster: ClusterStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.session import demo

    monkeypatch.setattr(demo, "DEMO_ACCESSES", 2_000)
    found = workbench("cluster", "load", cluster.url, "--seconds", "0.2", "--json").json
    assert found["trace"] == "generated: hot-range, 2,000 accesses"
    assert (found["accesses"], found["lost_writes"]) == (2_000, 0)
    assert found["writes"] + found["reads"] == 2_000


def test_a_lost_write_is_exit_status_1(
    workbench: Callable[..., Any],
    cluster: ClusterStatus,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Kv.write

    def forgetful(self: Kv, mutations: Any, **how: Any) -> Any:
        kept = [replace(each, value=None) if each.key == b"key-1" else each for each in mutations]
        return real(self, kept, **how)

    monkeypatch.setattr(Kv, "write", forgetful)
    given = ("cluster", "load", cluster.url, "--trace", str(small), "--seconds", "0.1")
    outcome = workbench(*given, "--json")
    assert outcome.status == 1
    assert outcome.json["lost_writes"] > 0
    assert "key-1" in outcome.json["examples"][0]


def test_a_cluster_that_stops_answering_ends_it_and_lost_is_not_known(
    workbench: Callable[..., Any],
    cluster: ClusterStatus,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("no connection", code="node_unreachable")

    monkeypatch.setattr(Kv, "write", away)
    given = ("cluster", "load", cluster.url, "--trace", str(small), "--seconds", "0.1")
    outcome = workbench(*given)
    assert outcome.status == 1
    assert "lost      not known" in outcome.out
    assert "did not answer" in outcome.err


@pytest.mark.parametrize(
    ("number", "status", "word", "form"),
    [
        (signal.SIGINT, 130, "interrupted", ["--json"]),
        (signal.SIGTERM, 143, "terminated", ["--json"]),
        (signal.SIGINT, 130, "interrupted", []),
    ],
)
def test_a_signal_ends_it_with_the_summary_so_far(
    cluster: ClusterStatus, number: signal.Signals, status: int, word: str, form: list[str]
) -> None:
    command = [sys.executable, "-m", "workbench", "cluster", "load", cluster.url]
    process = subprocess.Popen(
        [*command, *form, "--seconds", "600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with NodeClient(cluster.addresses) as client:
        before = client.status().groups
        while client.status().groups == before:
            assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == status
    assert err == f"workbench: {word}\n"
    if not form:
        found = re.search(r"200,000 accesses, of which ([0-9,]+) accesses were made in", out)
        assert found is not None
        assert 0 < int(found[1].replace(",", "")) < 200_000
        return
    document = json.loads(out)
    check_schema(document)
    assert document["interrupted"]
    assert document["lost_writes"] == 0
    assert document["writes"] > 0


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        ([], 1, "cluster_absent"),
        (["node://127.0.0.1:1"], 1, "node_unreachable"),
        (["node://127.0.0.1"], 2, "url_invalid"),
        (["file:routes.json"], 2, "load_not_for_source"),
        (["nothing://x"], 2, "connector_unknown"),
        (["--seconds", "0"], 2, "usage"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    workbench: Callable[..., Any], arguments: list[str], status: int, code: str
) -> None:
    Path("routes.json").write_text(
        '{"catalog_version": 1, "routes": [{"route_id": 1, "start": "", "end": null, "group": 1}]}'
    )
    outcome = workbench("cluster", "load", *arguments, "--json")
    assert (outcome.status, outcome.error["code"]) == (status, code)
    assert [each.name for each in Path().iterdir()] == ["routes.json"]
