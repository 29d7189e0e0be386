"""Export and restore with real nodes: traffic, splits and deletes, wiped, restored, and usable.

What a cluster answered before it was wiped is the oracle, not what the export says. Kills hit a
process of its own, at a moment that is seen from outside: parts in the catalog, imports in a group.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.process.node_process import client_of, cluster, until
from tests.s3_servers import moto
from workbench.catalog.catalog import Catalog
from workbench.errors import Unavailable, WorkbenchError
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor
from workbench.node.client import NodeClient
from workbench.session import exporting
from workbench.session.collect_live import LiveOptions, collect_live
from workbench.session.exporting import ExportOptions, export_cluster
from workbench.session.exporting_state import exports
from workbench.session.restoring import RestoreOptions, restore_cluster
from workbench.session.wiring import create_catalog, open_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from process.raw_client import RawClient

    from tests.process.node_process import NodeProcess

NODES = ((1, 4), (2,), (3,))
ROUTES = (
    RouteDescriptor(1, Span(b"", b"f"), 1),
    RouteDescriptor(2, Span(b"f", b"l"), 2),
    RouteDescriptor(3, Span(b"l", b"r"), 3),
    RouteDescriptor(4, Span(b"r", None), 4),
)
PREFIXES = {1: b"b", 2: b"h", 3: b"n", 4: b"t"}
MOMENTS = 10
QUICK = {"threads": 2, "pauses_s": (0.1, 0.2, 0.5)}


def url_of(nodes: Sequence[NodeProcess]) -> str:
    return "node://" + ",".join(node.address for node in nodes)


class Traffic:
    """Clients that overwrite and delete keys of every group until they are told to stop."""

    def __init__(self, client: RawClient, keys: int = 150) -> None:
        self._client = client
        self._keys = keys
        self._end = threading.Event()
        self.rounds = dict.fromkeys(PREFIXES, 0)
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(group,)) for group in PREFIXES]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        assert not self.failures, self.failures

    def write(self, group: int, number: int) -> None:
        """Write a third of a group's keys, and delete some of them."""
        rows: list[tuple[bytes, bytes | None]] = []
        for at in range(number % 3, self._keys, 3):
            value = None if (at + number) % 7 == 0 else b"%d.%d " % (group, number) * (at % 9)
            rows.append((PREFIXES[group] + b"%05d" % at, value))
        client_id = b"%016d" % group
        self._client.batch_write(group, rows, client_id=client_id, sequence=number + 1)
        self.rounds[group] = number + 1

    def _run(self, group: int) -> None:
        try:
            while not self._end.is_set():
                self.write(group, self.rounds[group])
        except WorkbenchError as error:
            self.failures.append(error)

    def wait(self, rounds: int) -> None:
        """Return once every group has had so many rounds more."""
        wanted = {group: done + rounds for group, done in self.rounds.items()}
        until(
            lambda: bool(self.failures) or all(self.rounds[g] >= n for g, n in wanted.items()),
            "traffic goes on",
        )


def answers(client: RawClient, moments: Sequence[int]) -> dict[int, list[tuple[bytes, bytes]]]:
    """Return what the cluster answers to a scan of everything at each moment."""
    return {at: list(client.scan(read_ts=at)) for at in moments}


def split(client: RawClient, key: bytes) -> None:
    snapshot = client.list_routes()
    route = next(route for route in snapshot.routes if key in route.span)
    client.split_range(
        expected_version=snapshot.catalog_version,
        route_id=route.route_id,
        split_key=key,
        request_id=f"split-{key.hex()}",
    )


def wipe(nodes: Sequence[NodeProcess]) -> None:
    for node in nodes:
        node.kill()
        shutil.rmtree(node.config.dir)


def check_usable(nodes: Sequence[NodeProcess], folder: Path, version: int) -> None:
    """Write, split and collect, as one would with any cluster."""
    with client_of(*nodes) as client:
        before = client.timestamp()
        for group, prefix in PREFIXES.items():
            new = [(prefix + b"-new", b"x")]
            written = client.batch_write(group, new, client_id=b"n" * 16, sequence=1)
            assert written.commit_ts > before
            assert client.get(prefix + b"-new") == b"x"
        split(client, b"n00031")
        after = client.list_routes()
        assert after.catalog_version == version + 1
        assert len({route.route_id for route in after.routes}) == len(after.routes)
    catalog = str(folder / "collected")

    def collected() -> bool:
        return collect_live(url_of(nodes), catalog, LiveOptions()).datasets[-1].rows > 0

    until(collected, "load is collected")


