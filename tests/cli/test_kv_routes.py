"""`workbench kv` and `workbench routes` against real nodes and a catalog; `collect` in between."""

from __future__ import annotations

import io
import json

import pytest

from tests.process.node_process import client_of, cluster, until


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """Node 1 has groups 1 and 3, node 2 has group 2."""
    with cluster(tmp_path_factory.mktemp("cli"), [[1, 3], [2]]) as nodes:
        yield nodes


@pytest.fixture
def target(nodes):
    return f"node://{nodes[0].address},{nodes[1].address}"


def split(nodes, key):
    with client_of(*nodes) as client:
        snapshot = client.list_routes()
        route = next(each for each in snapshot.routes if key in each.span)
        return client.split_range(
            expected_version=snapshot.catalog_version,
            route_id=route.route_id,
            split_key=key,
            request_id=f"cli-{key.hex()}",
        )


def test_what_is_put_is_got_scanned_and_deleted(workbench, target):
    put = workbench("kv", "put", "user/1", "hello", "--target", target, "--json").json
    assert put["key"] == b"user/1".hex()
    assert workbench("kv", "get", "user/1", "--target", target).out == "hello\n"
    workbench("kv", "put", "0x75ff", "0x00ff", "--target", target)
    assert workbench("kv", "get", "0x75ff", "--target", target).out == "0x00ff\n"
    got = workbench("kv", "get", "user/1", "nobody", "--target", target, "--json").json
    assert [row["value"] for row in got["rows"]] == [b"hello".hex(), None]
    assert got["rows"][0]["commit_ts"] == put["commit_ts"]
    scanned = workbench("kv", "scan", "u", "v", "--target", target, "--json").json
    assert [row["key"] for row in scanned["rows"]] == ["75ff", b"user/1".hex()][::-1]
    assert not scanned["more"]
    some = workbench(
        "kv", "scan", "u", "v", "--limit", "1", "--reverse", "--keys-only", "--target", target
    )
    assert "0x75ff" in some.out
    assert "user/1" not in some.out
    assert "1 row, and more follow" in some.err
    for _ in range(2):  # the second time there is nothing to delete
        told = workbench("kv", "delete", "user/1", "--target", target).out
        assert told.startswith("no value under user/1 any more, as of ")
    gone = workbench("kv", "get", "user/1", "--target", target, "--json")
    assert (gone.status, gone.error["code"]) == (1, "key_absent")
    before = str(put["commit_ts"])
    old = workbench("kv", "get", "user/1", "--read-ts", before, "--target", target)
    assert old.out == "hello\n"
    newest = workbench("kv", "get", "0x75ff", "--read-ts", "0", "--target", target)
    assert newest.out == "0x00ff\n"
    late = workbench("kv", "get", "user/1", "--read-ts", "2999-01-01T00:00:00Z", "--target", target)
    assert "leave read_ts (--read-ts) out" in late.err
    assert workbench("kv", "scan", "zz", "zzz", "--target", target).out == "no rows\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("get", "k", "--target", "http://x"), "url_invalid"),
        (("get", "k", "--target", "node://host"), "url_invalid"),
        (("get", "k", "--target", "node://127.0.0.1:65536"), "url_invalid"),
        (("get", "k", "--target", "node://127.0.0.1:99999"), "url_invalid"),
        (("get", "k", "--target", "node://127.0.0.1:0"), "url_invalid"),
        (("get", "k", "--target", "node://:40101"), "url_invalid"),
        (("get", "k", "--target", "node://http://127.0.0.1:40101"), "url_invalid"),
        (("get", "k"), "usage"),
        (("get", "0xz", "--target", "node://127.0.0.1:1"), "key_invalid"),
        (("put", "k", "0x0", "--target", "node://127.0.0.1:1"), "key_invalid"),
        (("get", "k" * 5000, "--target", "node://127.0.0.1:1"), "key_too_long"),
        (("get", "k", "--read-ts", "x", "--target", "node://127.0.0.1:1"), "time_invalid"),
        (("scan", "--limit", "0", "--target", "node://127.0.0.1:1"), "usage"),
        (
            ("get", "k", "--target", "node://127.0.0.1:1,127.0.0.1:2", "--timeout", "10m"),
            "node_unreachable",
        ),
    ],
)
def test_wrong_keys_and_targets_are_told(workbench, arguments, code):
    outcome = workbench("kv", *arguments, "--json")
    assert outcome.status in {1, 2}
    assert outcome.error["code"] == code


