"""The configuration of one node: a TOML file, read strictly.

    cluster_id = "6f0f9a1e-…"          [[members]]                    [[routes]]
    node = 1                           node = 1                       route_id = 1
    dir = "/data/node-1"               address = "127.0.0.1:7101"     start = ""
    listen = "127.0.0.1:7101"          groups = [1, 3]                group = 1

Rules: loopback only, as there is no mutual TLS yet; the nodes that list a group found it as its
voters, 1 to 7 of them; group 1, the catalog group, exists and owns what lies under the reserved
prefix; routes keep the rules of a catalog version. An unknown key is refused with the name that
was probably meant. All fields in docs/formats/node_config.md.

Not here: whether the addresses are free and whose the directory is.
"""

from __future__ import annotations

import ipaddress
import json
import re
import tomllib
import uuid
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, NoReturn

from workbench.errors import InvalidInput, NotFound, Storage, WorkbenchError
from workbench.model.keys import Span
from workbench.model.node import Member
from workbench.model.routes import RouteDescriptor, RouteState, check_routes
from workbench.node.whole_files import write_whole
from workbench.routing.rules import CATALOG_GROUP, check_catalog_group

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

WINDOW_MS: Final = 60_000
WINDOW_MS_MIN: Final = 100
WINDOW_MS_MAX: Final = 86_400_000
VERSIONS_KEPT_MS: Final = 3_600_000
VERSIONS_KEPT_MS_MIN: Final = 1_000
VERSIONS_KEPT_MS_MAX: Final = 10 * 366 * 86_400_000
BUCKETS: Final = 16
BUCKETS_MAX: Final = 1024
ROUTES_MAX: Final = 100_000
VOTERS_MAX: Final = 7
ID_MAX: Final = 2**63 - 1
CONFIG_BYTES_MAX: Final = 64 * 2**20

