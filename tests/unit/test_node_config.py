"""A node's configuration: written and read the same, refused with file, key and value."""

from __future__ import annotations

import errno
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InvalidInput, NotFound, Storage
from workbench.model.keys import Span
from workbench.model.node import Member
from workbench.model.routes import RouteDescriptor, RouteState, seed_routes
from workbench.node.config import (
    NodeConfig,
    check_address,
    check_config,
    config_text,
    read_config,
    write_config,
)

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/formats/node_config.md"
CLUSTER = "6f0f9a1e-0000-4000-8000-000000000001"
TEXT = f"""
cluster_id = "{CLUSTER}"
node = 1
dir = "data"
listen = "127.0.0.1:7101"

[[members]]
node = 1
address = "127.0.0.1:7101"
groups = [1, 3]

[[members]]
node = 2
address = "localhost:7102"
groups = [2]

[[routes]]
route_id = 1
start = ""
end = "80"
group = 1

[[routes]]
route_id = 2
start = "80"
group = 3
"""


def config(tmp_path: Path) -> NodeConfig:
    return NodeConfig(
        cluster_id=CLUSTER,
        node=2,
        dir=tmp_path / "node-2",
        listen="[::1]:7102",
        members=(Member(1, "127.0.0.1:7101", (1, 3)), Member(2, "[::1]:7102", (2,))),
        routes=(
            RouteDescriptor(4, Span(b"", b"\x80\x00"), 1, RouteState.ACTIVE, 2, 2**63 - 1),
            RouteDescriptor(5, Span(b"\x80\x00", None), 3),
        ),
        window_ms=250,
        buckets=3,
    )


def refusal(tmp_path: Path, text: str) -> InvalidInput:
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_config(path)
    assert str(path) in caught.value.message
    return caught.value


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    write_config(path, config(tmp_path))
    assert read_config(path) == config(tmp_path)
    assert config(tmp_path).groups == (2,)


def test_a_write_that_fails_leaves_the_old_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.toml"
    write_config(path, config(tmp_path))
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("workbench.node.whole_files.os.fsync", full)
    with pytest.raises(Storage) as caught:
        write_config(path, replace(config(tmp_path), founded=True))
    assert caught.value.code == "config_not_written"
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["node.toml"]


