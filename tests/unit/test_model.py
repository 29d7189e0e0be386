"""Claims about the values: keys, spans, times, routes, tables, names."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import FingerprintConflict, InvalidArgument, InvalidInput, WorkbenchError
from workbench.model.keys import (
    KEY_BYTES_MAX,
    PRINTABLE_BYTES_MAX,
    Span,
    check_key,
    printable_key,
)
from workbench.model.manifest import check_name, dataset_id_of, schema_fingerprint
from workbench.model.routes import (
    RouteDescriptor,
    RouteSnapshot,
    RouteState,
    check_routes,
    next_route_id,
    seed_routes,
)
from workbench.model.tables import ACCESS, ROUTE, check_table, routes_to_table, table_to_routes
from workbench.model.times import (
    from_us,
    hlc_to_us,
    parse_duration_ms,
    parse_time,
    rfc3339,
    to_us,
)
from workbench.ports.object_store import check_object_key

T0 = datetime(2026, 1, 1, tzinfo=UTC)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_a_printed_key_is_visible_ascii_or_an_ellipsis(key: bytes) -> None:
    text = printable_key(key)
    assert text
    assert all(0x20 <= ord(char) <= 0x7E or char == "…" for char in text)
    assert len(text) <= PRINTABLE_BYTES_MAX + 20


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=30), st.binary(max_size=30))
def test_short_keys_print_differently_where_they_differ(one: bytes, other: bytes) -> None:
    assert (printable_key(one) == printable_key(other)) == (one == other)


@pytest.mark.parametrize(
    "key", [b"\x1b[31m", b"a\0b", b"<img src=x>" * 100, "\u202eevil".encode(), b" "]
)
def test_hostile_keys_reach_no_screen(key: bytes) -> None:
    text = printable_key(key)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.isascii() or "…" in text


def test_a_span_holds_its_start_and_not_its_end() -> None:
    span = Span(b"b", b"d")
    assert [key in span for key in (b"a", b"b", b"c\xff", b"d")] == [False, True, True, False]
    assert b"\xff" * 9 in Span(b"b", None)


@pytest.mark.parametrize("end", [b"b", b"a", b""])
def test_an_empty_or_reversed_span_is_refused(end: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        Span(b"b", end)
    assert caught.value.code == "span_invalid"


def test_a_key_beyond_the_limit_is_refused() -> None:
    assert check_key(b"k" * KEY_BYTES_MAX)
    with pytest.raises(InvalidInput, match="4097"):
        check_key(b"k" * (KEY_BYTES_MAX + 1))


@settings(max_examples=200, deadline=None)
@given(st.datetimes(timezones=st.just(UTC)))
def test_times_survive_microseconds_and_text(moment: datetime) -> None:
    assert from_us(to_us(moment)) == moment
    assert parse_time(rfc3339(moment)) == moment


def test_times_are_read_as_users_write_them() -> None:
    assert parse_time("0") == datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_time("1.5") == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert parse_time("2026-01-01") == T0
    assert parse_time("2026-01-01T02:00:00+02:00") == T0
    assert rfc3339(T0.astimezone(timezone(timedelta(hours=5)))) == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("text", ["", "noon", "2026-13-01", "1e9999", "9" * 400])
def test_what_is_no_time_is_wrong_usage(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_time(text)
    assert caught.value.code == "time_invalid"


def test_durations_have_units() -> None:
    assert [parse_duration_ms(t) for t in ("500ms", "60s", "5m", "1h", "1d")] == [
        500,
        60_000,
        300_000,
        3_600_000,
        86_400_000,
    ]


@pytest.mark.parametrize("text", ["7", "1769860800"])
def test_a_duration_without_a_unit_is_not_guessed(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_duration_ms(text)
    assert caught.value.code == "duration_invalid"
    assert f"write {text}ms, {text}s, {text}m, {text}h or {text}d" in caught.value.hint


@pytest.mark.parametrize("text", ["", "0", "0s", "-1s", "1.5s", "s", "1w", "1 s", "1sm", "٣s"])
def test_what_is_no_duration_is_wrong_usage(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_duration_ms(text)


def test_the_physical_part_of_an_hlc_is_milliseconds() -> None:
    assert hlc_to_us((1_234 << 16) | 7) == 1_234_000


def route(route_id: int, start: bytes, end: bytes | None, group: int = 1) -> RouteDescriptor:
    return RouteDescriptor(route_id, Span(start, end), group)


@pytest.mark.parametrize(
    ("routes", "code"),
    [
        ([route(1, b"", b"b"), route(2, b"a", None)], "route_overlap"),
        ([route(1, b"", None), route(2, b"a", None)], "route_overlap"),
        ([route(1, b"", b"a"), route(1, b"a", None)], "route_id_duplicate"),
        ([route(0, b"", None)], "route_id_invalid"),
        ([route(1, b"", None, group=0)], "route_id_invalid"),
        ([route(1, b"k" * 5_000, None)], "key_too_long"),
    ],
)
def test_routes_that_break_a_rule_are_refused(routes: list[RouteDescriptor], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_routes(routes)
    assert caught.value.code == code


def test_gaps_between_routes_are_legal_and_order_is_made() -> None:
    routes = [route(2, b"x", None), route(1, b"a", b"b")]
    assert [each.route_id for each in check_routes(routes)] == [1, 2]
    assert next_route_id(routes) == 3


def test_routes_survive_their_table_and_the_newest_version_counts() -> None:
    old = RouteSnapshot(3, seed_routes([]), T0)
    new = RouteSnapshot(
        4,
        (
            RouteDescriptor(2, Span(b"", b"\0"), 1, RouteState.ACTIVE, 1, 77),
            RouteDescriptor(3, Span(b"\0", None), 1, RouteState.WRITE_FENCED, 1, 77),
        ),
        T0,
    )
    table = pa.concat_tables([routes_to_table(new), routes_to_table(old)])
    assert table_to_routes(table) == new


def test_a_route_table_with_an_unknown_state_or_no_row_is_refused() -> None:
    table = routes_to_table(RouteSnapshot(1, seed_routes([]), T0))
    index = ROUTE.get_field_index("state")
    wrong = table.set_column(index, ROUTE.field(index), pa.array(["ASLEEP"]))
    for bad, code in ((wrong, "route_state_unknown"), (table.slice(1), "routes_empty")):
        with pytest.raises(InvalidInput) as caught:
            table_to_routes(bad)
        assert caught.value.code == code


def access(**changes: object) -> pa.Table:
    columns = {"time": [T0], "key": [b"k"], "op": ["read"], "size": [1], **changes}
    return pa.table(columns)


@pytest.mark.parametrize(
    ("table", "code"),
    [
        (access().drop_columns("key"), "columns_missing"),
        (access(size=["much"]), "schema_mismatch"),
        (access(size=[-1]), "counter_negative"),
        (access(key=pa.array([None], pa.binary())), "null_in_required_column"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table: pa.Table, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_table(table, ACCESS, "accesses")
    assert caught.value.code == code


def test_a_table_is_cast_and_unknown_columns_are_dropped() -> None:
    checked = check_table(access(more=[1]), ACCESS, "accesses")
    assert checked.schema.equals(ACCESS)


@pytest.mark.parametrize("name", ["a", "cloud/load_window", "A.b_c-d/9", "x" * 256])
def test_dataset_names_are_accepted(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "../a", "a/./b", "a b", "a\0", "ü", "'", "x" * 10_000]
)
def test_other_names_are_refused_and_shown_short(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_name(name)
    assert caught.value.code == "name_invalid"
    assert len(str(caught.value)) < 300


def test_a_dataset_has_the_same_id_on_every_machine() -> None:
    namespace = uuid.UUID("a8f3c1d2-4e5b-5a6c-9d8e-7f0a1b2c3d4e")
    assert dataset_id_of("cloud/access") == uuid.uuid5(namespace, "cloud/access")


def test_a_fingerprint_changes_with_name_type_order_and_nullability() -> None:
    field = pa.field("a", pa.int64())
    variants = [
        pa.schema([field, ("b", pa.string())]),
        pa.schema([("b", pa.string()), field]),
        pa.schema([("a", pa.int32()), ("b", pa.string())]),
        pa.schema([pa.field("a", pa.int64(), nullable=False), ("b", pa.string())]),
    ]
    assert len({schema_fingerprint(schema) for schema in variants}) == len(variants)


@pytest.mark.parametrize("key", ["", "/a", "../a", "a/../b", "a\0", "a b", "x" * 2_000])
def test_object_keys_cannot_leave_the_root(key: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_object_key(key)
    assert caught.value.code == "object_key_invalid"


def test_an_error_says_what_to_do_on_one_line() -> None:
    error = FingerprintConflict("n", "one", "two")
    assert isinstance(error, WorkbenchError)
    assert (error.kind, error.retryable) == ("conflict", False)
    assert "'one'" in str(error)
    assert "'two'" in str(error)
    assert "\n" not in str(error)