_FIELDS: Final = (
    "cluster_id",
    "node",
    "dir",
    "listen",
    "window_ms",
    "buckets",
    "metrics_listen",
    "founded",
    "versions_kept_ms",
    "members",
    "routes",
)
_MEMBER_FIELDS: Final = ("node", "address", "groups", "joins", "removed")
_ROUTE_FIELDS: Final = (
    "route_id",
    "start",
    "end",
    "group",
    "state",
    "parent_route_id",
    "split_at_hlc",
)
_KINDS: Final = {str: "a text", int: "a whole number", list: "a list", bool: "true or false"}
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]]+)):(?P<port>\d{1,5})"
)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What one node is told at its start.

    Attributes:
        cluster_id: Of the whole cluster; a UUID as text.
        node: This node's id, from 1.
        dir: Its directory, absolute.
        listen: `HOST:PORT` on which it serves; loopback.
        members: All nodes of the cluster, itself included, ascending by node.
        routes: What the catalog starts with as version 1, ascending by start.
        window_ms: Length of a load window.
        buckets: Into how many parts a route's span is divided where its load is counted.
        metrics_listen: `HOST:PORT` of /metrics, /healthz and /readyz; loopback. None: nowhere.
        founded: The node has been part of a cluster that served: an empty directory means that
            it lost what it promised to keep, and it does not start. None: not said; then a node
            that shares a group starts with what it promised only.
        versions_kept_ms: How long a version stays that a newer one has hidden; 0: until it is
            collected by hand.
    """

    cluster_id: str
    node: int
    dir: Path
    listen: str
    members: tuple[Member, ...]
    routes: tuple[RouteDescriptor, ...]
    window_ms: int = WINDOW_MS
    buckets: int = BUCKETS
    metrics_listen: str | None = None
    founded: bool | None = False
    versions_kept_ms: int = VERSIONS_KEPT_MS

    @property
    def groups(self) -> tuple[int, ...]:
        """The groups of which this node keeps a replica, ascending."""
        own = next(member for member in self.members if member.node == self.node)
        return tuple(sorted({*own.groups, *own.joins}))

    @property
    def joins(self) -> tuple[int, ...]:
        """The groups that this node came to after they were founded, ascending."""
        return next(member.joins for member in self.members if member.node == self.node)

    @property
    def present(self) -> tuple[Member, ...]:
        """All nodes but those that were removed."""
        return tuple(member for member in self.members if not member.removed)

    @property
    def alone(self) -> bool:
        """Whether no other node keeps a group of this one."""
        others = [member for member in self.present if member.node != self.node]
        return not any({*each.groups, *each.joins} & set(self.groups) for each in others)

    def voters_of(self, group: int) -> frozenset[int]:
        """Return the nodes that found a group; empty where there is no such group."""
        return frozenset(member.node for member in self.members if group in member.groups)


def read_config(path: Path) -> NodeConfig:
    """Return the configuration in a file; a relative `dir` is relative to the file's folder.

    Raises:
        NotFound: `config_absent`.
        InvalidInput: `config_invalid`, with file, key and value; `address_not_loopback`.
        Storage: `config_unreadable`.
    """
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            _refuse(path, f"it has more than {CONFIG_BYTES_MAX} bytes")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no configuration {path}", code="config_absent", hint="check the name"
        ) from error
    except OSError as error:
        raise Storage(
            f"cannot read {path}: {error.strerror or error}",
            code="config_unreadable",
            hint="check its permissions",
        ) from error
    try:
        document = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        _refuse(path, f"it is not TOML: {error}")
    return _Reader(path, document).config()


def write_config(path: Path, config: NodeConfig) -> None:
    """Write a configuration that `read_config` accepts; a crash leaves the old one or the new.

    Raises:
        InvalidInput: the configuration breaks a rule.
        Storage: `config_not_written`.
    """
    check_config(config, str(path))
    try:
        write_whole(path, config_text(config).encode())
    except UnicodeEncodeError as error:
        _refuse(path, f"dir = {str(config.dir)!r} is not UTF-8", error)
    except OSError as error:
        raise Storage(
            f"cannot write {path}: {error.strerror or error}",
            code="config_not_written",
            hint="check the folder, its permissions and the space left",
        ) from error


def config_text(config: NodeConfig) -> str:
    """Return the configuration as TOML."""
    lines = [
        f"cluster_id = {json.dumps(config.cluster_id)}",
        f"node = {config.node}",
        f"dir = {_text(str(config.dir))}",
        f"listen = {_text(config.listen)}",
        f"window_ms = {config.window_ms}",
        f"buckets = {config.buckets}",
        *(
            []
            if config.metrics_listen is None
            else [f"metrics_listen = {_text(config.metrics_listen)}"]
        ),
        f"versions_kept_ms = {config.versions_kept_ms}",
        *([] if config.founded is None else [f"founded = {str(config.founded).lower()}"]),
    ]
    for member in config.members:
        lines += [
            "",
            "[[members]]",
            f"node = {member.node}",
            f"address = {_text(member.address)}",
            f"groups = {list(member.groups)}",
            *([f"joins = {list(member.joins)}"] if member.joins else []),
            *(["removed = true"] if member.removed else []),
        ]
    for route in config.routes:
        lines += ["", "[[routes]]", f"route_id = {route.route_id}"]
        lines.append(f'start = "{route.span.start.hex()}"')
        if route.span.end is not None:
            lines.append(f'end = "{route.span.end.hex()}"')
        lines += [f"group = {route.group}", f'state = "{route.state.value}"']
        lines.append(f"parent_route_id = {route.parent_route_id}")
        lines.append(f"split_at_hlc = {route.split_at_hlc}")
    return "\n".join(lines) + "\n"


def check_config(config: NodeConfig, source: str) -> None:
    """Check what concerns more than one field; `source` names the configuration in errors.

    Raises:
        InvalidInput: `config_invalid`; what `check_routes` raises; `address_not_loopback`.
    """
    _check_numbers(config, source)
    try:
        uuid.UUID(config.cluster_id)
    except ValueError:
        _refuse(source, f"cluster_id = {config.cluster_id!r} is no UUID")
    nodes = [member.node for member in config.members]
    if nodes != sorted(set(nodes)):
        _refuse(source, f"members: the nodes {nodes} are not ascending, each once")
    if config.node not in nodes:
        _refuse(source, f"node = {config.node} is not among the members {nodes}")
    own = config.members[nodes.index(config.node)]
    if own.removed:
        _refuse(source, f"members: node {own.node} was removed; start it under another id")
    if own.address != config.listen:
        what = f"listen = {config.listen!r} is not member {own.node}'s address {own.address!r}"
        _refuse(source, what)
    for member in config.members:
        check_address(member.address, f"{source}: member {member.node}: address")
    # What a node that was removed listened on may be given to another.
    addresses = Counter(member.address for member in config.present)
    if config.metrics_listen is not None:
        check_address(config.metrics_listen, f"{source}: metrics_listen")
        addresses[config.metrics_listen] += 1
    if (twice := addresses.most_common(1)[0])[1] > 1:
        _refuse(source, f"the address {twice[0]!r} occurs twice")
    _check_groups(config, source)


def check_address(address: str, what: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, or raise; `what` names the value in errors.

    Raises:
        InvalidInput: `address_invalid`, or `address_not_loopback`.
    """
    found = _ADDRESS.fullmatch(address)
    port = int(found["port"]) if found else 0
    if found is None or not 1 <= port <= 65_535:
        raise InvalidInput(
            f"{what} = {address!r} is no HOST:PORT",
            code="address_invalid",
            hint="write as 127.0.0.1:7101, with a port from 1 to 65535",
        )
    host = found["six"] or found["host"]
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InvalidInput(
            f"{what} = {address!r} is not loopback",
            code="address_not_loopback",
            hint="nodes serve on 127.0.0.1, [::1] or localhost only: there is no mutual TLS yet",
        )
    return host, port