def round_trip(folder: Path, catalog: str, **options: Any) -> None:
    """Run a cluster under traffic, export it, wipe it, restore it, and compare."""
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    with cluster(folder / "one", NODES, ROUTES) as nodes, client_of(*nodes) as client:
        with Traffic(client) as traffic:
            moments = []
            for number in range(MOMENTS):
                traffic.wait(1)
                moments.append(client.timestamp())
                if number in {2, 5}:
                    split(client, b"h00050" if number == 2 else b"t00077")
            routes = client.list_routes()
            create_catalog(catalog)
            exported = export_cluster(url_of(nodes), catalog, ExportOptions(**options))
            read_ts = exported.export.read_ts
            traffic.wait(2)  # it went on meanwhile, and after
        assert moments == sorted(moments)
        moments = [*moments[1:], read_ts]
        oracle = answers(client, moments)
        assert answers(client, [client.timestamp()]) != answers(client, [read_ts])
        wipe(nodes)
    assert len({tuple(rows) for rows in oracle.values()}) > MOMENTS // 2, "moments differ"
    with cluster(folder / "two", NODES, ROUTES) as nodes, client_of(*nodes) as client:
        restored = restore_cluster(
            exported.export.name, url_of(nodes), catalog, RestoreOptions(check=True, threads=2)
        )
        assert restored.new_rows == exported.export.rows
        assert client.list_routes().routes == routes.routes
        assert client.list_routes().catalog_version == routes.catalog_version == 3
        assert answers(client, moments) == oracle
        check_usable(nodes, folder, routes.catalog_version)
        wiped = [key for key, _ in client.scan(b"h", b"i", read_ts=read_ts)]
        assert wiped == [key for key, _ in oracle[read_ts] if b"h" <= key < b"i"]
        for node in nodes:  # what was restored is on disk
            node.kill()
        for node in nodes:
            node.start()
        assert answers(client, moments) == oracle


def test_a_cluster_is_exported_wiped_and_restored_to_the_same_history(tmp_path: Path):
    round_trip(tmp_path, str(tmp_path / "catalog"), threads=2, part_bytes=20_000)


def test_the_same_through_a_catalog_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with moto() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        server.make_bucket("exports")
        round_trip(tmp_path, "s3://exports/catalog", threads=2, part_bytes=100_000)


EXPORT = """
import sys
from workbench.node.client import NodeClient
NodeClient.export.__kwdefaults__["chunk_bytes"] = 8_000
from workbench.session.exporting import ExportOptions, export_cluster
_, url, catalog = sys.argv
export_cluster(url, catalog, ExportOptions(name="a", threads=2, part_bytes=8_000))
"""
RESTORE = """
import sys
from workbench.session import restoring_parts
restoring_parts.CUT_BYTES = 4_000
from workbench.session.restoring import RestoreOptions, restore_cluster
_, url, catalog = sys.argv
print(restore_cluster("a", url, catalog, RestoreOptions(threads=2)).new_rows)
"""