def test_what_only_looks_like_hex_is_told_how_to_be_written(workbench, target):
    refused = workbench("kv", "put", "0xzz", "v", "--target", target, "--json").error
    assert refused["hint"].endswith(f" 0x{b'0xzz'.hex()}")
    typed = refused["hint"].rpartition(" ")[2]
    assert workbench("kv", "put", typed, "v", "--target", target).status == 0
    assert workbench("kv", "get", typed, "--target", target).out == "v\n"


@pytest.mark.parametrize("value", [b"", b"-", b"0x00\n", bytes(range(256)) * 4_096])
def test_a_value_of_a_dash_is_read_from_stdin_as_it_comes(workbench, target, monkeypatch, value):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(value)))
    assert workbench("kv", "put", "piped", "-", "--target", target).status == 0
    got = workbench("kv", "get", "piped", "--target", target, "--json").json
    assert bytes.fromhex(got["rows"][0]["value"]) == value


def test_more_on_stdin_than_a_value_may_have_is_refused(workbench, target, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"v" * (2**20 + 1))))
    refused = workbench("kv", "put", "piped", "-", "--target", target, "--json")
    assert refused.error["code"] == "value_too_long"


def test_reserved_keys_are_refused_and_an_absent_one_is_put_once(workbench, target):
    refused = workbench("kv", "put", "!dist|x", "v", "--target", target, "--json")
    assert refused.error["code"] == "key_reserved"
    first = workbench("kv", "put", "lock", "mine", "--if-absent", "--target", target)
    assert first.status == 0
    second = workbench("kv", "put", "lock", "mine", "--if-absent", "--target", target, "--json")
    assert (second.status, second.error["code"]) == (5, "precondition_failed")


def test_a_key_that_expires_is_gone_by_itself(workbench, target):
    put = workbench(
        "kv", "put", "soon", "v", "--expire-in", "400ms", "--target", target, "--json"
    ).json
    assert put["expire_at_ms"] > put["commit_ts"] >> 16
    assert workbench("kv", "get", "soon", "--target", target).out == "v\n"
    until(
        lambda: workbench("kv", "get", "soon", "--target", target).status == 1, "it expired", 10.0
    )
    still = workbench("kv", "get", "soon", "--read-ts", str(put["commit_ts"]), "--target", target)
    assert still.out == "v\n"


def test_routes_are_listed_owned_and_their_history_is_told(workbench, nodes, target):
    before = workbench("routes", "list", "--target", target, "--json").json
    receipt = split(nodes, b"\x05k")
    after = workbench("routes", "list", "--target", target, "--json").json
    assert after["catalog_version"] == receipt.catalog_version == before["catalog_version"] + 1
    old = workbench(
        "routes", "at", str(before["catalog_version"]), "--target", target, "--json"
    ).json
    assert old == before
    owner = workbench("routes", "owner", "0x056b", "--target", target, "--json").json
    assert [each["route_id"] for each in owner["routes"]] == [receipt.right.route_id]
    then = workbench(
        "routes",
        "owner",
        "0x056b",
        "--version",
        str(before["catalog_version"]),
        "--target",
        target,
        "--json",
    ).json
    assert [each["route_id"] for each in then["routes"]] == [receipt.left.parent_route_id]
    told = workbench("routes", "history", "--target", target, "--json").json
    newest = told["versions"][0]
    assert newest["catalog_version"] == receipt.catalog_version
    assert newest["removed"] == [receipt.left.parent_route_id]
    assert [each["route_id"] for each in newest["added"]] == [
        receipt.left.route_id,
        receipt.right.route_id,
    ]
    assert newest["at"] is not None
    assert told["versions"][-1]["previous_version"] is None
    human = workbench("routes", "history", "--target", target).out
    assert f"{receipt.left.parent_route_id} became" in human
    assert "the oldest that is known" in human
    ahead = workbench("routes", "at", "9999", "--target", target, "--json")
    assert ahead.error["code"] == "catalog_version_ahead"
    assert "`workbench routes history`" in ahead.error["message"]