def _check_numbers(config: NodeConfig, source: str) -> None:
    bounds = (
        ("node", config.node, 1, ID_MAX),
        ("window_ms", config.window_ms, WINDOW_MS_MIN, WINDOW_MS_MAX),
        ("buckets", config.buckets, 1, BUCKETS_MAX),
    )
    for name, value, low, high in bounds:
        if not low <= value <= high:
            _refuse(source, f"{name} = {value} is not from {low} to {high}")
    kept_ms = config.versions_kept_ms
    if kept_ms != 0 and not VERSIONS_KEPT_MS_MIN <= kept_ms <= VERSIONS_KEPT_MS_MAX:
        _refuse(
            source,
            f"versions_kept_ms = {kept_ms} is neither 0, for ever, nor from "
            f"{VERSIONS_KEPT_MS_MIN} to {VERSIONS_KEPT_MS_MAX}",
        )


def _check_groups(config: NodeConfig, source: str) -> None:
    """Check that groups have voters, not too many, and that routes lie on groups that exist."""
    for member in config.members:
        kept = [*member.groups, *member.joins]
        if (twice := Counter(kept).most_common(1)) and twice[0][1] > 1:
            _refuse(source, f"members: node {member.node} lists group {twice[0][0]} twice")
    voters = Counter(group for member in config.members for group in member.groups)
    for member in config.members:
        if unknown := set(member.joins) - voters.keys():
            _refuse(
                source, f"members: node {member.node} joins group {min(unknown)}, which is none"
            )
    for group, count in sorted(voters.items()):
        if not 1 <= group <= ID_MAX:
            _refuse(source, f"members: group {group} is no number from 1")
        if count > VOTERS_MAX:
            _refuse(source, f"members: group {group} has {count} voters, more than {VOTERS_MAX}")
    if CATALOG_GROUP not in voters:
        _refuse(source, f"members: no node has group {CATALOG_GROUP}, the catalog group")
    _check_routes(config, source, voters.keys())


def _check_routes(config: NodeConfig, source: str, groups: Collection[int]) -> None:
    try:
        routes = check_routes(config.routes)
    except WorkbenchError as error:
        _refuse(source, f"routes: {error.message}", error)
    if routes != config.routes:
        _refuse(source, "routes: they are not ascending by start")
    for route in routes:
        if route.group not in groups:
            what = f"routes: route {route.route_id} is on group {route.group}, which no node has"
            _refuse(source, what)
    try:
        check_catalog_group(routes)
    except WorkbenchError as error:
        _refuse(source, f"routes: {error.message}", error)