@contextmanager
def program(text: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of its own; it is gone afterwards."""
    process = subprocess.Popen([sys.executable, "-c", text, *arguments], stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def killed_when(process: subprocess.Popen[bytes], condition: Any, what: str) -> None:
    until(lambda: process.poll() is not None or condition(), what)
    process.send_signal(signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL, f"it ended before: {what}"


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[tuple[list[NodeProcess], RawClient, str]]:
    """One node with two groups and some history, and an empty catalog."""
    catalog = str(tmp_path / "catalog")
    create_catalog(catalog)
    (tmp_path / "one").mkdir()
    routes = (RouteDescriptor(1, Span(b"", b"l"), 1), RouteDescriptor(2, Span(b"l", None), 2))
    with cluster(tmp_path / "one", [[1, 2]], routes) as nodes, client_of(*nodes) as client:
        for group, prefix in ((1, b"b"), (2, b"n")):
            for number in range(3):
                rows = [(prefix + b"%05d" % at, b"%d" % number * 40) for at in range(2_000)]
                client.batch_write(group, rows, client_id=b"c" * 16, sequence=number + 1)
        yield nodes, client, catalog


def parts(catalog: str) -> int:
    return sum(len(each.manifest.objects) for each in exports(open_catalog(catalog)))


def test_an_export_killed_again_and_again_stores_every_row_once(filled):
    nodes, client, catalog = filled
    begun: set[int] = set()
    for wanted in (3, 30):
        with program(EXPORT, url_of(nodes), catalog) as process:
            killed_when(process, lambda wanted=wanted: parts(catalog) >= wanted, f"{wanted} parts")
        [export] = exports(open_catalog(catalog))
        assert not export.complete
        begun.add(export.read_ts)
        client.batch_write(1, [(b"b-later", b"x")], client_id=b"", sequence=0)
    answer = export_cluster(url_of(nodes), catalog, ExportOptions(**QUICK))
    begun.add(answer.export.read_ts)
    assert answer.resumed
    assert len(begun) == 1
    assert answer.export.rows == 12_000
    stored = open_catalog(catalog).read("export/a/version").select(["key", "commit_ts"]).to_pylist()
    told = [row for group in (1, 2) for row in versions(client, group, answer.export.read_ts)]
    assert sorted((row["key"], row["commit_ts"]) for row in stored) == sorted(told)


def versions(client: RawClient, group: int, read_ts: int) -> list[tuple[bytes, int]]:
    return [
        (row["key"], row["commit_ts"])
        for chunk in client.export(group, read_ts=read_ts)
        for row in chunk.table.select(["key", "commit_ts"]).to_pylist()
    ]


def test_a_restore_killed_again_and_again_imports_every_row_once(filled, tmp_path: Path):
    nodes, client, catalog = filled
    read_ts = export_cluster(url_of(nodes), catalog, ExportOptions(name="a")).export.read_ts
    routes = client.list_routes()
    oracle = {group: versions(client, group, read_ts) for group in (1, 2)}
    wipe(nodes)
    (tmp_path / "two").mkdir()
    with cluster(tmp_path / "two", [[1, 2]], routes.routes) as fresh, client_of(*fresh) as new:
        for wanted in (1, 2_500):
            with program(RESTORE, url_of(fresh), catalog) as process:
                killed_when(
                    process,
                    lambda wanted=wanted: new.restore_status(1).rows >= wanted,
                    f"{wanted} rows",
                )
            with pytest.raises(Unavailable):  # a half is never served
                new.get(b"b00001")
        with program(RESTORE, url_of(fresh), catalog) as process:
            out, _ = process.communicate(timeout=30)
            assert process.returncode == 0
        assert 0 < int(out) < 12_000
        assert {group: versions(new, group, read_ts) for group in (1, 2)} == oracle
        assert new.restore_status(1).rows + new.restore_status(2).rows == 12_000


def test_a_node_that_is_started_again_in_the_middle_costs_no_row(
    filled, monkeypatch: pytest.MonkeyPatch
):
    nodes, client, catalog = filled
    [node] = nodes
    monkeypatch.setitem(NodeClient.export.__kwdefaults__, "chunk_bytes", 8_000)
    restarted: list[int] = []
    options = ExportOptions(name="a", threads=2, part_bytes=8_000)
    commit = Catalog.commit

    def commit_and_restart(self: Catalog, writes: Sequence[Any]) -> Any:
        if not restarted and sum(write.table.num_rows for write in writes):
            restarted.append(1)
            node.kill()
            node.start()
        return commit(self, writes)

    monkeypatch.setattr(Catalog, "commit", commit_and_restart)
    export_cluster(url_of(nodes), catalog, options)
    assert restarted
    told = [row for group in (1, 2) for row in versions(client, group, client.timestamp())]
    rows = open_catalog(catalog).read("export/a/version").select(["key", "commit_ts"]).to_pylist()
    assert sorted((row["key"], row["commit_ts"]) for row in rows) == sorted(told)


def test_a_cluster_that_lost_a_node_says_which_group_and_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    catalog = str(tmp_path / "catalog")
    create_catalog(catalog)
    with cluster(tmp_path, NODES, ROUTES) as nodes, client_of(*nodes) as client:
        traffic = Traffic(client)
        for group in PREFIXES:
            traffic.write(group, 0)
        quickly = ExportOptions(name="a", pauses_s=(0.1,))
        with monkeypatch.context() as patch:
            routes = exporting.exported_routes

            def lose_a_node(*arguments: Any) -> Any:
                nodes[2].kill()
                return routes(*arguments)

            patch.setattr(exporting, "exported_routes", lose_a_node)
            with pytest.raises(Unavailable) as caught:
                export_cluster(url_of(nodes), catalog, quickly)
        assert "group 3: " in caught.value.message
        assert "150 rows and 3 of 4 groups" in caught.value.message
        assert "--resume a" in caught.value.hint
        nodes[2].start()
        answer = export_cluster(url_of(nodes), catalog, ExportOptions(resume="a", **QUICK))
        assert answer.export.complete
        assert answer.export.rows == 200
