"""Routes from a JSON file: `file:ROUTES.json`. Read-only; verified for real.

Two shapes are read, told apart by their fields:

    workbench   {"catalog_version": 3, "routes": [{"route_id": 1, "start": "<hex>", "end":
                "<hex>" or null, "group": 1, "state": "ACTIVE", …}]}
    elastickv   {"catalog_version": 3, "routes": [{"route_id": 1, "raft_group_id": 1, "start":
                "<base64>", "end": "<base64>, empty for no bound", "state": "ROUTE_STATE_ACTIVE"}]}

The second is what `elastickv-list-routes` prints.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from workbench.errors import InvalidArgument, InvalidInput, NotFound, Storage
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor, RouteSnapshot, RouteState, check_routes
from workbench.ports.connector import Capabilities

SCHEME: Final = "file:"
FILE_BYTES_MAX: Final = 256 * 2**20


class RoutesFile:
    """A route source that reads a file each time it is asked."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def capabilities(self) -> Capabilities:
        """Return that keys are ordered, and that a file can do nothing else."""
        return Capabilities(ordered=True)

    def snapshot(self) -> RouteSnapshot:
        """Return the routes in the file, as of its last change.

        Raises:
            NotFound: there is no such file.
            InvalidInput: it is no route list, or breaks a rule of routes.
        """
        document = self._document()
        if not isinstance(document, dict):
            raise self._invalid("it is no object with catalog_version and routes")
        version, rows = document.get("catalog_version"), document.get("routes")
        if not isinstance(version, int) or not isinstance(rows, list):
            raise self._invalid("it has no whole number catalog_version, or no list of routes")
        routes = check_routes(self._route(number, row) for number, row in enumerate(rows, 1))
        if not routes:
            raise InvalidInput(
                f"{self._path} lists no routes", code="routes_empty", hint="list at least one"
            )
        taken_at = datetime.fromtimestamp(self._path.stat().st_mtime, tz=UTC)
        return RouteSnapshot(version, routes, taken_at)

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    def _route(self, number: int, row: object) -> RouteDescriptor:
        if not isinstance(row, dict):
            raise self._invalid(f"route {number} is no object")
        try:
            return _descriptor(row)
        except KeyError as error:
            raise self._invalid(f"route {number} lacks the field {error.args[0]!r}") from error
        except (TypeError, ValueError) as error:
            raise self._invalid(f"route {number} has a field of a wrong form: {error}") from error

    def _invalid(self, what: str) -> InvalidInput:
        return InvalidInput(
            f"{self._path} is not a route list: {what}",
            code="routes_file_invalid",
            hint="docs/formats/routes.md shows the two forms that are read",
        )

    def _document(self) -> object:
        try:
            size = self._path.stat().st_size
            text = self._path.read_bytes() if size <= FILE_BYTES_MAX else b""
        except FileNotFoundError as error:
            raise NotFound(
                f"there is no file {self._path}", code="file_absent", hint="check the name"
            ) from error
        except OSError as error:
            raise Storage(
                f"cannot read {self._path}: {error.strerror}",
                code="file_read_failed",
                hint="check its permissions",
            ) from error
        if size > FILE_BYTES_MAX:
            raise InvalidInput(
                f"{self._path} has {size} bytes, the limit is {FILE_BYTES_MAX}",
                code="file_too_large",
                hint="is this the right file?",
            )
        try:
            document: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(
                f"{self._path} is not JSON: {error}",
                code="routes_file_invalid",
                hint="write what `elastickv-list-routes` prints, or hex bounds",
            ) from error
        return document


def connect(url: str, *, allow_write: bool = False) -> RoutesFile:
    """Open `file:PATH`; the file is read when its routes are asked for.

    Raises:
        InvalidArgument: the URL names no file, or something is to be executed on it.
    """
    if allow_write:
        raise InvalidArgument(
            f"{url!r} is a file: nothing can be executed on it",
            code="connector_read_only",
            hint="name the cluster itself, as node://HOST:PORT",
        )
    path = url.removeprefix(SCHEME).removeprefix("//")
    if not url.startswith(SCHEME) or not path:
        raise InvalidArgument(
            f"{url!r} names no route file", code="url_invalid", hint="write file:ROUTES.json"
        )
    return RoutesFile(Path(path))


def _descriptor(row: dict[str, Any]) -> RouteDescriptor:
    if "raft_group_id" in row:
        start = base64.b64decode(row["start"], validate=True)
        end = base64.b64decode(row["end"] or "", validate=True) or None
        group = row["raft_group_id"]
    else:
        start = bytes.fromhex(row["start"])
        end = None if row["end"] is None else bytes.fromhex(row["end"])
        group = row["group"]
    state = str(row.get("state", "ACTIVE")).removeprefix("ROUTE_STATE_")
    return RouteDescriptor(
        route_id=int(row["route_id"]),
        span=Span(start, end),
        group=int(group),
        state=RouteState(state),
        parent_route_id=int(row.get("parent_route_id", 0)),
        split_at_hlc=int(row.get("split_at_hlc", 0)),
    )