class _Reader:
    """Takes a parsed document apart; every refusal names file, key and value."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self._path = path
        self._document = document

    def config(self) -> NodeConfig:
        """Return the checked configuration."""
        top = self._document
        self._check_keys(top, _FIELDS, "")
        members = [
            self._member(f"members[{number}].", table)
            for number, table in enumerate(self._tables("members"), start=1)
        ]
        routes = [
            self._route(f"routes[{number}].", table)
            for number, table in enumerate(self._tables("routes"), start=1)
        ]
        try:
            ordered = check_routes(routes)
        except WorkbenchError as error:
            _refuse(self._path, f"routes: {error.message}", error)
        folder = self._path.resolve().parent
        config = NodeConfig(
            cluster_id=self._take(top, "", "cluster_id", str),
            node=self._take(top, "", "node", int),
            dir=folder / self._take(top, "", "dir", str),
            listen=self._take(top, "", "listen", str),
            members=tuple(sorted(members, key=lambda member: member.node)),
            routes=ordered,
            window_ms=self._take(top, "", "window_ms", int, WINDOW_MS),
            buckets=self._take(top, "", "buckets", int, BUCKETS),
            metrics_listen=(
                self._take(top, "", "metrics_listen", str) if "metrics_listen" in top else None
            ),
            founded=self._flag(top, "", "founded") if "founded" in top else None,
            versions_kept_ms=self._take(top, "", "versions_kept_ms", int, VERSIONS_KEPT_MS),
        )
        check_config(config, str(self._path))
        return config

    def _member(self, where: str, table: dict[str, Any]) -> Member:
        self._check_keys(table, _MEMBER_FIELDS, where)
        return Member(
            self._take(table, where, "node", int),
            self._take(table, where, "address", str),
            self._groups(table, where, "groups", None),
            self._groups(table, where, "joins", []),
            self._flag(table, where, "removed"),
        )

    def _flag(self, table: dict[str, Any], where: str, name: str) -> bool:
        return bool(self._take(table, where, name, bool, default=False))

    def _groups(
        self, table: dict[str, Any], where: str, name: str, default: list[int] | None
    ) -> tuple[int, ...]:
        groups = self._take(table, where, name, list, default)
        if not all(type(group) is int for group in groups):
            _refuse(self._path, f"{where}{name} = {groups!r} are not whole numbers")
        return tuple(sorted(groups))

    def _route(self, where: str, table: dict[str, Any]) -> RouteDescriptor:
        self._check_keys(table, _ROUTE_FIELDS, where)
        start = self._key(table, where, "start")
        end = self._key(table, where, "end") if "end" in table else None
        state = self._take(table, where, "state", str, RouteState.ACTIVE.value)
        if state not in RouteState.__members__:
            _refuse(self._path, f"{where}state = {state!r} is none of {', '.join(RouteState)}")
        numbers = {
            name: self._take(table, where, name, int, default)
            for name, default in (
                ("route_id", None),
                ("group", None),
                ("parent_route_id", 0),
                ("split_at_hlc", 0),
            )
        }
        for name, value in numbers.items():
            if not 0 <= value <= ID_MAX:
                _refuse(self._path, f"{where}{name} = {value} is not from 0 to {ID_MAX}")
        try:
            span = Span(start, end)
        except WorkbenchError as error:
            _refuse(self._path, f"{where[:-1]}: {error.message}", error)
        return RouteDescriptor(
            numbers["route_id"],
            span,
            numbers["group"],
            RouteState(state),
            numbers["parent_route_id"],
            numbers["split_at_hlc"],
        )

    def _key(self, table: dict[str, Any], where: str, name: str) -> bytes:
        text: str = self._take(table, where, name, str)
        try:
            return bytes.fromhex(text)
        except ValueError as error:
            _refuse(self._path, f"{where}{name} = {text!r} is not hex", error)

    def _tables(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._take(self._document, "", name, list)
        if not found or not all(isinstance(each, dict) for each in found):
            _refuse(self._path, f"{name} is not one or more tables [[{name}]]")
        if len(found) > ROUTES_MAX:
            _refuse(self._path, f"{name} has {len(found)} tables, the limit is {ROUTES_MAX}")
        return found

    def _take(
        self,
        table: dict[str, Any],
        where: str,
        name: str,
        kind: type,
        default: object = None,
    ) -> Any:  # noqa: ANN401 - of the kind that was asked for
        if name not in table:
            if default is None:
                _refuse(self._path, f"{where}{name} is missing")
            return default
        value = table[name]
        if type(value) is not kind:
            words = {str: "a text", int: "a whole number", list: "a list", bool: "true or false"}[
                kind
            ]
            _refuse(self._path, f"{where}{name} = {value!r} is not {words}")
        return value

    def _check_keys(self, table: dict[str, Any], known: Sequence[str], where: str) -> None:
        for name in table:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                meant = f"; did you mean {close[0]!r}?" if close else ""
                _refuse(self._path, f"the key {where}{name} is unknown{meant}")


def _text(value: str) -> str:
    """Return a TOML basic string; JSON writes the same but for a DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _refuse(source: Path | str, what: str, cause: Exception | None = None) -> NoReturn:
    raise InvalidInput(
        f"{source}: {what}",
        code="config_invalid",
        hint="docs/formats/node_config.md lists the fields",
    ) from cause
