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
        try:
            version = int(document["catalog_version"])
            routes = check_routes(_route(row) for row in document["routes"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"{self._path} is not a route list: {error!r}",
                code="routes_file_invalid",
                hint="it needs catalog_version and routes with route_id, start, end and group",
            ) from error
        if not routes:
            raise InvalidInput(
                f"{self._path} lists no routes", code="routes_empty", hint="list at least one"
            )
        taken_at = datetime.fromtimestamp(self._path.stat().st_mtime, tz=UTC)
        return RouteSnapshot(version, routes, taken_at)

    def _document(self) -> dict[str, Any]:
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
            document: dict[str, Any] = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(
                f"{self._path} is not JSON: {error}",
                code="routes_file_invalid",
                hint="write what `elastickv-list-routes` prints, or hex bounds",
            ) from error
        return document


def connect(url: str) -> RoutesFile:
    """Open `file:PATH`; the file is read when its routes are asked for."""
    path = url.removeprefix(SCHEME).removeprefix("//")
    if not url.startswith(SCHEME) or not path:
        raise InvalidArgument(
            f"{url!r} names no route file", code="url_invalid", hint="write file:ROUTES.json"
        )
    return RoutesFile(Path(path))


def _route(row: dict[str, Any]) -> RouteDescriptor:
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
