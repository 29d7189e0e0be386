"""How a real node ends: killed, told to stop, or refused at its start; no write is lost."""

from __future__ import annotations

import signal
import socket
import struct
import threading
from pathlib import Path

import pytest

from tests.process.node_process import NodeProcess, client_of, cluster, configs, until
from workbench.errors import OutcomeUnknown, Unavailable, WorkbenchError


class Writers:
    """Threads that put numbered keys and remember which were acknowledged."""

    def __init__(self, *nodes, threads=4):
        self.acknowledged = {}
        self.unknown = 0
        self.refused = set()
        self.unexpected = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(nodes, number)) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def _write(self, nodes, writer):
        with client_of(*nodes, timeout_s=5.0) as client:
            number = 0
            while not self._stop.is_set():
                number += 1
                key = bytes([number % 256]) + b"w%d/%d" % (writer, number)
                try:
                    client.put(key, b"%d" % number)
                except OutcomeUnknown:
                    self.unknown += 1
                except Unavailable as error:
                    self.refused.add(error.code)
                    # As a client would: a node that stops is not asked again at once.
                    self._stop.wait(0.2 if error.code == "node_stopping" else 0.005)
                except WorkbenchError as error:
                    self.unexpected.append(error)
                    return
                else:
                    self.acknowledged[key] = b"%d" % number

    def end(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def assert_all_there(client, acknowledged):
    stored = dict(client.scan())
    lost = [key for key, value in acknowledged.items() if stored.get(key) != value]
    assert lost == []


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_under_load_loses_no_acknowledged_write(tmp_path, kills):
    with cluster(tmp_path, [[1, 2]]) as [node]:
        writers = Writers(node)
        try:
            for _ in range(kills):
                before = len(writers.acknowledged)
                until(
                    lambda before=before: len(writers.acknowledged) > before + 100, "writes go on"
                )
                node.kill()
                node.start()
        finally:
            writers.end()
        assert writers.unexpected == []
        assert len(writers.acknowledged) > 100 * kills
        with client_of(node) as client:
            assert_all_there(client, writers.acknowledged)


def test_splits_and_exactly_once_survive_a_kill(tmp_path):
    with cluster(tmp_path, [[1]]) as [node]:
        with client_of(node) as client:
            receipt = client.split_range(
                expected_version=1, route_id=1, split_key=b"m", request_id="once"
            )
            first = client.batch_write(1, [(b"a", b"1")], client_id=b"c" * 16, sequence=1)
            client.put(b"a", b"2")
        node.kill()
        node.start()
        with client_of(node) as client:
            snapshot = client.list_routes()
            assert snapshot.catalog_version == receipt.catalog_version == 2
            assert {route.route_id for route in snapshot.routes} == {2, 3}
            again = client.split_range(
                expected_version=1, route_id=1, split_key=b"m", request_id="once"
            )
            assert again.repeated
            assert again.left == receipt.left
            same = client.batch_write(1, [(b"a", b"1")], client_id=b"c" * 16, sequence=1)
            assert same == first
            assert client.get(b"a") == b"2"
            assert client.latest_commit_ts(b"a") > first.commit_ts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_stop_answers_or_refuses_and_loses_nothing(tmp_path, number):
    with cluster(tmp_path, [[1, 2]]) as [node]:
        writers = Writers(node)
        try:
            until(lambda: len(writers.acknowledged) > 100, "writes go on")
            node.signal(number)
            assert node.wait() == 0
            until(lambda: bool(writers.refused), "writers are refused")
        finally:
            writers.end()
        assert writers.unexpected == []
        assert writers.unknown == 0
        assert writers.refused <= {"node_stopping", "node_unreachable"}
        names = [event["event"] for event in node.events() if event["event"] != "leader_changed"]
        assert names == ["starting", "serving", "stopping", "stopped"]
        node.start()
        with client_of(node) as client:
            assert_all_there(client, writers.acknowledged)


def test_every_event_is_a_json_line_with_the_same_first_keys(tmp_path):
    with cluster(tmp_path, [[1]]) as [node]:
        node.signal(signal.SIGTERM)
        node.wait()
        for event in node.events():
            assert list(event)[:3] == ["event", "time", "node"]
            assert event["node"] == 1
            assert str(event["time"]).endswith("Z")


def last_line(node):
    return node.log.read_text().splitlines()[-1]


def test_a_port_in_use_is_refused_with_status_1(tmp_path):
    [config] = configs(tmp_path, [[1]])
    node = NodeProcess(config, tmp_path)
    host, port = config.listen.split(":")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind((host, int(port)))
        taken.listen()
        node.launch()
        assert node.wait() == 1
    assert last_line(node).startswith(f"error: cannot listen on {config.listen}")
    assert node.events("failed")[0]["code"] == "port_in_use"
    assert not node.events("serving")


def test_a_second_process_on_the_same_directory_is_refused(tmp_path):
    with cluster(tmp_path, [[1]]) as [node]:
        second = NodeProcess(node.config, tmp_path)
        second.log = tmp_path / "second.log"
        second.launch()
        assert second.wait() == 1
        assert second.events("failed")[0]["code"] == "directory_in_use"
        with client_of(node) as client:
            client.put(b"k", b"v")


def killed_after(node, puts):
    """Put so many keys, kill the node, and return the one segment of its log."""
    with client_of(node) as client:
        for number in range(puts):
            client.put(b"k%d" % number, b"v" * 100)
    node.kill()
    [segment] = (node.config.dir / "log").glob("*.log")
    return segment


def test_a_damaged_log_stops_the_start_and_names_file_and_offset(tmp_path):
    with cluster(tmp_path, [[1]]) as [node]:
        segment = killed_after(node, 50)
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 0xFF
        segment.write_bytes(bytes(data))
        node.launch()
        assert node.wait() == 1
        assert node.events("failed")[0]["code"] == "log_corrupt"
        assert segment.name in last_line(node)


def test_a_torn_end_of_the_log_is_cut_told_and_kept(tmp_path):
    with cluster(tmp_path, [[1]]) as [node]:
        segment = killed_after(node, 20)
        whole = segment.read_bytes()
        mark = whole[16:24]
        [number] = struct.unpack_from("<Q", whole, whole.rindex(mark) + 12)
        torn = mark + struct.pack("<IQ", 500, number + 1) + b"crc?" + b"half of it"
        segment.write_bytes(whole + torn)
        node.start()
        [event] = node.events("log_cut")
        assert (event["file"], event["offset"]) == (str(segment), len(whole))
        assert event["bytes_cut"] == len(torn)
        assert Path(event["copy"]).read_bytes() == torn
        with client_of(node) as client:
            assert len(list(client.scan())) == 20


def test_acknowledged_writes_that_are_damaged_to_the_end_keep_the_node_down(tmp_path):
    with cluster(tmp_path, [[1]]) as [node]:
        segment = killed_after(node, 20)
        data = bytearray(segment.read_bytes())
        marks = [at for at in range(len(data)) if data.startswith(data[16:24], at)]
        for start in marks[-5:]:
            data[start + 60] ^= 1
        segment.write_bytes(bytes(data))
        node.launch()
        assert node.wait() == 1
        failed = node.events("failed")[0]
        assert failed["code"] == "log_corrupt"
        assert f"at offset {marks[-5]}:" in failed["error"]
        assert "remove-node" in failed["hint"]
        assert segment.read_bytes() == data


def test_a_configuration_that_is_wrong_is_refused_before_anything_is_made(tmp_path):
    [config] = configs(tmp_path, [[1]])
    node = NodeProcess(config, tmp_path)
    node.file.write_text(node.file.read_text() + "\nwindow = 3\n")
    node.launch()
    assert node.wait() == 1
    assert last_line(node).startswith("error: ")
    assert not config.dir.exists()