def test_a_write_takes_the_place_of_what_a_crash_left(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    (tmp_path / "node.toml.tmp").write_bytes(b"half")
    write_config(path, config(tmp_path))
    assert read_config(path) == config(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["node.toml"]


def test_defaults_and_a_folder_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(TEXT)
    found = read_config(path)
    assert (found.window_ms, found.buckets) == (60_000, 16)
    assert found.dir == tmp_path / "data"
    assert [route.span.start for route in found.routes] == [b"", b"\x80"]
    assert found.groups == (1, 3)
    assert found.voters_of(2) == {2}
    assert found.voters_of(9) == frozenset()


def test_a_group_is_founded_by_all_nodes_that_list_it(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(TEXT.replace("groups = [2]", "groups = [1, 2]"))
    assert read_config(path).voters_of(1) == {1, 2}


def test_who_joined_and_who_was_removed_is_written_and_read(tmp_path: Path) -> None:
    first, second = config(tmp_path).members
    changed = replace(
        config(tmp_path),
        node=3,
        listen="127.0.0.1:7101",
        members=(
            replace(first, removed=True),
            second,
            Member(3, "127.0.0.1:7101", (), (1, 2)),
        ),
        metrics_listen="[::1]:9101",
        founded=True,
    )
    path = tmp_path / "node.toml"
    write_config(path, changed)
    found = read_config(path)
    assert found == changed, "an address of a node that was removed may be given again"
    assert (found.groups, found.joins) == ((1, 2), (1, 2))
    assert found.present == changed.members[1:]
    assert found.voters_of(1) == {1}, "who founded a group is what it was"
    assert not found.alone


def test_a_node_is_alone_where_nobody_else_keeps_its_groups(tmp_path: Path) -> None:
    assert config(tmp_path).alone
    path = tmp_path / "node.toml"
    path.write_text(TEXT.replace("groups = [2]", "groups = [1, 2]"))
    assert not read_config(path).alone
    first, second = config(tmp_path).members
    joined = replace(config(tmp_path), members=(replace(first, joins=(2,)), second))
    assert not joined.alone
    left = replace(joined, members=(replace(first, joins=(2,), removed=True), second))
    assert left.alone
    assert read_config(path).metrics_listen is None
    assert not read_config(path).founded


def test_whether_a_node_was_part_of_a_cluster_is_written_and_left_open_where_not_said(
    tmp_path: Path,
) -> None:
    path = tmp_path / "node.toml"
    for founded in (None, False, True):
        write_config(path, replace(config(tmp_path), founded=founded))
        assert read_config(path).founded is founded
    path.write_text(TEXT)
    assert read_config(path).founded is None


@pytest.mark.parametrize("kept_ms", [0, 1_000, 86_400_000])
def test_how_long_versions_are_kept_is_written_and_read(tmp_path: Path, kept_ms: int) -> None:
    path = tmp_path / "node.toml"
    write_config(path, replace(config(tmp_path), versions_kept_ms=kept_ms))
    assert read_config(path).versions_kept_ms == kept_ms
    path.write_text(TEXT)
    assert read_config(path).versions_kept_ms == 3_600_000


@pytest.mark.parametrize("kept_ms", [-1, 1, 999, 2**62])
def test_a_time_to_keep_versions_out_of_bounds_is_refused(tmp_path: Path, kept_ms: int) -> None:
    with pytest.raises(InvalidInput, match=f"versions_kept_ms = {kept_ms} is neither 0"):
        check_config(replace(config(tmp_path), versions_kept_ms=kept_ms), "it")


def test_a_group_has_at_most_seven_voters(tmp_path: Path) -> None:
    found = config(tmp_path)
    members = tuple(Member(node, f"127.0.0.1:{7100 + node}", (1, 2, 3)) for node in range(1, 9))
    with pytest.raises(InvalidInput, match="group 1 has 8 voters, more than 7"):
        check_config(replace(found, node=1, listen="127.0.0.1:7101", members=members), "it")


# A write waits for the disk.
@settings(deadline=None, max_examples=30)
@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1))
def test_any_folder_name_comes_back(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    written = replace(config(folder), dir=folder / f"x{name}")
    write_config(folder / "any.toml", written)
    assert read_config(folder / "any.toml") == written


def test_the_documented_example_is_read(tmp_path: Path) -> None:
    text = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[0]
    path = tmp_path / "node.toml"
    path.write_text(text)
    found = read_config(path)
    assert [member.node for member in found.present] == [1, 2, 4]
    assert found.voters_of(1) == {1, 2, 3}
    assert found.members[3].joins == (1, 2, 3)
    assert (found.founded, found.metrics_listen) == (True, "127.0.0.1:9101")
    assert read_config(path) == found
    other = tmp_path / "again.toml"
    other.write_text(config_text(found))
    assert read_config(other) == found


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("node = 1\ndir", "nodes = 1\ndir", "the key nodes is unknown; did you mean 'node'?"),
        ("listen", "port", "the key port is unknown"),
        ("groups = [2]", "group = [2]", "members[2].group is unknown; did you mean 'groups'?"),
        ('end = "80"', 'stop = "80"', "routes[1].stop is unknown"),
        ("node = 1\ndir", "dir", "node is missing"),
        ('dir = "data"', "dir = 5", "dir = 5 is not a text"),
        ("node = 1\ndir", 'node = "1"\ndir', "node = '1' is not a whole number"),
        ("node = 1\ndir", "node = true\ndir", "node = True is not a whole number"),
        ("node = 1\ndir", "node = 3\ndir", "node = 3 is not among the members [1, 2]"),
        ("groups = [2]", 'groups = ["2"]', "members[2].groups = ['2']"),
        ("groups = [2]", "groups = 2", "members[2].groups = 2 is not a list"),
        ("groups = [1, 3]", "groups = [3]", "no node has group 1"),
        ("groups = [2]", "groups = [0, 2]", "group 0"),
        ("groups = [2]", "groups = [2, 2]", "node 2 lists group 2 twice"),
        ("group = 3", "group = 7", "route 2 is on group 7, which no node has"),
        ("group = 1\n", "group = 3\n", "catalog lives in group 1"),
        ('start = ""', 'start = "40"', "catalog lives in group 1"),
        ('start = "80"', 'start = "7f"', "overlap"),
        ('start = "80"', 'start = "8"', "routes[2].start = '8' is not hex"),
        ('end = "80"', 'end = ""', "routes[1]"),
        ("route_id = 2", "route_id = 1", "occurs twice"),
        ("route_id = 2", "route_id = -2", "routes[2].route_id = -2"),
        ("route_id = 2", 'route_id = 2\nstate = "HOT"', "state = 'HOT' is none of ACTIVE"),
        ("node = 2", "node = 1", "not ascending"),
        (CLUSTER, "prod", "cluster_id = 'prod' is no UUID"),
        ('"localhost:7102"', '"127.0.0.1:7101"', "occurs twice"),
        ('listen = "127.0.0.1:7101"', 'listen = "127.0.0.1:7109"', "not member 1's address"),
        ("node = 1\ndir", "window_ms = 5\nnode = 1\ndir", "window_ms = 5 is not from 100"),
        ("node = 1\ndir", "buckets = 0\nnode = 1\ndir", "buckets = 0 is not from 1"),
        ("groups = [2]", "groups = [2]\njoins = [2]", "node 2 lists group 2 twice"),
        ("groups = [2]", "groups = [2]\njoins = [9]", "node 2 joins group 9, which is none"),
        ("groups = [2]", "groups = [2]\nremoved = 1", "removed = 1 is not true or false"),
        ("groups = [1, 3]", "groups = [1, 3]\nremoved = true", "node 1 was removed"),
        ("node = 1\ndir", 'founded = "yes"\nnode = 1\ndir', "founded = 'yes' is not true or"),
        ("node = 1\ndir", "metrics_listen = 9\nnode = 1\ndir", "metrics_listen = 9 is not a text"),
        (
            "node = 1\ndir",
            'metrics_listen = "127.0.0.1:7101"\nnode = 1\ndir',
            "the address '127.0.0.1:7101' occurs twice",
        ),
        ("[[routes]]", "[routes]", "not TOML"),
        ("[[members]]", "[[member]]", "the key member is unknown; did you mean 'members'?"),
        ("cluster_id =", "cluster_id", "not TOML"),
    ],
)
def test_a_wrong_value_is_refused_with_file_key_and_value(
    tmp_path: Path, old: str, new: str, part: str
) -> None:
    assert old in TEXT
    error = refusal(tmp_path, TEXT.replace(old, new))
    assert error.code == "config_invalid"
    assert part in error.message


