"""Schemas of the tables that cross every boundary, and the check at the door.

| table         | one row is                                              |
|---------------|---------------------------------------------------------|
| `load_window` | the load of one bucket of one route in one time window  |
| `hot_key`     | one heavy key of one route in one time window           |
| `key_sample`  | one sampled access, and how many it stands for          |
| `counter`     | counters of one bucket since some start, at one moment  |
| `access`      | one recorded read or write (traces)                     |
| `route`       | one route of one catalog version                        |
| `plan`        | one plan, whole, with its actions as a list             |
| `approval`    | one decision of one person on one action of one plan    |
| `receipt`     | what came of one try to execute one action of one plan  |
| `lease`       | who may execute plans on a cluster, and until when      |
| `version`     | one version of one key, in an export                    |

Null means *not measured*, never zero; an absent row is not an idle route. Times are UTC
microseconds. `bucket_end` and `end` are null where there is no upper bound. See
docs/formats/tables.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import InvalidInput
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor, RouteSnapshot, RouteState, check_routes

if TYPE_CHECKING:
    from collections.abc import Iterator

TIME: Final = pa.timestamp("us", tz="UTC")
COUNTERS: Final = ("reads", "writes", "read_bytes", "write_bytes", "cpu_ns")
# Columns that count something, in whatever table: never negative.
COUNTS: Final = frozenset({*COUNTERS, "size", "count", "error"})

LOAD_WINDOW: Final = pa.schema(
    [
        pa.field("cluster", pa.string(), nullable=False),
        pa.field("window_start", TIME, nullable=False),
        pa.field("window_end", TIME, nullable=False),
        pa.field("route_id", pa.uint64(), nullable=False),
        pa.field("group", pa.uint64(), nullable=False),
        pa.field("bucket_start", pa.binary(), nullable=False),
        pa.field("bucket_end", pa.binary()),
        *(pa.field(name, pa.int64()) for name in COUNTERS),
        pa.field("coverage", pa.float64(), nullable=False),
        pa.field("error_bound", pa.float64()),
    ]
)

# count may be too high by up to error; sample_rate 1 means that every access was looked at.
HOT_KEY: Final = pa.schema(
    [
        pa.field("window_start", TIME, nullable=False),
        pa.field("window_end", TIME, nullable=False),
        pa.field("route_id", pa.uint64(), nullable=False),
        pa.field("key", pa.binary(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("error", pa.int64(), nullable=False),
        pa.field("sample_rate", pa.float64(), nullable=False),
    ]
)

# weight: how many accesses this one stands for, 1 over the chance of being sampled.
KEY_SAMPLE: Final = pa.schema(
    [
        pa.field("window_start", TIME, nullable=False),
        pa.field("window_end", TIME, nullable=False),
        pa.field("route_id", pa.uint64(), nullable=False),
        pa.field("key", pa.binary(), nullable=False),
        pa.field("op", pa.string(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
    ]
)

# Totals since the counting process started, as scraped; never stored, only turned into windows.
COUNTER: Final = pa.schema(
    [
        pa.field("at", TIME, nullable=False),
        pa.field("route_id", pa.uint64(), nullable=False),
        pa.field("group", pa.uint64(), nullable=False),
        pa.field("bucket_start", pa.binary(), nullable=False),
        pa.field("bucket_end", pa.binary()),
        *(pa.field(name, pa.int64()) for name in COUNTERS),
    ]
)

# op is "read" or "write"; size is in bytes, null where the trace does not tell.
ACCESS: Final = pa.schema(
    [
        pa.field("time", TIME, nullable=False),
        pa.field("key", pa.binary(), nullable=False),
        pa.field("op", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
    ]
)

ROUTE: Final = pa.schema(
    [
        pa.field("catalog_version", pa.uint64(), nullable=False),
        pa.field("recorded_at", TIME, nullable=False),
        pa.field("route_id", pa.uint64(), nullable=False),
        pa.field("start", pa.binary(), nullable=False),
        pa.field("end", pa.binary()),
        pa.field("group", pa.uint64(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("parent_route_id", pa.uint64(), nullable=False),
        pa.field("split_at_hlc", pa.uint64(), nullable=False),
    ]
)

PLAN: Final = pa.schema(
    [
        pa.field("plan_id", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("cluster", pa.string(), nullable=False),
        pa.field("catalog_version", pa.uint64(), nullable=False),
        pa.field("objective", pa.string(), nullable=False),
        pa.field("window_from", TIME, nullable=False),
        pa.field("window_to", TIME, nullable=False),
        pa.field("max_share_before", pa.float64(), nullable=False),
        pa.field("max_share_after", pa.float64(), nullable=False),
        pa.field(
            "actions",
            pa.list_(
                pa.struct(
                    [
                        pa.field("id", pa.string()),
                        pa.field("kind", pa.string()),
                        pa.field("route_id", pa.uint64()),
                        pa.field("start", pa.binary()),
                        pa.field("end", pa.binary()),
                        pa.field("split_key", pa.binary()),
                        pa.field("expected_version", pa.uint64()),
                        pa.field("parent_load", pa.int64()),
                        pa.field("left_load", pa.int64()),
                        pa.field("right_load", pa.int64()),
                    ]
                )
            ),
            nullable=False,
        ),
        # The document itself, as JSON: what the content hash covers. The columns are for SQL.
        pa.field("document", pa.string(), nullable=False),
    ]
)

# decision is "approved" or "withdrawn"; the newest one of an action counts.
APPROVAL: Final = pa.schema(
    [
        pa.field("plan_id", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("action_id", pa.string(), nullable=False),
        pa.field("decision", pa.string(), nullable=False),
        pa.field("by", pa.string(), nullable=False),
        pa.field("policy_sha256", pa.string()),
        pa.field("at", TIME, nullable=False),
    ]
)

# status is "applied" or "failed" or "stale"; the newest one of an action counts. `repeated`
# tells that the split was found made, as after a crash between the call and this row.
RECEIPT: Final = pa.schema(
    [
        pa.field("cluster", pa.string(), nullable=False),
        pa.field("plan_id", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("action_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("route_id", pa.uint64(), nullable=False),
        pa.field("start", pa.binary(), nullable=False),
        pa.field("end", pa.binary()),
        pa.field("split_key", pa.binary(), nullable=False),
        pa.field("source_group", pa.uint64(), nullable=False),
        pa.field("target_group", pa.uint64()),
        pa.field("expected_version", pa.uint64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("repeated", pa.bool_(), nullable=False),
        pa.field("catalog_version", pa.uint64()),
        pa.field("left_route_id", pa.uint64()),
        pa.field("right_route_id", pa.uint64()),
        pa.field("error", pa.string()),
        pa.field("by", pa.string(), nullable=False),
        pa.field("started_at", TIME, nullable=False),
        pa.field("updated_at", TIME, nullable=False),
    ]
)

# The newest row counts. A released lease has expires_at = at.
LEASE: Final = pa.schema(
    [
        pa.field("cluster", pa.string(), nullable=False),
        pa.field("token", pa.string(), nullable=False),
        pa.field("holder", pa.string(), nullable=False),
        pa.field("host", pa.string(), nullable=False),
        pa.field("pid", pa.int64(), nullable=False),
        pa.field("plan_id", pa.string(), nullable=False),
        pa.field("at", TIME, nullable=False),
        pa.field("expires_at", TIME, nullable=False),
    ]
)

# kind is "put" or "tombstone". Rows ascend by key, and within a key descend by commit_ts (HLC).
VERSION: Final = pa.schema(
    [
        pa.field("key", pa.binary(), nullable=False),
        pa.field("commit_ts", pa.uint64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("value", pa.binary()),
        pa.field("expire_at", TIME),
        pa.field("group", pa.uint64(), nullable=False),
    ]
)


def check_table(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """Return `table` with exactly the columns of `schema`, or raise InvalidInput.

    Columns are matched by name; unknown ones are dropped. Types must be castable without loss;
    a null in a required column, and a negative counter, are refused.
    """
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise InvalidInput(
            f"{what} lacks the columns {', '.join(missing)}",
            code="columns_missing",
            hint=f"it has {', '.join(table.column_names) or 'none'}",
        )
    for field in schema:
        nulls = table.column(field.name).null_count
        if nulls and not field.nullable:
            raise InvalidInput(
                f"{what} has {nulls} nulls in the required column {field.name!r}",
                code="null_in_required_column",
                hint="only counters, sizes and upper bounds may be null",
            )
    try:
        checked = table.select(schema.names).cast(schema)
        checked.validate(full=True)
    except (pa.ArrowInvalid, ValueError, pa.ArrowNotImplementedError) as error:
        raise InvalidInput(
            f"{what} does not fit its schema: {str(error).splitlines()[0]}",
            code="schema_mismatch",
            hint="docs/formats/tables.md lists columns and types",
        ) from error
    for field in schema:
        column = checked.column(field.name)
        counted = field.name in COUNTS and pa.types.is_integer(field.type)
        if counted and (pc.min(column).as_py() or 0) < 0:
            raise InvalidInput(
                f"{what} has the negative value {pc.min(column).as_py()} in {field.name!r}",
                code="counter_negative",
                hint="counters are per window and never negative",
            )
    return checked


def routes_to_table(snapshot: RouteSnapshot) -> pa.Table:
    """Return the snapshot as a `route` table, one row per route."""
    rows = [
        {
            "catalog_version": snapshot.catalog_version,
            "recorded_at": snapshot.taken_at,
            "route_id": route.route_id,
            "start": route.span.start,
            "end": route.span.end,
            "group": route.group,
            "state": route.state.value,
            "parent_route_id": route.parent_route_id,
            "split_at_hlc": route.split_at_hlc,
        }
        for route in snapshot.routes
    ]
    return pa.Table.from_pylist(rows, schema=ROUTE)


def table_to_routes(table: pa.Table) -> RouteSnapshot:
    """Return the newest catalog version in a `route` table as a checked snapshot.

    Raises:
        InvalidInput: the table is empty, does not fit its schema, or breaks a route rule.
    """
    checked = check_table(table, ROUTE, "route table")
    if checked.num_rows == 0:
        raise InvalidInput(
            "the route table has no rows", code="routes_empty", hint="collect routes first"
        )
    version = pc.max(checked.column("catalog_version"))
    newest = checked.filter(pc.equal(checked.column("catalog_version"), version))
    return RouteSnapshot(
        catalog_version=int(version.as_py()),
        routes=check_routes(_descriptors(newest)),
        taken_at=pc.max(newest.column("recorded_at")).as_py(),
    )


def _descriptors(rows: pa.Table) -> Iterator[RouteDescriptor]:
    states = RouteState.__members__
    names = ("route_id", "start", "end", "group", "state", "parent_route_id", "split_at_hlc")
    columns = (rows.column(name).to_pylist() for name in names)
    for route_id, start, end, group, state, parent, split_at_hlc in zip(*columns, strict=True):
        if state not in states:
            raise InvalidInput(
                f"route {route_id} has the unknown state {state!r}",
                code="route_state_unknown",
                hint=f"known are {', '.join(states)}",
            )
        yield RouteDescriptor(
            route_id=route_id,
            span=Span(start, end),
            group=group,
            state=states[state],
            parent_route_id=parent,
            split_at_hlc=split_at_hlc,
        )