def test_version_0_is_said_to_be_the_configuration_and_no_version_of_the_catalog(workbench, target):
    told = workbench("routes", "at", "0", "--target", target)
    assert told.out.startswith(
        "Routes of catalog version 0: as configured, before the first version"
    )
    history = workbench("routes", "history", "--target", target, "--json").json
    assert 0 not in [each["catalog_version"] for each in history["versions"]]


@pytest.mark.parametrize("version", ["foo", "-1", "1.5", "²", "9" * 20])
def test_what_is_no_catalog_version_is_told_where_they_are_listed(workbench, target, version):
    for arguments in (("at", "--", version), ("owner", "k", f"--version={version}")):
        refused = workbench("routes", arguments[0], "--target", target, "--json", *arguments[1:])
        assert (refused.status, refused.error["code"]) == (2, "usage")
        assert "is no catalog version" in refused.error["message"]


def test_collect_records_every_version_that_came_between_two_rounds(workbench, nodes, target):
    workbench("collect", target)
    with client_of(*nodes) as client:
        first = client.list_routes()
    keys = [bytes([6, step]) for step in range(5)]
    receipts = [split(nodes, key) for key in keys]
    collected = workbench("collect", target, "--json").json
    assert collected["catalog_version"] == receipts[-1].catalog_version
    assert not [each for each in collected["warnings"] if "version" in each]
    history = workbench("routes", "history", "--json").json["versions"]
    assert [each["catalog_version"] for each in history] == list(
        range(receipts[-1].catalog_version, first.catalog_version - 1, -1)
    )
    for receipt in receipts:
        version = str(receipt.catalog_version)
        kept = workbench("routes", "at", version, "--json").json
        live = workbench("routes", "at", version, "--target", target, "--json").json
        assert kept == live
    owner = workbench("routes", "owner", "0x0601", "--json").json
    assert owner["routes"][0]["start"] == "0601"
    assert workbench("routes", "at", "9999", "--json").error["code"] == "catalog_version_not_kept"
    assert json.loads(workbench("routes", "list", "--json").out)["routes"][0]["start"] == ""


def test_without_collected_routes_that_is_told(workbench):
    workbench("catalog", "init")
    assert workbench("routes", "list", "--json").error["code"] == "routes_absent"
    other = workbench("routes", "list", "--cluster", "x", "--json")
    assert other.error["code"] == "cluster_absent"


def test_garbage_is_collected_by_group_and_older_moments_are_refused(workbench, target):
    first = workbench("kv", "put", "old", "1", "--target", target, "--json").json
    workbench("kv", "put", "old", "2", "--target", target)
    kept = workbench("kv", "gc", "--keep", "1h", "--target", target, "--json").json
    assert [each["group"] for each in kept["groups"]] == [1, 2, 3]
    assert not any(each["dropped"] for each in kept["groups"])
    until(
        lambda: sum(
            each["dropped"]
            for each in workbench("kv", "gc", "--keep", "1ms", "--target", target, "--json").json[
                "groups"
            ]
        ),
        "the first version has gone",
    )
    before = ("--read-ts", str(first["commit_ts"]), "--target", target, "--json")
    assert workbench("kv", "get", "old", *before).error["code"] == "read_ts_below_safe_point"
    assert workbench("kv", "get", "old", "--target", target).out == "2\n"
    assert "safe_point" in workbench("kv", "gc", "--target", target).out