@pytest.mark.parametrize("text", ["", "members = []", "members = 1", "\xff", "a = " + "[" * 5000])
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInput) as caught:
        read_config(path)
    assert caught.value.code == "config_invalid"


def test_an_absent_or_unreadable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as absent:
        read_config(tmp_path / "absent.toml")
    assert absent.value.code == "config_absent"
    with pytest.raises(Storage) as folder:
        read_config(tmp_path)
    assert folder.value.code == "config_unreadable"
    with pytest.raises(Storage) as unwritable:
        write_config(tmp_path / "no/such/folder.toml", config(tmp_path))
    assert unwritable.value.code == "config_not_written"


@pytest.mark.parametrize(
    "address", ["0.0.0.0:7101", "[::]:7101", "10.0.0.1:7101", "example.org:7101", "127.1:7101"]
)
def test_only_loopback_is_served(tmp_path: Path, address: str) -> None:
    error = refusal(tmp_path, TEXT.replace('"127.0.0.1:7101"', f'"{address}"'))
    assert error.code == "address_not_loopback"
    assert address in error.message


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("0.0.0.0:9101", "address_not_loopback"),
        ("", "address_invalid"),
        ("9101", "address_invalid"),
    ],
)
def test_metrics_are_served_on_loopback_only(tmp_path: Path, address: str, code: str) -> None:
    error = refusal(tmp_path, f'metrics_listen = "{address}"\n{TEXT}')
    assert error.code == code
    assert "metrics_listen" in error.message


def test_an_other_members_address_is_checked_too(tmp_path: Path) -> None:
    error = refusal(tmp_path, TEXT.replace("localhost:7102", "10.0.0.1:7102"))
    assert error.code == "address_not_loopback"


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:71"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_address(address, "listen")
    assert caught.value.code == "address_invalid"


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.9:1", "127.0.0.9", 1),
        ("[::1]:65535", "::1", 65_535),
        ("localhost:7", "localhost", 7),
    ],
)
def test_loopback_addresses_are_taken_apart(address: str, host: str, port: int) -> None:
    assert check_address(address, "listen") == (host, port)


def test_a_configuration_that_breaks_a_rule_is_never_written(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    broken = replace(config(tmp_path), routes=seed_routes([b"m"], group=3))
    with pytest.raises(InvalidInput):
        write_config(path, broken)
    undecodable = replace(config(tmp_path), dir=tmp_path / "\udcff")
    with pytest.raises(InvalidInput):
        write_config(path, undecodable)
    assert not path.exists()
